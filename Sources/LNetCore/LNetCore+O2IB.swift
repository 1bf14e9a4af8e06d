public import LNDCore
public import Primitives
public import WireFormat

/// Connections over RDMA, as the shell tells of them.
extension LNetCore {
    // MARK: What the shell calls

    /// Somebody asks to connect to our interface `own`, with this private data.
    public mutating func o2ibRequested(
        _ privateData: RawSpan, remoteAddress: UInt32, remotePort: UInt16, on own: NID,
        now: Ticks
    ) -> O2IBAnswer {
        beginRound(now)
        let identity = o2ibIdentity(own)
        let request: O2IBLNDRequest
        switch O2IBLNDVerdict.read(privateData, to: identity, limits: o2ibLimits) {
        case .reject(let reason, let fault): return reject(reason, fault)
        case .accept(let read): request = read
        }
        // As over TCP: a privileged port vouches for the NID, or else its address does.
        let vouched = configuration.privilegedPorts && remotePort < 1024
        guard vouched || request.source.address == remoteAddress, !isOwn(request.source) else {
            return reject(.fatal, .stranger)
        }
        let process = ProcessID(nid: request.source)
        let index = interfaceIndex(of: own)
        let found = peers.find(process, on: index)
        var view = O2IBLNDPeerView(isConnecting: false, incarnation: nil)
        var races = 0
        var attempt: UInt64 = 0
        if let found {
            peers.update(found) {
                attempt = $0.attempts.control
                view.incarnation = $0.incarnation
                races = $0.races
            }
        }
        view.isConnecting =
            attempt != 0
            && (o2ibLinks.update(Self.o2ibSlot(attempt)) { $0.isActive } ?? false)
        switch O2IBLNDVerdict.on(request, to: identity, view: view, races: races) {
        case .reject(let reason, let fault):
            if fault == .peerRestarted, let found {
                loseConnections(found, LNetErrno.stale, except: nil)
            }
            if fault == .lostRace, let found { peers.update(found) { $0.races += 1 } }
            return reject(reason, fault)
        case .accept:
            break
        }
        guard found != nil || peers.count < configuration.incomingPeersMax else {
            return reject(.noResources, .stranger)
        }
        let peer = found ?? peerSlot(process, on: index)
        if let open = peers.update(peer, { $0.open.control }), open != 0 {
            // The peer has lost the connection that we still believe in.
            counters.count(.replaced)
            loseConnections(peer, LNetErrno.connectionReset, except: nil)
        }
        if attempt != 0 { forgetO2IB(Self.o2ibSlot(attempt), LNetErrno.stale, tellShell: true) }
        let conversation = O2IBLNDConnection(accepting: request, identity: identity)
        let privateData = conversation.acknowledgement()
        let link = o2ibLinks.insert(
            O2IBLink(
                conversation: conversation, peer: peer, isActive: false, lastReceived: self.now,
                lastTaken: self.now))
        let key = Self.o2ibKey(link)
        // Nothing is sent before it stands, and no connection of ours is begun beside it.
        peers.update(peer) { $0.attempts.control = key }
        timers.insert(.o2ibHandshake(link: link), at: self.now + configuration.acceptTimeout)
        armSweep()
        return .accept(connectionKey: key, privateData: privateData)
    }

    private mutating func reject(
        _ reason: O2IBLNDReject.Reason, _ fault: O2IBLNDFault
    ) -> O2IBAnswer {
        counters.count(fault)
        counters.countRejected(reason)
        var writer = WireWriter(capacity: O2IBLNDReject.encodedSize)
        O2IBLNDReject(
            reason: reason, incarnation: configuration.incarnation, parameters: o2ibLimits
        ).encode(into: &writer)
        return .reject(privateData: writer.bytes)
    }

    /// A connection stands. `privateData` is what the peer said when it accepted, empty where we
    /// did; `remoteKey` names our registered memory on the connection's device.
    public mutating func o2ibEstablished(
        _ connectionKey: UInt64, privateData: RawSpan, remoteKey: UInt32, now: Ticks
    ) {
        beginRound(now)
        let link = Self.o2ibSlot(connectionKey)
        let now = self.now
        var fault: O2IBLNDFault?
        let known = o2ibLinks.update(link) { link in
            if link.isActive { fault = link.conversation.acknowledged(privateData) }
            link.remoteKey = remoteKey
            link.lastReceived = now
            link.lastTaken = now
            return (link.peer, link.conversation.peerIncarnation)
        }
        guard let (peer, incarnation) = known else { return }
        if let fault {
            failO2IB(link, fault)
            return
        }
        if let open = peers.update(peer, { $0.open.control }), open != 0 {
            counters.count(.replaced)
            loseConnections(
                peer, LNetErrno.connectionReset, except: SlotHandle(rawValue: connectionKey))
        }
        o2ibLinks.update(link) { $0.isRegistered = true }
        counters.connectionsOpened &+= 1
        let nid = peers.update(peer) { peer in
            peer.open.control = connectionKey
            peer.attempts.control = 0
            peer.isOurs = true
            peer.incarnation = incarnation
            peer.backoff = .zero
            peer.retryAt = .zero
            peer.refusals = 0
            peer.races = 0
            peer.rejectedIncarnation = 0
            return peer.process.nid
        }
        if let nid { events.append(.peerUp(nid)) }
        pump(peer)
    }

