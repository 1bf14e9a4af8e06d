public import ClientCore
public import LNetCore
public import NodeCore
public import Primitives
public import StorageCore
public import WireFormat

/// Servers, clients, disks and the network between them, in one thread and in virtual time.
///
/// The nodes are the very values that production runs. Everything random comes from one seed:
/// latencies, splits of the byte streams, disk times. Equal seeds give equal digests.
public final class SimulatedCluster {
    public struct Options: Sendable {
        /// One way, uniform between the two.
        public var latencyMin = TickInterval.microseconds(20)
        public var latencyMax = TickInterval.microseconds(200)
        public var commitMin = TickInterval.milliseconds(1)
        public var commitMax = TickInterval.milliseconds(10)
        /// Once in so many deliveries a byte stream is cut into single pieces; 0 for never.
        public var splitOneIn: UInt64 = 20
        /// Once in so many deliveries the connection is reset instead: both ends lose what is
        /// under way to them and hear of it, each at its time. 0 for never.
        public var resetOneIn: UInt64 = 0
        public init() {}
    }

    struct End {
        var node: Int
        var key: UInt64
        /// Keys mean something only to the life of the node that gave them.
        var life: Int
    }

    struct Link {
        /// Who connected; nil once it has closed or was told of the close.
        var a: End?
        /// Who accepted; nil before, and as above.
        var b: End?
        var isReset = false
        /// Bytes towards an end never overtake each other.
        var lastToA = Ticks.zero
        var lastToB = Ticks.zero
    }

    enum Happening {
        case connectArrives(link: SlotHandle, to: UInt32, from: UInt32)
        case established(link: SlotHandle)
        case refused(End)
        case bytes(link: SlotHandle, toA: Bool, [UInt8])
        case closed(End, errno: Int32)
        case committed(node: Int, life: Int, CommitGroup)
        case wake(node: Int, life: Int)
    }

    public enum Role {
        case server(ServerNode)
        case client(ClientNode)
        case none
    }

    struct Node {
        var role: Role
        var address: UInt32
        var store: MemoryStore?
        /// Grows with each restart: what was meant for an earlier life is void.
        var life = 0
        var links: [UInt64: SlotHandle] = [:]
        var wakeAt = Ticks.distantFuture
    }

    public private(set) var now = Ticks(nanoseconds: 1_000_000_000)
    public var options: Options
    public private(set) var eventCount: UInt64 = 0
    /// Called for what servers and clients tell, in order.
    public var onServer: (Int, ServerAction) -> Void = { _, _ in }
    public var onClient: (Int, ClientEvent) -> Void = { _, _ in }

    var random: SplitMix64
    var nodes: [Node] = []
    var byAddress: [UInt32: Int] = [:]
    var links = SlotTable<Link>()
    var queue = TimerQueue<Int>()
    var happenings = SlotTable<Happening>()
    var places: [Int: SlotHandle] = [:]
    var nextHappening = 0
    var hash = StableHash()
    var portCounter: UInt16 = 1024

    public static let acceptPort: UInt16 = 9988
    static let wallBase: UInt64 = 1_800_000_000

    public init(seed: UInt64, options: Options = Options()) {
        random = SplitMix64(seed: seed)
        self.options = options
    }

    public var wall: Timestamp {
        Timestamp(
            seconds: Int64(Self.wallBase + now.nanoseconds / 1_000_000_000),
            nanoseconds: UInt32(now.nanoseconds % 1_000_000_000))
    }

    /// The same for equal seeds: every delivery, in its order and at its time.
    public var digest: UInt64 { hash.value }

    // MARK: Nodes

    public func lnetConfiguration(_ nid: NID) -> LNetConfiguration {
        var configuration = LNetConfiguration(
            nid: nid, incarnation: now.nanoseconds + UInt64(nid.address),
            acceptPort:
                Self.acceptPort, privilegedPorts: false, seed: random.next())
        configuration.reconnectMin = .milliseconds(10)
        configuration.reconnectMax = .milliseconds(500)
        configuration.peerCredits = 64
        return configuration
    }

