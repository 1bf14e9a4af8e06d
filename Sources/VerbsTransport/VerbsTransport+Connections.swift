internal import CFabric
internal import EventLoop
internal import Glibc
internal import Primitives

extension VerbsTransport {
    // MARK: Posting

    /// Posts a message of at most `messageBytes`. False where there is no room now: then
    /// `writable` follows once there is.
    ///
    /// It goes out with the next `commit`, or with a later post to another connection. With
    /// `tells`, `completed` says when it and all posted before it are done.
    public mutating func send(
        _ connection: VerbsRef, _ message: RawSpan, work: UInt64 = 0, tells: Bool = false
    ) -> Bool {
        precondition(
            message.byteCount > 0 && message.byteCount <= options.messageBytes,
            "a message fits a peer's receive buffer")
        guard let pair = begin(connection.handle), let device = devices[pair.device] else {
            return false
        }
        let isInline = message.byteCount <= Int(pair.inlineMax)
        var buffer: Int32 = -1
        let target: UnsafeMutableRawPointer
        if isInline {
            unsafe target = inlineScratch + batch.count * WorkBatch.inlineMax
        } else {
            guard let free = device.freeSends.popLast() else {
                pairs.update(connection.handle) { $0.isBlocked = true }
                starved.append(connection.handle)
                return false
            }
            buffer = free
            unsafe target = device.send(free)
        }
        unsafe message.withUnsafeBytes { raw in
            // SAFETY: both targets hold a message of this length, by the tests above.
            unsafe target.copyMemory(from: raw.baseAddress!, byteCount: raw.count)
        }
        counters.sends += 1
        counters.sentBytes += UInt64(message.byteCount)
        if isInline { counters.inlineSends += 1 }
        var send = fabric_send()
        send.local = UInt64(UInt(bitPattern: target))
        send.byte_count = UInt32(message.byteCount)
        send.local_key = isInline ? 0 : device.messageKey
        send.flags = isInline ? UInt32(FABRIC_SEND_INLINE) : 0
        append(send, connection.handle, device, work: work, tells: tells, buffer: buffer)
        return true
    }

    /// Posts an RDMA WRITE from registered memory at `local` to the peer's memory. False where
    /// there is no room now.
    public mutating func write(
        _ connection: VerbsRef, from local: UInt64, byteCount: UInt32, to remote: UInt64,
        remoteKey: UInt32
    ) -> Bool {
        guard let pair = begin(connection.handle), let device = devices[pair.device] else {
            return false
        }
        let start = unsafe UInt64(UInt(bitPattern: bulk))
        precondition(
            local >= start && local - start + UInt64(byteCount) <= UInt64(bulkBytes),
            "the source is registered memory of this transport")
        counters.writes += 1
        counters.writtenBytes += UInt64(byteCount)
        var send = fabric_send()
        send.local = local
        send.byte_count = byteCount
        send.local_key = device.bulkKey
        send.remote = remote
        send.remote_key = remoteKey
        send.flags = UInt32(FABRIC_SEND_WRITE)
        append(send, connection.handle, device, work: 0, tells: false, buffer: -1)
        return true
    }

    /// Whether a post would be tried.
    public func canSend(_ connection: VerbsRef) -> Bool {
        guard let pair = pairs[connection.handle] else { return false }
        return pair.role == .established && !pair.isBlocked
    }

    /// A place in the batch for one more request of a connection.
    private mutating func begin(_ handle: SlotHandle) -> VerbsPair? {
        if batch.count > 0, batch.pair != handle || batch.count == WorkBatch.countMax { commit() }
        guard let pair = pairs[handle], pair.role == .established, !pair.isBlocked else {
            return nil
        }
        guard let device = devices[pair.device],
            pair.posted &- pair.retired < device.sendEntriesMax
        else {
            pairs.update(handle) { $0.isBlocked = true }
            return nil
        }
        return pair
    }

    private mutating func append(
        _ send: consuming fabric_send, _ handle: SlotHandle, _ device: VerbsDevice, work: UInt64,
        tells: Bool, buffer: Int32
    ) {
        var posted: UInt32 = 0
        var mustSignal = tells || buffer >= 0
        let silentMax = max(1, device.sendEntriesMax / 4)
        pairs.update(handle) {
            $0.posted &+= 1
            posted = $0.posted
            if $0.silent + 1 >= silentMax { mustSignal = true }
            $0.silent = mustSignal ? 0 : $0.silent + 1
        }
        if mustSignal {
            let signalled = works.insert(
                SignalledWork(
                    pair: handle, work: work, tells: tells, buffer: buffer, posted: posted))
            send.id = signalled.rawValue & ~VerbsDevice.receiveBit
            send.flags |= UInt32(FABRIC_SEND_SIGNALED)
        }
        batch.pair = handle
        batch.sends[batch.count] = send
        batch.count += 1
    }

