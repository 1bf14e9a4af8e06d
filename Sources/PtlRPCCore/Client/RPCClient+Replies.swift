public import LNetCore
public import Primitives
import WireFormat

extension RPCClient {
    /// Longer than any message of ours.
    private static var messageSizeMax: Int { 1 << 20 }

    /// Attaches the wildcard entries for replies and callbacks, once.
    mutating func attachEntries(_ lnet: inout LNetCore) {
        guard replyEntries.isEmpty else { return }
        let md = MemoryDescriptor(
            memory: .events(lengthMax: Self.messageSizeMax), options: [.put, .manageRemote])
        let portals = [
            ServicePortal.mdcReply, ServicePortal.oscReply, ServicePortal.lockCancelReply,
        ]
        for portal in portals {
            replyEntries.append(
                lnet.attach(
                    portal: portal, matchBits: 0, ignoreBits: .max, md, cookie: Self.cookieMark))
        }
        callbackEntry = lnet.attach(
            portal: ServicePortal.lockCallbackRequest, matchBits: 0, ignoreBits: .max, md,
            cookie: Self.cookieMark)
    }

    /// Takes an event of the node's LNet. True if it was for this client alone.
    public mutating func handle(
        _ event: LNetEvent, lnet: inout LNetCore, now: Ticks
    ) -> Bool {
        switch event {
        case .put(let put):
            if replyEntries.contains(put.entry) {
                replyArrived(put, &lnet, now)
                return true
            }
            if put.entry == callbackEntry {
                callbackArrived(put, lnet)
                return true
            }
            guard put.cookie & Self.cookieMarkMask == Self.cookieMark else { return false }
            let xid = XID(rawValue: put.cookie & ~Self.cookieMarkMask)
            if requests.contains(xid), requests[xid].bulk == put.entry {
                requests[xid].bulkReceived &+= UInt32(clamping: put.mlength)
            }
            return true
        case .get(let get):
            return get.cookie & Self.cookieMarkMask == Self.cookieMark
        case .putFailed(let cookie, _, _, _):
            return cookie & Self.cookieMarkMask == Self.cookieMark
        case .ack(let cookie, _), .sendFailed(let cookie, _):
            return cookie & Self.cookieMarkMask == Self.cookieMark
        case .peerDown(let nid, _):
            peerDown(nid, &lnet, now)
            return false
        case .pinged(let ping):
            return returnAnswered(ping, &lnet, now)
        case .reply, .peerUp, .discovered:
            return false
        }
    }

    /// All connections to a node are lost: so are the imports that lived there.
    private mutating func peerDown(_ nid: NID, _ lnet: inout LNetCore, _ now: Ticks) {
        for index in imports.indices {
            if let parked = imports[index].parked,
                imports[index].endpoints[parked.endpoint].nid == nid
            {
                postponeParked(index, now)
            }
            if let attempt = imports[index].attempt {
                if imports[index].endpoints[attempt.endpoint].nid == nid {
                    attemptFailed(index, tryNext: true, now)
                }
            } else if imports[index].state.isConnected, imports[index].nid == nid {
                lost(index, .connectionLost, &lnet, now)
            }
        }
    }

    /// The connection is gone; where the client was leaving, that is the end.
    mutating func lost(
        _ index: Int, _ reason: DisconnectReason, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        let xid = imports[index].sent.tail
        if xid != .zero, requests[xid].kind == .disconnect {
            release(xid)
            ended(index, &lnet, now)
        } else {
            dropConnection(index, reason, &lnet, now)
        }
    }

    /// The DISCONNECT is through, or its connection is gone, which comes to the same.
    private mutating func ended(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        close(index, now)
        // What was called while an idle import left wants it back.
        if imports[index].state == .idle, imports[index].queuedCount > 0 {
            startAttempt(index, at: imports[index].endpoint, &lnet, now)
        }
    }

    // MARK: Replies

    private struct Answer {
        var header: PtlRPCBody
        var body: ReplyBody
        var trailer: ReplyTrailer?
        /// "Still at it": the real one follows.
        var isEarly = false
    }

    private mutating func replyArrived(
        _ put: LNetEvent.Put, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        let xid = XID(rawValue: put.matchBits)
        guard requests.contains(xid) else {
            // Answered or failed before, or never asked. Its import is not known.
            return
        }
        let index = Int(requests[xid].importIndex)
        let isConnect = requests[xid].kind == .connect
        guard isConnect || requests[xid].place == .sent else {
            imports[index].counters.lateReplies &+= 1
            return
        }
        let endpoint =
            !isConnect
            ? imports[index].endpoint
            : imports[index].parked?.xid == xid
                ? imports[index].parked!.endpoint
                : imports[index].attempt?.endpoint ?? imports[index].endpoint
        guard put.initiator.nid == imports[index].endpoints[endpoint].nid else {
            imports[index].counters.lateReplies &+= 1
            return
        }
        let opcode = requests[xid].opcode
        let version = imports[index].version
        let connectionCount = requests[xid].connectionCount
        let answer: Answer?
        do {
            answer = try lnet.withPayload(put.payload) { bytes throws(WireError) in
                try Self.parse(
                    bytes, opcode, version, connectionCount, isFirst: put.offset == 0)
            }
        } catch {
            imports[index].counters.badMessages &+= 1
            if isConnect {
                // As no answer: its time-out follows.
            } else if requests[xid].kind == .call, !requests[xid].isSaved {
                fail(xid, index, .protocolError, &lnet)
                pump(index, &lnet, now)
            } else {
                lost(index, .requestTimeout, &lnet, now)
            }
            return
        }
        guard let answer else {
            imports[index].counters.lateReplies &+= 1
            return
        }
        if answer.isEarly {
            putOff(xid, index, answer.header, now)
        } else if isConnect {
            connectAnswered(xid, index, answer.header, answer.body, &lnet, now)
        } else {
            answered(xid, index, answer, &lnet, now)
        }
    }

