import PtlRPCCore
import Primitives
import Testing
import WireFormat

/// What no honest client sends: refused with the protocol's error, nothing executed, counted.
@Suite struct BadInputTests {
    @Test func `a replay for an export that is not in recovery is told so, and costs the export`() {
        var net = ServerHarness()
        net.connectAll(2)
        net.send(0, ServerHarness.update)
        let before = net.executed.count
        net.replay(0, 5, xid: 1 << 21)
        #expect(net.clients[0].reply(to: 1 << 21)?.header.status == .notConnected)
        #expect(net.executed.count == before)
        #expect(net.server.counters.unexpectedReplays == 1)
        #expect(net.server.counters.violations == 1)
        #expect(net.server.counters.evictions == 1)
        // The other client has lost nothing.
        let other = net.send(1, ServerHarness.update)
        #expect(net.clients[1].reply(to: other)?.header.status == .ok)
    }

    @Test func `an eviction is preceded by what the export had`() throws {
        var net = ServerHarness()
        net.connectAll(1)
        net.replay(0, 5, xid: 1 << 21)
        let place = try #require(
            net.events.firstIndex {
                if case .evicted(export: 0, clientUUID: "client-1", reason: _) = $0 {
                    true
                } else {
                    false
                }
            })
        guard case .losing(let summary) = net.events[place - 1] else {
            Issue.record("\(net.events[place - 1])")
            return
        }
        #expect(summary.uuid == "client-1")
        #expect(summary.nid == ServerHarness.nid(1))
    }

    @Test func `a handle of another client is refused, and executes nothing for either`() {
        var net = ServerHarness()
        net.connectAll(2)
        let own = net.clients[0].exportHandle
        net.clients[0].exportHandle = net.clients[1].exportHandle
        let xid = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: xid)?.header.status == .notConnected)
        #expect(net.executed.isEmpty)
        #expect(net.server.counters.foreignHandles == 1)
        #expect(net.server.counters.notConnected == 1)
        net.clients[0].exportHandle = own
        let again = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: again)?.header.status == .ok)
    }

    @Test func `a handle that nobody has is not counted as another client's`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].exportHandle ^= 0xFFFF_0000_0000
        let xid = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: xid)?.header.status == .notConnected)
        #expect(net.server.counters.foreignHandles == 0)
        #expect(net.server.counters.notConnected == 1)
    }

    @Test func `requests are counted by opcode, errors among them`() throws {
        var net = ServerHarness()
        net.connectAll(1)
        net.send(0, .ping)
        net.send(0, .ping)
        net.answer = { _ in (.noEntry, .empty) }
        net.send(0, ServerHarness.update)
        let entries = net.server.statistics.entries
        let ping = try #require(entries.first { $0.opcode == .ping })
        #expect(ping.count == 2 && ping.errors == 0)
        let update = try #require(entries.first { $0.opcode == ServerHarness.update.opcode })
        #expect(update.count == 1 && update.errors == 1)
        #expect(update.times.count == 1)
    }
}
