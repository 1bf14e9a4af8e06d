import LNDCore
public import Primitives
public import WireFormat

/// What the shell calls. Keys that are no longer known are ignored everywhere: the core may have
/// forgotten a connection whose last input was on its way.
extension LNetCore {
    /// The listener took a connection. Returns its key.
    ///
    /// - Parameter own: the NID that the listener was for; the first where it is nil.
    public mutating func accepted(
        remoteAddress: IPAddress, remotePort: UInt16, on own: NID? = nil, now: Ticks
    ) -> UInt64 {
        beginRound(now)
        let identity = identity(of: own ?? nid)
        let link = links.insert(
            Link(
                conversation: SockLNDConnection(passive: identity), remoteAddress: remoteAddress,
                remotePort: remotePort, isActive: false, lastReceived: self.now,
                lastTaken: self.now, lastKeepalive: self.now))
        timers.insert(.handshake(link: link), at: self.now + configuration.acceptTimeout)
        armSweep()
        return link.rawValue
    }

    /// As above, from an IPv4 address in host order.
    public mutating func accepted(
        remoteAddress: UInt32, remotePort: UInt16, on own: NID? = nil, now: Ticks
    ) -> UInt64 {
        accepted(
            remoteAddress: IPAddress(v4: remoteAddress), remotePort: remotePort, on: own, now: now)
    }

    /// A connection asked for by `.connect` stands.
    public mutating func established(_ connectionKey: UInt64, now: Ticks) {
        beginRound(now)
        let link = SlotHandle(rawValue: connectionKey)
        links.update(link) { $0.conversation.established() }
        owe(link)
    }

    /// The socket is gone, or could not be connected: `errno` as the kernel gave it, 0 for the
    /// peer's orderly end.
    public mutating func closed(_ connectionKey: UInt64, errno: Int32, now: Ticks) {
        beginRound(now)
        let link = SlotHandle(rawValue: connectionKey)
        drop(link, errno == 0 ? LNetErrno.connectionReset : errno, tellShell: false)
    }

    /// Bytes from a connection's socket, at any split.
    public mutating func received(_ connectionKey: UInt64, _ bytes: RawSpan, now: Ticks) {
        beginRound(now)
        let link = SlotHandle(rawValue: connectionKey)
        let now = self.now
        let isStalled = links.update(link) {
            $0.lastReceived = now
            return $0.stalled != nil
        }
        guard let isStalled else { return }
        if isStalled {
            links.update(link) { Self.append(bytes, 0..<bytes.byteCount, to: &$0.backlog) }
        } else {
            consume(link, bytes)
        }
    }

    /// Reads what a connection brought, until a message has to wait.
    private mutating func consume(_ link: SlotHandle, _ bytes: RawSpan) {
        var offset = 0
        var receiving: Receiving?
        var peer: SlotHandle?
        var own = NID.any
        let isKnown: Void? = links.update(link) {
            if $0.receiving != nil {
                receiving = $0.receiving
                $0.receiving = nil
            }
            peer = $0.peer
            own = $0.conversation.identity.process.nid
        }
        guard isKnown != nil else { return }
        while offset < bytes.byteCount {
            let step = links.update(link) { $0.conversation.next(bytes, at: &offset) }
            guard let step else { return }
            switch step {
            case .needMore:
                break
            case .message(let header):
                guard let from = peer else { return }
                switch admit(header, from: from, on: own, canWait: true) {
                case .refused(let fault):
                    fail(link, fault)
                    return
                case .wait:
                    links.update(link) {
                        $0.stalled = header
                        Self.append(bytes, offset..<bytes.byteCount, to: &$0.backlog)
                    }
                    stalled.append(link)
                    actions.append(.pause(connectionKey: link.rawValue))
                    owe(link)
                    return
                case .take(var begun):
                    if Int(header.payloadLength) + Peer.frameOverhead >= Peer.minBulk {
                        wantBulk(from)
                    }
                    if header.payloadLength == 0 {
                        finish(begun, payload: arena.count..<arena.count)
                    } else if let range = links.update(
                        link, { $0.conversation.wholePayload(bytes, at: &offset) }) ?? nil
                    {
                        absorb(&begun, bytes, range, isLast: true, on: link)
                    } else {
                        receiving = begun
                    }
                }
            case .payload(let range, let isLast):
                guard var current = receiving else { break }
                absorb(&current, bytes, range, isLast: isLast, on: link)
                receiving = isLast ? nil : current
            case .hello(let hello):
                judge(hello, link)
                peer = links.update(link) { $0.peer } ?? nil
            case .opened(let incarnation):
                opened(link, incarnation)
            case .fault(let fault):
                links.update(link) { $0.receiving = receiving }
                fail(link, fault)
                return
            }
        }
        if receiving != nil { links.update(link) { $0.receiving = receiving } }
        owe(link)
    }

