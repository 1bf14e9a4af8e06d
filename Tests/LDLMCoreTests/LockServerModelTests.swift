import LDLMCore
import Primitives
import Testing
import WireFormat

/// The lock table in quadratic time: one list in order of arrival, every rule read off it.
private struct NaiveLocks {
    struct Lock {
        var cookie: UInt64
        var owner: UInt32
        var resource: UInt64
        var mode: LockMode
        var policy: LockPolicy
        var isGranted = false
    }

    var locks: [Lock] = []

    /// Cookies of the locks that are granted now and were not before.
    mutating func serve() -> [UInt64] {
        var granted: [UInt64] = []
        var isChanged = true
        while isChanged {
            isChanged = false
            for index in locks.indices where !locks[index].isGranted {
                let lock = locks[index]
                let joins = joinsItsGroup(lock)
                let isBlocked = locks.enumerated().contains { at, other in
                    other.resource == lock.resource && at != index
                        && (other.isGranted || (at < index && !joins))
                        && conflict(other.mode, other.policy, lock.mode, lock.policy)
                }
                if !isBlocked {
                    locks[index].isGranted = true
                    granted.append(lock.cookie)
                    isChanged = true
                }
            }
        }
        return granted
    }

    /// Its group has a lock there: then it waits for nobody who waits.
    private func joinsItsGroup(_ lock: Lock) -> Bool {
        lock.mode == .group
            && locks.contains {
                $0.isGranted && $0.resource == lock.resource && $0.mode == .group
                    && $0.policy.group == lock.policy.group
                    && conflict(.ex, $0.policy, .ex, lock.policy)
            }
    }
}

@Suite struct LockServerModelTests {
    private static let modes: [LockMode] = [.ex, .pw, .pr, .pr, .cw, .cr, .nl, .group, .cos, .txn]

    private func policy(_ random: inout SplitMix64, group: UInt64) -> LockPolicy {
        if random.oneIn(3) { return .extent(.whole, group: group) }
        let start = UInt64(random.below(20))
        return .extent(Extent(start: start, end: start + UInt64(random.below(8))), group: group)
    }

    private func bits(_ random: inout SplitMix64, group: UInt64) -> LockPolicy {
        .inodeBits(UInt64(1 + random.below(31)), other: 0, group: group, initiator: 0)
    }

