import WireFormat

/// What is locked, and by whom: 112 bytes, trivial.
struct ResourceRecord: BitwiseCopyable {
    var id = ResourceID(0)
    var granted = LinkEnds()
    /// In order of arrival.
    var waiting = LinkEnds()
    /// Granted locks by mode ordinal.
    var grantedCounts = InlineArray<9, UInt32>(repeating: 0)
    var waitingCount: UInt32 = 0
    /// Until when it counts as contended, in seconds of the namespace's own clock.
    var contendedUntil: UInt32 = 0
    /// Modes with a granted lock.
    var grantedModes: UInt16 = 0
    /// At least the modes with a waiting lock; exact again when nobody waits.
    var waitingModes: UInt16 = 0
    /// Which policies its locks have: the first one decides.
    var kind: LockRecord.Flags = []
    var hasValueBlock = false
    /// Place of its interval trees, or -1 while it has few locks.
    var trees: Int32 = -1
    /// Next free place; -2 while in use and -3 while also listed to be settled.
    var nextFree: Int32 = -1

    var grantedCount: UInt32 {
        var sum: UInt32 = 0
        for ordinal in 0..<9 { sum += grantedCounts[ordinal] }
        return sum
    }

    /// A resource with more locks than this is searched by trees instead of lists.
    static let listedCountMax: UInt32 = 16
}

/// The roots of a crowded resource's interval trees, by mode ordinal.
struct TreeRoots: BitwiseCopyable {
    var granted = InlineArray<9, Int32>(repeating: -1)
    var waiting = InlineArray<9, Int32>(repeating: -1)
    var nextFree: Int32 = -1
}
