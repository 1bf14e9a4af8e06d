import LDLMCore
import Primitives
import Testing
import WireFormat

@Suite struct LockServerTests {
    @Test func `an extent grows to what nobody else holds or wants`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let first = server.range(client(1), .pw, 100, 199, 1)
        #expect(first.policy.range == .whole)
        #expect(first.flags.contains(.lockChanged))
        #expect(server.range(client(2), .pw, 300, 399, 2).outcome == .waiting)
        #expect(server.takeActions().called == [1])
        server.cancel(first.lock, owner: client(1), now: epoch)
        // It had to wait: its neighbour would only want back what it grew over.
        let asked = Extent(start: 300, end: 399)
        #expect(server.holders(ResourceID(1)).map(\.policy.range) == [asked])
        _ = server.takeActions()
        // The neighbour comes back and has what is left below; above, it grows to the end.
        let below = server.range(client(1), .pw, 0, 99, 3)
        #expect(below.policy.range == Extent(start: 0, end: 299))
        let above = server.range(client(3), .pw, 1000, 1099, 4)
        #expect(above.policy.range == Extent(start: 1000, end: .max))
        #expect(server.takeActions().isEmpty)

        var exact = LockServer(LockServerConfiguration(instance: 1))
        _ = exact.range(client(1), .pw, 100, 199, 1, flags: .noExpansion)
        _ = exact.range(client(2), .pw, 500, 599, 2, flags: .noExpansion)
        let middle = exact.range(client(3), .pw, 300, 309, 3)
        // Upwards only: who works below would soon want the gap.
        #expect(middle.policy.range == Extent(start: 300, end: 499))
        let reader = exact.range(client(4), .cr, 0, 0, 4)
        #expect(reader.outcome == .granted)
        #expect(reader.policy.range == .whole)
    }

    @Test func `group locks share only within their group`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let ask = { (server: inout LockServer, owner: UInt32, group: UInt64) in
            server.enqueue(
                owner: client(owner), resource: ResourceID(1), mode: .group,
                policy: .extent(.whole, group: group), clientCookie: UInt64(owner), now: epoch
            )
            .outcome
        }
        #expect(ask(&server, 1, 7) == .granted)
        #expect(ask(&server, 2, 7) == .granted)
        #expect(ask(&server, 3, 8) == .waiting)
        // Who works in a group does not wait behind those that its group keeps waiting.
        #expect(ask(&server, 4, 7) == .granted)
        #expect(ask(&server, 5, 9) == .waiting)
        #expect(ask(&server, 6, 8) == .waiting)
        for owner in [UInt32(1), 2, 4] { server.removeAll(client(owner), now: epoch) }
        // The next group comes in as a whole, past the other one.
        #expect(server.takeActions().completed == [3, 6])
        #expect(server.nextDeadline == nil)
    }

    @Test func `who does not want to wait is refused and leaves nothing behind`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.plain(client(1), .ex, 1)
        let result = server.enqueue(
            owner: client(2), resource: ResourceID(1), mode: .pr, policy: .plain, clientCookie: 2,
            flags: .blockNoWait, now: epoch)
        #expect(result.outcome == .wouldBlock)
        #expect(server.count == 1)
        #expect(server.takeActions().isEmpty)
    }

    @Test func `a peer's nonsense is refused and never traps`() {
        var server = LockServer(LockServerConfiguration(instance: 1, lockCountMax: 2))
        #expect(server.range(client(1), .pr, 9, 8, 1).outcome == .refused(.badPolicy))
        let refused: [(LockMode, LockPolicy)] = [
            (.pr, .flock(Extent(start: 2, end: 1), owner: 1, pid: 1)),
            (.cr, .flock(.whole, owner: 1, pid: 1)), (.group, .flock(.whole, owner: 1, pid: 1)),
            (.pr, .bits([])), (.pr, .bits(InodeBits(rawValue: 0x80))),
            (.pr, .bits(.lookup, welcome: InodeBits(rawValue: 1 << 40))),
        ]
        for (mode, policy) in refused {
            let result = server.enqueue(
                owner: client(1), resource: ResourceID(1), mode: mode, policy: policy,
                clientCookie: 1, now: epoch)
            #expect(result.outcome == .refused(.badPolicy), "\(mode) \(policy)")
        }
        for bit in 0..<UInt32(32)
        where !LockFlags.allowedInEnqueue.contains(.init(rawValue: 1 << bit)) {
            let result = server.enqueue(
                owner: client(1), resource: ResourceID(1), mode: .pr, policy: .plain,
                clientCookie: 1, flags: LockFlags(rawValue: 1 << bit), now: epoch)
            #expect(result.outcome == .refused(.badFlags), "bit \(bit)")
        }
        #expect(server.count == 0)
        let one = server.plain(client(1), .pr, 1)
        let other = server.plain(client(1), .pr, 1, on: ResourceID(2))
        #expect(other.outcome == .refused(.cookieReused))
        // A resource is of one kind as long as anybody has it.
        #expect(server.range(client(1), .nl, 0, 1, 9).outcome == .refused(.badPolicy))
        _ = server.plain(client(1), .pr, 2)
        #expect(server.plain(client(1), .pr, 3).outcome == .refused(.full))
        var random = SplitMix64(seed: 7)
        for _ in 0..<10_000 {
            let handle = SlotHandle(rawValue: random.next() & 0xFF_0100_00FF)
            if handle == one.lock { continue }
            let result = server.cancel(handle, owner: client(2), now: epoch)
            #expect(result == .unknown || result == .notOwner)
        }
        #expect(server.count == 2)
    }

    @Test func `a downgrade lets in whom it no longer excludes`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let writer = server.plain(client(1), .pw, 1)
        _ = server.plain(client(2), .pr, 2)
        _ = server.plain(client(3), .ex, 3)
        #expect(server.takeActions().called == [1])
        #expect(
            server.downgrade(writer.lock, owner: client(1), to: .ex, now: epoch) == .badMode)
        #expect(
            server.downgrade(writer.lock, owner: client(1), to: .pr, now: epoch)
                == .done(ResourceID(1)))
        let actions = server.takeActions()
        #expect(actions.completed == [2])
        // The reader and the former writer are both in the way of the EX.
        #expect(actions.called == [1])
        #expect(server.holders(ResourceID(1)).map(\.isCalledBack) == [true, true])
    }

    @Test func `who does not give back in time is reported once and can be prolonged`() {
        var server = LockServer(LockServerConfiguration(instance: 1, callbackTimeout: .seconds(10)))
        let lock = server.plain(client(1), .pr, 1)
        #expect(server.prolong(lock.lock, now: epoch) == false)
        _ = server.plain(client(2), .ex, 2, now: seconds(5))
        #expect(server.nextDeadline == seconds(15))
        #expect(server.prolong(lock.lock, now: seconds(12)) == true)
        #expect(server.nextDeadline == seconds(22))
        server.tick(now: seconds(21))
        #expect(server.takeActions().expired.isEmpty)
        server.tick(now: seconds(22))
        #expect(server.takeActions().expired == [1])
        server.tick(now: seconds(40))
        #expect(server.takeActions().isEmpty)
        server.removeAll(client(1), now: seconds(40))
        #expect(server.takeActions().completed == [2])
        #expect(server.nextDeadline == nil)
    }

    @Test func `an eviction does not serve the evicted`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.plain(client(1), .ex, 1)
        _ = server.plain(client(1), .pr, 2)
        _ = server.plain(client(2), .pr, 3)
        _ = server.takeActions()
        server.removeAll(client(1), now: epoch)
        #expect(server.takeActions().completed == [3])
        #expect(server.count == 1)
    }

    @Test func `the target itself is told by its handle`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let held = server.plain(client(1), .pr, 1)
        let own = server.plain(.local, .ex, 0)
        #expect(own.outcome == .waiting)
        #expect(server.takeActions().called == [1])
        server.cancel(held.lock, owner: client(1), now: epoch)
        #expect(server.takeActions() == [.granted(own.lock)])
        // Its cookies are not looked at: the same one twice is two locks.
        #expect(server.plain(.local, .nl, 0).lock != own.lock)
    }

    @Test func `a value block lives as long as its resource is in use`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let id = ResourceID(1)
        var lvb = OSTLVB()
        lvb.size = 77
        #expect(server.setValueBlock(id, lvb) == false)
        let lock = server.plain(client(1), .pr, 1)
        #expect(server.valueBlock(id) == nil)
        #expect(server.setValueBlock(id, lvb) == true)
        #expect(server.valueBlock(id) == lvb)
        server.cancel(lock.lock, owner: client(1), now: epoch)
        #expect(server.valueBlock(id) == nil)
        _ = server.plain(client(1), .pr, 2)
        #expect(server.valueBlock(id) == nil)
    }

    @Test func `a grant that is in the way at once says so in the same message`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let first = server.plain(client(1), .ex, 1)
        _ = server.plain(client(2), .ex, 2)
        _ = server.plain(client(3), .ex, 3)
        _ = server.takeActions()
        server.cancel(first.lock, owner: client(1), now: epoch)
        let actions = server.takeActions()
        #expect(actions.completed == [2])
        #expect(actions.called.isEmpty)
        guard case .completionAST(_, _, _, _, let flags) = actions[0] else { return }
        #expect(flags == .astSent)
        #expect(server.nextDeadline == seconds(100))
    }
}
