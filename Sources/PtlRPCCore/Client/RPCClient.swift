public import LNetCore
public import Primitives
public import WireFormat

/// The client half of ptlrpc on one node: its imports, and every request until it is answered and
/// committed. A value without I/O; see <doc:Imports>.
///
/// Calls never block. Events come out in the order in which things happened; take them after
/// every call.
public struct RPCClient: Sendable {
    public let configuration: RPCClientConfiguration
    /// For the owner; take them after every call.
    public var events = Outbox<RPCClientEvent>()

    var imports: [Import] = []
    var requests: RequestTable
    /// Messages are encoded here, one after another.
    var writer = WireWriter()
    var random: SplitMix64
    public var sites = FaultSites()
    /// The wildcard entries that take replies and callbacks; attached at the first connect.
    var replyEntries: [MEHandle] = []
    var callbackEntry: MEHandle?
    /// Requests of servers whose bytes were refused.
    public internal(set) var callbackErrors: UInt64 = 0

    public init(_ configuration: RPCClientConfiguration) {
        precondition(
            configuration.clientUUID.utf8.count < ConnectRequest.uuidSize, "a UUID is short")
        self.configuration = configuration
        requests = RequestTable(start: XID(rawValue: configuration.xidStart))
        random = SplitMix64(seed: configuration.seed)
    }

    // MARK: Imports

    public var importCount: Int { imports.count }

    /// Adds a target that lives at one of `nids`. Returns its index: 0, 1, 2...
    public mutating func addImport(targetName: String, kind: TargetKind, nids: [NID]) -> Int {
        precondition(!nids.isEmpty, "a target has a place")
        imports.append(
            Import(
                targetName: targetName, kind: kind, endpoints: nids.map { .init(nid: $0) },
                version: configuration.versions.upperBound))
        return imports.count - 1
    }

    /// Connects, and from now on reconnects by itself.
    public mutating func connect(_ index: Int, lnet: inout LNetCore, now: Ticks) {
        switch imports[index].state {
        case .new, .closed, .idle:
            startAttempt(index, at: imports[index].endpoint, &lnet, now)
        case .disconnected:
            imports[index].retryAt = now
            startDueAttempt(index, &lnet, now)
        case .connecting, .replay, .replayLocks, .replayWait, .recover, .full, .evicted:
            break
        }
    }

    /// Ends the connection: a DISCONNECT where one stands, then `closed`. What is under way fails
    /// with `shutdown`.
    public mutating func disconnect(_ index: Int, lnet: inout LNetCore, now: Ticks) {
        guard !imports[index].isLeaving else { return }
        abandonAttempt(index)
        abandonParked(index)
        failAll(index, .shutdown, &lnet)
        switch imports[index].state {
        case .closed:
            break
        case .full:
            imports[index].isLeaving = true
            imports[index].isIdling = false
            sendInternal(index, .disconnect, .disconnect(imports[index].kind), &lnet, now)
        case .new, .disconnected, .connecting, .replay, .replayLocks, .replayWait, .recover,
            .evicted, .idle:
            close(index, now)
        }
    }

    /// Says whether the owner has locks or opens at the target: without its record there, that is
    /// an eviction even if no update is under way.
    public mutating func setHoldsState(_ index: Int, _ holdsState: Bool) {
        imports[index].holdsState = holdsState
    }

    /// Says whether the owner wants the connection although it asks nothing: then it is not given up
    /// for being idle.
    public mutating func keepConnected(_ index: Int, _ keeps: Bool) {
        imports[index].isKept = keeps
    }

    /// The newest upgrade that the owner has been told of; connect carries it.
    public mutating func noteEpoch(_ index: Int, _ epoch: UpgradeEpoch) {
        if imports[index].epoch < epoch { imports[index].epoch = epoch }
    }

    public func state(_ index: Int) -> ImportState { imports[index].state }
    /// How many lock seconds the target lets this client keep unused; 0 while it has not said.
    public func serverLockVolume(_ index: Int) -> UInt64 { imports[index].serverLockVolume }

    public func summary(_ index: Int) -> ImportSummary {
        let subject = imports[index]
        return ImportSummary(
            targetName: subject.targetName, state: subject.state, version: subject.version,
            features: subject.features, instance: subject.instance, nid: subject.nid,
            nids: subject.endpoints.map(\.nid), failures: subject.failures,
            connectionCount: subject.connectionCount,
            highestXID: subject.highestXID, highestTransno: subject.highestTransno,
            lastCommitted: subject.lastCommitted, updatesInFlight: subject.updateCount,
            sentCount: subject.sent.count, savedCount: subject.savedCount,
            queuedCount: subject.queuedCount,
            serviceEstimate: subject.serviceEstimate.latest,
            networkLatency: subject.latencyEstimate.latest,
            isDisconnecting: subject.isIdling || subject.isLeaving, counters: subject.counters,
            history: subject.history)
    }

    // MARK: Requests

    /// Sends a request, now or as soon as the import and its limits allow. One `reply` or
    /// `failed` with `cookie` follows, unless it is cancelled.
    @discardableResult
    public mutating func call(
        _ index: Int, _ body: RequestBody, cookie: UInt64, lnet: inout LNetCore, now: Ticks
    ) -> RequestHandle {
        let xid = requests.insert(.call, body, cookie: cookie, import: index)
        imports[index].highestXID = xid
        imports[index].counters.calls &+= 1
        let isClosed = imports[index].state == .closed || imports[index].isLeaving
        if isClosed || imports[index].queuedCount >= configuration.queuedMax {
            let status = isClosed ? Status.shutdown : .tryAgain
            requests.remove(xid)
            events.append(.failed(cookie: cookie, import: index, status: status, xid: xid))
            return RequestHandle(xid: xid)
        }
        requests.appendUnanswered(xid, to: &imports[index].unanswered)
        if requests[xid].isUpdate { imports[index].updateCount += 1 }
        enqueue(xid, index)
        imports[index].lastUsedAt = now
        if imports[index].state == .idle {
            startAttempt(index, at: imports[index].endpoint, &lnet, now)
        }
        pump(index, &lnet, now)
        return RequestHandle(xid: xid)
    }

    /// Nobody awaits the answer any more. True if the request was never sent: it has no effect.
    /// Otherwise it goes on, and is saved if it is an update, but no event follows.
    @discardableResult
    public mutating func cancel(_ handle: RequestHandle) -> Bool {
        guard requests.contains(handle.xid), requests[handle.xid].kind == .call,
            !requests[handle.xid].isSaved
        else { return false }
        guard !requests[handle.xid].wasSent else {
            requests[handle.xid].isCancelled = true
            return false
        }
        release(handle.xid)
        return true
    }

    /// Saved requests up to `transno` are on disk: a commit notice said so.
    public mutating func purgeCommitted(_ index: Int, upTo transno: Transno) {
        noteCommitted(index, transno)
    }

    /// Whether the request has neither been answered nor failed.
    public func isUnderWay(_ handle: RequestHandle) -> Bool {
        requests.contains(handle.xid) && !requests[handle.xid].isSaved
    }
}
