import LDLMCore
import LNetCore
import MetadataCore
import Primitives
import PtlRPCCore
import StorageCore
import UpgradeCore
import WireFormat

/// An update that waits until no client but its own keeps what it changes.
struct ParkedUpdate {
    var request: ServerRequest
    /// What it changes, in the order in which the target takes its own locks.
    var touched: [TouchedFile]
    /// The target's own locks that it has, on the first of them.
    var locks: [SlotHandle] = []
    /// The one it waits for.
    var awaited: SlotHandle?
}

/// Locks on names and attributes: given along with answers, called back before updates.
///
/// An update takes a lock of the target's own on everything it changes (EX on the inode bits), and
/// is executed when it has them all: whoever is told that it is done can rely on it that no other
/// client believes the state before it. The locks of the client that asked are not in the way:
/// what its own update changes it forgets by itself. All updates take their locks in the order of
/// file ids, no client waits for a lock of this kind, and none keeps one while it waits for
/// something else: so nobody waits in a circle.
extension ServerNode {
    /// Updates at most that wait for locks; beyond, they are told to come again.
    private static var parkedCountMax: Int { 65_536 }

    /// The policy of the target's own lock for an update of this client.
    private func policy(_ bits: InodeBits, for export: UInt32) -> LockPolicy {
        .inodeBits(bits.rawValue, other: 0, group: 0, initiator: export + 1)
    }

    /// True where the update may be executed at once; else it has been parked or answered.
    mutating func isAlone(_ request: ServerRequest, now: Ticks) -> Bool {
        guard case .metadata(let metadata) = service, let store, !request.isReplay,
            locks.count > 0
        else { return true }
        let touched = metadata.touched(by: request.body, in: store)
        let isInTheWay = touched.contains { item in
            let probe = locks.enqueue(
                owner: .local, resource: ResourceID(item.file), mode: .ex,
                policy: policy(item.bits, for: request.export), clientCookie: 0, flags: .testLock,
                now: now)
            return probe.outcome != .tested || probe.mode != .nl
        }
        guard isInTheWay else { return true }
        guard parkedUpdates.count < Self.parkedCountMax else {
            refuseParked(ParkedUpdate(request: request, touched: []), now: now)
            return false
        }
        advance(ParkedUpdate(request: request, touched: touched), now: now)
        return false
    }

    /// Takes the next locks of the target's own; with all of them the update is executed, and then
    /// they go to the next.
    private mutating func advance(_ parked: ParkedUpdate, now: Ticks) {
        var parked = parked
        while parked.locks.count < parked.touched.count {
            let item = parked.touched[parked.locks.count]
            switch locks.acquireLocal(
                ResourceID(item.file), .ex, policy(item.bits, for: parked.request.export), now: now)
            {
            case .granted(let lock):
                parked.locks.append(lock)
            case .waiting(let lock):
                parked.awaited = lock
                parkedCount += 1
                parkedUpdates.append(parked)
                return
            case .suspended, .refused:
                return refuseParked(parked, now: now)
            case .sealed:
                release(parked.locks, now: now)
                return leaveForNext(parked.request)
            }
        }
        // Names may lead elsewhere by now.
        if case .metadata(let metadata) = service, let store {
            let touched = metadata.touched(by: parked.request.body, in: store)
            if touched != parked.touched {
                release(parked.locks, now: now)
                return advance(
                    ParkedUpdate(request: parked.request, touched: touched), now: now)
            }
        }
        executeUpdate(parked.request, isAlone: true, now: now)
        release(parked.locks, now: now)
    }

    private mutating func release(_ held: [SlotHandle], now: Ticks) {
        for lock in held { _ = locks.cancel(lock, owner: .local, now: now) }
    }

    /// A lock of the target's own is granted: the update that waited for it goes on.
    mutating func resumeParked(_ lock: SlotHandle, now: Ticks) {
        guard let place = parkedUpdates.firstIndex(where: { $0.awaited == lock }) else {
            return
        }
        var parked = parkedUpdates.remove(at: place)
        parked.awaited = nil
        parked.locks.append(lock)
        guard rpc.isCurrent(parked.request.token) else {
            return release(parked.locks, now: now)
        }
        advance(parked, now: now)
    }

