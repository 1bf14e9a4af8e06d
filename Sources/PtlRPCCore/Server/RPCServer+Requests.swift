import LNetCore
import Primitives
import WireFormat

/// From bytes to a request that may be executed.
extension RPCServer {
    private enum Parsed {
        case unreadable
        case refused(PtlRPCBody, Status, takesEarly: Bool)
        case request(PtlRPCBody, export: UInt32?, RequestBody, takesEarly: Bool)
    }

    mutating func receive(
        _ put: LNetEvent.Put, _ replyPortal: UInt32, lnet: inout LNetCore
    ) {
        counters.requests += 1
        let parsed = lnet.withPayload(put.payload) { bytes in parse(bytes, from: put.initiator) }
        switch parsed {
        case .unreadable:
            counters.malformed += 1
        case .refused(let header, let status, let takesEarly):
            errorTakesEarly = takesEarly
            if status == .notConnected {
                counters.notConnected += 1
                if let index = exports.index(handle: header.handle),
                    exports.nids[Int(index)] != put.initiator.nid.rawValue
                {
                    counters.foreignHandles += 1
                }
            } else {
                counters.malformed += 1
            }
            sendError(status, header, put, replyPortal, lnet: &lnet)
        case .request(let header, _, .connect(let request, let kind), _):
            errorTakesEarly = false
            connect(request, kind, header, put, lnet: &lnet)
        case .request(let header, let export?, let body, let takesEarly):
            errorTakesEarly = takesEarly
            guard stage != .standby else {
                sendError(.noDevice, header, put, replyPortal, lnet: &lnet)
                return
            }
            admit(export, header, body, put, replyPortal, takesEarly: takesEarly, lnet: &lnet)
        case .request(let header, nil, _, let takesEarly):
            errorTakesEarly = takesEarly
            counters.notConnected += 1
            sendError(
                stage == .standby ? .noDevice : .notConnected, header, put, replyPortal,
                lnet: &lnet)
        }
    }

    private func parse(_ bytes: RawSpan, from source: ProcessID) -> Parsed {
        guard let message = try? LustreMessage(parsing: bytes),
            var reader = try? message.reader(0, in: bytes),
            let header = try? PtlRPCBody(from: &reader), header.type == .request
        else { return .unreadable }
        let takesEarly = message.flags & LustreMessage.adaptiveTimeouts != 0
        if header.opcode == .mdsConnect || header.opcode == .ostConnect {
            guard
                let body = try? RequestBody(
                    opcode: header.opcode, message: message, bytes: bytes,
                    version: configuration.versions.lowerBound)
            else { return .refused(header, .protocolError, takesEarly: takesEarly) }
            return .request(header, export: nil, body, takesEarly: takesEarly)
        }
        // The handle is a number that anybody could guess: it counts only from its own NID.
        guard let index = exports.index(handle: header.handle),
            exports.nids[Int(index)] == source.nid.rawValue,
            !exports[index].isAbsent, !exports[index].isLeaving
        else {
            return .refused(
                header, stage == .standby ? .noDevice : .notConnected, takesEarly: takesEarly)
        }
        guard
            let body = try? RequestBody(
                opcode: header.opcode, message: message, bytes: bytes,
                version: exports[index].version)
        else { return .refused(header, .protocolError, takesEarly: takesEarly) }
        return .request(header, export: index, body, takesEarly: takesEarly)
    }

