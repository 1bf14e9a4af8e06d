import LNDCore
public import Primitives
public import WireFormat

extension LNetCore {
    // MARK: PUT

    /// Sends `payload` to a peer's portal. With `ackCookie` an ACK is asked for, and `.ack` or
    /// `.sendFailed` follows. False if it could not even be queued: too long, the queue is full,
    /// or the peer is gone or cannot be connected to.
    @discardableResult
    public mutating func put(
        to peer: PeerRef, portal: UInt32, matchBits: UInt64, offset: UInt32 = 0,
        hdrData: UInt64 = 0, payload: RawSpan, ackCookie: UInt64? = nil, now: Ticks
    ) -> Bool {
        advance(now)
        guard
            let (header, path) = putHeader(
                peer.slot, portal, matchBits, offset, hdrData, payload.byteCount, ackCookie)
        else { return false }
        if configuration.discovery, let node = holds(peer.slot) {
            let copy = payload.copy(0..<payload.byteCount)
            return keep(WaitingMessage(header: header, payload: copy, range: 0..<copy.count), node)
        }
        guard transmit(header, payload, to: path) else { return refused(header) }
        return true
    }

    /// As above, with the payload in an array: a long one is shared with the caller, not copied.
    @discardableResult
    public mutating func put(
        to peer: PeerRef, portal: UInt32, matchBits: UInt64, offset: UInt32 = 0,
        hdrData: UInt64 = 0, payload: [UInt8], ackCookie: UInt64? = nil, now: Ticks
    ) -> Bool {
        advance(now)
        guard
            let (header, path) = putHeader(
                peer.slot, portal, matchBits, offset, hdrData, payload.count, ackCookie)
        else { return false }
        if configuration.discovery, let node = holds(peer.slot) {
            return keep(
                WaitingMessage(header: header, payload: payload, range: 0..<payload.count), node)
        }
        guard transmit(header, payload, 0..<payload.count, to: path) else {
            return refused(header)
        }
        return true
    }

    /// As above, to a NID: looks the peer up.
    @discardableResult
    public mutating func put(
        to nid: NID, portal: UInt32, matchBits: UInt64, offset: UInt32 = 0, hdrData: UInt64 = 0,
        payload: RawSpan, ackCookie: UInt64? = nil, now: Ticks
    ) -> Bool {
        put(
            to: PeerRef(peerSlot(ProcessID(nid: nid))), portal: portal, matchBits: matchBits,
            offset: offset, hdrData: hdrData, payload: payload, ackCookie: ackCookie, now: now)
    }

    /// As above, to a NID, with the payload in an array.
    @discardableResult
    public mutating func put(
        to nid: NID, portal: UInt32, matchBits: UInt64, offset: UInt32 = 0, hdrData: UInt64 = 0,
        payload: [UInt8], ackCookie: UInt64? = nil, now: Ticks
    ) -> Bool {
        put(
            to: PeerRef(peerSlot(ProcessID(nid: nid))), portal: portal, matchBits: matchBits,
            offset: offset, hdrData: hdrData, payload: payload, ackCookie: ackCookie, now: now)
    }

    /// Keeps a message until its peer is known.
    private mutating func keep(_ message: WaitingMessage, _ node: SlotHandle) -> Bool {
        let isFull = (nodes[node]?.held.count ?? 0) >= configuration.waitingMax
        guard !isFull else { return refused(message.header) }
        nodes.update(node) { $0.held.append(message) }
        return true
    }

    /// Where a message for a peer goes; the peer itself where no way is known.
    private mutating func wayOrPeer(_ peer: SlotHandle) -> Way? {
        if let way = way(to: peer) { return way }
        return peers.update(peer) { $0.process }.map {
            Way(path: peer, destination: $0, source: nid)
        }
    }

    /// The way over this very path: what answers or asks after it.
    mutating func exactWay(_ peer: SlotHandle) -> Way? {
        let known = peers.update(peer) { ($0.process, $0.interface) }
        guard let known, known.1 >= 0 else { return wayOrPeer(peer) }
        return Way(path: peer, destination: known.0, source: interfaces[known.1].nid)
    }

