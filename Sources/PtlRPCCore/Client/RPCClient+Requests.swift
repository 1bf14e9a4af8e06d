import LNetCore
import Primitives
import WireFormat

extension RPCClient {
    // MARK: Queues

    /// Puts a call behind those of its class.
    mutating func enqueue(_ xid: XID, _ index: Int) {
        if requests[xid].isUpdate {
            requests.append(xid, to: &imports[index].updates, as: .updates)
        } else if requests[xid].isUrgent {
            requests.append(xid, to: &imports[index].urgent, as: .urgent)
        } else {
            requests.append(xid, to: &imports[index].others, as: .others)
        }
    }

    /// Takes a request out of whatever list it is in.
    mutating func unlist(_ xid: XID, _ index: Int) {
        switch requests[xid].place {
        case .none: break
        case .urgent: requests.remove(xid, from: &imports[index].urgent)
        case .updates: requests.remove(xid, from: &imports[index].updates)
        case .others: requests.remove(xid, from: &imports[index].others)
        case .sent:
            requests.remove(xid, from: &imports[index].sent)
            if requests[xid].isUpdate, !requests[xid].isSaved { imports[index].updatesSent -= 1 }
        case .interrupted:
            if imports[index].recovery != nil {
                requests.remove(xid, from: &imports[index].recovery!.interrupted)
            }
        }
    }

    /// Takes a request out of all lists and gives its modify slot back: it is answered or failed.
    mutating func settle(_ xid: XID, _ index: Int) {
        unlist(xid, index)
        guard requests[xid].kind != .connect, !requests[xid].isSaved else { return }
        requests.removeUnanswered(xid, from: &imports[index].unanswered)
        if requests[xid].isUpdate {
            imports[index].updateCount -= 1
            imports[index].returnTag(requests[xid].tag)
        }
    }

    /// Forgets a request that has no bulk attached.
    mutating func release(_ xid: XID) {
        settle(xid, Int(requests[xid].importIndex))
        requests.remove(xid)
    }

    /// Sends what may go out now, each class in the order of its calls.
    mutating func pump(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        guard imports[index].state == .full || imports[index].state == .recover,
            !imports[index].isIdling
        else { return }
        while imports[index].urgent.head != .zero {
            sendQueued(imports[index].urgent.head, index, &lnet, now)
        }
        while imports[index].updates.head != .zero,
            imports[index].sent.count < configuration.requestsInFlightMax,
            imports[index].updatesSent < imports[index].modifyingRequestsMax
        {
            guard imports[index].savedCount < configuration.savedMax else {
                if imports[index].commitPingAt == .distantFuture {
                    imports[index].commitPingAt = now + .milliseconds(50)
                }
                break
            }
            let xid = imports[index].updates.head
            if requests[xid].tag == 0 {
                guard let tag = imports[index].takeTag() else { break }
                requests[xid].tag = tag
            }
            sendQueued(xid, index, &lnet, now)
        }
        while imports[index].others.head != .zero,
            imports[index].sent.count < configuration.requestsInFlightMax
        {
            sendQueued(imports[index].others.head, index, &lnet, now)
        }
    }

    private mutating func sendQueued(
        _ xid: XID, _ index: Int, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        unlist(xid, index)
        if requests[xid].isUpdate { imports[index].updatesSent += 1 }
        var flags = MessageFlags()
        if requests[xid].wasSent {
            flags.insert(.resent)
            imports[index].counters.resent &+= 1
        }
        send(xid, index, flags, timeout: requestTimeout(index, now), &lnet, now)
    }

    /// Sends a message of our own, such as a ping, past all queues.
    @discardableResult
    mutating func sendInternal(
        _ index: Int, _ kind: Request.Kind, _ body: RequestBody, flags: MessageFlags = [],
        cookie: UInt64 = 0, _ lnet: inout LNetCore, _ now: Ticks
    ) -> XID {
        let xid = requests.insert(kind, body, cookie: cookie, import: index)
        imports[index].highestXID = xid
        requests.appendUnanswered(xid, to: &imports[index].unanswered)
        let timeout =
            switch kind {
            case .openReplay, .lockReplay, .finalPing: configuration.recoveryTimeout
            case .call, .connect, .disconnect, .ping: requestTimeout(index, now)
            }
        send(xid, index, flags, timeout: timeout, &lnet, now)
        return xid
    }

    // MARK: Sending

