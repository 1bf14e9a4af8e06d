public import LNetCore
public import Primitives
public import WireFormat

/// The server half of ptlrpc for one target: exports, exactly-once execution, recovery, callbacks.
///
/// A value without I/O. LNet's events and time come in; `events` tell the owner what to do, and
/// the owner answers by token. One server per `LNetCore`. See the article on exports.
public struct RPCServer: Sendable {
    /// How the target's store was left by the instance before.
    public enum StartMode: Equatable, Sendable {
        /// An empty store.
        case fresh
        /// Stopped uncleanly: known clients replay.
        case recovering(lastCommitted: Transno)
        /// Stopped cleanly: known clients tell their opens and locks, and nothing is missing.
        case clean(lastCommitted: Transno)
    }

    public let configuration: RPCServerConfiguration
    public var events = Outbox<RPCServerEvent>()
    public internal(set) var counters = RPCServerCounters()
    public internal(set) var statistics = RequestStatistics()
    public internal(set) var stage = RecoveryStage.standby
    /// Goes out with every reply: the highest transno that is known to be on disk.
    public var lastCommitted = Transno.zero
    /// Go out with every reply: how many locks the target has room for, and the volume of them that
    /// one client may keep unused (`pb_limit`, `pb_slv`).
    public var lockLimit: UInt32 = 0
    public var serverLockVolume: UInt64 = 0

    var exports: ExportTable
    var requests = SlotTable<PendingRequest>()
    var callbacks = SlotTable<Callback>()
    var callbackSequence: UInt64
    var callbackTimers = TimerQueue<SlotHandle>()
    var parked: [ParkedConnect] = []
    /// Never iterated.
    var parkedIndices: [String: Int] = [:]
    var recovery = RecoveryState()
    /// When requests under way are looked at for early replies; nil while there are none.
    var earlyCheckAt: Ticks?
    var serviceEstimate = TimeEstimate()
    /// When silent clients are looked for.
    var silenceCheckAt: Ticks?
    /// Nobody is evicted for silence: an upgrade counts on its clients, however long they take.
    public var toleratesSilence = false
    /// Whether the request at hand takes early replies, for an error that answers it.
    var errorTakesEarly = false
    var entries: [MEHandle] = []
    var writer = WireWriter(capacity: 1024)
    var now = Ticks.zero

    public init(_ configuration: RPCServerConfiguration) {
        self.configuration = configuration
        exports = ExportTable(
            instance: configuration.instance, countMax: configuration.exportCountMax)
        callbackSequence = configuration.instance << 20
    }

    // MARK: Life

    /// Attaches the portals: from now on connects are parked.
    public mutating func attach(to lnet: inout LNetCore) {
        precondition(entries.isEmpty, "a server is attached once")
        entries = [
            attach(configuration.kind.requestPortal, .request, &lnet),
            attach(ServicePortal.lockCancelRequest, .cancel, &lnet),
            attach(ServicePortal.lockCallbackReply, .callbackReply, &lnet),
        ]
    }

    private func attach(
        _ portal: UInt32, _ kind: ServerCookie.Kind, _ lnet: inout LNetCore
    ) -> MEHandle {
        lnet.attach(
            portal: portal, matchBits: 0, ignoreBits: .max,
            MemoryDescriptor(
                memory: .events(lengthMax: configuration.requestByteCountMax), options: .put),
            cookie: ServerCookie(tag: configuration.cookieTag, kind).rawValue)
    }

    /// Takes a client's row of table `clients`. Before `start`.
    public mutating func load(clientKey key: [UInt8], value: [UInt8]) throws(WireError) {
        precondition(stage == .standby, "records are loaded before the start")
        let record = try ClientRecord(key: key, value: value)
        var export = Export(
            uuid: record.uuid, clientHandle: record.clientHandle, nid: record.nid,
            version: record.version, features: record.features)
        export.isAbsent = true
        guard exports.load(export, at: record.index) else {
            throw .badValue(field: "client index", value: UInt64(record.index))
        }
    }

    /// Takes a row of table `replyData`, after the clients' rows and before `start`. A row of a
    /// client that is no more is ignored.
    public mutating func load(replyKey key: [UInt8], value: [UInt8]) throws(WireError) {
        precondition(stage == .standby, "records are loaded before the start")
        if configuration.mutation.is(.losesReplyData) { return }
        let record = try ReplyRecord(key: key, value: value)
        guard exports.contains(record.index),
            exports[record.index].clientHandle == record.clientHandle
        else { return }
        exports[record.index].makeSlots()
        exports[record.index].slots[Int(record.tag) - 1] = ReplySlot(
            state: .finished, xid: record.xid, transno: record.transno, status: record.status,
            saved: record.saved)
    }