    /// Adds a server on its own store and lets it serve, or leaves it a standby.
    @discardableResult
    public func addServer(
        _ configuration: ServerConfiguration, store: MemoryStore, isStandby: Bool = false
    ) throws(StartRefusal) -> Int {
        let node = ServerNode(
            configuration, instance: Self.wallBase * 1000 + now.nanoseconds / 1_000_000)
        let index = place(.server(node), nid: configuration.lnet.nid, store: store)
        if !isStandby { try activate(index) }
        return index
    }

    /// Gives a standby its store.
    public func activate(_ index: Int) throws(StartRefusal) {
        guard case .server(var server) = nodes[index].role, let store = nodes[index].store else {
            preconditionFailure("only a server with a store is activated")
        }
        nodes[index].role = .none
        defer { nodes[index].role = .server(server) }
        try server.activate(store, now: now, wall: wall)
        nodes[index].role = .server(server)
        settle(index)
        if case .server(let settled) = nodes[index].role { server = settled }
    }

    @discardableResult
    public func addClient(_ configuration: ClientConfiguration, nid: NID) -> Int {
        let node = ClientNode(lnet: lnetConfiguration(nid), client: configuration)
        let index = place(.client(node), nid: nid, store: nil)
        withClient(index) { $0.mount(now: now) }
        return index
    }

    private func place(_ role: Role, nid: NID, store: MemoryStore?) -> Int {
        let index: Int
        if let known = byAddress[nid.address] {
            index = known
            nodes[index].role = role
            nodes[index].store = store
            nodes[index].life += 1
            nodes[index].links = [:]
            nodes[index].wakeAt = .distantFuture
        } else {
            index = nodes.count
            nodes.append(Node(role: role, address: nid.address, store: store))
            byAddress[nid.address] = index
        }
        return index
    }

    /// The process is gone in this instant, with everything that was not committed.
    public func kill(_ index: Int) {
        let keys = nodes[index].links.keys.sorted()
        for key in keys { disconnect(end(index, key)) }
        nodes[index].role = .none
        nodes[index].life += 1
        nodes[index].links = [:]
    }

    public func server(_ index: Int) -> ServerNode? {
        if case .server(let server) = nodes[index].role { server } else { nil }
    }

    public func client(_ index: Int) -> ClientNode? {
        if case .client(let client) = nodes[index].role { client } else { nil }
    }

    public func withServer<R>(_ index: Int, _ body: (inout ServerNode) -> R) -> R? {
        guard case .server(var server) = nodes[index].role else { return nil }
        nodes[index].role = .none
        let result = body(&server)
        nodes[index].role = .server(server)
        settle(index)
        return result
    }

    @discardableResult
    public func withClient<R>(_ index: Int, _ body: (inout ClientNode) -> R) -> R? {
        guard case .client(var client) = nodes[index].role else { return nil }
        nodes[index].role = .none
        let result = body(&client)
        nodes[index].role = .client(client)
        settle(index)
        return result
    }

    // MARK: Time

    /// Runs until `isDone` holds or virtual time reaches `limit`. True where it came to hold.
    public func run(until limit: Ticks, _ isDone: () -> Bool = { false }) -> Bool {
        while !isDone() {
            guard let deadline = queue.nextDeadline, deadline <= limit else {
                now = max(now, limit)
                return isDone()
            }
            now = max(now, deadline)
            guard let id = queue.popDue(now: now), let place = places.removeValue(forKey: id),
                let happening = happenings.remove(place)
            else { continue }
            eventCount += 1
            happen(happening)
        }
        return true
    }

    private func schedule(_ happening: Happening, at time: Ticks) {
        nextHappening += 1
        places[nextHappening] = happenings.insert(happening)
        queue.insert(nextHappening, at: time)
    }

    private func latency() -> TickInterval {
        between(options.latencyMin, options.latencyMax)
    }

