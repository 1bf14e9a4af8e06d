/// Why an o2iblnd connection ended, or a request to connect was rejected: always countable, and
/// never more than that connection.
@frozen
public enum O2IBLNDFault: UInt8, CaseIterable, Sendable, BitwiseCopyable {
    /// Private data too short for a message, or that says it is longer than it is.
    case badPrivateData
    /// A foreign magic, or one of the other byte order.
    case badMagic
    /// A version that this build does not speak.
    case badVersion
    /// A request for a node that is not here.
    case wrongNID
    /// A request whose source is on another network, or does not match where it came from.
    case stranger
    /// A request to an incarnation of ours that is gone.
    case staleRequest
    /// A request of a peer that restarted: its older connections are closed.
    case peerRestarted
    /// More credits than we grant, or none.
    case badQueueDepth
    /// More fragments than a descriptor has, or none.
    case badFragments
    /// Longer messages than 4096 bytes.
    case badMessageSize
    /// An answer that agrees to more than was asked for, or is no answer to us.
    case badConnectAck
    /// A message for another node or from another one than its connection's.
    case wrongPeer
    /// A message with a stamp that is not this connection's.
    case wrongStamp
    /// A message of no kind that may come on an open connection.
    case badKind
    /// A message shorter than its kind, or longer than what came.
    case badLength
    case badChecksum
    /// An LNet header with an unknown type or an impossible payload length.
    case badHeader
    /// A descriptor with no fragment or too many, or without room for what it is for.
    case badDescriptor
    /// A cookie that names nothing under way, or something else.
    case unknownCookie
    /// More credits given back than were spent.
    case creditsOverreturned
    /// A message without a credit.
    case creditsOverspent
    /// An LNet header whose source is not the peer of its connection.
    case wrongSource
    /// A message for another node: we do not route.
    case wrongDestination
    /// No answer, or output that does not go, for too long.
    case timeout
    /// A request that we rejected: both sides were connecting.
    case lostRace
    /// Our request was rejected.
    case rejected
    /// The peer connected again: the older connection is gone there.
    case replaced
    /// A write to memory that the peer did not grant, at either end.
    case remoteAccess
    /// The peer posts no receives (RNR retries exceeded).
    case receiverNotReady
    /// The peer does not acknowledge (retries exceeded).
    case retryExceeded
    /// The queue pair broke for another reason.
    case pairError
}
