import LNDCore
import Primitives
import WireFormat

extension LNetCore {
    /// What becomes of a message that begins.
    enum Admission {
        case refused(SockLNDFault)
        /// A router has no buffer for it now.
        case wait
        case take(Receiving)
    }

    /// Whether a message is from whom it says, and for us or for somebody behind us.
    ///
    /// - Parameter canWait: nothing need be read from the connection until there is a buffer.
    mutating func admit(
        _ header: LNetHeader, from peer: SlotHandle, on own: NID, canWait: Bool
    ) -> Admission {
        guard let (process, interface) = peers.update(peer, { ($0.process, $0.interface) }) else {
            return .refused(.wrongSource)
        }
        // A userspace peer is named by its connection whatever its headers say (socklnd).
        var source =
            process.isUserspace ? process : ProcessID(nid: process.nid, pid: header.source.pid)
        var origin = peer
        if !process.isUserspace, header.source.nid != process.nid {
            // Only a gateway speaks for others, and only for those of networks behind it.
            let remote = header.source.nid
            guard !interfaces.contains(where: { $0.isUsable && $0.nid.network == remote.network }),
                routes.contains(where: { $0.route.network == remote.net })
            else { return .refused(.wrongSource) }
            source = header.source
            let isOurs = routes.contains {
                $0.route.network == remote.net
                    && primary(of: $0.route.gateway) == primary(of: process.nid)
            }
            guard isOurs || !configuration.dropAsymmetricRoutes else {
                counters.count(.asymmetric, length: header.payloadLength)
                return .take(
                    Receiving(
                        header: header, source: source, peer: peer, target: .discard, accepted: 0,
                        via: peer))
            }
            if header.destination.nid == own {
                let isKnown = peers.find(source, on: -1) != nil
                guard isKnown || peers.count < configuration.incomingPeersMax else {
                    return .refused(.stranger)
                }
                origin = peerSlot(source)
            }
        }
        let index =
            interface >= 0 && interfaces[interface].nid == own ? interface : interfaceIndex(of: own)
        if index >= 0 {
            interfaces[index].lastHeard = now
            interfaces[index].lastPeer = peer
        }
        if hasUnwell { raise(peer: process.nid) }
        guard header.destination.nid == own else {
            if header.destination.nid.network == own.network || isOwn(header.destination.nid) {
                return .refused(.wrongDestination)
            }
            switch passage(header, source, peer, canWait: canWait) {
            case .wait: return .wait
            case .forward(let receiving): return .take(receiving)
            case .drop:
                counters.count(.notRouted, length: header.payloadLength)
                return .take(
                    Receiving(
                        header: header, source: source, peer: peer, target: .discard, accepted: 0,
                        via: peer))
            }
        }
        return .take(begin(header, source, origin, via: peer))
    }

