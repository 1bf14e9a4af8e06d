import EventLoop
import LNDCore
import LNetCore
import Primitives
import TestSupport
import Testing
import VerbsTransport
import WireFormat

@testable import NodeRuntime

/// A peer that says what the test wants it to say, over a queue pair of its own.
private struct Stranger: ~Copyable, EventHandler {
    private struct Ears: VerbsTransportHandler {
        var connection: VerbsRef?
        /// What the node said when it accepted.
        var acceptance: [UInt8] = []
        var rejection: [UInt8]?
        var isClosed = false

        mutating func requested(
            _ request: VerbsRequest, privateData: RawSpan, on transport: inout VerbsTransport
        ) -> UInt64 { 0 }
        mutating func established(
            _ connection: VerbsRef, word: UInt64, privateData: RawSpan, remoteKey: UInt32,
            on transport: inout VerbsTransport
        ) {
            self.connection = connection
            acceptance = privateData.copy(0..<privateData.byteCount)
        }
        mutating func refused(
            _ connection: VerbsRef, word: UInt64, reason: Int32, privateData: RawSpan,
            on transport: inout VerbsTransport
        ) { rejection = privateData.copy(0..<privateData.byteCount) }
        mutating func received(
            _ connection: VerbsRef, word: UInt64, bytes: RawSpan,
            on transport: inout VerbsTransport
        ) {}
        mutating func completed(
            _ connection: VerbsRef, word: UInt64, work: UInt64,
            on transport: inout VerbsTransport
        ) {}
        mutating func writable(
            _ connection: VerbsRef, word: UInt64, on transport: inout VerbsTransport
        ) {}
        mutating func closed(
            _ connection: VerbsRef, word: UInt64, failure: VerbsFailure,
            on transport: inout VerbsTransport
        ) { isClosed = true }
        mutating func granted(
            _ slot: BulkSlot, request: UInt64, on transport: inout VerbsTransport
        ) {}
    }

    let loop: EventLoop
    private var transport: VerbsTransport
    private var ears = Ears()
    private var until = Ticks.distantFuture

    init(receiveBuffers: Int? = nil) throws {
        let loop = try EventLoop()
        var options = VerbsTransport.Options()
        if let receiveBuffers { options.receiveBuffers = receiveBuffers }
        let transport = try VerbsTransport(on: loop, options: options)
        self.loop = loop
        self.transport = transport
    }

    var isConnected: Bool { ears.connection != nil }
    var isOver: Bool { ears.isClosed || ears.rejection != nil }
    var rejection: [UInt8]? { ears.rejection }
    var acceptance: [UInt8] { ears.acceptance }

    mutating func connect(_ from: NID, _ to: NID, port: UInt16, _ privateData: [UInt8]) {
        _ = transport.connect(
            id: 1, from: from.address, to: to.address, port: port, privateData: privateData)
    }

    mutating func say(_ bytes: [UInt8]) {
        guard let connection = ears.connection else { return }
        _ = RawSpan.over(bytes) { transport.send(connection, $0) }
        transport.commit()
    }

    mutating func ready(_ token: UInt64, _ readiness: Readiness, on loop: EventLoop) {
        transport.ready(token, readiness, handler: &ears)
    }
    mutating func turn(on loop: EventLoop) -> Ticks {
        transport.turn(handler: &ears)
        if loop.now >= until { loop.stop() }
        return min(transport.nextDeadline, until)
    }
    mutating func willSleep(on loop: EventLoop) -> Bool { transport.willSleep(handler: &ears) }

    mutating func run() throws {
        until = Host.monotonicNow + .milliseconds(5)
        let loop = loop
        try loop.run(&self)
    }
}

@Suite(
    .serialized, .timeLimit(.minutes(3)),
    .enabled(
        if: RDMAFabric.isPromised || Beds.rxe != nil,
        "no RDMA device has 10.77.0.1 and .2: run in Tools/rxe-fabric"))
struct `A hostile peer over verbs` {
    private let incarnation: UInt64 = 4711

    private func request(_ ends: [NID], _ stamp: UInt64 = 0) -> O2IBLNDConnection {
        O2IBLNDConnection(
            activeTo: ends[1], peerIncarnation: stamp,
            identity: O2IBLNDIdentity(nid: ends[0], incarnation: incarnation),
            parameters: O2IBLNDParameters(queueDepth: 8))
    }

    private func bed(_ ends: [NID]) throws -> (LoopBed, UInt16) {
        // A port of its own: other tests use these addresses at the same time.
        let bed = try LoopBed(ends, name: "verbs", memoryBytes: 4 << 20) {
            $0.servicePort = 10_978
        }
        return (bed, bed.with(1) { lnet, _ in lnet.configuration.servicePort })
    }

    private func join(
        _ bed: LoopBed, _ stranger: inout Stranger, until isDone: (borrowing Stranger) -> Bool
    ) throws {
        for _ in 0..<2000 {
            if isDone(stranger) { return }
            try stranger.run()
            bed.step(2)
        }
        Issue.record("nothing came of it")
    }

