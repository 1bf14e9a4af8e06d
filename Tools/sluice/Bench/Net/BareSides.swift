import CFabric
import EventLoop
import Glibc
import Primitives
import WireFormat

/// A socket that is polled through epoll by nothing but a loop: what everything else is measured
/// against.
///
/// Not our transport on purpose: it stands for the least that a process has to do.
@safe
struct BareSocket: ~Copyable {
    let descriptor: Int32
    private let poller: Int32
    private let wait: NetBenchWait
    private let scratch: UnsafeMutableRawPointer
    /// As large as the receive buffer of `TCPTransport`.
    static let scratchSize = 256 << 10

    /// Connects to an address, within a second.
    init(to address: UInt32, port: UInt16, wait: NetBenchWait) throws {
        let descriptor = fabric_socket_create()
        let status = fabric_socket_connect(descriptor, address, port)
        guard status == 0 || status == -EINPROGRESS else {
            close(descriptor)
            throw Failure("connect: \(Machine.errnoText(-status))")
        }
        var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        // SAFETY: the one descriptor outlives the call.
        unsafe Glibc.poll(&poll, 1, 1000)
        let failure = fabric_socket_take_error(descriptor)
        guard failure == 0 else {
            close(descriptor)
            throw Failure("connect: \(Machine.errnoText(-failure))")
        }
        try self.init(descriptor, wait: wait)
    }

    /// Waits for one connection to a listener.
    init(acceptedFrom listener: Int32, wait: NetBenchWait) throws {
        var poll = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
        // SAFETY: the one descriptor outlives the call.
        unsafe Glibc.poll(&poll, 1, 20_000)
        var peer = fabric_endpoint()
        // SAFETY: the out-parameter outlives the call.
        let descriptor = unsafe fabric_socket_accept(listener, &peer)
        guard descriptor >= 0 else {
            throw Failure("accept: \(Machine.errnoText(-descriptor))")
        }
        try self.init(descriptor, wait: wait)
    }

    private init(_ descriptor: Int32, wait: NetBenchWait) throws {
        _ = fabric_socket_set_no_delay(descriptor, 1)
        self.descriptor = descriptor
        self.wait = wait
        poller = fabric_poller_create()
        unsafe scratch = .allocate(byteCount: Self.scratchSize, alignment: 4096)
        unsafe scratch.initializeMemory(
            as: UInt8.self, repeating: 0x5a, count: Self.scratchSize)
        let added = fabric_poller_add(poller, descriptor, Readiness.readable.rawValue, 1)
        guard added == 0 else { throw Failure("epoll: \(Machine.errnoText(-added))") }
    }

    deinit {
        close(descriptor)
        close(poller)
        unsafe scratch.deallocate()
    }

    /// Says that it wants to know when there is room, too.
    func watch(writable: Bool) {
        var interest: Readiness = .readable
        if writable { interest.insert(.writable) }
        _ = fabric_poller_modify(poller, descriptor, interest.rawValue, 1)
    }

    /// What the socket is ready for; waits for it.
    func ready() -> Readiness {
        var event = fabric_event(token: 0, readiness: 0, reserved: 0)
        while true {
            // SAFETY: there is room for the one event that is asked for.
            let count = unsafe fabric_poller_wait(
                poller, wait == .polling ? 0 : -1, &event, 1)
            if count > 0 { return Readiness(rawValue: event.readiness) }
        }
    }

    /// How many bytes came; 0 at the end, nil where there is nothing now.
    func receive() -> Int? {
        // SAFETY: the scratch buffer has that size.
        let count = unsafe fabric_socket_receive(descriptor, scratch, Self.scratchSize)
        if count == -Int(EAGAIN) { return nil }
        return max(0, count)
    }

    /// Sends as many bytes as the kernel takes of these.
    func send(_ byteCount: Int) -> Int {
        // SAFETY: no more than the scratch buffer holds.
        let taken = unsafe fabric_socket_send(
            descriptor, scratch, min(byteCount, Self.scratchSize))
        return max(0, taken)
    }
}