    /// Decides where the payload of a message goes.
    mutating func begin(
        _ header: LNetHeader, _ source: ProcessID, _ peer: SlotHandle, via: SlotHandle
    ) -> Receiving {
        counters.received.count(header.body)
        let interface =
            peers.update(via) {
                $0.traffic.received.count(header.body)
                return $0.interface
            } ?? -1
        if interface >= 0 { interfaces[interface].traffic.received.count(header.body) }
        let length = Int(header.payloadLength)
        var initiator = source
        if !nodeIndex.isEmpty { initiator.nid = primary(of: source.nid) }
        var receiving = Receiving(
            header: header, source: initiator, peer: peer, target: .discard, accepted: 0, via: via)
        if !faults.isEmpty, dropsReceived(header) {
            counters.count(.fault, length: header.payloadLength)
            receiving.isDropped = true
            return receiving
        }
        switch header.body {
        case .put(_, let matchBits, _, let portal, let offset):
            if portal == PingInfo.portal {
                if matchBits == PingInfo.matchBits {
                    receiving.target = .push
                    receiving.accepted = min(length, PingInfo.lengthMax)
                } else {
                    counters.count(.noMatch, length: header.payloadLength)
                }
                return receiving
            }
            let outcome = matches.match(
                .put, portal: portal, matchBits: matchBits, from: initiator, offset: offset,
                length: length)
            switch outcome {
            case .match(let match):
                receiving.target = .put(match)
                receiving.accepted = match.mlength
                receiving.slot = match.slot
                receiving.slotOffset = match.offset
            case .tooLong:
                counters.count(.tooLong, length: header.payloadLength)
            case .none:
                if portal < MatchTable.portalCount, matches.isLazy(portal),
                    lazy.count < configuration.lazyMessagesMax,
                    lazyBytes + length <= configuration.lazyBytesMax
                {
                    receiving.target = .lazy
                    receiving.accepted = length
                } else {
                    counters.count(.noMatch, length: header.payloadLength)
                }
            }
        case .reply(let handle):
            guard let slot = pending(of: handle), let pending = pendings[slot],
                isAnswer(header, via, to: pending), !pending.isArriving
            else {
                counters.count(.lateResponse, length: header.payloadLength)
                return receiving
            }
            switch pending.kind {
            case .ack, .push, .done:
                counters.count(.lateResponse, length: header.payloadLength)
            case .get, .ping, .discovery, .recovery:
                guard length <= pending.length else {
                    counters.count(.tooLong, length: header.payloadLength)
                    failPending(slot, LNetErrno.messageTooLong)
                    return receiving
                }
                pendings.update(slot) { $0.isArriving = true }
                receiving.target = .reply(pending: slot, buffer: pending.buffer)
                receiving.accepted = length
                receiving.slot = pending.slot
            }
        case .ack, .get:
            break
        }
        return receiving
    }

    /// Whether an ACK or REPLY comes from where its request went.
    private func isAnswer(
        _ header: LNetHeader, _ via: SlotHandle, to pending: Pending
    ) -> Bool {
        pending.peer == via || pending.nid == header.source.nid
    }

    /// Bytes of a payload: once, from the shell's buffer to where they stay.
    mutating func absorb(
        _ receiving: inout Receiving, _ bytes: RawSpan, _ range: Range<Int>, isLast: Bool,
        on link: SlotHandle
    ) {
        let count = max(0, min(range.count, receiving.accepted - receiving.seen))
        let kept = range.lowerBound..<(range.lowerBound + count)
        let start = receiving.seen
        receiving.seen += range.count
        if let slot = receiving.slot {
            if count > 0 {
                actions.append(
                    .o2ib(
                        .store(
                            slot: slot, offset: receiving.slotOffset + start,
                            bytes: bytes.copy(kept))))
            }
            if isLast { finish(receiving, payload: arena.count..<arena.count) }
            return
        }
        if let (buffer, offset) = sinkBuffer(receiving) {
            // The buffer may have been taken back meanwhile: then the bytes fall off.
            if count > 0 {
                buffers.update(buffer) { Self.copy(bytes, kept, to: &$0, at: offset + start) }
            }
            if isLast { finish(receiving, payload: arena.count..<arena.count) }
            return
        }
        if isLast, start == 0 {
            if case .forward = receiving.target {
                pass(receiving, bytes.copy(kept), 0..<kept.count)
                return
            }
            let from = arena.count
            if receiving.accepted > 0 { Self.append(bytes, kept, to: &arena) }
            finish(receiving, payload: from..<arena.count)
            return
        }
        if count > 0 { links.update(link) { Self.append(bytes, kept, to: &$0.assembly) } }
        guard isLast else { return }
        var assembly: [UInt8] = []
        links.update(link) { swap(&$0.assembly, &assembly) }
        if case .forward = receiving.target {
            pass(receiving, assembly, 0..<assembly.count)
            return
        }
        let from = arena.count
        arena.append(contentsOf: assembly)
        finish(receiving, payload: from..<arena.count)
    }

