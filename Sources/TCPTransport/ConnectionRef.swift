public import Primitives

/// A connection of a `TCPTransport`: its place and the generation of that place, so that a
/// reference to one that was closed is recognised.
@frozen
public struct ConnectionRef: Hashable, Sendable, BitwiseCopyable {
    public var handle: SlotHandle

    @inlinable
    public init(handle: SlotHandle) { self.handle = handle }
    @inlinable
    public init(rawValue: UInt64) { handle = SlotHandle(rawValue: rawValue) }
    /// Never 0 for a live connection.
    @inlinable
    public var rawValue: UInt64 { handle.rawValue }
}

/// A listener of a `TCPTransport`.
@frozen
public struct ListenerID: Hashable, Sendable, BitwiseCopyable {
    public var handle: SlotHandle

    @inlinable
    public init(handle: SlotHandle) { self.handle = handle }
}
