public import Primitives
public import WireFormat

/// Who a peer is: discovery by ping, and the push of who we are.
///
/// ```
/// start --GET portal 0--> ping answered --merge--> is it Multi-Rail, and does it know us?
///                             |                          | no            | yes
///                             | clipped: ask for more    v               v
///                             |                     PUT portal 0      discovered
///                             v                          |
///                           failed                ACK -> discovered
/// ```
extension LNetCore {
    /// What we tell of ourselves: the answer to a ping, and what is pushed.
    var ownInfo: PingInfo {
        var features = configuration.pingFeatures
        if configuration.discovery { features.insert([.multiRail, .discovery]) }
        if configuration.routing {
            features.remove(.routingDisabled)
        } else {
            features.insert(.routingDisabled)
        }
        if interfaces.contains(where: { $0.isUsable && $0.nid.isLarge }) {
            features.insert(.largeAddresses)
            if interfaces.first(where: \.isUsable)?.nid.isLarge == true {
                features.insert(.primaryLarge)
            }
        }
        return PingInfo(
            features: features, sequence: infoSequence,
            interfaces: interfaces.filter(\.isUsable).map {
                PingInfo.Interface(
                    nid: $0.nid,
                    status: $0.isUp ? PingInfo.Interface.up : PingInfo.Interface.down)
            })
    }

    /// Our interfaces have changed: nodes that are Multi-Rail are told.
    mutating func announce() {
        infoSequence &+= 1
        guard configuration.discovery else { return }
        for node in nodes.handles {
            guard let known = nodes[node], known.state.isSuperset(of: [.multiRail, .discovered]),
                !known.state.contains(.noDiscovery), !known.state.contains(.discovering)
            else { continue }
            begin(node, id: nil, timeout: configuration.responseTimeout, pushOnly: true)
        }
    }

    // MARK: By an operator

    /// Asks a peer who it is (`lnetctl discover`). `.discovered` with the returned id follows in
    /// any case.
    ///
    /// - Parameter force: ask even where the answer is known.
    public mutating func discover(
        _ nid: NID, force: Bool = false, timeout: TickInterval, now: Ticks
    ) -> UInt64 {
        advance(now)
        let id = nextPingID
        nextPingID += 1
        guard !isOwn(nid), nid != .loopback, nid != .any else {
            events.append(
                .discovered(LNetEvent.Discovery(id: id, nid: nid, errno: LNetErrno.invalid)))
            return id
        }
        let node = nodeSlot(nid)
        let isKnown =
            nodes[node]?.state.isSuperset(of: [.discovered, .nidsUpToDate]) == true && !force
        guard !isKnown else {
            events.append(.discovered(LNetEvent.Discovery(id: id, nid: nid, errno: 0)))
            return id
        }
        begin(node, id: id, timeout: timeout, to: nid)
        return id
    }

    /// What is known of the node that has this NID; nil for a stranger.
    public func peerInfo(_ nid: NID) -> (primary: NID, nids: [NID], state: PeerState)? {
        guard let node = node(of: nid), let known = nodes[node] else { return nil }
        return (known.primary, known.interfaces.map(\.nid), known.state)
    }

    // MARK: Steps

    /// Begins a discovery, or joins the one that is under way.
    mutating func begin(
        _ node: SlotHandle, id: UInt64?, timeout: TickInterval, to nid: NID? = nil,
        pushOnly: Bool = false
    ) {
        guard let known = nodes[node] else { return }
        if let id { nodes.update(node) { $0.waiters.append(id) } }
        guard !known.state.contains(.discovering) else { return }
        nodes.update(node) {
            $0.state.insert(.discovering)
            $0.path = nil
            $0.deadline = now + timeout
        }
        timers.insert(.discovery(node: node), at: now + timeout)
        if pushOnly {
            push(node)
        } else {
            sendPing(node, to: nid ?? known.primary)
        }
    }

    private mutating func sendPing(_ node: SlotHandle, to nid: NID) {
        guard let length = nodes[node]?.pingLength else { return }
        nodes.update(node) { $0.state.insert(.pingSent) }
        let peer = nodes[node]?.path ?? peerSlot(ProcessID(nid: nid))
        let sent = startGet(
            .discovery(node: node, nid: nid), from: peer, portal: PingInfo.portal,
            matchBits: PingInfo.matchBits, offset: 0, length: length, buffer: nil, cookie: 0,
            isExact: true)
        if let sent, let path = pendings[sent]?.peer { nodes.update(node) { $0.path = path } }
    }

    /// A peer has told who it is.
    mutating func discovered(_ node: SlotHandle, _ nid: NID, _ payload: Range<Int>) {
        nodes.update(node) { $0.state.remove(.pingSent) }
        var info: PingInfo?
        var need = 0
        withPayload(payload) { bytes in
            do throws(WireError) {
                info = try PingInfo(parsing: bytes)
            } catch {
                if case .truncated(let more, _) = error { need = more }
            }
        }
        guard let info else {
            let asked = nodes[node]?.pingLength ?? 0
            guard need > asked, need <= PingInfo.lengthMax else {
                endDiscovery(node, LNetErrno.protocolError)
                return
            }
            // It has more NIDs than were asked for.
            nodes.update(node) { $0.pingLength = need }
            sendPing(node, to: nid)
            return
        }
        merge(info, node, from: nid)
        noteGateway(node, isReachable: true)
        push(node)
    }