    private func sinkBuffer(_ receiving: Receiving) -> (SlotHandle, Int)? {
        switch receiving.target {
        case .put(let match): match.buffer.map { ($0, match.offset) }
        case .reply(_, let buffer): buffer.map { ($0, 0) }
        case .discard, .lazy, .push, .forward: nil
        }
    }

    static func append(_ bytes: RawSpan, _ range: Range<Int>, to array: inout [UInt8]) {
        unsafe bytes.extracting(range).withUnsafeBytes { raw in
            // SAFETY: `raw` views the range for the call.
            unsafe array.append(contentsOf: raw)
        }
    }

    private static func copy(
        _ bytes: RawSpan, _ range: Range<Int>, to array: inout [UInt8], at offset: Int
    ) {
        precondition(offset >= 0 && offset + range.count <= array.count, "matched within bounds")
        unsafe bytes.extracting(range).withUnsafeBytes { source in
            unsafe array.withUnsafeMutableBytes { target in
                // SAFETY: the precondition bounds the target; both views last for the call.
                unsafe UnsafeMutableRawBufferPointer(
                    rebasing: target[offset..<(offset + source.count)]
                ).copyMemory(from: source)
            }
        }
    }

    /// A message is complete: tell the user, answer the peer.
    mutating func finish(_ receiving: Receiving, payload: Range<Int>) {
        let header = receiving.header
        if !faults.isEmpty, !receiving.isHeld, !receiving.isDropped,
            let latency = holdsReceived(header)
        {
            var later = receiving
            later.isHeld = true
            hold(.received(later, payload: [UInt8](arena[payload])), latency)
            return
        }
        switch receiving.target {
        case .discard:
            if !receiving.isDropped { finishSmall(receiving) }
        case .forward:
            pass(receiving, [UInt8](arena[payload]), 0..<payload.count)
        case .push:
            if case .put(let ack, let matchBits, _, _, _) = header.body {
                acknowledge(
                    receiving, ack, matchBits, mlength: UInt32(clamping: payload.count))
                pushArrived(receiving, payload)
            }
        case .lazy:
            lazyBytes += payload.count
            lazy.append(LazyMessage(receiving: receiving, payload: [UInt8](arena[payload])))
        case .put(let match):
            finishPut(receiving, match, payload)
        case .reply(let slot, _):
            guard let pending = pendings[slot] else {
                counters.count(.lateResponse, length: header.payloadLength)
                return
            }
            counters.receiveLength &+= UInt64(header.payloadLength)
            finishReply(slot, pending, header, payload)
        }
    }

    private mutating func finishPut(
        _ receiving: Receiving, _ match: Match, _ payload: Range<Int>
    ) {
        guard
            case .put(let ack, let matchBits, let hdrData, let portal, _) = receiving.header.body
        else { return }
        counters.receiveLength &+= UInt64(match.mlength)
        // Who is on another network may have been forgotten while the payload came.
        let peer =
            receiving.peer == receiving.via || peers.contains(receiving.peer)
            ? receiving.peer : peerSlot(receiving.header.source)
        events.append(
            .put(
                LNetEvent.Put(
                    cookie: match.cookie, entry: MEHandle(match.entry),
                    initiator: receiving.source, peer: PeerRef(peer), portal: portal,
                    matchBits: matchBits, hdrData: hdrData, offset: match.offset,
                    rlength: Int(receiving.header.payloadLength), mlength: match.mlength,
                    payload: payload, unlinked: match.unlinked)))
        if match.unlinked, match.buffer == nil { matches.remove(match.entry) }
        if match.sendsAck {
            acknowledge(receiving, ack, matchBits, mlength: UInt32(match.mlength))
        }
    }

    private mutating func acknowledge(
        _ receiving: Receiving, _ ack: WireHandle, _ matchBits: UInt64, mlength: UInt32
    ) {
        guard ack != .none else { return }
        respond(
            receiving, .ack(destination: ack, matchBits: matchBits, mlength: mlength), [], 0..<0)
    }