    /// Since which instance only clean stops lie behind a client of the clean record. Who was last
    /// connected to an earlier one has missed a recovery: it is a stranger. After `load`, before
    /// `start`.
    public mutating func setCleanSince(_ instance: UInt64, of index: UInt32) {
        precondition(stage == .standby, "the record is loaded before the start")
        if exports.contains(index) { exports[index].cleanSince = instance }
    }

    /// Leaves standby: parked connects are taken, in the order of their first arrival.
    public mutating func start(_ mode: StartMode, lnet: inout LNetCore, now: Ticks) {
        precondition(stage == .standby, "a server starts once")
        self.now = now
        switch mode {
        case .fresh:
            enter(.serving)
        case .clean(let committed):
            lastCommitted = committed
            recovery.recoveredTransno = committed
            forEachIndex { server, index in server.exports[index].isCleanRecord = true }
            enter(.serving)
        case .recovering(let committed):
            lastCommitted = committed
            recovery.recoveredTransno = committed
            recovery.nextTransno = committed.rawValue &+ 1
            forEachIndex { server, index in server.setRecovery(.absent, of: index) }
            enter(.connecting)
        }
        releaseParked(lnet: &lnet)
        advanceRecovery(lnet: &lnet)
        if let silence = configuration.silenceMax { silenceCheckAt = now + silence }
    }

    /// Takes nothing any more and answers nothing: what still arrives is the next instance's.
    public mutating func stop(lnet: inout LNetCore) {
        for entry in entries { lnet.unlink(entry) }
        entries = []
        stage = .stopped
    }

    // MARK: Inputs

    /// Takes an event of LNet. True where it was this server's; false also for news of peers,
    /// which concern everybody.
    public mutating func handle(
        _ event: LNetEvent, lnet: inout LNetCore, now: Ticks
    ) -> Bool {
        self.now = now
        switch event {
        case .put(let put):
            let cookie = ServerCookie(rawValue: put.cookie)
            guard cookie.tag == configuration.cookieTag, let kind = cookie.kind else {
                return false
            }
            guard stage != .stopped else { return true }
            switch kind {
            case .request: receive(put, configuration.kind.replyPortal, lnet: &lnet)
            case .cancel: receive(put, ServicePortal.lockCancelReply, lnet: &lnet)
            case .callbackReply: receiveCallbackReply(put, lnet: &lnet)
            case .fetch, .bulkPut: break
            }
            return true
        case .reply(let reply):
            guard ServerCookie(rawValue: reply.cookie).tag == configuration.cookieTag else {
                return false
            }
            fetched(reply, lnet: &lnet)
            return true
        case .ack(let raw, _):
            let cookie = ServerCookie(rawValue: raw)
            guard cookie.tag == configuration.cookieTag else { return false }
            if cookie.kind == .bulkPut, let slot = cookie.slot(in: requests) {
                bulkArrived(slot, lnet: &lnet)
            }
            return true
        case .sendFailed(let raw, _):
            let cookie = ServerCookie(rawValue: raw)
            guard cookie.tag == configuration.cookieTag else { return false }
            switch cookie.kind {
            case .fetch, .bulkPut:
                // The client sends the request again when it can be reached.
                if let slot = cookie.slot(in: requests) { abort(slot) }
            case .request, .cancel, .callbackReply, nil: break
            }
            return true
        case .putFailed(let cookie, _, _, _):
            return ServerCookie(rawValue: cookie).tag == configuration.cookieTag
        case .peerDown(let nid, _):
            peerLost(nid)
            return false
        case .get, .peerUp, .pinged, .discovered:
            return false
        }
    }

    /// When `tick` is due next; nil while nothing can happen by itself.
    public var nextDeadline: Ticks? {
        var earliest = callbackTimers.nextDeadline
        func consider(_ deadline: Ticks?) {
            guard let deadline else { return }
            earliest = earliest.map { min($0, deadline) } ?? deadline
        }
        consider(recovery.deadline)
        consider(recovery.limit)
        consider(earlyCheckAt)
        consider(silenceCheckAt)
        return earliest
    }

    /// Time has passed.
    public mutating func tick(lnet: inout LNetCore, now: Ticks) {
        self.now = now
        while let callback = callbackTimers.popDue(now: now) {
            callbackTimedOut(callback, lnet: &lnet)
        }
        if let deadline = recovery.deadline, deadline <= now { windowExpired(lnet: &lnet) }
        if let limit = recovery.limit, limit <= now { limitExpired(lnet: &lnet) }
        if let check = earlyCheckAt, check <= now { sendEarlyReplies(lnet: &lnet) }
        if let check = silenceCheckAt, check <= now { evictSilent(lnet: &lnet) }
    }

