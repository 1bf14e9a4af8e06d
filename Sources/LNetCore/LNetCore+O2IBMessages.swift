import LNDCore
public import Primitives
import WireFormat

/// Messages and bulk over RDMA.
extension LNetCore {
    // MARK: On the way in

    mutating func take(
        _ step: O2IBLNDConnection.Step, _ bytes: RawSpan, _ link: SlotHandle, _ peer: SlotHandle,
        _ own: NID
    ) {
        switch step {
        case .nothing:
            break
        case .message(let header, let range):
            guard var receiving = admit(header, link, peer, own) else { return }
            if range.isEmpty {
                finish(receiving, payload: arena.count..<arena.count)
            } else {
                absorb(&receiving, bytes, range, isLast: true, on: link)
            }
        case .putOffered(let header, let transfer):
            guard let receiving = admit(header, link, peer, own) else { return }
            takeOffer(receiving, transfer, link)
        case .putRefused(let user, let status):
            guard let bulk = bulks.remove(SlotHandle(rawValue: user)) else { return }
            if status < 0, case .put(let ack, _, _, _, _) = bulk.header?.body,
                let pending = pending(of: ack)
            {
                failPending(pending, -status)
            }
            returnMessage(of: bulk)
        case .putAcknowledged(let user, let transfer, let byteCount):
            let handle = SlotHandle(rawValue: user)
            let now = now
            let known: Void? = bulks.update(handle) {
                $0.transfer = transfer
                $0.byteCount = byteCount
                $0.since = now
            }
            if known != nil { serveBulk(handle, link) }
        case .putDone(let user, let status):
            sinkFilled(SlotHandle(rawValue: user), status)
        case .getAsked(let header, let transfer, let byteCount):
            guard let receiving = admit(header, link, peer, own) else { return }
            takeQuestion(receiving, transfer, byteCount, link)
        case .getDone(let user, let status):
            answered(SlotHandle(rawValue: user), status)
        case .fault(let fault):
            failO2IB(link, fault)
        }
    }

    /// Whether a message is from whom it says and for us. Nil when it broke the rules and the
    /// connection is gone.
    private mutating func admit(
        _ header: LNetHeader, _ link: SlotHandle, _ peer: SlotHandle, _ own: NID
    ) -> Receiving? {
        switch admit(header, from: peer, on: own, canWait: false) {
        case .take(let receiving):
            return receiving
        case .refused(let fault):
            failO2IB(link, fault == .wrongDestination ? .wrongDestination : .wrongSource)
            return nil
        case .wait:
            preconditionFailure("a message over RDMA does not wait")
        }
    }

    /// A peer offers a bulk payload.
    private mutating func takeOffer(
        _ receiving: Receiving, _ transfer: UInt64, _ link: SlotHandle
    ) {
        guard receiving.accepted > 0 else {
            // Nothing wants it, or nothing of it: told as such, and done.
            o2ibLinks.update(link) { $0.conversation.refuse(transfer, status: 0) }
            finish(receiving, payload: arena.count..<arena.count)
            return
        }
        let handle = bulks.insert(
            O2IBBulk(
                kind: .sink, link: link, transfer: transfer, slot: receiving.slot,
                isUsers: receiving.slot != nil,
                offset: receiving.slot == nil ? 0 : receiving.slotOffset,
                byteCount: receiving.accepted, receiving: receiving, since: now))
        if receiving.slot != nil {
            grant(handle, link)
        } else {
            reserve(handle, receiving.accepted, isSource: false)
        }
    }

    /// A peer asks for a bulk payload, to be written where its request says.
    private mutating func takeQuestion(
        _ receiving: Receiving, _ transfer: UInt64, _ byteCount: Int, _ link: SlotHandle
    ) {
        guard
            case .get(_, let matchBits, let portal, let offset, let sinkLength) =
                receiving.header.body, isOwn(receiving.header.destination.nid)
        else {
            o2ibLinks.update(link) { $0.conversation.abandon(transfer, status: -2) }
            return
        }
        let outcome = matches.match(
            .get, portal: portal, matchBits: matchBits, from: receiving.source, offset: offset,
            length: min(Int(sinkLength), byteCount))
        guard case .match(let match) = outcome else {
            if case .tooLong = outcome {
                counters.count(.tooLong)
            } else {
                counters.count(.noMatch)
            }
            o2ibLinks.update(link) {
                $0.conversation.abandon(transfer, status: O2IBLNDConnection.noDataStatus)
            }
            return
        }
        var bulk = O2IBBulk(
            kind: .service, link: link, transfer: transfer, slot: match.slot,
            isUsers: match.slot != nil, offset: match.slot == nil ? 0 : match.offset,
            byteCount: match.mlength, since: now)
        if match.slot == nil, let slot = match.buffer, let buffer = buffers[slot] {
            bulk.payload = buffer
            bulk.range = match.offset..<(match.offset + match.mlength)
        }
        counters.sent.count(.reply(destination: .none))
        counters.sendLength &+= UInt64(match.mlength)
        serveBulk(bulks.insert(bulk), link)
        toldServed(receiving, match, matchBits, portal)
    }

