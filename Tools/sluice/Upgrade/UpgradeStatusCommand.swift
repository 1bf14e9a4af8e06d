import ArgumentParser
import ClientCore
import UpgradeCore
import WireFormat

/// `sluice upgrade status`: who is prepared, who is not, and why.
struct UpgradeStatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show a target's state and that of its clients.")

    @Option(help: ArgumentHelp("The target to ask.", valueName: "name"))
    var target: String

    @OptionGroup var clusterOptions: ClusterOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        let file = try clusterOptions.load()
        let place = try file.index(of: target)
        let client = try clusterOptions.client(for: file)
        let report = try await UpgradeReport.ask(client, place)
        await client.close()
        if output.json {
            try Output.json(report)
        } else {
            Output.line(report.text)
        }
    }
}

/// What a target says of itself, ready to be printed.
struct UpgradeReport: Encodable {
    struct Client: Encodable {
        var uuid: String
        var nid: String
        var state: String
        var reason: String
        var isConnected: Bool
        var protocolVersion: Int
        var receiptMs: Double?
        var silentMs: Double?
        var requests: Int?
    }

    /// The order in hand.
    struct Order: Encodable {
        var scheme: String
        var cache: String
        var reads: String
        var late: String
        var holds: Bool
        var isPreflushing: Bool
        var deadlineLeftMs: Double
        var expiryLeftMs: Double
        var pauseBudgetMs: Double?
        var next: String?
    }

    var target: String
    var phase: String
    var epoch: String
    var instance: UInt64
    var protocolVersions: String
    var lastTransno: UInt64
    var lastCommitted: UInt64
    var replayed: UInt64
    var resent: UInt64
    var evictions: UInt64
    var preparedMs: Double?
    var committedMs: Double?
    var order: Order?
    var lastAbort: String?
    var finalized: Int?
    var uncommittedBytes: UInt64?
    var commitLagMs: Double?
    var lastCommitMs: Double?
    var clientCount: Int
    var clients: [Client]

    static func ask(_ client: ClusterClient, _ place: Int) async throws -> UpgradeReport {
        UpgradeReport(try await TargetOrders(client: client, place: place).status())
    }

    init(_ reply: UpgradeStatusReply) {
        target = reply.targetName
        phase = reply.phase.name
        epoch = reply.epoch.description
        instance = reply.instance
        protocolVersions =
            "\(reply.versions.lowerBound.rawValue)...\(reply.versions.upperBound.rawValue)"
        lastTransno = reply.lastTransno.rawValue
        lastCommitted = reply.lastCommitted.rawValue
        replayed = reply.replayed
        resent = reply.resent
        evictions = reply.evictions
        preparedMs = Self.milliseconds(reply.preparedNs)
        committedMs = Self.milliseconds(reply.committedNs)
        let isUpgrading = reply.phase.isUpgrading
        let details = reply.details
        lastAbort = details?.lastAbort.map(Self.words(ofAbort:))
        finalized = details?.finalized.map { Int($0.rawValue) }
        uncommittedBytes = details?.uncommittedBytes
        commitLagMs = details.map { Double($0.commitLagNs) / 1e6 }
        lastCommitMs = details.flatMap { Self.milliseconds($0.lastCommitNs) }
        clientCount = details.map { Int($0.clientCount) } ?? reply.clients.count
        if let details, details.isOrdered { order = Order(details) }
        clients = reply.clients.enumerated().map { place, client in
            let detail = details?.clients[place]
            let (state, reason) = Self.judge(client, detail, isUpgrading: isUpgrading)
            return Client(
                uuid: client.uuid, nid: client.nid.description, state: state, reason: reason,
                isConnected: client.isConnected, protocolVersion: Int(client.version.rawValue),
                receiptMs: Self.milliseconds(client.receiptNs),
                silentMs: detail.map { Double($0.silentMs) },
                requests: detail.map { Int($0.requestCount) })
        }
    }

