import Primitives
import WireFormat

/// Where a message goes: the connection's peer, and what its header says.
struct Way: Sendable, BitwiseCopyable {
    /// The peer that it is handed to: the target itself, or a gateway.
    var path: SlotHandle
    var destination: ProcessID
    var source: NID
}

/// Which interfaces a message takes (`lnet_select_pathway`).
extension LNetCore {
    /// The way to a peer; nil where none leads there. Without anything to choose it is the peer
    /// itself, found in constant time.
    mutating func way(to peer: SlotHandle, avoiding: SlotHandle? = nil) -> Way? {
        var process = ProcessID.any
        var interface = -1
        var selects = false
        var isSelf = false
        var node: SlotHandle?
        let isKnown: Void? = peers.update(peer) {
            process = $0.process
            interface = $0.interface
            selects = $0.selects
            isSelf = $0.isSelf
            node = $0.node
        }
        guard isKnown != nil else { return nil }
        if isSelf {
            return Way(path: peer, destination: process, source: interfaces[0].nid)
        }
        if !selects, interface >= 0, avoiding == nil {
            return Way(path: peer, destination: process, source: interfaces[interface].nid)
        }
        if let node {
            if let way = direct(node, process.pid, avoiding: avoiding) { return way }
        } else if interface >= 0, avoiding != peer, interfaces[interface].isUsable {
            return Way(path: peer, destination: process, source: interfaces[interface].nid)
        }
        return routed(process, node, avoiding: avoiding)
    }

    /// The best pair of interfaces on a common network.
    ///
    /// Ours: higher health, more free credits, longest not used. The peer's: up, higher health,
    /// more free credits, longest not used.
    private mutating func direct(
        _ node: SlotHandle, _ pid: UInt32, avoiding: SlotHandle?
    ) -> Way? {
        guard let known = nodes[node] else { return nil }
        let isMultiRail = known.state.contains(.multiRail)
        var best: (own: Int, theirs: Int)?
        for own in interfaces.indices where interfaces[own].isUsable {
            for theirs in known.interfaces.indices
            where known.interfaces[theirs].nid.network == interfaces[own].nid.network {
                if let avoiding, isPath(avoiding, own, known.interfaces[theirs].nid, pid) {
                    continue
                }
                guard let current = best else {
                    best = (own, theirs)
                    continue
                }
                if current.own != own {
                    if isBetter(own, than: current.own, towards: known) { best = (own, theirs) }
                } else if isBetter(
                    known.interfaces[theirs], than: known.interfaces[current.theirs], on: own)
                {
                    best = (own, theirs)
                }
            }
            if !isMultiRail, best != nil { break }
        }
        guard let best else { return nil }
        interfaces[best.own].sequence &+= 1
        nodes.update(node) { $0.interfaces[best.theirs].sequence &+= 1 }
        let process = ProcessID(nid: known.interfaces[best.theirs].nid, pid: pid)
        return Way(
            path: peerSlot(process, on: best.own), destination: process,
            source: interfaces[best.own].nid)
    }

    private mutating func isPath(
        _ path: SlotHandle, _ own: Int, _ nid: NID, _ pid: UInt32
    ) -> Bool {
        peers.update(path) { $0.interface == own && $0.process.nid == nid } ?? false
    }

    private mutating func isBetter(_ a: Int, than b: Int, towards node: PeerNode) -> Bool {
        let (x, y) = (interfaces[a], interfaces[b])
        if x.health.value != y.health.value { return x.health.value > y.health.value }
        let (ours, theirs) = (
            x.credits - waiting(for: node, on: a), y.credits - waiting(for: node, on: b)
        )
        if ours != theirs { return ours > theirs }
        return Int32(bitPattern: x.sequence &- y.sequence) < 0
    }

    /// Messages for a node that wait on one of our interfaces. They have no credit of it yet, but are
    /// load all the same: an interface whose connections are still being made must not seem idle.
    private mutating func waiting(for node: PeerNode, on own: Int) -> Int {
        var count = 0
        for interface in node.interfaces {
            guard let path = peers.find(ProcessID(nid: interface.nid), on: own) else { continue }
            count += peers.update(path) { $0.waiting.count } ?? 0
        }
        return count
    }