    /// The peer rejected our request, with this private data; `reason` is the connection
    /// manager's.
    public mutating func o2ibRefused(
        _ connectionKey: UInt64, reason: Int32, privateData: RawSpan, now: Ticks
    ) {
        beginRound(now)
        let link = Self.o2ibSlot(connectionKey)
        guard let peer = o2ibLinks.update(link, { $0.peer }) else { return }
        counters.count(.rejected)
        guard let told = try? O2IBLNDReject(parsing: privateData) else {
            // Nobody listens there, or it is no o2iblnd.
            dropO2IB(link, LNetErrno.connectionRefused, tellShell: false)
            return
        }
        counters.countRejectedByPeer(told.reason)
        let offered = o2ibLinks.update(link) { $0.conversation.parameters }
        forgetO2IB(link, LNetErrno.connectionRefused, tellShell: false)
        var mayRetry = false
        peers.update(peer) { peer in
            // Each with what the peer told, and a few times only.
            guard peer.refusals < 8, let offered else { return }
            switch told.reason {
            case .stale:
                peer.rejectedIncarnation = told.incarnation
                mayRetry = true
            case .queueDepth:
                mayRetry =
                    told.parameters.queueDepth > 0
                    && told.parameters.queueDepth < offered.queueDepth
            case .fragments:
                mayRetry =
                    told.parameters.maxFragments > 0
                    && told.parameters.maxFragments < offered.maxFragments
            case .connectionRace, .noResources, .fatal, .incompatible, .invalidService, .early:
                break
            }
            guard mayRetry, told.reason != .stale else { return }
            var agreeable = offered
            agreeable.queueDepth = min(offered.queueDepth, told.parameters.queueDepth)
            agreeable.maxFragments = min(offered.maxFragments, told.parameters.maxFragments)
            peer.agreeable = agreeable
        }
        if mayRetry {
            peers.update(peer) { $0.refusals += 1 }
            pump(peer)
            return
        }
        attemptFailed(
            peer, .control, LNetErrno.connectionRefused,
            wasRefused: told.reason == .connectionRace)
    }

    /// A connection ended or did not come about: `errno` as the shell gave it, 0 for the peer's
    /// orderly end, `status` that of the completion (IBV_WC_*), 0 for none.
    public mutating func o2ibClosed(
        _ connectionKey: UInt64, errno: Int32, status: UInt8, now: Ticks
    ) {
        beginRound(now)
        let link = Self.o2ibSlot(connectionKey)
        guard o2ibLinks.contains(link) else { return }
        if let fault = Self.fault(ofCompletion: status) { counters.count(fault) }
        dropO2IB(link, errno == 0 ? LNetErrno.connectionReset : errno, tellShell: false)
    }

    /// What a completion's status says of the peer (`enum ibv_wc_status`).
    private static func fault(ofCompletion status: UInt8) -> O2IBLNDFault? {
        switch status {
        case 0: nil
        case 9, 10: .remoteAccess
        case 12: .retryExceeded
        case 13: .receiverNotReady
        default: .pairError
        }
    }

    /// A message came in on a connection.
    public mutating func o2ibReceived(_ connectionKey: UInt64, _ bytes: RawSpan, now: Ticks) {
        beginRound(now)
        let link = Self.o2ibSlot(connectionKey)
        let now = self.now
        let heard = o2ibLinks.update(link) { link in
            link.lastReceived = now
            return (link.conversation.receive(bytes), link.peer, link.conversation.identity.nid)
        }
        guard let (step, peer, own) = heard else { return }
        take(step, bytes, link, peer, own)
        owe(o2ib: link)
    }

    /// Work that was posted with `tells` is done.
    public mutating func o2ibCompleted(_ connectionKey: UInt64, work: UInt64, now: Ticks) {
        beginRound(now)
        let link = Self.o2ibSlot(connectionKey)
        let done = o2ibLinks.update(link) { $0.conversation.completed(work) }
        if case .served(let user) = done { served(SlotHandle(rawValue: user)) }
        owe(o2ib: link)
    }

    /// Offers a connection's work piece by piece until `post` has no room or nothing is left that
    /// credits allow. Messages that waited for LNet credits follow in the same call. True when
    /// all was taken.
    @discardableResult
    public mutating func withO2IBWork(
        _ connectionKey: UInt64, _ post: (O2IBLNDWork, RawSpan) -> Bool
    ) -> Bool {
        let link = Self.o2ibSlot(connectionKey)
        let now = self.now
        while true {
            var messages = 0
            var tookAll = true
            let peer = o2ibLinks.update(link) {
                (messages, tookAll) = $0.conversation.offer(post)
                $0.lastTaken = now
                $0.heldMessages -= messages
                // What follows at once needs no further flush from the shell.
                $0.flushOwed = true
                return $0.peer
            }
            guard let peer else { return true }
            returnCredits(messages, of: peer)
            if messages == 0 || !tookAll {
                o2ibLinks.update(link) { $0.flushOwed = !tookAll }
                return tookAll
            }
        }
    }

