/// Why a peer's bytes were refused. Always the peer's fault: the connection closes and counts it.
public enum WireError: Error, Equatable, Sendable {
    /// Fewer bytes than the layout needs.
    case truncated(need: Int, have: Int)
    /// A magic number that is none of those allowed here.
    case badMagic(UInt32)
    /// A version outside the range that this build reads.
    case badVersion(UInt32)
    /// A length or count beyond its bound.
    case badLength(field: String, value: UInt64, limit: UInt64)
    /// A field with a value that the layout does not define.
    case badValue(field: String, value: UInt64)
    /// A reserved field of one of our own layouts that is not zero.
    case reservedBitsSet(UInt64)
    /// A message that is not legal at this point of the conversation.
    case unexpected(message: String)
}
