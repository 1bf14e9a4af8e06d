public import LNetCore
public import Primitives
public import WireFormat

extension RPCClient {
    // MARK: Upgrade

    /// Sends a second CONNECT to where the target comes back, while the present connection goes
    /// on. The server there answers when it serves; its answer makes the import switch over.
    public mutating func preconnect(
        _ index: Int, to nid: NID, lnet: inout LNetCore, now: Ticks
    ) {
        guard isWanted(index) else { return }
        let endpoint = imports[index].endpoint(for: nid)
        if let parked = imports[index].parked {
            guard parked.endpoint != endpoint else { return }
            abandonParked(index)
        }
        imports[index].parked = sendConnect(index, endpoint, &lnet, now)
    }

    /// The target does not come back elsewhere after all: a connect that waits there is forgotten.
    public mutating func forgetPreconnect(_ index: Int) {
        if imports[index].state.isConnected { abandonParked(index) }
    }

    /// A push said that the target is up: reconnects there now, whatever back-off runs. Ignored
    /// where the import knows that instance or a newer one.
    public mutating func targetUp(
        _ index: Int, nid: NID, instance: UInt64, lnet: inout LNetCore, now: Ticks
    ) {
        // Who left because it was idle is called only where its leave was lost with the instance that
        // took it, and is waited for: it comes, with nothing to tell, and leaves again.
        guard isWanted(index) || imports[index].state == .idle else { return }
        if imports[index].state.isConnected, imports[index].instance >= instance { return }
        guard imports[index].instance <= instance else { return }
        let endpoint = imports[index].endpoint(for: nid)
        // A CONNECT that is under way there will be answered by that instance; if it was lost
        // before the instance came up, it is soon repeated.
        let patience = now + Self.pushPatience
        if let parked = imports[index].parked, parked.endpoint == endpoint {
            imports[index].parked!.deadline = min(parked.deadline, patience)
            return
        }
        if imports[index].state.isConnected { dropConnection(index, .switched, &lnet, now) }
        if let attempt = imports[index].attempt, attempt.endpoint == endpoint {
            imports[index].attempt!.deadline = min(attempt.deadline, patience)
            return
        }
        abandonAttempt(index)
        imports[index].failures = 0
        startAttempt(index, at: endpoint, &lnet, now)
    }

    /// The owner has asked for a connection and has not ended it.
    private func isWanted(_ index: Int) -> Bool {
        switch imports[index].state {
        case .new, .closed, .idle: false
        case .disconnected, .connecting, .replay, .replayLocks, .replayWait, .recover, .full,
            .evicted:
            !imports[index].isLeaving
        }
    }

    /// How long after a push the answer to an earlier CONNECT may take.
    private static var pushPatience: TickInterval { .milliseconds(100) }

    // MARK: Attempts

    /// Sends CONNECT to one endpoint and waits for its answer.
    mutating func startAttempt(
        _ index: Int, at endpoint: Int, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        imports[index].endpoint = endpoint
        imports[index].retryAt = .distantFuture
        if imports[index].state != .connecting { imports[index].enter(.connecting, now) }
        imports[index].attempt = sendConnect(index, endpoint, &lnet, now)
    }

