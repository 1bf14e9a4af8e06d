import ClientCore
import NodeCore
import Primitives
import WireFormat

/// POSIX record locks in the load: every client has some, asks for more, and waits for a while.
extension Simulation {
    /// Parts of a register's file to lock or to unlock.
    func lockRecord(
        _ index: Int, _ load: LoadClient
    ) -> (LoadClient.Step, FileOperation)? {
        let register = random.below(oracle.registers.count)
        guard let handle = load.registers[register] else { return nil }
        let first = random.below(LoadClient.recordCount)
        let parts = first...min(first + random.below(3), LoadClient.recordCount - 1)
        let isExclusive = random.oneIn(2)
        let own = load.records[register]
        // Who locks for reading what it has locked for writing, or the other way round, gives it up
        // first: what a wait that is given up has to leave as it was is then of one mode.
        let other = isExclusive ? LoadClient.RecordMode.shared : .exclusive
        if random.oneIn(3) || parts.contains(where: { own[$0] == other }) {
            // The server may give it to others from here on.
            for part in parts { loads[index].records[register][part] = .none }
            return (
                .unlockRecord(register, parts),
                .recordLock(handle, Self.recordLock(.unlock, register, parts, isExclusive: true))
            )
        }
        let waits = random.oneIn(3)
        return (
            .lockRecord(register, parts, isExclusive: isExclusive, waits: waits),
            .recordLock(
                handle,
                Self.recordLock(
                    waits ? .lock : .tryLock, register, parts, isExclusive: isExclusive))
        )
    }

    /// Registers share files: each has bytes of its own in them.
    private static func recordLock(
        _ action: RecordLock.Action, _ register: Int, _ parts: ClosedRange<Int>,
        isExclusive: Bool
    ) -> RecordLock {
        let first = UInt64(register * 1_000)
        return RecordLock(
            action, isExclusive: isExclusive,
            range: Extent(
                start: first + UInt64(parts.lowerBound), end: first + UInt64(parts.upperBound)),
            owner: 1, process: 1)
    }

    /// Nobody waits for a record lock for ever: after a while it takes its wait back.
    func giveUp(_ handle: SlotHandle, of index: Int, cookie: UInt64) {
        let node = loads[index].node
        cluster.at(cluster.now + .milliseconds(UInt64(random.below(400)))) {
            [unowned self] cluster in
            guard loads[index].current?.cookie == cookie, loads[index].node == node else { return }
            loads[index].current?.isCancelled = true
            let now = cluster.clock(of: node)
            if cluster.withClient(node, { $0.cancel(handle, now: now) }) == true {
                cancelledCount += 1
                coverage.count(.cancel)
            } else if loads[index].current?.cookie == cookie {
                loads[index].current?.isCancelled = false
                giveUp(handle, of: index, cookie: cookie)
            }
        }
    }

    /// A record lock is granted: nobody else may have one that excludes it.
    func recordLocked(
        _ index: Int, _ register: Int, _ parts: ClosedRange<Int>, isExclusive: Bool
    ) {
        guard !loads[index].isDoomed else { return }
        for (other, load) in loads.enumerated()
        where other != index && load.isAlive && !load.isDoomed {
            for part in parts {
                let mode = load.records[register][part]
                guard mode == .exclusive || isExclusive && mode == .shared else { continue }
                // One that was away for too long has lost it, and knows.
                let lost = cluster.peekClient(load.node) { $0.core.lostRecordLockCount }
                guard lost == 0 else { continue }
                return fail(
                    .conflictingLocks,
                    "\(loads[index].uuid) and \(load.uuid) have both locked part \(part) of "
                        + "register \(register)")
            }
        }
        for part in parts {
            loads[index].records[register][part] = isExclusive ? .exclusive : .shared
        }
    }
}
