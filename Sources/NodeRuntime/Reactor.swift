import EventLoop
import LNetCore
import Primitives
import TCPTransport
import VerbsTransport
import WireFormat

/// Nodes and their sockets on one loop: moves bytes and time into LNet cores, carries actions out.
///
/// The transport stands beside the rest, so that its events can change the rest.
struct Reactor<Nodes: NodeSet & ~Copyable>: ~Copyable, EventHandler {
    var transport: TCPTransport
    /// There where a node has an interface over RDMA.
    var verbs: VerbsTransport?
    var core: ReactorCore<Nodes>

    init(
        _ nodes: consuming Nodes, desk: NetworkDesk = NetworkDesk(),
        capture: PacketCapture? = nil, on loop: EventLoop
    ) throws(RuntimeError) {
        verbs = try Self.openVerbs(nodes, loop)
        transport = TCPTransport(on: loop)
        core = ReactorCore(nodes, desk: desk, capture: capture, loop: loop)
    }

    private static func openVerbs(
        _ nodes: borrowing Nodes, _ loop: EventLoop
    ) throws(RuntimeError) -> VerbsTransport? {
        let wantsRDMA = (0..<nodes.nodeCount).contains { node in
            nodes[lnet: node].nids.contains { $0.type == .o2ib }
        }
        guard wantsRDMA else { return nil }
        do throws(FabricError) {
            return try VerbsTransport(on: loop, options: nodes.verbsOptions)
        } catch {
            throw .system(error)
        }
    }

    /// Listens on all of the node's own addresses.
    mutating func listen(_ node: Int) throws(RuntimeError) {
        for (index, nid) in core.nodes[lnet: node].nids.enumerated() {
            try core.listen(node, index, nid, &transport, &verbs)
        }
    }

    /// Listens as soon as whoever uses the address now lets go of it.
    mutating func listenWhenFree(_ node: Int) { core.waitingToListen.append(node) }

    /// Breaks every connection as a fault of the network would: both ends hear of it.
    mutating func breakConnections() {
        verbs?.breakAllPairs()
        for handle in core.wiring.links.handles {
            guard let link = core.wiring.links[handle] else { continue }
            transport.abort(link.connection)
            core.capture?.closed(handle.rawValue, byUs: true, isReset: true)
            // ECONNRESET
            core.closed(link.connection, word: handle.rawValue, errno: 104, on: &transport)
        }
    }

    /// Closes every socket: the loop has ended, and peers shall know.
    mutating func close(on loop: EventLoop) {
        transport = TCPTransport(on: loop)
        verbs = nil
        core.capture?.end()
    }

    mutating func ready(_ token: UInt64, _ readiness: Readiness, on loop: EventLoop) {
        if token >> 56 == UInt64(transport.source) {
            transport.ready(token, readiness, handler: &core)
        } else {
            verbs?.ready(token, readiness, handler: &core)
        }
    }

    mutating func takeHot(on loop: EventLoop) -> Bool { transport.takeHot(handler: &core) }

    /// Completions of RDMA are told by nobody but the queue itself.
    var looksEveryTurn: Bool { verbs != nil }

    mutating func willSleep(on loop: EventLoop) -> Bool {
        verbs?.willSleep(handler: &core) ?? true
    }

    mutating func turn(on loop: EventLoop) -> Ticks {
        transport.turn(handler: &core)
        verbs?.turn(handler: &core)
        let moment = Moment(now: loop.now)
        core.nodes.attend(moment, &core.dirty)
        while let node = core.timers.popDue(now: moment.now) {
            if core.armed[node] <= moment.now { core.armed[node] = .distantFuture }
            core.dirty.mark(node)
        }
        if core.nodes.wish == .drain { stopListening() }
        if core.nodes.takeFault() { breakConnections() }
        let batch = core.dirty.take()
        for node in batch {
            if core.desk.isWaiting {
                core.desk.take(from: &core.nodes[lnet: node], node, moment.now)
            }
            core.nodes.step(node, moment, &core.dirty)
            core.carryOut(node, &transport, &verbs)
            core.arm(node)
        }
        core.dirty.recycle(batch)
        core.capture?.flush()
        core.nodes.conclude(moment, isFlushed: core.isFlushed)
        if !core.waitingToListen.isEmpty { retryListening(moment.now) }
        if !core.dirty.isEmpty { return .zero }
        var next = min(transport.nextDeadline, core.nodes.nextAttendance)
        if let deadline = verbs?.nextDeadline { next = min(next, deadline) }
        if let timer = core.timers.nextDeadline { next = min(next, timer) }
        if !core.waitingToListen.isEmpty { next = min(next, core.nextListen) }
        return next
    }

