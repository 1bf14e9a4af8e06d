public import LNetCore
public import Primitives
public import WireFormat

/// From an executed request to bytes, and to what must be remembered of it.
extension RPCServer {
    /// The row of table `replyData` that an update's own transaction must contain, so that the
    /// update and the memory of it are on disk together. Nil for a stale token or no update.
    public mutating func replyRecord(
        _ token: RequestToken, status: Status, body: ReplyBody, transno: Transno,
        preVersions: PreVersions = PreVersions()
    ) -> ReplyRecord? {
        let found = requests.update(token.slot) {
            ($0.export, $0.tag, $0.xid, $0.opcode, $0.isUpdate)
        }
        guard let (index, tag, xid, opcode, isUpdate) = found, isUpdate else { return nil }
        let saved = saved(body, opcode, status, preVersions)
        requests.update(token.slot) { $0.saved = saved }
        return ReplyRecord(
            index: index, tag: tag, clientHandle: exports[index].clientHandle, xid: xid,
            transno: transno, status: status, saved: saved)
    }

    /// The keys of all rows of table `replyData` that a client can have.
    public static func replyKeys(of export: UInt32) -> [[UInt8]] {
        (1...ReplyRecord.tagMax).map { ReplyRecord.key(index: export, tag: $0) }
    }

    private func saved(
        _ body: ReplyBody, _ opcode: Opcode, _ status: Status, _ preVersions: PreVersions
    ) -> [UInt8] {
        let bytes = (status.isError ? .empty : body).saved(
            as: opcode, status: status, preVersions: preVersions)
        guard bytes.count > configuration.savedReplyByteCountMax else { return bytes }
        return ReplyBody.empty.saved(as: opcode, status: status, preVersions: preVersions)
    }

    /// Answers a request that was executed, with success or not. False when its client is gone.
    ///
    /// May come long after the request: `sync` waits for the commit. Bulk data goes first, and the
    /// reply when the client has it. `transno` is zero where nothing was changed.
    @discardableResult
    public mutating func reply(
        _ token: RequestToken, status: Status, body: ReplyBody = .empty,
        transno: Transno = .zero, preVersions: PreVersions = PreVersions(),
        trailer: ReplyTrailer? = nil, lnet: inout LNetCore, now: Ticks
    ) -> Bool {
        self.now = now
        let slot = token.slot
        guard requests.update(slot, { $0.state == .executing }) == true else { return false }
        finishUpdate(slot, status, body, transno, preVersions)
        if !status.isError, let data = body.bulkData {
            putBulk(
                slot, data,
                PreparedReply(
                    status: status, body: body, transno: transno, trailer: trailer,
                    preVersions: preVersions),
                lnet: &lnet)
            return true
        }
        complete(slot, status, body, transno, trailer, preVersions, lnet: &lnet)
        return true
    }

    /// Answers a request that was not executed and may come again (`tryAgain`), or may not.
    @discardableResult
    public mutating func refuse(
        _ token: RequestToken, _ status: Status, trailer: ReplyTrailer? = nil,
        lnet: inout LNetCore, now: Ticks
    ) -> Bool {
        self.now = now
        let slot = token.slot
        guard let request = requests[slot], request.state != .connecting else { return false }
        if request.isUpdate { markRefused(request.export, request.tag, request.xid) }
        remove(slot)
        if request.opcode == configuration.kind.disconnectOpcode {
            exports[request.export].isLeaving = false
        }
        refuse(request, status, trailer, lnet: &lnet)
        if exports[request.export].recovery != .none { advanceRecovery(lnet: &lnet) }
        return true
    }

    mutating func refuse(
        _ request: PendingRequest, _ status: Status, _ trailer: ReplyTrailer? = nil,
        lnet: inout LNetCore
    ) {
        counters.refused += 1
        send(status, .empty, .zero, trailer, request, type: .error, lnet: &lnet)
    }

    /// Keeps what a second copy of the update will be answered with.
    private mutating func finishUpdate(
        _ slot: SlotHandle, _ status: Status, _ body: ReplyBody, _ transno: Transno,
        _ preVersions: PreVersions
    ) {
        let found = requests.update(slot) {
            request -> (UInt32, Int, XID, Opcode, [UInt8]?, Bool)? in
            guard request.isUpdate else { return nil }
            let saved = request.saved
            request.saved = nil
            return (
                request.export, Int(request.tag) - 1, request.xid, request.opcode, saved,
                request.isReplay
            )
        }
        guard let (index, place, xid, opcode, row, isReplay) = found ?? nil else { return }
        let kept = ReplySlot(
            state: .finished, xid: xid, transno: transno, status: status,
            saved: row ?? saved(body, opcode, status, preVersions))
        if isReplay {
            if status.isError {
                // It was done once and cannot be done again: what it stood on is gone.
                counters.replaysFailed += 1
                exports[index].account.failed &+= 1
            }
            // Only its latest few can still be asked for; each tag's last is in its slot anyway.
            if exports[index].replayed.count >= 64 { exports[index].replayed.removeFirst(32) }
            exports[index].replayed.append(kept)
        }
        guard exports[index].slots[place].xid == xid else { return }
        exports[index].slots[place] = kept
        if exports[index].recovery == .none { exports[index].freeSlots() }
    }