    private mutating func sendConnect(
        _ index: Int, _ endpoint: Int, _ lnet: inout LNetCore, _ now: Ticks
    ) -> Import.Attempt {
        attachEntries(&lnet)
        let subject = imports[index]
        var connect = ConnectRequest(
            targetName: subject.targetName, clientUUID: configuration.clientUUID,
            clientHandle: configuration.clientHandle &+ UInt64(index),
            versions: configuration.versions, features: configuration.features,
            epoch: subject.epoch, lastInstance: subject.instance,
            isObserver: configuration.isObserver)
        connect.connectData.bulkSize = UInt32(ObjectWriteRequest.byteCountMax)
        connect.connectData.grant = subject.grantClaim
        connect.connectData.modifyingRequestsMax = UInt16(
            configuration.versions.upperBound.modifyingRequestsMax)

        var header = PtlRPCBody()
        header.handle = subject.remoteHandle
        header.connectionCount = subject.lastConnectionCount &+ 1
        header.timeoutSeconds = UInt32(
            clamping: configuration.connectTimeout.nanoseconds / 1_000_000_000)
        // What the target has been taking: a recovery there waits the longer for this client.
        header.serviceSeconds = subject.serviceEstimate.latest.secondsRoundedUp
        header.operationFlags = subject.instance == 0 ? .initial : .reconnect
        if subject.savedHead < subject.saved.count {
            // MSG_CONNECT_TRANSNO: what would be replayed first.
            connect.connectData.transno = subject.saved[subject.savedHead].transno.rawValue
            header.operationFlags.insert(.transno)
        }
        imports[index].lastConnectionCount &+= 1
        imports[index].counters.connectAttempts &+= 1
        let xid = requests.insert(
            .connect, .connect(connect, subject.kind), cookie: 0, import: index)
        imports[index].highestXID = xid
        requests[xid].connectionCount = header.connectionCount
        transmit(xid, header, endpoint, index, &lnet, now)
        return Import.Attempt(
            xid: xid, endpoint: endpoint, connectionCount: header.connectionCount,
            startedAt: now, deadline: now + configuration.connectTimeout)
    }

    mutating func abandonAttempt(_ index: Int) {
        if let attempt = imports[index].attempt, attempt.xid != .zero {
            requests.remove(attempt.xid)
        }
        imports[index].attempt = nil
    }

    mutating func abandonParked(_ index: Int) {
        if let parked = imports[index].parked, parked.xid != .zero { requests.remove(parked.xid) }
        imports[index].parked = nil
    }

    /// Begins the next attempt of an import whose time has come.
    mutating func startDueAttempt(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        guard imports[index].retryAt <= now, imports[index].attempt == nil else { return }
        startAttempt(index, at: imports[index].endpoint, &lnet, now)
    }

    /// Repeats a CONNECT that waits at a server that does not serve yet.
    mutating func repeatParked(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        guard let parked = imports[index].parked else { return }
        abandonParked(index)
        imports[index].parked = sendConnect(index, parked.endpoint, &lnet, now)
    }

    /// The attempt came to nothing: waits, then tries the same place or the next.
    mutating func attemptFailed(
        _ index: Int, tryNext: Bool, delay: TickInterval? = nil, _ now: Ticks
    ) {
        abandonAttempt(index)
        imports[index].failures += 1
        if tryNext { advanceEndpoint(index) }
        imports[index].retryAt = now + (delay ?? backoff(imports[index].failures))
        imports[index].enter(.disconnected, now)
    }

    /// The next place in turn, past the one where a CONNECT is parked.
    private mutating func advanceEndpoint(_ index: Int) {
        let count = imports[index].endpoints.count
        for step in 1...count {
            let endpoint = (imports[index].endpoint + step) % count
            if endpoint != imports[index].parked?.endpoint || count == 1 {
                imports[index].endpoint = endpoint
                return
            }
        }
    }

    /// Doubles with each failure, plus up to a quarter of it by chance, so that the clients of a
    /// lost server do not come back in step.
    mutating func backoff(_ failures: Int) -> TickInterval {
        let shift = UInt64(min(max(0, failures - 1), 16))
        let base = min(
            configuration.reconnectDelayMin.nanoseconds << shift,
            configuration.reconnectDelayMax.nanoseconds)
        return TickInterval(nanoseconds: base + random.next() % (base / 4 + 1))
    }

    // MARK: Answers