    /// The header of a PUT and its way, with its pending ACK noted; nil after a failure was told.
    mutating func putHeader(
        _ peer: SlotHandle, _ portal: UInt32, _ matchBits: UInt64, _ offset: UInt32,
        _ hdrData: UInt64, _ length: Int, _ ackCookie: UInt64?
    ) -> (LNetHeader, SlotHandle)? {
        guard let way = wayOrPeer(peer) else {
            fail(ackCookie, LNetErrno.stale)
            return nil
        }
        guard length <= LNetHeader.payloadMax else {
            fail(ackCookie, LNetErrno.messageTooLong)
            return nil
        }
        var ack = WireHandle.none
        if let ackCookie {
            let pending = pendings.insert(
                Pending(
                    kind: .ack, cookie: ackCookie, peer: way.path, nid: way.destination.nid,
                    length: 0, sentAt: now))
            armSweep()
            ack = wireHandle(pending)
        }
        let header = LNetHeader(
            destination: way.destination, source: ProcessID(nid: way.source),
            payloadLength: UInt32(length),
            body: .put(
                ack: ack, matchBits: matchBits, hdrData: hdrData, portal: portal, offset: offset))
        return (header, way.path)
    }

    private mutating func fail(_ cookie: UInt64?, _ errno: Int32) {
        counters.count(.notSent)
        if let cookie { events.append(.sendFailed(cookie: cookie, errno: errno)) }
    }

    /// The message found no place: what awaits its answer fails now.
    mutating func refused(_ header: LNetHeader) -> Bool {
        counters.count(.notSent)
        let target = header.destination.nid
        let canReach = isReachable(target)
        defer {
            // No interface leads there: whoever waits for the peer need not wait for a time-out.
            if !canReach { events.append(.peerDown(target, errno: LNetErrno.hostUnreachable)) }
        }
        switch header.body {
        case .put(let handle, _, _, _, _), .get(let handle, _, _, _, _):
            guard let pending = pending(of: handle) else { break }
            failPending(
                pending,
                canReach ? LNetErrno.noBufferSpace : LNetErrno.hostUnreachable)
        case .ack, .reply: break
        }
        return false
    }

    // MARK: GET

    /// Where the answer of a GET goes.
    public enum Sink: Sendable {
        /// Into the arena; it is told with the `.reply` event.
        case events
        /// Into a buffer of at least the length asked for; fetch it with `takeBuffer`.
        case buffer([UInt8])
        /// Into registered memory of the user's, which lasts until the event.
        case registered(BulkSlot)
    }

    /// Asks a peer for `length` bytes of what matches. `.reply` or `.sendFailed` follows; nil if
    /// the request could not even be queued (then the failure has been told already).
    @discardableResult
    public mutating func get(
        from peer: PeerRef, portal: UInt32, matchBits: UInt64, offset: UInt32 = 0, length: Int,
        into sink: Sink = .events, cookie: UInt64, now: Ticks
    ) -> GetHandle? {
        advance(now)
        guard length >= 0, length <= LNetHeader.payloadMax else {
            fail(cookie, LNetErrno.messageTooLong)
            return nil
        }
        var buffer: SlotHandle?
        var slot: BulkSlot?
        switch sink {
        case .events:
            break
        case .buffer(let bytes):
            precondition(bytes.count >= length, "the sink holds what is asked for")
            buffer = buffers.insert(bytes)
        case .registered(let memory):
            precondition(memory.byteCount >= length, "the sink holds what is asked for")
            slot = memory
        }
        let pending = startGet(
            .get, from: peer.slot, portal: portal, matchBits: matchBits, offset: offset,
            length: length, buffer: buffer, slot: slot, cookie: cookie)
        return pending.map { GetHandle($0) }
    }

    /// As above, by NID: looks the peer up.
    @discardableResult
    public mutating func get(
        from nid: NID, portal: UInt32, matchBits: UInt64, offset: UInt32 = 0, length: Int,
        into sink: Sink = .events, cookie: UInt64, now: Ticks
    ) -> GetHandle? {
        get(
            from: PeerRef(peerSlot(ProcessID(nid: nid))), portal: portal, matchBits: matchBits,
            offset: offset, length: length, into: sink, cookie: cookie, now: now)
    }

    /// Sends a LNet ping (`lnet_ping`). `.pinged` with the returned id follows in any case.
    public mutating func ping(_ nid: NID, timeout: TickInterval, now: Ticks) -> UInt64 {
        advance(now)
        let id = nextPingID
        nextPingID += 1
        let peer = peerSlot(ProcessID(nid: nid))
        let pending = startGet(
            .ping(id: id), from: peer, portal: PingInfo.portal, matchBits: PingInfo.matchBits,
            offset: 0, length: PingInfo.replyLengthMax, buffer: nil, cookie: id)
        if let pending { timers.insert(.ping(pending: pending), at: now + timeout) }
        return id
    }

