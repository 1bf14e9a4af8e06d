internal import EventLoop

/// What the transport keeps of one descriptor: a listener or a connection. Trivial, 40 bytes.
struct Socket: BitwiseCopyable {
    enum Role: UInt8 {
        case listening, connecting, established
        /// Could not be connected, or was lost while sending: the owner hears of it at the next
        /// turn.
        case connectFailed, lost
    }

    var descriptor: Int32
    var role: Role
    /// The last send was not taken whole: the owner is owed `writable`.
    var blocked = false
    /// The owner does not want to read now.
    var paused = false
    /// In the loop's set of descriptors.
    var watched = false
    /// What the loop's set holds for the descriptor.
    var interest: Readiness = []
    /// Why it failed.
    var errno: Int32 = 0
    /// The listener's tag, or what the owner calls the connection.
    var word: UInt64
    /// The address a listener is bound to; 0 for any.
    var address: UInt32 = 0
}
