public import Primitives

/// A connection of a `VerbsTransport`: its place and the generation of that place.
@frozen
public struct VerbsRef: Hashable, Sendable, BitwiseCopyable {
    public var handle: SlotHandle

    @inlinable
    public init(handle: SlotHandle) { self.handle = handle }
    @inlinable
    public init(rawValue: UInt64) { handle = SlotHandle(rawValue: rawValue) }
    /// Never 0 for a live connection.
    @inlinable
    public var rawValue: UInt64 { handle.rawValue }
}

/// A listener of a `VerbsTransport`.
@frozen
public struct VerbsListenerID: Hashable, Sendable, BitwiseCopyable {
    public var handle: SlotHandle

    @inlinable
    public init(handle: SlotHandle) { self.handle = handle }
}