    /// - Parameter isExact: over this path and no other.
    mutating func startGet(
        _ kind: Pending.Kind, from peer: SlotHandle, portal: UInt32, matchBits: UInt64,
        offset: UInt32, length: Int, buffer: SlotHandle?, slot: BulkSlot? = nil, cookie: UInt64,
        isExact: Bool = false
    ) -> SlotHandle? {
        guard let way = isExact ? exactWay(peer) : wayOrPeer(peer) else {
            if let buffer { buffers.remove(buffer) }
            fail(cookie, LNetErrno.stale)
            return nil
        }
        let pending = pendings.insert(
            Pending(
                kind: kind, cookie: cookie, peer: way.path, nid: way.destination.nid,
                length: length, buffer: buffer, slot: slot, sentAt: now))
        armSweep()
        let header = LNetHeader(
            destination: way.destination, source: ProcessID(nid: way.source), payloadLength: 0,
            body: .get(
                returnTo: wireHandle(pending), matchBits: matchBits, portal: portal,
                offset: offset, sinkLength: UInt32(length)))
        if configuration.discovery, portal != PingInfo.portal, let node = holds(peer) {
            if !keep(WaitingMessage(header: header, payload: [], range: 0..<0), node) {
                return pendings.contains(pending) ? pending : nil
            }
            return pending
        }
        guard transmit(header, [], 0..<0, to: way.path) else {
            counters.count(.notSent)
            failPending(pending, LNetErrno.hostUnreachable)
            // A buffer stays behind for `takeBuffer`, so its handle is still of use.
            return pendings.contains(pending) ? pending : nil
        }
        // The answer will be long: the bulk connections are wanted for it.
        if length + Peer.frameOverhead >= Peer.minBulk { wantBulk(way.path) }
        return pending
    }

    // MARK: On the way out

    private enum Route {
        case connection(SlotHandle)
        case wait
        case loop
        case refuse
    }

    /// Takes the credits for a message if it can go at once, and counts it then.
    private mutating func route(_ peer: SlotHandle, _ header: LNetHeader, _ length: Int) -> Route {
        let waitingMax = configuration.waitingMax
        var interface = -1
        let route = peers.update(peer) { peer -> Route in
            interface = peer.interface
            if peer.isSelf { return .loop }
            if interface < 0 { return .refuse }
            let connection = peer.connection(payloadLength: length)
            if connection != 0, peer.credits > 0, peer.waiting.isEmpty,
                interfaces[interface].credits > 0
            {
                peer.credits -= 1
                peer.traffic.sent.count(header.body)
                peer.creditsMin = min(peer.creditsMin, peer.credits)
                return .connection(SlotHandle(rawValue: connection))
            }
            if connection == 0, peer.process.isUserspace { return .refuse }
            return peer.waiting.count < waitingMax ? .wait : .refuse
        }
        switch route {
        case .connection(let link):
            interfaces[interface].credits -= 1
            interfaces[interface].traffic.sent.count(header.body)
            counters.sent.count(header.body)
            counters.sendLength &+= UInt64(header.payloadLength)
            if length + Peer.frameOverhead >= Peer.minBulk { wantBulk(peer) }
            return .connection(link)
        case .loop: return loopback.count < waitingMax ? .loop : .refuse
        case .wait: return .wait
        case .refuse, nil: return .refuse
        }
    }

    mutating func count(_ header: LNetHeader, to peer: SlotHandle) {
        counters.sent.count(header.body)
        counters.sendLength &+= UInt64(header.payloadLength)
        let interface =
            peers.update(peer) {
                $0.traffic.sent.count(header.body)
                $0.creditsMin = min($0.creditsMin, $0.credits - $0.waiting.count)
                return $0.interface
            } ?? -1
        if interface >= 0 { interfaces[interface].traffic.sent.count(header.body) }
    }

    /// Sends or queues a message whose payload stands in the caller's scratch. False: no place.
    mutating func transmit(
        _ header: LNetHeader, _ payload: RawSpan, to peer: SlotHandle
    ) -> Bool {
        if !faults.isEmpty {
            let copy = payload.copy(0..<payload.byteCount)
            return transmit(
                WaitingMessage(header: header, payload: copy, range: 0..<copy.count), to: peer)
        }
        switch route(peer, header, payload.byteCount) {
        case .connection(let link):
            if Self.isO2IB(link.rawValue) {
                sendO2IB(header, payload, on: link)
                return true
            }
            output(to: link) { $0.append(header: header, payload: payload) }
            return true
        case .wait, .loop:
            let copy = payload.copy(0..<payload.byteCount)
            return enqueue(header, copy, 0..<copy.count, peer)
        case .refuse:
            return false
        }
    }