    private mutating func isBetter(
        _ a: PeerInterface, than b: PeerInterface, on own: Int
    ) -> Bool {
        if a.isUp != b.isUp { return a.isUp }
        if a.health.value != b.health.value { return a.health.value > b.health.value }
        let (ours, theirs) = (freeCredits(a.nid, own), freeCredits(b.nid, own))
        if ours != theirs { return ours > theirs }
        return Int32(bitPattern: a.sequence &- b.sequence) < 0
    }

    private mutating func freeCredits(_ nid: NID, _ own: Int) -> Int {
        guard let path = peers.find(ProcessID(nid: nid), on: own) else {
            return configuration.peerCredits
        }
        return peers.update(path) { $0.credits - $0.waiting.count } ?? 0
    }

    // MARK: Through gateways

    /// The way to a remote network.
    ///
    /// Routes that are alive: lower priority, fewer hops; then the gateway whose interface has
    /// higher health, fewer messages waiting, more credits; then in turns.
    private mutating func routed(
        _ process: ProcessID, _ node: SlotHandle?, avoiding: SlotHandle?
    ) -> Way? {
        guard !routes.isEmpty else { return nil }
        var targets = [process.nid]
        if let node, let known = nodes[node], known.state.contains(.multiRail) {
            targets += known.interfaces.map(\.nid).filter { $0 != process.nid }
        }
        for target in targets {
            guard let way = routed(to: target, process.pid, avoiding: avoiding) else { continue }
            return way
        }
        return nil
    }

    private mutating func routed(to target: NID, _ pid: UInt32, avoiding: SlotHandle?) -> Way? {
        var best: Int?
        var bestWay: Way?
        for index in routes.indices where routes[index].route.network == target.net {
            // What goes to a large NID goes by protocol 4, which is spoken over IPv6.
            guard !target.isLarge || routes[index].route.gateway.isLarge else { continue }
            guard isAlive(routes[index].route), let way = wayToGateway(routes[index].route.gateway),
                way.path != avoiding
            else { continue }
            if let current = best, let currentWay = bestWay {
                let (a, b) = (routes[index], routes[current])
                if a.route.priority != b.route.priority {
                    guard a.route.priority < b.route.priority else { continue }
                } else if (a.route.hops ?? 1) != (b.route.hops ?? 1) {
                    guard (a.route.hops ?? 1) < (b.route.hops ?? 1) else { continue }
                } else {
                    let (x, y) = (load(way.path), load(currentWay.path))
                    if x != y {
                        guard x < y else { continue }
                    } else if Int32(bitPattern: a.sequence &- b.sequence) >= 0 {
                        continue
                    }
                }
            }
            best = index
            bestWay = way
        }
        guard let best, var way = bestWay else { return nil }
        routes[best].sequence &+= 1
        way.destination = ProcessID(nid: target, pid: pid)
        return way
    }

    /// Unhealth first, then what waits, then what is under way: smaller is better.
    private mutating func load(_ path: SlotHandle) -> (Int, Int, Int) {
        let (nid, waiting, credits) =
            peers.update(path) { ($0.process.nid, $0.waiting.count, $0.credits) } ?? (.any, 0, 0)
        var unhealth = 0
        if let node = node(of: nid), let known = nodes[node], let place = known.index(of: nid) {
            unhealth = Health.max - known.interfaces[place].health.value
        }
        return (unhealth, waiting, -credits)
    }

    mutating func wayToGateway(_ gateway: NID) -> Way? {
        if let node = node(of: gateway), nodes[node]?.state.contains(.multiRail) == true {
            return direct(node, ProcessID.lustrePID, avoiding: nil)
        }
        guard
            let own = interfaces.firstIndex(where: {
                $0.isUsable && $0.nid.network == gateway.network
            })
        else { return nil }
        let process = ProcessID(nid: gateway)
        return Way(
            path: peerSlot(process, on: own), destination: process, source: interfaces[own].nid)
    }
}
