/// The tables of a target's store: what each holds is known to the service that writes it.
///
/// The raw values are stored nowhere; on disk a table is known by its name.
public enum Table: UInt8, CaseIterable, Sendable, BitwiseCopyable {
    /// What the target knows about itself: counters, epochs, the clean record.
    case meta
    /// One slot per client that the target remembers across restarts.
    case clients
    /// Replies kept so that a resent request gets its first answer.
    case replyData
    /// Attributes of files and directories.
    case inodes
    /// Names in directories.
    case dirents
    /// Files without a name that somebody still has open.
    case orphans
    /// Objects to destroy on other targets, until they answered.
    case destroyLog
    /// Attributes of objects, their recorded size among them.
    case objects
    /// Who did what, for checks after a run.
    case audit
    /// Locks and opens promised to clients that come back.
    case reservations

    /// How many tables there are.
    @inlinable
    public static var count: Int { 10 }
}

/// Bounds of what a store takes. LMDB's are wired in; the simulator keeps to the same.
public enum StoreLimits {
    /// Longest key in bytes: LMDB's compiled-in `MDB_MAXKEYSIZE`. No key is empty.
    public static let keyByteCountMax = 511
    /// Objects end below this offset: the range of `off_t`.
    public static let objectOffsetMax = UInt64(Int64.max)
}
