public import LNetCore
public import Primitives
public import WireFormat

/// A connect that waits for the start of a standby.
struct ParkedConnect: Sendable {
    var request: ConnectRequest
    var kind: TargetKind
    var header: PtlRPCBody
    var put: LNetEvent.Put
    /// Its connection is gone: the client will ask again.
    var isLost = false
}

extension RPCServer {
    mutating func connect(
        _ request: ConnectRequest, _ kind: TargetKind, _ header: PtlRPCBody,
        _ put: LNetEvent.Put, lnet: inout LNetCore
    ) {
        if stage == .standby {
            park(
                ParkedConnect(request: request, kind: kind, header: header, put: put),
                lnet: &lnet)
            return
        }
        do throws(ConnectRefusal) {
            try take(request, kind, header, put, lnet: &lnet)
        } catch {
            refuse(error, request, header, put, lnet: &lnet)
        }
    }

    private mutating func refuse(
        _ refusal: ConnectRefusal, _ request: ConnectRequest, _ header: PtlRPCBody,
        _ put: LNetEvent.Put, lnet: inout LNetCore
    ) {
        counters.connectsRefused += 1
        events.append(
            .connectRefused(
                nid: put.initiator.nid, clientUUID: request.clientUUID, refusal: refusal))
        sendError(
            refusal.status, header, put, configuration.kind.replyPortal, lnet: &lnet)
    }

    // MARK: Standby

    /// One per client: the newest connect is the one whose answer is awaited.
    private mutating func park(_ connect: ParkedConnect, lnet: inout LNetCore) {
        let uuid = connect.request.clientUUID
        if let place = parkedIndices[uuid] {
            parked[place] = connect
        } else if parked.count < configuration.parkedConnectCountMax {
            parkedIndices[uuid] = parked.count
            parked.append(connect)
        } else {
            refuse(.tooManyClients, connect.request, connect.header, connect.put, lnet: &lnet)
        }
    }

    /// How many connects wait for `start`.
    public var parkedConnectCount: Int { parked.count }

    mutating func releaseParked(lnet: inout LNetCore) {
        let released = parked
        parked = []
        parkedIndices = [:]
        for connect in released where !connect.isLost {
            self.connect(
                connect.request, connect.kind, connect.header, connect.put, lnet: &lnet)
        }
    }

    // MARK: Serving

    private mutating func take(
        _ request: ConnectRequest, _ kind: TargetKind, _ header: PtlRPCBody,
        _ put: LNetEvent.Put, lnet: inout LNetCore
    ) throws(ConnectRefusal) {
        guard request.targetName == configuration.targetName, kind == configuration.kind else {
            throw .unknownTarget(request.targetName)
        }
        guard !request.clientUUID.isEmpty else { throw .unreadable }
        let versions = configuration.versions
        let version = min(request.versions.upperBound, versions.upperBound)
        guard version >= max(request.versions.lowerBound, versions.lowerBound) else {
            throw .noCommonVersion(client: request.versions, server: versions)
        }
        let features = request.features.intersection(configuration.features)
        var predecessor: UInt32?
        if let index = exports.index(uuid: request.clientUUID) {
            let isSame =
                exports[index].clientHandle == request.clientHandle
                && exports[index].isObserver == request.isObserver
                && !(exports[index].isCleanRecord
                    && request.lastInstance < exports[index].cleanSince)
            if isSame {
                try reconnect(index, request, version, features, header, put, lnet: &lnet)
                return
            }
            // The same process, which knows of no instance that the record is of: its connects were
            // parked, or waited for a connection, while it was with another instance, and it comes
            // again with what it learned there; or it never heard from that one, and goes on so.
            if exports[index].clientHandle == request.clientHandle,
                exports[index].isObserver == request.isObserver
            {
                let until = exports[index].doubtedUntil ?? now + Self.doubtTime
                exports[index].doubtedUntil = until
                if now < until { throw .outdatedConnection }
            }
            predecessor = index
        }
        if isRecovering, !request.isObserver {
            // The earlier client is dead either way, and must not hold up the others.
            if let predecessor { evict(predecessor, .clientRestarted) }
            // Also a stranger's connect begins the window: when nobody comes back, it ends.
            if recovery.deadline == nil { openWindow() }
            advanceRecovery(lnet: &lnet)
            if isRecovering { throw .recovering }
            predecessor = nil
        }
        var export = Export(
            uuid: request.clientUUID, clientHandle: request.clientHandle,
            nid: put.initiator.nid, version: version, features: features)
        export.peer = put.peer
        export.connectionCount = header.connectionCount
        export.isObserver = request.isObserver
        export.isFresh = true
        export.lastHeard = now
        // Before the predecessor goes, so that its rows are not the new client's.
        guard let index = exports.insert(export) else { throw .tooManyClients }
        if let predecessor { evict(predecessor, .clientRestarted) }
        offer(index, request, header, put, mode: .fresh, isNew: !request.isObserver)
    }

    /// How long a client that seems to know less than the record is asked to come again: longer than a
    /// CONNECT of the usual patience takes.
    private static var doubtTime: TickInterval { .seconds(5) }