    @Test(arguments: UInt64(1)...40)
    func `grants, waits and callbacks are those of the naive model`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var server = LockServer(LockServerConfiguration(instance: 1))
        var model = NaiveLocks()
        var handles: [UInt64: SlotHandle] = [:]
        var callCounts: [UInt64: Int] = [:]
        var nextCookie: UInt64 = 1
        for step in 0..<600 {
            var expected: [UInt64] = []
            var granted: [UInt64] = []
            let choice = random.below(100)
            if choice < 55 || model.locks.isEmpty {
                let owner = UInt32(random.below(6))
                let mode = Self.modes[random.below(Self.modes.count)]
                let group = mode == .group ? UInt64(random.below(2)) : 0
                let resource = UInt64(1 + random.below(4))
                // A resource is of one kind.
                let policy: LockPolicy
                switch resource {
                case 1: policy = .plain
                case 2: policy = bits(&random, group: group)
                default: policy = self.policy(&random, group: group)
                }
                let cookie = nextCookie
                nextCookie += 1
                let result = server.enqueue(
                    owner: client(owner), resource: ResourceID(resource), mode: mode,
                    policy: policy, clientCookie: cookie, flags: .noExpansion, now: epoch)
                handles[cookie] = result.lock
                if result.outcome == .granted { granted.append(cookie) }
                // Who joins its group past the queue is told that the queue wants it back.
                if result.flags.contains(.astSent) { callCounts[cookie, default: 0] += 1 }
                #expect(result.policy == policy)
                model.locks.append(
                    .init(
                        cookie: cookie, owner: owner, resource: resource, mode: mode,
                        policy: policy))
                // Sent again, the answer is the same.
                if random.oneIn(4) {
                    let again = server.enqueue(
                        owner: client(owner), resource: ResourceID(resource), mode: mode,
                        policy: policy, clientCookie: cookie, flags: .noExpansion, now: epoch)
                    expectSameAnswer(again, as: result)
                }
            } else if choice < 97 {
                let index = random.below(model.locks.count)
                let lock = model.locks.remove(at: index)
                guard let handle = handles[lock.cookie] else { continue }
                #expect(server.cancel(handle, owner: client(99), now: epoch) == .notOwner)
                let result = server.cancel(handle, owner: client(lock.owner), now: epoch)
                #expect(result == .done(ResourceID(lock.resource)))
                let again = server.cancel(handle, owner: client(lock.owner), now: epoch)
                #expect(again == .unknown)
            } else {
                let owner = UInt32(random.below(6))
                model.locks.removeAll { $0.owner == owner }
                #expect(server.removeAll(client(owner), now: epoch) == true)
                #expect(server.count(of: client(owner)) == 0)
            }
            expected = model.serve()
            let actions = server.takeActions()
            granted += actions.completed
            #expect(granted.sorted() == expected.sorted(), "seed \(seed) step \(step)")
            for cookie in actions.called { callCounts[cookie, default: 0] += 1 }
            for case .completionAST(_, _, let cookie, _, let flags) in actions
            where flags.contains(.astSent) {
                callCounts[cookie, default: 0] += 1
            }
            check(server, model, handles, callCounts, "seed \(seed) step \(step)")
        }
        for owner in 0..<UInt32(6) { server.removeAll(client(owner), now: epoch) }
        #expect(server.count == 0)
        #expect(server.waitingCount == 0)
        #expect(server.nextDeadline == nil)
    }

    private func check(
        _ server: LockServer, _ model: NaiveLocks, _ handles: [UInt64: SlotHandle],
        _ callCounts: [UInt64: Int], _ place: String
    ) {
        #expect(server.count == model.locks.count, "\(place)")
        #expect(server.waitingCount == model.locks.count { !$0.isGranted }, "\(place)")
        for (index, lock) in model.locks.enumerated() {
            guard let handle = handles[lock.cookie], let info = server.info(handle) else {
                Issue.record("a lock is missing, \(place)")
                continue
            }
            #expect(info.isGranted == lock.isGranted, "\(place)")
            guard lock.isGranted else { continue }
            let isInTheWay = model.locks.enumerated().contains { at, other in
                at != index && other.resource == lock.resource && !other.isGranted
                    && conflict(other.mode, other.policy, lock.mode, lock.policy)
            }
            let calls = callCounts[lock.cookie] ?? 0
            #expect(calls <= 1, "called back twice, \(place)")
            #expect(!isInTheWay || calls == 1, "not called back, \(place)")
            #expect(info.isCalledBack == (calls == 1), "\(place)")
        }
    }

    @Test(arguments: UInt64(1)...20)
    func `with growing extents no two conflicting locks are granted and nobody is forgotten`(
        seed: UInt64
    ) {
        var random = SplitMix64(seed: seed)
        var server = LockServer(LockServerConfiguration(instance: 1))
        var live: [(handle: SlotHandle, owner: UInt32)] = []
        let id = ResourceID(9)
        for cookie in UInt64(1)...400 {
            if random.oneIn(3), !live.isEmpty {
                let gone = live.remove(at: random.below(live.count))
                server.cancel(gone.handle, owner: client(gone.owner), now: epoch)
            } else {
                let owner = UInt32(random.below(5))
                let mode = Self.modes[random.below(6)]
                let asked = policy(&random, group: 0)
                let result = server.enqueue(
                    owner: client(owner), resource: id, mode: mode, policy: asked,
                    clientCookie: cookie, now: epoch)
                #expect(result.policy.range.contains(asked.range))
                #expect(result.flags.contains(.lockChanged) == (result.policy != asked))
                live.append((result.lock, owner))
            }
            let holders = server.holders(id)
            for (index, one) in holders.enumerated() {
                for other in holders[(index + 1)...] {
                    #expect(!conflict(one, other), "seed \(seed)")
                }
            }
            // Nobody waits who could be granted.
            let waiters = server.waiters(id)
            for (index, waiter) in waiters.enumerated() {
                let isBlocked =
                    holders.contains { conflict($0, waiter) }
                    || waiters[..<index].contains { conflict($0, waiter) }
                #expect(isBlocked, "seed \(seed)")
            }
        }
        // Every holder goes: everybody gets in.
        var granted = 0
        let all = server.count
        while let holder = server.holders(id).first {
            granted += 1
            server.cancel(holder.handle, owner: holder.owner, now: epoch)
        }
        #expect(granted == all)
        #expect(server.count == 0)
    }
}
