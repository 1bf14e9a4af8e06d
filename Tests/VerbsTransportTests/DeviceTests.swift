import EventLoop
import Primitives
import TestSupport
import Testing

@testable import VerbsTransport

/// What one end of a cable tells.
private struct Recorder: VerbsTransportHandler {
    enum Event: Equatable {
        case requested(UInt32, [UInt8])
        case established([UInt8])
        case refused(Int32, [UInt8])
        case received([UInt8])
        case completed(UInt64)
        case writable
        case closed(VerbsFailure)
        case granted(UInt64, BulkSlot)
    }

    var events: [Event] = []
    var connection: VerbsRef?
    var remoteKey: UInt32 = 0
    /// What a request is answered with; nil: rejected.
    var acceptance: [UInt8]? = [1, 2, 3]

    private func copy(_ bytes: RawSpan) -> [UInt8] {
        (0..<bytes.byteCount).map { index in
            // SAFETY: the range bounds the index.
            unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
        }
    }

    mutating func requested(
        _ request: VerbsRequest, privateData: RawSpan, on transport: inout VerbsTransport
    ) -> UInt64 {
        events.append(.requested(request.listenerTag, copy(privateData)))
        if let acceptance {
            transport.accept(request.connection, privateData: acceptance)
        } else {
            transport.reject(request.connection, privateData: [9, 9])
        }
        return 5
    }

    mutating func established(
        _ connection: VerbsRef, word: UInt64, privateData: RawSpan, remoteKey: UInt32,
        on transport: inout VerbsTransport
    ) {
        self.connection = connection
        self.remoteKey = remoteKey
        events.append(.established(copy(privateData)))
    }

    mutating func refused(
        _ connection: VerbsRef, word: UInt64, reason: Int32, privateData: RawSpan,
        on transport: inout VerbsTransport
    ) { events.append(.refused(reason, copy(privateData))) }

    mutating func received(
        _ connection: VerbsRef, word: UInt64, bytes: RawSpan, on transport: inout VerbsTransport
    ) { events.append(.received(copy(bytes))) }

    mutating func completed(
        _ connection: VerbsRef, word: UInt64, work: UInt64, on transport: inout VerbsTransport
    ) { events.append(.completed(work)) }

    mutating func writable(
        _ connection: VerbsRef, word: UInt64, on transport: inout VerbsTransport
    ) { events.append(.writable) }

    mutating func closed(
        _ connection: VerbsRef, word: UInt64, failure: VerbsFailure,
        on transport: inout VerbsTransport
    ) { events.append(.closed(failure)) }

    mutating func granted(
        _ slot: BulkSlot, request: UInt64, on transport: inout VerbsTransport
    ) { events.append(.granted(request, slot)) }
}

/// One end, with a loop of its own that runs only when the test says so.
private struct Side: ~Copyable, EventHandler {
    let loop: EventLoop
    var transport: VerbsTransport
    var recorder = Recorder()
    var turnsLeft = 0
    var until = Ticks.distantFuture

    init(_ options: VerbsTransport.Options = .init()) throws {
        // Both before either, for what cannot be copied is not half initialized.
        let loop = try EventLoop()
        let transport = try VerbsTransport(on: loop, options: options)
        self.loop = loop
        self.transport = transport
    }

    mutating func ready(_ token: UInt64, _ readiness: Readiness, on loop: EventLoop) {
        transport.ready(token, readiness, handler: &recorder)
    }

    mutating func turn(on loop: EventLoop) -> Ticks {
        transport.turn(handler: &recorder)
        if loop.now >= until { loop.stop() }
        return min(transport.nextDeadline, until)
    }

    mutating func willSleep(on loop: EventLoop) -> Bool {
        transport.willSleep(handler: &recorder)
    }

    struct NoMemory: Error {}

    mutating func memory(_ byteCount: Int, isSource: Bool) throws -> BulkSlot {
        guard let slot = transport.reserve(byteCount, isSource: isSource, request: 0) else {
            throw NoMemory()
        }
        return slot
    }

    /// Runs the loop for a while.
    mutating func run(_ interval: TickInterval = .milliseconds(20)) throws {
        until = Host.monotonicNow + interval
        let loop = loop
        try loop.run(&self)
    }
}

