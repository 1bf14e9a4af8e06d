import ClientCore
import LNetCore
import NodeCore
import Primitives
import PtlRPCCore
import WireFormat

/// One client's account of itself, with the import of every target.
public struct ClientReport: Codable, Equatable, Sendable {
    /// A state that an import entered, and how long ago.
    public struct Past: Codable, Equatable, Sendable {
        public var state: String
        public var agoMs: Double
    }

    /// The client side of one target.
    public struct Import: Codable, Equatable, Sendable {
        public var target: String
        /// As `lctl` prints it: FULL, DISCONN, REPLAY and so on.
        public var state: String
        public var nid: String
        /// Everywhere that the target may be.
        public var nids: [String]
        public var protocolVersion: Int
        public var instance: UInt64
        public var connections: Int
        /// Attempts that failed in a row.
        public var failedAttempts: Int
        public var highestXID: UInt64
        public var highestTransno: UInt64
        public var lastCommitted: UInt64
        /// Updates without an answer, sent or waiting.
        public var updatesInFlight: Int
        /// Requests sent and not answered; requests that have not gone out.
        public var sent: Int
        public var queued: Int
        /// The replay list: answered updates that are not known to be committed.
        public var replayList: Int
        /// Locks held or waited for; of those, the ones that nothing uses now.
        public var locks: Int
        public var unusedLocks: Int
        /// Room at an object target for bytes that are not dirty yet.
        public var grantBytes: UInt64
        public var isGateOpen: Bool
        /// The target's estimate of its service time, and the network's latency beside it.
        public var serviceMs: Double
        public var networkMs: Double
        /// Since the client's start.
        public var replayed: UInt64
        public var resent: UInt64
        public var timeouts: UInt64
        public var earlyReplies: UInt64
        public var evictions: UInt64
        /// The last states, oldest first; at most 16.
        public var history: [Past]
    }

    public var uuid: String
    public var nids: [String]
    /// Operations of applications that have not ended; of those, the ones that wait at a gate.
    public var operations: Int
    public var waiting: Int
    public var openFiles: Int
    public var dirtyBytes: Int
    public var cachedBytes: Int
    public var cachedNames: Int
    public var cachedFiles: Int
    public var isLeaving: Bool
    public var imports: [Import]

    init(_ node: ClientNode, now: Ticks) {
        let core = node.core
        uuid = core.configuration.uuid
        nids = node.lnet.nids.map(\.description)
        operations = core.operationCount
        waiting = core.gateQueueCount
        openFiles = core.openFileCount
        dirtyBytes = core.dirtyBytes
        cachedBytes = core.cachedBytes
        cachedNames = core.cachedNameCount
        cachedFiles = core.cachedFileCount
        isLeaving = core.isLeaving
        imports = core.configuration.targets.indices.map { Import(core, $0, now: now) }
    }
}

extension ClientReport.Import {
    init(_ core: ClientCore, _ place: Int, now: Ticks) {
        let summary = core.summary(place)
        target = summary.targetName
        state = summary.state.name
        nid = summary.nid.description
        nids = summary.nids.map(\.description)
        protocolVersion = Int(summary.version.rawValue)
        instance = summary.instance
        connections = Int(summary.connectionCount)
        failedAttempts = summary.failures
        highestXID = summary.highestXID.rawValue
        highestTransno = summary.highestTransno.rawValue
        lastCommitted = summary.lastCommitted.rawValue
        updatesInFlight = summary.updatesInFlight
        sent = summary.sentCount
        queued = summary.queuedCount
        replayList = summary.savedCount
        locks = core.lockCount(place)
        unusedLocks = core.unusedLockCount(place)
        grantBytes = core.grantAvailable(place)
        isGateOpen = core.isGateOpen(place)
        serviceMs = Double(summary.serviceEstimate.nanoseconds) / 1e6
        networkMs = Double(summary.networkLatency.nanoseconds) / 1e6
        replayed = summary.counters.replayed
        resent = summary.counters.resent
        timeouts = summary.counters.timeouts
        earlyReplies = summary.counters.earlyReplies
        evictions = summary.counters.evictions
        history = summary.history.entries.map {
            .init(state: $0.state.name, agoMs: Double((now - $0.at).nanoseconds) / 1e6)
        }
    }
}