    /// Sends or queues a message whose payload stands in registered memory. False: no place, or
    /// the way there is not RDMA.
    mutating func transmit(
        _ header: LNetHeader, _ slot: BulkSlot, _ range: Range<Int>, to peer: SlotHandle
    ) -> Bool {
        let type = peers.update(peer) { $0.process.nid.type }
        guard type == .o2ib else { return false }
        switch route(peer, header, range.count) {
        case .connection(let link):
            sendO2IB(header, slot, range, on: link)
            return true
        case .wait:
            return enqueue(
                WaitingMessage(header: header, payload: [], range: range, slot: slot), peer)
        case .loop, .refuse:
            return false
        }
    }

    /// Sends or queues a message whose payload is part of an array. False: no place.
    mutating func transmit(
        _ header: LNetHeader, _ payload: [UInt8], _ range: Range<Int>, to peer: SlotHandle
    ) -> Bool {
        if !faults.isEmpty {
            return transmit(
                WaitingMessage(header: header, payload: payload, range: range), to: peer)
        }
        switch route(peer, header, range.count) {
        case .connection(let link):
            append(header, payload, range, to: link)
            return true
        case .wait, .loop:
            return enqueue(header, payload, range, peer)
        case .refuse:
            return false
        }
    }

    /// Sends or queues a message with all that is known of it. False: no place.
    mutating func transmit(
        _ message: WaitingMessage, to peer: SlotHandle, isPastFaults: Bool = false
    ) -> Bool {
        if !faults.isEmpty, !isPastFaults {
            switch fateOfSending(message.header) {
            case .pass: break
            case .fail(let status):
                failed(message, status, on: peer)
                return true
            case .hold(let latency):
                hold(.sending(message, path: peer), latency)
                return true
            }
        }
        switch route(peer, message.header, message.range.count) {
        case .connection(let link):
            append(message, to: link)
            return true
        case .wait, .loop:
            return enqueue(message, peer)
        case .refuse:
            return false
        }
    }

    private mutating func append(_ message: WaitingMessage, to link: SlotHandle) {
        if let slot = message.slot {
            sendO2IB(message.header, slot, message.range, on: link)
        } else {
            append(message.header, message.payload, message.range, to: link)
        }
        guard let size = message.pool else { return }
        if Self.isO2IB(link.rawValue) {
            // The bytes are the connection's from here on, within the peer's credits.
            release(size, message.sender)
            return
        }
        links.update(link) {
            $0.tokens.append(
                RouterToken(message: $0.appended, size: size, sender: message.sender))
        }
    }

    private mutating func append(
        _ header: LNetHeader, _ payload: [UInt8], _ range: Range<Int>, to link: SlotHandle
    ) {
        if Self.isO2IB(link.rawValue) {
            sendO2IB(header, payload, range, on: link)
            return
        }
        output(to: link) { $0.append(header: header, payload: payload, range: range) }
    }

    /// Appends a message to a connection's output, with a buffer from the pool where it has no memory
    /// of its own, and tells the shell once that there is output.
    private mutating func output(
        to link: SlotHandle, _ append: (inout SockLNDOutput) -> Void
    ) {
        let now = now
        let mustTell =
            links.update(link) { link in
                if link.conversation.output.wantsBuffer, var spare = spares.popLast() {
                    spareBytes -= spare.capacity
                    link.conversation.output.lend(&spare)
                }
                append(&link.conversation.output)
                link.appended &+= 1
                guard !link.flushOwed else { return false }
                link.flushOwed = true
                link.lastTaken = now
                return true
            } ?? false
        if mustTell { actions.append(.flush(connectionKey: link.rawValue)) }
    }

    private mutating func enqueue(
        _ header: LNetHeader, _ payload: [UInt8], _ range: Range<Int>, _ peer: SlotHandle
    ) -> Bool {
        enqueue(WaitingMessage(header: header, payload: payload, range: range), peer)
    }

    private mutating func enqueue(_ message: WaitingMessage, _ peer: SlotHandle) -> Bool {
        let isSelf = peers.update(peer) { $0.isSelf } ?? false
        if isSelf {
            count(message.header, to: peer)
            loopback.append(message)
            return true
        }
        peers.update(peer) { $0.waiting.append(message) }
        pump(peer)
        return true
    }

