/// Why a socklnd connection ended: always countable, and never more than that connection.
@frozen
public enum SockLNDFault: UInt8, CaseIterable, Sendable, BitwiseCopyable {
    /// First bytes that are no acceptor request, or a hello with a foreign magic.
    case badMagic
    /// An acceptor request or hello of a version that this build does not speak.
    case badVersion
    /// The acceptor request names a node that is not here.
    case wrongNID
    /// A hello with a type, address count or source that no hello may have.
    case badHello
    /// A hello whose source does not match the address it came from, or another network.
    case stranger
    /// The answer to our hello came from somebody else, or with another type or version.
    case wrongPeer
    /// A message that is neither NOOP nor LNET.
    case badMessageKind
    /// An LNet header with an unknown type or an impossible payload length.
    case badHeader
    /// A checksum that does not match.
    case badChecksum
    /// An acknowledgement of a zero-copy request that was never made.
    case unknownZeroCopyAck
    /// A message whose source is not the peer of its connection.
    case wrongSource
    /// A message for another node: we do not route.
    case wrongDestination
    /// The peer restarted: its incarnation is not that of its other connections.
    case staleIncarnation
    /// No hello, or half a message, for too long; or output that the peer does not take.
    case timeout
    /// A hello that we answered with NONE: both sides were connecting.
    case lostRace
    /// A hello that we answered with NONE: there is a connection of that type already.
    case duplicate
    /// Our hello was answered with NONE.
    case refused
}