    /// Reads on where a message had to wait. False where it still has to.
    mutating func unstall(_ link: SlotHandle) -> Bool {
        guard
            let (header, peer, own) = links.update(
                link, { ($0.stalled, $0.peer, $0.conversation.identity.process.nid) }), let header,
            let peer
        else { return true }
        switch admit(header, from: peer, on: own, canWait: true) {
        case .wait:
            return false
        case .refused(let fault):
            fail(link, fault)
        case .take(let begun):
            var backlog: [UInt8] = []
            links.update(link) {
                $0.stalled = nil
                swap(&$0.backlog, &backlog)
            }
            if header.payloadLength == 0 {
                finish(begun, payload: arena.count..<arena.count)
            } else {
                links.update(link) { $0.receiving = begun }
            }
            RawSpan.over(backlog) { consume(link, $0) }
            let reads = links.update(link) { $0.stalled == nil } ?? false
            if reads { actions.append(.resume(connectionKey: link.rawValue)) }
        }
        return true
    }

    /// Offers a connection's output run by run until `body`, which says how many bytes it took,
    /// takes less than offered, or nothing is left. Messages that waited for the credits of those
    /// taken follow in the same call. True when all is taken.
    @discardableResult
    public mutating func withOutput(
        _ connectionKey: UInt64, _ body: (RawSpan) -> Int
    ) -> Bool {
        let link = SlotHandle(rawValue: connectionKey)
        let now = self.now
        while true {
            var messages = 0
            var hasTokens = false
            var tookAll = true
            var isEmpty = true
            var isClosing = false
            var peer: SlotHandle?
            var buffer: [UInt8] = []
            let isKnown =
                links.update(link) {
                    (messages, tookAll) = $0.conversation.output.offer(body)
                    $0.lastTaken = now
                    hasTokens = !$0.tokens.isEmpty
                    if !hasTokens { $0.taken &+= UInt64(messages) }
                    isEmpty = $0.conversation.output.isEmpty
                    // What follows at once needs no further flush from the shell: neither what waited
                    // for credits, nor what a router reads on now that it has a buffer again.
                    $0.flushOwed = messages > 0 || !isEmpty
                    if isEmpty {
                        buffer = $0.conversation.output.reclaim()
                        isClosing = $0.conversation.isClosing
                    }
                    peer = $0.peer
                    return true
                } ?? false
            guard isKnown else { return true }
            if buffer.capacity > 0 { keep(&buffer) }
            if isEmpty, isClosing {
                drop(link, LNetErrno.protocolError, tellShell: true)
                return true
            }
            if messages > 0 {
                if hasTokens { returnTokens(messages, link) }
                returnCredits(messages, of: peer)
                isEmpty =
                    links.update(link) {
                        $0.flushOwed = !$0.conversation.output.isEmpty
                        return !$0.flushOwed
                    } ?? true
            }
            if isEmpty { return true }
            if !tookAll { return false }
        }
    }

    /// Buffers of this router whose messages have left.
    private mutating func returnTokens(_ messages: Int, _ link: SlotHandle) {
        while true {
            let token = links.update(link) { link -> RouterToken? in
                guard let first = link.tokens.first,
                    first.message <= link.taken &+ UInt64(messages)
                else { return nil }
                return link.tokens.popFirst()
            }
            guard let token = token ?? nil else { break }
            release(token.size, token.sender)
        }
        links.update(link) { $0.taken &+= UInt64(messages) }
    }