    private mutating func stopListening() {
        for entry in core.listeners { transport.close(entry.listener) }
        core.listeners.removeAll()
        for entry in core.verbsListeners { verbs?.close(entry.listener) }
        core.verbsListeners.removeAll()
        core.waitingToListen.removeAll()
    }

    private mutating func retryListening(_ now: Ticks) {
        guard core.nextListen <= now else { return }
        core.nextListen = now + .milliseconds(2)
        var kept: [Int] = []
        for node in core.waitingToListen {
            do { try listen(node) } catch { kept.append(node) }
        }
        core.waitingToListen = kept
    }
}

/// What a reactor has beside its transport: nodes, the table of connections, timers.
struct ReactorCore<Nodes: NodeSet & ~Copyable>: ~Copyable, TCPTransportHandler {
    var nodes: Nodes
    var dirty: DirtyNodes
    var timers = TimerQueue<Int>()
    /// The earliest timer set for each node: a later one need not be set beside it.
    var armed: [Ticks]
    var listeners: [(tag: UInt32, listener: ListenerID)] = []
    var verbsListeners: [(tag: UInt32, listener: VerbsListenerID)] = []
    var waitingToListen: [Int] = []
    var nextListen = Ticks.zero
    var wiring: Wiring<ConnectionRef>
    var rdma: Wiring<VerbsRef>
    /// Whose registered memory the transport is asked for, while it has none.
    var reservations = SlotTable<Reservation>()
    let loop: EventLoop
    /// Who waits for pings.
    let desk: NetworkDesk
    /// Where what the connections carry is written, too.
    let capture: PacketCapture?

    struct Reservation: BitwiseCopyable {
        var node: Int
        var request: UInt64
    }

    init(
        _ nodes: consuming Nodes, desk: NetworkDesk, capture: PacketCapture?, loop: EventLoop
    ) {
        let count = nodes.nodeCount
        self.nodes = nodes
        self.loop = loop
        self.desk = desk
        self.capture = capture
        dirty = DirtyNodes(nodeCount: count)
        armed = Array(repeating: .distantFuture, count: count)
        wiring = Wiring(nodeCount: count)
        rdma = Wiring(nodeCount: count)
        for node in 0..<count { dirty.mark(node) }
    }

    /// Carries out what the node's LNet wants of its sockets.
    mutating func carryOut(
        _ node: Int, _ transport: inout TCPTransport, _ verbs: inout VerbsTransport?
    ) {
        var changes: [LNetAction] = []
        Self.carryOut(
            &nodes[lnet: node], node, &wiring, &transport, &rdma, &reservations, &verbs,
            &changes, capture, now: loop.now)
        for change in changes { carryOut(change, node, &transport, &verbs) }
        // What went out may have failed or freed something: then the node has to know.
        if nodes.hasEvents(node) { dirty.mark(node) }
    }

