public import Primitives

/// How a part of the network fails.
public enum PartitionStyle: Sendable, CaseIterable {
    /// What is sent is gone, connects and closes too, and nobody is told: time-outs decide.
    case silent
    /// TCP holds what is sent and delivers it when the way is free again.
    case held
}

/// Connections, and what is wrong with the ways between nodes.
struct SimulatedNetwork {
    struct Link {
        /// Who connected; nil once it has closed or was told of the close.
        var a: NodeEnd?
        /// Who accepted; nil before, and as above.
        var b: NodeEnd?
        /// Nodes of the two ends, also when those are gone.
        var nodeA: Int
        var nodeB: Int
        var isReset = false
        /// Bytes towards an end never overtake each other.
        var lastToA = Ticks.zero
        var lastToB = Ticks.zero
    }

    /// A way from one node to another.
    struct Way: Hashable {
        var from: Int
        var to: Int
    }

    var links = SlotTable<Link>()
    var rules: [MessageRule] = []
    var nextRule = 0
    /// Never iterated.
    var blocked: [Way: PartitionStyle] = [:]
    var clogs: [Way: Ticks] = [:]
    /// What waits for a way to be free, in order.
    var held: [(way: Way, happening: SimulatedCluster.Happening)] = []

    func style(_ from: Int, _ to: Int) -> PartitionStyle? {
        blocked.isEmpty ? nil : blocked[Way(from: from, to: to)]
    }
}

extension SimulatedCluster {
    /// Nothing gets from nodes of `sources` to nodes of `destinations` any more, nor back unless
    /// `isOneWay`, until `heal`. Nodes within either group still reach each other.
    public func partition(
        _ sources: [Int], from destinations: [Int], isOneWay: Bool = false,
        _ style: PartitionStyle = .silent
    ) {
        for source in sources {
            for destination in destinations where source != destination {
                network.blocked[SimulatedNetwork.Way(from: source, to: destination)] = style
                if !isOneWay {
                    network.blocked[SimulatedNetwork.Way(from: destination, to: source)] = style
                }
            }
        }
    }

    /// Cuts a node off from all that are there now.
    public func isolate(_ node: Int, isOneWay: Bool = false, _ style: PartitionStyle = .silent) {
        partition(
            [node], from: nodes.indices.filter { $0 != node }, isOneWay: isOneWay, style)
    }

    /// Every way is free again. What was held arrives, in order; what was swallowed does not.
    public func heal() {
        network.blocked = [:]
        network.clogs = [:]
        let held = network.held
        network.held = []
        for item in held { schedule(item.happening, at: now + latency()) }
    }

    /// Frees the ways between a node and all others.
    public func heal(_ node: Int) {
        for other in nodes.indices {
            network.blocked[SimulatedNetwork.Way(from: node, to: other)] = nil
            network.blocked[SimulatedNetwork.Way(from: other, to: node)] = nil
        }
        let held = network.held
        network.held = held.filter { $0.way.from != node && $0.way.to != node }
        for item in held where item.way.from == node || item.way.to == node {
            schedule(item.happening, at: now + latency())
        }
    }

    /// What goes from one node to another arrives only at `end`, in order.
    public func clog(from: Int, to: Int, until end: Ticks) {
        network.clogs[SimulatedNetwork.Way(from: from, to: to)] = end
    }
}
