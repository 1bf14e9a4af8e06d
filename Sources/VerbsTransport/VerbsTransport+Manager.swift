internal import CFabric
internal import EventLoop
internal import Glibc
internal import Primitives

/// What the connection manager and the devices tell by themselves.
extension VerbsTransport {
    mutating func takeConnectionEvents<Handler: VerbsTransportHandler & ~Copyable>(
        _ handler: inout Handler
    ) {
        // A bound, so that a storm of requests leaves time for the connections that stand.
        for _ in 0..<64 {
            var event = unsafe fabric_cm_event()
            guard unsafe fabric_cm_next_event(cm, &event) == 1 else { return }
            unsafe take(event, &handler)
        }
    }

    private mutating func take<Handler: VerbsTransportHandler & ~Copyable>(
        _ event: fabric_cm_event, _ handler: inout Handler
    ) {
        let handle = unsafe SlotHandle(rawValue: event.context)
        let kind = unsafe Int32(event.kind)
        let status = unsafe event.status
        if kind == FABRIC_CM_CONNECT_REQUEST {
            unsafe takeRequest(event, listener: handle, &handler)
            return
        }
        guard let pair = pairs[handle] else { return }
        switch kind {
        case FABRIC_CM_ADDRESS_RESOLVED:
            guard pair.role == .resolvingAddress, let identifier = unsafe pair.identifier else {
                return
            }
            pairs.update(handle) { $0.role = .resolvingRoute }
            let status = unsafe fabric_identifier_resolve_route(
                identifier, options.resolveTimeoutMs)
            if status < 0 { fail(handle, VerbsFailure(errno: -status)) }
        case FABRIC_CM_ROUTE_RESOLVED:
            guard pair.role == .resolvingRoute else { return }
            askToConnect(handle)
        case FABRIC_CM_ESTABLISHED:
            switch pair.role {
            case .connecting:
                establish(handle, privateData: unsafe Self.privateData(event), &handler)
            case .accepting:
                establish(handle, privateData: nil, &handler)
            case .listening, .lostListener, .resolvingAddress, .resolvingRoute, .requested,
                .established, .failed:
                // A message of the peer's told us before.
                break
            }
        case FABRIC_CM_REJECTED:
            counters.connectFailures += 1
            let bytes = unsafe Self.privateData(event)
            drop(handle)
            let span = bytes.span
            // SAFETY: UInt8 has no padding; the span borrows the local for the call.
            unsafe handler.refused(
                VerbsRef(handle: handle), word: pair.word, reason: status,
                privateData: span.bytes, on: &self)
        case FABRIC_CM_ADDRESS_ERROR, FABRIC_CM_ROUTE_ERROR, FABRIC_CM_CONNECT_ERROR,
            FABRIC_CM_UNREACHABLE:
            end(
                handle, VerbsFailure(errno: status < 0 ? -status : EHOSTUNREACH), &handler)
        case FABRIC_CM_DISCONNECTED:
            counters.disconnects += 1
            end(handle, VerbsFailure(errno: 0), &handler)
        case FABRIC_CM_DEVICE_REMOVAL:
            counters.deviceEvents += 1
            // Every identifier on it is told; the first takes all of ours along. SAFETY: while one
            // of them lives, so does the context.
            if pair.device >= 0, let device = devices[pair.device] {
                unsafe fabric_device_gone(device.context)
                removeDevice(pair.device, &handler)
            } else if pair.role == .listening {
                removeDevice(ofListener: handle, &handler)
            } else {
                end(handle, VerbsFailure(errno: ENODEV), &handler)
            }
        default:
            break
        }
    }

    private static func privateData(_ event: fabric_cm_event) -> [UInt8] {
        let count = unsafe Int(event.private_count)
        return unsafe withUnsafeBytes(of: event.private_data) { raw in
            // SAFETY: the view bounds the array; the shim says how much of it is filled.
            unsafe [UInt8](raw.prefix(count))
        }
    }

    private mutating func takeRequest<Handler: VerbsTransportHandler & ~Copyable>(
        _ event: fabric_cm_event, listener: SlotHandle, _ handler: inout Handler
    ) {
        guard let identifier = unsafe event.identifier else { return }
        guard let owner = pairs[listener], owner.role == .listening else {
            _ = unsafe fabric_identifier_destroy(identifier)
            return
        }
        let handle = unsafe pairs.insert(
            VerbsPair(identifier: identifier, role: .requested, word: 0))
        unsafe fabric_identifier_set_context(identifier, handle.rawValue)
        let request = unsafe VerbsRequest(
            connection: VerbsRef(handle: handle),
            listenerTag: UInt32(truncatingIfNeeded: owner.word),
            peerAddress: event.peer_address, peerPort: event.peer_port)
        let bytes = unsafe Self.privateData(event)
        let span = bytes.span
        // SAFETY: UInt8 has no padding; the span borrows the local for the call.
        let word = unsafe handler.requested(request, privateData: span.bytes, on: &self)
        pairs.update(handle) { $0.word = word }
    }

