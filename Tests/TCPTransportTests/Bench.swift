import EventLoop
import Glibc
import Primitives
import Testing

@testable import TCPTransport

/// Writes down what a transport tells, and acts on it as a test asks.
struct Recorder: TCPTransportHandler {
    enum Event: Equatable {
        case accepted(tag: UInt32, word: UInt64)
        case established(UInt64)
        case connectFailed(UInt64, errno: Int32)
        case received(UInt64, byteCount: Int)
        case writable(UInt64)
        case closed(UInt64, errno: Int32)
    }

    var events: [Event] = []
    var accepted: [AcceptedConnection] = []
    var connections: [UInt64: ConnectionRef] = [:]
    var bytes: [UInt64: [UInt8]] = [:]
    /// What is still to be sent, by word; sent as far as possible whenever there is room.
    var output: [UInt64: [UInt8]] = [:]
    /// Accepted connections are named from here upwards.
    var nextWord: UInt64 = 1000
    var echoes = false
    var refusesAll = false
    var react: (inout Recorder, Event, ConnectionRef, inout TCPTransport) -> Void = { _, _, _, _ in
    }

    mutating func note(
        _ event: Event, _ connection: ConnectionRef, _ transport: inout TCPTransport
    ) {
        events.append(event)
        let react = react
        react(&self, event, connection, &transport)
    }

    mutating func send(_ bytes: [UInt8], to word: UInt64, on transport: inout TCPTransport) {
        output[word, default: []] += bytes
        flush(word, &transport)
    }

    mutating func flush(_ word: UInt64, _ transport: inout TCPTransport) {
        guard let connection = connections[word], let waiting = output[word] else { return }
        var offset = 0
        let whole = transport.send(connection, from: waiting, offset: &offset)
        output[word] = whole ? nil : Array(waiting[offset...])
    }

    mutating func accepted(
        _ accepted: AcceptedConnection, on transport: inout TCPTransport
    ) -> UInt64? {
        self.accepted.append(accepted)
        guard !refusesAll else { return nil }
        let word = nextWord
        nextWord += 1
        connections[word] = accepted.connection
        note(.accepted(tag: accepted.listenerTag, word: word), accepted.connection, &transport)
        return word
    }

    mutating func established(
        _ connection: ConnectionRef, word: UInt64, on transport: inout TCPTransport
    ) {
        connections[word] = connection
        note(.established(word), connection, &transport)
        flush(word, &transport)
    }

    mutating func connectFailed(
        _ connection: ConnectionRef, word: UInt64, errno: Int32,
        on transport: inout TCPTransport
    ) {
        note(.connectFailed(word, errno: errno), connection, &transport)
    }

    mutating func received(
        _ connection: ConnectionRef, word: UInt64, bytes: RawSpan,
        on transport: inout TCPTransport
    ) {
        let copy = unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
        self.bytes[word, default: []] += copy
        if echoes && word >= 1000 { send(copy, to: word, on: &transport) }
        note(.received(word, byteCount: copy.count), connection, &transport)
    }

    mutating func writable(
        _ connection: ConnectionRef, word: UInt64, on transport: inout TCPTransport
    ) {
        note(.writable(word), connection, &transport)
        flush(word, &transport)
    }

    mutating func closed(
        _ connection: ConnectionRef, word: UInt64, errno: Int32,
        on transport: inout TCPTransport
    ) {
        connections[word] = nil
        note(.closed(word, errno: errno), connection, &transport)
    }
}

/// A loop with one transport whose sockets talk to each other over 127.x, run on the test's own
/// thread.
struct Bench: ~Copyable, EventHandler {
    static let home: UInt32 = 0x7f00_0001

    let loop: EventLoop
    var transport: TCPTransport
    var recorder = Recorder()
    var done: (inout Recorder, inout TCPTransport) -> Bool = { _, _ in true }
    /// Far beyond any honest run: a test that hangs fails instead.
    var giveUpAt = Ticks.distantFuture
    var gaveUp = false

    init(_ options: TCPTransport.Options = .init(), spin: TickInterval = .zero) throws {
        loop = try EventLoop(spin: spin)
        transport = TCPTransport(on: loop, options: options)
    }

    mutating func ready(_ token: UInt64, _ readiness: Readiness, on loop: EventLoop) {
        transport.ready(token, readiness, handler: &recorder)
    }

    mutating func turn(on loop: EventLoop) -> Ticks {
        transport.turn(handler: &recorder)
        if done(&recorder, &transport) { loop.stop() }
        if loop.now > giveUpAt {
            gaveUp = true
            loop.stop()
        }
        return min(transport.nextDeadline, giveUpAt)
    }

    /// Runs the loop until `done`, which is asked once per iteration.
    mutating func run(
        sourceLocation: SourceLocation = #_sourceLocation,
        until done: @escaping (inout Recorder, inout TCPTransport) -> Bool
    ) throws {
        self.done = done
        giveUpAt = Host.monotonicNow + .seconds(60)
        try loop.run(&self)
        #expect(!gaveUp, "\(recorder.events.suffix(10))", sourceLocation: sourceLocation)
    }

    /// A listener on 127.0.0.1 and a port of the kernel's choice. Returns the port.
    mutating func listen(tag: UInt32 = 7) throws -> UInt16 {
        let listener = try transport.listen(address: Self.home, port: 0, tag: tag)
        return try port(of: listener)
    }

    func port(of listener: ListenerID) throws -> UInt16 {
        let endpoint = transport.endpoint(of: listener)
        return try #require(endpoint).port
    }

    static func limitDescriptors(to count: Int32) throws {
        let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        try #require(unsafe getrlimit(kind, &limit) == 0)
        limit.rlim_cur = rlim_t(count)
        try #require(unsafe setrlimit(kind, &limit) == 0)
    }

    /// A connection from 127.0.0.1 to 127.0.0.1, established and accepted: words 1 and 1000.
    mutating func connectPair() throws -> (client: ConnectionRef, server: ConnectionRef) {
        let port = try listen()
        _ = transport.connect(id: 1, from: Self.home, to: Self.home, port: port)
        try run { recorder, _ in recorder.connections.count == 2 }
        return (
            try #require(recorder.connections[1]), try #require(recorder.connections[1000])
        )
    }
}

/// Bytes in which a lost, doubled or swapped piece shows.
func pattern(_ byteCount: Int, seed: UInt64 = 1) -> [UInt8] {
    var random = SplitMix64(seed: seed)
    return (0..<byteCount).map { _ in UInt8(truncatingIfNeeded: random.next()) }
}
