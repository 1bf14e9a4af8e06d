import EventLoop
import Primitives
import Testing

@testable import TCPTransport

@Suite struct EchoTests {
    @Test(arguments: [
        1, 2, 63, 64, 65, 4095, 4096, 4097, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145,
        3_000_001,
    ])
    func `what is sent comes back whole and in order`(byteCount: Int) throws {
        var bench = try Bench()
        bench.recorder.echoes = true
        let port = try bench.listen()
        let sent = pattern(byteCount, seed: UInt64(byteCount))
        bench.recorder.output[1] = sent
        _ = bench.transport.connect(id: 1, from: Bench.home, to: Bench.home, port: port)
        try bench.run { recorder, _ in recorder.bytes[1, default: []].count >= byteCount }
        #expect(bench.recorder.bytes[1] == sent)
        #expect(bench.transport.counters.receivedBytes == UInt64(2 * byteCount))
        #expect(bench.transport.counters.sentBytes == UInt64(2 * byteCount))
    }

    @Test func `one event never carries more than the scratch buffer holds`() throws {
        var options = TCPTransport.Options()
        options.receiveBytesMax = 1000
        var bench = try Bench(options)
        bench.recorder.echoes = true
        let port = try bench.listen()
        let sent = pattern(20_000)
        bench.recorder.output[1] = sent
        _ = bench.transport.connect(id: 1, from: Bench.home, to: Bench.home, port: port)
        try bench.run { recorder, _ in recorder.bytes[1, default: []].count >= sent.count }
        #expect(bench.recorder.bytes[1] == sent)
        for event in bench.recorder.events {
            if case .received(_, let byteCount) = event { #expect(byteCount <= 1000) }
        }
    }

    @Test func `five hundred nodes with own addresses talk on one loop`() throws {
        try Host.raiseDescriptorLimit()
        var bench = try Bench()
        bench.recorder.echoes = true
        let port = try bench.listen()
        let nodeCount: UInt64 = 500
        for node in 1...nodeCount {
            bench.recorder.output[node] = pattern(100, seed: node)
            _ = bench.transport.connect(
                id: node, from: 0x7f01_0000 + UInt32(node), to: Bench.home, port: port)
        }
        try bench.run { recorder, _ in
            (1...nodeCount).allSatisfy { recorder.bytes[$0, default: []].count >= 100 }
        }
        for node in 1...nodeCount {
            #expect(bench.recorder.bytes[node] == pattern(100, seed: node))
        }
        let addresses = Set(bench.recorder.accepted.map(\.peer.address.v4))
        #expect(addresses == Set((1...nodeCount).map { 0x7f01_0000 + UInt32($0) }))
        #expect(bench.transport.socketCount == 2 * Int(nodeCount) + 1)
    }

    @Test func `a send that was half taken goes on when told writable`() throws {
        var options = TCPTransport.Options()
        options.sendBufferBytes = 4096
        options.receiveBufferBytes = 4096
        var bench = try Bench(options)
        let (client, _) = try bench.connectPair()
        let sent = pattern(1_000_000)
        bench.recorder.send(sent, to: 1, on: &bench.transport)
        #expect(bench.recorder.output[1] != nil, "a tiny buffer does not take it whole")
        #expect(bench.transport.canSend(client) == false)
        // Nothing is taken out of turn while the owner waits.
        #expect(RawSpan.over([1, 2, 3]) { bench.transport.send(client, $0) } == 0)
        try bench.run { recorder, _ in recorder.bytes[1000, default: []].count >= sent.count }
        #expect(bench.recorder.bytes[1000] == sent)
        #expect(bench.recorder.events.contains(.writable(1)))
        #expect(bench.transport.counters.blockedSends > 0)
        #expect(bench.transport.canSend(client) == true)
    }

    @Test func `a head and a body arrive as one run of bytes`() throws {
        var bench = try Bench()
        let (client, _) = try bench.connectPair()
        let head = pattern(72)
        let body = pattern(5000, seed: 2)
        let taken = RawSpan.over(head) { head in
            RawSpan.over(body) { body in bench.transport.send(client, head, body) }
        }
        #expect(taken == 5072)
        let empty = RawSpan.over(head) { head in
            RawSpan.over([]) { body in bench.transport.send(client, head, body) }
        }
        #expect(empty == 72)
        #expect(bench.transport.counters.sends == 2)
        try bench.run { recorder, _ in recorder.bytes[1000, default: []].count >= 5144 }
        #expect(bench.recorder.bytes[1000] == head + body + head)
    }

    @Test func `a small message and its answer cost a poll, a receive and a send each`() throws {
        var bench = try Bench()
        let (client, _) = try bench.connectPair()
        bench.recorder.echoes = true
        let polls = bench.loop.counters.polls
        let registrations = bench.loop.counters.registrations
        let rounds = 100
        bench.recorder.react = { recorder, event, _, transport in
            guard event == .received(1, byteCount: 64) else { return }
            if recorder.bytes[1]!.count < 64 * rounds {
                recorder.send(pattern(64), to: 1, on: &transport)
            }
        }
        #expect(RawSpan.over(pattern(64)) { bench.transport.send(client, $0) } == 64)
        try bench.run { recorder, _ in recorder.bytes[1, default: []].count >= 64 * rounds }
        #expect(bench.transport.counters.receives == UInt64(2 * rounds))
        #expect(bench.transport.counters.sends == UInt64(2 * rounds))
        // One poll more than messages where an iteration found nothing yet.
        #expect(bench.loop.counters.polls - polls <= UInt64(2 * rounds + 2))
        #expect(bench.loop.counters.registrations == registrations)
    }

    @Test func `nothing to send costs nothing`() throws {
        var bench = try Bench()
        let (client, _) = try bench.connectPair()
        #expect(RawSpan.over([]) { bench.transport.send(client, $0) } == 0)
        var offset = 3
        #expect(bench.transport.send(client, from: [1, 2, 3], offset: &offset) == true)
        #expect(bench.transport.counters.sends == 0)
        #expect(bench.transport.canSend(client) == true)
    }
}

extension RawSpan {
    /// Calls `body` with a view over the bytes of an array.
    static func over<R>(_ array: [UInt8], _ body: (RawSpan) -> R) -> R {
        let span = array.span
        // SAFETY: the span borrows `array` for the call.
        return unsafe body(span.bytes)
    }
}
