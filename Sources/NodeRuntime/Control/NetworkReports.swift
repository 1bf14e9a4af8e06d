import Foundation
import LNetCore
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

    enum CodingKeys: String, CodingKey {
        case type = "net type"
        case interfaces = "local NI(s)"
    }
}

struct InterfaceReport: Codable {
    var nid: String
    var status: String?
    var interfaces: [Int: String]?
    var statistics: TrafficReport?
    var sent_stats: TypeReport?
    var received_stats: TypeReport?
    var dropped_stats: TypeReport?
    var tunables: TunablesReport?
    var lndTunables: LNDTunablesReport?

    enum CodingKeys: String, CodingKey {
        case nid, status, interfaces, statistics, sent_stats, received_stats, dropped_stats
        case tunables
        case lndTunables = "lnd tunables"
    }
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
    var statistics: TrafficReport?
    var sent_stats: TypeReport?
    var received_stats: TypeReport?
    var dropped_stats: TypeReport?
}

/// `statistics:` of `lnetctl stats show`.
struct StatisticsReport: Codable {
    var errors: UInt64
    var send_count: UInt64
    var response_timeout_count: UInt64
    var recv_count: UInt64
    var drop_count: UInt64
    var send_length: UInt64
    var recv_length: UInt64
    var drop_length: UInt64

    init(_ counters: LNetCounters) {
        errors = counters.errors
        send_count = counters.sendCount
        response_timeout_count = counters.responseTimeouts
        recv_count = counters.receiveCount
        drop_count = counters.dropCount
        send_length = counters.sendLength
        recv_length = counters.receiveLength
        drop_length = counters.dropLength
    }
}

/// One of `ping:` of `lnetctl ping`.
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

    init(_ nid: NID, _ info: PingInfo) {
        primary = "\(info.interfaces.first?.nid ?? nid)"
        isMultiRail = Truth(info.features.contains(.multiRail))
        interfaces = info.interfaces.map { Interface(nid: "\($0.nid)") }
    }
}

/// A whole document: the trees that lnetctl shows, exports and imports.
struct NetworkDocument: Codable {
    var net: [NetReport]?
    var peer: [PeerReport]?
    var statistics: StatisticsReport?
    var ping: [PingReport]?
    var global: GlobalReport?

    /// As lnetctl writes it.
    func text() throws -> String {
        let encoder = YAMLEncoder()
        encoder.options.indent = 4
        encoder.options.width = -1
        return try encoder.encode(self)
    }
}

/// `global:` of `lnetctl global show`.
struct GlobalReport: Codable {
    var transaction_timeout: Int?
    var lnd_timeout: Int?
}
