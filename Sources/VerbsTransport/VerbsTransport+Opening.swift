internal import CFabric
public import EventLoop
internal import Glibc
internal import Primitives

extension VerbsTransport {
    // MARK: Listening

    /// Accepts requests to connect to `address` (0 for every address) and `port` (0 to let the
    /// library choose). `tag` comes back with every request.
    ///
    /// ENODEV where the address is on no RDMA device. A listener whose device goes away later
    /// comes back with it.
    public mutating func listen(
        address: UInt32, port: UInt16, tag: UInt32
    ) throws(FabricError) -> VerbsListenerID {
        var pair = unsafe VerbsPair(identifier: nil, role: .listening, word: UInt64(tag))
        pair.address = address
        pair.port = port
        let handle = pairs.insert(pair)
        do throws(FabricError) {
            try open(handle)
        } catch {
            pairs.remove(handle)
            throw error
        }
        return VerbsListenerID(handle: handle)
    }

    private mutating func open(_ listener: SlotHandle) throws(FabricError) {
        guard let pair = pairs[listener] else { return }
        let identifier = try unsafe create(listener)
        do throws(FabricError) {
            try FabricError.check(
                unsafe fabric_identifier_bind(identifier, pair.address, pair.port),
                "rdma_bind_addr")
            // An address of an interface without RDMA can be bound, and nobody would ever come.
            if pair.address != 0 {
                var device: OpaquePointer?
                try FabricError.check(
                    unsafe fabric_identifier_device(identifier, &device), "rdma_bind_addr")
            }
            try FabricError.check(
                unsafe fabric_identifier_listen(identifier, options.backlog), "rdma_listen")
        } catch {
            _ = unsafe fabric_identifier_destroy(identifier)
            throw error
        }
        let port = unsafe fabric_identifier_port(identifier)
        pairs.update(listener) {
            unsafe $0.identifier = identifier
            $0.role = .listening
            $0.port = UInt16(clamping: port)
        }
    }

    /// The port of a listener; nil when it was closed.
    public func port(of listener: VerbsListenerID) -> UInt16? { pairs[listener.handle]?.port }

    /// Stops to accept. Connections that were accepted stay.
    public mutating func close(_ listener: VerbsListenerID) {
        guard let pair = pairs[listener.handle],
            pair.role == .listening || pair.role == .lostListener
        else { return }
        lostListeners.removeAll { $0 == listener.handle }
        if let identifier = unsafe pair.identifier {
            _ = unsafe fabric_identifier_destroy(identifier)
        }
        pairs.remove(listener.handle)
    }

    /// Listeners whose device went away try again.
    mutating func reviveListeners() {
        nextListen = loop.now + options.listenRetry
        var kept: [SlotHandle] = []
        for listener in lostListeners where pairs.contains(listener) {
            do throws(FabricError) {
                try open(listener)
            } catch {
                kept.append(listener)
            }
        }
        lostListeners = kept
    }

    // MARK: Connecting

    /// Begins to connect from the address `from` (0 for any) to `to` and `port`, with private data
    /// of at most 56 bytes.
    ///
    /// The outcome is an event of a later iteration, also where it is known at once; `close` calls
    /// it off. `id` becomes the connection's user word. A privileged connection comes from the
    /// highest free port from 1023 down to 512.
    public mutating func connect(
        id: UInt64, from: UInt32, to: UInt32, port: UInt16, privileged: Bool = false,
        privateData: [UInt8]
    ) -> VerbsRef {
        precondition(privateData.count <= 56, "what rdma_cm leaves of a request's private data")
        counters.connects += 1
        var pair = unsafe VerbsPair(identifier: nil, role: .resolvingAddress, word: id)
        pair.privateData = privateData
        let handle = pairs.insert(pair)
        do throws(FabricError) {
            let identifier = try unsafe create(handle)
            pairs.update(handle) { unsafe $0.identifier = identifier }
            var source = from
            if privileged {
                try unsafe bindPrivileged(identifier, from)
                source = 0
            }
            try FabricError.check(
                unsafe fabric_identifier_resolve_address(
                    identifier, source, to, port, options.resolveTimeoutMs),
                "rdma_resolve_addr")
        } catch {
            fail(handle, VerbsFailure(errno: error.errno))
        }
        return VerbsRef(handle: handle)
    }

