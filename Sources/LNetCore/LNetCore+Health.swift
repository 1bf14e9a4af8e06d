import Primitives
import WireFormat

/// What failures mean for interfaces, what is sent again, and how interfaces come back.
extension LNetCore {
    // MARK: Messages that failed

    /// A message did not reach its peer. It goes again on another way where it may; otherwise
    /// whoever awaits its answer is told.
    mutating func failed(
        _ message: WaitingMessage, _ status: LNetStatus, on path: SlotHandle, errno: Int32? = nil
    ) {
        counters.count(status)
        lower(path, status)
        if status.isResendable, retry(message, avoiding: path) {
            counters.resends &+= 1
            return
        }
        if message.isResent { counters.failedResends &+= 1 }
        abandon(message, errno ?? status.errno)
    }

    /// The end of a message that was not sent.
    mutating func abandon(_ message: WaitingMessage, _ errno: Int32) {
        counters.count(.notSent)
        if let size = message.pool { release(size, message.sender) }
        if let pending = pending(of: message.header) { failPending(pending, errno) }
    }

    func pending(of header: LNetHeader) -> SlotHandle? {
        switch header.body {
        case .put(let handle, _, _, _, _): pending(of: handle)
        case .get(let handle, _, _, _, _): pending(of: handle)
        case .ack, .reply: nil
        }
    }

    private mutating func retry(_ message: WaitingMessage, avoiding path: SlotHandle) -> Bool {
        // What goes through here is its sender's to send again.
        guard configuration.retryCount > 0, isOwn(message.header.source.nid) else { return false }
        let target = message.header.destination
        let isDirect = peers.update(path) { $0.process == target } ?? false
        let origin = isDirect ? path : peerSlot(target)
        // ACK and REPLY go back on the way that the request came, or not at all.
        switch message.header.body {
        case .ack, .reply: return false
        case .put(_, _, _, let portal, _), .get(_, _, let portal, _, _):
            guard portal != PingInfo.portal else { return false }
        }
        var message = message
        if let pending = pending(of: message.header), let current = pendings[pending] {
            guard now - current.sentAt < configuration.responseTimeout else { return false }
            guard Int(current.retries) < configuration.retryCount else { return false }
            pendings.update(pending) { $0.retries += 1 }
        } else {
            guard Int(message.retries) < configuration.retryCount else { return false }
        }
        message.retries += 1
        message.isResent = true
        return redirect(message, to: origin, avoiding: path)
    }

    /// Sends a message on the way to `peer` that is best now. False where there is none.
    mutating func redirect(
        _ message: WaitingMessage, to peer: SlotHandle, avoiding path: SlotHandle?
    ) -> Bool {
        guard let way = way(to: peer, avoiding: path), way.path != path else { return false }
        var header = message.header
        header.destination = way.destination
        header.source.nid = way.source
        if let pending = pending(of: header) {
            pendings.update(pending) {
                $0.peer = way.path
                $0.nid = way.destination.nid
            }
        }
        var moved = message
        moved.header = header
        return transmit(moved, to: way.path)
    }

    // MARK: Health

    /// A failure on a path lowers our interface, the peer's, or both.
    mutating func lower(_ path: SlotHandle, _ status: LNetStatus) {
        let sensitivity = configuration.healthSensitivity
        guard sensitivity > 0,
            let (interface, nid) = peers.update(path, { ($0.interface, $0.process.nid) }),
            interface >= 0
        else { return }
        if status.lowersLocal { lower(interface: interface, by: sensitivity) }
        if status.lowersRemote { lower(peer: nid, by: sensitivity) }
    }

    private mutating func lower(interface: Int, by sensitivity: Int) {
        let wasUp = interfaces[interface].isUp
        hasUnwell = true
        interfaces[interface].health.lower(by: sensitivity)
        if wasUp != interfaces[interface].isUp { announce() }
        recover(interface: interface)
    }

    /// A peer with one NID that is no gateway has nothing to gain by being avoided.
    mutating func lower(peer nid: NID, by sensitivity: Int) {
        guard let node = node(of: nid), let known = nodes[node],
            known.interfaces.count > 1 || known.routeCount > 0
                || known.state.contains(.routerEnabled), let place = known.index(of: nid)
        else { return }
        hasUnwell = true
        nodes.update(node) { $0.interfaces[place].health.lower(by: sensitivity) }
        recover(peer: nid)
    }