    private func between(_ low: TickInterval, _ high: TickInterval) -> TickInterval {
        let span = high.nanoseconds - low.nanoseconds
        return TickInterval(
            nanoseconds: low.nanoseconds + (span == 0 ? 0 : random.next() % (span + 1)))
    }

    private func note(_ kind: UInt64, _ node: Int, _ detail: UInt64) {
        hash.combine(now.nanoseconds)
        hash.combine(kind << 32 | UInt64(node))
        hash.combine(detail)
    }

    private func happen(_ happening: Happening) {
        switch happening {
        case .connectArrives(let link, let to, let from):
            guard let origin = links[link]?.a, isCurrent(origin) else {
                links.remove(link)
                return
            }
            guard let node = byAddress[to], isAlive(node) else {
                links.remove(link)
                schedule(.refused(origin), at: now + latency())
                return
            }
            portCounter = portCounter &+ 1 | 1024
            let port = portCounter
            note(1, node, UInt64(from))
            let time = now
            let key = withLNet(node) {
                $0.accepted(remoteAddress: from, remotePort: port, now: time)
            }
            guard let key else { return }
            let taken = end(node, key)
            links.update(link) { $0.b = taken }
            nodes[node].links[key] = link
            schedule(.established(link: link), at: now + latency())
            settle(node)
        case .established(let link):
            guard let ends = links[link], !ends.isReset, let origin = ends.a, isCurrent(origin)
            else { return }
            note(2, origin.node, origin.key)
            let time = now
            withLNet(origin.node) { $0.established(origin.key, now: time) }
            settle(origin.node)
        case .refused(let end):
            guard isCurrent(end) else { return }
            note(3, end.node, end.key)
            nodes[end.node].links[end.key] = nil
            let time = now
            withLNet(end.node) { $0.closed(end.key, errno: 111, now: time) }
            settle(end.node)
        case .bytes(let link, let toA, let bytes):
            guard let ends = links[link], !ends.isReset, let end = toA ? ends.a : ends.b,
                isCurrent(end)
            else { return }
            note(4, end.node, UInt64(bytes.count))
            if options.resetOneIn > 0, random.oneIn(options.resetOneIn) {
                reset(link)
                return
            }
            let time = now
            let isSplit = options.splitOneIn > 0 && random.oneIn(options.splitOneIn)
            let step = isSplit ? max(1, bytes.count / 7) : max(1, bytes.count)
            var offset = 0
            while offset < bytes.count {
                let part = Array(bytes[offset..<min(bytes.count, offset + step)])
                withLNet(end.node) { lnet in
                    RawSpan.over(part) { lnet.received(end.key, $0, now: time) }
                }
                offset += step
            }
            settle(end.node)
        case .closed(let end, let errno):
            guard isCurrent(end), let link = leave(end) else { return }
            if links[link]?.isReset == false { links.remove(link) }
            note(5, end.node, end.key)
            let time = now
            withLNet(end.node) { $0.closed(end.key, errno: errno, now: time) }
            settle(end.node)
        case .committed(let node, let life, let group):
            guard nodes[node].life == life, let store = nodes[node].store else { return }
            note(6, node, group.id)
            store.commit(group)
            let time = now
            _ = withServer(node) { $0.committed(group.id, now: time) }
        case .wake(let node, let life):
            guard nodes[node].life == life else { return }
            nodes[node].wakeAt = .distantFuture
            settle(node)
        }
    }

    private func end(_ node: Int, _ key: UInt64) -> End {
        End(node: node, key: key, life: nodes[node].life)
    }

    private func isCurrent(_ end: End) -> Bool { nodes[end.node].life == end.life }

    private func isAlive(_ index: Int) -> Bool {
        if case .none = nodes[index].role { false } else { true }
    }

    @discardableResult
    private func withLNet<R>(_ index: Int, _ body: (inout LNetCore) -> R) -> R? {
        switch nodes[index].role {
        case .server(var server):
            nodes[index].role = .none
            defer { nodes[index].role = .server(server) }
            return body(&server.lnet)
        case .client(var client):
            nodes[index].role = .none
            defer { nodes[index].role = .client(client) }
            return body(&client.lnet)
        case .none:
            return nil
        }
    }