    /// The client is told that nothing was executed: it comes again, to the gate first.
    private mutating func refuseParked(_ parked: ParkedUpdate, now: Ticks) {
        if let awaited = parked.awaited { _ = locks.cancel(awaited, owner: .local, now: now) }
        release(parked.locks, now: now)
        rpc.refuse(
            parked.request.token, .inProgress,
            trailer: upgrade.trailer(for: parked.request.export), lnet: &lnet, now: now)
    }

    /// From the announcement on nothing is called back any more, and who prepares must not wait
    /// for those who do not: every update that waits goes back to its client's gate.
    mutating func refuseAllParked(now: Ticks) {
        let waiting = parkedUpdates
        parkedUpdates = []
        for parked in waiting { refuseParked(parked, now: now) }
    }

    /// The client is gone: so is what it waited for.
    mutating func dropParked(of export: UInt32, now: Ticks) {
        let gone = parkedUpdates.filter { $0.request.export == export }
        guard !gone.isEmpty else { return }
        parkedUpdates.removeAll { $0.request.export == export }
        for parked in gone {
            if let awaited = parked.awaited { _ = locks.cancel(awaited, owner: .local, now: now) }
            release(parked.locks, now: now)
        }
    }

    // MARK: Locks along with answers

    /// Whether the client gets locks with its answers now.
    private func givesLocks(_ export: UInt32) -> Bool {
        rpc.features(of: export).contains(.caching) && !isSealed && !locks.isRecovering
            && !locks.isSuspended && (!hasCleanStart || isRunCommitted)
    }

    /// Reads a path and gives the locks that are free. The answer is true while they are held.
    mutating func locate(_ request: ServerRequest, _ body: LocateRequest, now: Ticks) {
        guard case .metadata(var metadata) = service, let store else {
            rpc.reply(request.token, status: .notSupported, lnet: &lnet, now: now)
            return
        }
        if !isSealed, awaitsWithdrawal(request, now: now) { return }
        var transaction = Transaction()
        let result = metadata.execute(
            request.body, client: request.export, isReplay: false, in: store, into: &transaction)
        service = .metadata(metadata)
        guard case .reply(let status, var answer) = result else { return }
        if meetsDamage(request, now: now) { return }
        if case .located(var reply) = answer, givesLocks(request.export) {
            for wanted in MetadataService.wanted(by: body, reply) {
                if let grant = grant(
                    wanted.touched, cookie: wanted.cookie, to: request.export, now: now)
                {
                    reply.grants.append(grant)
                }
            }
            answer = .located(reply)
        }
        rpc.reply(
            request.token, status: status, body: answer,
            trailer: upgrade.trailer(for: request.export), lnet: &lnet, now: now)
    }

    /// The lock that an open asked for, on the file as it is behind the open.
    mutating func grantForOpen(_ request: ServerRequest, _ body: ReplyBody, now: Ticks) -> ReplyBody
    {
        guard case .open(let open) = request.body, open.lockCookie != 0, !request.isReplay,
            case .open(var reply) = body, givesLocks(request.export)
        else { return body }
        reply.grant = grant(
            TouchedFile(file: reply.attributes.file, bits: .everything), cookie: open.lockCookie,
            to: request.export, now: now)
        return .open(reply)
    }

    /// Those of the bits that are free; nobody is called back for them, and nobody waits.
    private mutating func grant(
        _ wanted: TouchedFile, cookie: UInt64, to export: UInt32, now: Ticks
    ) -> LockGrant? {
        let result = locks.enqueue(
            owner: owner(export), resource: ResourceID(wanted.file), mode: .pr,
            policy: .bits([], welcome: wanted.bits), clientCookie: cookie, flags: .blockNoWait,
            now: now)
        guard result.outcome == .granted else { return nil }
        let bits = result.policy.inodeBits
        guard !bits.isEmpty else { return nil }
        return LockGrant(
            clientCookie: cookie, serverCookie: result.lock.rawValue, file: wanted.file,
            bits: bits)
    }
}