    private mutating func putBulk(
        _ slot: SlotHandle, _ data: [UInt8], _ prepared: PreparedReply, lnet: inout LNetCore
    ) {
        let found = requests.update(slot) { request -> (UInt32, UInt64) in
            request.state = .putting
            request.reply = prepared
            return (request.export, request.matchBits)
        }
        guard let (index, matchBits) = found else { return }
        guard let peer = exports[index].peer else {
            abort(slot)
            return
        }
        // A failure to queue it is told as an event.
        lnet.put(
            to: peer, portal: ServicePortal.ostBulk, matchBits: matchBits, payload: data,
            ackCookie: ServerCookie(tag: configuration.cookieTag, .bulkPut, slot).rawValue,
            now: now)
    }

    /// The client has the bytes of its read: now the reply.
    mutating func bulkArrived(_ slot: SlotHandle, lnet: inout LNetCore) {
        let prepared = requests.update(slot) { request -> PreparedReply? in
            guard request.state == .putting else { return nil }
            let prepared = request.reply
            request.reply = nil
            return prepared
        }
        guard let prepared = prepared ?? nil else { return }
        counters.bulkSent += 1
        complete(
            slot, prepared.status, prepared.body, prepared.transno, prepared.trailer,
            prepared.preVersions, lnet: &lnet)
    }

    private mutating func complete(
        _ slot: SlotHandle, _ status: Status, _ body: ReplyBody, _ transno: Transno,
        _ trailer: ReplyTrailer?, _ preVersions: PreVersions, lnet: inout LNetCore
    ) {
        guard let request = requests[slot] else { return }
        remove(slot)
        send(status, body, transno, trailer, request, preVersions: preVersions, lnet: &lnet)
        if request.opcode == configuration.kind.disconnectOpcode {
            forget(request.export)
            advanceRecovery(lnet: &lnet)
        } else if exports[request.export].recovery != .none {
            exports[request.export].lastHeard = now
            advanceRecovery(lnet: &lnet)
        }
    }

    /// Answers from what was kept.
    mutating func sendSaved(
        _ slot: ReplySlot, _ request: PendingRequest, lnet: inout LNetCore
    ) {
        guard let restored = try? ReplyBody.restored(slot.saved) else {
            // Freed: the client said that it has the answer.
            send(slot.status, .empty, slot.transno, nil, request, lnet: &lnet)
            return
        }
        send(
            slot.status, restored.body, slot.transno, nil, request,
            preVersions: restored.preVersions, lnet: &lnet)
    }

    /// Sends a reply to where the client is now. A lost one is asked for again by the client.
    mutating func send(
        _ status: Status, _ body: ReplyBody, _ transno: Transno, _ trailer: ReplyTrailer?,
        _ request: PendingRequest, type: MessageType = .reply,
        preVersions: PreVersions = PreVersions(), lnet: inout LNetCore
    ) {
        statistics.note(request.opcode, status, now - request.arrivedAt)
        if let batch = request.batch {
            answerPart(
                batch, BatchAnswer(opcode: request.opcode, status: status, body: body), trailer,
                lnet: &lnet)
            return
        }
        let index = request.export
        guard let peer = exports[index].peer else { return }
        var header = PtlRPCBody()
        header.handle = exports.handle(index)
        header.type = type
        header.opcode = request.opcode
        header.status = status
        header.tag = request.tag
        header.lastCommitted = lastCommitted
        header.lockLimit = lockLimit
        header.lockVolume = serverLockVolume
        header.transno = transno
        header.connectionCount = exports[index].connectionCount
        header.matchBits = request.matchBits
        header.preVersions = preVersions
        noteService(request, type, &header)
        writer.removeAll()
        body.encode(
            header: header, version: exports[index].version,
            trailer: trailer ?? exports[index].trailer, into: &writer)
        transmit(
            to: peer, request.replyPortal, request.xid,
            offset: request.takesEarly ? Self.earlyReplySize : 0, lnet: &lnet)
    }

    /// Answers a request that has no export, or is not worth a token.
    mutating func sendError(
        _ status: Status, _ request: PtlRPCBody, _ put: LNetEvent.Put, _ replyPortal: UInt32,
        lnet: inout LNetCore
    ) {
        var header = PtlRPCBody()
        header.type = .error
        header.opcode = request.opcode
        header.status = status
        header.tag = request.tag
        header.lastCommitted = lastCommitted
        header.connectionCount = request.connectionCount
        writer.removeAll()
        ReplyBody.empty.encode(
            header: header, version: configuration.versions.lowerBound, into: &writer)
        transmit(
            to: put.peer, replyPortal, XID(rawValue: put.matchBits),
            offset: errorTakesEarly ? Self.earlyReplySize : 0, lnet: &lnet)
    }

    mutating func transmit(
        to peer: PeerRef, _ portal: UInt32, _ xid: XID, offset: UInt32, lnet: inout LNetCore
    ) {
        counters.replies += 1
        let now = now
        RawSpan.over(writer.bytes) { bytes in
            _ = lnet.put(
                to: peer, portal: portal, matchBits: xid.rawValue, offset: offset, payload: bytes,
                now: now)
        }
    }
}
