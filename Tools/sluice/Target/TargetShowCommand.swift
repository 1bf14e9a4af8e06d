import ArgumentParser
import ClientCore
import WireFormat

/// `sluice target show`: clients, recovery, locks and counts of one target or of all.
struct TargetShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show targets: their clients, recovery, locks, upgrade and what they refused.",
        discussion: """
            Without a name every target of the cluster is asked. Exit status 1 means that one did \
            not answer; the others are shown all the same.

            States of clients: connected; away (no connection, its record is kept); absent (not \
            back since the target's restart); opens, requests, locks (what it replays now); done \
            (waits for the others). Only observers, such as this command, have no record.

            Counts are since the target's start. Those of what was refused are shown when they are \
            not 0; --json has all of them.
            """)

    @Argument(help: ArgumentHelp("The target to ask; all where none is named.", valueName: "name"))
    var target: String?

    @Flag(help: "List every client, also where there are many.")
    var all = false

    @OptionGroup var clusterOptions: ClusterOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        let file = try clusterOptions.load()
        let places = try target.map { [try file.index(of: $0)] } ?? Array(file.targets.indices)
        let client = try clusterOptions.client(for: file)
        var reports: [TargetReport] = []
        var failures: [String] = []
        for place in places {
            do {
                reports.append(try await TargetReport.ask(client, place))
            } catch {
                failures.append("\(error)")
            }
        }
        await client.close()
        if output.json {
            if target != nil, let report = reports.first {
                try Output.json(report)
            } else if target == nil {
                try Output.json(reports)
            }
        } else {
            for (index, report) in reports.enumerated() {
                if index > 0 { Output.line("") }
                Output.line(report.text(listMax: all ? .max : 40))
            }
        }
        guard failures.isEmpty else { throw Failure(failures.joined(separator: "; ")) }
    }
}

/// A target's account of itself, ready to be printed.
struct TargetReport: Encodable {
    struct Client: Encodable {
        var uuid: String
        var nid: String
        var protocolVersion: Int
        var state: String
        var admission: String
        var isObserver: Bool
        var isFenced: Bool
        var lastXID: UInt64
        var requests: Int
        var locks: Int
        var opens: Int
        var replayed: Int
        var replaysFailed: Int
        var grantBytes: UInt64
        /// Since its last request; none where it has sent none to this instance.
        var silentSeconds: Double?
    }

    struct Recovery: Encodable {
        var stage: String
        var clients: Int
        var absent: Int
        var busy: Int
        var done: Int
        var queuedReplays: Int
        var nextTransno: UInt64?
        var windowSecondsLeft: Double?
        var limitSecondsLeft: Double?
        /// Who holds it up, by name: absent, or back and not done.
        var missing: [String]
    }

    struct Locks: Encodable {
        var count: UInt64
        var waiting: UInt64
        var reserved: UInt64
        var bytes: UInt64
    }

    var target: String
    var kind: String
    var phase: String
    var epoch: String?
    var instance: UInt64
    var protocolVersions: String
    var features: [String]
    var servedSeconds: Double
    var lastTransno: UInt64
    var lastCommitted: UInt64
    var recovery: Recovery
    var locks: Locks
    var opens: UInt64
    var counters: [String: UInt64]
    var clients: [Client]

    /// Asks for all pages of clients. A client that comes or goes meanwhile may be missed.
    static func ask(_ client: ClusterClient, _ place: Int) async throws -> TargetReport {
        let name = client.file.targets[place].name
        var report: TargetReport?
        var first: UInt32 = 0
        repeat {
            let request = TargetShowRequest(firstClient: first)
            let body: ReplyBody
            do {
                body = try await client.send(.targetShow(request), to: place)
            } catch let refusal as ClusterClient.Refusal where refusal.status == .protocolError {
                throw Failure("\(name) is of a build that does not know target show yet")
            }
            guard case .target(let reply) = body else {
                throw Failure("\(name) answered something else")
            }
            let page = TargetReport(reply)
            if report == nil {
                report = page
            } else {
                report?.clients += page.clients
            }
            guard reply.next == 0 || reply.next > first else { break }
            first = reply.next
        } while first != 0
        guard var report else { throw Failure("\(name) answered nothing") }
        report.recovery.missing = report.clients.filter(\.isMissing).map(\.uuid)
        return report
    }

    init(_ reply: TargetShowReply) {
        target = reply.targetName
        kind = reply.kind.name
        phase = reply.phase.name
        epoch = reply.epoch == .none ? nil : reply.epoch.description
        instance = reply.instance
        protocolVersions =
            "\(reply.versions.lowerBound.rawValue)...\(reply.versions.upperBound.rawValue)"
        features = reply.features.names
        servedSeconds = Double(reply.servedNs) / 1e9
        lastTransno = reply.lastTransno.rawValue
        lastCommitted = reply.lastCommitted.rawValue
        func seconds(_ nanoseconds: UInt64) -> Double? {
            nanoseconds == 0 ? nil : Double(nanoseconds) / 1e9
        }
        let isRecovering = reply.stage != .serving
        recovery = Recovery(
            stage: reply.stage.name, clients: Int(reply.recovery.clients),
            absent: Int(reply.recovery.absent), busy: Int(reply.recovery.busy),
            done: Int(reply.recovery.done), queuedReplays: Int(reply.recovery.queued),
            nextTransno: isRecovering ? reply.recovery.nextTransno.rawValue : nil,
            windowSecondsLeft: seconds(reply.recovery.windowNs),
            limitSecondsLeft: seconds(reply.recovery.limitNs), missing: [])
        locks = Locks(
            count: reply.locks.count, waiting: reply.locks.waiting,
            reserved: reply.locks.reserved, bytes: reply.locks.bytes)
        opens = reply.opens
        counters = Dictionary(
            uniqueKeysWithValues: TargetCounter.allCases.map { ("\($0)", reply[$0]) })
        clients = reply.clients.map(Client.init)
    }
}

