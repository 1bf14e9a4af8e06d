import Foundation
import LNDCore
import LNetCore
import Primitives
import WireFormat
import Yams

/// lnetctl's `True` and `False`.
struct Truth: Codable, YAMLEncodable {
    var value: Bool
    init(_ value: Bool) { self.value = value }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let value = try? container.decode(Bool.self) {
            self.value = value
            return
        }
        let text = try container.decode(String.self)
        switch text.lowercased() {
        case "true", "yes", "1": value = true
        case "false", "no", "0": value = false
        default:
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "True or False, not \(text)")
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(value)
    }

    func box() -> Node { Node(value ? "True" : "False", Tag(.bool), .plain) }
}

/// `send_count`, `recv_count`, `drop_count`.
struct TrafficReport: Codable {
    var send_count: UInt64
    var recv_count: UInt64
    var drop_count: UInt64

    init(_ traffic: LNetTraffic) {
        send_count = traffic.sent.total
        recv_count = traffic.received.total
        drop_count = traffic.dropped.total
    }
}

/// `sent_stats` and its siblings.
struct TypeReport: Codable {
    var put: UInt64
    var get: UInt64
    var reply: UInt64
    var ack: UInt64
    /// HELLO is a message of socklnd's first protocol only.
    var hello: UInt64 = 0

    init(_ counts: LNetCounters.ByType) {
        put = counts.put
        get = counts.get
        reply = counts.reply
        ack = counts.ack
    }
}

/// `net:` of `lnetctl net show`.
struct NetReport: Codable {
    var type: String
    var interfaces: [InterfaceReport]
    /// Why connections of this kind of network ended, those of all its interfaces; only what
    /// happened. lnetctl has no such thing.
    var faults: [String: UInt64]?
    /// Over RDMA: requests to connect that this node rejected, and those that its peers did, by
    /// the protocol's reason.
    var rejects: [String: UInt64]?
    var rejectsByPeers: [String: UInt64]?

    init(type: String, interfaces: [InterfaceReport]) {
        self.type = type
        self.interfaces = interfaces
    }

    enum CodingKeys: String, CodingKey {
        case type = "net type"
        case interfaces = "local NI(s)"
        case faults = "lnd faults"
        case rejects = "rejects sent"
        case rejectsByPeers = "rejects received"
    }

    /// Takes over what the node counted for its LND.
    mutating func count(_ counters: LNetCounters, isRDMA: Bool) {
        guard isRDMA else {
            faults = Self.tally(SockLNDFault.allCases.map { ("\($0)", counters[$0]) })
            return
        }
        faults = Self.tally(O2IBLNDFault.allCases.map { ("\($0)", counters[$0]) })
        let reasons = O2IBLNDReject.Reason.allCases
        rejects = Self.tally(reasons.map { ("\($0)", counters.rejected($0)) })
        rejectsByPeers = Self.tally(reasons.map { ("\($0)", counters.rejectedByPeers($0)) })
    }

    /// What is not zero, named in lnetctl's way: `wrong_nid`.
    private static func tally(_ counts: [(name: String, count: UInt64)]) -> [String: UInt64]? {
        var result: [String: UInt64] = [:]
        for (name, count) in counts where count > 0 {
            var words = ""
            var wasUpper = false
            for letter in name {
                if letter.isUppercase, !wasUpper { words += "_" }
                wasUpper = letter.isUppercase
                words += letter.lowercased()
            }
            result[words] = count
        }
        return result.isEmpty ? nil : result
    }
}

struct InterfaceReport: Codable {
    var nid: String?
    var status: String?
    var interfaces: [Int: String]?
    var statistics: TrafficReport?
    var sent_stats: TypeReport?
    var received_stats: TypeReport?
    var dropped_stats: TypeReport?
    var health: HealthReport?
    var tunables: TunablesReport?
    var lndTunables: LNDTunablesReport?

    enum CodingKeys: String, CodingKey {
        case nid, status, interfaces, statistics, sent_stats, received_stats, dropped_stats
        case health = "health stats"
        case tunables
        case lndTunables = "lnd tunables"
    }
}

struct HealthReport: Codable {
    var value: Int

    enum CodingKeys: String, CodingKey { case value = "health value" }
}

struct TunablesReport: Codable {
    var peer_timeout: Int?
    var peer_credits: Int?
    var peer_buffer_credits: Int?
    var credits: Int?
}

