import ArgumentParser
import ClientCore
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
    var clients: [Client]

    static func ask(_ client: ClusterClient, _ place: Int) async throws -> UpgradeReport {
        guard case .upgradeStatus(let reply) = try await client.send(.upgradeStatus, to: place)
        else { throw Failure("\(client.file.targets[place].name) answered something else") }
        return UpgradeReport(reply)
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
        let isUpgrading = ![.serving, .recovering, .standby, .starting].contains(reply.phase)
        clients = reply.clients.map { client in
            let (state, reason) = Self.judge(client, isUpgrading: isUpgrading)
            return Client(
                uuid: client.uuid, nid: client.nid.description, state: state, reason: reason,
                isConnected: client.isConnected, protocolVersion: Int(client.version.rawValue),
                receiptMs: Self.milliseconds(client.receiptNs))
        }
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> Double? {
        nanoseconds == 0 ? nil : Double(nanoseconds) / 1e6
    }

    private static func judge(
        _ client: UpgradeStatusReply.Client, isUpgrading: Bool
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
            return ("not prepared", "still finishes requests or writes back")
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
        let prepared = clients.count { $0.state == "prepared" }
        if !["serving", "recovering", "standby", "starting"].contains(phase) {
            lines.append("clients    \(prepared) of \(clients.count) prepared")
        } else {
            lines.append("clients    \(clients.count)")
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
