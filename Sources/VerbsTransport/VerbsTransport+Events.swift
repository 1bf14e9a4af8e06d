internal import CFabric
public import EventLoop
internal import Glibc
public import Primitives

extension VerbsTransport {
    /// Handles one readiness event of the loop whose token carries this transport's source.
    public mutating func ready<Handler: VerbsTransportHandler & ~Copyable>(
        _ token: UInt64, _ readiness: Readiness, handler: inout Handler
    ) {
        let place = Int(token & 0xffff_ffff)
        switch Descriptor(rawValue: token >> 32 & 0xff_ffff) {
        case .connections:
            takeConnectionEvents(&handler)
        case .completions:
            // The completions are taken by the turn that follows; the signal itself only when what
            // they brought about is on its way: by `willSleep`, or at its next report.
            if place < devices.count, let device = devices[place] {
                if device.isSignalled {
                    counters.signals += 1
                    device.takeSignal()
                } else {
                    device.isSignalled = true
                }
            }
        case .deviceEvents:
            takeDeviceEvents(place, &handler)
        case nil:
            break
        }
    }

    /// Takes completions and tells what no readiness event could tell. Once per iteration.
    public mutating func turn<Handler: VerbsTransportHandler & ~Copyable>(
        handler: inout Handler
    ) {
        var isUseful = false
        var tries = loop.spin > .zero ? options.pollsPerTurn : 1
        while tries > 0 {
            tries -= 1
            if poll(&handler) {
                isUseful = true
                break
            }
        }
        if !failed.isEmpty {
            tellFailures(&handler)
            isUseful = true
        }
        if bulkFreed { serveBulkWaiters(&handler) }
        if !lostListeners.isEmpty, nextListen <= loop.now { reviveListeners() }
        if batch.count > 0 { commit() }
        if isUseful { loop.noteUseful() }
    }

    /// Asks devices to signal, as the loop is about to sleep. False where something came in
    /// meanwhile: then the loop must not sleep.
    public mutating func willSleep<Handler: VerbsTransportHandler & ~Copyable>(
        handler: inout Handler
    ) -> Bool {
        var mayRest = true
        for place in devices.indices {
            guard let device = devices[place] else { continue }
            if device.isSignalled {
                counters.signals += 1
                device.takeSignal()
            }
            guard !device.isArmed else { continue }
            device.isArmed = true
            guard unsafe fabric_queue_arm(device.queue) == 0 else {
                device.isArmed = false
                continue
            }
            // What completed before the queue was armed signals nobody.
            if poll(place, &handler) { mayRest = false }
        }
        if batch.count > 0 { commit() }
        return mayRest && failed.isEmpty && !bulkFreed
    }

    /// When `turn` is needed next at the latest.
    ///
    /// It changes nothing: said to be mutating, it is read in place, where an owner's optional
    /// would be moved out and back, a kilobyte each way, in every iteration.
    public var nextDeadline: Ticks {
        mutating get {
            if !failed.isEmpty || bulkFreed { return .zero }
            return lostListeners.isEmpty ? .distantFuture : nextListen
        }
    }

    // MARK: Completions

    private mutating func poll<Handler: VerbsTransportHandler & ~Copyable>(
        _ handler: inout Handler
    ) -> Bool {
        var found = false
        for place in devices.indices where devices[place] != nil {
            // A bound, so that timers and other descriptors get their turn.
            for _ in 0..<8 {
                guard poll(place, &handler) else { break }
                found = true
            }
        }
        return found
    }

    private mutating func poll<Handler: VerbsTransportHandler & ~Copyable>(
        _ place: Int, _ handler: inout Handler
    ) -> Bool {
        guard let device = devices[place] else { return false }
        counters.polls += 1
        let capacity = Int32(completions.count)
        let count = unsafe completions.withUnsafeMutableBufferPointer { buffer in
            // SAFETY: the buffer has the capacity that is passed.
            unsafe fabric_queue_poll(device.queue, buffer.baseAddress!, capacity)
        }
        guard count > 0 else { return false }
        counters.completions += UInt64(count)
        for index in 0..<Int(count) {
            let completion = completions[index]
            if completion.id & VerbsDevice.receiveBit != 0 {
                receive(completion, place, device, &handler)
            } else {
                retire(completion, place, device, &handler)
            }
        }
        if !reposts.isEmpty { repost(device) }
        return true
    }

    private mutating func repost(_ device: VerbsDevice) {
        do throws(FabricError) {
            try device.postReceives(reposts)
        } catch {
            // The device is gone or going: its connections end with it.
            device.isFailing = true
        }
        reposts.removeAll(keepingCapacity: true)
    }

