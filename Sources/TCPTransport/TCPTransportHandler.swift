public import Primitives

/// A connection that a listener took in.
@frozen
public struct AcceptedConnection: Hashable, Sendable, BitwiseCopyable {
    public var connection: ConnectionRef
    /// The tag that the listener was made with.
    public var listenerTag: UInt32
    /// Who connected. A port below 1024 says that the peer was privileged.
    public var peer: Endpoint
    /// The address that the peer connected to.
    public var localAddress: IPAddress
}

/// What a `TCPTransport` calls: the owner of its connections.
///
/// Every event carries the connection's user word, so that the owner finds its own state without a
/// search. The transport is passed along: a handler sends, closes, connects and listens from inside
/// any event, and is never called from inside one of those.
public protocol TCPTransportHandler: ~Copyable {
    /// A listener took a connection in. Returns its user word, or nil to close it at once.
    mutating func accepted(
        _ accepted: AcceptedConnection, on transport: inout TCPTransport
    ) -> UInt64?

    /// A connection that `connect` began is there.
    mutating func established(
        _ connection: ConnectionRef, word: UInt64, on transport: inout TCPTransport)

    /// A connection that `connect` began did not come about. The reference is stale already.
    mutating func connectFailed(
        _ connection: ConnectionRef, word: UInt64, errno: Int32, on transport: inout TCPTransport)

    /// Bytes came in. They are borrowed: what is needed after the call must be copied.
    mutating func received(
        _ connection: ConnectionRef, word: UInt64, bytes: RawSpan,
        on transport: inout TCPTransport)

    /// There is room again on a connection whose last send was not taken whole.
    mutating func writable(
        _ connection: ConnectionRef, word: UInt64, on transport: inout TCPTransport)

    /// The peer ended the connection: orderly when `errno` is 0. The reference is stale already.
    mutating func closed(
        _ connection: ConnectionRef, word: UInt64, errno: Int32, on transport: inout TCPTransport)
}