    /// Where the answer to our GET, or a peer's payload, will stand is known.
    private mutating func grant(_ handle: SlotHandle, _ link: SlotHandle) {
        guard let bulk = bulks[handle], let slot = bulk.slot else { return }
        let address = slot.address + UInt64(bulk.offset)
        let now = now
        bulks.update(handle) {
            $0.since = now
            $0.waitsForMemory = false
        }
        let isKnown: Void? = o2ibLinks.update(link) { link in
            if let header = bulk.header {
                link.conversation.askGet(
                    header, address: address, key: link.remoteKey, byteCount: bulk.byteCount,
                    user: handle.rawValue)
            } else {
                link.conversation.grant(
                    bulk.transfer, address: address, key: link.remoteKey,
                    byteCount: bulk.byteCount, user: handle.rawValue)
            }
        }
        if isKnown == nil, let removed = bulks.remove(handle) { releaseMemory(removed) }
    }

    /// The peer wrote, or did not write, what it had offered.
    private mutating func sinkFilled(_ handle: SlotHandle, _ status: Int32) {
        guard let bulk = bulks[handle], let receiving = bulk.receiving else { return }
        guard status == Int32(bulk.byteCount) else {
            bulks.remove(handle)
            releaseMemory(bulk)
            abort(receiving, status < 0 ? -status : LNetErrno.protocolError)
            return
        }
        if bulk.isUsers {
            bulks.remove(handle)
            finish(receiving, payload: arena.count..<arena.count)
        } else {
            collect(handle, bulk)
        }
    }

    /// Our GET was answered.
    private mutating func answered(_ handle: SlotHandle, _ status: Int32) {
        guard let bulk = bulks[handle] else { return }
        returnMessage(of: bulk)
        guard let pending = bulk.pending, pendings.contains(pending), status >= 0 else {
            bulks.remove(handle)
            releaseMemory(bulk)
            if let pending = bulk.pending, status < 0 { failPending(pending, -status) }
            return
        }
        bulks.update(handle) { $0.byteCount = Int(status) }
        guard !bulk.isUsers, status > 0 else {
            bulks.remove(handle)
            releaseMemory(bulk)
            if let reply = reply(to: pending, byteCount: Int(status)) {
                finish(reply, payload: arena.count..<arena.count)
            }
            return
        }
        var complete = bulk
        complete.byteCount = Int(status)
        collect(handle, complete)
    }

    /// The REPLY that a GET_DONE stands for: no header of it travels.
    private mutating func reply(to pending: SlotHandle, byteCount: Int) -> Receiving? {
        guard let current = pendings[pending] else { return nil }
        let header = LNetHeader(
            destination: ProcessID(nid: sourceNID(to: current.peer)),
            source: ProcessID(nid: current.nid),
            payloadLength: UInt32(byteCount), body: .reply(destination: wireHandle(pending)))
        counters.received.count(header.body)
        return Receiving(
            header: header, source: header.source, peer: current.peer,
            target: .reply(pending: pending, buffer: current.buffer), accepted: byteCount,
            via: current.peer)
    }

    private mutating func sourceNID(to peer: SlotHandle) -> NID {
        let interface = peers.update(peer) { $0.interface } ?? -1
        return interface >= 0 ? interfaces[interface].nid : nid
    }

    private mutating func collect(_ handle: SlotHandle, _ bulk: O2IBBulk) {
        guard let slot = bulk.slot else { return }
        bulks.update(handle) { $0.isComplete = true }
        actions.append(
            .o2ib(
                .collect(request: handle.rawValue, slot: slot, byteCount: bulk.byteCount)))
    }

