public import Primitives

/// Somebody wants to connect. Answer with `accept`, `reject` or `close`, at once or later.
@frozen
public struct VerbsRequest: Hashable, Sendable, BitwiseCopyable {
    public var connection: VerbsRef
    /// The tag that the listener was made with.
    public var listenerTag: UInt32
    /// IPv4 in host order.
    public var peerAddress: UInt32
    public var peerPort: UInt16

    @inlinable
    public init(
        connection: VerbsRef, listenerTag: UInt32, peerAddress: UInt32, peerPort: UInt16
    ) {
        self.connection = connection
        self.listenerTag = listenerTag
        self.peerAddress = peerAddress
        self.peerPort = peerPort
    }
}

/// Why a connection ended or did not come about.
@frozen
public struct VerbsFailure: Hashable, Sendable, BitwiseCopyable {
    /// A positive errno; 0 for the peer's orderly end.
    public var errno: Int32
    /// The status of the completion that told it (IBV_WC_*); 0 where none did.
    public var status: UInt8

    @inlinable
    public init(errno: Int32, status: UInt8 = 0) {
        self.errno = errno
        self.status = status
    }
}

/// What a `VerbsTransport` calls: the owner of its connections.
///
/// As with `TCPTransportHandler`, events carry the connection's user word, the transport is passed
/// along, and a handler is never called from inside one of its own calls. Borrowed bytes are void
/// after the call.
public protocol VerbsTransportHandler: ~Copyable {
    /// A request to connect, with its private data. Returns the user word of the connection.
    mutating func requested(
        _ request: VerbsRequest, privateData: RawSpan, on transport: inout VerbsTransport
    ) -> UInt64

    /// A connection stands, with what the peer said when it accepted (empty where we accepted).
    /// `remoteKey` is what peers name our registered memory by.
    mutating func established(
        _ connection: VerbsRef, word: UInt64, privateData: RawSpan, remoteKey: UInt32,
        on transport: inout VerbsTransport)

    /// The peer refused a connection that `connect` began, with its private data; `reason` is the
    /// connection manager's. The reference is stale already.
    mutating func refused(
        _ connection: VerbsRef, word: UInt64, reason: Int32, privateData: RawSpan,
        on transport: inout VerbsTransport)

    /// A message came in.
    mutating func received(
        _ connection: VerbsRef, word: UInt64, bytes: RawSpan, on transport: inout VerbsTransport)

    /// Work that was posted with `tells` is done, and so is all that was posted before it.
    mutating func completed(
        _ connection: VerbsRef, word: UInt64, work: UInt64, on transport: inout VerbsTransport)

    /// There is room again on a connection whose last `post` was refused.
    mutating func writable(
        _ connection: VerbsRef, word: UInt64, on transport: inout VerbsTransport)

    /// A connection ended, or did not come about. Its queue pair is gone: no memory is touched for
    /// it any more. The reference is stale already.
    mutating func closed(
        _ connection: VerbsRef, word: UInt64, failure: VerbsFailure,
        on transport: inout VerbsTransport)

    /// Registered memory that `reserve` had to wait for is there.
    mutating func granted(
        _ slot: BulkSlot, request: UInt64, on transport: inout VerbsTransport)
}
