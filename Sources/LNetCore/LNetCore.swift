import LNDCore
public import Primitives
public import WireFormat

/// One node's LNet: match entries, messages, credits, peers and their connections. A value.
///
/// The shell passes bytes and time in and carries `actions` out. The user attaches entries, sends,
/// and takes `events`. Interfaces over TCP and RDMA; see the article for what a message costs.
public struct LNetCore: Sendable {
    public internal(set) var configuration: LNetConfiguration
    public internal(set) var counters = LNetCounters()
    /// For the shell; take them after every call.
    public var actions = Outbox<LNetAction>()
    /// For the user; take them after every call.
    public var events = Outbox<LNetEvent>()

    let interfaceCookie: UInt64
    var now = Ticks.zero
    var matches = MatchTable()
    /// Buffers of match entries and sinks.
    var buffers = SlotTable<[UInt8]>()
    var pendings = SlotTable<Pending>()
    var peers = PeerTable()
    var links = SlotTable<Link>()
    var o2ibLinks = SlotTable<O2IBLink>()
    var bulks = SlotTable<O2IBBulk>()
    /// The node's own, in the order of the configuration.
    var interfaces: [NetworkInterface]
    var arena: [UInt8] = []
    var lazy: [LazyMessage] = []
    var lazyBytes = 0
    var loopback = Outbox<WaitingMessage>()
    /// Output buffers that no connection uses now.
    var spares: [[UInt8]] = []
    var spareBytes = 0
    var timers = TimerQueue<TimerKey>()
    var nextSweep: Ticks?
    var nextPingID: UInt64 = 1
    /// Remote nodes whose NIDs are known, and which node has a NID: looked up, never walked.
    var nodes = SlotTable<PeerNode>()
    var nodeIndex: [NID: SlotHandle] = [:]
    var routes: [RouteEntry] = []
    var faults: [LNetFaultRule] = []
    var heldMessages = SlotTable<HeldMessage>()
    /// Some interface, ours or a peer's, is not well.
    var hasUnwell = false
    /// The number of what we tell of ourselves; grows with every change.
    var infoSequence: UInt32 = 1
    var pools: RouterPools
    /// Connections that are not read because buffers are missing, in order.
    var stalled = Outbox<SlotHandle>()
    /// Remote peers that were idle while events lay there that may name them.
    var idleRemotes: [SlotHandle] = []
    /// Small messages that a router holds beyond its buffers.
    var routedInExcess = 0
    /// What a lost connection had not sent, until it is decided what becomes of it.
    var salvaged: [WaitingMessage] = []

    enum TimerKey: Sendable {
        case handshake(link: SlotHandle)
        case o2ibHandshake(link: SlotHandle)
        case retry(peer: SlotHandle)
        case ping(pending: SlotHandle)
        case discovery(node: SlotHandle)
        case recoverPeer(NID)
        case recoverInterface(Int)
        case checkGateway(node: SlotHandle)
        case watchInterfaces
        case held(message: SlotHandle)
    }

    public init(_ configuration: LNetConfiguration) {
        interfaces = ([configuration.nid] + configuration.otherNIDs).map {
            NetworkInterface(nid: $0, credits: configuration.credits)
        }
        precondition(
            interfaces.allSatisfy { $0.nid.type == .tcp || $0.nid.type == .o2ib },
            "interfaces are TCP or RDMA ones")
        precondition(
            Set(interfaces.map(\.nid)).count == interfaces.count, "each interface has its NID")
        pools = RouterPools(
            tiny: configuration.tinyBuffers, small: configuration.smallBuffers,
            large: configuration.largeBuffers)
        precondition(
            (1...65535).contains(configuration.peerCredits) && configuration.credits > 0,
            "credits are positive")
        self.configuration = configuration
        var random = SplitMix64(seed: configuration.seed ^ configuration.incarnation)
        interfaceCookie = random.next()
        if configuration.routing { startRouting() }
        for route in configuration.routes {
            let errno = addRoute(route, now: .zero)
            precondition(errno == 0, "routes lead through gateways on our networks")
        }
    }

    public var nid: NID { configuration.nid }
    public var peerCount: Int { peers.count }
    public var connectionCount: Int { links.count + o2ibLinks.count }
    /// All of the node's NIDs; the first is the one it is named by.
    public var nids: [NID] { interfaces.filter(\.isUsable).map(\.nid) }
    /// The NID of an interface by its number, as `.listen` names it.
    public func nid(ofInterface index: Int) -> NID { interfaces[index].nid }
    /// Bulk payloads under way over RDMA.
    public var bulkCount: Int { bulks.count }
    public var attachedCount: Int { matches.count }
    /// PUTs and GETs whose ACK or REPLY is awaited.
    public var pendingCount: Int { pendings.count }

    // MARK: Match entries

