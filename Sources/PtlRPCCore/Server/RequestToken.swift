public import Primitives

/// A request that the owner still has to answer. A stale one is recognised: its client is gone.
@frozen
public struct RequestToken: Hashable, Sendable, BitwiseCopyable {
    @usableFromInline let slot: SlotHandle
    @inlinable
    init(_ slot: SlotHandle) { self.slot = slot }
    @inlinable
    public var rawValue: UInt64 { slot.rawValue }
    @inlinable
    public init(rawValue: UInt64) { slot = SlotHandle(rawValue: rawValue) }
}
