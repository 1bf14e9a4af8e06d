import LNetCore
import Primitives
import WireFormat

/// `peer`, `ping` and `discover`.
extension ControlRouter {
    mutating func addPeerVerbs(_ network: NetworkAccess) {
        on("peer", "show") { request in
            var peers = try Self.peers(network, verbose: request.arguments["verbose"] != nil)
            if let text = request.arguments["nid"] {
                let nid = "\(try Self.nid(text))"
                peers = peers.filter { peer in
                    peer.primary == nid || peer.interfaces?.contains { $0.nid == nid } == true
                }
                guard !peers.isEmpty else {
                    throw ControlError("\(nid) is no peer of this node", errno: 2)
                }
            }
            return try NetworkDocument(peer: peers).text()
        }
        on("peer", "list") { _ in
            let peers = try Self.peers(network, verbose: false).map {
                PeerReport(primary: $0.primary)
            }
            return try NetworkDocument(peer: peers).text()
        }
        on("peer", "add") { request in
            let primary = try Self.nid(request.required("prim_nid"))
            let nids = try request.arguments["nid"].map { try Self.nids($0) } ?? []
            let isMultiRail = request.arguments["non_mr"] == nil
            let locks = request.arguments["lock_prim"] != nil
            try Self.addPeer(
                network, primary, nids, isMultiRail: isMultiRail, locksPrimary: locks)
            return ""
        }
        on("peer", "del") { request in
            let primary = try Self.nid(request.required("prim_nid"))
            let nids = try request.arguments["nid"].map { try Self.nids($0) } ?? []
            let errno = try network.change { $0.deletePeer(primary: primary, nids: nids, now: $1) }
            try Self.check(errno, "peer del", primary) {
                switch $0 {
                case 2: "\(primary) is no peer with such NIDs"
                case 16: "\(primary) is the gateway of a route: delete the route first"
                case 22: "\(primary) is a peer's NID, but not its primary one"
                default: nil
                }
            }
            return ""
        }
        on("peer", "set") { request in
            let nid = try request.arguments["nid"].map { try Self.nid($0) }
            guard nid != nil || request.arguments["all"] != nil else {
                throw ControlError("peer set needs --nid NID or --all", errno: 22)
            }
            guard let health = try request.number("health", in: 0...Health.maximum) else {
                throw ControlError("peer set needs --health", errno: 22)
            }
            let errno = try network.change { $0.setPeerHealth(nid, health, now: $1) }
            try Self.check(errno, "peer set", nid ?? .any) { _ in
                "\(nid.map { "\($0)" } ?? "nobody") is no peer whose NIDs are known: discover it"
            }
            return ""
        }
        on("net", "ping") { request in
            let nids = try Self.nids(request.required("nid"))
            let timeout = try request.number("timeout", in: 1...180_000) ?? 5_000
            var pings: [PingReport] = []
            for nid in nids {
                do throws(PingFailure) {
                    let answer = try network.ping(nid, timeout: .milliseconds(UInt64(timeout)))
                    pings.append(PingReport(nid, answer.info))
                } catch {
                    throw ControlError("failed to ping \(error)", errno: error.errno)
                }
            }
            return try NetworkDocument(ping: pings).text()
        }
        on("net", "discover") { request in
            let nids = try Self.nids(request.required("nid"))
            let timeout = try request.number("timeout", in: 1...180_000) ?? 5_000
            let force = request.arguments["force"] != nil
            var found: [PingReport] = []
            for nid in nids {
                do throws(PingFailure) {
                    try network.discover(
                        nid, force: force, timeout: .milliseconds(UInt64(timeout)))
                } catch {
                    throw ControlError("failed to discover \(error)", errno: error.errno)
                }
                let known = try network.with { lnet, _ in
                    lnet.peerInfo(nid).map { ($0.primary, $0.nids, $0.state) }
                }
                guard let known else {
                    throw ControlError("\(nid) was forgotten meanwhile", errno: 2)
                }
                found.append(
                    PingReport(
                        primary: known.0, isMultiRail: known.2.contains(.multiRail),
                        nids: known.1))
            }
            return try NetworkDocument(discover: found).text()
        }
    }

    static func addPeer(
        _ network: NetworkAccess, _ primary: NID, _ nids: [NID], isMultiRail: Bool,
        locksPrimary: Bool
    ) throws(ControlError) {
        let errno = try network.change {
            $0.addPeer(
                primary: primary, nids: nids, isMultiRail: isMultiRail,
                locksPrimary: locksPrimary, now: $1)
        }
        try check(errno, "peer add", primary) {
            switch $0 {
            case 17: "\(primary), or one of its NIDs, belongs to another peer already"
            case 22:
                isMultiRail
                    ? "\(primary) and its NIDs must be others than this node's own"
                    : "a peer with --non_mr has one NID only"
            default: nil
            }
        }
    }

    /// All peers: nodes that are known with their NIDs, and those of which one NID is.
    static func peers(
        _ network: NetworkAccess, verbose: Bool
    ) throws(ControlError) -> [PeerReport] {
        try network.with { lnet, _ in
            var peers: [PeerReport] = []
            var listed: Set<NID> = []
            let interfaces = lnet.peerReports
            func entries(_ nid: NID) -> [PeerInterfaceReport] {
                let paths = interfaces.filter { $0.process.nid == nid }
                guard let first = paths.first else { return [PeerInterfaceReport(nid: "\(nid)")] }
                return [
                    PeerInterfaceReport(
                        paths.dropFirst().reduce(first) { $0.joined($1) }, verbose: verbose)
                ]
            }
            for node in lnet.knownPeers {
                listed.formUnion(node.nids)
                peers.append(
                    PeerReport(
                        primary: "\(node.primary)",
                        isMultiRail: Truth(node.state.contains(.multiRail)),
                        state: verbose ? Int(node.state.rawValue) : nil,
                        interfaces: node.nids.flatMap(entries)))
            }
            for report in interfaces where listed.insert(report.process.nid).inserted {
                peers.append(
                    PeerReport(
                        primary: "\(report.process.nid)", isMultiRail: Truth(false),
                        interfaces: entries(report.process.nid)))
            }
            return peers
        }
    }
}
