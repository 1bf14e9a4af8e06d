internal import CFabric
internal import Primitives

/// What the transport keeps of one identifier: a listener or a connection.
@safe
struct VerbsPair {
    enum Role: UInt8 {
        case listening
        /// Its device went away, or never was there: it comes back when it can.
        case lostListener
        case resolvingAddress, resolvingRoute, connecting
        /// The owner has not answered the request.
        case requested
        /// Accepted; the peer has not confirmed it yet.
        case accepting
        case established
        /// Over; the owner hears of it at the next turn.
        case failed
    }

    // SAFETY: owned by this entry; destroyed when the entry is removed.
    var identifier: OpaquePointer?
    var role: Role
    /// The listener's tag, or what the owner calls the connection.
    var word: UInt64
    /// Index of its device; -1 while it has none.
    var device = -1
    var number: UInt32 = 0
    var inlineMax: UInt32 = 0
    /// Work requests posted, and those known to be done.
    var posted: UInt32 = 0
    var retired: UInt32 = 0
    /// Requests since the last one that signals.
    var silent: UInt32 = 0
    /// The last post was refused: the owner is owed `writable`.
    var isBlocked = false
    var failure = VerbsFailure(errno: 0)
    /// What a request to connect will carry.
    var privateData: [UInt8] = []
    /// Where a listener is bound.
    var address: UInt32 = 0
    var port: UInt16 = 0

    init(identifier: OpaquePointer?, role: Role, word: UInt64) {
        unsafe self.identifier = identifier
        self.role = role
        self.word = word
    }
}

/// A work request whose completion is signalled.
struct SignalledWork: BitwiseCopyable {
    var pair: SlotHandle
    /// What the owner calls it; told where `tells`.
    var work: UInt64
    var tells: Bool
    /// The send buffer that it holds; -1 for none.
    var buffer: Int32
    /// How many requests of the pair are done with it.
    var posted: UInt32
}

/// Work requests of one connection on their way to one doorbell.
struct WorkBatch {
    static let countMax = 16
    /// No message longer than this goes inline, whatever a device grants.
    static let inlineMax = 512
    var pair: SlotHandle?
    var count = 0
    var sends = InlineArray<16, fabric_send>(repeating: fabric_send())
}
