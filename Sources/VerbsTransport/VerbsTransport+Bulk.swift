public import Primitives

extension VerbsTransport {
    // MARK: Registered memory

    /// Reserves registered memory for a sink (or a user), or for a source. Nil where none is free:
    /// `granted` follows with `request`, in order.
    ///
    /// Sinks never take what sources need: a source holds memory only while the device writes from
    /// it, which comes to an end whatever peers do, so nodes that wait for each other's sinks go
    /// on.
    public mutating func reserve(
        _ byteCount: Int, isSource: Bool, request: UInt64
    ) -> BulkSlot? {
        let isFree = isSource ? sourceWaiters.isEmpty : sinkWaiters.isEmpty
        if isFree, let slot = take(byteCount, isSource) { return slot }
        counters.bulkWaits += 1
        let waiter = BulkWaiter(request: request, byteCount: byteCount)
        if isSource { sourceWaiters.append(waiter) } else { sinkWaiters.append(waiter) }
        return nil
    }

    private mutating func take(_ byteCount: Int, _ isSource: Bool) -> BulkSlot? {
        let taken = isSource ? sources.reserve(byteCount) : sinks.reserve(byteCount)
        guard let (handle, offset) = taken else { return nil }
        let start = (isSource ? sinks.byteCount : 0) + offset
        let address = unsafe UInt64(UInt(bitPattern: bulk)) + UInt64(start)
        return BulkSlot(
            id: handle.rawValue, address: address, byteCount: UInt32(byteCount),
            isSource: isSource)
    }

    /// Gives memory back. No queue pair may still read or write it. A stale slot is ours, and
    /// stops the process.
    public mutating func release(_ slot: BulkSlot) {
        let handle = SlotHandle(rawValue: slot.id)
        let wasHeld = slot.isSource ? sources.release(handle) : sinks.release(handle)
        precondition(wasHeld, "registered memory is released once")
        if !sourceWaiters.isEmpty || !sinkWaiters.isEmpty { bulkFreed = true }
    }

    /// Where a slot's bytes stand in the region. Traps for a stale slot.
    private func range(of slot: BulkSlot) -> Range<Int> {
        let handle = SlotHandle(rawValue: slot.id)
        let run = slot.isSource ? sources.run(of: handle) : sinks.run(of: handle)
        guard let run else { preconditionFailure("registered memory is used while it is held") }
        let start = (slot.isSource ? sinks.byteCount : 0) + run.lowerBound
        precondition(Int(slot.byteCount) <= run.count, "a slot is as long as it was reserved")
        return start..<(start + Int(slot.byteCount))
    }

    /// Reads a slot's first `byteCount` bytes.
    public func withSlot<R, E: Error>(
        _ slot: BulkSlot, byteCount: Int, _ body: (RawSpan) throws(E) -> R
    ) throws(E) -> R {
        let range = range(of: slot)
        precondition(byteCount >= 0 && byteCount <= range.count, "within the slot")
        // SAFETY: the range lies in the region, which lives as long as the transport.
        let bytes = unsafe UnsafeRawBufferPointer(
            start: bulk + range.lowerBound, count: byteCount)
        return try unsafe body(RawSpan(_unsafeBytes: bytes))
    }

    /// Fills a slot from its beginning, or from `offset` on.
    public mutating func fill(_ slot: BulkSlot, at offset: Int = 0, from bytes: RawSpan) {
        let range = range(of: slot)
        precondition(
            offset >= 0 && bytes.byteCount <= range.count - offset, "the slot holds the bytes")
        guard bytes.byteCount > 0 else { return }
        unsafe bytes.withUnsafeBytes { raw in
            // SAFETY: the precondition bounds the target.
            unsafe (bulk + range.lowerBound + offset).copyMemory(
                from: raw.baseAddress!, byteCount: raw.count)
        }
    }

    mutating func serveBulkWaiters<Handler: VerbsTransportHandler & ~Copyable>(
        _ handler: inout Handler
    ) {
        bulkFreed = false
        serve(isSource: true, &handler)
        serve(isSource: false, &handler)
    }

    private mutating func serve<Handler: VerbsTransportHandler & ~Copyable>(
        isSource: Bool, _ handler: inout Handler
    ) {
        while let waiter = isSource ? sourceWaiters.first : sinkWaiters.first {
            guard let slot = take(waiter.byteCount, isSource) else { return }
            _ = isSource ? sourceWaiters.popFirst() : sinkWaiters.popFirst()
            handler.granted(slot, request: waiter.request, on: &self)
        }
    }
}
