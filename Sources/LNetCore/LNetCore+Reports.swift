import Primitives
public import WireFormat

/// One of the node's interfaces as an operator sees it: `lnetctl net show`.
public struct LNetInterfaceReport: Sendable {
    public var nid: NID
    public var isUp: Bool
    /// 0 to 1000.
    public var health: Int
    public var traffic: LNetTraffic
    /// `credits`: all, and those that are free now.
    public var creditsMax: Int
    public var credits: Int
}

/// One peer interface as an operator sees it: `lnetctl peer show`.
public struct LNetPeerReport: Sendable {
    public var process: ProcessID
    /// A connection is open, or the node says that the interface is up.
    public var isUp: Bool
    /// 0 to 1000.
    public var health: Int
    public var creditsMax: Int
    /// Negative: so many messages wait, as lnetctl shows it.
    public var credits: Int
    public var creditsMin: Int
    /// Messages that wait for a credit or a connection.
    public var waitingCount: Int
    public var connectionCount: Int
    /// Messages of it that a router may hold yet.
    public var routerCredits: Int
    public var routerCreditsMin: Int
    public var traffic: LNetTraffic

    /// The same NID as seen from another of our interfaces, counted together.
    public func joined(_ other: LNetPeerReport) -> LNetPeerReport {
        var sum = self
        sum.isUp = isUp || other.isUp
        sum.credits += other.credits
        sum.creditsMax += other.creditsMax
        sum.creditsMin = min(creditsMin, other.creditsMin)
        sum.waitingCount += other.waitingCount
        sum.connectionCount += other.connectionCount
        sum.routerCredits += other.routerCredits
        sum.routerCreditsMin = min(routerCreditsMin, other.routerCreditsMin)
        sum.traffic.add(other.traffic)
        return sum
    }
}

/// A remote node of which more is known than one NID.
public struct LNetNodeReport: Sendable {
    public var primary: NID
    public var nids: [NID]
    /// Of each of the NIDs, 0 to 1000.
    public var healths: [Int]
    public var state: PeerState
}

extension LNetCore {
    /// The node's interfaces in the order of the configuration. Walks them: for operators.
    public var interfaceReports: [LNetInterfaceReport] {
        interfaces.filter(\.isUsable).map {
            LNetInterfaceReport(
                nid: $0.nid, isUp: $0.isUp, health: $0.health.value, traffic: $0.traffic,
                creditsMax: configuration.credits,
                credits: $0.credits)
        }
    }

    /// Remote nodes that were discovered or told of, by primary NID. Walks them: for operators.
    public var knownPeers: [LNetNodeReport] {
        nodes.handles.compactMap { nodes[$0] }
            .map {
                LNetNodeReport(
                    primary: $0.primary, nids: $0.interfaces.map(\.nid),
                    healths: $0.interfaces.map(\.health.value), state: $0.state)
            }
            .sorted { $0.primary < $1.primary }
    }

    /// Begins all counting anew (`stats reset`).
    public mutating func resetCounters() {
        counters = LNetCounters()
        for index in interfaces.indices { interfaces[index].traffic = LNetTraffic() }
        for handle in peers.handles { peers.update(handle) { $0.traffic = LNetTraffic() } }
    }

    /// All peers but the node itself, by NID. Walks them: for operators.
    public var peerReports: [LNetPeerReport] {
        peers.handles.compactMap { peers[$0] }.filter { !$0.isSelf }
            .map { peer in
                let known = peer.node.flatMap { nodes[$0] }
                let interface = known.flatMap { node in
                    node.index(of: peer.process.nid).map { node.interfaces[$0] }
                }
                let open = [peer.open.control, peer.open.bulkIn, peer.open.bulkOut]
                return LNetPeerReport(
                    process: peer.process, isUp: interface?.isUp ?? !peer.open.isEmpty,
                    health: interface?.health.value ?? Health.max,
                    creditsMax: configuration.peerCredits,
                    credits: peer.credits - peer.waiting.count, creditsMin: peer.creditsMin,
                    waitingCount: peer.waiting.count,
                    connectionCount: open.filter { $0 != 0 }.count,
                    routerCredits: peer.routerCredits, routerCreditsMin: peer.routerCreditsMin,
                    traffic: peer.traffic)
            }
            .sorted { ($0.process.nid, $0.process.pid) < ($1.process.nid, $1.process.pid) }
    }
}
