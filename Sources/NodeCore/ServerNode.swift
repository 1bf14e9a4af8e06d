import ClientCore
import LDLMCore
public import LNetCore
import MetadataCore
import ObjectCore
public import Primitives
import PtlRPCCore
import StorageCore
import UpgradeCore
public import WireFormat

/// One server with one target: all its cores composed, without I/O.
///
/// The shell moves bytes and time in (`lnet` for connections, `committed`, `step`), and carries
/// `lnet.actions` and `actions` out. Before `activate` the server is a standby: it accepts
/// connections and parks connects, but has no store.
public struct ServerNode {
    public let configuration: ServerConfiguration
    public var lnet: LNetCore
    public var actions = Outbox<ServerAction>()

    enum Service {
        case metadata(MetadataService)
        case object(ObjectService)
    }

    /// An answer that waits for its update to be on disk.
    enum AfterCommit {
        case reply(RequestToken, Status, ReplyBody, Transno, PreVersions)
        case connect(RequestToken, UInt32, ConnectReply)
        /// A request that was put off until the clean record is withdrawn.
        case request(ServerRequest)
        case backlog
        case record(Transno)
        /// The clean record of this instance is deleted.
        case withdrawal
        case order(RequestToken, UpgradeAnswer)
    }

    /// What a request to a client is about.
    enum PendingCallback {
        case notice(UpgradeEpoch)
        case preflush(UpgradeEpoch)
        case blocking(lock: SlotHandle, wanted: LockDescriptor)
        case completion(lock: SlotHandle, granted: LockDescriptor, LockFlags)
        case glimpse(SlotHandle)
        case commitNotice(UpgradeEpoch)
        case admissionGrant
    }

    var rpc: RPCServer
    var locks: LockServer
    var upgrade: UpgradeTarget
    var upgradeActions = Outbox<UpgradeTarget.Action>()
    var service: Service
    var store: OverlayStore<StoreBox>?
    /// A metadata server as the client of its object servers.
    var client: ClientCore?
    public let instance: UInt64
    let admission: ResourceID

