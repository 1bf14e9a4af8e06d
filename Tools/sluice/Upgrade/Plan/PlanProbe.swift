import ClientCore
import Foundation
import PtlRPCCore
import WireFormat

/// What a plan meets in the cluster as it is now: the live half of the dry run.
struct PlanProbe {
    /// One server of the plan, looked at.
    struct Finding: Encodable {
        var target: String
        var line: Int
        var state: String
        var comesBackAt: String?
        var fromProtocol: String?
        var toProtocol: String?
        var clients = 0
        /// Clients that are not connected: counted absent, their records are carried forward.
        var absent: [String] = []
        /// Clients without the feature: their updates are committed before the replies.
        var synchronous: [String] = []
        var uncommittedBytes: UInt64 = 0
        var commitLagMs = 0.0
        var predictedPauseMs: Double?
        /// It is where the plan wants it; nothing is to be done.
        var isThrough = false
        /// An earlier run left an upgrade in hand: this one goes on with it.
        var isInHand = false
    }

    private(set) var findings: [Finding] = []
    private(set) var problems: [PlanFile.Problem] = []

    // What clients cost on two cores, measured with a thousand under load (see the article).
    private static let noticeMsPerClient = 0.1
    private static let returnMsPerClient = 0.2

    static func look(_ plan: Plan, _ client: ClusterClient) async -> PlanProbe {
        var probe = PlanProbe()
        for server in plan.servers {
            await probe.look(server, TargetOrders(client: client, place: server.place))
        }
        return probe
    }

    private mutating func report(_ server: Plan.Server, _ text: String) {
        problems.append(.init(line: server.line, text: "\(server.target): \(text)"))
    }

    private mutating func look(_ server: Plan.Server, _ orders: TargetOrders) async {
        var finding = Finding(
            target: server.target, line: server.line, state: "does not answer",
            toProtocol: server.versions.map { ProtocolRange($0).text })
        defer { findings.append(finding) }
        let began = ContinuousClock.now
        let status: UpgradeStatusReply
        do {
            status = try await orders.status()
        } catch {
            return report(server, "\(error)")
        }
        let roundTrip = (ContinuousClock.now - began) / .milliseconds(1)
        let now = await orders.client.currentNID(of: server.place)
        finding.state = status.phase.name
        finding.fromProtocol = ProtocolRange(status.versions).text
        finding.isThrough = server.isThrough(status, at: now)
        finding.isInHand = status.phase.isUpgrading
        finding.clients = status.details.map { Int($0.clientCount) } ?? status.clients.count
        finding.absent = status.clients.filter { !$0.isConnected }.map(\.uuid)
        finding.synchronous = status.clients.filter {
            $0.isConnected && $0.admission == .none
        }.map(\.uuid)
        finding.uncommittedBytes = status.details?.uncommittedBytes ?? 0
        finding.commitLagMs = Double(status.details?.commitLagNs ?? 0) / 1e6
        guard !finding.isThrough else { return }
        finding.predictedPauseMs = Self.predict(finding, status, server.policies, roundTrip)
        if let finalized = status.details?.finalized, let wanted = server.versions,
            wanted.upperBound < finalized
        {
            report(
                server,
                "is finalised at protocol \(finalized): a build of "
                    + "\(ProtocolRange(wanted).text) is refused its store")
        }
        switch status.phase {
        case .recovering, .starting, .standby:
            report(server, "is \(status.phase.name): wait until it is serving")
        case .serving, .announced, .gathering, .committing, .sealed, .held, .committed, .stopped,
            .aborting:
            break
        }
        await lookForPartner(server, orders, now, &finding)
    }

    private mutating func lookForPartner(
        _ server: Plan.Server, _ orders: TargetOrders, _ now: NID?, _ finding: inout Finding
    ) async {
        let next = server.destination(among: orders.nids, now: now)
        finding.comesBackAt = next?.description
        guard let next else {
            if server.standby == nil {
                report(
                    server,
                    "has \(orders.nids.count) NIDs and no next among them, and no standby "
                        + "command: nobody would take over")
            }
            return
        }
        guard server.standby == nil, next != now else { return }
        do {
            _ = try await orders.client.ping(next)
        } catch {
            report(
                server,
                "no partner answers at \(next): start sluice serve --standby there, or give "
                    + "a standby command")
        }
    }

    /// From the fan-out, what is to be committed, and the way back; an estimate.
    private static func predict(
        _ finding: Finding, _ status: UpgradeStatusReply, _ policies: Plan.Policies,
        _ roundTrip: Double
    ) -> Double? {
        guard policies.scheme == .drain else { return nil }
        let clients = Double(finding.clients)
        let lastCommit = Double(status.details?.lastCommitNs ?? 0) / 1e6
        // At least 50 bytes a microsecond to the disk.
        let bytes = Double(finding.uncommittedBytes) / 50_000
        return 2 * roundTrip + clients * (noticeMsPerClient + returnMsPerClient)
            + 2 * lastCommit + bytes
    }

    /// What the dry run prints.
    func text(_ plan: Plan) -> String {
        var table = TextTable(
            "step", "target", "now", "protocol", "to", "comes back at", "clients", "absent",
            "uncommitted", "lag ms", "pause ms, about")
        for (number, step) in plan.steps.enumerated() {
            for member in step {
                let finding = findings[member]
                table.add(
                    "\(number + 1)", finding.target,
                    finding.isThrough ? "is there already" : finding.state,
                    finding.fromProtocol ?? "-", finding.toProtocol ?? "-",
                    finding.comesBackAt ?? "-", "\(finding.clients)", "\(finding.absent.count)",
                    "\(finding.uncommittedBytes)", Report.ms(finding.commitLagMs),
                    finding.predictedPauseMs.map(Report.ms) ?? "-")
            }
        }
        var lines = [table.text]
        for finding in findings where !finding.isThrough {
            if !finding.absent.isEmpty {
                lines.append(
                    "\(finding.target): not connected, would be carried forward: "
                        + Self.named(finding.absent))
            }
            if !finding.synchronous.isEmpty {
                lines.append(
                    "\(finding.target): without the feature, synchronous: "
                        + Self.named(finding.synchronous))
            }
            if finding.isInHand { lines.append("\(finding.target): an upgrade is in hand already") }
        }
        return lines.joined(separator: "\n")
    }

    private static func named(_ names: [String]) -> String {
        let shown = names.prefix(10).joined(separator: ", ")
        return names.count > 10 ? "\(shown) and \(names.count - 10) more" : shown
    }
}

extension Plan.Server {
    /// The target serves as the plan wants it.
    func isThrough(_ status: UpgradeStatusReply, at nid: NID?) -> Bool {
        guard status.phase == .serving else { return false }
        if let versions, status.versions != versions { return false }
        if let next, nid != next { return false }
        return true
    }

    /// Where it comes back; nil where that is not known: on the same NID, or wherever it is started.
    func destination(among nids: [NID], now: NID?) -> NID? {
        if let next { return next }
        if nids.count == 1 { return nids[0] }
        guard nids.count == 2, let now else { return nil }
        return nids.first { $0 != now }
    }
}