    /// A request of a known client: is it of this connection, new, and in order?
    private mutating func admit(
        _ index: UInt32, _ header: PtlRPCBody, _ body: RequestBody, _ put: LNetEvent.Put,
        _ replyPortal: UInt32, takesEarly: Bool, lnet: inout LNetCore
    ) {
        guard
            header.connectionCount == exports[index].connectionCount
                || configuration.mutation.is(.acceptsOlderConnections)
        else {
            if header.connectionCount < exports[index].connectionCount {
                counters.obsolete += 1
            } else {
                // A connection that was never made.
                counters.violations += 1
                sendError(.protocolError, header, put, replyPortal, lnet: &lnet)
            }
            return
        }
        let isReconnected = exports[index].peer == nil
        exports[index].peer = put.peer
        exports[index].isUnheard = false
        if exports[index].recovery == .none { exports[index].lastHeard = now }
        if isReconnected { resendCallbacks(of: index, lnet: &lnet) }
        let xid = XID(rawValue: put.matchBits)
        let isReplay = header.flags.contains(.replay)
        // A replayed lock or update has the number that it had when it was new.
        if xid <= exports[index].lastXID, !isReplay {
            counters.obsolete += 1
            return
        }
        if header.lastXID > exports[index].lastXID {
            exports[index].lastXID = header.lastXID
            if exports[index].recovery == .none { exports[index].freeSlots() }
        }
        let request = PendingRequest(
            export: index, header: header, xid: xid, replyPortal: replyPortal, body: body,
            takesEarly: takesEarly, now: now)
        if request.isUpdate, request.tag < 1 || request.tag > ReplyRecord.tagMax {
            counters.violations += 1
            sendError(.protocolError, header, put, replyPortal, lnet: &lnet)
            return
        }
        if exports[index].isObserver, request.isUpdate {
            sendError(.access, header, put, replyPortal, lnet: &lnet)
            return
        }
        if isUnderWay(request, lnet: &lnet) {
            counters.duplicates += 1
            return
        }
        let isRecovering = exports[index].recovery != .none
        let bound =
            isRecovering ? configuration.replayCountMax : configuration.requestCountMax
        guard exports[index].requests.count < bound || body == .ping else {
            counters.refused += 1
            sendError(.tryAgain, header, put, replyPortal, lnet: &lnet)
            return
        }
        if case .batch(let bodies) = body {
            guard exports[index].version >= .v3 || exports[index].features.contains(.batchedReplay)
            else {
                counters.violations += 1
                sendError(.protocolError, header, put, replyPortal, lnet: &lnet)
                return
            }
            unpack(bodies, request, lnet: &lnet)
        } else {
            take(request, lnet: &lnet)
        }
    }

    private mutating func take(_ request: PendingRequest, lnet: inout LNetCore) {
        if exports[request.export].recovery != .none {
            recover(request, lnet: &lnet)
        } else {
            serve(request, lnet: &lnet)
        }
    }

    /// Each request of a batch goes its own way, in their order; the batch is answered when all
    /// are.
    private mutating func unpack(
        _ bodies: [RequestBody], _ batch: PendingRequest, lnet: inout LNetCore
    ) {
        counters.batches += 1
        var whole = batch
        whole.state = .batched
        whole.body = nil
        whole.answers = Array(repeating: nil, count: bodies.count)
        whole.missingAnswers = bodies.count
        let slot = insert(whole)
        for (place, body) in bodies.enumerated() {
            // One of them may have been the client's end.
            guard requests.contains(slot) else { return }
            var part = batch
            part.opcode = body.opcode
            part.isUpdate = false
            part.body = body
            part.batch = (slot, place)
            take(part, lnet: &lnet)
        }
        // A client of the clean record may have told all that it holds in this one.
        if batch.flags.contains(.lockReplayDone), exports.contains(batch.export),
            exports[batch.export].isCleanRecord
        {
            exports[batch.export].isCleanRecord = false
            events.append(.replayDone(export: batch.export))
        }
    }

    /// Takes the answer to one request of a batch; with the last one the batch is answered.
    mutating func answerPart(
        _ batch: (slot: SlotHandle, place: Int), _ answer: BatchAnswer, _ trailer: ReplyTrailer?,
        lnet: inout LNetCore
    ) {
        let whole = requests.update(batch.slot) { whole -> PendingRequest? in
            guard whole.state == .batched, whole.answers[batch.place] == nil else { return nil }
            whole.answers[batch.place] = answer
            whole.missingAnswers -= 1
            return whole.missingAnswers == 0 ? whole : nil
        }
        guard let whole = whole ?? nil else { return }
        remove(batch.slot)
        send(.ok, .batch(whole.answers.compactMap { $0 }), .zero, trailer, whole, lnet: &lnet)
    }

    /// Enters a request among those under way.
    @discardableResult
    mutating func insert(_ request: PendingRequest) -> SlotHandle {
        let slot = requests.insert(request)
        exports[request.export].requests.append(slot)
        if request.takesEarly, request.deadline != .distantFuture, earlyCheckAt == nil {
            earlyCheckAt = now + Self.earlyCheckInterval
        }
        return slot
    }

