public import Primitives
public import PtlRPCCore
public import WireFormat

/// One target as a client knows it: its name and where it may be found.
public struct ClientTarget: Sendable {
    public var name: String
    public var kind: TargetKind
    /// Index of an object target in layouts; 0 for the metadata target.
    public var index: UInt32
    /// The server's NIDs, the partner's among them, in the order in which to try them.
    public var nids: [NID]

    public init(name: String, kind: TargetKind, index: UInt32, nids: [NID]) {
        self.name = name
        self.kind = kind
        self.index = index
        self.nids = nids
    }
}

/// What a client is told when it is made.
public struct ClientConfiguration: Sendable {
    /// At most 39 bytes, unique among the clients of a cluster.
    public var uuid: String
    public var targets: [ClientTarget]
    public var versions: ClosedRange<ProtocolVersion> = ProtocolVersion.supported
    public var features: Features = .supported
    public var seed: UInt64
    /// Wall clock at the start, seconds: where this client's XIDs begin, unless `xidStart` says.
    public var wallSeconds: UInt64
    public var xidStart: UInt64?
    /// Dirty bytes beyond which a write starts writing back; at twice as many it waits.
    public var dirtyByteCountMax = 4 << 20
    /// Clean and dirty bytes beyond which clean ones are forgotten.
    public var cacheByteCountMax = 16 << 20
    /// How long dirty bytes may stay before they are written back.
    public var writebackDelay = TickInterval.milliseconds(500)
    /// Bytes that are read ahead of a file that is read in order, at most; 0 for none.
    public var readAheadMax = 4 << 20
    /// Names that are kept in mind, those that lead nowhere among them.
    public var nameCountMax = 4096
    /// Files whose attributes, and locks on them, are kept.
    public var fileCountMax = 2048
    /// What is cached is believed for this long after its target was heard of last: well below the
    /// time after which a server takes the locks of a client that does not answer.
    public var cacheLease = TickInterval.seconds(10)
    /// Unused locks on data that are kept for later.
    public var unusedLockCountMax = 128
    public var requestTimeout = TickInterval.seconds(10)
    public var connectTimeout = TickInterval.seconds(5)
    /// Time-outs follow what targets say of themselves; nil where all are `requestTimeout`.
    public var adaptive: AdaptiveTimeouts? = AdaptiveTimeouts()
    /// A ping to a target after this long without any request to it.
    public var pingInterval: TickInterval? = .seconds(25)
    /// An object target where this client holds and wants nothing for this long is left; the next
    /// operation there connects again (Lustre: 20 s). Nil for never.
    public var idleTimeout: TickInterval?
    /// Connects to ask and to give orders: no target keeps a record of it, or waits for it.
    public var isObserver = false
    /// Say `.acknowledged` for every update that a target answered.
    public var reportsUpdates = false
    /// The deliberate bug, where a test asks for one.
    public var mutation = Mutation.none

    public static let targetCountMax = 64

    /// - Precondition: 1 to 64 targets.
    public init(uuid: String, targets: [ClientTarget], seed: UInt64, wallSeconds: UInt64) {
        precondition((1...Self.targetCountMax).contains(targets.count), "1 to 64 targets")
        self.uuid = uuid
        self.targets = targets
        self.seed = seed
        self.wallSeconds = wallSeconds
    }
}

/// What a client tells the one who runs it.
public enum ClientEvent: Sendable {
    /// The operation submitted with `cookie` has come to its end.
    case completed(cookie: UInt64, Result<FileResult, OperationError>)
    /// A target answered an update: it must never be lost and never be executed twice.
    case acknowledged(target: Int, xid: XID)
    case stamp(target: Int, UpgradeStamp, UpgradeEpoch, at: Ticks)
    /// The import is in use, in this version, with this instance of the target.
    case connected(target: Int, ProtocolVersion, instance: UInt64)
    case disconnected(target: Int)
    /// The target has forgotten this client: locks, cache and opens there are lost.
    case evicted(target: Int)
    /// Bytes that an application had written could not be written back.
    case writeLost(target: Int, ObjectName, Status, byteCount: Int)
    /// An update that a target had answered could not be done again after its crash.
    case updateLost(target: Int, Opcode, xid: XID, transno: Transno, Status)
    /// The target does not want this client.
    case refused(target: Int, Status)
    /// Everything was written back, given up and disconnected.
    case unmounted
}

/// Why an operation failed.
public struct OperationError: Error, Hashable, Sendable {
    public var status: Status
    public init(_ status: Status) { self.status = status }
}

/// Moments of an upgrade that a client sees (upgrade-protocol.md section 8).
public enum UpgradeStamp: UInt8, Sendable, CaseIterable {
    /// t2 and t3: the notice is here, the gate is shut.
    case gateShut
    /// The receipt is on its way.
    case receiptGiven
    /// An operation waits at the gate: the first one's time is the beginning of the pause.
    case firstWaited
    /// t7.
    case committed
    case disconnected
    /// t10.
    case reconnected
    /// t11: locks and opens are replayed, the gate is open.
    case gateOpened
    /// t12.
    case firstUpdateAcknowledged
}
