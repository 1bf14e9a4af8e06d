public import Primitives
public import WireFormat

/// What the client half of a node is told at its start.
public struct RPCClientConfiguration: Sendable {
    /// Names this client at every target, at most 40 bytes.
    public var clientUUID: String
    /// Names this instance of the client; import `i` shows `clientHandle + i` to its target, so
    /// that a callback tells which import it concerns.
    public var clientHandle: UInt64
    /// What connect offers; the target takes the highest that both know.
    public var versions = ProtocolVersion.supported
    public var features = Features.supported
    /// Connects to learn a target's state only: no slot is kept for it there.
    public var isObserver = false
    /// A request without an answer for this long has lost its connection. With adaptive time-outs
    /// the shortest that there is: a slow target or network makes it longer.
    public var requestTimeout = TickInterval.seconds(10)
    /// Nil where every request has `requestTimeout` (at_max = 0).
    public var adaptive: AdaptiveTimeouts? = AdaptiveTimeouts()
    /// As above for replays and the final ping. The target answers some of them when others came
    /// too, and puts their deadlines off meanwhile. Together with a reconnect well below the time for
    /// which a lock may be kept after it was called back (45 s): one whose replay was answered can be,
    /// and who has not heard the answer cannot cancel it yet.
    public var recoveryTimeout = TickInterval.seconds(10)
    /// INITIAL_CONNECT_TIMEOUT.
    public var connectTimeout = TickInterval.seconds(5)
    /// The pause after a failed connect doubles between these, with up to a quarter of jitter.
    public var reconnectDelayMin = TickInterval.milliseconds(20)
    public var reconnectDelayMax = TickInterval.seconds(1)
    /// The pause after a target said that it will not have this client.
    public var refusedDelay = TickInterval.seconds(30)
    /// A ping after this long without any request: notices a target that is silently gone. Lustre's
    /// 25 s. Nil for none.
    public var pingInterval: TickInterval? = .seconds(25)
    /// The same while answered updates are not known to be committed: the replay list shrinks.
    public var commitPingInterval = TickInterval.seconds(7)
    /// Disconnects from a target where nothing was asked, is held or is saved for this long; the
    /// next call connects again (Lustre: 20 s for object targets). Nil for never.
    public var idleTimeout: TickInterval?
    /// How often an import whose target has an earlier NID on another network asks whether the
    /// node can be reached there again. Nil for never.
    public var returnInterval: TickInterval? = .seconds(5)
    /// Requests under way per import; those that a shutdown needs are not held up by it.
    public var requestsInFlightMax = 64
    /// Requests per import that wait; one more fails at once with `tryAgain`.
    public var queuedMax = 16_384
    /// The replay list; further updates wait for a commit.
    public var savedMax = 65_536
    /// Open replays, and lock replays, under way per import; in version 3 batches of them.
    public var replaysInFlightMax = 8
    /// Opens or locks in one batch.
    public var batchCountMax = 32
    /// Saved updates under way per import during a replay. Below what a server remembers of
    /// replays (32), so that those whose answers were lost can be asked for again.
    public var updateReplaysInFlightMax = 32
    /// Where XIDs begin, a multiple of `XID.step`: `seconds since 1970 << 20`, or the same with a
    /// finer clock. Above all XIDs of this client's earlier instances.
    public var xidStart: UInt64
    /// Seed of the jitter.
    public var seed: UInt64
    /// The deliberate bug, where a test asks for one.
    public var mutation = Mutation.none

    public init(clientUUID: String, clientHandle: UInt64, wallSeconds: UInt64, seed: UInt64) {
        self.clientUUID = clientUUID
        self.clientHandle = clientHandle
        xidStart = wallSeconds << 20
        self.seed = seed
    }
}
