public import UpgradeCore
public import ClientCore
public import LNetCore
public import Primitives
public import PtlRPCCore
public import StorageCore
public import WireFormat

/// A deliberate fault of a server, so that checks can be seen to fail.
public enum DeliberateFault: String, Sendable, CaseIterable {
    /// Some updates are answered and not executed.
    case lose
    /// Some updates are executed twice.
    case `repeat`
    /// Some written bytes are changed.
    case corrupt
}

/// What a server is told when it is made.
public struct ServerConfiguration: Sendable {
    public var targetName: String
    public var kind: TargetKind
    /// Index of an object target in layouts; of a metadata target in its file ids.
    public var targetIndex: UInt32
    public var lnet: LNetConfiguration
    /// The protocol range of this build.
    public var versions: ClosedRange<ProtocolVersion> = ProtocolVersion.supported
    public var features: Features = .supported
    /// A metadata server's object targets; empty for others.
    public var objectTargets: [ClientTarget] = []
    /// Clients that the target may know at once; one more is refused.
    public var clientCountMax = 65_536
    /// Executed updates may stay uncommitted for this long.
    public var commitInterval = TickInterval.milliseconds(100)
    /// More uncommitted bytes than this are committed at once.
    public var uncommittedBytesMax = 8 << 20
    /// How long a called-back lock may be kept before its owner is evicted. Longer than
    /// `recoveryWindow`: an operation on several targets holds its lock of one while another of them
    /// recovers (Lustre: ldlm_enqueue_min, 100 s).
    public var callbackTimeout = TickInterval.seconds(45)
    /// How long a stage of a recovery waits for a client that is silent.
    public var recoveryWindow = TickInterval.seconds(30)
    /// How long a recovery may last from its first client on.
    public var recoveryLimit = TickInterval.seconds(90)
    /// Estimates and early replies; nil for neither.
    public var adaptive: AdaptiveTimeouts? = AdaptiveTimeouts()
    /// A client that said nothing for this long, while others did, is evicted; nil for never.
    public var silenceMax: TickInterval?
    /// Tell the shell what an upgrade's clock is read at (`ServerAction.upgrade`).
    public var tellsUpgradeStamps = false
    /// Every update leaves a row in table `audit`, in its own transaction.
    public var keepsAudit = false
    /// Start on an unclean store in a changed protocol range all the same.
    public var isForced = false
    public var fault: DeliberateFault?
    /// The deliberate bug, where a test asks for one.
    public var mutation = Mutation.none
    public var stripeSize: UInt32 = 1 << 20
    public var seed: UInt64

    public init(
        targetName: String, kind: TargetKind, targetIndex: UInt32, lnet: LNetConfiguration,
        seed: UInt64
    ) {
        self.targetName = targetName
        self.kind = kind
        self.targetIndex = targetIndex
        self.lnet = lnet
        self.seed = seed
    }
}

/// What a server wants from the one who runs it.
public enum ServerAction: Sendable {
    /// Put this group on disk; report `committed`.
    case commit(CommitGroup)
    /// The store is in use and clients are served.
    case serving(instance: UInt64, ServerStart)
    /// Everything is on disk, and nothing will be read or written any more: close the store, so that
    /// the next instance can take it while this one tells its clients. `stop` follows.
    case releaseStore
    /// The upgrade has come to its end: close the store and end.
    case stop
    /// End at once, as a crash would, by order: nothing more goes to the store.
    case abandon
    case log(ServerLog)
    /// A stamp of an upgrade, where they are asked for: t0, t1, t4, t5, t6 and t8.
    case upgrade(UpgradeEvent, at: Ticks)
}

/// How an instance came up.
public enum ServerStart: Equatable, Sendable {
    /// A new store.
    case fresh
    /// After a clean stop: no recovery, what clients held is kept for them.
    case clean
    /// Waits for its clients and their replays.
    case recovering(clientCount: Int)
}

/// What an operator may want to read, one line each.
public enum ServerLog: Sendable {
    case evicted(client: String, reason: String, loss: EvictionLoss)
    /// A client's name is that of a new process: what the one before had is gone.
    case clientRestarted(client: String, loss: EvictionLoss)
    /// One client's part of the recovery is over.
    case replayed(client: String, nid: NID, ReplayAccount, took: TickInterval)
    /// An update that was executed before the crash cannot be done again.
    case replayFailed(
        client: String, opcode: String, xid: UInt64, transno: UInt64, reason: String)
    case recovered(clientCount: Int, replayed: UInt64, evicted: Int)
    /// An administrator has ended it.
    case recoveryAborted
    case upgrade(String)
    case connectRefused(String)
    case commitFailed(String)
    /// The disk takes commits again.
    case commitsAgain
    /// Something committed was not what it must be; `xid` is 0 outside of requests.
    case damage(String, opcode: String, xid: UInt64)
    case fault(String)
    /// A deliberate fault was done to one request.
    case injected(String)
}

/// What a client lost with its export.
public struct EvictionLoss: Equatable, Sendable {
    /// Where it was; zero where that is not known.
    public var nid = NID(rawValue: 0)
    /// Locks granted to it and waited for; each is free for others now.
    public var locks = 0
    /// Files that it had open; they are closed.
    public var opens = 0
    /// Requests under way: executed or not, nobody answers them.
    public var requests = 0
    /// Updates that it had replayed before; they stay.
    public var replayed: UInt32 = 0

    public init() {}
}