    /// Reads a reply. Nil for one to an earlier connection: the server echoes pb_conn_cnt.
    ///
    /// - Parameter isFirst: it stands at the beginning of the reply's room, where an early reply
    ///   has its place; the real one to a request that understands early ones is behind it.
    private static func parse(
        _ bytes: RawSpan, _ opcode: Opcode, _ version: ProtocolVersion, _ connectionCount: UInt32,
        isFirst: Bool
    ) throws(WireError) -> Answer? {
        let message = try LustreMessage(parsing: bytes)
        var reader = try message.reader(0, in: bytes)
        let header = try PtlRPCBody(from: &reader)
        guard header.connectionCount == connectionCount else { return nil }
        guard header.type != .request else { throw .badValue(field: "pb_type", value: 4711) }
        if isFirst, message.flags & LustreMessage.adaptiveTimeouts != 0 {
            guard message.checksum == header.checksum else {
                throw .badValue(field: "lm_cksum", value: UInt64(message.checksum))
            }
            return Answer(header: header, body: .empty, trailer: nil, isEarly: true)
        }
        let body = try ReplyBody(
            opcode: opcode, status: header.status, message: message, bytes: bytes,
            version: version)
        let trailer = ReplyTrailer(body: body, message: message, bytes: bytes)
        return Answer(header: header, body: body, trailer: trailer)
    }

    private mutating func answered(
        _ xid: XID, _ index: Int, _ answer: Answer, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        let header = answer.header
        let kind = requests[xid].kind
        imports[index].counters.replies &+= 1
        learn(xid, index, header, now)
        if header.status == .notConnected, kind != .disconnect {
            lost(index, .notConnected, &lnet, now)
            return
        }
        if header.lockVolume != 0 { imports[index].serverLockVolume = header.lockVolume }
        noteCommitted(index, header.lastCommitted)
        if let trailer = answer.trailer, trailer != imports[index].trailer {
            imports[index].trailer = trailer
            events.append(.trailer(import: index, trailer: trailer))
        }
        switch kind {
        case .call:
            if requests[xid].isSaved {
                replayAnswered(xid, index, header, &lnet, now)
            } else {
                callAnswered(xid, index, answer, &lnet, now)
            }
        case .connect:
            preconditionFailure("an answer to CONNECT goes another way")
        case .disconnect:
            release(xid)
            ended(index, &lnet, now)
        case .ping:
            release(xid)
            pump(index, &lnet, now)
        case .openReplay, .lockReplay:
            heldStateAnswered(xid, index, header, answer.body, &lnet, now)
        case .finalPing:
            release(xid)
            if header.status.isError {
                // Nothing is settled: ask again on a new connection.
                dropConnection(index, .notConnected, &lnet, now)
            } else {
                becomeFull(index, &lnet, now)
            }
        }
    }

    private mutating func callAnswered(
        _ xid: XID, _ index: Int, _ answer: Answer, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        var body = answer.body
        guard takeBulk(xid, &body, &lnet) else {
            bulkFailed(xid, index, &lnet, now)
            return
        }
        let header = answer.header
        let cookie = requests[xid].cookie
        let isAwaited = !requests[xid].isCancelled
        if !header.status.isError { imports[index].wasUsed = true }
        settle(xid, index)
        if requests[xid].isUpdate, header.transno > imports[index].highestTransno {
            imports[index].highestTransno = header.transno
        }
        if requests[xid].isUpdate, header.transno > imports[index].lastCommitted {
            requests[xid].isSaved = true
            requests[xid].transno = header.transno
            requests[xid].preVersions = header.preVersions
            requests[xid].body.complete(from: body)
            imports[index].save(xid, header.transno)
        } else {
            requests.remove(xid)
        }
        if isAwaited {
            events.append(
                .reply(
                    cookie: cookie, import: index, status: header.status, body: body, xid: xid,
                    transno: header.transno))
        }
        pump(index, &lnet, now)
    }

    /// Joins the bulk bytes to the reply that announced them. False if they are not what it said.
    private mutating func takeBulk(
        _ xid: XID, _ body: inout ReplyBody, _ lnet: inout LNetCore
    ) -> Bool {
        guard let bulk = requests[xid].bulk else { return true }
        requests[xid].bulk = nil
        guard case .read(var read) = body, read.travelsByBulk else {
            lnet.unlink(bulk)
            return true
        }
        let received = Int(requests[xid].bulkReceived)
        guard let bytes = lnet.takeBuffer(bulk), received >= read.byteCount else { return false }
        body = .empty
        let isWhole = read.attachBulk(bytes)
        body = .read(read)
        return isWhole
    }

    /// Reads once more what came damaged; a read may be repeated.
    private mutating func bulkFailed(
        _ xid: XID, _ index: Int, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        requests[xid].bulkFailures += 1
        if requests[xid].bulkFailures < 3 {
            unlist(xid, index)
            enqueue(xid, index)
        } else {
            fail(xid, index, .ioError, &lnet)
        }
        pump(index, &lnet, now)
    }
}
