import LNetCore
import Primitives
import WireFormat

extension ControlRouter {
    /// Answers lnetctl's nouns and verbs for a node's LNet.
    public mutating func addNetwork(_ network: NetworkAccess) {
        on("net", "show") { request in
            let filter = request.arguments["net"]
            let verbose = request.arguments["verbose"] != nil
            let (reports, configuration) = try network.with { lnet, _ in
                (lnet.interfaceReports, lnet.configuration)
            }
            var nets: [NetReport] = [
                NetReport(
                    type: "lo", interfaces: [InterfaceReport(nid: "0@lo", status: "up")])
            ]
            for report in reports {
                let entry = InterfaceReport(report, configuration, verbose: verbose)
                if let place = nets.firstIndex(where: { $0.type == report.nid.networkName }) {
                    nets[place].interfaces.append(entry)
                } else {
                    nets.append(NetReport(type: report.nid.networkName, interfaces: [entry]))
                }
            }
            if let filter {
                nets = nets.filter { $0.type == filter }
                guard !nets.isEmpty else {
                    throw ControlError("this node has no interface on \(filter)", errno: 2)
                }
            }
            return try NetworkDocument(net: nets).text()
        }
        on("stats", "show") { _ in
            let counters = try network.with { lnet, _ in lnet.counters }
            return try NetworkDocument(statistics: StatisticsReport(counters)).text()
        }
        on("peer", "show") { request in
            var reports = try network.with { lnet, _ in lnet.peerReports }
            if let text = request.arguments["nid"] {
                let nid = try Self.nid(text)
                reports = reports.filter { $0.process.nid == nid }
                guard !reports.isEmpty else {
                    throw ControlError("\(nid) is no peer of this node", errno: 2)
                }
            }
            let verbose = request.arguments["verbose"] != nil
            let peers = reports.map { report in
                PeerReport(
                    primary: "\(report.process.nid)", isMultiRail: Truth(false),
                    interfaces: [PeerInterfaceReport(report, verbose: verbose)])
            }
            return try NetworkDocument(peer: peers).text()
        }
        on("global", "show") { _ in
            let configuration = try network.with { lnet, _ in lnet.configuration }
            return try NetworkDocument(
                global: GlobalReport(
                    transaction_timeout: configuration.responseTimeout.wholeSeconds,
                    lnd_timeout: configuration.lndTimeout.wholeSeconds)
            ).text()
        }
        on("net", "ping") { request in
            let nids = try Self.nids(request.required("nid"))
            let timeout = try request.number("timeout", in: 1...120_000) ?? 5_000
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
    }

    static func nid(_ text: some StringProtocol) throws(ControlError) -> NID {
        guard let nid = NID(String(text)) else {
            throw ControlError("\(text) is no NID such as 192.0.2.7@tcp", errno: 22)
        }
        return nid
    }

    static func nids(_ text: String) throws(ControlError) -> [NID] {
        var nids: [NID] = []
        for part in text.split(separator: ",") { nids.append(try nid(part)) }
        guard !nids.isEmpty else { throw ControlError("name at least one NID", errno: 22) }
        return nids
    }
}

extension TickInterval {
    var wholeSeconds: Int { Int(nanoseconds / 1_000_000_000) }
}

extension InterfaceReport {
    init(_ report: LNetInterfaceReport, _ configuration: LNetConfiguration, verbose: Bool) {
        self.init(nid: "\(report.nid)", status: report.isUp ? "up" : "down")
        if let name = NetworkDevices.name(of: report.nid.address) { interfaces = [0: name] }
        guard verbose else { return }
        statistics = TrafficReport(report.traffic)
        sent_stats = TypeReport(report.traffic.sent)
        received_stats = TypeReport(report.traffic.received)
        dropped_stats = TypeReport(report.traffic.dropped)
        tunables = TunablesReport(
            peer_credits: configuration.peerCredits, credits: report.creditsMax)
        lndTunables = LNDTunablesReport(
            conns_per_peer: 1, timeout: configuration.lndTimeout.wholeSeconds)
    }
}

extension PeerInterfaceReport {
    init(_ report: LNetPeerReport, verbose: Bool) {
        self.init(nid: "\(report.process.nid)", state: report.isUp ? "up" : "down")
        guard verbose else { return }
        max_ni_tx_credits = report.creditsMax
        available_tx_credits = report.credits
        min_tx_credits = report.creditsMin
        tx_q_num_of_buf = report.waitingCount
        statistics = TrafficReport(report.traffic)
        sent_stats = TypeReport(report.traffic.sent)
        received_stats = TypeReport(report.traffic.received)
        dropped_stats = TypeReport(report.traffic.dropped)
    }
}