    /// Lets a node do what is due and carries out what it wants.
    private func settle(_ index: Int) {
        var deadline: Ticks?
        var told: [ServerAction] = []
        var heard: [ClientEvent] = []
        switch nodes[index].role {
        case .server(var server):
            nodes[index].role = .none
            server.step(now: now, wall: wall)
            while let action = server.actions.popFirst() { told.append(action) }
            deadline = server.nextDeadline
            nodes[index].role = .server(server)
        case .client(var client):
            nodes[index].role = .none
            client.step(now: now, wall: wall)
            while let event = client.nextEvent() { heard.append(event) }
            deadline = client.nextDeadline
            nodes[index].role = .client(client)
        case .none:
            return
        }
        carryOut(index)
        for action in told {
            if case .commit(let group) = action {
                schedule(
                    .committed(node: index, life: nodes[index].life, group),
                    at: now + between(options.commitMin, options.commitMax))
            }
            onServer(index, action)
        }
        for event in heard { onClient(index, event) }
        if let deadline, deadline < nodes[index].wakeAt {
            nodes[index].wakeAt = max(deadline, now + .microseconds(1))
            schedule(.wake(node: index, life: nodes[index].life), at: nodes[index].wakeAt)
        }
    }

    private func carryOut(_ index: Int) {
        while let action = withLNet(index, { $0.actions.popFirst() }) ?? nil {
            switch action {
            case .connect(let key, let from, let to, _, _):
                let link = links.insert(Link(a: end(index, key)))
                nodes[index].links[key] = link
                schedule(.connectArrives(link: link, to: to, from: from), at: now + latency())
            case .close(let key):
                disconnect(end(index, key))
            case .flush(let key):
                var bytes: [UInt8] = []
                withLNet(index) { lnet in
                    _ = lnet.withOutput(key) { span in
                        bytes.append(contentsOf: span.copy(0..<span.byteCount))
                        return span.byteCount
                    }
                }
                guard !bytes.isEmpty, let handle = nodes[index].links[key],
                    let link = links[handle]
                else { continue }
                let toA = !(link.a?.node == index && link.a?.key == key)
                let time = max(now + latency(), toA ? link.lastToA : link.lastToB)
                links.update(handle) { if toA { $0.lastToA = time } else { $0.lastToB = time } }
                schedule(.bytes(link: handle, toA: toA, bytes), at: time)
            }
        }
    }

    /// One end closes: what is under way to it is lost, the other hears of the close after what
    /// is under way to it.
    private func disconnect(_ end: End) {
        guard let handle = leave(end), let link = links[handle], !link.isReset else { return }
        if let a = link.a {
            schedule(.closed(a, errno: 104), at: max(now + latency(), link.lastToA))
        } else if let b = link.b {
            schedule(.closed(b, errno: 104), at: max(now + latency(), link.lastToB))
        }
    }

    /// Neither end gets what is under way to it, and both are told.
    private func reset(_ handle: SlotHandle) {
        guard
            let link = links.update(
                handle,
                { link -> Link in
                    link.isReset = true
                    return link
                })
        else { return }
        if let a = link.a { schedule(.closed(a, errno: 104), at: now + latency()) }
        if let b = link.b { schedule(.closed(b, errno: 104), at: now + latency()) }
    }

    /// Takes an end off its link. Nil where it is off already.
    private func leave(_ end: End) -> SlotHandle? {
        guard let handle = nodes[end.node].links.removeValue(forKey: end.key) else { return nil }
        let isEmpty = links.update(handle) {
            if $0.a?.node == end.node, $0.a?.key == end.key { $0.a = nil } else { $0.b = nil }
            return $0.a == nil && $0.b == nil
        }
        if isEmpty == true { links.remove(handle) }
        return handle
    }
}
