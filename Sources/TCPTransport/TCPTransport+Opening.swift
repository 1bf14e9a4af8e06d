internal import CFabric
public import EventLoop
internal import Glibc
internal import Primitives

extension TCPTransport {
    /// Accepts connections to `address` (0 for every address) and `port` (0 to let the kernel
    /// choose).
    ///
    /// `tag` comes back with every connection that is accepted.
    public mutating func listen(
        address: UInt32, port: UInt16, tag: UInt32
    ) throws(FabricError) -> ListenerID {
        let descriptor = try FabricError.check(fabric_socket_create(), "socket")
        let handle = sockets.insert(
            Socket(
                descriptor: descriptor, role: .listening, word: UInt64(tag), address: address))
        do {
            try FabricError.check(
                fabric_socket_set_reuse_address(descriptor, 1), "setsockopt(SO_REUSEADDR)")
            // What is set here is inherited by every accepted connection, for no further calls.
            try tune(descriptor)
            try FabricError.check(fabric_socket_bind(descriptor, address, port), "bind")
            try FabricError.check(fabric_socket_listen(descriptor, options.backlog), "listen")
            try watch(handle, [.readable])
        } catch {
            drop(handle)
            throw error
        }
        return ListenerID(handle: handle)
    }

    /// Stops to accept. Connections that were accepted stay; ones that wait in the kernel are
    /// refused.
    public mutating func close(_ listener: ListenerID) {
        guard let socket = sockets[listener.handle], socket.role == .listening else { return }
        drop(listener.handle)
        resting.removeAll { $0.listener == listener.handle }
    }

    /// Where a listener listens, with the port that the kernel chose; nil when it was closed.
    public func endpoint(of listener: ListenerID) -> Endpoint? {
        localEndpoint(listener.handle)
    }

    /// Begins to connect from the address `from` (0 for any) to `to` and `port`.
    ///
    /// The outcome is an event of a later iteration, `established` or `connectFailed`, also where
    /// it is known at once; `close` calls it off. `id` becomes the connection's user word. A
    /// privileged connection comes from the highest free port from 1023 down to 512, as Lustre's
    /// acceptor asks for; without the right to bind one it fails with EACCES.
    public mutating func connect(
        id: UInt64, from: UInt32, to: UInt32, port: UInt16, privileged: Bool = false
    ) -> ConnectionRef {
        counters.connects += 1
        let opened = Self.open(
            from: from, to: to, port: port, privileged: privileged, options: options)
        guard opened.errno == 0 || opened.errno == EINPROGRESS else {
            let handle = sockets.insert(
                Socket(descriptor: -1, role: .connecting, word: id))
            lose(handle, errno: opened.errno)
            return ConnectionRef(handle: handle)
        }
        let handle = sockets.insert(
            Socket(descriptor: opened.descriptor, role: .connecting, word: id))
        // A connection that is there at once is writable at once, so one path serves both.
        watchOrLose(handle, [.writable])
        return ConnectionRef(handle: handle)
    }

    private static func open(
        from: UInt32, to: UInt32, port: UInt16, privileged: Bool, options: Options
    ) -> (descriptor: Int32, errno: Int32) {
        var sourcePort: UInt16 = 1023
        while true {
            let descriptor = fabric_socket_create()
            guard descriptor >= 0 else { return (-1, -descriptor) }
            var status: Int32
            do {
                try tune(descriptor, options)
                status = bind(descriptor, from, privileged ? sourcePort : nil)
            } catch {
                status = -error.errno
            }
            if status >= 0 {
                if privileged { sourcePort = UInt16(truncatingIfNeeded: status) }
                status = fabric_socket_connect(descriptor, to, port)
                if status == 0 || status == -EINPROGRESS { return (descriptor, -status) }
            }
            _ = fabric_descriptor_close(descriptor)
            // Bound with SO_REUSEADDR the port may still be taken towards this very peer, by a
            // connection that lingers: connect says so, and the next port is tried.
            guard privileged, status == -EADDRNOTAVAIL, sourcePort > 512 else {
                return (-1, -status)
            }
            sourcePort -= 1
        }
    }

    /// Returns the privileged port, 0 where there was none to choose, or a negative errno.
    private static func bind(
        _ descriptor: Int32, _ address: UInt32, _ firstPrivilegedPort: UInt16?
    ) -> Int32 {
        if let firstPrivilegedPort {
            let status = fabric_socket_set_reuse_address(descriptor, 1)
            guard status >= 0 else { return status }
            return fabric_socket_bind_privileged(descriptor, address, firstPrivilegedPort)
        }
        guard address != 0 else { return 0 }
        let status = fabric_socket_set_bind_without_port(descriptor, 1)
        guard status >= 0 else { return status }
        return fabric_socket_bind(descriptor, address, 0)
    }

    private func tune(_ descriptor: Int32) throws(FabricError) {
        try Self.tune(descriptor, options)
    }

    private static func tune(_ descriptor: Int32, _ options: Options) throws(FabricError) {
        try FabricError.check(
            fabric_socket_set_no_delay(descriptor, 1), "setsockopt(TCP_NODELAY)")
        // A peer that vanished without a word is noticed within 30 + 5 * 5 seconds, as in socklnd
        // (keepalive_idle, keepalive_intvl and keepalive_count in socklnd_modparams.c).
        try FabricError.check(
            fabric_socket_set_keepalive(descriptor, 30, 5, 5), "setsockopt(SO_KEEPALIVE)")
        if let bytes = options.sendBufferBytes {
            try FabricError.check(
                fabric_socket_set_send_buffer(descriptor, bytes), "setsockopt(SO_SNDBUF)")
        }
        if let bytes = options.receiveBufferBytes {
            try FabricError.check(
                fabric_socket_set_receive_buffer(descriptor, bytes), "setsockopt(SO_RCVBUF)")
        }
    }
}