    /// A client that has an export connects again.
    private mutating func reconnect(
        _ index: UInt32, _ request: ConnectRequest, _ version: ProtocolVersion,
        _ features: Features, _ header: PtlRPCBody, _ put: LNetEvent.Put, lnet: inout LNetCore
    ) throws(ConnectRefusal) {
        if exports[index].isLeaving { throw .recovering }
        if !exports[index].isAbsent {
            guard header.connectionCount > exports[index].connectionCount else {
                throw .outdatedConnection
            }
        }
        abortTransfers(of: index)
        exports[index].peer = put.peer
        exports[index].connectionCount = header.connectionCount
        exports[index].version = version
        exports[index].features = features
        exports[index].isAbsent = false
        // Whoever shows the handle has had the answer that named it, even if all that it sent since
        // was lost: "fresh" would tell it that it was evicted.
        if header.handle == exports.handle(index),
            request.lastInstance == configuration.instance
        {
            exports[index].isUnheard = false
        }
        exports.setNID(put.initiator.nid, of: index)
        if exports[index].recovery == .absent {
            setRecovery(.opens, of: index)
            exports[index].lastHeard = now
            exports[index].account.since = now
            // What it takes this target to serve is what its clients wait for before they come.
            recovery.serviceEstimate = max(
                recovery.serviceEstimate, .seconds(UInt64(header.serviceSeconds)))
            if recovery.deadline == nil { openWindow() }
        } else {
            exports[index].lastHeard = now
        }
        let mode: ConnectReply.Mode =
            if exports[index].recovery != .none {
                .recovering
            } else if exports[index].isCleanRecord {
                // Without the feature it knows nothing of records: saved replies answer its resends.
                features.contains(.upgrade) ? .cleanRecord : .recovering
            } else if exports[index].isFresh, exports[index].isUnheard {
                .fresh
            } else {
                .sameInstance
            }
        if let pending = exports[index].pendingConnect {
            // The owner is at it: its one answer goes to the newest connect.
            requests.update(pending) {
                $0.xid = XID(rawValue: put.matchBits)
                $0.connectionCount = header.connectionCount
            }
        } else {
            offer(index, request, header, put, mode: mode, isNew: false)
        }
        resendCallbacks(of: index, lnet: &lnet)
        advanceRecovery(lnet: &lnet)
    }

    /// Transfers of the connection before lead to buffers that the client has given up.
    private mutating func abortTransfers(of index: UInt32) {
        for slot in exports[index].requests { abort(slot) }
    }

    private mutating func offer(
        _ index: UInt32, _ request: ConnectRequest, _ header: PtlRPCBody, _ put: LNetEvent.Put,
        mode: ConnectReply.Mode, isNew: Bool
    ) {
        counters.connects += 1
        var pending = PendingRequest(
            export: index, header: header, xid: XID(rawValue: put.matchBits),
            replyPortal: configuration.kind.replyPortal,
            body: .connect(request, configuration.kind), takesEarly: false, now: now)
        pending.body = nil
        pending.state = .connecting
        pending.mode = mode
        let slot = insert(pending)
        exports[index].pendingConnect = slot
        events.append(
            .connect(
                export: index, token: RequestToken(slot), request: request, mode: mode,
                isNewClient: isNew))
    }

    /// The reply to a connect as far as the server knows it; nil for a stale token. The owner adds
    /// admission, epoch, admission lock and notice.
    public func connectReply(for token: RequestToken) -> ConnectReply? {
        guard let request = requests[token.slot], request.state == .connecting else {
            return nil
        }
        let index = request.export
        var reply = ConnectReply(
            version: exports[index].version, features: exports[index].features,
            mode: request.mode, admission: .none, instance: configuration.instance,
            epoch: .none, admissionLock: 0, lastCommitted: lastCommitted, notice: nil)
        reply.connectData.instance = UInt32(truncatingIfNeeded: configuration.instance)
        reply.connectData.bulkSize = UInt32(ObjectWriteRequest.byteCountMax)
        reply.connectData.modifyingRequestsMax =
            UInt16(exports[index].version.modifyingRequestsMax)
        return reply
    }

    /// Answers a connect. False when the client is gone.
    @discardableResult
    public mutating func answerConnect(
        _ token: RequestToken, _ reply: ConnectReply, lnet: inout LNetCore, now: Ticks
    ) -> Bool {
        self.now = now
        guard let request = requests[token.slot], request.state == .connecting else {
            return false
        }
        remove(token.slot)
        exports[request.export].pendingConnect = nil
        send(.ok, .connect(reply), .zero, nil, request, lnet: &lnet)
        return true
    }

    /// Refuses a connect that was offered. A new client is forgotten again.
    @discardableResult
    public mutating func refuseConnect(
        _ token: RequestToken, _ status: Status, lnet: inout LNetCore, now: Ticks
    ) -> Bool {
        self.now = now
        guard let request = requests[token.slot], request.state == .connecting else {
            return false
        }
        remove(token.slot)
        let index = request.export
        exports[index].pendingConnect = nil
        counters.connectsRefused += 1
        send(status, .empty, .zero, nil, request, type: .error, lnet: &lnet)
        if exports[index].isFresh, exports[index].isUnheard { forget(index) }
        return true
    }
}