    /// Returns an output buffer to the pool, as far as that may grow.
    private mutating func keep(_ buffer: inout [UInt8]) {
        guard spareBytes + buffer.capacity <= configuration.outputBytesKept else { return }
        spareBytes += buffer.capacity
        spares.append(buffer)
    }

    /// When `tick` is due next; nil while nothing can happen by itself.
    public var nextDeadline: Ticks? {
        if !loopback.isEmpty { return .zero }
        guard let timer = timers.nextDeadline else { return nextSweep }
        guard let sweep = nextSweep else { return timer }
        return min(timer, sweep)
    }

    /// Time has passed.
    public mutating func tick(_ now: Ticks) {
        beginRound(now)
        deliverLoopback()
        while let key = timers.popDue(now: now) {
            switch key {
            case .handshake(let link):
                let isLate = links.update(link) { !$0.isRegistered } ?? false
                guard isLate else { break }
                counters.count(SockLNDFault.timeout)
                drop(link, LNetErrno.timedOut, tellShell: true)
            case .o2ibHandshake(let link):
                let isLate = o2ibLinks.update(link) { !$0.isRegistered } ?? false
                guard isLate else { break }
                counters.count(O2IBLNDFault.timeout)
                dropO2IB(link, LNetErrno.timedOut, tellShell: true)
            case .retry(let peer):
                let isWanted =
                    peers.update(peer) {
                        $0.retryArmed = false
                        return !$0.waiting.isEmpty
                    } ?? false
                if isWanted { pump(peer) } else { removeIfIdle(peer) }
            case .ping(let pending):
                failPending(pending, LNetErrno.timedOut)
            case .discovery(let node):
                discoveryTimedOut(node)
            case .recoverPeer(let nid):
                recoveryDue(peer: nid)
            case .recoverInterface(let interface):
                recoveryDue(interface: interface)
            case .checkGateway(let node):
                checkGateway(node)
            case .watchInterfaces:
                watchInterfaces()
            case .held(let message):
                heldDue(message)
            }
        }
        if let due = nextSweep, due <= now { sweep() }
    }

    /// Every quarter of the shortest time-out, while there is anything that can time out.
    mutating func armSweep() {
        guard nextSweep == nil else { return }
        let shortest = min(
            configuration.lndTimeout, configuration.keepalive, configuration.responseTimeout)
        nextSweep = now + TickInterval(nanoseconds: max(1_000_000, shortest.nanoseconds / 4))
    }

    private mutating func sweep() {
        nextSweep = nil
        let now = now
        let lndTimeout = configuration.lndTimeout
        let keepalive = configuration.keepalive
        for index in 0..<links.slotCount {
            guard let handle = links.handle(at: index) else { continue }
            var isDead = false
            var wantsKeepalive = false
            links.update(handle) { link in
                isDead =
                    (link.conversation.isMidMessage && now - link.lastReceived > lndTimeout)
                    || (!link.conversation.output.isEmpty && now - link.lastTaken > lndTimeout)
                wantsKeepalive =
                    !isDead && link.isRegistered && link.conversation.type == .control
                    && now - link.lastReceived >= keepalive
                    && now - link.lastKeepalive >= keepalive
                if wantsKeepalive {
                    link.lastKeepalive = now
                    link.conversation.keepalive()
                }
            }
            if isDead {
                counters.count(SockLNDFault.timeout)
                drop(handle, LNetErrno.timedOut, tellShell: true)
            } else if wantsKeepalive {
                owe(handle)
            }
        }
        sweepO2IB()
        for index in 0..<pendings.slotCount {
            guard let handle = pendings.handle(at: index), let pending = pendings[handle],
                now - pending.sentAt > configuration.responseTimeout
            else { continue }
            if case .done = pending.kind { continue }
            counters.responseTimeouts &+= 1
            if let nid = peers.update(pending.peer, { $0.process.nid }) {
                lower(peer: nid, by: configuration.healthSensitivity)
            }
            failPending(handle, LNetErrno.timedOut)
        }
        if connectionCount > 0 || pendings.count > 0 { armSweep() }
    }
}