    /// True where the same request is being worked on: its one answer serves both. Later match
    /// bits replace the earlier ones, since the client's earlier bulk buffer is gone.
    private mutating func isUnderWay(_ request: PendingRequest, lnet: inout LNetCore) -> Bool {
        let index = request.export
        // Only what says so can have come before; the search is for those alone.
        guard request.isUpdate || !request.flags.isDisjoint(with: [.resent, .replay]) else {
            return false
        }
        for slot in exports[index].requests {
            guard let found = requests.update(slot, { ($0.xid, $0.state, $0.matchBits) }),
                found.0 == request.xid
            else { continue }
            switch found.1 {
            case .fetching, .putting:
                if found.2 == request.matchBits { return true }
                abort(slot)
                return false
            case .connecting, .queued, .executing, .batched:
                requests.update(slot) {
                    $0.matchBits = request.matchBits
                    $0.deadline = request.deadline
                }
                return true
            }
        }
        return false
    }

    /// Outside recovery.
    mutating func serve(_ request: PendingRequest, lnet: inout LNetCore) {
        let index = request.export
        if request.flags.contains(.replay), !mayReplay(request) {
            // One that the network kept until its recovery was over: the client had its answer.
            if request.xid <= exports[index].lastXID {
                counters.obsolete += 1
                return
            }
            counters.violations += 1
            counters.unexpectedReplays += 1
            // What it believes is not so. It is told at once, and begins anew.
            send(.notConnected, .empty, .zero, nil, request, type: .error, lnet: &lnet)
            evict(index, .unexpectedReplay)
            return
        }
        if case .ping? = request.body {
            if request.flags.contains(.lockReplayDone), exports[index].isCleanRecord {
                exports[index].isCleanRecord = false
                events.append(.replayDone(export: index))
            }
            send(.ok, .empty, .zero, nil, request, lnet: &lnet)
            return
        }
        guard request.isUpdate else {
            start(request, lnet: &lnet)
            return
        }
        exports[index].makeSlots()
        let tag = Int(request.tag) - 1
        let xid = exports[index].slots[tag].xid
        switch exports[index].slots[tag].state {
        case .finished where xid == request.xid && !configuration.mutation.is(.executesResends):
            if request.isReplay {
                counters.replayedFromRecord += 1
            } else {
                counters.resent += 1
            }
            let slot = exports[index].slots[tag]
            sendSaved(slot, request, lnet: &lnet)
        case .empty:
            startUnlessFenced(request, lnet: &lnet)
        case .refused
        where xid == request.xid && !request.isReplay && !request.flags.contains(.resent):
            // Who sends it again says so. This one was under way twice, and its client may have used
            // the tag for the next by now.
            counters.duplicates += 1
        case .refused where xid <= request.xid, .finished where xid <= request.xid:
            startUnlessFenced(request, lnet: &lnet)
        case .inProgress where xid < request.xid:
            // The client has forgotten the update that still holds the tag.
            counters.violations += 1
            refuse(request, .protocolError, lnet: &lnet)
        case .inProgress where xid == request.xid:
            counters.duplicates += 1
        case .inProgress, .refused, .finished:
            counters.obsolete += 1
        }
    }

    /// A fenced client begins nothing. What it had done before is answered from the record all the same:
    /// told to try again it would do it once more.
    private mutating func startUnlessFenced(_ request: PendingRequest, lnet: inout LNetCore) {
        guard !exports[request.export].isFenced else {
            refuse(request, .tryAgain, lnet: &lnet)
            return
        }
        start(request, lnet: &lnet)
    }

    /// A client of the clean record may ask again for what is on record, and for nothing else.
    private func mayReplay(_ request: PendingRequest) -> Bool {
        guard exports[request.export].isCleanRecord else { return false }
        guard request.isUpdate else { return true }
        let slots = exports[request.export].slots
        let tag = Int(request.tag) - 1
        return slots.indices.contains(tag) && slots[tag].state == .finished
            && slots[tag].xid == request.xid
    }

    /// Takes the request in: fetches its bulk data, or hands it over.
    mutating func start(_ request: PendingRequest, lnet: inout LNetCore) {
        var request = request
        let index = request.export
        var missing = 0
        if case .objectWrite(let write)? = request.body { missing = write.missingBulkBytes }
        if request.isUpdate {
            exports[index].slots[Int(request.tag) - 1] = ReplySlot(
                state: .inProgress, xid: request.xid)
        }
        request.state = missing > 0 ? .fetching : .executing
        let matchBits = request.matchBits
        let slot = insert(request)
        if missing > 0 {
            fetch(slot, matchBits, missing, lnet: &lnet)
        } else {
            execute(slot)
        }
    }