    @Test func `private data that is wrong is rejected with the protocol's reason, and counted`()
        throws
    {
        let ends = try #require(Beds.rxe)
        let (bed, port) = try bed(ends)
        let good = request(ends).request()
        func changed(_ place: Int, _ byte: UInt8) -> [UInt8] {
            var bytes = good
            bytes[place] ^= byte
            return bytes
        }
        let cases: [([UInt8], O2IBLNDReject.Reason, O2IBLNDFault)] = [
            (changed(0, 1), .fatal, .badMagic), (changed(4, 3), .incompatible, .badVersion),
            (changed(6, 1), .fatal, .badKind), (changed(8, 64), .fatal, .badPrivateData),
            (changed(32, 1), .fatal, .wrongNID), (changed(40, 7), .stale, .staleRequest),
            (changed(16, 4), .fatal, .stranger), (changed(49, 1), .queueDepth, .badQueueDepth),
            (changed(51, 2), .fragments, .badFragments),
        ]
        for (index, (bytes, reason, fault)) in cases.enumerated() {
            var stranger = try Stranger()
            stranger.connect(ends[0], ends[1], port: port, bytes)
            try join(bed, &stranger) { $0.isOver }
            let told = stranger.rejection ?? []
            let rejection = RawSpan.over(told) { try? O2IBLNDReject(parsing: $0) }
            #expect(rejection?.reason == reason, "case \(index)")
            #expect(bed.with(1) { lnet, _ in lnet.counters[fault] } == 1, "case \(index)")
        }
        #expect(bed.with(1) { lnet, _ in lnet.counters.rejected(.fatal) } == 5)
        #expect(bed.with(1) { lnet, _ in lnet.counters.connectionsOpened } == 0)
    }

    @Test(
        arguments: [
            (7, 9, .creditsOverreturned), (32, 1, .wrongPeer), (24, 1, .wrongStamp),
            (6, 0x20, .badKind), (0, 1, .badMagic),
        ] as [(Int, UInt8, O2IBLNDFault)])
    func `a message that breaks the rules ends the connection, and is counted`(
        place: Int, change: UInt8, fault: O2IBLNDFault
    ) throws {
        let ends = try #require(Beds.rxe)
        let (bed, port) = try bed(ends)
        let conversation = request(ends)
        var stranger = try Stranger()
        stranger.connect(ends[0], ends[1], port: port, conversation.request())
        try join(bed, &stranger) { $0.isConnected }
        let stamp = bed.with(1) { lnet, _ in lnet.configuration.incarnation }
        let header = O2IBLNDHeader(
            kind: .noop, byteCount: 48, source: ends[0], sourceStamp: incarnation,
            destination: ends[1], destinationStamp: stamp)
        var writer = WireWriter()
        header.encode(into: &writer)
        var bytes = writer.bytes
        // As it should be it is taken.
        stranger.say(bytes)
        for _ in 0..<20 {
            try stranger.run()
            bed.step(2)
        }
        let wasOver = stranger.isOver
        #expect(!wasOver)
        bytes[place] ^= change
        stranger.say(bytes)
        try join(bed, &stranger) { $0.isOver }
        #expect(bed.with(1) { lnet, _ in lnet.counters[fault] } == 1)
        try bed.expectNoStrays()
    }

    /// What `sluice net show -v` prints of a node.
    private func shown(_ bed: LoopBed, _ node: Int) throws -> String {
        let (reports, configuration, counters) = bed.with(node) { lnet, _ in
            (lnet.interfaceReports, lnet.configuration, lnet.counters)
        }
        let nets = ControlRouter.nets(reports, configuration, counters, verbose: true)
        return try NetworkDocument(net: nets).text()
    }

    @Test func `a key that does not match ends the connection, and net show says so`() throws {
        let ends = try #require(Beds.rxe)
        let (bed, port) = try bed(ends)
        bed.with(1) { lnet, _ in
            _ = lnet.attach(
                portal: 7, matchBits: 1,
                MemoryDescriptor(
                    memory: .buffer([UInt8](repeating: 9, count: 100_000)),
                    options: [.get, .manageRemote]), cookie: 1)
        }
        var conversation = request(ends)
        var stranger = try Stranger()
        stranger.connect(ends[0], ends[1], port: port, conversation.request())
        try join(bed, &stranger) { $0.isConnected }
        let acceptance = stranger.acceptance
        let fault = RawSpan.over(acceptance) { conversation.acknowledged($0) }
        #expect(fault == nil)
        // It asks for bytes, to be written where the node was never allowed to write.
        conversation.askGet(
            LNetHeader(
                destination: ProcessID(nid: ends[1]), source: ProcessID(nid: ends[0]),
                payloadLength: 0,
                body: .get(
                    returnTo: .none, matchBits: 1, portal: 7, offset: 0, sinkLength: 100_000)),
            address: 0x1000, key: 0x5555, byteCount: 100_000, user: 1)
        var question: [UInt8] = []
        _ = conversation.offer { _, frame in
            question = frame.copy(0..<frame.byteCount)
            return true
        }
        stranger.say(question)
        try join(bed, &stranger) { $0.isOver }
        _ = bed.run { bed.with(1) { lnet, _ in lnet.counters[.remoteAccess] } > 0 }
        let text = try shown(bed, 1)
        #expect(text.contains("lnd faults:\n") && text.contains("remote_access: 1\n"), "\(text)")
        try bed.expectNoStrays()
    }

    @Test func `a peer that posts no receives loses its connection, and net show says so`() throws {
        let ends = try #require(Beds.rxe)
        let (bed, port) = try bed(ends)
        let conversation = request(ends)
        var stranger = try Stranger(receiveBuffers: 1)
        stranger.connect(ends[0], ends[1], port: port, conversation.request())
        try join(bed, &stranger) { $0.isConnected }
        // From here on it sleeps: its one buffer takes the first message, and none the second.
        bed.with(1) { lnet, now in
            let peer = lnet.peer(for: ends[0])
            for _ in 0..<3 {
                lnet.put(to: peer, portal: 7, matchBits: 1, payload: [1, 2, 3], now: now)
            }
        }
        let isOver = bed.run { bed.with(1) { lnet, _ in lnet.counters[.receiverNotReady] } > 0 }
        #expect(isOver)
        let text = try shown(bed, 1)
        #expect(text.contains("receiver_not_ready: 1\n"), "\(text)")
        withExtendedLifetime(conversation) {}
        _ = consume stranger
    }
}