    /// A server answered a CONNECT.
    mutating func connectAnswered(
        _ xid: XID, _ index: Int, _ header: PtlRPCBody, _ body: ReplyBody,
        _ lnet: inout LNetCore, _ now: Ticks
    ) {
        let isParked = imports[index].parked?.xid == xid
        guard let attempt = isParked ? imports[index].parked : imports[index].attempt,
            attempt.xid == xid
        else { return }
        guard !header.status.isError, case .connect(let reply) = body,
            configuration.versions.contains(reply.version),
            // A target grants of what was offered, and nothing else.
            reply.features.isSubset(of: configuration.features)
        else {
            let status = header.status.isError ? header.status : .protocolError
            if isParked {
                parkedRefused(index, status, now)
            } else {
                attemptRefused(index, status, now)
            }
            return
        }
        if isParked {
            imports[index].parked!.xid = .zero
            requests.remove(xid)
            imports[index].parked = nil
            // The old instance itself, or one that came and went: nothing to switch to.
            if imports[index].state.isConnected, reply.instance <= imports[index].instance {
                return
            }
            abandonAttempt(index)
            if imports[index].state.isConnected { dropConnection(index, .switched, &lnet, now) }
            abandonAttempt(index)
        } else {
            abandonAttempt(index)
            if reply.instance != imports[index].instance { abandonParked(index) }
        }
        accepted(index, attempt, header.handle, reply, &lnet, now)
    }

    private mutating func attemptRefused(_ index: Int, _ status: Status, _ now: Ticks) {
        switch status {
        case .access, .protocolError:
            events.append(.refused(import: index, status: status))
            attemptFailed(index, tryNext: true, delay: configuration.refusedDelay, now)
        case .busy, .tryAgain, .already, .inProgress:
            attemptFailed(index, tryNext: false, now)
        default:
            // ENODEV, ETIMEDOUT, EHOSTUNREACH and what nobody foresaw: not here, perhaps there.
            attemptFailed(index, tryNext: true, now)
        }
    }

    private mutating func parkedRefused(_ index: Int, _ status: Status, _ now: Ticks) {
        if status == .access || status == .protocolError {
            events.append(.refused(import: index, status: status))
            abandonParked(index)
            tryElsewhere(index, now)
            return
        }
        postponeParked(index, now)
    }

    /// The parked CONNECT is sent again after a pause.
    mutating func postponeParked(_ index: Int, _ now: Ticks) {
        guard let parked = imports[index].parked, parked.xid != .zero else { return }
        requests.remove(parked.xid)
        imports[index].parked!.xid = .zero
        imports[index].parked!.deadline = now + configuration.reconnectDelayMax
        tryElsewhere(index, now)
    }

    /// The parked CONNECT was all that an unconnected import waited for, and will not do.
    private mutating func tryElsewhere(_ index: Int, _ now: Ticks) {
        guard imports[index].state == .connecting, imports[index].attempt == nil else { return }
        imports[index].failures += 1
        imports[index].retryAt = min(
            imports[index].retryAt, now + backoff(imports[index].failures))
    }

    /// A connection stands: what the target knows of this client decides what comes next.
    private mutating func accepted(
        _ index: Int, _ attempt: Import.Attempt, _ handle: UInt64, _ reply: ConnectReply,
        _ lnet: inout LNetCore, _ now: Ticks
    ) {
        let previousInstance = imports[index].instance
        imports[index].endpoint = attempt.endpoint
        imports[index].connectionCount = attempt.connectionCount
        imports[index].remoteHandle = handle
        imports[index].version = reply.version
        imports[index].features = reply.features
        imports[index].instance = reply.instance
        imports[index].trailer = nil
        imports[index].failures = 0
        imports[index].retryAt = .distantFuture
        imports[index].lastSentAt = now
        imports[index].lastUsedAt = now
        if imports[index].epoch < reply.epoch { imports[index].epoch = reply.epoch }
        let granted = Int(reply.connectData.modifyingRequestsMax)
        let known = reply.version.modifyingRequestsMax
        imports[index].modifyingRequestsMax = granted > 0 ? min(granted, known) : known
        imports[index].counters.connects &+= 1
        events.append(.connected(import: index, reply: reply))

        switch reply.mode {
        case .fresh:
            beginFresh(index, reply, wasKnown: previousInstance != 0, &lnet, now)
        case .sameInstance where previousInstance == reply.instance:
            noteCommitted(index, reply.lastCommitted)
            if let recovery = imports[index].recovery, recovery.instance == reply.instance,
                recovery.phase != .finalPing
            {
                resumeRecovery(index, &lnet, now)
            } else {
                // Also where only the answer to the final ping was lost.
                abandonRecovery(index, &lnet)
                becomeFull(index, &lnet, now)
            }
        case .sameInstance, .recovering:
            // "Same" of an instance that this client does not know: its first answer was lost.
            noteCommitted(index, reply.lastCommitted)
            beginRecovery(index, reply.instance, &lnet, now)
        case .cleanRecord:
            if imports[index].recovery?.instance != reply.instance {
                abandonRecovery(index, &lnet)
            }
            noteCommitted(index, reply.lastCommitted)
            loseUncommitted(index)
            beginRecovery(index, reply.instance, isClean: true, &lnet, now)
        }
    }