    /// Attaches an entry behind those of its portal. Portal 0 is LNet's own.
    ///
    /// An incoming PUT or GET matches when its source is covered by `process` and its match bits
    /// equal `matchBits` in every bit that `ignoreBits` leaves.
    public mutating func attach(
        portal: UInt32, process: ProcessID = .any, matchBits: UInt64, ignoreBits: UInt64 = 0,
        _ md: MemoryDescriptor, cookie: UInt64, unlinkWhenExhausted: Bool = true
    ) -> MEHandle {
        precondition((1..<MatchTable.portalCount).contains(portal), "portals are 1 to 63")
        precondition(md.threshold.map { $0 > 0 } ?? true, "a threshold is positive")
        var length = 0
        var buffer: SlotHandle?
        var slot: BulkSlot?
        switch md.memory {
        case .events(let lengthMax):
            precondition(!md.options.contains(.get), "a GET is served from a buffer")
            length = lengthMax
        case .buffer(let bytes):
            length = bytes.count
            buffer = buffers.insert(bytes)
        case .registered(let memory):
            length = Int(memory.byteCount)
            slot = memory
        }
        let handle = matches.attach(
            MatchEntry(
                portal: portal, process: process, matchBits: matchBits, ignoreBits: ignoreBits,
                options: md.options, threshold: md.threshold ?? -1,
                unlinkWhenExhausted: unlinkWhenExhausted, length: length, buffer: buffer,
                slot: slot, cookie: cookie))
        if !lazy.isEmpty { deliverLazy(portal, to: handle) }
        return MEHandle(handle)
    }

    /// Detaches the entry and forgets it with its buffer. False if it is gone already.
    @discardableResult
    public mutating func unlink(_ handle: MEHandle) -> Bool {
        guard let entry = matches[handle.slot] else { return false }
        matches.remove(handle.slot)
        if let buffer = entry.buffer { buffers.remove(buffer) }
        return true
    }

    /// Detaches the entry and hands its buffer back. Nil if it has none or is gone.
    public mutating func takeBuffer(_ handle: MEHandle) -> [UInt8]? {
        guard let entry = matches[handle.slot], let buffer = entry.buffer else { return nil }
        matches.remove(handle.slot)
        return buffers.remove(buffer)
    }

    /// Hands the sink of a GET back, after its reply or failure or before: then a late reply is
    /// dropped and no event follows. Nil if there is none.
    public mutating func takeBuffer(_ handle: GetHandle) -> [UInt8]? {
        guard let pending = pendings[handle.slot], let buffer = pending.buffer else { return nil }
        pendings.remove(handle.slot)
        return buffers.remove(buffer)
    }

    /// On a lazy portal a PUT without a match waits for an entry (`LNetSetLazyPortal`).
    public mutating func setLazy(portal: UInt32, _ isLazy: Bool) {
        precondition((1..<MatchTable.portalCount).contains(portal), "portals are 1 to 63")
        matches.setLazy(portal, isLazy)
    }

    // MARK: Peers

    /// The peer for a NID, which stays until `release`. No connection is made yet.
    public mutating func peer(for nid: NID) -> PeerRef {
        let slot = peerSlot(ProcessID(nid: nid))
        peers.update(slot) { $0.isPinned = true }
        return PeerRef(slot)
    }

    /// Lets the peer go once nothing is under way with it.
    public mutating func release(_ peer: PeerRef) {
        peers.update(peer.slot) { $0.isPinned = false }
        removeIfIdle(peer.slot)
    }

    public func nid(of peer: PeerRef) -> NID? { peers[peer.slot]?.process.nid }

    /// Whether a connection to the peer is open.
    public func isConnected(_ peer: PeerRef) -> Bool {
        peers[peer.slot]?.open.isEmpty == false
    }

    // MARK: Reading events

    /// The bytes of an event's payload range.
    public func withPayload<R, E: Error>(
        _ range: Range<Int>, _ body: (RawSpan) throws(E) -> R
    ) throws(E) -> R {
        let span = arena.span
        // SAFETY: UInt8 has no padding; the span borrows the arena for the call.
        return try unsafe body(span.bytes.extracting(range))
    }

    /// The parsed answer to a ping; nil if it failed.
    public func pingInfo(_ ping: LNetEvent.Ping) -> PingInfo? {
        guard ping.errno == 0 else { return nil }
        return withPayload(ping.payload) { bytes in try? PingInfo(parsing: bytes) }
    }

    /// A new round begins: once all events were taken their payloads are void.
    mutating func beginRound(_ now: Ticks) {
        if now > self.now { self.now = now }
        guard events.isEmpty else { return }
        if !arena.isEmpty {
            arena.removeAll(keepingCapacity: arena.capacity <= configuration.arenaBytesKept)
        }
        if !idleRemotes.isEmpty { removeIdleRemotes() }
    }
}

extension LNetCore {
    /// Bytes of the tables that grow with peers and connections, with the room that they keep for
    /// more: what idle peers cost beside their sockets. For tests and benchmarks; constant time.
    public func measureTableBytes() -> Int {
        peers.heldBytes + links.heldBytes + o2ibLinks.heldBytes + timers.heldBytes
    }

    /// Bytes of memory behind buffers, queues and connections that messages fill: for tests and
    /// for the statistics of a node. Walks everything: not for the message path.
    public mutating func measureHeldBytes() -> Int {
        var total = arena.capacity + lazyBytes
        for buffer in spares { total += buffer.capacity }
        for index in 0..<buffers.slotCount {
            guard let handle = buffers.handle(at: index) else { continue }
            total += buffers.update(handle) { $0.capacity } ?? 0
        }
        for index in 0..<links.slotCount {
            guard let handle = links.handle(at: index) else { continue }
            total +=
                links.update(handle) {
                    $0.assembly.capacity + $0.conversation.output.byteCount
                } ?? 0
        }
        for index in 0..<o2ibLinks.slotCount {
            guard let handle = o2ibLinks.handle(at: index) else { continue }
            total += o2ibLinks.update(handle) { $0.conversation.heldBytes } ?? 0
        }
        return total
    }
}