struct LNDTunablesReport: Codable {
    var conns_per_peer: Int?
    var timeout: Int?
}

/// One of `peer:` of `lnetctl peer show`.
struct PeerReport: Codable {
    var primary: String
    var isMultiRail: Truth?
    var state: Int?
    var interfaces: [PeerInterfaceReport]?

    enum CodingKeys: String, CodingKey {
        case primary = "primary nid"
        case isMultiRail = "Multi-Rail"
        case state = "peer state"
        case interfaces = "peer ni"
    }
}

struct PeerInterfaceReport: Codable {
    var nid: String
    var state: String?
    var max_ni_tx_credits: Int?
    var available_tx_credits: Int?
    var min_tx_credits: Int?
    var tx_q_num_of_buf: Int?
    var available_rtr_credits: Int?
    var min_rtr_credits: Int?
    var statistics: TrafficReport?
    var sent_stats: TypeReport?
    var received_stats: TypeReport?
    var dropped_stats: TypeReport?
    var health: HealthReport?

    enum CodingKeys: String, CodingKey {
        case nid, state, max_ni_tx_credits, available_tx_credits, min_tx_credits
        case tx_q_num_of_buf, available_rtr_credits, min_rtr_credits, statistics, sent_stats
        case received_stats, dropped_stats
        case health = "health stats"
    }
}

/// One of `route:` of `lnetctl route show`.
struct RouteReport: Codable {
    var net: String
    var gateway: String
    /// -1: undefined.
    var hop: Int?
    var priority: Int?
    var health_sensitivity: Int?
    var state: String?
    var type: String?

    init(_ route: LNetRoute, _ isAlive: Bool, verbose: Bool) {
        net = NID.networkName(route.network)
        gateway = "\(route.gateway)"
        hop = route.hops.map { Int($0) } ?? -1
        priority = Int(route.priority)
        health_sensitivity = Int(route.healthSensitivity)
        guard verbose else { return }
        state = isAlive ? "up" : "down"
        type = (route.hops ?? 1) > 1 ? "multi-hop" : "single-hop"
    }

    func route() throws(ControlError) -> LNetRoute {
        guard let hop = UInt8(exactly: max(0, hop ?? -1)), (priority ?? 0) >= 0 else {
            throw ControlError("route to \(net): hop is 1 to 255, priority 0 or more", errno: 22)
        }
        return LNetRoute(
            network: try ControlRouter.network(net), gateway: try ControlRouter.nid(gateway),
            hops: hop == 0 ? nil : hop, priority: UInt32(clamping: priority ?? 0),
            healthSensitivity: UInt32(clamping: health_sensitivity ?? 1))
    }
}

/// `routing:` and `buffers:` of `lnetctl routing show`.
struct RoutingReport: Codable {
    struct Buffer: Codable {
        var npages: Int
        var nbuffers: Int
        var credits: Int?
        var mincredits: Int?
    }

    struct Buffers: Codable {
        var tiny: Buffer
        var small: Buffer
        var large: Buffer

        var settings: [(String, Int)] {
            [
                ("tiny_buffers", tiny.nbuffers), ("small_buffers", small.nbuffers),
                ("large_buffers", large.nbuffers),
            ]
        }
    }

    var enable: Int
    var buffers: Buffers?

    init(_ isOn: Bool, _ reports: [(total: Int, free: Int, freeMin: Int)]) {
        enable = isOn ? 1 : 0
        func buffer(_ index: Int, _ pages: Int) -> Buffer {
            Buffer(
                npages: pages, nbuffers: reports[index].total, credits: reports[index].free,
                mincredits: reports[index].freeMin)
        }
        buffers = Buffers(tiny: buffer(0, 0), small: buffer(1, 1), large: buffer(2, 256))
    }
}

/// One of `fault:` of `lnetctl fault show`.
struct FaultReport: Codable {
    var rule_type: String
    var fa_src: String
    var fa_dst: String
    var fa_ptl_mask: UInt64
    var fa_msg_mask: UInt8
    var da_rate: UInt32?
    var da_interval: Int?
    var ds_dropped: UInt64?
    var la_rate: UInt32?
    var la_interval: Int?
    var la_latency: Int?
    var ls_delayed: UInt64?
    var fs_count: UInt64
    var fs_put: UInt64
    var fs_ack: UInt64
    var fs_get: UInt64
    var fs_reply: UInt64

