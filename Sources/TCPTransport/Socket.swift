public import EventLoop

/// What the transport keeps of one descriptor: a listener or a connection. Trivial.
@usableFromInline
struct Socket: BitwiseCopyable {
    @usableFromInline
    enum Role: UInt8, BitwiseCopyable {
        case listening, connecting, established
        /// Could not be connected, or was lost while sending: the owner hears of it at the next
        /// turn.
        case connectFailed, lost
    }

    @usableFromInline var descriptor: Int32
    @usableFromInline var role: Role
    /// The last send was not taken whole: the owner is owed `writable`.
    @usableFromInline var blocked = false
    /// The owner does not want to read now.
    @usableFromInline var paused = false
    /// In the loop's set of descriptors.
    @usableFromInline var watched = false
    /// What the loop's set holds for the descriptor.
    @usableFromInline var interest: Readiness = []
    /// Why it failed.
    @usableFromInline var errno: Int32 = 0
    /// The listener's tag, or what the owner calls the connection.
    @usableFromInline var word: UInt64
}