private enum Cable {
    static let near: UInt32 = 0x0A4D_0001
    static let far: UInt32 = 0x0A4D_0002

    static let isThere: Bool = {
        do {
            var side = try Side()
            _ = try side.transport.listen(address: near, port: 0, tag: 0)
            _ = try side.transport.listen(address: far, port: 0, tag: 0)
            return true
        } catch {
            return false
        }
    }()
}

@Suite(
    .serialized, .timeLimit(.minutes(3)),
    .enabled(
        if: RDMAFabric.isPromised || Cable.isThere,
        "no RDMA device has 10.77.0.1 and .2: run in Tools/rxe-fabric"))
struct `A queue pair` {
    private func join(
        _ near: inout Side, _ far: inout Side,
        until isDone: (borrowing Side, borrowing Side) -> Bool
    ) throws {
        for _ in 0..<400 {
            if isDone(near, far) { return }
            try near.run(.milliseconds(10))
            try far.run(.milliseconds(10))
        }
        Issue.record("near \(near.recorder.events), far \(far.recorder.events)")
    }

    private func connect(_ near: inout Side, _ far: inout Side) throws {
        let listener = try far.transport.listen(address: Cable.far, port: 0, tag: 7)
        let port = far.transport.port(of: listener) ?? 0
        _ = near.transport.connect(
            id: 1, from: Cable.near, to: Cable.far, port: port, privateData: [4, 5, 6])
        try join(&near, &far) {
            $0.recorder.connection != nil && $1.recorder.connection != nil
        }
    }

    private func send(_ side: inout Side, _ bytes: [UInt8], tells: Bool = false) -> Bool {
        let connection = side.recorder.connection!
        let span = bytes.span
        // SAFETY: UInt8 has no padding; the span borrows the local for the call.
        let isPosted = unsafe side.transport.send(connection, span.bytes, work: 77, tells: tells)
        side.transport.commit()
        return isPosted
    }