    /// ACK and REPLY go to where the request came from. If they cannot, the other side times out.
    private mutating func respond(
        _ receiving: Receiving, _ body: LNetHeader.Body, _ payload: [UInt8], _ range: Range<Int>
    ) {
        let header = LNetHeader(
            destination: receiving.header.source,
            source: ProcessID(nid: receiving.header.destination.nid),
            payloadLength: UInt32(range.count), body: body)
        if !transmit(header, payload, range, to: receiving.via) { counters.count(.notSent) }
    }

    private mutating func finishReply(
        _ slot: SlotHandle, _ pending: Pending, _ header: LNetHeader, _ payload: Range<Int>
    ) {
        switch pending.kind {
        case .ack, .push, .done:
            return
        case .discovery(let node, let nid):
            settle(slot, pending)
            discovered(node, nid, payload)
            return
        case .recovery:
            recovered(pending)
        case .get:
            events.append(
                .reply(
                    LNetEvent.Reply(
                        cookie: pending.cookie, handle: GetHandle(slot),
                        length: Int(header.payloadLength), payload: payload)))
        case .ping(let id):
            let isGood = withPayload(payload) { bytes in (try? PingInfo(parsing: bytes)) != nil }
            events.append(
                .pinged(
                    LNetEvent.Ping(
                        id: id, nid: pending.nid, errno: isGood ? 0 : LNetErrno.protocolError,
                        roundTrip: now - pending.sentAt, payload: isGood ? payload : 0..<0)))
        }
        settle(slot, pending)
    }

    /// ACK and GET have no payload: all they do is done here.
    private mutating func finishSmall(_ receiving: Receiving) {
        guard isOwn(receiving.header.destination.nid) else { return }
        switch receiving.header.body {
        case .ack(let handle, _, let mlength):
            guard let slot = pending(of: handle), let pending = pendings[slot],
                isAnswer(receiving.header, receiving.via, to: pending)
            else {
                counters.count(.lateResponse)
                return
            }
            switch pending.kind {
            case .ack:
                events.append(.ack(cookie: pending.cookie, mlength: Int(mlength)))
                pendings.remove(slot)
            case .push(let node, let sequence):
                pendings.remove(slot)
                pushed(node, sequence)
            case .get, .ping, .discovery, .recovery, .done:
                counters.count(.lateResponse)
            }
        case .get(let handle, let matchBits, let portal, let offset, let sinkLength):
            if portal == PingInfo.portal {
                answerPing(receiving, handle, matchBits, sinkLength)
                return
            }
            let outcome = matches.match(
                .get, portal: portal, matchBits: matchBits, from: receiving.source,
                offset: offset, length: Int(min(sinkLength, UInt32(LNetHeader.payloadMax))))
            switch outcome {
            case .match(let match):
                serve(receiving, match, handle, matchBits, portal)
            case .tooLong: counters.count(.tooLong)
            case .none: counters.count(.noMatch)
            }
        case .put, .reply:
            break
        }
    }

    private mutating func serve(
        _ receiving: Receiving, _ match: Match, _ handle: WireHandle, _ matchBits: UInt64,
        _ portal: UInt32
    ) {
        let range = match.offset..<(match.offset + match.mlength)
        if let slot = match.slot {
            guard respondRegistered(receiving, .reply(destination: handle), slot, range) else {
                counters.count(.noMatch)
                return
            }
        } else {
            guard let slot = match.buffer, let buffer = buffers[slot] else { return }
            respond(receiving, .reply(destination: handle), buffer, range)
        }
        toldServed(receiving, match, matchBits, portal)
    }

    /// Tells that a GET was served.
    mutating func toldServed(
        _ receiving: Receiving, _ match: Match, _ matchBits: UInt64, _ portal: UInt32
    ) {
        events.append(
            .get(
                LNetEvent.Get(
                    cookie: match.cookie, entry: MEHandle(match.entry),
                    initiator: receiving.source, peer: PeerRef(receiving.peer), portal: portal,
                    matchBits: matchBits, offset: match.offset, mlength: match.mlength,
                    unlinked: match.unlinked)))
    }

