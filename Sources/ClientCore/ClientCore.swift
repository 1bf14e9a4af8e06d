import LDLMCore
public import LNetCore
public import Primitives
public import PtlRPCCore
import UpgradeCore
public import WireFormat

/// A client of the file system: operations in, requests out, locks and bytes kept between.
///
/// A value without I/O. The owner submits operations, hands over LNet's events and the time, and
/// takes `events`. Every operation submitted ends in exactly one `.completed`.
///
/// Invariant A: an update begins only while the gates of all its targets are open. The gate stands
/// at the entry: before cache, XID, slot or lock reference. An operation that had to wait for a
/// lock passes the gate again before it changes anything.
public struct ClientCore {
    public let configuration: ClientConfiguration
    public var events = Outbox<ClientEvent>()

    struct Target {
        var upgrade: UpgradeClient
        var locks: LockClient
        /// The object that each lock guards, by the lock's place.
        var lockPlaces: [SlotHandle] = []
        /// Operations that passed the gate and have not ended.
        var running = 0
        /// Bytes written back for the upgrade in hand.
        var flushedBytes: UInt64 = 0
        var flushPolicy: CachePolicy?
        /// The server's cookie of the admission lock; 0 without one.
        var admissionCookie: UInt64 = 0
        /// The client's cookie of the admission lock: a new one with every enqueue.
        var admissionGeneration: UInt64 = 1
        var epoch: UpgradeEpoch = .none
        /// A stamp is due at the next operation that waits, and at the next update answered.
        var expectsWait = false
        var expectsAcknowledgement = false
        /// The target has asked for the gate: it will open again.
        var expectsGateOpening = false
        var drainEpoch: UpgradeEpoch?
        var flushEpoch: UpgradeEpoch?
        /// Room that the target has set aside for dirty bytes.
        var grant = GrantAccount()
        /// When the target was heard of last: what is held there is believed for a while.
        var heardAt: Ticks = .zero
        var lastCommittedAtConnect: Transno = .zero
        var isClean = false
        /// Left because nothing was wanted there: its gate stays open, and who passes it connects.
        var isIdle = false
    }

    var rpc: RPCClient
    var targets: [Target] = []
    var names: NameCache
    public internal(set) var counters = ClientCounters()
    /// Target of an object target's index in layouts; -1 for none.
    var targetOfIndex: [Int] = []
    let metadataTarget: Int
    var operations = SlotTable<Operation>()
    var openFiles = SlotTable<OpenFile>()
    var objects = SlotTable<CachedObject>()
    var objectPlaces: [ObjectKey: SlotHandle] = [:]
    var pendingCalls = SlotTable<PendingCall>()
    /// Blocking ASTs of admission locks that have no answer yet.
    var pendingASTs = SlotTable<CallbackToken>()
    /// Operations in the order of their arrival at shut gates.
    var gateQueue: [SlotHandle] = []
    var ready = Outbox<SlotHandle>()
    /// Operations that wait for room among the dirty bytes.
    var throttled: [SlotHandle] = []
    /// Objects in the order in which they became dirty.
    var dirtyQueue = Outbox<SlotHandle>()
    var oldestDirty: Ticks?
    var dirtyByteCount = 0
    /// Objects with write-backs under way.
    var writingObjectCount = 0
    var cachedByteCount = 0
    /// Bytes that are being read ahead.
    var readAheadByteCount = 0
    var retries = TimerQueue<SlotHandle>()
    /// Operations that hold locks while they wait for another.
    var holding = TimerQueue<SlotHandle>()
    /// Record locks of this client's processes, held and waited for.
    var records = RecordLockTable()
    var upgradeActions = Outbox<UpgradeClient.Action>()
    var wallClock: Timestamp = .zero
    public var sites = FaultSites()
    var isUnmounting = false
    var isUnmounted = false
    var hasBegunDisconnect = false

    public init(_ configuration: ClientConfiguration) {
        self.configuration = configuration
        var random = SplitMix64(seed: configuration.seed)
        var rpcConfiguration = RPCClientConfiguration(
            clientUUID: configuration.uuid, clientHandle: random.next() | 1,
            wallSeconds: configuration.wallSeconds, seed: random.next())
        if let start = configuration.xidStart { rpcConfiguration.xidStart = start }
        rpcConfiguration.versions = configuration.versions
        rpcConfiguration.features = configuration.features
        rpcConfiguration.requestTimeout = configuration.requestTimeout
        rpcConfiguration.connectTimeout = configuration.connectTimeout
        rpcConfiguration.isObserver = configuration.isObserver
        rpcConfiguration.adaptive = configuration.adaptive
        rpcConfiguration.pingInterval = configuration.pingInterval
        rpcConfiguration.idleTimeout = configuration.idleTimeout
        rpcConfiguration.mutation = configuration.mutation
        rpc = RPCClient(rpcConfiguration)
        names = NameCache(
            nameCountMax: configuration.nameCountMax, fileCountMax: configuration.fileCountMax)
        metadataTarget = configuration.targets.firstIndex { $0.kind == .mds } ?? -1
        for (place, target) in configuration.targets.enumerated() {
            let index = rpc.addImport(
                targetName: target.name, kind: target.kind, nids: target.nids)
            precondition(index == place, "imports are numbered as targets are")
            targets.append(
                Target(
                    upgrade: UpgradeClient(mutation: configuration.mutation),
                    locks: LockClient(
                        unusedCountMax: target.kind == .mds
                            ? configuration.fileCountMax : configuration.unusedLockCountMax)))
            if target.kind == .oss {
                while targetOfIndex.count <= Int(target.index) { targetOfIndex.append(-1) }
                targetOfIndex[Int(target.index)] = place
            }
        }
    }