    /// Sends a request that is in no list on the connection that stands, and awaits its answer.
    mutating func send(
        _ xid: XID, _ index: Int, _ flags: MessageFlags, timeout: TickInterval,
        _ lnet: inout LNetCore, _ now: Ticks
    ) {
        requests.append(xid, to: &imports[index].sent, as: .sent)
        requests[xid].sentAt = now
        requests[xid].deadline =
            now + timeout + imports[index].latencyEstimate.current(at: now, history: latencyHistory)
        imports[index].deadlineMin = min(imports[index].deadlineMin, requests[xid].deadline)
        requests[xid].connectionCount = imports[index].connectionCount
        requests[xid].wasSent = true
        imports[index].lastSentAt = now
        attachBulk(xid, index, &lnet)

        var header = PtlRPCBody()
        header.handle = imports[index].remoteHandle
        header.flags = flags
        header.tag = requests[xid].tag
        if requests[xid].isSaved {
            header.transno = requests[xid].transno
            header.preVersions = requests[xid].preVersions
            header.lastCommitted = imports[index].predecessor(of: requests[xid].transno)
        }
        header.connectionCount = imports[index].connectionCount
        header.timeoutSeconds = timeout.secondsRoundedUp
        transmit(xid, header, imports[index].endpoint, index, &lnet, now)
    }

    /// Encodes a request in the version that holds now and hands it to LNet.
    mutating func transmit(
        _ xid: XID, _ header: PtlRPCBody, _ endpoint: Int, _ index: Int, _ lnet: inout LNetCore,
        _ now: Ticks
    ) {
        var header = header
        let oldest = imports[index].unanswered.head
        header.lastXID = XID(rawValue: (oldest == .zero ? xid : min(oldest, xid)).rawValue - 1)
        header.matchBits = xid.rawValue
        writer.removeAll()
        // A CONNECT has a fixed, short time-out, and no room for an early reply.
        let takesEarly = configuration.adaptive != nil && requests[xid].kind != .connect
        requests.encode(
            xid, header: header, version: imports[index].version,
            flags: takesEarly ? LustreMessage.adaptiveTimeouts : 0, into: &writer)
        let peer: PeerRef
        if let known = imports[index].endpoints[endpoint].peer {
            peer = known
        } else {
            peer = lnet.peer(for: imports[index].endpoints[endpoint].nid)
            imports[index].endpoints[endpoint].peer = peer
        }
        let portal = imports[index].kind.portal(for: requests[xid].opcode)
        // A message that found no place is like one that was lost: its time-out deals with it, or
        // the peer's going down, which follows.
        _ = RawSpan.over(writer.bytes) {
            lnet.put(
                to: peer, portal: portal, matchBits: xid.rawValue, payload: $0, now: now)
        }
    }

    // MARK: Bulk

    /// Marks our descriptors among those of the node, with the XID below.
    static let cookieMark: UInt64 = 0xC1 << 56
    static let cookieMarkMask: UInt64 = 0xFF << 56

    /// Attaches what the server will fetch, or the room that it will fill. The bytes of a write
    /// are shared with the request, not copied.
    private mutating func attachBulk(_ xid: XID, _ index: Int, _ lnet: inout LNetCore) {
        detachBulk(xid, &lnet)
        guard let md = requests.bulkDescriptor(xid) else { return }
        requests[xid].bulkReceived = 0
        requests[xid].bulk = lnet.attach(
            portal: ServicePortal.ostBulk,
            process: ProcessID(nid: imports[index].nid, pid: ProcessID.anyPID),
            matchBits: xid.rawValue, md, cookie: Self.cookieMark | xid.rawValue)
    }

    mutating func detachBulk(_ xid: XID, _ lnet: inout LNetCore) {
        guard let bulk = requests[xid].bulk else { return }
        lnet.unlink(bulk)
        requests[xid].bulk = nil
    }

    // MARK: Failing

    /// Ends a call without an answer.
    mutating func fail(_ xid: XID, _ index: Int, _ status: Status, _ lnet: inout LNetCore) {
        detachBulk(xid, &lnet)
        if requests[xid].kind == .call, !requests[xid].isCancelled {
            events.append(
                .failed(
                    cookie: requests[xid].cookie, import: index, status: status, xid: xid))
        }
        release(xid)
    }

    /// Ends every unanswered request, and forgets the replay list.
    mutating func failAll(_ index: Int, _ status: Status, _ lnet: inout LNetCore) {
        abandonRecovery(index, &lnet)
        while imports[index].unanswered.head != .zero {
            fail(imports[index].unanswered.head, index, status, &lnet)
        }
        forgetSaved(index)
    }

    // MARK: The replay list

    mutating func forgetSaved(_ index: Int) {
        while let xid = imports[index].takeCommitted(upTo: Transno(rawValue: .max)) {
            requests.remove(xid)
        }
    }

    /// A higher transno is known to be committed: what was saved up to it is forgotten.
    mutating func noteCommitted(_ index: Int, _ transno: Transno) {
        if transno > imports[index].lastCommitted {
            imports[index].lastCommitted = transno
            events.append(.committed(import: index, transno: transno))
        }
        prune(index)
    }

    mutating func prune(_ index: Int) {
        // What is being replayed stays until all of it is: it may be under way.
        guard imports[index].recovery?.updatesUnderWay ?? 0 == 0 else { return }
        let bound =
            configuration.mutation.is(.forgetsAnswered)
            ? Transno(rawValue: .max) : imports[index].lastCommitted
        while let xid = imports[index].takeCommitted(upTo: bound) {
            requests.remove(xid)
        }
    }
}