    /// The bytes of a transfer that `collect` named.
    public mutating func bulkCollected(_ request: UInt64, _ bytes: RawSpan, now: Ticks) {
        beginRound(now)
        guard let bulk = bulks.remove(SlotHandle(rawValue: request)) else { return }
        var receiving: Receiving?
        if bulk.kind == .sink {
            receiving = bulk.receiving
        } else if let pending = bulk.pending {
            receiving = reply(to: pending, byteCount: bytes.byteCount)
        }
        if var receiving {
            absorb(&receiving, bytes, 0..<bytes.byteCount, isLast: true, on: bulk.link)
        }
        releaseMemory(bulk)
    }

    // MARK: On the way out

    /// Queues a message whose payload stands in the caller's scratch.
    mutating func sendO2IB(_ header: LNetHeader, _ payload: RawSpan, on link: SlotHandle) {
        let place = Self.o2ibSlot(link.rawValue)
        let isSent = sendSmall(header, payload, place)
        if !isSent {
            let copy = payload.copy(0..<payload.byteCount)
            sendLarge(header, copy, 0..<copy.count, nil, place)
        }
        owe(o2ib: place)
    }

    /// Queues a message whose payload is part of an array.
    mutating func sendO2IB(
        _ header: LNetHeader, _ payload: [UInt8], _ range: Range<Int>, on link: SlotHandle
    ) {
        let place = Self.o2ibSlot(link.rawValue)
        let isSent = RawSpan.over(payload) { bytes in
            sendSmall(header, bytes.extracting(range), place)
        }
        if !isSent { sendLarge(header, payload, range, nil, place) }
        owe(o2ib: place)
    }

    /// Queues a message whose payload stands in registered memory.
    mutating func sendO2IB(
        _ header: LNetHeader, _ slot: BulkSlot, _ range: Range<Int>, on link: SlotHandle
    ) {
        let place = Self.o2ibSlot(link.rawValue)
        if range.isEmpty {
            RawSpan.over([]) { _ = sendSmall(header, $0, place) }
        } else {
            sendLarge(header, [], range, slot, place)
        }
        owe(o2ib: place)
    }

    /// False: too long for one message, or it asks for an answer that is.
    private mutating func sendSmall(
        _ header: LNetHeader, _ payload: RawSpan, _ link: SlotHandle
    ) -> Bool {
        o2ibLinks.update(link) { link in
            let limit = link.conversation.immediateMax
            guard payload.byteCount <= limit else { return false }
            // Only between the two ends: through a router the answer is a REPLY.
            if case .get(_, _, _, _, let sinkLength) = header.body, Int(sinkLength) > limit,
                header.destination.nid == link.conversation.peer,
                header.source.nid == link.conversation.identity.nid
            {
                return false
            }
            link.heldMessages += 1
            link.conversation.sendImmediate(header, payload)
            return true
        } ?? true
    }

    /// By RDMA: offers a payload, or asks for one.
    private mutating func sendLarge(
        _ header: LNetHeader, _ payload: [UInt8], _ range: Range<Int>, _ slot: BulkSlot?,
        _ link: SlotHandle
    ) {
        guard o2ibLinks.update(link, { $0.heldMessages += 1 }) != nil else { return }
        if case .get(let handle, _, _, _, let sinkLength) = header.body {
            let pending = pending(of: handle)
            let users = pending.flatMap { pendings[$0]?.slot }
            let bulk = bulks.insert(
                O2IBBulk(
                    kind: .get, link: link, slot: users, isUsers: users != nil,
                    byteCount: Int(sinkLength), header: header, pending: pending, since: now))
            if users != nil {
                grant(bulk, link)
            } else {
                reserve(bulk, Int(sinkLength), isSource: false)
            }
            return
        }
        let bulk = bulks.insert(
            O2IBBulk(
                kind: .source, link: link, slot: slot, isUsers: slot != nil,
                offset: slot == nil ? 0 : range.lowerBound, byteCount: range.count,
                payload: payload, range: range, header: header, since: now))
        o2ibLinks.update(link) { $0.conversation.offerPut(header, user: bulk.rawValue) }
    }

    /// A REPLY from registered memory. False where the way there is not RDMA.
    mutating func respondRegistered(
        _ receiving: Receiving, _ body: LNetHeader.Body, _ slot: BulkSlot, _ range: Range<Int>
    ) -> Bool {
        let header = LNetHeader(
            destination: receiving.header.source,
            source: ProcessID(nid: receiving.header.destination.nid),
            payloadLength: UInt32(range.count), body: body)
        return transmit(header, slot, range, to: receiving.via)
    }

