import Primitives
public import WireFormat

/// One of the node's interfaces as an operator sees it: `lnetctl net show`.
public struct LNetInterfaceReport: Sendable {
    public var nid: NID
    public var isUp: Bool
    public var traffic: LNetTraffic
    /// `credits`: all, and those that are free now.
    public var creditsMax: Int
    public var credits: Int
}

/// One peer interface as an operator sees it: `lnetctl peer show`.
public struct LNetPeerReport: Sendable {
    public var process: ProcessID
    public var isUp: Bool
    public var creditsMax: Int
    /// Negative: so many messages wait, as lnetctl shows it.
    public var credits: Int
    public var creditsMin: Int
    /// Messages that wait for a credit or a connection.
    public var waitingCount: Int
    public var connectionCount: Int
    public var traffic: LNetTraffic
}

extension LNetCore {
    /// The node's interfaces in the order of the configuration. Walks them: for operators.
    public var interfaceReports: [LNetInterfaceReport] {
        interfaces.map {
            LNetInterfaceReport(
                nid: $0.nid, isUp: true, traffic: $0.traffic, creditsMax: configuration.credits,
                credits: $0.credits)
        }
    }

    /// All peers but the node itself, by NID. Walks them: for operators.
    public var peerReports: [LNetPeerReport] {
        peers.handles.compactMap { peers[$0] }.filter { !$0.isSelf }
            .map { peer in
                let open = [peer.open.control, peer.open.bulkIn, peer.open.bulkOut]
                return LNetPeerReport(
                    process: peer.process, isUp: !peer.open.isEmpty,
                    creditsMax: configuration.peerCredits,
                    credits: peer.credits - peer.waiting.count, creditsMin: peer.creditsMin,
                    waitingCount: peer.waiting.count,
                    connectionCount: open.filter { $0 != 0 }.count,
                    traffic: peer.traffic)
            }
            .sorted { ($0.process.nid, $0.process.pid) < ($1.process.nid, $1.process.pid) }
    }
}