    private func bindPrivileged(
        _ identifier: OpaquePointer, _ address: UInt32
    ) throws(FabricError) {
        var port: UInt16 = 1023
        while true {
            let status = unsafe fabric_identifier_bind(identifier, address, port)
            if status == 0 { return }
            guard status == -EADDRINUSE || status == -EADDRNOTAVAIL, port > 512 else {
                throw FabricError(call: "rdma_bind_addr", errno: -status)
            }
            port -= 1
        }
    }

    private func create(_ handle: SlotHandle) throws(FabricError) -> OpaquePointer {
        var identifier: OpaquePointer?
        try FabricError.check(
            unsafe fabric_identifier_create(cm, handle.rawValue, &identifier), "rdma_create_id")
        return unsafe identifier!
    }

    /// Accepts a request with private data of at most 196 bytes. A failure is told as `closed`.
    public mutating func accept(_ connection: VerbsRef, privateData: [UInt8]) {
        let handle = connection.handle
        guard let pair = pairs[handle], pair.role == .requested,
            let identifier = unsafe pair.identifier
        else { return }
        counters.accepts += 1
        do throws(FabricError) {
            try makePair(handle)
            // From here on the peer's messages may come, before the event that says so.
            pairs.update(handle) { $0.role = .accepting }
            let status = unsafe privateData.withUnsafeBytes { raw in
                // SAFETY: the view bounds the bytes, which are copied.
                unsafe fabric_identifier_accept(
                    identifier, raw.baseAddress!, UInt8(clamping: raw.count),
                    options.rnrRetryCount)
            }
            try FabricError.check(status, "rdma_accept")
        } catch {
            fail(handle, VerbsFailure(errno: error.errno))
        }
    }

    /// Rejects a request with private data of at most 148 bytes. No event for it follows.
    public mutating func reject(_ connection: VerbsRef, privateData: [UInt8]) {
        guard let pair = pairs[connection.handle], pair.role == .requested,
            let identifier = unsafe pair.identifier
        else { return }
        counters.rejects += 1
        _ = unsafe privateData.withUnsafeBytes { raw in
            // SAFETY: the view bounds the bytes, which are copied.
            unsafe fabric_identifier_reject(
                identifier, raw.baseAddress!, UInt8(clamping: raw.count))
        }
        drop(connection.handle)
    }

    // MARK: Devices

    /// The device of a bound identifier, opened where this is its first connection.
    func findDevice(_ identifier: OpaquePointer) throws(FabricError) -> (OpaquePointer, Int?) {
        var context: OpaquePointer?
        try FabricError.check(
            unsafe fabric_identifier_device(identifier, &context), "rdma_cm_id")
        let found = devices.firstIndex { device in
            guard let device else { return false }
            return unsafe device.context == context!
        }
        return unsafe (context!, found)
    }

    mutating func adoptDevice(_ identifier: OpaquePointer) throws(FabricError) -> Int {
        let (context, found) = try unsafe findDevice(identifier)
        if let found { return found }
        let device = try unsafe VerbsDevice(
            context, options: options, bulk: bulk, bulkBytes: bulkBytes)
        let place = devices.firstIndex { $0 == nil } ?? devices.count
        if place == devices.count { devices.append(nil) }
        devices[place] = device
        try loop.add(
            device.channelDescriptor, [.readable], token: token(.completions, place))
        try loop.add(device.eventDescriptor, [.readable], token: token(.deviceEvents, place))
        return place
    }

    /// Makes the queue pair of an identifier that is bound to a device.
    mutating func makePair(_ handle: SlotHandle) throws(FabricError) {
        guard let pair = pairs[handle], let identifier = unsafe pair.identifier else { return }
        let place = try unsafe adoptDevice(identifier)
        guard let device = devices[place] else { return }
        var inlineMax = min(options.inlineBytes, UInt32(WorkBatch.inlineMax))
        var number: UInt32 = 0
        var status = unsafe fabric_pair_create(
            identifier, device.domainHandle, device.queue, device.receives,
            device.sendEntriesMax, &inlineMax, &number)
        if status == -EINVAL {
            // More was wanted to travel inline than the device grants.
            inlineMax = 0
            status = unsafe fabric_pair_create(
                identifier, device.domainHandle, device.queue, device.receives,
                device.sendEntriesMax, &inlineMax, &number)
        }
        try FabricError.check(status, "rdma_create_qp")
        device.pairCount += 1
        index.insert(PairIndex.key(number, place), handle)
        pairs.update(handle) {
            $0.device = place
            $0.number = number
            $0.inlineMax = min(inlineMax, UInt32(WorkBatch.inlineMax))
        }
    }
}