    var nextTransno: UInt64 = 1
    var afterOpenGroup: [AfterCommit] = []
    var afterGroup: [(group: UInt64, [AfterCommit])] = []
    var oldestUncommitted: Ticks?
    var wantsCommit = false
    /// An upgrade is announced: groups go to disk as soon as the one before is there.
    var isHurried = false
    var commitsBeforeReply = false
    var sites = FaultSites()
    var isSealed = false
    /// The store is the next instance's; what is left is to tell the clients.
    var isReleased = false
    var lastCommittedAtRelease = Transno.zero
    var isStopped = false
    var hasWrittenRun = false
    /// This instance stands in the store, and the clean record of the one before is gone.
    var isRunCommitted = false
    var runGroup: UInt64?
    var cleanRecordKeys: [[UInt8]] = []
    /// This instance started from a clean record.
    var hasCleanStart = false
    var exclusiveLock: SlotHandle?
    /// The admission lock of each export; by index.
    var admissionLocks: [SlotHandle?] = []
    var pendingCallbacks = SlotTable<PendingCallback>()
    /// Sizes that were asked for and not yet answered by all who may know more.
    var glimpses = SlotTable<Glimpse>()
    /// ASTs that found no place among those of their client, or whose failure has no consequence
    /// while an upgrade is announced: they go out again.
    var callbacksToRepeat: [(export: UInt32, PendingCallback)] = []
    /// Notices that a client answered with an error: they go out again then.
    var noticesDue: Ticks?
    /// What came behind the seal: the next instance's, or ours where the seal is taken back.
    var leftRequests: [ServerRequest] = []
    /// Requests about locks that no honest client sends.
    var lockFaultCount: UInt64 = 0
    var waitingForObjects: [ServerRequest] = []
    /// Room on the disk, of an object server.
    var space = SpaceLedger()
    /// Updates that wait until other clients have given up what they keep.
    var parkedUpdates: [ParkedUpdate] = []
    /// Of all time.
    var parkedCount: UInt64 = 0
    /// Opens whose clients are gone, to be ended a part at a time.
    var closing: [UInt64] = []
    /// Where the look at files without a name goes on; nil while none is due.
    var orphanKey: [UInt8]?
    /// Exports whose reservations are not claimed or given up yet.
    var reservedExports: [UInt32] = []
    var reservationDeadline: Ticks?
    /// What each object target was asked for and has not answered.
    var precreates: [PrecreateRequest?] = []
    var destroys: [[ObjectName]] = []
    /// Object targets whose gates were open at the last look.
    var usableCount = 0
    var admissionCounter: UInt64 = 1
    var nextHousekeeping: Ticks = .zero
    /// An order that is being taken, and whether its sender reads sentences.
    var pendingOrder: (token: RequestToken, wantsSentence: Bool)?
    /// Rows of the clean record that this instance has written.
    var ownRecordKeys: [[UInt8]] = []
    /// The clean record that this instance started from: who gave which receipt.
    var startRecord: CleanRecord?
    /// Builds below this protocol version may not have the store.
    var finalized: ProtocolVersion?
    /// When the group on its way to the disk was handed over; how long the last one took.
    var groupTakenAt: Ticks?
    var lastCommitTime = TickInterval.zero
    var upgradeAcceptedAt: Ticks = .zero
    var preparedAt: Ticks?
    var committedAt: Ticks?
    var evictionCount: UInt64 = 0
    /// The export that an `evicted` event follows for.
    var losing: ExportSummary?
    var versionMismatchCount: UInt64 = 0
    /// Groups that are on disk, and failures to get one there.
    var commitCount: UInt64 = 0
    var commitFailureCount: UInt64 = 0
    /// From the hand-over of a group to the news that it is on disk.
    public internal(set) var commitTimes = TimeHistogram()
    /// When the target got its store.
    var activeSince: Ticks = .zero
    /// Requests and other work that met damage in the store.
    var damageCount: UInt64 = 0
    /// What new updates are refused with while commits fail; nil while all is well.
    var diskRefusal: Status?
    var diskRefusalCount: UInt64 = 0
    var wall: Timestamp = .zero
    var faultCounter: UInt64 = 0
    var isRecovering = false

    /// A standby. `instance` must be greater than that of every earlier instance of the target:
    /// milliseconds of the wall clock are.
    public init(_ configuration: ServerConfiguration, instance: UInt64) {
        self.configuration = configuration
        self.instance = instance
        lnet = LNetCore(configuration.lnet)
        var rpcConfiguration = RPCServerConfiguration(
            targetName: configuration.targetName, kind: configuration.kind, instance: instance)
        rpcConfiguration.versions = configuration.versions
        rpcConfiguration.features = configuration.features
        rpcConfiguration.exportCountMax = configuration.clientCountMax
        rpcConfiguration.parkedConnectCountMax = configuration.clientCountMax
        rpcConfiguration.recoveryWindow = configuration.recoveryWindow
        rpcConfiguration.recoveryLimit = configuration.recoveryLimit
        rpcConfiguration.adaptive = configuration.adaptive
        rpcConfiguration.silenceMax = configuration.silenceMax
        rpcConfiguration.mutation = configuration.mutation
        rpc = RPCServer(rpcConfiguration)
        var lockConfiguration = LockServerConfiguration(instance: instance)
        lockConfiguration.callbackTimeout = configuration.callbackTimeout
        lockConfiguration.mutation = configuration.mutation
        locks = LockServer(lockConfiguration)
        upgrade = UpgradeTarget(instance: instance)
        upgrade.mutation = configuration.mutation
        admission = .admission(UInt64(configuration.targetIndex))
        switch configuration.kind {
        case .mds:
            var metadata = MetadataConfiguration(
                targetIndex: configuration.targetIndex, instance: instance)
            metadata.stripeSize = configuration.stripeSize
            service = .metadata(MetadataService(configuration: metadata))
        case .oss:
            service = .object(ObjectService(targetIndex: configuration.targetIndex))
        }
        rpc.attach(to: &lnet)
        if configuration.kind == .mds, !configuration.objectTargets.isEmpty {
            var clientConfiguration = ClientConfiguration(
                uuid: "\(configuration.targetName)-mdc", targets: configuration.objectTargets,
                seed: configuration.seed ^ instance, wallSeconds: instance / 1000)
            // Milliseconds, on the scale of seconds << 20: instances may follow one another fast.
            clientConfiguration.xidStart = (instance / 1000) << 20 + ((instance % 1000) << 10)
            clientConfiguration.versions = configuration.versions
            clientConfiguration.features = configuration.features
            clientConfiguration.mutation = configuration.mutation
            client = ClientCore(clientConfiguration)
        }
    }

