internal import CFabric
public import EventLoop
internal import Glibc
public import Primitives

extension TCPTransport {
    /// Handles one readiness event of the loop whose token carries this transport's source.
    @inlinable
    public mutating func ready<Handler: TCPTransportHandler & ~Copyable>(
        _ token: UInt64, _ readiness: Readiness, handler: inout Handler
    ) {
        let handle = Self.handle(ofToken: token)
        guard let socket = sockets[handle] else {
            noteStale()
            return
        }
        switch socket.role {
        case .listening:
            accept(handle, socket, &handler)
        case .connecting:
            finishConnecting(handle, socket, &handler)
        case .established:
            if socket.paused {
                if !readiness.isDisjoint(with: [.hangup, .error]) { endPaused(handle, &handler) }
            } else if !readiness.isDisjoint(with: [.readable, .hangup, .error]) {
                receive(handle, socket, &handler)
            }
            if readiness.contains(.writable) { resume(handle, &handler) }
        case .connectFailed, .lost:
            // It is told at the next turn.
            break
        }
    }

    /// Tells what no readiness event could tell, and lets listeners work again that had to rest.
    /// Once per iteration, from the owner's own `turn`.
    @inlinable
    public mutating func turn<Handler: TCPTransportHandler & ~Copyable>(
        handler: inout Handler
    ) {
        if !lost.isEmpty { tellLosses(&handler) }
        if !resting.isEmpty { endRests() }
    }

    /// Takes what has come since on the connection that brought the last bytes; false where nothing
    /// has. Costs one system call.
    @inlinable
    public mutating func takeHot<Handler: TCPTransportHandler & ~Copyable>(
        handler: inout Handler
    ) -> Bool {
        guard let socket = sockets[hot], socket.role == .established, !socket.paused else {
            return false
        }
        return receive(hot, socket, &handler)
    }

    @usableFromInline
    mutating func noteStale() { counters.staleEvents += 1 }

    /// When `turn` is needed next at the latest.
    @inlinable
    public var nextDeadline: Ticks {
        guard lost.isEmpty else { return .zero }
        guard !resting.isEmpty else { return .distantFuture }
        return resting.reduce(.distantFuture) { min($0, $1.until) }
    }

    // MARK: Listeners

    @usableFromInline
    mutating func accept<Handler: TCPTransportHandler & ~Copyable>(
        _ listener: SlotHandle, _ socket: Socket, _ handler: inout Handler
    ) {
        for _ in 0..<options.acceptsMax {
            var peer = fabric_endpoint()
            // SAFETY: the out-parameter outlives the call.
            let descriptor = unsafe fabric_socket_accept(socket.descriptor, &peer)
            switch -descriptor {
            case ...0:
                break
            case EAGAIN:
                return
            case EMFILE, ENFILE, ENOBUFS, ENOMEM:
                // The connection stays in the kernel's queue and the listener stays ready: without
                // a rest this would spin until somebody closes something.
                counters.acceptBackoffs += 1
                resting.append(Rest(listener: listener, until: loop.now + options.acceptBackoff))
                watchOrLose(listener, [])
                return
            default:
                // The peer gave up while it waited (ECONNABORTED and its like, see accept(2)): the
                // next.
                continue
            }
            counters.accepts += 1
            let handle = sockets.insert(Socket(descriptor: descriptor, role: .established, word: 0))
            let localAddress = bound[listener] ?? localEndpoint(handle)?.address ?? IPAddress(v4: 0)
            let accepted = AcceptedConnection(
                connection: ConnectionRef(handle: handle),
                listenerTag: UInt32(truncatingIfNeeded: socket.word),
                peer: Endpoint(peer),
                localAddress: localAddress)
            if let word = handler.accepted(accepted, on: &self) {
                sockets.update(handle) { $0.word = word }
                watchAsNeeded(handle)
            } else {
                drop(handle)
            }
            guard sockets.contains(listener) else { return }
        }
    }

    @usableFromInline
    mutating func endRests() {
        let now = loop.now
        var kept = 0
        for index in resting.indices {
            let rest = resting[index]
            if rest.until <= now {
                watchOrLose(rest.listener, [.readable])
            } else {
                resting[kept] = rest
                kept += 1
            }
        }
        resting.removeLast(resting.count - kept)
    }

    // MARK: Connections