    /// Hands what was posted to the device.
    public mutating func commit() {
        guard batch.count > 0, let handle = batch.pair else { return }
        let count = batch.count
        batch.count = 0
        batch.pair = nil
        guard let pair = pairs[handle], pair.role == .established,
            let identifier = unsafe pair.identifier
        else { return }
        counters.doorbells += 1
        let sends = batch.sends
        let status = unsafe sends.span.withUnsafeBufferPointer { sends in
            // SAFETY: `count` requests are filled in; what they name outlives them.
            unsafe fabric_pair_post(identifier, sends.baseAddress!, Int32(count))
        }
        guard status == Int32(count) else {
            fail(handle, VerbsFailure(errno: status < 0 ? -status : ENOBUFS))
            return
        }
    }

    // MARK: Ending

    /// Ends a connection, or calls off one that is being made. No event for it follows.
    public mutating func close(_ connection: VerbsRef) {
        guard let pair = pairs[connection.handle], pair.role != .listening,
            pair.role != .lostListener
        else { return }
        if pair.role == .requested {
            reject(connection, privateData: [])
            return
        }
        drop(connection.handle)
    }

    /// Breaks a connection's queue pair, as a fault of the fabric would: both ends lose it.
    ///
    /// For tests and `net fault`.
    public mutating func breakPair(_ connection: VerbsRef) {
        guard let pair = pairs[connection.handle], pair.role == .established,
            let identifier = unsafe pair.identifier
        else { return }
        _ = unsafe fabric_pair_fail(identifier)
        fail(connection.handle, VerbsFailure(errno: EIO, status: UInt8(FABRIC_WC_FLUSHED)))
    }

    /// Breaks every connection. Returns how many.
    @discardableResult
    public mutating func breakAllPairs() -> Int {
        var count = 0
        for handle in pairs.handles where pairs[handle]?.role == .established {
            breakPair(VerbsRef(handle: handle))
            count += 1
        }
        return count
    }

    /// Notes that a connection is over; its owner is told at the next turn.
    mutating func fail(_ handle: SlotHandle, _ failure: VerbsFailure) {
        guard let pair = pairs[handle], pair.role != .failed else { return }
        pairs.update(handle) {
            $0.role = .failed
            $0.failure = failure
        }
        failed.append(handle)
    }

    /// Frees what a connection has. From then on no memory is touched for it.
    mutating func drop(_ handle: SlotHandle) {
        guard let pair = pairs.remove(handle) else { return }
        if batch.pair == handle {
            batch.pair = nil
            batch.count = 0
        }
        if let identifier = unsafe pair.identifier {
            if pair.number != 0 {
                // Ends it at the peer, too; in any state in which it can.
                _ = unsafe fabric_identifier_disconnect(identifier)
                _ = unsafe fabric_pair_destroy(identifier)
            }
            _ = unsafe fabric_identifier_destroy(identifier)
        }
        forgetPair(pair, handle)
    }

    /// Takes a connection whose queue pair is gone out of the tables.
    mutating func forgetPair(_ pair: VerbsPair, _ handle: SlotHandle) {
        guard pair.number != 0, pair.device >= 0 else { return }
        index.remove(PairIndex.key(pair.number, pair.device))
        guard let device = devices[pair.device] else { return }
        device.pairCount -= 1
        for place in 0..<works.slotCount {
            guard let work = works.handle(at: place), works[work]?.pair == handle else { continue }
            if let removed = works.remove(work), removed.buffer >= 0 {
                device.freeSends.append(removed.buffer)
            }
        }
    }

    // MARK: Looking

    /// Whether the connection is there and established.
    public func isEstablished(_ connection: VerbsRef) -> Bool {
        pairs[connection.handle]?.role == .established
    }

    /// The name of a connection's device; nil while it has none.
    public func deviceName(of connection: VerbsRef) -> String? {
        guard let pair = pairs[connection.handle], pair.device >= 0 else { return nil }
        return devices[pair.device]?.name
    }
}