    /// Connects to every target. Operations may be submitted at once: they wait.
    public mutating func mount(lnet: inout LNetCore, now: Ticks) {
        for index in targets.indices { rpc.connect(index, lnet: &lnet, now: now) }
        pump(lnet: &lnet, now: now)
    }

    /// Disconnects from every target without writing anything back: for a metadata server, whose own
    /// requests have nothing to lose.
    public mutating func leave(lnet: inout LNetCore, now: Ticks) {
        for index in targets.indices { rpc.disconnect(index, lnet: &lnet, now: now) }
        pump(lnet: &lnet, now: now)
    }

    /// Writes everything back, gives up every lock, disconnects; `.unmounted` tells the end.
    public mutating func unmount(lnet: inout LNetCore, now: Ticks) {
        isUnmounting = true
        pump(lnet: &lnet, now: now)
    }

    /// Begins an operation. `wall` is the time that updates carry.
    /// - Returns: a name by which it can be cancelled.
    @discardableResult
    public mutating func submit(
        _ request: FileOperation, cookie: UInt64, wall: Timestamp, lnet: inout LNetCore, now: Ticks
    ) -> SlotHandle {
        wallClock = wall
        let handle = operations.insert(
            Operation(cookie: cookie, request: request, stage: .atGate, targets: 0))
        begin(handle, lnet: &lnet, now: now)
        pump(lnet: &lnet, now: now)
        return handle
    }

    /// Takes an operation back that still waits at a gate: nothing was sent, nothing happened.
    /// One that has passed it goes on, since its effect may be there already.
    /// - Returns: whether it was taken back.
    @discardableResult
    public mutating func cancel(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) -> Bool {
        guard let operation = operations[handle] else { return false }
        if operation.stage == .recordLock {
            abandonRecordLock(handle, lnet: &lnet, now: now)
            finish(handle, .failure(OperationError(.cancelled)))
            pump(lnet: &lnet, now: now)
            return true
        }
        guard operation.stage == .atGate else { return false }
        if case .close(let file) = operation.request,
            openFiles[SlotHandle(rawValue: file.rawValue)]?.isClosing == true
        {
            return false
        }
        gateQueue.removeAll { $0 == handle }
        finish(handle, .failure(OperationError(.cancelled)))
        pump(lnet: &lnet, now: now)
        return true
    }

    /// True where the event was for this client.
    public mutating func handle(_ event: LNetEvent, lnet: inout LNetCore, now: Ticks) -> Bool {
        rpc.handle(event, lnet: &lnet, now: now)
    }

    /// Drives everything that is due. To be called after `handle`, and at `nextDeadline`.
    public mutating func tick(lnet: inout LNetCore, wall: Timestamp, now: Ticks) {
        wallClock = wall
        rpc.tick(lnet: &lnet, now: now)
        while let handle = retries.popDue(now: now) { ready.append(handle) }
        releaseLongHeld(now: now)
        if let oldest = oldestDirty {
            let isEarly = sites.fires(.writeBackEarly)
            if isEarly || oldest + configuration.writebackDelay <= now {
                writeBackOld(lnet: &lnet, now: now, everything: isEarly)
            }
        }
        if sites.fires(.dropUnusedLocks) {
            for index in targets.indices { targets[index].locks.cancelUnused(keeping: 0) }
        }
        for index in targets.indices {
            ageLocks(index, now: now)
            noteUse(of: index)
            guard targets.span[index].upgrade.due <= now else { continue }
            upgrade(index, .tick, lnet: &lnet, now: now)
        }
        pump(lnet: &lnet, now: now)
    }

    /// When `tick` is due next. It changes nothing: it is `mutating` so that a shell that asks after
    /// every step asks in place, and copies no part of the client.
    public mutating func dueNext() -> Ticks? {
        var earliest = rpc.nextDeadline ?? .distantFuture
        if let due = retries.nextDeadline { earliest = min(earliest, due) }
        if let due = holding.nextDeadline { earliest = min(earliest, due) }
        if let oldest = oldestDirty {
            earliest = min(earliest, oldest + configuration.writebackDelay)
        }
        for index in targets.indices {
            earliest = min(earliest, targets[index].upgrade.due)
            if targets[index].upgrade.isGateOpen, let due = targets[index].locks.dueNext() {
                earliest = min(earliest, due)
            }
        }
        return earliest == .distantFuture ? nil : earliest
    }