    /// The way to the peer is known: makes the queue pair and sends the request.
    private mutating func askToConnect(_ handle: SlotHandle) {
        do throws(FabricError) {
            try makePair(handle)
            guard let pair = pairs[handle], let identifier = unsafe pair.identifier else { return }
            pairs.update(handle) { $0.role = .connecting }
            let status = unsafe pair.privateData.withUnsafeBytes { raw in
                // SAFETY: the view bounds the bytes, which are copied.
                unsafe fabric_identifier_connect(
                    identifier, raw.baseAddress!, UInt8(clamping: raw.count), options.retryCount,
                    options.rnrRetryCount)
            }
            try FabricError.check(status, "rdma_connect")
        } catch {
            fail(handle, VerbsFailure(errno: error.errno))
        }
    }

    // MARK: Devices

    mutating func takeDeviceEvents<Handler: VerbsTransportHandler & ~Copyable>(
        _ place: Int, _ handler: inout Handler
    ) {
        while place < devices.count, let device = devices[place] {
            var event = fabric_device_event()
            guard unsafe fabric_device_next_event(device.context, &event) == 1 else { return }
            switch Int32(event.kind) {
            case FABRIC_DEVICE_PORT_ERROR:
                counters.deviceEvents += 1
                endPairs(on: place, errno: ENETDOWN, &handler)
            case FABRIC_DEVICE_FATAL:
                counters.deviceEvents += 1
                removeDevice(place, &handler)
            case FABRIC_DEVICE_PAIR_FATAL, FABRIC_DEVICE_PAIR_REQUEST_ERROR,
                FABRIC_DEVICE_PAIR_ACCESS_ERROR:
                if let handle = index.find(PairIndex.key(event.subject, place)) {
                    let isAccess = Int32(event.kind) == FABRIC_DEVICE_PAIR_ACCESS_ERROR
                    fail(
                        handle,
                        VerbsFailure(
                            errno: isAccess ? EACCES : EIO,
                            status: UInt8(
                                isAccess
                                    ? FABRIC_WC_REMOTE_ACCESS : FABRIC_WC_REMOTE_INVALID_REQUEST)
                        ))
                }
            default:
                break
            }
        }
    }

    private mutating func endPairs<Handler: VerbsTransportHandler & ~Copyable>(
        on place: Int, errno: Int32, _ handler: inout Handler
    ) {
        for handle in pairs.handles where pairs[handle]?.device == place {
            end(handle, VerbsFailure(errno: errno), &handler)
        }
    }

    private mutating func removeDevice<Handler: VerbsTransportHandler & ~Copyable>(
        ofListener listener: SlotHandle, _ handler: inout Handler
    ) {
        guard let identifier = unsafe pairs[listener]?.identifier,
            let (context, place) = try? unsafe findDevice(identifier)
        else {
            lose(listener)
            return
        }
        // SAFETY: as above.
        unsafe fabric_device_gone(context)
        if let place { removeDevice(place, &handler) } else { lose(listener) }
    }

    private mutating func lose(_ listener: SlotHandle) {
        guard let pair = pairs[listener] else { return }
        if let identifier = unsafe pair.identifier {
            _ = unsafe fabric_identifier_destroy(identifier)
        }
        pairs.update(listener) {
            unsafe $0.identifier = nil
            $0.role = .lostListener
        }
        lostListeners.append(listener)
        nextListen = loop.now + options.listenRetry
    }

    /// A device goes away: its queue pairs, then what they share, then the identifiers, with the
    /// last of which the library lets go of the device. Owners are told afterwards.
    private mutating func removeDevice<Handler: VerbsTransportHandler & ~Copyable>(
        _ place: Int, _ handler: inout Handler
    ) {
        guard let device = devices[place] else { return }
        var lost: [(SlotHandle, VerbsPair)] = []
        var listeners: [SlotHandle] = []
        for handle in pairs.handles {
            guard let pair = pairs[handle] else { continue }
            if pair.device == place {
                if let identifier = unsafe pair.identifier {
                    _ = unsafe fabric_pair_destroy(identifier)
                }
                pairs.remove(handle)
                forgetPair(pair, handle)
                lost.append((handle, pair))
            } else if pair.role == .listening, let identifier = unsafe pair.identifier,
                (try? unsafe findDevice(identifier))?.1 == place
            {
                listeners.append(handle)
            }
        }
        if batch.count > 0, let pair = batch.pair, !pairs.contains(pair) {
            batch.count = 0
            batch.pair = nil
        }
        try? loop.remove(device.channelDescriptor)
        try? loop.remove(device.eventDescriptor)
        device.destroy()
        devices[place] = nil
        for (_, pair) in lost {
            if let identifier = unsafe pair.identifier {
                _ = unsafe fabric_identifier_destroy(identifier)
            }
        }
        for listener in listeners { lose(listener) }
        for (handle, pair) in lost {
            handler.closed(
                VerbsRef(handle: handle), word: pair.word,
                failure: VerbsFailure(errno: ENODEV), on: &self)
        }
    }
}
