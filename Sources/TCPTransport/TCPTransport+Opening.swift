internal import CFabric
public import EventLoop
internal import Glibc
public import Primitives

extension TCPTransport {
    /// Accepts connections to `address` (0 for every address of IPv4) and `port` (0 to let the
    /// kernel choose).
    ///
    /// `tag` comes back with every connection that is accepted.
    public mutating func listen(
        address: UInt32, port: UInt16, tag: UInt32
    ) throws(FabricError) -> ListenerID {
        try listen(address: IPAddress(v4: address), port: port, tag: tag)
    }

    /// As above, at an address of either version.
    public mutating func listen(
        address: IPAddress, port: UInt16, tag: UInt32
    ) throws(FabricError) -> ListenerID {
        let descriptor = try FabricError.check(Self.create(for: address), "socket")
        let handle = sockets.insert(
            Socket(
                descriptor: descriptor, role: .listening, word: UInt64(tag)))
        do {
            try FabricError.check(
                fabric_socket_set_reuse_address(descriptor, 1), "setsockopt(SO_REUSEADDR)")
            // What is set here is inherited by every accepted connection, for no further calls.
            try tune(descriptor)
            try FabricError.check(Self.bind(descriptor, address, port), "bind")
            try FabricError.check(fabric_socket_listen(descriptor, options.backlog), "listen")
            try watch(handle, [.readable])
        } catch {
            drop(handle)
            throw error
        }
        if !address.isAny { bound[handle] = address }
        return ListenerID(handle: handle)
    }

    /// Stops to accept. Connections that were accepted stay; ones that wait in the kernel are
    /// refused.
    public mutating func close(_ listener: ListenerID) {
        guard let socket = sockets[listener.handle], socket.role == .listening else { return }
        drop(listener.handle)
        bound[listener.handle] = nil
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
        connect(
            id: id, from: IPAddress(v4: from), to: IPAddress(v4: to), port: port,
            privileged: privileged)
    }

    /// As above, between addresses of either version: of the same.
    public mutating func connect(
        id: UInt64, from: IPAddress, to: IPAddress, port: UInt16, privileged: Bool = false
    ) -> ConnectionRef {
        precondition(from.isV4 == to.isV4, "both ends have addresses of one version")
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
        from: IPAddress, to: IPAddress, port: UInt16, privileged: Bool, options: Options
    ) -> (descriptor: Int32, errno: Int32) {
        var sourcePort: UInt16 = 1023
        while true {
            let descriptor = create(for: to)
            guard descriptor >= 0 else { return (-1, -descriptor) }
            var status: Int32
            do {
                try tune(descriptor, options)
                status = bind(descriptor, from, firstPrivileged: privileged ? sourcePort : nil)
            } catch {
                status = -error.errno
            }
            if status >= 0 {
                if privileged { sourcePort = UInt16(truncatingIfNeeded: status) }
                status =
                    to.isV4
                    ? fabric_socket_connect(descriptor, to.v4, port)
                    : fabric_socket_connect_v6(descriptor, to.high, to.low, port)
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
        _ descriptor: Int32, _ address: IPAddress, firstPrivileged firstPrivilegedPort: UInt16?
    ) -> Int32 {
        if let firstPrivilegedPort {
            let status = fabric_socket_set_reuse_address(descriptor, 1)
            guard status >= 0 else { return status }
            return address.isV4
                ? fabric_socket_bind_privileged(descriptor, address.v4, firstPrivilegedPort)
                : fabric_socket_bind_privileged_v6(
                    descriptor, address.high, address.low, firstPrivilegedPort)
        }
        guard !address.isAny else { return 0 }
        let status = fabric_socket_set_bind_without_port(descriptor, 1)
        guard status >= 0 else { return status }
        return bind(descriptor, address, UInt16(0))
    }

    private static func create(for address: IPAddress) -> Int32 {
        address.isV4 ? fabric_socket_create() : fabric_socket_create_v6()
    }

    private static func bind(
        _ descriptor: Int32, _ address: IPAddress, _ port: UInt16
    ) -> Int32 {
        address.isV4
            ? fabric_socket_bind(descriptor, address.v4, port)
            : fabric_socket_bind_v6(descriptor, address.high, address.low, port)
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
