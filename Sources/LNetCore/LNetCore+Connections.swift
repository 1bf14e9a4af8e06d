import LNDCore
import Primitives
import WireFormat

extension LNetCore {
    // MARK: Peers

    /// The entry of a process, made if there is none: on our first interface on its network, or on
    /// none, where only routes may lead there.
    mutating func peerSlot(_ process: ProcessID) -> SlotHandle {
        let isSelf = process.nid == .loopback || isOwn(process.nid)
        let interface =
            isSelf && process.nid == .loopback
            ? -1
            : interfaces.firstIndex { $0.isUsable && $0.nid.network == process.nid.network } ?? -1
        return peerSlot(process, on: interface)
    }

    /// The entry of a process as seen from one of our interfaces, made if there is none.
    mutating func peerSlot(_ process: ProcessID, on interface: Int) -> SlotHandle {
        if let found = peers.find(process, on: interface) { return found }
        var peer = Peer(
            process: process, credits: configuration.peerCredits,
            routerCredits: configuration.peerBufferCredits ?? configuration.peerCredits)
        peer.isSelf = isOwn(process.nid) || process.nid == .loopback
        peer.interface = interface
        peer.selects = interface < 0 && !peer.isSelf
        let handle = peers.insert(peer)
        if !peer.isSelf, let node = node(of: process.nid) { refresh(node) }
        return handle
    }

    /// Forgets a peer that nobody holds and with which nothing is under way. After a failed
    /// attempt it is remembered until its pause is over, so that the pause holds.
    mutating func removeIfIdle(_ peer: SlotHandle) {
        let now = now
        var armAt: Ticks?
        // Who is on another network has no connection that keeps it: events that are not taken yet
        // may name it as their peer.
        let mayBeNamed = !events.isEmpty
        var isNamed = false
        let isIdle =
            peers.update(peer) { peer in
                guard !peer.isPinned, !peer.isSelf, peer.isIdle else { return false }
                if peer.interface < 0, mayBeNamed {
                    isNamed = !peer.isIdleRemote
                    peer.isIdleRemote = true
                    return false
                }
                if peer.retryAt <= now { return true }
                if !peer.retryArmed { armAt = peer.retryAt }
                peer.retryArmed = true
                return false
            } ?? false
        if let armAt { timers.insert(.retry(peer: peer), at: armAt) }
        if isNamed { idleRemotes.append(peer) }
        if isIdle { peers.remove(peer) }
    }

    /// All events are taken: nobody can name them any more.
    mutating func removeIdleRemotes() {
        var remotes: [SlotHandle] = []
        swap(&remotes, &idleRemotes)
        for peer in remotes {
            peers.update(peer) { $0.isIdleRemote = false }
            removeIfIdle(peer)
        }
    }

    // MARK: Connecting

    /// Starts an attempt unless there is one, a connection, or a pause to wait for.
    mutating func connect(_ peer: SlotHandle, _ type: SockLNDConnectionType) {
        let now = now
        var target: NID?
        var armAt: Ticks?
        var interface = -1
        peers.update(peer) { peer in
            guard peer.open[type] == 0, peer.attempts[type] == 0, !peer.process.isUserspace
            else { return }
            if now < peer.retryAt {
                if type == .control, !peer.retryArmed {
                    peer.retryArmed = true
                    armAt = peer.retryAt
                }
                return
            }
            target = peer.process.nid
            interface = peer.interface
        }
        if let armAt { timers.insert(.retry(peer: peer), at: armAt) }
        guard let target, interface >= 0 else { return }
        if target.type == .o2ib {
            connectO2IB(peer, target, from: interfaces[interface].nid)
            return
        }
        let nid = interfaces[interface].nid
        var link = Link(
            conversation: SockLNDConnection(
                activeTo: target, type: type, identity: identity(of: nid)),
            remoteAddress: target.ip, remotePort: configuration.acceptPort, isActive: true,
            lastReceived: now, lastTaken: now, lastKeepalive: now)
        link.peer = peer
        let handle = links.insert(link)
        peers.update(peer) { $0.attempts[type] = handle.rawValue }
        timers.insert(.handshake(link: handle), at: now + configuration.lndTimeout)
        armSweep()
        actions.append(
            .connect(
                connectionKey: handle.rawValue, from: nid.ip, to: target.ip,
                port: configuration.acceptPort, privileged: configuration.privilegedPorts))
    }