    private mutating func peerLost(_ nid: NID) {
        for index in exports.nids.indices where exports.nids[index] == nid.rawValue {
            let index = UInt32(index)
            if exports[index].isObserver {
                // It has no record, and will ask anew.
                forget(index)
                continue
            }
            guard exports[index].peer != nil else { continue }
            exports[index].peer = nil
            events.append(.peerLost(export: index))
        }
        for index in parked.indices where parked[index].put.initiator.nid == nid {
            parked[index].isLost = true
        }
    }

    // MARK: What the owner asks

    /// How many clients are known, absent ones and observers included.
    public var exportCount: Int { exports.count }

    /// Whether everybody is served.
    public var isRecovering: Bool {
        switch stage {
        case .connecting, .openReplay, .requestReplay, .lockReplay: true
        case .standby, .serving, .stopped: false
        }
    }

    /// Whether a token still stands for a request.
    public func isCurrent(_ token: RequestToken) -> Bool { requests.contains(token.slot) }

    /// Nil where there is no such export.
    public func summary(of export: UInt32) -> ExportSummary? {
        guard exports.contains(export) else { return nil }
        let found = exports[export]
        return ExportSummary(
            index: export, uuid: found.uuid, nid: found.nid, version: found.version,
            features: found.features, lastXID: found.lastXID, isConnected: found.peer != nil,
            isObserver: found.isObserver, isFenced: found.isFenced,
            isRecovering: found.recovery != .none, isAbsent: found.isAbsent,
            requestCount: found.requests.count, standing: found.recovery.standing,
            replay: found.account, lastHeard: found.lastHeard)
    }

    /// All exports in the order of their indices.
    public func forEachExport(_ body: (ExportSummary) -> Void) {
        for index in 0..<exports.placeCount {
            if let summary = summary(of: UInt32(index)) { body(summary) }
        }
    }

    /// The row that remembers the client. Nil for an observer, which has none.
    public func clientRecord(of export: UInt32) -> ClientRecord? {
        guard exports.contains(export), !exports[export].isObserver else { return nil }
        let found = exports[export]
        return ClientRecord(
            index: export, version: found.version, clientHandle: found.clientHandle,
            features: found.features, nid: found.nid, uuid: found.uuid)
    }

    // MARK: What the owner decides

    /// Refuses the client's updates from now on: it was left behind, and learns so when it comes.
    public mutating func fence(_ export: UInt32) {
        if exports.contains(export) { exports[export].isFenced = true }
    }

    /// Takes the client's updates again.
    public mutating func unfence(_ export: UInt32) {
        if exports.contains(export) { exports[export].isFenced = false }
    }

    /// What stands behind every reply to this client that brings no trailer of its own.
    public mutating func setTrailer(_ trailer: ReplyTrailer?, of export: UInt32) {
        if exports.contains(export) { exports[export].trailer = trailer }
    }

    /// Takes the export away: its requests and callbacks are void, its rows are to be removed.
    public mutating func evict(
        _ export: UInt32, _ reason: EvictionReason, lnet: inout LNetCore, now: Ticks
    ) {
        self.now = now
        guard exports.contains(export) else { return }
        evict(export, reason)
        advanceRecovery(lnet: &lnet)
    }

    mutating func evict(_ index: UInt32, _ reason: EvictionReason) {
        let uuid = exports[index].uuid
        let isObserver = exports[index].isObserver
        if isRecovering, !isObserver { recovery.evicted.append(index) }
        if !isObserver, let summary = summary(of: index) { events.append(.losing(summary)) }
        forget(index)
        guard !isObserver else { return }
        counters.evictions += 1
        events.append(.evicted(export: index, clientUUID: uuid, reason: reason))
    }

    /// Removes the export with all that hangs on it.
    mutating func forget(_ index: UInt32) {
        setRecovery(.none, of: index)
        recovery.queuedCount -= exports[index].queuedReplayCount
        guard let export = exports.remove(index) else { return }
        for slot in export.requests { requests.remove(slot) }
        for slot in export.callbacks { endCallback(slot, .notConnected, .empty) }
    }

    private mutating func forEachIndex(_ body: (inout RPCServer, UInt32) -> Void) {
        for index in 0..<UInt32(exports.placeCount) where exports.contains(index) {
            body(&self, index)
        }
    }
}
