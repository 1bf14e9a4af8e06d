import EventLoop
import LNetCore
import Primitives
import TCPTransport
import VerbsTransport
import WireFormat

@testable import NodeRuntime

/// Two LNets without anything above them, as a reactor drives them.
struct RawNodes: ~Copyable, NodeSet {
    var nodes: [LNetCore]
    var events: [[BedEvent]]
    var options: VerbsTransport.Options
    /// Turns until the loop stops.
    var turnsLeft = Int.max
    var giveUpAt = Ticks.distantFuture
    let loop: EventLoop

    var nodeCount: Int { nodes.count }
    var verbsOptions: VerbsTransport.Options { options }
    subscript(lnet node: Int) -> LNetCore {
        get { nodes[node] }
        _modify { yield &nodes[node] }
    }
    var wish: ReactorWish { .run }
    var nextAttendance: Ticks { turnsLeft < Int.max ? .zero : giveUpAt }

    mutating func attend(_ moment: Moment, _ dirty: inout DirtyNodes) {}

    mutating func step(_ node: Int, _ moment: Moment, _ dirty: inout DirtyNodes) {
        nodes[node].tick(moment.now)
        while let event = nodes[node].events.popFirst() {
            if let told = BedEvent(event, nodes[node]) { events[node].append(told) }
        }
    }

    mutating func conclude(_ moment: Moment, isFlushed: Bool) {
        if turnsLeft < Int.max { turnsLeft -= 1 }
        if turnsLeft <= 0 || moment.now >= giveUpAt { loop.stop() }
    }

    func nextDeadline(_ node: Int) -> Ticks? { nodes[node].nextDeadline }
    func hasEvents(_ node: Int) -> Bool { !nodes[node].events.isEmpty }
}

/// Two nodes on one event loop: over TCP, or over the RDMA devices of two addresses.
final class LoopBed: Bed {
    let name: String
    let nids: [NID]
    let isRDMA: Bool
    private let loop: EventLoop
    private var reactor: Reactor<RawNodes>
    private let configure: (inout LNetConfiguration) -> Void
    private var life: UInt64 = 0

    init(
        _ nids: [NID], name: String, memoryBytes: Int = 16 << 20,
        configure: @escaping (inout LNetConfiguration) -> Void = { _ in }
    ) throws {
        self.nids = nids
        self.name = name
        self.configure = configure
        isRDMA = nids[0].type == .o2ib
        loop = try EventLoop()
        var options = VerbsTransport.Options()
        options.bulkBytes = memoryBytes
        let nodes = nids.map { Self.make($0, nids, 0, configure) }
        reactor = try Reactor(
            RawNodes(nodes: nodes, events: [[], []], options: options, loop: loop), on: loop)
        for node in nids.indices { try reactor.listen(node) }
    }

    private static func make(
        _ nid: NID, _ nids: [NID], _ life: UInt64,
        _ configure: (inout LNetConfiguration) -> Void
    ) -> LNetCore {
        var configuration = LNetConfiguration(
            nid: nid, incarnation: Host.realtimeNanoseconds + life, acceptPort: 10_989,
            privilegedPorts: false, seed: nid.rawValue ^ life)
        configuration.reconnectMin = .milliseconds(5)
        configuration.reconnectMax = .milliseconds(100)
        configure(&configuration)
        return LNetCore(configuration)
    }

    var events: [[BedEvent]] {
        get { reactor.core.nodes.events }
        set { reactor.core.nodes.events = newValue }
    }

    func with<R>(_ node: Int, _ body: (inout LNetCore, Ticks) -> R) -> R {
        reactor.core.dirty.mark(node)
        return body(&reactor.core.nodes.nodes[node], Host.monotonicNow)
    }

    func run(_ isDone: () -> Bool) -> Bool {
        let giveUpAt = Host.monotonicNow + .seconds(120)
        while !isDone() {
            guard Host.monotonicNow < giveUpAt else { return false }
            reactor.core.nodes.giveUpAt = Host.monotonicNow + .milliseconds(50)
            reactor.core.nodes.turnsLeft = 16
            turn()
        }
        return true
    }

    private func turn() {
        do { try loop.run(&reactor) } catch { preconditionFailure("\(error)") }
    }

    func step(_ count: Int) {
        guard count > 0 else { return }
        reactor.core.nodes.turnsLeft = count
        reactor.core.nodes.giveUpAt = Host.monotonicNow + .seconds(5)
        turn()
    }

    func breakConnections() { reactor.breakConnections() }

    func restart(_ node: Int) {
        life += 1
        for handle in reactor.core.wiring.links.handles {
            guard let link = reactor.core.wiring.links[handle], link.node == node else { continue }
            reactor.transport.abort(link.connection)
            reactor.core.wiring.remove(handle)
        }
        for handle in reactor.core.rdma.links.handles {
            guard let link = reactor.core.rdma.links[handle], link.node == node else { continue }
            reactor.verbs?.close(link.connection)
            reactor.core.rdma.remove(handle)
        }
        // What it held of the memory it shares with the other node goes back with its queue pairs.
        while let slot = reactor.core.nodes.nodes[node].abandonMemory() {
            reactor.verbs?.release(slot)
        }
        for handle in reactor.core.reservations.handles
        where reactor.core.reservations[handle]?.node == node {
            reactor.core.reservations.remove(handle)
        }
        reactor.core.nodes.nodes[node] = Self.make(nids[node], nids, life, configure)
        reactor.core.nodes.events[node].removeAll()
        reactor.core.dirty.mark(node)
    }

    func reserve(_ node: Int, _ byteCount: Int) -> BulkSlot? {
        reactor.verbs?.reserve(byteCount, isSource: false, request: 0)
    }

    func release(_ node: Int, _ slot: BulkSlot) { reactor.verbs?.release(slot) }

    func fill(_ node: Int, _ slot: BulkSlot, _ bytes: [UInt8]) {
        RawSpan.over(bytes) { reactor.verbs?.fill(slot, from: $0) }
    }

    func read(_ node: Int, _ slot: BulkSlot, _ byteCount: Int) -> [UInt8] {
        reactor.verbs?.withSlot(slot, byteCount: byteCount) { $0.copy(0..<$0.byteCount) } ?? []
    }

    var heldConnections: Int {
        let core = (reactor.core.listeners.count, reactor.core.verbsListeners.count)
        return reactor.transport.socketCount - core.0 + (reactor.verbs?.pairCount ?? core.1)
            - core.1
    }

    var freeMemory: Int { reactor.verbs?.bulkBytesFree ?? 0 }
}
