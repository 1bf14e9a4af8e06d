/// What a lock server did and refused since it started.
@frozen
public struct LockServerCounters: Hashable, Sendable, BitwiseCopyable {
    /// Enqueues of clients and of the target, unlocks of record locks and questions among them.
    public internal(set) var enqueues: UInt64 = 0
    /// Locks granted, at once or later.
    public internal(set) var granted: UInt64 = 0
    /// Locks given back.
    public internal(set) var cancels: UInt64 = 0
    /// Cancels and converts of cookies that name nothing: harmless repetitions, or inventions.
    public internal(set) var unknownCancels: UInt64 = 0
    /// Cancels and converts of another client's locks: the peer's fault.
    public internal(set) var foreignCancels: UInt64 = 0
    public internal(set) var converts: UInt64 = 0
    /// Enqueues refused, by whatever `EnqueueRefusal`.
    public internal(set) var refused: UInt64 = 0
    /// Enqueues that would have waited and were asked not to.
    public internal(set) var wouldBlock: UInt64 = 0
    public internal(set) var blockingASTs: UInt64 = 0
    public internal(set) var completionASTs: UInt64 = 0
    public internal(set) var glimpseASTs: UInt64 = 0
    /// Callback times that ran out.
    public internal(set) var expired: UInt64 = 0
    /// Callback timers set back because their owners were seen to work.
    public internal(set) var prolonged: UInt64 = 0
    /// Locks of the target's own that were given to clients.
    public internal(set) var transferred: UInt64 = 0
    /// Locks made again from replays after a crash.
    public internal(set) var replayed: UInt64 = 0
    /// Old locks called back because there were too many.
    public internal(set) var reclaimed: UInt64 = 0

    public init() {}
}
