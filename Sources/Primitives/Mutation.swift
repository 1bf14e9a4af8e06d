/// A deliberate bug: one rule of the protocol left out, so that the checks can be seen to notice.
///
/// Held in configurations, `none` unless a test or `sluice simulate --mutation` says otherwise. In a
/// release build `is` is `false` and all that hangs on it is gone, unless it was built with
/// `-Xswiftc -DMUTATIONS`.
public enum Mutation: String, CaseIterable, Sendable, BitwiseCopyable {
    /// Everything as it should be.
    case none

    // UpgradeCore, the target.
    /// The target executes updates of clients without a granted admission lock.
    case targetDoesNotCheck
    /// A reconnecting client that still holds its lock is put to wait: counted as prepared.
    case reconnectWaitsAgain
    /// The target takes back what it has told as committed.
    case abortOutOfCommitted
    /// Clients are told before the clean record is on disk.
    case tellBeforeDisk
    /// The target goes on executing after the seal.
    case executeAfterSeal
    /// A client left behind is counted absent, but keeps its lock.
    case countWithoutFencing
    /// The target seals as soon as it has the exclusive lock.
    case sealBeforeBacklog
    /// The target lets no upgrade expire.
    case neverExpires
    /// A target that gives up behind the seal opens before its clean record is gone.
    case opensBeforeWithdrawal
    /// A receipt counts although a grant came after its epoch.
    case receiptOutlivesGrant

    // UpgradeCore, the client.
    /// The client empties its replay list after any restart of the target.
    case purgeOnAnyRestart
    /// The client opens its gate by its own clock.
    case clientOpensByTime
    /// The client obeys grants of upgrades older than the one it knows.
    case anyGrantOpens
    /// The client obeys notices of upgrades that are over.
    case anyNoticeShuts
    /// The client forgets a notice that overtakes the grant.
    case forgetEarlyNotice
    /// The client gives its receipt while requests are in flight.
    case receiptBeforeDrained

    // NodeCore.
    /// The clean record outlives the first update of the instance that started from it.
    case keepsCleanRecord
    /// An update is answered before the record of the stop before is withdrawn on disk.
    case repliesBeforeWithdrawal
    /// After a clean stop nothing is reserved: locks are granted at once.
    case servesAtOnce
    /// After a clean stop the open files of the record are forgotten.
    case forgetsReservedOpens
    /// Locks are granted and cancelled after the seal.
    case locksAfterSeal
    /// Locks are called back while clients prepare.
    case conflictsNotSuspended
    /// The commit notice goes out before the commit of the record.
    case commitNoticeBeforeCommit
    /// `last_committed` counts what was executed.
    case tellsCommittedEarly
    /// Two updates get one transno.
    case reusesTransno
    /// A client is evicted when it has given its receipt.
    case evictsPrepared
    /// What is written after EX is not on disk before its reply.
    case repliesBeforeCommit

    // PtlRPCCore, the server.
    /// A request that is sent again is executed again.
    case executesResends
    /// The saved replies are not read back at the start.
    case losesReplyData
    /// Replays are executed as they come.
    case replaysOutOfOrder
    /// Messages of connections that were given up are taken.
    case acceptsOlderConnections

    // PtlRPCCore, the client.
    /// Updates are forgotten when they are answered.
    case forgetsAnswered
    /// Opens are not told to the next instance.
    case forgetsOpenReplays

    // LDLMCore.
    /// CR is granted past a waiting EX.
    case grantsPastWaiters
    /// Readers get their locks beside a writer.
    case ignoresConflicts
    /// Locks that clients held at a crash are put to wait.
    case replayedLocksWait

    // ClientCore.
    /// A lock is given back before what is dirty under it is written back.
    case cancelsBeforeWriteBack
    /// What was cached under a lock is kept when it goes.
    case keepsStaleCache
    /// Write-back goes on after the receipt.
    case writeBackPassesReceipt

    /// Whether this build can be made to do wrong at all.
    @inlinable
    public static var isCompiledIn: Bool {
        #if DEBUG || MUTATIONS
            true
        #else
            false
        #endif
    }

    /// Whether this one is in force.
    @inlinable
    public func `is`(_ other: Mutation) -> Bool {
        #if DEBUG || MUTATIONS
            self == other
        #else
            false
        #endif
    }
}
