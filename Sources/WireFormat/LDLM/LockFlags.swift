/// The flags of a lock that travel: the low 32 bits of `LDLM_FL_*` (lustre_dlm_flags.h).
@frozen
public struct LockFlags: OptionSet, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt32
    @inlinable
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Extent, mode or resource are not what was asked for.
    public static let lockChanged = LockFlags(rawValue: 0x1)
    /// The server put the lock on the granted list; in a replay: the client holds it.
    public static let blockGranted = LockFlags(rawValue: 0x2)
    /// The server put the lock on the waiting list; in a replay: the client waits for it.
    public static let blockWait = LockFlags(rawValue: 0x8)
    /// Asked ahead of need.
    public static let speculative = LockFlags(rawValue: 0x10)
    /// The lock is being called back already: cancel it after use.
    public static let astSent = LockFlags(rawValue: 0x20)
    /// The enqueue replays a lock that an earlier server instance knew.
    public static let replay = LockFlags(rawValue: 0x100)
    /// Do the intent, grant nothing.
    public static let intentOnly = LockFlags(rawValue: 0x200)
    /// The enqueue carries an intent.
    public static let hasIntent = LockFlags(rawValue: 0x1000)
    /// A record lock was refused because it would deadlock.
    public static let flockDeadlock = LockFlags(rawValue: 0x8000)
    /// Drop dirty data instead of writing it: the object is being destroyed.
    public static let discardData = LockFlags(rawValue: 0x1_0000)
    /// Wait for the grant without a limit.
    public static let noTimeout = LockFlags(rawValue: 0x2_0000)
    /// Refuse instead of waiting.
    public static let blockNoWait = LockFlags(rawValue: 0x4_0000)
    /// Only tell whether it would be granted.
    public static let testLock = LockFlags(rawValue: 0x8_0000)
    /// The server may drop the lock by itself when it conflicts.
    public static let cancelOnBlock = LockFlags(rawValue: 0x80_0000)
    /// Grant exactly the extent asked for.
    public static let noExpansion = LockFlags(rawValue: 0x2000_0000)
    /// Refuse when the resource is contended.
    public static let denyOnContention = LockFlags(rawValue: 0x4000_0000)
    /// The blocking AST of this lock says to discard data.
    public static let astDiscardData = LockFlags(rawValue: 0x8000_0000)

    /// What an enqueue may carry; the server refuses others with -EPROTO.
    public static let allowedInEnqueue: LockFlags = [
        .blockGranted, .blockWait, .speculative, .replay, .intentOnly, .hasIntent, .blockNoWait,
        .testLock, .cancelOnBlock, .noExpansion, .denyOnContention, .astDiscardData,
    ]
    /// What a blocking or completion AST may carry.
    public static let allowedInCallback: LockFlags = [.flockDeadlock, .discardData, .astSent]
}
