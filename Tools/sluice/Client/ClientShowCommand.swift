import ArgumentParser
import Foundation
import NodeRuntime

/// `sluice client show`: imports, replay lists, locks and dirty bytes of running clients.
struct ClientShowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show the clients of running processes: imports, replay lists, locks, caches.",
        discussion: """
            Asks a process through its control socket: `sluice fs` with \
            SLUICE_CLIENT_CONTROL set to a path, or a program that lets a fleet answer on one (ControlRouter.addClients). \
            All clients of the process are summed up by target; the first few are shown in full, with \
            the last states of each import, newest first.
            """)

    @Option(
        help: ArgumentHelp(
            "The control socket of the process. Default: the environment variable "
                + "SLUICE_CONTROL.", valueName: "path"))
    var control: String?

    @Option(help: ArgumentHelp("Show clients in full from this one on.", valueName: "n"))
    var first = 0

    @Option(help: ArgumentHelp("Show so many in full. Default: 4.", valueName: "n"))
    var count = 4

    @OptionGroup var output: JSONOption

    func validate() throws {
        guard first >= 0, (0...FleetReport.clientCountMax).contains(count) else {
            throw ValidationError(
                "--first must not be below 0, and --count be from 0 to "
                    + "\(FleetReport.clientCountMax)")
        }
    }

    func run() throws {
        let path = control ?? ProcessInfo.processInfo.environment["SLUICE_CONTROL"] ?? ""
        guard !path.isEmpty else {
            throw Failure("whose clients? Give --control PATH or set SLUICE_CONTROL")
        }
        let request = ControlRequest(
            "client", "show", ["first": String(first), "count": String(count)])
        let report: FleetReport
        do {
            let text = try ControlClient(path: path).ask(request)
            report = try JSONDecoder().decode(FleetReport.self, from: Data(text.utf8))
        } catch let error as ControlError {
            throw Failure(error.description)
        } catch {
            throw Failure("the process at \(path) answered something else: is it another build?")
        }
        if output.json {
            try Output.json(report)
        } else {
            Output.line(report.text)
        }
    }
}

extension FleetReport {
    var text: String {
        var lines = [
            "clients    \(clientCount), \(operations) operations under way, \(waiting) wait at gates",
            "cache      \(dirtyBytes) bytes dirty of \(cachedBytes), \(openFiles) files open", "",
        ]
        var table = TextTable(
            "target", "imports", "protocol", "gates shut", "in flight", "sent", "queued",
            "replay list", "locks", "replayed", "resent", "evictions")
        for target in targets {
            table.add(
                target.target, Self.counts(target.states), Self.counts(target.versions),
                "\(target.shutGates)", "\(target.updatesInFlight)", "\(target.sent)",
                "\(target.queued)", "\(target.replayList)", "\(target.locks)",
                "\(target.replayed)", "\(target.resent)", "\(target.evictions)")
        }
        lines.append(table.text)
        for client in clients { lines += ["", client.text] }
        let rest = clientCount - first - clients.count
        if rest > 0, !clients.isEmpty {
            lines += ["", "and \(rest) more: --first \(first + clients.count) goes on"]
        }
        return lines.joined(separator: "\n")
    }

    /// `198 FULL, 2 CONNECTING`; where there is one kind alone, its name alone.
    private static func counts(_ counts: [String: Int]) -> String {
        let sorted = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        if sorted.count == 1 { return sorted[0].key }
        return sorted.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
    }
}

extension ClientReport {
    var text: String {
        var lines = [
            "client     \(uuid) at \(nids.joined(separator: ", "))"
                + (isLeaving ? ", unmounting" : ""),
            "cache      \(dirtyBytes) bytes dirty of \(cachedBytes), \(openFiles) files open, "
                + "\(cachedNames) names, \(cachedFiles) attributes",
        ]
        var table = TextTable(
            "target", "state", "at", "partners", "protocol", "transno", "committed", "in flight",
            "sent", "queued", "replay list", "locks", "gate", "before")
        for entry in imports {
            let partners = entry.nids.filter { $0 != entry.nid }.joined(separator: " ")
            table.add(
                entry.target, entry.state, entry.nid, partners.isEmpty ? "-" : partners,
                "\(entry.protocolVersion)", "\(entry.highestTransno)", "\(entry.lastCommitted)",
                "\(entry.updatesInFlight)", "\(entry.sent)", "\(entry.queued)",
                "\(entry.replayList)", "\(entry.locks)", entry.isGateOpen ? "open" : "shut",
                entry.past)
        }
        lines.append(table.text)
        return lines.joined(separator: "\n")
    }
}

extension ClientReport.Import {
    /// The states before this one, newest first, with how long ago each was entered.
    fileprivate var past: String {
        let states = history.suffix(4).reversed().map { entry in
            entry.agoMs < 10_000
                ? "\(entry.state) \(Int(entry.agoMs)) ms"
                : "\(entry.state) \(Int(entry.agoMs / 1000)) s"
        }
        return states.joined(separator: " < ")
    }
}