    /// Messages left an interface.
    mutating func raise(interface: Int) {
        guard !interfaces[interface].health.isWell else { return }
        let wasUp = interfaces[interface].isUp
        _ = interfaces[interface].health.raise(by: configuration.healthSensitivity)
        if wasUp != interfaces[interface].isUp { announce() }
    }

    /// A peer's NID was heard.
    mutating func raise(peer nid: NID) {
        guard let node = node(of: nid), let place = nodes[node]?.index(of: nid) else { return }
        let sensitivity = configuration.healthSensitivity
        nodes.update(node) {
            $0.interfaces[place].isUp = true
            _ = $0.interfaces[place].health.raise(by: sensitivity)
        }
    }

    // MARK: Recovery

    /// The pause before the next recovery ping: doubles up to its maximum.
    private func pause(_ pings: UInt32) -> TickInterval {
        let seconds = pings >= 20 ? UInt64(1) << 20 : UInt64(1) << UInt64(pings)
        return min(.seconds(seconds), configuration.recoveryPingIntervalMax)
    }

    mutating func recover(peer nid: NID) {
        guard let node = node(of: nid), let place = nodes[node]?.index(of: nid) else { return }
        let health = nodes[node]?.interfaces[place].health ?? Health()
        guard !health.isRecovering, !health.isWell else { return }
        nodes.update(node) { $0.interfaces[place].health.isRecovering = true }
        timers.insert(.recoverPeer(nid), at: now + pause(health.pings))
    }

    mutating func recover(interface: Int) {
        let health = interfaces[interface].health
        guard !health.isRecovering, !health.isWell else { return }
        interfaces[interface].health.isRecovering = true
        timers.insert(.recoverInterface(interface), at: now + pause(health.pings))
    }

    /// A recovery ping of a peer's NID is due.
    mutating func recoveryDue(peer nid: NID) {
        guard let node = node(of: nid), let place = nodes[node]?.index(of: nid) else { return }
        let isNeeded =
            nodes.update(node) {
                $0.interfaces[place].health.isRecovering = false
                return !$0.interfaces[place].health.isWell
            } ?? false
        guard isNeeded else {
            lookForUnwell()
            return
        }
        nodes.update(node) { $0.interfaces[place].health.pings += 1 }
        if let own = interfaces.firstIndex(where: {
            $0.isUsable && $0.nid.network == nid.network
        }) {
            sendRecoveryPing(peerSlot(ProcessID(nid: nid), on: own), interface: nil)
        }
        recover(peer: nid)
    }

    /// A recovery ping through our own interface is due: to a peer that was heard on it.
    mutating func recoveryDue(interface: Int) {
        interfaces[interface].health.isRecovering = false
        guard interfaces[interface].isUsable, !interfaces[interface].health.isWell else {
            lookForUnwell()
            return
        }
        interfaces[interface].health.pings += 1
        if let peer = interfaces[interface].lastPeer, peers.contains(peer) {
            sendRecoveryPing(peer, interface: interface)
        }
        recover(interface: interface)
    }

    /// An interface is well again: perhaps all are.
    private mutating func lookForUnwell() {
        hasUnwell =
            interfaces.contains { $0.isUsable && !$0.health.isWell }
            || nodes.handles.contains { node in
                nodes[node]?.interfaces.contains { !$0.health.isWell } == true
            }
    }

    private mutating func sendRecoveryPing(_ peer: SlotHandle, interface: Int?) {
        counters.recoveryPings &+= 1
        let pending = startGet(
            .recovery(interface: interface), from: peer, portal: PingInfo.portal,
            matchBits: PingInfo.matchBits, offset: 0, length: PingInfo.lengthMin, buffer: nil,
            cookie: 0, isExact: true)
        if let pending {
            timers.insert(.ping(pending: pending), at: now + configuration.lndTimeout)
        }
    }

    /// An interface answered a recovery ping.
    mutating func recovered(_ pending: Pending) {
        // While pings are answered the next ones come soon.
        if case .recovery(let interface?) = pending.kind {
            interfaces[interface].health.pings = 0
            raise(interface: interface)
        }
        if let node = node(of: pending.nid), let place = nodes[node]?.index(of: pending.nid) {
            nodes.update(node) { $0.interfaces[place].health.pings = 0 }
        }
        raise(peer: pending.nid)
    }
}
