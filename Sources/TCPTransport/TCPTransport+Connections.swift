internal import CFabric
internal import EventLoop
internal import Glibc
internal import Primitives

extension TCPTransport {
    // MARK: Sending

    /// Sends as much as the kernel takes now and returns how many bytes that is.
    ///
    /// What is left stays with the caller, who is told `writable` once when there is room; until
    /// then nothing more is taken. A stale reference takes nothing; an error is told as `closed` in
    /// a later event.
    public mutating func send(_ connection: ConnectionRef, _ bytes: RawSpan) -> Int {
        guard let descriptor = descriptorToSend(connection), bytes.byteCount > 0 else { return 0 }
        let taken = unsafe bytes.withUnsafeBytes { raw in
            // SAFETY: the view bounds the bytes for the call.
            unsafe fabric_socket_send(descriptor, raw.baseAddress, raw.count)
        }
        return account(connection, taken, of: bytes.byteCount)
    }

    /// Sends a header and the bytes behind it in one call, without copying them together.
    public mutating func send(
        _ connection: ConnectionRef, _ head: RawSpan, _ body: RawSpan
    ) -> Int {
        let byteCount = head.byteCount + body.byteCount
        guard let descriptor = descriptorToSend(connection), byteCount > 0 else { return 0 }
        let taken = unsafe head.withUnsafeBytes { head in
            unsafe body.withUnsafeBytes { body in
                let slices: InlineArray<2, fabric_slice> = unsafe [
                    fabric_slice(base: head.baseAddress, length: head.count),
                    fabric_slice(base: body.baseAddress, length: body.count),
                ]
                return unsafe slices.span.withUnsafeBufferPointer { slices in
                    // SAFETY: both views bound their bytes for the call.
                    unsafe fabric_socket_send_slices(
                        descriptor, slices.baseAddress!, slices.count)
                }
            }
        }
        return account(connection, taken, of: byteCount)
    }

    /// Sends what an output buffer holds from `offset` on and advances that. True when all of it is
    /// gone.
    public mutating func send(
        _ connection: ConnectionRef, from buffer: [UInt8], offset: inout Int
    ) -> Bool {
        precondition(offset >= 0 && offset <= buffer.count, "the offset lies in the buffer")
        guard let descriptor = descriptorToSend(connection), offset < buffer.count else {
            return offset == buffer.count
        }
        let taken = unsafe buffer.withUnsafeBytes { raw in
            // SAFETY: the precondition bounds the offset.
            unsafe fabric_socket_send(
                descriptor, raw.baseAddress! + offset, raw.count - offset)
        }
        offset += account(connection, taken, of: buffer.count - offset)
        return offset == buffer.count
    }

    /// Whether a send would be tried: the connection is there and not waiting for `writable`.
    public func canSend(_ connection: ConnectionRef) -> Bool {
        descriptorToSend(connection) != nil
    }

    private func descriptorToSend(_ connection: ConnectionRef) -> Int32? {
        guard let socket = sockets[connection.handle], socket.role == .established,
            !socket.blocked
        else { return nil }
        return socket.descriptor
    }

    private mutating func account(
        _ connection: ConnectionRef, _ taken: Int, of byteCount: Int
    ) -> Int {
        counters.sends += 1
        if taken == byteCount {
            counters.sentBytes += UInt64(taken)
            return taken
        }
        switch taken {
        case 0..., -Int(EAGAIN), -Int(EINTR), -Int(ENOBUFS):
            counters.blockedSends += 1
            counters.sentBytes += UInt64(max(0, taken))
            sockets.update(connection.handle) { $0.blocked = true }
            watchAsNeeded(connection.handle)
            return max(0, taken)
        default:
            // Told later, never from inside a call of the owner's.
            lose(connection.handle, errno: Int32(clamping: -taken))
            return 0
        }
    }

    // MARK: Reading

    /// Stops to receive: the peer is held back by TCP's window. The end of a connection is then
    /// told only after `resumeReading`, or when something is sent.
    public mutating func pauseReading(_ connection: ConnectionRef) {
        guard sockets.update(connection.handle, { $0.paused = true }) != nil else { return }
        if sockets[connection.handle]?.watched == true { watchAsNeeded(connection.handle) }
    }

    /// Receives again.
    public mutating func resumeReading(_ connection: ConnectionRef) {
        guard sockets.update(connection.handle, { $0.paused = false }) != nil else { return }
        watchAsNeeded(connection.handle)
    }

    // MARK: Closing

    /// Ends a connection, or calls off one that is being made. No event for it follows.
    ///
    /// What the kernel took is still delivered, unless bytes of the peer's are unread: then the
    /// kernel resets the connection (RFC 2525, section 2.17).
    public mutating func close(_ connection: ConnectionRef) {
        guard let socket = sockets[connection.handle], socket.role != .listening else { return }
        drop(connection.handle)
    }

    /// Ends a connection with a reset and throws away what the kernel still holds for the peer. No
    /// event for it follows.
    public mutating func abort(_ connection: ConnectionRef) {
        guard let socket = sockets[connection.handle], socket.role != .listening else { return }
        if socket.descriptor >= 0 { _ = fabric_socket_set_reset_on_close(socket.descriptor) }
        drop(connection.handle)
    }

    // MARK: Looking

    /// Whether the connection is there and established.
    public func isEstablished(_ connection: ConnectionRef) -> Bool {
        sockets[connection.handle]?.role == .established
    }

    /// The word that comes back in every event of a connection; nil when the reference is stale.
    public func userWord(of connection: ConnectionRef) -> UInt64? {
        sockets[connection.handle]?.word
    }

    /// Gives a connection another user word. A stale reference is ignored.
    public mutating func setUserWord(_ word: UInt64, of connection: ConnectionRef) {
        guard let socket = sockets[connection.handle], socket.role != .listening else { return }
        sockets.update(connection.handle) { $0.word = word }
    }

    /// Our end of a connection; nil when the reference is stale.
    public func localEndpoint(of connection: ConnectionRef) -> Endpoint? {
        localEndpoint(connection.handle)
    }

    /// The peer's end of a connection; nil when it is stale or not established.
    public func peerEndpoint(of connection: ConnectionRef) -> Endpoint? {
        guard let socket = sockets[connection.handle], socket.descriptor >= 0 else { return nil }
        var endpoint = fabric_endpoint()
        // SAFETY: the out-parameter outlives the call.
        let status = unsafe fabric_socket_peer_endpoint(socket.descriptor, &endpoint)
        return status == 0 ? Endpoint(endpoint) : nil
    }
}