    // MARK: Connecting

    var o2ibLimits: O2IBLNDParameters {
        O2IBLNDParameters(queueDepth: UInt16(clamping: min(255, configuration.peerCredits)))
    }

    private func o2ibIdentity(_ nid: NID) -> O2IBLNDIdentity {
        O2IBLNDIdentity(nid: nid, incarnation: configuration.incarnation)
    }

    /// Begins a connection; the caller has checked that there is none and no pause.
    mutating func connectO2IB(_ peer: SlotHandle, _ target: NID, from own: NID) {
        let known = peers.update(peer) { ($0.rejectedIncarnation, $0.agreeable) }
        let conversation = O2IBLNDConnection(
            activeTo: target, peerIncarnation: known?.0 ?? 0, identity: o2ibIdentity(own),
            parameters: known?.1 ?? o2ibLimits)
        let privateData = conversation.request()
        let link = o2ibLinks.insert(
            O2IBLink(
                conversation: conversation, peer: peer, isActive: true, lastReceived: now,
                lastTaken: now))
        let key = Self.o2ibKey(link)
        peers.update(peer) { $0.attempts.control = key }
        timers.insert(.o2ibHandshake(link: link), at: now + configuration.lndTimeout)
        armSweep()
        actions.append(
            .o2ib(
                .connect(
                    connectionKey: key, from: own.address, to: target.address,
                    port: configuration.servicePort, privileged: configuration.privilegedPorts,
                    privateData: privateData)))
    }

    // MARK: The end of connections

    /// The peer broke the rules: this connection ends.
    mutating func failO2IB(_ link: SlotHandle, _ fault: O2IBLNDFault) {
        counters.count(fault)
        dropO2IB(link, LNetErrno.protocolError, tellShell: true)
    }

    mutating func dropO2IB(_ link: SlotHandle, _ errno: Int32, tellShell: Bool) {
        guard let known = o2ibLinks.update(link, { ($0.peer, $0.isRegistered) }) else { return }
        forgetO2IB(link, errno, tellShell: tellShell)
        if known.1 {
            loseConnections(known.0, errno, except: nil)
        } else {
            attemptFailed(known.0, .control, errno, wasRefused: false)
        }
    }

    /// Takes a connection out of the table and settles what was under way on it.
    mutating func forgetO2IB(_ link: SlotHandle, _ errno: Int32, tellShell: Bool) {
        guard let removed = o2ibLinks.remove(link) else { return }
        let key = Self.o2ibKey(link)
        if tellShell { actions.append(.o2ib(.close(connectionKey: key))) }
        peers.update(removed.peer) {
            if $0.open.control == key { $0.open.control = 0 }
            if $0.attempts.control == key { $0.attempts.control = 0 }
        }
        restoreCredits(removed.heldMessages, of: removed.peer)
        if removed.isRegistered { counters.connectionsLost &+= 1 }
        for index in 0..<bulks.slotCount {
            guard let bulk = bulks.handle(at: index), let current = bulks[bulk],
                current.link == link, !current.isComplete
            else { continue }
            bulks.remove(bulk)
            // The queue pair is gone, or goes before this: the memory is nobody's.
            releaseMemory(current)
            if current.kind == .sink, let receiving = current.receiving { abort(receiving, errno) }
        }
    }

    mutating func sweepO2IB() {
        let now = now
        for index in 0..<o2ibLinks.slotCount {
            guard let handle = o2ibLinks.handle(at: index) else { continue }
            var isDead = false
            o2ibLinks.update(handle) { link in
                guard link.isRegistered else { return }
                isDead =
                    link.conversation.hasOutput
                    && now - link.lastTaken > configuration.lndTimeout
                if now - link.lastTaken >= configuration.o2ibKeepalive {
                    link.conversation.keepalive()
                }
            }
            if !isDead {
                isDead = hasStuckBulk(handle)
            }
            if isDead {
                counters.count(O2IBLNDFault.timeout)
                dropO2IB(handle, LNetErrno.timedOut, tellShell: true)
            } else {
                owe(o2ib: handle)
            }
        }
    }

    private func hasStuckBulk(_ link: SlotHandle) -> Bool {
        for index in 0..<bulks.slotCount {
            guard let handle = bulks.handle(at: index), let bulk = bulks[handle],
                bulk.link == link, !bulk.waitsForMemory, !bulk.isComplete
            else { continue }
            if now - bulk.since > configuration.lndTimeout { return true }
        }
        return false
    }

    /// Tells the shell once that a connection has work.
    mutating func owe(o2ib link: SlotHandle) {
        let mustTell =
            o2ibLinks.update(link) { link in
                guard link.isRegistered, !link.flushOwed, link.conversation.wantsToPost else {
                    return false
                }
                link.flushOwed = true
                return true
            } ?? false
        if mustTell { actions.append(.o2ib(.flush(connectionKey: Self.o2ibKey(link)))) }
    }
}