    private static func carryOut(
        _ lnet: inout LNetCore, _ node: Int, _ wiring: inout Wiring<ConnectionRef>,
        _ transport: inout TCPTransport, _ rdma: inout Wiring<VerbsRef>,
        _ reservations: inout SlotTable<Reservation>, _ verbs: inout VerbsTransport?,
        _ changes: inout [LNetAction], _ capture: PacketCapture?, now: Ticks
    ) {
        while let action = lnet.actions.popFirst() {
            switch action {
            case .o2ib(let action):
                if verbs != nil {
                    carryOut(
                        action, &lnet, node, &rdma, &reservations, &verbs!, capture, now: now)
                }
            case .connect(let key, let from, let to, let port, let privileged):
                let insertion = wiring.insert(
                    .init(node: node, key: key, connection: ConnectionRef(rawValue: 0)))
                if let old = insertion.displaced {
                    transport.close(old.connection)
                    capture?.closed(old.handle.rawValue, byUs: true, isReset: false)
                }
                guard let handle = insertion.handle else { continue }
                let connection = transport.connect(
                    id: handle.rawValue, from: from, to: to, port: port, privileged: privileged)
                wiring.links.update(handle) { $0.connection = connection }
            case .close(let key):
                guard let handle = wiring.find(node, key), let link = wiring.links[handle] else {
                    continue
                }
                transport.close(link.connection)
                capture?.closed(handle.rawValue, byUs: true, isReset: false)
                wiring.remove(handle)
            case .flush(let key):
                guard let handle = wiring.find(node, key) else { continue }
                send(&lnet, handle, &wiring, &transport, capture)
            case .pause(let key):
                guard let handle = wiring.find(node, key), let link = wiring.links[handle] else {
                    continue
                }
                transport.pauseReading(link.connection)
            case .resume(let key):
                guard let handle = wiring.find(node, key), let link = wiring.links[handle] else {
                    continue
                }
                transport.resumeReading(link.connection)
            case .listen, .unlisten:
                changes.append(action)
            }
        }
    }

    /// Interfaces that came or went while the node runs.
    private mutating func carryOut(
        _ change: LNetAction, _ node: Int, _ transport: inout TCPTransport,
        _ verbs: inout VerbsTransport?
    ) {
        switch change {
        case .listen(let interface, let nid):
            do {
                try listen(node, interface, nid, &transport, &verbs)
            } catch {
                nodes[lnet: node].listenFailed(interface, now: loop.now)
            }
        case .unlisten(let interface):
            let tag = Self.tag(node, interface)
            for index in listeners.indices.reversed() where listeners[index].tag == tag {
                transport.close(listeners.remove(at: index).listener)
            }
            for index in verbsListeners.indices.reversed() where verbsListeners[index].tag == tag {
                verbs?.close(verbsListeners.remove(at: index).listener)
            }
        case .o2ib, .connect, .close, .flush, .pause, .resume:
            break
        }
    }

    /// Listens on one interface of a node.
    mutating func listen(
        _ node: Int, _ interface: Int, _ nid: NID, _ transport: inout TCPTransport,
        _ verbs: inout VerbsTransport?
    ) throws(RuntimeError) {
        let configuration = nodes[lnet: node].configuration
        let tag = Self.tag(node, interface)
        let isRDMA = nid.type == .o2ib
        let port = isRDMA ? configuration.servicePort : configuration.acceptPort
        do throws(FabricError) {
            if isRDMA {
                // ENODEV: the node was started without RDMA.
                guard verbs != nil else { throw FabricError(call: "rdma_listen", errno: 19) }
                if let listener = try verbs?.listen(address: nid.address, port: port, tag: tag) {
                    verbsListeners.append((tag, listener))
                }
            } else {
                let listener = try transport.listen(address: nid.ip, port: port, tag: tag)
                listeners.append((tag, listener))
            }
        } catch {
            throw RuntimeError(listening: error, nid: nid, port: port)
        }
    }

    /// Says which node's listener it is, and on which of its interfaces.
    private static func tag(_ node: Int, _ interface: Int) -> UInt32 {
        UInt32(node) | UInt32(interface) << 24
    }

    private static func send(
        _ lnet: inout LNetCore, _ handle: SlotHandle, _ wiring: inout Wiring<ConnectionRef>,
        _ transport: inout TCPTransport, _ capture: PacketCapture?
    ) {
        guard let link = wiring.links[handle], transport.canSend(link.connection) else { return }
        let tookAll = lnet.withOutput(link.key) { bytes in
            let count = transport.send(link.connection, bytes)
            if let capture { capture.sent(handle.rawValue, bytes.extracting(first: count)) }
            return count
        }
        wiring.setBlocked(handle, !tookAll)
    }