    @Test func `private data goes both ways, and messages of every size arrive`() throws {
        var near = try Side()
        var far = try Side()
        try connect(&near, &far)
        guard case .requested(7, let asked) = far.recorder.events.first,
            case .established(let answered) = near.recorder.events.first
        else {
            Issue.record("near \(near.recorder.events), far \(far.recorder.events)")
            return
        }
        #expect(asked.prefix(3) == [4, 5, 6])
        #expect(answered.prefix(3) == [1, 2, 3])
        for size in [1, 64, 415, 416, 417, 512, 513, 4096] {
            far.recorder.events.removeAll()
            let isPosted = send(&near, [UInt8](repeating: UInt8(size & 255), count: size))
            #expect(isPosted)
            try join(&near, &far) { !$1.recorder.events.isEmpty }
            #expect(
                far.recorder.events
                    == [.received([UInt8](repeating: UInt8(size & 255), count: size))])
        }
    }

    @Test func `a request can be rejected, and the reason arrives`() throws {
        var near = try Side()
        var far = try Side()
        far.recorder.acceptance = nil
        let listener = try far.transport.listen(address: Cable.far, port: 0, tag: 7)
        _ = near.transport.connect(
            id: 1, from: Cable.near, to: Cable.far, port: far.transport.port(of: listener) ?? 0,
            privateData: [4])
        try join(&near, &far) { near, _ in !near.recorder.events.isEmpty }
        guard case .refused(28, let reason) = near.recorder.events.first else {
            Issue.record("\(near.recorder.events)")
            return
        }
        #expect(reason.prefix(2) == [9, 9])
        let pairCount = near.transport.pairCount
        #expect(pairCount == 0)
    }

    @Test func `nobody listens: that is told, too`() throws {
        var near = try Side()
        _ = near.transport.connect(
            id: 1, from: Cable.near, to: Cable.far, port: 1_999, privateData: [4])
        for _ in 0..<500 where near.recorder.events.isEmpty { try near.run() }
        switch near.recorder.events.first {
        case .refused, .closed: break
        default: Issue.record("\(near.recorder.events)")
        }
    }

    @Test func `bulk is written into the peer's registered memory`() throws {
        var near = try Side()
        var far = try Side()
        try connect(&near, &far)
        let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let source = try near.memory(200_000, isSource: true)
        let sink = try far.memory(200_000, isSource: false)
        let span = bytes.span
        // SAFETY: as above.
        unsafe near.transport.fill(source, from: span.bytes)
        let isPosted = near.transport.write(
            near.recorder.connection!, from: source.address, byteCount: 200_000,
            to: sink.address, remoteKey: far.recorder.remoteKey)
        #expect(isPosted)
        let isSent = send(&near, [1], tells: true)
        #expect(isSent)
        try join(&near, &far) {
            $0.recorder.events.contains(.completed(77))
                && $1.recorder.events.contains(.received([1]))
        }
        let landed = far.transport.withSlot(sink, byteCount: 200_000) { span in
            unsafe span.withUnsafeBytes { unsafe [UInt8]($0) }
        }
        #expect(landed == bytes)
    }

    @Test func `a key that was never given ends the connection at both ends, and says why`() throws
    {
        var near = try Side()
        var far = try Side()
        try connect(&near, &far)
        let source = try near.memory(4096, isSource: true)
        let sink = try far.memory(4096, isSource: false)
        _ = near.transport.write(
            near.recorder.connection!, from: source.address, byteCount: 4096, to: sink.address,
            remoteKey: far.recorder.remoteKey ^ 0x5555)
        _ = send(&near, [1], tells: true)
        try join(&near, &far) { near, far in
            func isOver(_ events: [Recorder.Event]) -> Bool {
                events.contains { if case .closed = $0 { true } else { false } }
            }
            return isOver(near.recorder.events) && isOver(far.recorder.events)
        }
        #expect(
            near.recorder.events.contains(.closed(VerbsFailure(errno: 13, status: 10))),
            "\(near.recorder.events)")
        #expect(!far.recorder.events.contains(.received([1])))
        let pairCount = near.transport.pairCount
        #expect(pairCount == 0)
    }

    @Test func `a peer that never posts receives: the sender gives up, and says why`() throws {
        var options = VerbsTransport.Options()
        options.receiveBuffers = 1
        var near = try Side()
        var far = try Side(options)
        try connect(&near, &far)
        // The far end sleeps from here on: its one buffer is not posted again.
        for _ in 0..<3 { _ = send(&near, [1], tells: true) }
        for _ in 0..<400 {
            if near.recorder.events.contains(where: { if case .closed = $0 { true } else { false } }
            ) {
                break
            }
            try near.run(.milliseconds(50))
        }
        #expect(
            near.recorder.events.contains(.closed(VerbsFailure(errno: 105, status: 13))),
            "\(near.recorder.events)")
    }

    @Test func `a broken queue pair is noticed by both ends, and all buffers come back`() throws {
        var near = try Side()
        var far = try Side()
        try connect(&near, &far)
        for _ in 0..<8 { _ = send(&near, [UInt8](repeating: 1, count: 4000)) }
        let count = near.transport.breakAllPairs()
        #expect(count == 1)
        try join(&near, &far) {
            $0.transport.pairCount == 0 && $1.transport.pairCount == 1
        }
        let freeSends = near.transport.devices.compactMap { $0?.freeSends.count }
        #expect(freeSends == [512])
        // And again, on the same devices.
        near.recorder = Recorder()
        far.recorder = Recorder()
        try connect(&near, &far)
        let isPosted = send(&near, [3])
        #expect(isPosted)
        try join(&near, &far) { $1.recorder.events.contains(.received([3])) }
    }

    @Test func `what does not fit waits, and is granted in order`() throws {
        var options = VerbsTransport.Options()
        options.bulkBytes = 4 << 20
        var side = try Side(options)
        var held: [BulkSlot] = []
        for _ in 0..<3 {
            held.append(try side.memory(1 << 20, isSource: false))
        }
        let large = side.transport.reserve(1 << 20, isSource: false, request: 11)
        let small = side.transport.reserve(4096, isSource: false, request: 12)
        #expect(large == nil && small == nil)
        // Sources have their own.
        let source = try side.memory(4096, isSource: true)
        side.transport.release(source)
        side.transport.release(held[1])
        side.transport.release(held[2])
        try side.run()
        let granted = side.recorder.events.compactMap { event -> UInt64? in
            if case .granted(let request, _) = event { request } else { nil }
        }
        #expect(granted == [11, 12])
    }
}