    init(_ rule: LNetFaultRule) {
        rule_type = rule.isDelay ? "delay" : "drop"
        fa_src = Self.text(rule.source)
        fa_dst = Self.text(rule.destination)
        fa_ptl_mask = rule.portals
        fa_msg_mask = rule.messages.rawValue
        var rate: UInt32 = 0
        var interval = 0
        switch rule.frequency {
        case .rate(let count): rate = count
        case .interval(let time): interval = time.wholeSeconds
        case .all: rate = 1
        }
        switch rule.effect {
        case .drop:
            da_rate = rate
            da_interval = interval
            ds_dropped = rule.statistics.hit
        case .delay(let latency):
            la_rate = rate
            la_interval = interval
            la_latency = latency.wholeSeconds
            ls_delayed = rule.statistics.hit
        }
        fs_count = rule.statistics.count
        fs_put = rule.statistics.put
        fs_ack = rule.statistics.ack
        fs_get = rule.statistics.get
        fs_reply = rule.statistics.reply
    }

    private static func text(_ nid: NID) -> String {
        if nid == .any { return "*" }
        return nid.address == .max && !nid.isLarge ? "*@\(nid.networkName)" : "\(nid)"
    }
}

extension LNetFaultRule {
    var isDelay: Bool { if case .delay = effect { true } else { false } }
}

/// `statistics:` of `lnetctl stats show`.
struct StatisticsReport: Codable {
    var rst_alloc: Int
    var errors: UInt64
    var send_count: UInt64
    var resend_count: UInt64
    var response_timeout_count: UInt64
    var local_interrupt_count: UInt64
    var local_dropped_count: UInt64
    var local_aborted_count: UInt64
    var local_no_route_count: UInt64
    var local_timeout_count: UInt64
    var local_error_count: UInt64
    var remote_dropped_count: UInt64
    var remote_error_count: UInt64
    var remote_timeout_count: UInt64
    var network_timeout_count: UInt64
    var failed_resends: UInt64
    var recv_count: UInt64
    var route_count: UInt64
    var drop_count: UInt64
    var send_length: UInt64
    var recv_length: UInt64
    var route_length: UInt64
    var drop_length: UInt64

    init(_ counters: LNetCounters, _ pending: Int) {
        rst_alloc = pending
        errors = counters.errors
        send_count = counters.sendCount
        resend_count = counters.resends
        response_timeout_count = counters.responseTimeouts
        local_interrupt_count = counters[.localInterrupt]
        local_dropped_count = counters[.localDropped]
        local_aborted_count = counters[.localAborted]
        local_no_route_count = counters[.localNoRoute]
        local_timeout_count = counters[.localTimeout]
        local_error_count = counters[.localError]
        remote_dropped_count = counters[.remoteDropped]
        remote_error_count = counters[.remoteError]
        remote_timeout_count = counters[.remoteTimeout]
        network_timeout_count = counters[.networkTimeout]
        failed_resends = counters.failedResends
        recv_count = counters.receiveCount
        route_count = counters.routed
        drop_count = counters.dropCount
        send_length = counters.sendLength
        recv_length = counters.receiveLength
        route_length = counters.routeLength
        drop_length = counters.dropLength
    }
}

/// One of `ping:` and `discover:` of lnetctl.
struct PingReport: Codable {
    struct Interface: Codable { var nid: String }
    var primary: String
    var isMultiRail: Truth
    var interfaces: [Interface]

    enum CodingKeys: String, CodingKey {
        case primary = "primary nid"
        case isMultiRail = "Multi-Rail"
        case interfaces = "peer_ni"
    }

    init(primary: NID, isMultiRail: Bool, nids: [NID]) {
        self.primary = "\(primary)"
        self.isMultiRail = Truth(isMultiRail)
        interfaces = nids.map { Interface(nid: "\($0)") }
    }

    init(_ nid: NID, _ info: PingInfo) {
        self.init(
            primary: info.interfaces.first?.nid ?? nid,
            isMultiRail: info.features.contains(.multiRail), nids: info.interfaces.map(\.nid))
    }
}