    /// Sends `range` of registered memory to a peer's portal; bulk goes straight from there to the
    /// wire. The memory must last until the ACK, which is therefore asked for. False if it could
    /// not even be queued, or the peer is not reached over RDMA.
    @discardableResult
    public mutating func put(
        to peer: PeerRef, portal: UInt32, matchBits: UInt64, offset: UInt32 = 0,
        hdrData: UInt64 = 0, registered slot: BulkSlot, range: Range<Int>, ackCookie: UInt64,
        now: Ticks
    ) -> Bool {
        precondition(
            range.lowerBound >= 0 && range.upperBound <= Int(slot.byteCount), "within the slot")
        advance(now)
        guard
            let (header, path) = putHeader(
                peer.slot, portal, matchBits, offset, hdrData, range.count, ackCookie)
        else { return false }
        guard transmit(header, slot, range, to: path) else { return refused(header) }
        return true
    }

    // MARK: Registered memory

    private mutating func reserve(_ handle: SlotHandle, _ byteCount: Int, isSource: Bool) {
        bulks.update(handle) { $0.waitsForMemory = true }
        actions.append(
            .o2ib(
                .reserve(
                    request: handle.rawValue, byteCount: byteCount, isSource: isSource)))
    }

    /// The peer's memory is known: ours is needed, if it is not the user's.
    private mutating func serveBulk(_ handle: SlotHandle, _ link: SlotHandle) {
        guard let bulk = bulks[handle] else { return }
        if bulk.slot == nil, bulk.byteCount > 0 {
            reserve(handle, bulk.byteCount, isSource: true)
            return
        }
        serveFrom(handle, bulk, (bulk.slot?.address ?? 0) + UInt64(bulk.offset))
    }

    private mutating func serveFrom(
        _ handle: SlotHandle, _ bulk: O2IBBulk, _ address: UInt64
    ) {
        let now = now
        bulks.update(handle) {
            $0.since = now
            $0.waitsForMemory = false
            $0.payload = []
        }
        let isServed =
            o2ibLinks.update(bulk.link) {
                $0.conversation.serve(
                    bulk.transfer, from: address, byteCount: bulk.byteCount,
                    user: handle.rawValue)
            } ?? false
        if !isServed, let removed = bulks.remove(handle) {
            releaseMemory(removed)
            returnMessage(of: removed)
        }
        owe(o2ib: bulk.link)
    }

    /// Memory that `reserve` asked for. `fill` copies a source's payload to its beginning.
    public mutating func bulkGranted(
        _ request: UInt64, _ slot: BulkSlot, now: Ticks, fill: (RawSpan) -> Void
    ) {
        beginRound(now)
        let handle = SlotHandle(rawValue: request)
        guard let bulk = bulks[handle] else {
            actions.append(.o2ib(.release(slot: slot)))
            return
        }
        bulks.update(handle) { $0.slot = slot }
        switch bulk.kind {
        case .sink, .get:
            grant(handle, bulk.link)
            owe(o2ib: bulk.link)
        case .source, .service:
            let range = bulk.range.lowerBound..<(bulk.range.lowerBound + bulk.byteCount)
            RawSpan.over(bulk.payload) { fill($0.extracting(range)) }
            serveFrom(handle, bulk, slot.address)
        }
    }

    /// The device has read a source's memory for the last time.
    mutating func served(_ handle: SlotHandle) {
        guard let bulk = bulks.remove(handle) else { return }
        releaseMemory(bulk)
        returnMessage(of: bulk)
    }

    mutating func releaseMemory(_ bulk: O2IBBulk) {
        guard let slot = bulk.slot, !bulk.isUsers else { return }
        actions.append(.o2ib(.release(slot: slot)))
    }

    /// The LNet credits of a message of ours that is over.
    private mutating func returnMessage(of bulk: O2IBBulk) {
        guard bulk.kind == .source || bulk.kind == .get else { return }
        let peer = o2ibLinks.update(bulk.link) {
            $0.heldMessages -= 1
            return $0.peer
        }
        if let peer { returnCredits(1, of: peer) }
    }
}

extension LNetCore {
    /// Takes registered memory that the node still holds, a slot at a time: for a shell that ends
    /// the node, after its connections, but goes on with the memory.
    public mutating func abandonMemory() -> BulkSlot? {
        while let action = actions.popFirst() {
            if case .o2ib(.release(let slot)) = action { return slot }
        }
        while let handle = bulks.handles.first {
            guard let bulk = bulks.remove(handle) else { return nil }
            if let slot = bulk.slot, !bulk.isUsers { return slot }
        }
        return nil
    }
}
