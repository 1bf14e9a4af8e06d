import LDLMCore
import Primitives
import Testing
import WireFormat

/// Inode bits, growth, flags, the target's own locks.
@Suite struct LockKindsTests {
    private let id = ResourceID(1)

    private func bits(
        _ server: inout LockServer, _ owner: LockOwner, _ mode: LockMode, _ bits: InodeBits,
        welcome: InodeBits = [], cookie: UInt64, flags: LockFlags = []
    ) -> EnqueueResult {
        server.enqueue(
            owner: owner, resource: id, mode: mode, policy: .bits(bits, welcome: welcome),
            clientCookie: cookie, flags: flags, now: epoch)
    }

    @Test func `inode bits exclude one another only where they meet`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        #expect(bits(&server, client(1), .pr, [.lookup, .update], cookie: 1).outcome == .granted)
        #expect(bits(&server, client(2), .ex, .layout, cookie: 2).outcome == .granted)
        #expect(bits(&server, client(3), .ex, [.update, .xattr], cookie: 3).outcome == .waiting)
        let actions = server.takeActions()
        #expect(actions.called == [1])
        guard case .blockingAST(_, _, _, let wanted) = actions[0] else { return }
        // It names what has to go, so that the rest may be kept.
        #expect(wanted.policy == .inodeBits(0x22, other: 0x2, group: 0, initiator: 0))
    }

    @Test func `bits that are welcome are taken where nobody holds or wants them`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = bits(&server, client(1), .pw, .update, cookie: 1)
        let some = bits(&server, client(2), .pr, .lookup, welcome: [.update, .perm], cookie: 2)
        #expect(some.policy == .bits([.lookup, .perm]))
        #expect(some.flags.contains(.lockChanged))
        let none = bits(&server, client(3), .pr, [], welcome: .update, cookie: 3)
        #expect(none.outcome == .wouldBlock)
        #expect(server.takeActions().isEmpty)
        #expect(server.count == 2)
    }

    @Test func `a convert gives bits back, and the rest stays`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let held = bits(&server, client(1), .pr, [.lookup, .update, .perm], cookie: 1)
        _ = bits(&server, client(2), .ex, .update, cookie: 2)
        _ = bits(&server, client(3), .ex, .perm, cookie: 3)
        #expect(server.takeActions().called == [1])
        let convert = { (server: inout LockServer, owner: UInt32, kept: InodeBits) in
            server.convert(held.lock, owner: client(owner), keeping: kept, now: epoch)
        }
        #expect(convert(&server, 9, [.lookup]) == .notOwner)
        #expect(convert(&server, 1, [.lookup, .layout]) == .badMode)
        #expect(server.counters.foreignCancels == 1)
        #expect(convert(&server, 1, [.lookup, .perm]) == .done(id))
        let actions = server.takeActions()
        #expect(actions.completed == [2])
        // Somebody else wants another of its bits.
        #expect(actions.called == [1])
        #expect(server.info(held.lock)?.policy == .bits([.lookup, .perm]))
        #expect(convert(&server, 1, []) == .done(id))
        #expect(server.takeActions().completed == [3])
        #expect(server.info(held.lock) == nil)
    }

    @Test func `with many rivals a writer's extent grows by 32 MiB at most, and not downwards`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let page: UInt64 = 4096
        let far: UInt64 = 1 << 40
        for index in UInt64(0)..<40 {
            let at = far + index * page
            let result = server.range(
                client(UInt32(index)), .pw, at, at + page - 1, index, flags: .noExpansion)
            #expect(result.outcome == .granted)
        }
        let grown = server.range(client(99), .pw, 10 * page, 11 * page - 1, 99)
        #expect(
            grown.policy.range
                == Extent(start: 10 * page, end: 10 * page + (32 << 20) - 1))
        // A reader beside it is limited by what the writers hold, not by their number.
        let reader = server.range(client(98), .pr, far + (1 << 30), far + (1 << 30), 98)
        #expect(reader.policy.range.end == .max)
        #expect(reader.policy.range.start == far + (1 << 30))
    }

    @Test func `borders of grown extents lie on pages where the request's own do`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.range(client(1), .pw, 0, 5000, 1, flags: .noExpansion)
        _ = server.range(client(2), .pw, 50_000, 50_001, 2, flags: .noExpansion)
        let grown = server.range(client(3), .pw, 12288, 16383, 3)
        #expect(grown.policy.range == Extent(start: 12288, end: 49151))
    }

    @Test func `a contended resource turns away who does not want to join the crowd`() {
        var configuration = LockServerConfiguration(instance: 1)
        configuration.contendedWaiterCount = 3
        var server = LockServer(configuration)
        let deny = { (server: inout LockServer, cookie: UInt64, at: Ticks) in
            server.enqueue(
                owner: client(9), resource: ResourceID(1), mode: .ex, policy: .plain,
                clientCookie: cookie, flags: .denyOnContention, now: at
            ).outcome
        }
        _ = server.plain(client(1), .ex, 1)
        for cookie in UInt64(2)...4 { _ = server.plain(client(UInt32(cookie)), .ex, cookie) }
        #expect(deny(&server, 50, seconds(1)) == .refused(.contended))
        for owner in UInt32(2)...4 { server.removeAll(client(owner), now: seconds(1)) }
        // For a while it is remembered, then forgotten.
        #expect(deny(&server, 51, seconds(2)) == .refused(.contended))
        #expect(deny(&server, 52, seconds(9)) == .waiting)
    }

    @Test func `a speculative request and a question wait for nobody and call nobody`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.plain(client(1), .pw, 1)
        let ask = { (server: inout LockServer, mode: LockMode, flags: LockFlags) in
            server.enqueue(
                owner: client(2), resource: ResourceID(1), mode: mode, policy: .plain,
                clientCookie: 7, flags: flags, now: epoch)
        }
        #expect(ask(&server, .pr, .speculative).outcome == .wouldBlock)
        #expect(ask(&server, .pr, .testLock).outcome == .tested)
        #expect(ask(&server, .pr, .testLock).mode == .pw)
        #expect(ask(&server, .cr, .testLock).mode == .nl)
        #expect(server.takeActions().isEmpty)
        #expect(server.count == 1)
        #expect(ask(&server, .cr, .speculative).outcome == .granted)
    }

    @Test func `a lock that yields goes by itself when somebody wants it`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let weak = server.enqueue(
            owner: client(1), resource: id, mode: .pw, policy: .plain, clientCookie: 1,
            flags: .cancelOnBlock, now: epoch)
        #expect(weak.outcome == .granted)
        #expect(server.reservations { UInt64($0.index) }.isEmpty)
        let other = server.plain(client(2), .ex, 2)
        #expect(other.outcome == .granted)
        #expect(server.takeActions().called == [1])
        #expect(server.info(weak.lock) == nil)
        #expect(server.nextDeadline == nil)
        // During an announcement nothing is called back, not even this.
        var quiet = LockServer(LockServerConfiguration(instance: 1))
        _ = quiet.enqueue(
            owner: client(1), resource: id, mode: .pw, policy: .plain, clientCookie: 1,
            flags: .cancelOnBlock, now: epoch)
        quiet.suspendBlockingASTs(now: epoch)
        #expect(quiet.plain(client(2), .ex, 2).outcome == .waiting)
        #expect(quiet.takeActions().isEmpty)
        quiet.resumeBlockingASTs(now: epoch)
        let actions = quiet.takeActions()
        #expect(actions.called == [1])
        #expect(actions.completed == [2])
    }

    @Test func `an intent's lock is taken by the target and given to the client`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        guard
            case .granted(let own) = server.acquireLocal(
                id, .pr, .bits([.lookup, .update]), now: epoch)
        else {
            Issue.record("nobody is in the way")
            return
        }
        _ = bits(&server, client(2), .ex, .update, cookie: 5)
        #expect(server.takeActions().isEmpty)
        let given = server.transfer(own, to: client(1), clientCookie: 77, now: epoch)
        #expect(given.outcome == .granted)
        // Somebody wants it already: the answer that brings it says so.
        #expect(given.flags.contains(.astSent))
        #expect(server.nextDeadline == seconds(100))
        #expect(server.count(of: client(1)) == 1)
        // The same request again: the lock that is there is told, another own one goes back.
        guard case .granted(let again) = server.acquireLocal(id, .pr, .bits(.lookup), now: epoch)
        else { return }
        let repeated = server.transfer(again, to: client(1), clientCookie: 77, now: epoch)
        #expect(repeated.lock == given.lock)
        #expect(server.info(again) == nil)
        #expect(server.cancel(given.lock, owner: client(1), now: epoch) == .done(id))
        #expect(server.takeActions().completed == [5])
    }

    @Test func `while an upgrade is announced the target's own locks call nobody back`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let held = bits(&server, client(1), .pr, .update, cookie: 1)
        _ = bits(&server, client(2), .pr, .lookup, cookie: 2)
        _ = bits(&server, client(3), .ex, .lookup, cookie: 3)
        #expect(server.takeActions().called == [2])
        server.suspendBlockingASTs(now: epoch)
        #expect(server.acquireLocal(id, .ex, .bits(.update), now: epoch) == .suspended)
        #expect(server.acquireLocal(id, .ex, .bits(.lookup), now: epoch) == .suspended)
        guard case .granted(let free) = server.acquireLocal(id, .ex, .bits(.xattr), now: epoch)
        else {
            Issue.record("nobody is in the way of this one")
            return
        }
        #expect(server.takeActions().isEmpty)
        server.cancel(free, owner: .local, now: epoch)
        server.seal()
        #expect(server.acquireLocal(id, .ex, .bits(.xattr), now: epoch) == .sealed)
        #expect(
            server.convert(held.lock, owner: client(1), keeping: [], now: epoch) == .sealed)
        #expect(server.glimpse(id, beyond: 0).isEmpty)
    }

    @Test func `those are glimpsed under whose locks an object may have grown`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.range(client(1), .pw, 0, 99, 1, flags: .noExpansion)
        _ = server.range(client(2), .pw, 100, 199, 2, flags: .noExpansion)
        _ = server.range(client(3), .pr, 200, .max, 3, flags: .noExpansion)
        #expect(server.glimpse(id, beyond: 0).map(\.clientCookie) == [1, 2])
        #expect(server.glimpse(id, beyond: 150).map(\.clientCookie) == [2])
        #expect(server.glimpse(id, beyond: 200).isEmpty)
        #expect(server.counters.glimpseASTs == 3)
        #expect(server.takeActions().isEmpty)
    }

    @Test func `I O on a range prolongs the locks there that are called back`() {
        var server = LockServer(LockServerConfiguration(instance: 1, callbackTimeout: .seconds(10)))
        _ = server.range(client(1), .pw, 0, 99, 1, flags: .noExpansion)
        _ = server.range(client(1), .pw, 100, 199, 2, flags: .noExpansion)
        _ = server.range(client(2), .pw, 50, 150, 3)
        let low = Extent(start: 10, end: 20)
        #expect(server.prolong(client(2), on: id, range: low, now: seconds(8)) == 0)
        #expect(server.prolong(client(1), on: id, range: low, now: seconds(8)) == 1)
        server.tick(now: seconds(10))
        #expect(server.takeActions().expired == [1])
        #expect(server.nextDeadline == seconds(18))
    }

    @Test func `an owner that was slow before gets half more than it needed`() {
        var server = LockServer(LockServerConfiguration(instance: 1, callbackTimeout: .seconds(10)))
        let first = server.plain(client(1), .pr, 1)
        _ = server.plain(client(2), .ex, 2)
        server.cancel(first.lock, owner: client(1), now: seconds(9))
        server.removeAll(client(2), now: seconds(9))
        _ = server.plain(client(1), .pr, 3, now: seconds(20))
        _ = server.plain(client(3), .pr, 4, now: seconds(20))
        _ = server.plain(client(2), .ex, 5, now: seconds(20))
        #expect(server.takeActions().expired.isEmpty)
        #expect(server.nextDeadline == seconds(30))
        server.tick(now: seconds(30))
        #expect(server.takeActions().expired == [3])
        #expect(server.nextDeadline == Ticks(nanoseconds: 33_500_000_000))
    }

    @Test
    func `above the low watermark old locks are called back, above the high one none is given`() {
        var configuration = LockServerConfiguration(instance: 1, lockCountMax: 20)
        configuration.reclaimLockCount = 10
        var server = LockServer(configuration)
        for index in UInt64(0)..<20 {
            _ = server.plain(
                client(1), .pr, index, on: ResourceID(index + 1), now: seconds(index * 100))
        }
        #expect(server.plain(client(1), .pr, 99, on: ResourceID(99)).outcome == .refused(.full))
        server.tick(now: seconds(1000))
        // Those that were granted 300 s ago or more.
        #expect(server.takeActions().called == Array(0...7))
        server.tick(now: seconds(1000))
        #expect(server.takeActions().isEmpty)
        #expect(server.counters.reclaimed == 8)

        // One that yields is simply gone, and its resource with it.
        var yielding = LockServer(configuration)
        for index in UInt64(0)..<12 {
            _ = yielding.enqueue(
                owner: client(1), resource: ResourceID(index + 1), mode: .pr, policy: .plain,
                clientCookie: index, flags: .cancelOnBlock, now: epoch)
        }
        yielding.tick(now: seconds(1000))
        #expect(yielding.count == 0)
        #expect(yielding.setValueBlock(ResourceID(1), OSTLVB()) == false)
    }

    @Test(arguments: UInt64(1)...20)
    func `a crowded resource is searched by trees as a small one by lists`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        // The same history beside a crowd that is in nobody's way, and without one.
        var small = LockServer(LockServerConfiguration(instance: 1))
        var crowded = LockServer(LockServerConfiguration(instance: 1))
        for index in UInt64(0)..<40 {
            _ = crowded.range(client(77), .nl, index, index, 1_000_000 + index)
        }
        var live: [(UInt64, SlotHandle, SlotHandle)] = []
        for cookie in UInt64(1)...300 {
            if random.oneIn(2), live.count > 10 || (random.oneIn(3) && !live.isEmpty) {
                let gone = live.remove(at: random.below(live.count))
                small.cancel(gone.1, owner: client(1), now: epoch)
                crowded.cancel(gone.2, owner: client(1), now: epoch)
            } else {
                let start = UInt64(random.below(1000))
                let end = start + UInt64(random.below(100))
                let mode: LockMode = [.pr, .pw, .cw, .ex][random.below(4)]
                let one = small.range(client(1), mode, start, end, cookie)
                let other = crowded.range(client(1), mode, start, end, cookie)
                #expect(one.outcome == other.outcome, "seed \(seed)")
                #expect(one.policy == other.policy, "seed \(seed)")
                live.append((cookie, one.lock, other.lock))
            }
            let actions = (small.takeActions(), crowded.takeActions())
            #expect(actions.0.completed == actions.1.completed, "seed \(seed)")
            #expect(actions.0.called.sorted() == actions.1.called.sorted(), "seed \(seed)")
        }
    }
}

@Suite struct LockPoolTests {
    @Test func `more locks than planned shrink the volume, fewer let it grow, within bounds`() {
        var pool = LockPool(limit: 1000)
        let start = pool.serverLockVolume
        #expect(start == 36_000_000)
        pool.recompute(granted: 100, now: epoch)
        for second in UInt64(1)...10 { pool.recompute(granted: 100, now: seconds(second)) }
        #expect(pool.serverLockVolume == start)
        #expect(pool.plan >= 100 && pool.plan <= 1000)
        // Twice the limit: it shrinks, period by period, and never to nothing.
        var last = pool.serverLockVolume
        for second in UInt64(11)...200 {
            pool.recompute(granted: 2000, now: seconds(second))
            #expect(pool.serverLockVolume <= last)
            last = pool.serverLockVolume
        }
        #expect(last >= 1 && last < start / 1000)
        for second in UInt64(201)...4000 { pool.recompute(granted: 10, now: seconds(second)) }
        #expect(pool.serverLockVolume > last)
        // Within a period nothing moves.
        let before = pool
        pool.recompute(granted: 5000, now: seconds(4000) + .milliseconds(999))
        #expect(pool == before)
    }
}