    private mutating func receive<Handler: VerbsTransportHandler & ~Copyable>(
        _ completion: fabric_wc, _ place: Int, _ device: VerbsDevice,
        _ handler: inout Handler
    ) {
        let buffer = Int32(truncatingIfNeeded: completion.id & 0x7fff_ffff)
        defer { reposts.append(buffer) }
        guard let handle = index.find(PairIndex.key(completion.pair_number, place)),
            let pair = pairs[handle]
        else { return }
        guard completion.status == UInt8(FABRIC_WC_SUCCESS) else {
            fail(handle, failure(completion.status))
            return
        }
        if pair.role == .accepting { establish(handle, privateData: nil, &handler) }
        guard let current = pairs[handle], current.role == .established else { return }
        counters.receives += 1
        let count = min(Int(completion.byte_count), device.messageBytes)
        // SAFETY: the device filled `count` bytes of a buffer that is posted again only after the
        // call.
        let bytes = unsafe UnsafeRawBufferPointer(start: device.receive(buffer), count: count)
        unsafe handler.received(
            VerbsRef(handle: handle), word: current.word, bytes: RawSpan(_unsafeBytes: bytes),
            on: &self)
    }

    private mutating func retire<Handler: VerbsTransportHandler & ~Copyable>(
        _ completion: fabric_wc, _ place: Int, _ device: VerbsDevice,
        _ handler: inout Handler
    ) {
        guard completion.status == UInt8(FABRIC_WC_SUCCESS) else {
            if let handle = index.find(PairIndex.key(completion.pair_number, place)) {
                fail(handle, failure(completion.status))
            }
            return
        }
        let slot = SlotHandle(rawValue: completion.id).index
        guard let handle = works.handle(at: Int(slot)),
            handle.rawValue & ~VerbsDevice.receiveBit == completion.id,
            let work = works.remove(handle)
        else { return }
        if work.buffer >= 0 {
            device.freeSends.append(work.buffer)
            if !starved.isEmpty { feed(&handler) }
        }
        var wasBlocked = false
        var word: UInt64 = 0
        let isEstablished =
            pairs.update(work.pair) {
                $0.retired = work.posted
                wasBlocked = $0.isBlocked
                $0.isBlocked = false
                word = $0.word
                return $0.role == .established
            } ?? false
        guard isEstablished else { return }
        let connection = VerbsRef(handle: work.pair)
        if work.tells {
            handler.completed(connection, word: word, work: work.work, on: &self)
        }
        if wasBlocked { handler.writable(connection, word: word, on: &self) }
    }

    /// Send buffers are free again: connections that wait for one go on.
    private mutating func feed<Handler: VerbsTransportHandler & ~Copyable>(
        _ handler: inout Handler
    ) {
        let waiting = starved
        starved.removeAll()
        for handle in waiting {
            guard let pair = pairs[handle], pair.isBlocked else { continue }
            pairs.update(handle) { $0.isBlocked = false }
            handler.writable(VerbsRef(handle: handle), word: pair.word, on: &self)
        }
    }

    private func failure(_ status: UInt8) -> VerbsFailure {
        let errno: Int32 =
            switch Int32(status) {
            case FABRIC_WC_RETRY_EXCEEDED: ETIMEDOUT
            case FABRIC_WC_RNR_RETRY_EXCEEDED: ENOBUFS
            case FABRIC_WC_REMOTE_ACCESS, FABRIC_WC_REMOTE_INVALID_REQUEST: EACCES
            case FABRIC_WC_FLUSHED: ECONNRESET
            default: EIO
            }
        return VerbsFailure(errno: errno, status: status)
    }

    private mutating func tellFailures<Handler: VerbsTransportHandler & ~Copyable>(
        _ handler: inout Handler
    ) {
        let told = failed
        failed.removeAll()
        for handle in told {
            guard let pair = pairs[handle], pair.role == .failed else { continue }
            end(handle, pair.failure, &handler)
        }
    }

    /// Drops a connection and tells its owner.
    mutating func end<Handler: VerbsTransportHandler & ~Copyable>(
        _ handle: SlotHandle, _ failure: VerbsFailure, _ handler: inout Handler
    ) {
        guard let pair = pairs[handle] else { return }
        if pair.number == 0 { counters.connectFailures += 1 }
        if failure.status != 0 { counters.pairErrors += 1 }
        drop(handle)
        handler.closed(
            VerbsRef(handle: handle), word: pair.word, failure: failure, on: &self)
    }

    /// A connection stands. `privateData` nil: we are the side that accepted.
    mutating func establish<Handler: VerbsTransportHandler & ~Copyable>(
        _ handle: SlotHandle, privateData: [UInt8]?, _ handler: inout Handler
    ) {
        guard let pair = pairs[handle], pair.device >= 0, let device = devices[pair.device]
        else { return }
        pairs.update(handle) {
            $0.role = .established
            $0.privateData = []
        }
        let bytes = privateData ?? []
        let span = bytes.span
        // SAFETY: UInt8 has no padding; the span borrows the local for the call.
        unsafe handler.established(
            VerbsRef(handle: handle), word: pair.word, privateData: span.bytes,
            remoteKey: device.bulkRemoteKey, on: &self)
    }
}
