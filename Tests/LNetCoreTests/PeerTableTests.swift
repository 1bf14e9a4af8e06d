import LNetCore
import Primitives
import Testing
import WireFormat

@Suite struct `many idle peers` {
    @Test func `ten thousand cost less than 4 KiB each beside their sockets, and are found`() {
        let own = NID(address: 10 << 24, type: .tcp)
        var lnet = LNetCore(LNetConfiguration(nid: own, incarnation: 1, seed: 1))
        let peerCount = 10_000
        var now = Ticks.zero + .seconds(1)
        for index in 0..<peerCount {
            let nid = NID(address: own.address + 1 + UInt32(index), type: .tcp)
            let key = lnet.accepted(
                remoteAddress: nid.address, remotePort: 1000, on: own, now: now)
            var writer = WireWriter(capacity: 72)
            AcceptorRequest(nid: own).encode(into: &writer)
            SockLNDHello(
                source: ProcessID(nid: nid), destination: own, incarnation: 1, type: .control
            ).encode(into: &writer)
            RawSpan.over(writer.bytes) { lnet.received(key, $0, now: now) }
            while let action = lnet.actions.popFirst() {
                if case .flush(let key) = action { _ = lnet.withOutput(key) { $0.byteCount } }
            }
            lnet.events.removeAll()
            now = now + .microseconds(10)
        }
        #expect(lnet.peerCount == peerCount)
        #expect(lnet.connectionCount == peerCount)
        #expect(lnet.measureHeldBytes() < 1 << 20, "idle connections hold no buffers")
        let bytes = lnet.measureTableBytes() / peerCount
        #expect(bytes < 4096)
        #expect(bytes > 100, "the count counts")
        let last = lnet.peer(for: NID(address: own.address + UInt32(peerCount), type: .tcp))
        #expect(lnet.isConnected(last))
    }
}
