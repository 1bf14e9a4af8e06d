import WireFormat

/// A bulk payload under way on one connection, at either end.
struct O2IBLNDTransfer: Sendable {
    enum Phase: UInt8, Sendable, BitwiseCopyable {
        /// Source: PUT_REQ waits or is sent; PUT_ACK or PUT_NAK is awaited.
        case offered
        /// Source: the sink said where to; our memory is awaited.
        case acknowledged
        /// Source, or target of a GET: writes and DONE wait or are posted.
        case writing
        /// Initiator of a GET: GET_REQ waits or is sent; GET_DONE is awaited.
        case asked
        /// Sink: PUT_REQ came; the owner decides.
        case received
        /// Sink: PUT_ACK waits or is sent; PUT_DONE is awaited.
        case granted
        /// Target of a GET: GET_REQ came; the owner decides.
        case requested
    }

    var phase: Phase
    /// What the owner calls it.
    var user: UInt64
    /// What the peer calls it; 0 while it has not said so.
    var peerCookie: UInt64 = 0
    /// Bytes that may be transferred, at most.
    var byteCount: Int
    /// A REPLY to somebody's GET or a PUT of our own; else the target of a GET.
    var isPut: Bool
    /// Where the peer wants it.
    var descriptor = O2IBLNDDescriptor(key: 0, fragments: [])
    /// The next byte of ours to write from, and how many are left.
    var local: UInt64 = 0
    var remaining = 0
    /// The fragment that comes next, and how much of it is written.
    var fragment = 0
    var fragmentOffset = 0
}

/// What a connection wants its shell to post next.
@frozen
public enum O2IBLNDWork: Sendable, Equatable, BitwiseCopyable {
    /// An RDMA WRITE from our registered memory.
    case write(from: UInt64, byteCount: UInt32, to: UInt64, key: UInt32)
    /// A message. With `tells` the shell reports when it, and all posted before, is done.
    case message(work: UInt64, tells: Bool)
}