/// The side that answers, over a bare socket: returns what it used once the other has closed.
enum BareAnswerer {
    static func run(_ kind: NetBenchKind, _ socket: borrowing BareSocket) -> Usage {
        var usageBefore = Usage()
        var heard = 0
        var answered = 0
        var owed = 0
        var isWatching = false
        let (question, answer) = NetBenchSize.bytes(kind)
        if kind == .stream {
            usageBefore = .ofThread()
            // For ever, until the other side is gone.
            socket.watch(writable: true)
            while true {
                let ready = socket.ready()
                if ready.contains(.hangup) || ready.contains(.error) { break }
                if ready.contains(.readable), socket.receive() == 0 { break }
                _ = socket.send(BareSocket.scratchSize)
            }
            return .ofThread() - usageBefore
        }
        while true {
            let ready = socket.ready()
            if ready.contains(.readable) {
                guard let count = socket.receive() else { continue }
                if count == 0 { break }
                heard += count
                while heard >= question {
                    heard -= question
                    owed += answer
                    answered += 1
                    if answered == NetBenchSize.skipped { usageBefore = .ofThread() }
                }
            }
            while owed > 0 {
                let taken = socket.send(owed)
                owed -= taken
                if taken == 0 { break }
            }
            if (owed > 0) != isWatching {
                isWatching = owed > 0
                socket.watch(writable: isWatching)
            }
        }
        return .ofThread() - usageBefore
    }
}

/// The side that measures, over a bare socket.
struct BareAsker {
    var recorder: Recorder
    var began = Ticks.zero
    var ended = Ticks.zero
    var usage = Usage()
    var counted = 0

    init(
        _ kind: NetBenchKind, _ socket: borrowing BareSocket, for duration: TickInterval,
        keepsRaw: Bool
    ) throws {
        recorder = Recorder(keepsRaw: keepsRaw)
        let (question, answer) = NetBenchSize.bytes(kind)
        var sentAt: [Ticks] = []
        var oldest = 0
        let depth = NetBenchSize.depth(kind)
        if kind != .stream {
            for _ in 0..<depth {
                sentAt.append(Host.monotonicNow)
                guard socket.send(question) == question else { throw Failure("short send") }
            }
        } else {
            sentAt = [Host.monotonicNow]
        }
        var heard = 0
        var answered = 0
        var usageBefore = Usage()
        var endsAt = Ticks.distantFuture
        while true {
            _ = socket.ready()
            guard let count = socket.receive() else { continue }
            guard count > 0 else { throw Failure("the other side is gone") }
            heard += count
            var questions = 0
            while heard >= answer {
                heard -= answer
                answered += 1
                let now = Host.monotonicNow
                let taken = now - sentAt[oldest]
                if answered == NetBenchSize.skipped {
                    usageBefore = .ofThread()
                    began = now
                    endsAt = now + duration
                } else if answered > NetBenchSize.skipped {
                    recorder.record(
                        kind == .echo ? TickInterval(nanoseconds: taken.nanoseconds / 2) : taken)
                    if now >= endsAt {
                        ended = now
                        usage = .ofThread() - usageBefore
                        counted = answered - NetBenchSize.skipped
                        return
                    }
                }
                sentAt[oldest] = Host.monotonicNow
                if kind != .stream {
                    questions += question
                    oldest = (oldest + 1) % depth
                }
            }
            guard questions == 0 || socket.send(questions) == questions else {
                throw Failure("short send")
            }
        }
    }
}

extension NetBenchSize {
    /// How many bytes a question and its answer have on a bare socket: those that LNet sends.
    static func bytes(_ kind: NetBenchKind) -> (question: Int, answer: Int) {
        switch kind {
        case .put, .echo: (headers + put, headers + put)
        case .bulk: (headers + get, headers)
        case .get, .fetch, .stream: (headers, headers + get)
        // The request and LNet's ACK of the bulk; the bulk and the reply.
        case .brw, .exchange:
            (
                2 * headers + SelftestMessage.encodedSize,
                2 * headers + small + SelftestMessage.encodedSize
            )
        }
    }
}
