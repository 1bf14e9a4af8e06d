import LNetCore
import Primitives
import WireFormat

/// `net` and `stats`.
extension ControlRouter {
    mutating func addInterfaceVerbs(_ network: NetworkAccess) {
        on("net", "show") { request in
            let filter = request.arguments["net"]
            let verbose = request.arguments["verbose"] != nil
            var nets = try Self.nets(network, verbose: verbose)
            if let filter {
                nets = nets.filter { $0.type == filter }
                guard !nets.isEmpty else {
                    throw ControlError("this node has no interface on \(filter)", errno: 2)
                }
            }
            return try NetworkDocument(net: nets).text()
        }
        on("net", "add") { request in
            let nid = try Self.nid(request.required("nid"))
            let errno = try network.change { $0.addInterface(nid, now: $1) }
            try Self.check(errno, "net add", nid) {
                switch $0 {
                case 17: "\(nid) is an interface of this node already"
                case 22: "\(nid) is on no TCP or RDMA network"
                case 99: "\(nid) is no address of this machine"
                default: nil
                }
            }
            // Listening follows on the loop: it may fail, and takes the interface back then.
            let isThere = try network.with { lnet, _ in lnet.nids.contains(nid) }
            guard isThere else {
                throw ControlError(
                    "\(nid) cannot be listened on: is its address this machine's, and its port free?",
                    errno: 99)
            }
            return ""
        }
        on("net", "del") { request in
            let nid = try Self.nid(request.required("nid"))
            let errno = try network.change { $0.deleteInterface(nid, now: $1) }
            try Self.check(errno, "net del", nid) {
                switch $0 {
                case 2: "\(nid) is no interface of this node"
                case 16: "\(nid) names this node: only its other interfaces can be deleted"
                default: nil
                }
            }
            return ""
        }
        on("net", "set") { request in
            let nid = try request.arguments["nid"].map { try Self.nid($0) }
            guard nid != nil || request.arguments["all"] != nil else {
                throw ControlError("net set needs --nid NID or --all", errno: 22)
            }
            let health = try request.number("health", in: 0...Health.maximum)
            let timeout = try request.number("lnd-timeout", in: 1...3600)
            guard health != nil || timeout != nil else {
                throw ControlError(
                    "net set needs --health or --lnd-timeout", errno: 22)
            }
            if let health {
                let errno = try network.change { $0.setHealth(nid, health, now: $1) }
                try Self.check(errno, "net set", nid ?? .any) { _ in
                    "\(nid.map { "\($0)" } ?? "that") is no interface of this node"
                }
            }
            try network.with { lnet, now in
                lnet.configure(
                    {
                        if let timeout { $0.lndTimeout = .seconds(UInt64(timeout)) }
                    }, now: now)
            }
            return ""
        }
        on("stats", "show") { _ in
            let (counters, pending) = try network.with { lnet, _ in
                (lnet.counters, lnet.pendingCount)
            }
            return try NetworkDocument(statistics: StatisticsReport(counters, pending)).text()
        }
        on("stats", "reset") { _ in
            try network.with { lnet, _ in lnet.resetCounters() }
            return ""
        }
    }

    static func nets(_ network: NetworkAccess, verbose: Bool) throws(ControlError) -> [NetReport] {
        let (reports, configuration, counters) = try network.with { lnet, _ in
            (lnet.interfaceReports, lnet.configuration, lnet.counters)
        }
        return nets(reports, configuration, counters, verbose: verbose)
    }

    /// `net:` of a node with these interfaces, settings and counters.
    static func nets(
        _ reports: [LNetInterfaceReport], _ configuration: LNetConfiguration,
        _ counters: LNetCounters, verbose: Bool
    ) -> [NetReport] {
        var nets: [NetReport] = [
            NetReport(type: "lo", interfaces: [InterfaceReport(nid: "0@lo", status: "up")])
        ]
        for report in reports {
            let entry = InterfaceReport(report, configuration, verbose: verbose)
            if let place = nets.firstIndex(where: { $0.type == report.nid.networkName }) {
                nets[place].interfaces.append(entry)
            } else {
                var net = NetReport(type: report.nid.networkName, interfaces: [entry])
                if verbose { net.count(counters, isRDMA: report.nid.type == .o2ib) }
                nets.append(net)
            }
        }
        return nets
    }

    /// Throws unless `errno` is 0.
    static func check(
        _ errno: Int32, _ verb: String, _ subject: NID, _ words: (Int32) -> String?
    ) throws(ControlError) {
        guard errno != 0 else { return }
        let text = words(errno) ?? "\(verb) \(subject): \(FabricText.of(errno))"
        throw ControlError(text, errno: errno)
    }
}