    /// A long message goes, came, or will come: whoever opened CONTROL opens the bulk pair.
    mutating func wantBulk(_ peer: SlotHandle) {
        let mustConnect =
            peers.update(peer) { peer in
                guard peer.process.nid.type == .tcp else { return false }
                peer.wantsBulk = true
                return peer.isOurs && peer.open.control != 0
                    && (peer.open.bulkIn == 0 || peer.open.bulkOut == 0)
            } ?? false
        guard mustConnect else { return }
        connect(peer, .bulkIn)
        connect(peer, .bulkOut)
    }

    /// Our hello was answered.
    mutating func opened(_ link: SlotHandle, _ incarnation: UInt64) {
        guard let peer = links.update(link, { $0.peer }) ?? nil else { return }
        let known = peers.update(peer) { $0.incarnation } ?? nil
        if let known, known != incarnation {
            counters.count(.staleIncarnation)
            loseConnections(peer, LNetErrno.stale, except: link)
        }
        let type = links.update(link) { $0.conversation.type } ?? .none
        let isDuplicate = peers.update(peer) { $0.open[type] != 0 } ?? true
        if isDuplicate {
            drop(link, LNetErrno.connectionReset, tellShell: true)
            return
        }
        register(link, peer, type, incarnation)
    }

    private mutating func register(
        _ link: SlotHandle, _ peer: SlotHandle, _ type: SockLNDConnectionType,
        _ incarnation: UInt64
    ) {
        let isActive =
            links.update(link) {
                $0.isRegistered = true
                $0.peer = peer
                return $0.isActive
            } ?? false
        counters.connectionsOpened &+= 1
        var isFirst = false
        var wantsBulk = false
        let nid = peers.update(peer) { peer in
            isFirst = peer.open.isEmpty
            peer.open[type] = link.rawValue
            if peer.attempts[type] == link.rawValue { peer.attempts[type] = 0 }
            if type == .control { peer.isOurs = isActive }
            peer.incarnation = incarnation
            peer.backoff = .zero
            peer.retryAt = .zero
            peer.refusals = 0
            wantsBulk = peer.wantsBulk
            return peer.process.nid
        }
        if isFirst, let nid { events.append(.peerUp(nid)) }
        pump(peer)
        if wantsBulk { wantBulk(peer) }
    }

    // MARK: Being connected to

    /// A stranger says who it is.
    mutating func judge(_ hello: SockLNDHello, _ link: SlotHandle) {
        let remote = links.update(link) {
            ($0.remoteAddress, $0.remotePort, $0.conversation.identity.process.nid)
        }
        guard let remote else { return }
        let nid = remote.2
        guard
            let process = hello.identity(
                remoteAddress: remote.0, remotePort: remote.1, network: nid.network,
                privilegedPorts: configuration.privilegedPorts), !isOwn(process.nid)
        else {
            fail(link, .stranger)
            return
        }
        let type = hello.type.inverted
        let own = interfaceIndex(of: nid)
        let found = peers.find(process, on: own)
        let attempts = found.map { freshAndStuckAttempts(of: $0) } ?? (fresh: 0, stuck: [])
        let view =
            found.flatMap { slot in
                peers.update(slot) { peer in
                    SockLNDPeerView(
                        isConnecting: attempts.fresh > 0,
                        connectionsOfType: peer.open[type] == 0 ? 0 : 1,
                        incarnation: peer.incarnation)
                }
            } ?? SockLNDPeerView(isConnecting: false, connectionsOfType: 0, incarnation: nil)
        let verdict = SockLNDVerdict.on(
            hello, from: process.nid, to: nid, view: view, connectionsPerType: 1)
        switch verdict {
        case .accept:
            guard found != nil || peers.count < configuration.incomingPeersMax else {
                refuse(link, hello, .duplicate)
                return
            }
            if process.nid < nid {
                for attempt in attempts.stuck {
                    _ = forget(attempt, LNetErrno.connectionReset, tellShell: true)
                }
            }
            links.update(link) { $0.conversation.accept(hello, as: process.nid) }
            owe(link)
            register(link, found ?? peerSlot(process, on: own), type, hello.sourceIncarnation)
        case .refuse(let fault):
            refuse(link, hello, fault)
        case .refuseAndCloseOthers:
            if let found { loseConnections(found, LNetErrno.stale, except: link) }
            refuse(link, hello, .staleIncarnation)
        }
    }

