import LNetCore
import Primitives
import Testing
import WireFormat

@Suite struct `nodes with large NIDs` {
    private static func nid(_ last: UInt64) -> NID {
        NID(ip: IPAddress(high: 0x2001_0db8 << 32, low: last), type: .tcp)
    }
    private let a = Self.nid(1)
    private let b = Self.nid(2)

    private func pattern(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0) }
    }

    private func pair(_ seed: UInt64, discovery: Bool = false) -> Network {
        var net = Network(seed: seed)
        for nid in [a, b] {
            net.add {
                $0.nid = nid
                $0.discovery = discovery
            }
        }
        return net
    }

    @Test(arguments: Array(UInt64(1)...8))
    func `put to each other in pieces of any size, short and long`(seed: UInt64) {
        var net = pair(seed)
        net.maxPiece = seed % 2 == 0 ? 60 : 100_000
        for node in 0..<2 {
            _ = net.nodes[node].attach(
                portal: 4, matchBits: 7, ignoreBits: .max,
                MemoryDescriptor(memory: .events(), options: [.put]), cookie: 1)
        }
        for size in [0, 1, 900, 910, 5000, 70_000] {
            net.nodes[0].put(
                to: b, portal: 4, matchBits: 7, payload: pattern(size), ackCookie: UInt64(size),
                now: net.now)
            net.nodes[1].put(
                to: a, portal: 4, matchBits: 7, payload: pattern(size + 1), now: net.now)
            net.settle()
            #expect(net.payloads[1].contains(pattern(size)))
            #expect(net.payloads[0].contains(pattern(size + 1)))
            #expect(net.events[0].contains(.ack(cookie: UInt64(size), mlength: size)))
        }
        #expect(net.nodes[0].connectionCount == 3)
    }

    @Test func `get from each other`() {
        var net = pair(3)
        let source = pattern(30_000)
        _ = net.nodes[1].attach(
            portal: 5, matchBits: 9,
            MemoryDescriptor(memory: .buffer(source), options: [.get, .manageRemote]), cookie: 2)
        net.nodes[0].get(
            from: b, portal: 5, matchBits: 9, offset: 1000, length: 20_000, cookie: 3,
            now: net.now)
        net.settle()
        #expect(net.payloads[0].contains(Array(source[1000..<21_000])))
    }

    @Test func `tell their NIDs behind the small ones, the primary first`() throws {
        var net = Network(seed: 4)
        net.add { $0.nid = a }
        net.add {
            $0.nid = b
            $0.otherNIDs = [NID("10.0.0.2@tcp")!]
        }
        _ = net.nodes[0].ping(b, timeout: .seconds(5), now: net.now)
        net.settle()
        let payload = try #require(net.payloads[0].last { $0.count >= 32 })
        let info = try RawSpan.over(payload) { try PingInfo(parsing: $0) }
        #expect(info.interfaces.map(\.nid) == [b, NID("10.0.0.2@tcp")!])
        #expect(info.features.contains([.largeAddresses, .primaryLarge]))
    }

    @Test func `discover each other`() {
        var net = pair(5, discovery: true)
        _ = net.nodes[1].attach(
            portal: 4, matchBits: 7, MemoryDescriptor(memory: .events(), options: [.put]), cookie: 1
        )
        net.nodes[0].put(to: b, portal: 4, matchBits: 7, payload: pattern(64), now: net.now)
        net.settle()
        #expect(net.payloads[1].contains(pattern(64)))
        #expect(net.nodes[0].peerInfo(b)?.primary == b)
        #expect(net.nodes[0].peerInfo(b)?.state.contains(.multiRail) == true)
    }

    @Test func `are not reached from an interface with a small one`() {
        let core = LNetCore(
            LNetConfiguration(nid: NID("10.0.0.1@tcp")!, incarnation: 1, seed: 1))
        #expect(!core.isReachable(a))
    }

    @Test func `begin with the bytes of protocol 4`() {
        var core = LNetCore(LNetConfiguration(nid: a, incarnation: 5, seed: 1))
        _ = core.ping(b, timeout: .seconds(1), now: Ticks(nanoseconds: 1000))
        guard
            case .connect(let key, from: a.ip, to: b.ip, port: 988, true)? =
                core.actions.popFirst()
        else {
            Issue.record("no connect over IPv6")
            return
        }
        core.established(key, now: Ticks(nanoseconds: 1000))
        var bytes: [UInt8] = []
        core.withOutput(key) {
            bytes += $0.copy(0..<$0.byteCount)
            return $0.byteCount
        }
        var writer = WireWriter(capacity: 108)
        AcceptorRequest(nid: b).encode(into: &writer)
        SockLNDHello(
            version: 4, source: ProcessID(nid: a), destination: b, incarnation: 5, type: .control
        ).encode(into: &writer)
        #expect(bytes == writer.bytes)
        #expect(bytes.count == 108)
    }
}
