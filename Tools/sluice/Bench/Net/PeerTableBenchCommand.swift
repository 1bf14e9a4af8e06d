import ArgumentParser
import EventLoop
import LNetCore
import Primitives
import WireFormat

/// `sluice bench peer-table`: what many idle peers cost, in memory and in time.
struct PeerTableBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peer-table",
        abstract: "Measure what idle LNet peers cost: bytes each, and time to find one and send.",
        discussion: """
            One LNet without sockets, that so many peers have connected to, each with one open \
            connection. Series, with 100 peers and with --peers:
              find-N    the peer of a NID, NIDs in no order
              put-N     a PUT of 64 B to a peer that is known, its way chosen, until its bytes are taken

            Of 1000 operations together the mean is one sample. With many peers each is one that the \
            processor's caches have forgotten; the ratio has that in it.
            """)

    @Option(help: ArgumentHelp("How many peers there are.", valueName: "n"))
    var peers = 10_000

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (200...60_000).contains(peers) else {
            throw ValidationError("--peers must be from 200 to 60000")
        }
    }

    func run() async throws {
        var result = options.begin("peer-table")
        var few = PeerTableBench(peerCount: 100)
        var many = PeerTableBench(peerCount: peers)
        let runs = try await options.interleave(4, "peer-table") { index in
            switch index {
            case 0: few.find()
            case 1: many.find()
            case 2: few.put()
            default: many.put()
            }
        }
        let names = ["find-100", "find-\(peers)", "put-100", "put-\(peers)"]
        for (index, name) in names.enumerated() {
            result.series.append(
                BenchResult.Series(
                    name: name, parameters: ["peers": index % 2 == 0 ? "100" : "\(peers)"],
                    unit: .us, runs: runs[index]))
        }
        result.compare(names[1], to: names[0], "p50")
        result.compare(names[3], to: names[2], "p50")
        let bytes = many.tableBytes / peers
        result.facts = [
            "An idle peer with its connection: \(bytes) bytes, with the room that the tables keep for "
                + "more; wanted: fewer than 4096, \(bytes < 4096 ? "holds" : "missed"). Its socket, and "
                + "some 120 bytes that the transport and the reactor keep of it, are not in that."
        ]
        try options.finish(result)
    }
}

/// One LNet with many peers, and NIDs of them in no order.
private struct PeerTableBench {
    private var lnet: LNetCore
    private var known: [(nid: NID, peer: PeerRef)] = []
    private var order: [Int] = []
    private let payload = [UInt8](repeating: 0x5a, count: NetBenchSize.put)
    private var now = Ticks.zero + .seconds(1)
    private static let batch = 1000

    var tableBytes: Int { lnet.measureTableBytes() }

    init(peerCount: Int) {
        let own = NID(address: 10 << 24, type: .tcp)
        lnet = LNetCore(NetBenchSize.configuration(own, acceptPort: 988))
        for index in 0..<peerCount {
            let nid = NID(address: 10 << 24 | UInt32(index + 1), type: .tcp)
            let key = lnet.accepted(
                remoteAddress: nid.address, remotePort: 40_000, on: own, now: now)
            var writer = WireWriter(capacity: 72)
            AcceptorRequest(nid: own).encode(into: &writer)
            SockLNDHello(
                source: ProcessID(nid: nid), destination: own, incarnation: 1, type: .control
            ).encode(into: &writer)
            RawSpan.over(writer.bytes) { lnet.received(key, $0, now: now) }
            settle()
            known.append((nid, lnet.peer(for: nid)))
            lnet.release(known[index].peer)
        }
        var random = SplitMix64(seed: 7)
        order = (0..<Self.batch * 32).map { _ in
            Int(random.next() % UInt64(peerCount))
        }
    }

    private mutating func settle() {
        while let action = lnet.actions.popFirst() {
            if case .flush(let key) = action { _ = lnet.withOutput(key) { $0.byteCount } }
        }
        lnet.events.removeAll()
    }

    mutating func find() -> BenchResult.Run {
        measure { lnet, known, _, now in
            let peer = lnet.peer(for: known.nid)
            lnet.release(peer)
        }
    }

    mutating func put() -> BenchResult.Run {
        measure { lnet, known, payload, now in
            _ = lnet.put(
                to: known.peer, portal: NetBenchSize.portal, matchBits: 0, payload: payload,
                now: now)
            while let action = lnet.actions.popFirst() {
                if case .flush(let key) = action { _ = lnet.withOutput(key) { $0.byteCount } }
            }
        }
    }

    private mutating func measure(
        _ body: (inout LNetCore, (nid: NID, peer: PeerRef), [UInt8], Ticks) -> Void
    ) -> BenchResult.Run {
        var recorder = Recorder()
        for start in stride(from: 0, to: order.count, by: Self.batch) {
            let began = Host.monotonicNow
            for index in start..<(start + Self.batch) {
                body(&lnet, known[order[index]], payload, now)
            }
            let taken = Host.monotonicNow - began
            recorder.record(taken.nanoseconds / UInt64(Self.batch))
        }
        return recorder.run(unit: .us)
    }
}