    /// Sets the node's timer, where it is not set for an earlier instant already.
    mutating func arm(_ node: Int) {
        guard let deadline = nodes.nextDeadline(node) else { return }
        if deadline <= loop.now {
            dirty.mark(node)
        } else if deadline < armed[node] {
            armed[node] = deadline
            timers.insert(node, at: deadline)
        }
    }

    /// Whose listener a tag names, and on which interface.
    func listener(_ tag: UInt32) -> (node: Int, own: NID) {
        let node = Int(tag & 0xff_ffff)
        return (node, nodes[lnet: node].nid(ofInterface: Int(tag >> 24)))
    }

    /// No output waits for room.
    var isFlushed: Bool { wiring.blockedCount == 0 && rdma.blockedCount == 0 }

    // MARK: TCPTransportHandler

    mutating func accepted(
        _ accepted: AcceptedConnection, on transport: inout TCPTransport
    ) -> UInt64? {
        let (node, own) = listener(accepted.listenerTag)
        let key = nodes[lnet: node].accepted(
            remoteAddress: accepted.peer.address, remotePort: accepted.peer.port, on: own,
            now: loop.now)
        dirty.mark(node)
        let insertion = wiring.insert(
            .init(node: node, key: key, connection: accepted.connection))
        if let old = insertion.displaced {
            transport.close(old.connection)
            capture?.closed(old.handle.rawValue, byUs: true, isReset: false)
        }
        guard let word = insertion.handle?.rawValue else { return nil }
        if let capture, let local = transport.localEndpoint(of: accepted.connection) {
            capture.opened(word, local: local, peer: accepted.peer, isOurs: false)
        }
        return word
    }

    mutating func established(
        _ connection: ConnectionRef, word: UInt64, on transport: inout TCPTransport
    ) {
        guard let link = wiring.links[SlotHandle(rawValue: word)] else { return }
        if let capture, let local = transport.localEndpoint(of: connection),
            let peer = transport.peerEndpoint(of: connection)
        {
            capture.opened(word, local: local, peer: peer, isOurs: true)
        }
        nodes[lnet: link.node].established(link.key, now: loop.now)
        dirty.mark(link.node)
    }

    mutating func connectFailed(
        _ connection: ConnectionRef, word: UInt64, errno: Int32, on transport: inout TCPTransport
    ) {
        closed(connection, word: word, errno: errno, on: &transport)
    }

    mutating func received(
        _ connection: ConnectionRef, word: UInt64, bytes: RawSpan,
        on transport: inout TCPTransport
    ) {
        guard let link = wiring.links[SlotHandle(rawValue: word)] else { return }
        capture?.received(word, bytes)
        nodes[lnet: link.node].received(link.key, bytes, now: loop.now)
        dirty.mark(link.node)
    }

    mutating func writable(
        _ connection: ConnectionRef, word: UInt64, on transport: inout TCPTransport
    ) {
        let handle = SlotHandle(rawValue: word)
        guard let link = wiring.links[handle] else { return }
        Self.send(&nodes[lnet: link.node], handle, &wiring, &transport, capture)
        dirty.mark(link.node)
    }

    mutating func closed(
        _ connection: ConnectionRef, word: UInt64, errno: Int32, on transport: inout TCPTransport
    ) {
        let handle = SlotHandle(rawValue: word)
        guard let link = wiring.links[handle] else { return }
        capture?.closed(word, byUs: false, isReset: errno != 0)
        wiring.remove(handle)
        nodes[lnet: link.node].closed(link.key, errno: errno, now: loop.now)
        dirty.mark(link.node)
    }
}

extension Timestamp {
    /// The time of day.
    static var now: Timestamp {
        let nanoseconds = Host.realtimeNanoseconds
        return Timestamp(
            seconds: Int64(nanoseconds / 1_000_000_000),
            nanoseconds: UInt32(nanoseconds % 1_000_000_000))
    }
}