extension TargetReport.Client {
    init(_ client: TargetShowReply.Client) {
        uuid = client.uuid
        nid = client.nid.description
        protocolVersion = Int(client.version.rawValue)
        isObserver = client.flags.contains(.observer)
        isFenced = client.flags.contains(.fenced)
        state =
            switch client.standing {
            case .full:
                client.flags.contains(.connected) ? (isObserver ? "observer" : "connected") : "away"
            case .absent, .opens, .requests, .locks, .done: "\(client.standing)"
            }
        admission = "\(client.admission)"
        lastXID = client.lastXID.rawValue
        requests = Int(client.requests)
        locks = Int(client.locks)
        opens = Int(client.opens)
        replayed = Int(client.replayed)
        replaysFailed = Int(client.replaysFailed)
        grantBytes = client.grant
        silentSeconds = client.silentNs == 0 ? nil : Double(client.silentNs) / 1e9
    }

    /// The recovery waits for it.
    var isMissing: Bool { ["absent", "opens", "requests", "locks"].contains(state) }
}

extension TargetReport {
    func text(listMax: Int) -> String {
        var lines = [
            "target     \(target) (\(kind)), \(phase), for \(Self.seconds(servedSeconds))",
            "instance   \(instance), protocol \(protocolVersions), "
                + (features.isEmpty ? "no features" : features.joined(separator: " ")),
            "transno    \(lastTransno), committed \(lastCommitted)",
            "locks      \(locks.count), \(locks.waiting) waiting, \(locks.reserved) reserved, "
                + "\(locks.bytes / 1024) KiB",
        ]
        if kind == "mds" { lines.append("opens      \(opens)") }
        if let epoch { lines.append("upgrade    epoch \(epoch)") }
        lines += recoveryLines
        let refused = Self.troubles.compactMap { counter -> String? in
            guard let value = counters["\(counter)"], value > 0 else { return nil }
            return "\(counter) \(value)"
        }
        lines.append(
            "refused    " + (refused.isEmpty ? "nothing" : refused.joined(separator: ", ")))
        let known = clients.filter { !$0.isObserver }
        lines.append("clients    \(known.count)" + Self.states(of: known))
        let listed = known.prefix(listMax)
        guard !listed.isEmpty else { return lines.joined(separator: "\n") }
        var table = TextTable(
            "client", "nid", "protocol", "state", "requests", "locks", "opens", "replayed",
            "grant KiB", "silent s")
        for client in listed {
            table.add(
                client.uuid, client.nid, "\(client.protocolVersion)",
                client.isFenced ? client.state + ", left behind" : client.state,
                "\(client.requests)", "\(client.locks)", "\(client.opens)", "\(client.replayed)",
                "\(client.grantBytes / 1024)",
                client.silentSeconds.map { "\(($0 * 10).rounded() / 10)" } ?? "-")
        }
        lines += ["", table.text]
        if known.count > listed.count {
            lines.append("and \(known.count - listed.count) more: --all lists them")
        }
        return lines.joined(separator: "\n")
    }

    private var recoveryLines: [String] {
        guard phase == UpgradePhase.recovering.name else {
            let replayed = counters["\(TargetCounter.replayed)"] ?? 0
            return [
                "recovery   none now; \(replayed) requests replayed, "
                    + "\(counters["\(TargetCounter.evictions)"] ?? 0) clients evicted since the start"
            ]
        }
        var line =
            "recovery   \(recovery.stage): \(recovery.done) of \(recovery.clients) clients done, "
            + "\(recovery.busy) replay, \(recovery.absent) absent, \(recovery.queuedReplays) "
            + "updates wait for their turn"
        if let next = recovery.nextTransno { line += " (next transno \(next))" }
        var lines = [line]
        if let left = recovery.windowSecondsLeft {
            lines.append(
                "           silent clients are evicted in \(Self.seconds(left)), whoever is not done "
                    + "in \(recovery.limitSecondsLeft.map(Self.seconds) ?? "-")")
        } else {
            lines.append("           no client is back yet: the window has not begun")
        }
        let names = recovery.missing.prefix(8).joined(separator: ", ")
        if !names.isEmpty {
            let more = recovery.missing.count - 8
            lines.append("           missing: \(names)" + (more > 0 ? " and \(more) more" : ""))
        }
        return lines
    }

    /// What honest clients and sound disks give no cause for.
    private static let troubles: [TargetCounter] = [
        .connectsRefused, .malformed, .notConnected, .foreignHandles, .obsolete, .refused,
        .violations, .unexpectedReplays, .replaysFailed, .versionMismatches, .lockRefusals,
        .unknownLockCookies, .foreignLockCookies, .lockFaults, .lockTimeouts, .callbacksFailed,
        .commitFailures, .damages, .diskRefusals,
    ]

    private static func states(of clients: [Client]) -> String {
        var counts: [String: Int] = [:]
        for client in clients { counts[client.state, default: 0] += 1 }
        guard !counts.isEmpty else { return "" }
        return ": "
            + counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
            .joined(separator: ", ")
    }

    private static func seconds(_ value: Double) -> String {
        value < 100 ? "\((value * 10).rounded() / 10) s" : "\(Int(value)) s"
    }
}

extension Features {
    /// As `--without` spells them.
    var names: [String] {
        var names: [String] = []
        if contains(.upgrade) { names.append("upgrade") }
        if contains(.caching) { names.append("caching") }
        if contains(.grants) { names.append("grants") }
        let unknown = subtracting(.supported).rawValue
        if unknown != 0 { names.append("0x" + String(unknown, radix: 16)) }
        return names
    }
}