    /// Our attempts to reach a peer: how many may still win a race, and those without an answer for so
    /// long that they lose one. Their first packet went to a machine that was down, perhaps, and is
    /// repeated by TCP in seconds; the peer is there now, and asks.
    private func freshAndStuckAttempts(of peer: SlotHandle) -> (fresh: Int, stuck: [SlotHandle]) {
        var fresh = 0
        var stuck: [SlotHandle] = []
        guard let attempts = peers[peer]?.attempts else { return (0, []) }
        for raw in [attempts.control, attempts.bulkIn, attempts.bulkOut] where raw != 0 {
            let handle = SlotHandle(rawValue: raw)
            guard !Self.isO2IB(raw), let link = links[handle] else { continue }
            if link.lastReceived + Self.racePatience <= now {
                stuck.append(handle)
            } else {
                fresh += 1
            }
        }
        return (fresh, stuck)
    }

    /// How long an attempt without an answer wins races.
    private static var racePatience: TickInterval { .seconds(1) }

    private mutating func refuse(
        _ link: SlotHandle, _ hello: SockLNDHello, _ fault: SockLNDFault
    ) {
        counters.count(fault)
        links.update(link) { $0.conversation.refuse(hello) }
        owe(link)
    }

    // MARK: The end of connections

    /// The peer broke the rules: this connection ends, after what it is still to be told.
    mutating func fail(_ link: SlotHandle, _ fault: SockLNDFault) {
        counters.count(fault)
        let hasLastWords =
            links.update(link) {
                !$0.isRegistered && $0.peer == nil && !$0.conversation.output.isEmpty
            } ?? false
        if hasLastWords {
            owe(link)
        } else {
            let errno =
                fault == .refused ? LNetErrno.connectionRefused : LNetErrno.protocolError
            drop(link, errno, tellShell: true, wasRefused: fault == .refused)
        }
    }

    /// Forgets a connection. One that was open takes its siblings with it, as in socklnd.
    mutating func drop(
        _ link: SlotHandle, _ errno: Int32, tellShell: Bool, wasRefused: Bool = false
    ) {
        guard let (peer, isRegistered, type) = forget(link, errno, tellShell: tellShell) else {
            return
        }
        guard let peer else { return }
        if isRegistered {
            loseConnections(peer, errno, except: nil)
        } else {
            attemptFailed(peer, type, errno, wasRefused: wasRefused)
        }
    }

    /// Takes a connection out of the table and settles what was under way on it.
    private mutating func forget(
        _ link: SlotHandle, _ errno: Int32, tellShell: Bool
    ) -> (peer: SlotHandle?, isRegistered: Bool, type: SockLNDConnectionType)? {
        guard let removed = links.remove(link) else { return nil }
        if tellShell { actions.append(.close(connectionKey: link.rawValue)) }
        let type = removed.conversation.type
        if let peer = removed.peer {
            peers.update(peer) {
                if $0.open[type] == link.rawValue { $0.open[type] = 0 }
                if $0.attempts[type] == link.rawValue { $0.attempts[type] = 0 }
            }
        }
        if let receiving = removed.receiving { abort(receiving, errno) }
        var tokens = removed.tokens
        while let token = tokens.popFirst() { release(token.size, token.sender) }
        if let peer = removed.peer, mayTryElsewhere(peer) {
            for (header, payload) in removed.conversation.output.unsent()
            where isOwn(header.source.nid) {
                salvaged.append(
                    WaitingMessage(header: header, payload: payload, range: 0..<payload.count))
            }
        }
        let lost = removed.conversation.output.messageCount
        if lost > 0, let peer = removed.peer { restoreCredits(lost, of: peer) }
        if removed.isRegistered { counters.connectionsLost &+= 1 }
        return (removed.peer, removed.isRegistered, type)
    }