    /// Why a target gave its last upgrade up.
    static func words(ofAbort number: UInt8?) -> String {
        number.flatMap(UpgradeAbortReason.init(rawValue:))?.words ?? "it does not say why"
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> Double? {
        nanoseconds == 0 ? nil : Double(nanoseconds) / 1e6
    }

    private static func judge(
        _ client: UpgradeStatusReply.Client, _ detail: UpgradeDetails.Client?, isUpgrading: Bool
    ) -> (state: String, reason: String) {
        guard isUpgrading else {
            if !client.isConnected { return ("away", "not connected; its record is kept") }
            switch client.admission {
            case .none: return ("open", "without the upgrade feature: synchronous treatment")
            default: return ("open", "")
            }
        }
        switch client.admission {
        case .waiting: return ("prepared", "gave its receipt")
        case .committed: return ("prepared", "told that all is committed")
        case .none where client.isCountedOut: return ("prepared", "synchronous: nothing to prepare")
        case .revoking, .granted, .none:
            if client.isCountedOut { return ("absent", "left behind; its record is kept") }
            if !client.isConnected { return ("not prepared", "not connected") }
            guard let detail else {
                return ("not prepared", "still finishes requests or writes back")
            }
            let silence = "silent for \(Report.seconds(.milliseconds(Int(detail.silentMs))))"
            if detail.isFlushed { return ("flushed", "gate open; \(silence)") }
            if !detail.hasNotice {
                return ("not prepared", "has not answered the notice, \(silence)")
            }
            if detail.requestCount > 0 {
                return ("not prepared", "\(detail.requestCount) requests are being served")
            }
            return ("not prepared", "writes back or finishes operations, \(silence)")
        }
    }

    var text: String {
        var lines = [
            "target     \(target)", "phase      \(phase)", "instance   \(instance)",
            "protocol   \(protocolVersions)",
            "transno    \(lastTransno), committed \(lastCommitted)",
            "replayed   \(replayed), resent \(resent), evictions \(evictions)",
        ]
        if epoch != UpgradeEpoch.none.description { lines.append("epoch      \(epoch)") }
        if let preparedMs { lines.append("prepared   after \(Report.ms(preparedMs)) ms") }
        if let committedMs { lines.append("committed  after \(Report.ms(committedMs)) ms") }
        if let uncommittedBytes, let commitLagMs {
            lines.append(
                "commits    \(uncommittedBytes) bytes to go, the oldest \(Report.ms(commitLagMs)) ms "
                    + "old; the last took \(Report.ms(lastCommitMs ?? 0)) ms")
        }
        if let order {
            lines.append("order      \(order.text)")
        } else if let lastAbort {
            lines.append("given up   \(lastAbort)")
        }
        if let finalized { lines.append("finalised  at protocol \(finalized)") }
        let missing = clients.count { $0.state == "not prepared" || $0.state == "flushed" }
        if order != nil {
            lines.append("clients    \(clientCount - missing) of \(clientCount) prepared")
        } else {
            lines.append("clients    \(clientCount)")
        }
        if clients.count < clientCount {
            lines.append("           (\(clients.count) are listed, those not prepared first)")
        }
        guard !clients.isEmpty else { return lines.joined(separator: "\n") }
        var table = TextTable("client", "nid", "protocol", "state", "receipt ms", "why")
        for client in clients {
            table.add(
                client.uuid, client.nid, "\(client.protocolVersion)", client.state,
                client.receiptMs.map(Report.ms) ?? "-", client.reason)
        }
        return lines.joined(separator: "\n") + "\n\n" + table.text
    }
}

/// How numbers are written for people.
enum Report {
    /// `20 s`, `0.5 s`.
    static func seconds(_ duration: Duration) -> String {
        let value = duration / .seconds(1)
        return value == value.rounded() ? "\(Int(value)) s" : "\(value) s"
    }

    /// Three digits that matter.
    static func ms(_ value: Double) -> String {
        let digits = value < 10 ? 2 : value < 100 ? 1 : 0
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let rounded = (value * scale).rounded() / scale
        return digits == 0 ? String(Int(rounded)) : String(rounded)
    }
}

extension UpgradeReport.Order {
    init(_ details: UpgradeDetails) {
        scheme = details.scheme.name
        cache = "\(details.cachePolicy)"
        reads = "\(details.readPolicy)"
        late =
            switch details.deadlinePolicy {
            case .wait: "wait"
            case .leaveBehind: "leave-behind"
            case .abort: "abort"
            }
        holds = details.holds
        isPreflushing = details.isPreflushing
        deadlineLeftMs = Double(details.deadlineLeftMs)
        expiryLeftMs = Double(details.expiryLeftMs)
        pauseBudgetMs = details.pauseBudgetMs == 0 ? nil : Double(details.pauseBudgetMs)
        next = details.next.rawValue == 0 ? nil : details.next.description
    }

    var text: String {
        var text = "\(scheme), cache \(cache), reads \(reads), late \(late)"
        if isPreflushing { text += ", flushing with open gates" }
        if holds { text += ", holds behind its seal" }
        if let next { text += ", comes back at \(next)" }
        text += "; deadline in \(Int(deadlineLeftMs / 1000)) s"
        return text + ", given up in \(Int(expiryLeftMs / 1000)) s"
    }
}