    // MARK: The end of a connection

    /// The connection is gone. What was sent goes back to its queue, keeping XID and modify slot;
    /// the import reconnects: first to the same place, at once.
    mutating func dropConnection(
        _ index: Int, _ reason: DisconnectReason, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        guard imports[index].state.isConnected else { return }
        requeueSent(index, &lnet)
        events.append(.disconnected(import: index, reason: reason))
        imports[index].commitPingAt = .distantFuture
        imports[index].failures = 0
        if let parked = imports[index].parked, parked.xid != .zero {
            // It is simply the attempt now. Should it not be answered, the other places follow.
            imports[index].enter(.connecting, now)
            imports[index].endpoint = parked.endpoint
            advanceEndpoint(index)
            imports[index].retryAt = min(
                parked.deadline, now + configuration.connectTimeout)
            return
        }
        imports[index].enter(.disconnected, now)
        imports[index].retryAt = now
        if reason != .switched { startDueAttempt(index, &lnet, now) }
    }

    /// Everything sent and unanswered waits again, before what was never sent.
    private mutating func requeueSent(_ index: Int, _ lnet: inout LNetCore) {
        while imports[index].sent.head != .zero {
            let xid = imports[index].sent.head
            detachBulk(xid, &lnet)
            unlist(xid, index)
            switch requests[xid].kind {
            case .call where !requests[xid].isSaved:
                break
            case .call, .openReplay, .lockReplay:
                requests.append(
                    xid, to: &imports[index].recovery!.interrupted, as: .interrupted)
            case .connect, .disconnect, .ping, .finalPing:
                release(xid)
            }
        }
        // XIDs grow with each call, so their order puts what was sent before what was not.
        var next = imports[index].unanswered.head
        while next != .zero {
            let xid = next
            next = requests[xid].newer
            guard requests[xid].kind == .call else { continue }
            unlist(xid, index)
            enqueue(xid, index)
        }
    }

    mutating func close(_ index: Int, _ now: Ticks) {
        imports[index].retryAt = .distantFuture
        imports[index].commitPingAt = .distantFuture
        let isIdling = imports[index].isIdling && !imports[index].isLeaving
        imports[index].isLeaving = false
        imports[index].isIdling = false
        imports[index].enter(isIdling ? .idle : .closed, now)
        // A later connect is a new beginning.
        imports[index].instance = 0
        imports[index].remoteHandle = 0
        imports[index].wasUsed = false
        events.append(.disconnected(import: index, reason: isIdling ? .idle : .closed))
    }

    /// Leaves a target where nothing is wanted, held or saved. What comes meanwhile waits.
    mutating func becomeIdle(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        imports[index].isIdling = true
        imports[index].counters.idleDisconnects &+= 1
        sendInternal(index, .disconnect, .disconnect(imports[index].kind), &lnet, now)
    }
}