    /// Clients that have connected beforehand and wait for the store.
    public var parkedConnectCount: Int { rpc.parkedConnectCount }
    public var isActive: Bool { store != nil }
    public var phase: UpgradePhase {
        if store == nil, !isReleased { return .standby }
        return isRecovering ? .recovering : upgrade.phase
    }

    /// Does everything that is due at `now`. To be called after connection events, commits and at
    /// `nextDeadline`. `wall` is the time of day that clean-up updates carry.
    public mutating func step(now: Ticks, wall: Timestamp) {
        self.wall = wall
        lnet.tick(now)
        rpc.tick(lnet: &lnet, now: now)
        tickLocks(now: now)
        withClient { $0.tick(lnet: &$1, wall: wall, now: now) }
        if store != nil {
            feed(.tick, now: now)
            releaseLateReservations(now: now)
            repeatNotices(now: now)
        } else if isReleased {
            feed(.tick, now: now)
        }
        pump(now: now)
        if store != nil {
            rpc.toleratesSilence = upgrade.phase != .serving
            tidyUp(now: now)
            housekeep(now: now)
            pump(now: now)
            takeGroup(now: now)
        }
    }

    /// Events and lock actions until nothing is left to do now.
    mutating func pump(now: Ticks) {
        var isBusy = true
        while isBusy {
            isBusy = false
            while let event = lnet.events.popFirst() {
                isBusy = true
                dispatch(event, now: now)
            }
            while let event = rpc.events.popFirst() {
                isBusy = true
                handle(event, now: now)
            }
            while let action = locks.actions.popFirst() {
                isBusy = true
                run(action, now: now)
            }
            if client != nil, handleClientEvents(now: now) { isBusy = true }
        }
    }

    private mutating func dispatch(_ event: LNetEvent, now: Ticks) {
        if rpc.handle(event, lnet: &lnet, now: now) { return }
        withClient { client, lnet in
            if client.handle(event, lnet: &lnet, now: now) { client.pump(lnet: &lnet, now: now) }
        }
    }

    /// When `step` is due next. In place: see `ClientCore.dueNext`.
    public mutating func dueNext() -> Ticks? {
        var earliest: Ticks?
        func consider(_ deadline: Ticks?) {
            guard let deadline else { return }
            earliest = earliest.map { min($0, deadline) } ?? deadline
        }
        consider(lnet.nextDeadline)
        consider(rpc.nextDeadline)
        consider(locks.nextDeadline)
        consider(upgrade.nextDeadline)
        consider(client?.dueNext())
        consider(reservationDeadline)
        consider(noticesDue)
        if store != nil {
            if client != nil, !isRecovering, !isSealed, !isStopped { consider(nextHousekeeping) }
            if hasToTidyUp { consider(.zero) }
            if let oldest = oldestUncommitted, afterGroup.isEmpty {
                consider(wantsCommit || isHurried ? oldest : oldest + configuration.commitInterval)
            }
        }
        return earliest
    }

    mutating func log(_ line: ServerLog) { actions.append(.log(line)) }

    var exportIndices: [UInt32] {
        var indices: [UInt32] = []
        rpc.forEachExport { if !$0.isObserver { indices.append($0.index) } }
        return indices
    }

    func owner(_ export: UInt32) -> LockOwner { LockOwner(index: export, generation: 0) }
}
