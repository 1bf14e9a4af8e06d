import EventLoop
import LNetCore
import Primitives
import TCPTransport
import WireFormat

/// Nodes and their sockets on one loop: moves bytes and time into LNet cores, carries actions out.
///
/// The transport stands beside the rest, so that its events can change the rest.
struct Reactor<Nodes: NodeSet & ~Copyable>: ~Copyable, EventHandler {
    var transport: TCPTransport
    var core: ReactorCore<Nodes>

    init(_ nodes: consuming Nodes, on loop: EventLoop) {
        transport = TCPTransport(on: loop)
        core = ReactorCore(nodes, loop: loop)
    }

    /// Listens on the node's own address.
    mutating func listen(_ node: Int) throws(RuntimeError) {
        let configuration = core.nodes[lnet: node].configuration
        do {
            let listener = try transport.listen(
                address: configuration.nid.address, port: configuration.acceptPort,
                tag: UInt32(node))
            core.listeners.append(listener)
        } catch {
            throw RuntimeError(
                listening: error, nid: configuration.nid, port: configuration.acceptPort)
        }
    }

    /// Listens as soon as whoever uses the address now lets go of it.
    mutating func listenWhenFree(_ node: Int) { core.waitingToListen.append(node) }

    /// Closes every socket: the loop has ended, and peers shall know.
    mutating func close(on loop: EventLoop) { transport = TCPTransport(on: loop) }

    mutating func ready(_ token: UInt64, _ readiness: Readiness, on loop: EventLoop) {
        transport.ready(token, readiness, handler: &core)
    }

    mutating func turn(on loop: EventLoop) -> Ticks {
        transport.turn(handler: &core)
        let moment = Moment(now: loop.now, wall: .now)
        core.nodes.attend(moment, &core.dirty)
        while let node = core.timers.popDue(now: moment.now) {
            if core.armed[node] <= moment.now { core.armed[node] = .distantFuture }
            core.dirty.mark(node)
        }
        if core.nodes.wish == .drain { stopListening() }
        let batch = core.dirty.take()
        for node in batch {
            core.nodes.step(node, moment, &core.dirty)
            core.carryOut(node, &transport)
            core.arm(node)
        }
        core.dirty.recycle(batch)
        core.nodes.conclude(moment, isFlushed: core.wiring.blockedCount == 0)
        if !core.waitingToListen.isEmpty { retryListening(moment.now) }
        if !core.dirty.isEmpty { return .zero }
        var next = min(transport.nextDeadline, core.nodes.nextAttendance)
        if let timer = core.timers.nextDeadline { next = min(next, timer) }
        if !core.waitingToListen.isEmpty { next = min(next, core.nextListen) }
        return next
    }