    /// Tells a Multi-Rail peer who we are, unless it knows.
    private mutating func push(_ node: SlotHandle) {
        guard let known = nodes[node], known.state.contains(.discovering) else { return }
        guard configuration.discovery, known.state.contains(.multiRail),
            !known.state.contains(.noDiscovery), known.pushed != infoSequence
        else {
            endDiscovery(node, 0)
            return
        }
        let info = ownInfo
        var writer = WireWriter(capacity: info.encodedSize)
        info.encode(into: &writer)
        let peer = known.path ?? peerSlot(ProcessID(nid: known.primary))
        guard let way = exactWay(peer) else {
            endDiscovery(node, LNetErrno.hostUnreachable)
            return
        }
        nodes.update(node) { $0.state.insert(.pushSent) }
        let pending = pendings.insert(
            Pending(
                kind: .push(node: node, sequence: infoSequence), cookie: 0, peer: way.path,
                nid: way.destination.nid, length: 0, sentAt: now))
        armSweep()
        let header = LNetHeader(
            destination: way.destination, source: ProcessID(nid: way.source),
            payloadLength: UInt32(writer.count),
            body: .put(
                ack: wireHandle(pending), matchBits: PingInfo.matchBits, hdrData: 0,
                portal: PingInfo.portal, offset: 0))
        if !transmit(header, writer.bytes, 0..<writer.count, to: way.path) {
            failPending(pending, LNetErrno.hostUnreachable)
        }
    }

    /// A peer has what was pushed.
    mutating func pushed(_ node: SlotHandle, _ sequence: UInt32) {
        let isCurrent =
            nodes.update(node) {
                $0.state.remove([.pushSent, .pushFailed])
                $0.pushed = sequence
                return sequence == infoSequence
            } ?? false
        if isCurrent { endDiscovery(node, 0) } else { push(node) }
    }

    /// A ping or push of a discovery has failed.
    mutating func discoveryFailed(_ node: SlotHandle, isPush: Bool, _ errno: Int32) {
        nodes.update(node) {
            $0.state.remove([.pingSent, .pushSent])
            $0.state.insert(isPush ? .pushFailed : .pingFailed)
        }
        if !isPush { noteGateway(node, isReachable: false) }
        endDiscovery(node, errno)
    }

    /// A discovery had time enough. One that began after it is let be.
    mutating func discoveryTimedOut(_ node: SlotHandle) {
        guard let known = nodes[node], known.state.contains(.discovering), known.deadline <= now
        else { return }
        for index in 0..<pendings.slotCount {
            guard let handle = pendings.handle(at: index), let pending = pendings[handle] else {
                continue
            }
            switch pending.kind {
            case .discovery(node, _), .push(node, _):
                failPending(handle, LNetErrno.timedOut)
                return
            case .ack, .get, .ping, .discovery, .push, .recovery, .done: continue
            }
        }
        endDiscovery(node, LNetErrno.timedOut)
    }

    /// The discovery is over: whoever waits is told, and messages that waited go.
    mutating func endDiscovery(_ node: SlotHandle, _ errno: Int32) {
        guard let known = nodes[node], known.state.contains(.discovering) else { return }
        var held = Outbox<WaitingMessage>()
        nodes.update(node) {
            $0.state.remove([.discovering, .forcePing, .forcePush])
            $0.waiters = []
            swap(&$0.held, &held)
            $0.path = nil
            if errno != 0 { $0.checkedAt = now }
        }
        for id in known.waiters {
            events.append(
                .discovered(LNetEvent.Discovery(id: id, nid: known.primary, errno: errno)))
        }
        // Also after a failure: who does not know the ping may know the message.
        while let message = held.popFirst() {
            let peer = peerSlot(message.header.destination)
            if !redirect(message, to: peer, avoiding: nil) {
                abandon(message, errno == 0 ? LNetErrno.hostUnreachable : errno)
            }
        }
    }

    /// A peer tells who it is without being asked.
    mutating func pushArrived(_ receiving: Receiving, _ payload: Range<Int>) {
        guard configuration.discovery else { return }
        let info = withPayload(payload) { bytes in try? PingInfo(parsing: bytes) }
        guard let info, info.features.contains(.multiRail) else { return }
        let nid = receiving.source.nid
        let from = receiving.header.source.nid
        guard info.interfaces.contains(where: { $0.nid == from || $0.nid == nid }) else { return }
        let node = nodeSlot(nid)
        guard
            nodes[node]?.state.contains(.lockPrimary) == false
                || info.interfaces.contains(where: { $0.nid == nodes[node]?.primary })
        else { return }
        merge(info, node, from: from)
        guard let known = nodes[node], !known.state.contains(.discovering),
            known.pushed != infoSequence
        else { return }
        // It shall know us, too.
        begin(node, id: nil, timeout: configuration.responseTimeout, pushOnly: true)
    }

    /// Whether a message waits until the peer has been asked who it is.
    mutating func holds(_ peer: SlotHandle) -> SlotHandle? {
        guard let known = peers.update(peer, { ($0.node, $0.process, $0.isSelf) }), !known.2,
            !known.1.isUserspace
        else { return nil }
        let node = known.0 ?? nodeSlot(known.1.nid)
        guard let current = nodes[node] else { return nil }
        if current.state.contains(.discovering) {
            // Once it is known, a new discovery or push holds nothing up.
            return current.state.contains(.nidsUpToDate) ? nil : node
        }
        guard !current.state.contains(.nidsUpToDate),
            current.checkedAt == .zero || now - current.checkedAt >= configuration.reconnectMax
        else { return nil }
        begin(node, id: nil, timeout: configuration.responseTimeout, to: known.1.nid)
        return nodes[node]?.state.contains(.discovering) == true ? node : nil
    }
}
