internal import CFabric
internal import EventLoop
public import Primitives

extension TCPTransport {
    /// Source (8 bits), generation (32) and index (24): an event of a descriptor that was closed
    /// earlier in the batch carries an old generation, even where the number was given to a new
    /// socket.
    func token(of handle: SlotHandle) -> UInt64 {
        precondition(handle.index < 1 << 24, "a process has fewer descriptors than that")
        return UInt64(source) << 56 | UInt64(handle.generation) << 24 | UInt64(handle.index)
    }

    @inlinable
    static func handle(ofToken token: UInt64) -> SlotHandle {
        SlotHandle(
            index: UInt32(truncatingIfNeeded: token & 0xff_ffff),
            generation: UInt32(truncatingIfNeeded: token >> 24))
    }

    /// Tells the kernel what to report of a socket, where that is news.
    mutating func watch(_ handle: SlotHandle, _ interest: Readiness) throws(FabricError) {
        guard let socket = sockets[handle] else { return }
        if !socket.watched {
            try loop.add(socket.descriptor, interest, token: token(of: handle))
        } else if socket.interest != interest {
            try loop.modify(socket.descriptor, interest, token: token(of: handle))
        } else {
            return
        }
        sockets.update(handle) {
            $0.watched = true
            $0.interest = interest
        }
    }

    mutating func watchOrLose(_ handle: SlotHandle, _ interest: Readiness) {
        do {
            try watch(handle, interest)
        } catch {
            lose(handle, errno: error.errno)
        }
    }

    /// Brings what the kernel reports of a connection in line with what its owner wants.
    mutating func watchAsNeeded(_ handle: SlotHandle) {
        guard let socket = sockets[handle], socket.role == .established else { return }
        var interest: Readiness = socket.paused ? [] : [.readable]
        if socket.blocked { interest.insert(.writable) }
        watchOrLose(handle, interest)
    }

    /// Notes that a socket is no more; its owner is told at the next turn.
    mutating func lose(_ handle: SlotHandle, errno: Int32) {
        let isNews = sockets.update(handle) { socket in
            switch socket.role {
            case .connecting:
                socket.role = .connectFailed
            case .established:
                socket.role = .lost
            case .listening, .connectFailed, .lost:
                // The kernel keeps what it knows of a listener, so changing that cannot fail.
                return false
            }
            socket.errno = errno
            return true
        }
        if isNews == true { lost.append(handle) }
    }

    /// Closes the descriptor and frees the place.
    mutating func drop(_ handle: SlotHandle) {
        guard let socket = sockets.remove(handle), socket.descriptor >= 0 else { return }
        // Closing takes it out of the loop's set as well: descriptors are never duplicated.
        _ = fabric_descriptor_close(socket.descriptor)
    }

    func localEndpoint(_ handle: SlotHandle) -> Endpoint? {
        guard let socket = sockets[handle], socket.descriptor >= 0 else { return nil }
        var endpoint = fabric_endpoint()
        // SAFETY: the out-parameter outlives the call.
        let status = unsafe fabric_socket_local_endpoint(socket.descriptor, &endpoint)
        return status == 0 ? Endpoint(endpoint) : nil
    }
}

extension Endpoint {
    init(_ endpoint: fabric_endpoint) {
        self.init(
            address: IPAddress(high: endpoint.high, low: endpoint.low), port: endpoint.port)
    }
}