    private mutating func stopListening() {
        for listener in core.listeners { transport.close(listener) }
        core.listeners.removeAll()
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
    /// A connection: whose it is, what its node calls it, and its socket.
    struct Link: BitwiseCopyable {
        var node: Int
        var key: UInt64
        var connection: ConnectionRef
        /// Output waits until the kernel has room.
        var isBlocked = false
    }

    var nodes: Nodes
    var dirty: DirtyNodes
    var timers = TimerQueue<Int>()
    /// The earliest timer set for each node: a later one need not be set beside it.
    var armed: [Ticks]
    var listeners: [ListenerID] = []
    var waitingToListen: [Int] = []
    var nextListen = Ticks.zero
    var wiring: Wiring
    private let loop: EventLoop

    init(_ nodes: consuming Nodes, loop: EventLoop) {
        let count = nodes.nodeCount
        self.nodes = nodes
        self.loop = loop
        dirty = DirtyNodes(nodeCount: count)
        armed = Array(repeating: .distantFuture, count: count)
        wiring = Wiring(nodeCount: count)
        for node in 0..<count { dirty.mark(node) }
    }

    /// Connections by user word and by node and key.
    struct Wiring {
        var links = SlotTable<Link>()
        /// Links whose output waits until the kernel has room.
        private(set) var blockedCount = 0
        /// By node, by the key's index: a key is a slot handle, whose low half is a small number.
        private var places: [[SlotHandle?]]

        init(nodeCount: Int) { places = Array(repeating: [], count: nodeCount) }

        mutating func insert(_ link: Link) -> SlotHandle {
            let handle = links.insert(link)
            let index = Int(SlotHandle(rawValue: link.key).index)
            while places[link.node].count <= index { places[link.node].append(nil) }
            places[link.node][index] = handle
            return handle
        }

        func find(_ node: Int, _ key: UInt64) -> SlotHandle? {
            let index = Int(SlotHandle(rawValue: key).index)
            guard index < places[node].count, let handle = places[node][index],
                let link = links[handle], link.key == key
            else { return nil }
            return handle
        }

        mutating func setBlocked(_ handle: SlotHandle, _ isBlocked: Bool) {
            let changed = links.update(handle) { link in
                defer { link.isBlocked = isBlocked }
                return link.isBlocked != isBlocked
            }
            if changed == true { blockedCount += isBlocked ? 1 : -1 }
        }

        mutating func remove(_ handle: SlotHandle) {
            guard let link = links.remove(handle) else { return }
            if link.isBlocked { blockedCount -= 1 }
            let index = Int(SlotHandle(rawValue: link.key).index)
            if places[link.node][index] == handle { places[link.node][index] = nil }
        }
    }

    /// Carries out what the node's LNet wants of its sockets.
    mutating func carryOut(_ node: Int, _ transport: inout TCPTransport) {
        Self.carryOut(&nodes[lnet: node], node, &wiring, &transport)
        // What went out may have failed or freed something: then the node has to know.
        if !nodes[lnet: node].events.isEmpty { dirty.mark(node) }
    }

    private static func carryOut(
        _ lnet: inout LNetCore, _ node: Int, _ wiring: inout Wiring,
        _ transport: inout TCPTransport
    ) {
        while let action = lnet.actions.popFirst() {
            switch action {
            case .connect(let key, let from, let to, let port, let privileged):
                let handle = wiring.insert(
                    Link(node: node, key: key, connection: ConnectionRef(rawValue: 0)))
                let connection = transport.connect(
                    id: handle.rawValue, from: from, to: to, port: port, privileged: privileged)
                wiring.links.update(handle) { $0.connection = connection }
            case .close(let key):
                guard let handle = wiring.find(node, key), let link = wiring.links[handle] else {
                    continue
                }
                transport.close(link.connection)
                wiring.remove(handle)
            case .flush(let key):
                guard let handle = wiring.find(node, key) else { continue }
                send(&lnet, handle, &wiring, &transport)
            }
        }
    }

    private static func send(
        _ lnet: inout LNetCore, _ handle: SlotHandle, _ wiring: inout Wiring,
        _ transport: inout TCPTransport
    ) {
        guard let link = wiring.links[handle], transport.canSend(link.connection) else { return }
        let tookAll = lnet.withOutput(link.key) { transport.send(link.connection, $0) }
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

    // MARK: TCPTransportHandler

    mutating func accepted(
        _ accepted: AcceptedConnection, on transport: inout TCPTransport
    ) -> UInt64? {
        let node = Int(accepted.listenerTag)
        let key = nodes[lnet: node].accepted(
            remoteAddress: accepted.peer.address, remotePort: accepted.peer.port, now: loop.now)
        dirty.mark(node)
        return wiring.insert(Link(node: node, key: key, connection: accepted.connection)).rawValue
    }

    mutating func established(
        _ connection: ConnectionRef, word: UInt64, on transport: inout TCPTransport
    ) {
        guard let link = wiring.links[SlotHandle(rawValue: word)] else { return }
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
        nodes[lnet: link.node].received(link.key, bytes, now: loop.now)
        dirty.mark(link.node)
    }

    mutating func writable(
        _ connection: ConnectionRef, word: UInt64, on transport: inout TCPTransport
    ) {
        let handle = SlotHandle(rawValue: word)
        guard let link = wiring.links[handle] else { return }
        Self.send(&nodes[lnet: link.node], handle, &wiring, &transport)
        dirty.mark(link.node)
    }

    mutating func closed(
        _ connection: ConnectionRef, word: UInt64, errno: Int32, on transport: inout TCPTransport
    ) {
        let handle = SlotHandle(rawValue: word)
        guard let link = wiring.links[handle] else { return }
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