    private mutating func answerPing(
        _ receiving: Receiving, _ handle: WireHandle, _ matchBits: UInt64, _ sinkLength: UInt32
    ) {
        guard matchBits == PingInfo.matchBits else {
            counters.count(.noMatch)
            return
        }
        let info = ownInfo
        var writer = WireWriter(capacity: info.encodedSize)
        info.encode(into: &writer)
        respond(
            receiving, .reply(destination: handle), writer.bytes,
            0..<min(writer.count, Int(clamping: sinkLength)))
    }

    /// The connection broke within a payload.
    mutating func abort(_ receiving: Receiving, _ errno: Int32) {
        switch receiving.target {
        case .discard, .lazy, .push:
            break
        case .forward(_, let pool):
            if let pool { release(pool, receiving.via) } else { routedInExcess -= 1 }
        case .put(let match):
            events.append(
                .putFailed(
                    cookie: match.cookie, entry: MEHandle(match.entry), errno: errno,
                    unlinked: match.unlinked))
            if match.unlinked, match.buffer == nil { matches.remove(match.entry) }
        case .reply(let pending, _):
            failPending(pending, errno)
        }
    }

    // MARK: Without a connection

    /// An entry was attached to a portal: PUTs that waited there are matched again, in order.
    mutating func deliverLazy(_ portal: UInt32, to entry: SlotHandle) {
        var index = 0
        while index < lazy.count, let entry = matches[entry], entry.isLinked, entry.threshold != 0 {
            var receiving = lazy[index].receiving
            guard case .put(_, let matchBits, _, portal, let offset) = receiving.header.body else {
                index += 1
                continue
            }
            let payload = lazy[index].payload
            let outcome = matches.match(
                .put, portal: portal, matchBits: matchBits, from: receiving.source,
                offset: offset, length: payload.count)
            switch outcome {
            case .none:
                index += 1
                continue
            case .tooLong:
                counters.count(.tooLong, length: receiving.header.payloadLength)
            case .match(let match):
                receiving.target = .put(match)
                receiving.accepted = match.mlength
                receiving.slot = match.slot
                receiving.slotOffset = match.offset
                deliver(receiving, payload, 0..<payload.count)
            }
            lazyBytes -= payload.count
            lazy.remove(at: index)
        }
    }

    /// Messages to ourselves arrive with the next tick.
    mutating func deliverLoopback() {
        var count = loopback.count
        guard count > 0 else { return }
        let peer = peerSlot(ProcessID(nid: nid))
        while count > 0, let message = loopback.popFirst() {
            count -= 1
            var header = message.header
            header.destination.nid = nid
            let receiving = begin(header, ProcessID(nid: nid), peer, via: peer)
            deliver(receiving, message.payload, message.range)
        }
    }

    private mutating func deliver(
        _ receiving: Receiving, _ payload: [UInt8], _ range: Range<Int>
    ) {
        let count = min(receiving.accepted, range.count)
        let kept = range.lowerBound..<(range.lowerBound + count)
        if let slot = receiving.slot {
            actions.append(
                .o2ib(
                    .store(
                        slot: slot, offset: receiving.slotOffset, bytes: Array(payload[kept]))))
            finish(receiving, payload: arena.count..<arena.count)
        } else if let (buffer, offset) = sinkBuffer(receiving) {
            RawSpan.over(payload) { bytes in
                _ = buffers.update(buffer) { Self.copy(bytes, kept, to: &$0, at: offset) }
            }
            finish(receiving, payload: arena.count..<arena.count)
        } else {
            let from = arena.count
            arena.append(contentsOf: payload[kept])
            finish(receiving, payload: from..<arena.count)
        }
    }
}
