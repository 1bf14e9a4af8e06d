/// A run of registered memory: where a device reads or writes a bulk payload without a copy.
///
/// Named by the place and generation of its reservation, so that a stale one is recognised. The
/// address is a number to everybody but the owner of the memory.
@frozen
public struct BulkSlot: Hashable, Sendable, BitwiseCopyable {
    /// `SlotHandle.rawValue` of the reservation; never 0.
    public var id: UInt64
    /// Where it begins, as the device and peers name it.
    public var address: UInt64
    /// How many bytes were asked for, at most 1 MiB.
    public var byteCount: UInt32
    /// From the pool of sources; otherwise from that of sinks. See `VerbsTransport`.
    public var isSource: Bool

    @inlinable
    public init(id: UInt64, address: UInt64, byteCount: UInt32, isSource: Bool) {
        self.id = id
        self.address = address
        self.byteCount = byteCount
        self.isSource = isSource
    }
}
