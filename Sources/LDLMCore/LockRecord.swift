import WireFormat

/// A lock of the server, 96 bytes, trivial: a place in an array with links by index.
struct LockRecord: BitwiseCopyable {
    enum State: UInt8 { case free, waiting, granted }

    struct Flags: OptionSet, BitwiseCopyable {
        var rawValue: UInt16
        /// The kinds; a plain lock is of none of them.
        static let extent = Flags(rawValue: 1)
        static let inodeBits = Flags(rawValue: 2)
        static let flock = Flags(rawValue: 4)
        static let kinds: Flags = [.extent, .inodeBits, .flock]
        /// A waiter conflicts with this granted lock, and what follows from it has been done.
        static let blocked = Flags(rawValue: 8)
        /// The blocking AST went out, or went with the completion AST.
        static let astSent = Flags(rawValue: 16)
        /// The blocking AST is due when the suspension ends.
        static let withheld = Flags(rawValue: 32)
        /// Held for an absent owner; has no client cookie yet.
        static let reserved = Flags(rawValue: 64)
        /// In the list of running callback timers.
        static let armed = Flags(rawValue: 128)
        /// The extent is granted as asked for.
        static let noExpansion = Flags(rawValue: 256)
        /// What is granted is not what was asked for.
        static let changed = Flags(rawValue: 512)
        /// The server drops it by itself when it is in the way.
        static let cancelOnBlock = Flags(rawValue: 1024)
        /// Its owner calls it by a cookie.
        static let named = Flags(rawValue: 2048)
    }

    var clientCookie: UInt64 = 0
    /// Extent, flock: the bytes. Inode bits: `start` the bits, `end` those that would be welcome.
    var range: Extent = .whole
    /// Extent, inode bits: the group id of mode GROUP. Flock: the owner within its client.
    var tag: UInt64 = 0
    /// Waiting: the order of arrival. Granted: when it was, on the namespace's own clock, which
    /// stands still while callbacks are suspended; armed: when the callback expires.
    var moment: UInt64 = 0
    var resource: Int32 = -1
    /// Place in `owners`.
    var owner: Int32 = -1
    /// Odd while in use, as in a `SlotTable`.
    var generation: UInt32 = 0
    /// By `LockList`.
    var links = InlineArray<3, Link>(repeating: Link())
    /// The latest that waits for this one to go; the others follow by `LockList.attached`.
    var firstAttached: Int32 = -1
    /// Waiting: a lock in its way, to which it is attached.
    var blocker: Int32 = -1
    /// Place in the interval trees of a crowded resource.
    var node: Int32 = -1
    /// Flock: the process. Inode bits: the initiator.
    var process: UInt32 = 0
    var flags: Flags = []
    var mode: LockMode = .nl
    var state: State = .free

    var policy: LockPolicy {
        if flags.contains(.extent) { return .extent(range, group: tag) }
        if flags.contains(.inodeBits) {
            return .inodeBits(range.start, other: 0, group: tag, initiator: process)
        }
        if flags.contains(.flock) { return .flock(range, owner: tag, pid: process) }
        return .plain
    }

    /// The bytes it is about; everything where ranges have no meaning.
    var span: Extent { flags.contains(.inodeBits) ? .whole : range }

    /// The next in the list of its resource.
    var next: Int32 { links[LockList.resource.rawValue].next }
    var previous: Int32 { links[LockList.resource.rawValue].previous }

    /// Whether the two may not be granted together. Both are of one kind.
    func conflicts(with other: LockRecord) -> Bool {
        if mode.isCompatible(with: other.mode) {
            guard mode == .group, other.mode == .group, tag != other.tag else { return false }
        }
        if flags.contains(.inodeBits) {
            return range.start & other.range.start != 0 && !isFor(other) && !other.isFor(self)
        }
        guard range.overlaps(other.range) else { return false }
        return !flags.contains(.flock) || owner != other.owner || tag != other.tag
    }

    /// Whether this is the target's own lock for an update of the client that has the other: what
    /// its own updates change, a client forgets by itself.
    private func isFor(_ other: LockRecord) -> Bool {
        owner == 0 && process != 0 && Int32(bitPattern: process) == other.owner
    }

    /// Whether a lock of one of these modes could conflict, policies left aside.
    static func mayConflict(_ mode: LockMode, _ modes: UInt32) -> Bool {
        rivals(of: mode) & modes != 0
    }

    /// The modes that may exclude `mode`; GROUP is its own rival, as group ids may differ.
    static func rivals(of mode: LockMode) -> UInt32 {
        let all: UInt32 = 0x1FF & ~mode.compatibleMask
        return mode == .group ? all | LockMode.group.rawValue : all
    }
}

/// The locks of one owner, in the order in which it got them.
struct OwnerRecord: BitwiseCopyable {
    var generation: UInt32 = 0
    var count: UInt32 = 0
    var locks = LinkEnds()
    /// The longest time from a blocking AST to its cancel, in ms: decays by an eighth with every
    /// quicker one. Lustre's `exp_bl_lock_at`.
    var callbackEstimateMs: UInt32 = 0
}
