import WireFormat

/// A lock of the server, 80 bytes, trivial: a place in an array with links by index.
struct LockRecord: BitwiseCopyable {
    enum State: UInt8 { case free, waiting, granted }

    struct Flags: OptionSet, BitwiseCopyable {
        var rawValue: UInt8
        /// Policy is an extent; otherwise plain, and the range is everything.
        static let extent = Flags(rawValue: 1)
        /// A waiter conflicts with this granted lock, and what follows from it has been done.
        static let blocked = Flags(rawValue: 2)
        /// The blocking AST went out, or went with the completion AST.
        static let astSent = Flags(rawValue: 4)
        /// The blocking AST is due when the suspension ends.
        static let withheld = Flags(rawValue: 8)
        /// Held for an absent owner; has no client cookie yet.
        static let reserved = Flags(rawValue: 16)
        /// In the list of running callback timers.
        static let armed = Flags(rawValue: 32)
        /// The extent is granted as asked for.
        static let noExpansion = Flags(rawValue: 64)
        /// The granted extent is not the one that was asked for.
        static let changed = Flags(rawValue: 128)
    }

    var clientCookie: UInt64 = 0
    var range: Extent = .whole
    var group: UInt64 = 0
    /// On the namespace's own clock, which stands still while callbacks are suspended.
    var deadline: UInt64 = 0
    var resource: Int32 = -1
    /// Place in `owners`.
    var owner: Int32 = -1
    /// Odd while in use, as in a `SlotTable`.
    var generation: UInt32 = 0
    /// By `LockList`.
    var links = InlineArray<3, Link>(repeating: Link())
    var mode: LockMode = .nl
    var state: State = .free
    var flags: Flags = []

    var policy: LockPolicy { flags.contains(.extent) ? .extent(range, group: group) : .plain }

    /// The next in the list of its resource.
    var next: Int32 { links[LockList.resource.rawValue].next }

    /// Whether the two may not be granted together.
    func conflicts(with other: LockRecord) -> Bool {
        if mode.isCompatible(with: other.mode) {
            guard mode == .group, other.mode == .group, group != other.group else { return false }
        }
        return range.overlaps(other.range)
    }

    /// Whether a lock of one of these modes could conflict, ranges and group ids left aside.
    static func mayConflict(_ mode: LockMode, _ modes: UInt32) -> Bool {
        modes & ~mode.compatibleMask != 0
            || (mode == .group && modes & LockMode.group.rawValue != 0)
    }
}

/// The lists that a lock can be in.
enum LockList: Int {
    /// The granted or the waiting ones of its resource; of a free place: the next free one.
    case resource
    /// All of its owner.
    case owner
    /// Those with a running callback timer.
    case timer
}

/// Neighbours in one of the lists of a lock.
struct Link: BitwiseCopyable {
    var next: Int32 = -1
    var previous: Int32 = -1
}

/// Ends of a list that runs through `LockRecord`s.
struct LinkEnds: BitwiseCopyable {
    var first: Int32 = -1
    var last: Int32 = -1
    var isEmpty: Bool { first < 0 }

    mutating func append(_ index: Int32, in locks: inout [LockRecord], _ list: LockList) {
        locks[Int(index)].links[list.rawValue] = Link(next: -1, previous: last)
        if last >= 0 { locks[Int(last)].links[list.rawValue].next = index } else { first = index }
        last = index
    }

    mutating func remove(_ index: Int32, in locks: inout [LockRecord], _ list: LockList) {
        let link = locks[Int(index)].links[list.rawValue]
        if link.previous >= 0 {
            locks[Int(link.previous)].links[list.rawValue].next = link.next
        } else {
            first = link.next
        }
        if link.next >= 0 {
            locks[Int(link.next)].links[list.rawValue].previous = link.previous
        } else {
            last = link.previous
        }
        locks[Int(index)].links[list.rawValue] = Link()
    }
}

/// What is locked, and by whom: 104 bytes, trivial.
struct ResourceRecord: BitwiseCopyable {
    var id = ResourceID(0)
    var granted = LinkEnds()
    /// In order of arrival.
    var waiting = LinkEnds()
    /// Granted locks by mode ordinal.
    var grantedCounts = InlineArray<9, UInt32>(repeating: 0)
    /// Modes with a granted lock.
    var grantedModes: UInt16 = 0
    /// At least the modes with a waiting lock; exact again when nobody waits.
    var waitingModes: UInt16 = 0
    /// Place of the value block, or -1.
    var valueBlock: Int32 = -1
    /// Next free place; -2 while in use and -3 while also listed to be settled.
    var nextFree: Int32 = -1
}

/// The locks of one owner, in the order in which it got them.
struct OwnerRecord: BitwiseCopyable {
    var generation: UInt32 = 0
    var locks = LinkEnds()
    var count: UInt32 = 0
}