    /// Runs events, lock actions and operations until nothing is left to do now.
    public mutating func pump(lnet: inout LNetCore, now: Ticks) {
        var isBusy = true
        while isBusy {
            isBusy = false
            while let event = rpc.events.popFirst() {
                isBusy = true
                handle(event, lnet: &lnet, now: now)
            }
            for index in targets.indices {
                while let action = targets[index].locks.actions.popFirst() {
                    isBusy = true
                    run(action, target: index, lnet: &lnet, now: now)
                }
            }
            while let handle = ready.popFirst() {
                isBusy = true
                advance(handle, lnet: &lnet, now: now)
            }
            if !isBusy { isBusy = settleUpgrades(lnet: &lnet, now: now) }
            if !isBusy, isUnmounting { isBusy = continueUnmount(lnet: &lnet, now: now) }
        }
    }

    // MARK: What others may know

    public var operationCount: Int { operations.count }
    /// What each operation under way waits for, in words; for post-mortems.
    public var operationDescriptions: [String] {
        operations.handles.compactMap { handle in
            operations[handle].map {
                "\($0.request) is \($0.stage), replies due \($0.pendingReplies), locks "
                    + "\($0.locks.count { $0 != nil }) of \($0.locks.count), at gate "
                    + "\(gateQueue.contains(handle))"
            }
        }
    }
    public var gateQueueCount: Int { gateQueue.count }
    public var dirtyBytes: Int { dirtyByteCount }
    public func summary(_ target: Int) -> ImportSummary { rpc.summary(target) }
    public func isGateOpen(_ target: Int) -> Bool { targets[target].upgrade.isGateOpen }
    public func lockCount(_ target: Int) -> Int { targets[target].locks.count }

    // MARK: Parts

    /// Whether a target may be left when nothing is wanted there: the metadata server is never.
    private mutating func noteUse(of index: Int) {
        guard configuration.idleTimeout != nil else { return }
        let isUsed =
            configuration.targets[index].kind == .mds || targets[index].locks.count > 0
            || targets[index].running > 0
        rpc.keepConnected(index, isUsed)
    }

    mutating func call(
        _ target: Int, _ body: RequestBody, for purpose: PendingCall, lnet: inout LNetCore,
        now: Ticks
    ) {
        let cookie = pendingCalls.insert(purpose).rawValue
        _ = rpc.call(target, body, cookie: cookie, lnet: &lnet, now: now)
    }

    mutating func finish(_ handle: SlotHandle, _ result: Result<FileResult, OperationError>) {
        guard let operation = operations.remove(handle) else { return }
        releaseLocks(of: operation)
        stopRunning(operation.runningTargets)
        for object in operation.objects { releaseObject(object) }
        events.append(.completed(cookie: operation.cookie, result))
    }

    mutating func fail(_ handle: SlotHandle, _ status: Status) {
        finish(handle, .failure(OperationError(status)))
    }

    private mutating func continueUnmount(lnet: inout LNetCore, now: Ticks) -> Bool {
        guard !isUnmounted else { return false }
        if !hasBegunDisconnect {
            guard operations.count == 0 else { return false }
            for handle in openFiles.handles {
                guard let file = openFiles.remove(handle), !file.isStale else { continue }
                for object in file.objects { releaseObject(object) }
                call(
                    metadataTarget,
                    .close(CloseRequest(file: file.file, handle: file.serverHandle)), for: .none,
                    lnet: &lnet, now: now)
            }
            if dirtyByteCount > 0 {
                for handle in objects.handles { writeBack(handle, lnet: &lnet, now: now) }
            }
            for index in targets.indices { targets[index].locks.cancelUnused(keeping: 0) }
            guard pendingCalls.count == 0,
                targets.allSatisfy({ $0.locks.count == 0 && $0.locks.actions.isEmpty })
            else { return targets.contains { !$0.locks.actions.isEmpty } }
            // Who leaves replays nothing: a target that crashes now would have lost what it has only
            // in memory.
            for index in targets.indices where rpc.summary(index).savedCount > 0 {
                call(
                    index, .sync(configuration.targets[index].kind), for: .none, lnet: &lnet,
                    now: now)
            }
            guard pendingCalls.count == 0 else { return false }
            hasBegunDisconnect = true
            for index in targets.indices { rpc.disconnect(index, lnet: &lnet, now: now) }
            return true
        }
        guard targets.indices.allSatisfy({ rpc.state($0) == .closed }) else { return false }
        isUnmounted = true
        events.append(.unmounted)
        return false
    }
}
