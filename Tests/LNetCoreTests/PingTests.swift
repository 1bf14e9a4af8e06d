import LNetCore
import Primitives
import Testing
import WireFormat

private func hex(_ text: String) -> [UInt8] {
    let digits = text.utf8.compactMap { character -> UInt8? in
        switch character {
        case 48...57: character - 48
        case 97...102: character - 87
        default: nil
        }
    }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

private let low = NID(address: 0x0A4E_0002, type: .tcp)
private let high = NID(address: 0x0A4E_0003, type: .tcp)

/// Bytes of `lctl ping` between two Lustre 2.17.0 nodes, 10.78.0.2 and 10.78.0.3.
private let asked = hex(
    """
    0071ceac0100000003004e0a00000200
    636972450300000002004e0a0000020003004e0a000002003930000000000000d334319f328dea18
    00000000000000000100000000000000
    """)
private let answered = hex(
    """
    636972450300000003004e0a0000020002004e0a00000200393000000000000084cd17bf328dea18
    00000000000000000100000000000000
    """)
private let get = hex(
    """
    c1000000000000000000000000000000000000000000000003004e0a0000020002004e0a00000200
    39300000393000000200000000000000cf4936501f8dea18151c0000000000000000000000000080
    0000000000000000780f000000000000
    """)
private let reply = hex(
    """
    c1000000000000000000000000000000000000000000000002004e0a0000020003004e0a00000200
    39300000393000000300000030000000cf4936501f8dea18151c0000000000000000000000000000
    00000000000000000000000000000000676e69701e00000039300000020000000000000000000900
    040000000000000003004e0a00000200dec0aa1500000000
    """)
private let push = hex(
    """
    c1000000000000000000000000000000000000000000000003004e0a0000020002004e0a00000200
    39300000393000000100000030000000cf4936501f8dea18291c0000000000000000000000000080
    00000000000000000000000000000000676e69701e00000039300000020000000000000000000900
    060000000000000002004e0a00000200dec0aa1500000000
    """)
private let pushAck = hex(
    """
    c1000000000000000000000000000000000000000000000002004e0a0000020003004e0a00000200
    39300000393000000000000000000000cf4936501f8dea18291c0000000000000000000000000080
    30000000000000000000000000000000
    """)

private func output(_ core: inout LNetCore, _ key: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    core.withOutput(key) {
        bytes += $0.copy(0..<$0.byteCount)
        return $0.byteCount
    }
    return bytes
}

private func feed(_ core: inout LNetCore, _ key: UInt64, _ bytes: [UInt8]) {
    RawSpan.over(bytes) { core.received(key, $0, now: Ticks(nanoseconds: 2000)) }
}

/// Bytes of `lnetctl discover` between the same two nodes.
private let discoveryGet = hex(
    """
    c1000000000000000000000000000000000000000000000003004e0a0000020002004e0a00000200
    39300000393000000200000000000000cf4936501f8dea18251c0000000000000000000000000080
    00000000000000001001000000000000
    """)
private let pushBack = hex(
    """
    c1000000000000000000000000000000000000000000000002004e0a0000020003004e0a00000200
    39300000393000000100000030000000b7e64d6b1c8dea18211c0000000000000000000000000080
    00000000000000000000000000000000676e69701e00000039300000020000000000000000000900
    060000000000000003004e0a00000200dec0aa1500000000
    """)

@Suite struct `LNet ping` {
    @Test func `our discovery of a real node has a real node's bytes, push and all`() {
        var configuration = LNetConfiguration(
            nid: low, incarnation: 0x18ea_8d32_9f31_34d3, seed: 1)
        configuration.discovery = true
        var core = LNetCore(configuration)
        let id = core.discover(high, timeout: .seconds(1), now: Ticks(nanoseconds: 1000))
        guard case .connect(let key, _, _, _, _)? = core.actions.popFirst() else {
            Issue.record("no connect")
            return
        }
        core.established(key, now: Ticks(nanoseconds: 1000))
        #expect(output(&core, key) == asked)
        feed(&core, key, answered)
        var sent = output(&core, key)
        let handle = Array(sent[56..<72])
        sent.replaceSubrange(56..<72, with: discoveryGet[56..<72])
        #expect(sent == discoveryGet)
        var answer = reply
        answer.replaceSubrange(56..<72, with: handle)
        feed(&core, key, answer)
        var pushed = output(&core, key)
        let pushHandle = Array(pushed[56..<72])
        pushed.replaceSubrange(56..<72, with: push[56..<72])
        pushed.replaceSubrange(120..<124, with: push[120..<124])
        #expect(pushed == push)
        var acknowledged = pushAck
        acknowledged.replaceSubrange(56..<72, with: pushHandle)
        feed(&core, key, acknowledged)
        let ends = Array(sequence(state: ()) { _ in core.events.popFirst() })
        #expect(
            ends.contains {
                if case .discovered(let end) = $0 { end.id == id && end.errno == 0 } else { false }
            })
        #expect(core.peerInfo(high)?.nids == [high] && core.pendingCount == 0)
    }

    @Test func `a real node's push is acknowledged and answered with ours`() {
        var configuration = LNetConfiguration(
            nid: high, incarnation: 0x18ea_8d32_bf17_cd84, seed: 1)
        configuration.discovery = true
        var core = LNetCore(configuration)
        let key = core.accepted(
            remoteAddress: low.address, remotePort: 1023, now: Ticks(nanoseconds: 1))
        feed(&core, key, asked)
        #expect(output(&core, key) == answered)
        feed(&core, key, push)
        var sent = output(&core, key)
        #expect(Array(sent.prefix(96)) == pushAck)
        sent.removeFirst(96)
        sent.replaceSubrange(56..<72, with: pushBack[56..<72])
        sent.replaceSubrange(120..<124, with: pushBack[120..<124])
        #expect(sent == pushBack)
        #expect(core.peerInfo(low)?.primary == low)
        #expect(core.peerInfo(low)?.state.contains(.multiRail) == true)
    }

    @Test func `our ping of a real node has a real node's bytes`() {
        var core = LNetCore(
            LNetConfiguration(nid: low, incarnation: 0x18ea_8d32_9f31_34d3, seed: 1))
        let id = core.ping(high, timeout: .seconds(1), now: Ticks(nanoseconds: 1000))
        guard
            case .connect(let key, from: low.ip, to: high.ip, port: 988, true)? =
                core.actions.popFirst()
        else {
            Issue.record("no connect from a privileged port")
            return
        }
        core.established(key, now: Ticks(nanoseconds: 1000))
        #expect(core.actions.popFirst() == .flush(connectionKey: key))
        #expect(output(&core, key) == asked)
        feed(&core, key, answered)
        var sent = output(&core, key)
        let handle = Array(sent[56..<72])
        sent.replaceSubrange(56..<72, with: get[56..<72])
        #expect(sent == get)
        var answer = reply
        answer.replaceSubrange(56..<72, with: handle)
        feed(&core, key, answer)
        #expect(core.events.popFirst() == .peerUp(high))
        guard case .pinged(let ping)? = core.events.popFirst() else {
            Issue.record("no ping result")
            return
        }
        #expect(ping.id == id && ping.errno == 0 && ping.roundTrip.nanoseconds == 1000)
        let info = core.pingInfo(ping)
        #expect(info?.interfaces == [.init(nid: high)])
        #expect(info?.features.rawValue == 0x1e && info?.sequence == 4)
    }

    @Test(arguments: [1, 17, 1000])
    func `a real node's ping and push are answered with a real node's bytes`(piece: Int) {
        var configuration = LNetConfiguration(
            nid: high, incarnation: 0x18ea_8d32_bf17_cd84, seed: 1)
        configuration.pingFeatures = PingInfo.Features(rawValue: 0x1e)
        var core = LNetCore(configuration)
        let key = core.accepted(
            remoteAddress: low.address, remotePort: 1023, now: Ticks(nanoseconds: 1))
        func exchange(_ bytes: [UInt8]) -> [UInt8] {
            for start in stride(from: 0, to: bytes.count, by: piece) {
                feed(&core, key, Array(bytes[start..<min(bytes.count, start + piece)]))
            }
            return output(&core, key)
        }
        #expect(exchange(asked) == answered)
        var expected = reply
        // Our interfaces never change: the sequence stays 1.
        expected[96 + 24] = 1
        #expect(exchange(get) == expected)
        #expect(exchange(push) == pushAck)
        #expect(core.counters.errors == 0 && core.counters.dropCount == 0)
        #expect(core.connectionCount == 1)
    }

    @Test func `nodes ping each other, and a ping of nobody says why it failed`() {
        var net = Network(seed: 9)
        net.add()
        net.add()
        var ids = [net.nodes[0].ping(Network.nid(1), timeout: .seconds(1), now: net.now)]
        ids.append(net.nodes[1].ping(Network.nid(0), timeout: .seconds(1), now: net.now))
        ids.append(net.nodes[0].ping(Network.nid(7), timeout: .seconds(1), now: net.now))
        ids.append(net.nodes[0].ping(Network.nid(0), timeout: .seconds(1), now: net.now))
        net.run(.seconds(2))
        for (node, id, target, errno) in [
            (0, ids[0], 1, Int32(0)), (1, ids[1], 0, 0), (0, ids[2], 7, 111), (0, ids[3], 0, 0),
        ] {
            let results = zip(net.events[node], net.payloads[node]).compactMap { event, payload in
                if case .pinged(let ping) = event, ping.id == id { (ping, payload) } else { nil }
            }
            #expect(results.count == 1)
            guard let (ping, payload) = results.first else { continue }
            #expect(ping.errno == errno && ping.nid == Network.nid(target))
            let info = RawSpan.over(payload) { try? PingInfo(parsing: $0) }
            #expect(info?.interfaces == (errno == 0 ? [.init(nid: Network.nid(target))] : nil))
        }
        #expect(net.nodes[0].pendingCount == 0)
    }

    @Test func `a ping that is not answered times out`() {
        var core = LNetCore(LNetConfiguration(nid: low, incarnation: 1, seed: 1))
        let id = core.ping(high, timeout: .milliseconds(10), now: .zero)
        #expect(core.nextDeadline == Ticks.zero + .milliseconds(10))
        core.tick(Ticks.zero + .milliseconds(10))
        guard case .pinged(let ping)? = core.events.popFirst() else {
            Issue.record("no ping result")
            return
        }
        #expect(ping.id == id && ping.errno == LNetErrno.timedOut)
        #expect(core.pingInfo(ping) == nil)
    }
}