    mutating func fetch(
        _ slot: SlotHandle, _ matchBits: UInt64, _ byteCount: Int, lnet: inout LNetCore
    ) {
        guard let index = requests.update(slot, { $0.export }), let peer = exports[index].peer
        else {
            abort(slot)
            return
        }
        // A failure to queue it is told as an event.
        lnet.get(
            from: peer, portal: ServicePortal.ostBulk, matchBits: matchBits, length: byteCount,
            cookie: ServerCookie(tag: configuration.cookieTag, .fetch, slot).rawValue, now: now)
    }

    /// The bytes of a write have come.
    mutating func fetched(_ reply: LNetEvent.Reply, lnet: inout LNetCore) {
        let cookie = ServerCookie(rawValue: reply.cookie)
        guard cookie.kind == .fetch, let slot = cookie.slot(in: requests) else { return }
        let bytes = lnet.withPayload(reply.payload) { $0.copy(0..<$0.byteCount) }
        let isWhole =
            requests.update(slot) { request -> Bool in
                guard case .objectWrite(var write)? = request.body else { return false }
                request.body = nil
                guard write.attachBulk(bytes) else { return false }
                request.body = .objectWrite(write)
                return true
            } ?? false
        guard isWhole else {
            counters.malformed += 1
            refuse(RequestToken(slot), .ioError, lnet: &lnet, now: now)
            return
        }
        counters.bulkFetched += 1
        if requests.update(slot, { $0.isReplay }) == true {
            queue(slot)
            advanceRecovery(lnet: &lnet)
        } else {
            execute(slot)
        }
    }

    /// Hands the request to the owner.
    mutating func execute(_ slot: SlotHandle) {
        guard
            let taken = requests.update(
                slot,
                { request -> (PendingRequest, RequestBody?) in
                    request.state = .executing
                    let body = request.body
                    request.body = nil
                    return (request, body)
                }), let body = taken.1
        else { return }
        let request = taken.0
        if case .disconnect = body {
            exports[request.export].isLeaving = true
            events.append(.disconnected(export: request.export, token: RequestToken(slot)))
            return
        }
        events.append(
            .execute(
                ServerRequest(
                    token: RequestToken(slot), export: request.export, xid: request.xid,
                    tag: request.tag, body: body, version: exports[request.export].version,
                    isReplay: request.isReplay,
                    replayTransno: request.isReplay ? request.transno : .zero,
                    isLockReplay: !request.isUpdate
                        && !request.flags.isDisjoint(with: [.replay, .requestReplayDone]),
                    isResent: request.flags.contains(.resent),
                    preVersions: request.preVersions)))
    }

    /// Drops a request whose bulk transfer came to nothing: the client sends it again.
    mutating func abort(_ slot: SlotHandle) {
        guard
            let state = requests.update(slot, { ($0.state, $0.export, $0.isUpdate, $0.tag) })
        else { return }
        guard state.0 == .fetching || state.0 == .putting else { return }
        counters.bulkAborted += 1
        reopenSlot(state.1, isUpdate: state.2, tag: state.3, slot)
        remove(slot)
    }

    /// An update that was not executed may come again.
    private mutating func reopenSlot(
        _ index: UInt32, isUpdate: Bool, tag: UInt16, _ slot: SlotHandle
    ) {
        guard isUpdate, let xid = requests.update(slot, { $0.xid }) else { return }
        markRefused(index, tag, xid)
    }

    mutating func markRefused(_ index: UInt32, _ tag: UInt16, _ xid: XID) {
        let place = Int(tag) - 1
        guard exports[index].slots.indices.contains(place),
            exports[index].slots[place].state == .inProgress,
            exports[index].slots[place].xid == xid
        else { return }
        exports[index].slots[place].state = .refused
    }

    mutating func remove(_ slot: SlotHandle) {
        guard let index = requests.update(slot, { $0.export }) else { return }
        requests.remove(slot)
        if let place = exports[index].requests.firstIndex(of: slot) {
            exports[index].requests.remove(at: place)
        }
    }
}