    /// Moves waiting messages to connections as far as credits go, and connects where it must.
    mutating func pump(_ peer: SlotHandle) {
        let interface = peers.update(peer) { $0.interface } ?? -1
        guard interface >= 0 else { return }
        while true {
            let interfaceHasCredit = interfaces[interface].credits > 0
            var next: WaitingMessage?
            var link: UInt64 = 0
            var mustConnect = false
            var mustWait = false
            peers.update(peer) { peer in
                guard !peer.waiting.isEmpty else { return }
                if peer.open.control == 0, peer.open.bulkOut == 0 {
                    mustConnect = true
                    return
                }
                guard peer.credits > 0 else { return }
                guard interfaceHasCredit else {
                    mustWait = !peer.awaitsInterface
                    peer.awaitsInterface = true
                    return
                }
                next = peer.waiting.popFirst()
                link = peer.connection(payloadLength: next?.range.count ?? 0)
                peer.credits -= 1
            }
            if mustConnect { connect(peer, .control) }
            if mustWait { interfaces[interface].waiters.append(peer) }
            guard let message = next else { return }
            interfaces[interface].credits -= 1
            count(message.header, to: peer)
            append(message, to: SlotHandle(rawValue: link))
            if message.range.count + Peer.frameOverhead >= Peer.minBulk { wantBulk(peer) }
        }
    }

    /// Credits of messages that the shell took, or that were lost with their connection.
    mutating func returnCredits(_ count: Int, of peer: SlotHandle?) {
        guard count > 0, let peer else { return }
        var interface = -1
        let mustPump =
            peers.update(peer) {
                interface = $0.interface
                $0.credits += count
                return !$0.waiting.isEmpty
            } ?? false
        if interface >= 0 { interfaces[interface].credits += count }
        if hasUnwell, interface >= 0 { raise(interface: interface) }
        if mustPump { pump(peer) }
        if interface >= 0, !interfaces[interface].waiters.isEmpty {
            serveInterfaceWaiters(interface)
        }
    }

    /// Counts credits back, and lets nobody go on yet.
    mutating func restoreCredits(_ count: Int, of peer: SlotHandle) {
        let interface = peers.update(peer) {
            $0.credits += count
            return $0.interface
        }
        if let interface, interface >= 0 { interfaces[interface].credits += count }
    }

    /// Interface credits are there: peers that wait for them take turns.
    mutating func serveInterfaceWaiters(_ interface: Int) {
        while interfaces[interface].credits > 0,
            let waiter = interfaces[interface].waiters.popFirst()
        {
            peers.update(waiter) { $0.awaitsInterface = false }
            pump(waiter)
        }
    }

    /// Tells the shell once that a connection has output.
    mutating func owe(_ link: SlotHandle) {
        let now = now
        let mustTell =
            links.update(link) { link in
                guard !link.flushOwed, !link.conversation.output.isEmpty else { return false }
                link.flushOwed = true
                link.lastTaken = now
                return true
            } ?? false
        if mustTell { actions.append(.flush(connectionKey: link.rawValue)) }
    }

    // MARK: Handles and failures

    func wireHandle(_ pending: SlotHandle) -> WireHandle {
        WireHandle(interfaceCookie: interfaceCookie, objectCookie: pending.rawValue)
    }

    /// The pending operation that a handle from the wire names, if it still is.
    func pending(of handle: WireHandle) -> SlotHandle? {
        guard handle.interfaceCookie == interfaceCookie else { return nil }
        let slot = SlotHandle(rawValue: handle.objectCookie)
        return pendings.contains(slot) ? slot : nil
    }

    mutating func failPending(_ handle: SlotHandle, _ errno: Int32) {
        guard let pending = pendings[handle] else { return }
        switch pending.kind {
        case .done: return
        case .ack, .get:
            events.append(.sendFailed(cookie: pending.cookie, errno: errno))
        case .ping(let id):
            events.append(
                .pinged(
                    LNetEvent.Ping(
                        id: id, nid: pending.nid, errno: errno,
                        roundTrip: now - pending.sentAt, payload: 0..<0)))
        case .discovery(let node, _):
            settle(handle, pending)
            discoveryFailed(node, isPush: false, errno)
            return
        case .push(let node, _):
            settle(handle, pending)
            discoveryFailed(node, isPush: true, errno)
            return
        case .recovery:
            break
        }
        settle(handle, pending)
    }

    /// A pending operation is over; one with a buffer stays until the buffer is fetched.
    mutating func settle(_ handle: SlotHandle, _ pending: Pending) {
        if pending.buffer == nil {
            pendings.remove(handle)
        } else {
            pendings.update(handle) { $0.kind = .done }
        }
    }

    mutating func advance(_ now: Ticks) {
        if now > self.now { self.now = now }
    }
}