    /// Ends all connections and attempts of a peer but one, fails what waits, tells the user.
    mutating func loseConnections(_ peer: SlotHandle, _ errno: Int32, except: SlotHandle?) {
        guard let (open, attempts) = peers.update(peer, { ($0.open, $0.attempts) }) else { return }
        for raw in [
            open.control, open.bulkIn, open.bulkOut, attempts.control, attempts.bulkIn,
            attempts.bulkOut,
        ] where raw != 0 && raw != except?.rawValue {
            if Self.isO2IB(raw) {
                forgetO2IB(Self.o2ibSlot(raw), errno, tellShell: true)
            } else {
                _ = forget(SlotHandle(rawValue: raw), errno, tellShell: true)
            }
        }
        peerDown(peer, errno)
    }

    /// Whether messages that a peer does not take may go another way.
    private mutating func mayTryElsewhere(_ peer: SlotHandle) -> Bool {
        (peers.update(peer) { $0.node != nil } ?? false) && configuration.retryCount > 0
    }

    mutating func peerDown(_ peer: SlotHandle, _ errno: Int32) {
        var waiting = Outbox<WaitingMessage>()
        var node: SlotHandle?
        let nid = peers.update(peer) {
            swap(&waiting, &$0.waiting)
            node = $0.node
            $0.incarnation = nil
            $0.isOurs = false
            $0.wantsBulk = false
            return $0.process.nid
        }
        let lost = salvaged
        salvaged = []
        let status =
            errno == LNetErrno.timedOut ? LNetStatus.localTimeout : LNetStatus(errno: errno)
        for message in lost { failed(message, status, on: peer) }
        while let message = waiting.popFirst() { failed(message, status, on: peer, errno: errno) }
        for index in 0..<pendings.slotCount {
            guard let handle = pendings.handle(at: index), pendings[handle]?.peer == peer else {
                continue
            }
            failPending(handle, errno)
        }
        if let nid {
            let isOpenElsewhere = node.map { hasOpenPath($0) } ?? false
            if !isOpenElsewhere { events.append(.peerDown(nid, errno: errno)) }
        }
        removeIfIdle(peer)
        // Credits that came back with the lost connections may serve others.
        for interface in interfaces.indices { serveInterfaceWaiters(interface) }
    }

    /// Whether a connection to any interface of a node is open.
    private mutating func hasOpenPath(_ node: SlotHandle) -> Bool {
        guard let known = nodes[node] else { return false }
        for interface in known.interfaces {
            for own in interfaces.indices {
                guard let path = peers.find(ProcessID(nid: interface.nid), on: own) else {
                    continue
                }
                if peers.update(path, { !$0.open.isEmpty }) == true { return true }
            }
        }
        return false
    }

    mutating func attemptFailed(
        _ peer: SlotHandle, _ type: SockLNDConnectionType, _ errno: Int32, wasRefused: Bool
    ) {
        let now = now
        let configuration = configuration
        if wasRefused {
            let mayRetry =
                peers.update(peer) { peer in
                    peer.refusals += 1
                    // Short, for the winner of a race is there soon; bounded, for there may be none.
                    peer.retryAt = now + configuration.reconnectMin
                    return peer.refusals <= 20
                } ?? false
            if mayRetry {
                pump(peer)
                return
            }
        }
        counters.connectFailures &+= 1
        let isLost =
            peers.update(peer) { peer in
                peer.refusals = 0
                peer.backoff = min(
                    configuration.reconnectMax, max(configuration.reconnectMin, peer.backoff * 2))
                peer.retryAt = now + peer.backoff
                return peer.open.isEmpty
            } ?? false
        if isLost { loseConnections(peer, errno, except: nil) }
    }
}
