/// What a server has done and seen since its start.
public struct RPCServerCounters: Equatable, Sendable {
    public internal(set) var requests: UInt64 = 0
    public internal(set) var replies: UInt64 = 0
    public internal(set) var connects: UInt64 = 0
    public internal(set) var connectsRefused: UInt64 = 0
    /// Bytes that do not parse.
    public internal(set) var malformed: UInt64 = 0
    /// Handles that nobody has, and those of others.
    public internal(set) var notConnected: UInt64 = 0
    /// Of those, handles that another client has.
    public internal(set) var foreignHandles: UInt64 = 0
    /// Of an older connection, or answered already as the client itself said.
    public internal(set) var obsolete: UInt64 = 0
    /// The same request is being executed.
    public internal(set) var duplicates: UInt64 = 0
    /// Updates executed again in recovery.
    public internal(set) var replayed: UInt64 = 0
    /// Replays that were on record already.
    public internal(set) var replayedFromRecord: UInt64 = 0
    /// Updates answered from saved replies.
    public internal(set) var resent: UInt64 = 0
    /// Told to try again.
    public internal(set) var refused: UInt64 = 0
    /// Replays outside any recovery, tags used twice, and the like.
    public internal(set) var violations: UInt64 = 0
    /// Of those, replays for an export that is not in recovery.
    public internal(set) var unexpectedReplays: UInt64 = 0
    public internal(set) var evictions: UInt64 = 0
    public internal(set) var bulkFetched: UInt64 = 0
    public internal(set) var bulkSent: UInt64 = 0
    public internal(set) var bulkAborted: UInt64 = 0
    public internal(set) var callbacks: UInt64 = 0
    public internal(set) var callbacksResent: UInt64 = 0
    public internal(set) var callbacksFailed: UInt64 = 0
    public internal(set) var pushes: UInt64 = 0
    /// "Still at it".
    public internal(set) var earlyReplies: UInt64 = 0
    /// Messages that held several requests.
    public internal(set) var batches: UInt64 = 0
    /// Replays that could not be done again: what they depended on is lost.
    public internal(set) var replaysFailed: UInt64 = 0

    public init() {}
}