/// `global:` of `lnetctl global show`.
struct GlobalReport: Codable {
    var discovery: Int?
    var drop_asym_route: Int?
    var retry_count: Int?
    var transaction_timeout: Int?
    var health_sensitivity: Int?
    var lnd_timeout: Int?
    var max_recovery_ping_interval: Int?

    init(_ configuration: LNetConfiguration) {
        discovery = configuration.discovery ? 1 : 0
        drop_asym_route = configuration.dropAsymmetricRoutes ? 1 : 0
        retry_count = configuration.retryCount
        transaction_timeout = configuration.responseTimeout.wholeSeconds
        health_sensitivity = configuration.healthSensitivity
        lnd_timeout = configuration.lndTimeout.wholeSeconds
        max_recovery_ping_interval = configuration.recoveryPingIntervalMax.wholeSeconds
    }

    var settings: [(String, Int)] {
        [
            ("discovery", discovery), ("drop_asym_route", drop_asym_route),
            ("retry_count", retry_count), ("transaction_timeout", transaction_timeout),
            ("health_sensitivity", health_sensitivity), ("lnd_timeout", lnd_timeout),
            ("max_recovery_ping_interval", max_recovery_ping_interval),
        ].compactMap { name, value in value.map { (name, $0) } }
    }
}

/// A whole document: the trees that lnetctl shows, exports and imports.
struct NetworkDocument: Codable {
    var net: [NetReport]?
    var route: [RouteReport]?
    var routing: RoutingReport?
    var peer: [PeerReport]?
    var global: GlobalReport?
    var statistics: StatisticsReport?
    var fault: [FaultReport]?
    var ping: [PingReport]?
    var discover: [PingReport]?

    /// As lnetctl writes it.
    func text() throws -> String {
        let encoder = YAMLEncoder()
        encoder.options.indent = 4
        encoder.options.width = -1
        return try encoder.encode(self)
    }

    /// Leaves what an operator has set, and nothing that only was counted.
    mutating func removeStatistics() {
        for net in (self.net ?? []).indices {
            self.net![net].faults = nil
            self.net![net].rejects = nil
            self.net![net].rejectsByPeers = nil
            for place in self.net![net].interfaces.indices {
                self.net![net].interfaces[place].status = nil
                self.net![net].interfaces[place].statistics = nil
                self.net![net].interfaces[place].sent_stats = nil
                self.net![net].interfaces[place].received_stats = nil
                self.net![net].interfaces[place].dropped_stats = nil
                self.net![net].interfaces[place].health = nil
            }
        }
        for peer in (self.peer ?? []).indices {
            self.peer![peer].interfaces = self.peer![peer].interfaces?.map {
                PeerInterfaceReport(nid: $0.nid)
            }
        }
        for keys in [\RoutingReport.Buffers.tiny, \.small, \.large] {
            routing?.buffers?[keyPath: keys].credits = nil
            routing?.buffers?[keyPath: keys].mincredits = nil
        }
    }
}

extension TickInterval {
    var wholeSeconds: Int { Int(nanoseconds / 1_000_000_000) }
}

extension InterfaceReport {
    init(_ report: LNetInterfaceReport, _ configuration: LNetConfiguration, verbose: Bool) {
        self.init(nid: "\(report.nid)", status: report.isUp ? "up" : "down")
        if let name = NetworkDevices.name(of: report.nid.ip) { interfaces = [0: name] }
        guard verbose else { return }
        statistics = TrafficReport(report.traffic)
        sent_stats = TypeReport(report.traffic.sent)
        received_stats = TypeReport(report.traffic.received)
        dropped_stats = TypeReport(report.traffic.dropped)
        health = HealthReport(value: report.health)
        tunables = TunablesReport(
            peer_credits: configuration.peerCredits,
            peer_buffer_credits: configuration.peerBufferCredits ?? 0,
            credits: report.creditsMax)
        lndTunables = LNDTunablesReport(
            conns_per_peer: 1,
            timeout: configuration.lndTimeout.wholeSeconds)
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
        available_rtr_credits = report.routerCredits
        min_rtr_credits = report.routerCreditsMin
        statistics = TrafficReport(report.traffic)
        sent_stats = TypeReport(report.traffic.sent)
        received_stats = TypeReport(report.traffic.received)
        dropped_stats = TypeReport(report.traffic.dropped)
        health = HealthReport(value: report.health)
    }
}