    @usableFromInline
    mutating func finishConnecting<Handler: TCPTransportHandler & ~Copyable>(
        _ handle: SlotHandle, _ socket: Socket, _ handler: inout Handler
    ) {
        let status = fabric_socket_take_error(socket.descriptor)
        guard status == 0 else {
            counters.connectFailures += 1
            drop(handle)
            handler.connectFailed(
                ConnectionRef(handle: handle), word: socket.word, errno: -status, on: &self)
            return
        }
        sockets.update(handle) { $0.role = .established }
        handler.established(ConnectionRef(handle: handle), word: socket.word, on: &self)
        watchAsNeeded(handle)
    }

    /// False where there was nothing.
    @inlinable
    @discardableResult
    mutating func receive<Handler: TCPTransportHandler & ~Copyable>(
        _ handle: SlotHandle, _ socket: Socket, _ handler: inout Handler
    ) -> Bool {
        let count = receive(socket.descriptor)
        switch count {
        case 1...:
            hot = handle
            // SAFETY: the kernel filled `count` bytes; the view ends with the call, and nobody
            // writes the buffer meanwhile, since handlers cannot make the transport receive.
            let bytes = unsafe UnsafeRawBufferPointer(start: scratch, count: count)
            handler.received(
                ConnectionRef(handle: handle), word: socket.word,
                bytes: unsafe RawSpan(_unsafeBytes: bytes), on: &self)
            return true
        case Self.again:
            return false
        default:
            end(handle, errno: Int32(clamping: -count), &handler)
            return true
        }
    }

    /// What `receive` returns where there is nothing now.
    @usableFromInline
    static var again: Int { .min }

    /// How many bytes came into the scratch buffer; 0 at the end, a negative error number, `again`.
    @usableFromInline
    mutating func receive(_ descriptor: Int32) -> Int {
        counters.receives += 1
        // One receive per event: a second one would mostly learn that there is no more, and what is
        // left is reported again, after everybody else's.
        // SAFETY: the scratch buffer has that size.
        let count = unsafe fabric_socket_receive(descriptor, scratch, options.receiveBytesMax)
        if count > 0 { counters.receivedBytes += UInt64(count) }
        return count == -Int(EAGAIN) || count == -Int(EINTR) ? Self.again : count
    }

    @usableFromInline
    mutating func resume<Handler: TCPTransportHandler & ~Copyable>(
        _ handle: SlotHandle, _ handler: inout Handler
    ) {
        guard let socket = sockets[handle], socket.role == .established, socket.blocked else {
            return
        }
        // The interest stays as it is until the owner has sent: where it fills the socket again, as
        // a bulk transfer does, nothing has to change in the kernel.
        sockets.update(handle) { $0.blocked = false }
        handler.writable(ConnectionRef(handle: handle), word: socket.word, on: &self)
        watchAsNeeded(handle)
    }

    /// The peer of a connection whose owner does not read is gone.
    @usableFromInline
    mutating func endPaused<Handler: TCPTransportHandler & ~Copyable>(
        _ handle: SlotHandle, _ handler: inout Handler
    ) {
        guard let socket = sockets[handle] else { return }
        if socket.blocked {
            // The owner may be waiting for just this output before it reads again: tell it.
            let errno = -fabric_socket_take_error(socket.descriptor)
            end(handle, errno: errno == 0 ? EPIPE : errno, &handler)
        } else {
            // What came in before may still be read: keep it, but take the descriptor out of the
            // set, which would report it without end.
            try? loop.remove(socket.descriptor)
            sockets.update(handle) {
                $0.watched = false
                $0.interest = []
            }
        }
    }

    @usableFromInline
    mutating func end<Handler: TCPTransportHandler & ~Copyable>(
        _ handle: SlotHandle, errno: Int32, _ handler: inout Handler
    ) {
        guard let socket = sockets[handle] else { return }
        counters.peerCloses += 1
        drop(handle)
        handler.closed(ConnectionRef(handle: handle), word: socket.word, errno: errno, on: &self)
    }

    @usableFromInline
    mutating func tellLosses<Handler: TCPTransportHandler & ~Copyable>(
        _ handler: inout Handler
    ) {
        // Losses that happen while these are told wait for the next turn.
        swap(&lost, &lostSpare)
        for index in lostSpare.indices {
            let handle = lostSpare[index]
            // The owner may have closed it meanwhile.
            guard let socket = sockets[handle] else { continue }
            if socket.role == .connectFailed {
                counters.connectFailures += 1
                drop(handle)
                handler.connectFailed(
                    ConnectionRef(handle: handle), word: socket.word, errno: socket.errno,
                    on: &self)
            } else {
                end(handle, errno: socket.errno, &handler)
            }
        }
        lostSpare.removeAll(keepingCapacity: true)
    }
}
