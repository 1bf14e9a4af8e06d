import ClientCore
import Foundation
import UpgradeCore
import WireFormat

/// Carries a plan out, one step after the other.
///
/// It keeps nothing that it could not ask the targets again: a run that died is begun anew, finds
/// those that are through, and goes on with those that are in hand.
final class PlanRunner {
    private let plan: Plan
    private let client: ClusterClient
    private let control: PlanControl
    private let progress = ProgressLine()
    private var commands: [Int: DetachedCommand] = [:]
    /// What clients have waited for so far, as far as this run has seen.
    private var spent = 0.0

    /// Between two questions to a target.
    private static let interval = Duration.milliseconds(50)

    init(_ plan: Plan, _ client: ClusterClient) {
        self.plan = plan
        self.client = client
        control = PlanControl(path: plan.path)
    }

    private func orders(_ member: Int) -> TargetOrders {
        TargetOrders(client: client, place: plan.servers[member].place)
    }

    private func say(_ text: String) {
        progress.end()
        Output.line(text)
    }

    func run() async throws {
        try control.take()
        defer { progress.end() }
        if control.wish == .abort { try control.set(nil) }
        for (number, step) in plan.steps.enumerated() {
            try await pauseIfAsked()
            let names = step.map { plan.servers[$0].target }.joined(separator: ", ")
            let title = "step \(number + 1) of \(plan.steps.count): \(names)"
            let open = try await notThrough(step)
            guard !open.isEmpty else {
                say("\(title): is through already")
                continue
            }
            if let budget = plan.budget, spent >= budget {
                throw Failure(
                    "\(title): the plan's budget of \(budget) s is used up (\(Report.ms(spent)) s); "
                        + "give it more and run it again to go on")
            }
            say(title)
            try await carryOut(open)
        }
        say("the plan is through")
    }

    private func notThrough(_ step: [Int]) async throws -> [Int] {
        var open: [Int] = []
        for member in step {
            let server = plan.servers[member]
            let status = try await orders(member).status()
            let nid = await client.currentNID(of: server.place)
            if !server.isThrough(status, at: nid) { open.append(member) }
        }
        return open
    }

    private func pauseIfAsked() async throws {
        var isTold = false
        while true {
            switch control.wish {
            case nil: return
            case .abort: throw try ended()
            case .pause:
                if !isTold { say("paused; sluice upgrade resume \(plan.path) lets it go on") }
                isTold = true
                try await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func ended() throws -> Failure {
        try control.set(nil)
        return Failure("ended by sluice upgrade abort; what is through stays")
    }

    // MARK: One step

    private struct Member {
        var index: Int
        var orders: TargetOrders
        var server: Plan.Server
        /// The instance that goes.
        var instance: UInt64
        var orderedAt: ContinuousClock.Instant
    }

    private func carryOut(_ step: [Int]) async throws {
        var members: [Member] = []
        for index in step {
            let status = try await orders(index).status()
            members.append(
                Member(
                    index: index, orders: orders(index), server: plan.servers[index],
                    instance: status.instance, orderedAt: .now))
            if !status.phase.isUpgrading { try await startStandby(index) }
        }
        let isGroup = plan.groups.contains { $0.contains(step[0]) } && members.count > 1
        do {
            for place in members.indices {
                try await order(&members[place], holds: isGroup)
            }
            if isGroup { try await awaitSeals(members) }
        } catch {
            try await giveUp(members)
            throw error
        }
        for member in members { try await awaitReturn(member) }
    }

    private func startStandby(_ index: Int) async throws {
        let server = plan.servers[index]
        guard let command = server.standby else { return }
        let now = await client.currentNID(of: server.place)
        let next = server.destination(among: orders(index).nids, now: now)
        if let next, next != now, (try? await client.ping(next)) != nil {
            say("\(server.target): a standby answers at \(next) already")
            return
        }
        let started = try DetachedCommand(
            command, logPath: "\(plan.path).\(server.target).log")
        commands[index] = started
        guard let next, next != now else { return }
        let limit = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < limit {
            if let end = started.poll() { throw Failure("\(server.target): the standby \(end)") }
            if (try? await client.ping(next)) != nil { return }
            try await Task.sleep(for: Self.interval)
        }
        throw Failure("\(server.target): its standby does not answer at \(next) after 20 s")
    }

    private func order(_ member: inout Member, holds: Bool) async throws {
        let status = try await member.orders.status()
        guard !status.phase.isUpgrading else {
            say("\(member.server.target): is \(status.phase.name) already, by an earlier order")
            return
        }
        let now = await client.currentNID(of: member.server.place)
        var next = member.server.destination(among: member.orders.nids, now: now)
        if next == now { next = nil }
        member.orderedAt = .now
        try await member.orders.give(member.server.policies.order(next: next, holds: holds))
    }

    /// Those that can still be given up are; a plan goes together or not at all.
    private func giveUp(_ members: [Member]) async throws {
        for member in members {
            guard let status = try? await member.orders.status(),
                status.phase.canAbort, status.instance == member.instance
            else { continue }
            if (try? await member.orders.give(UpgradeStart(.abort))) != nil {
                say("\(member.server.target): given up")
            }
        }
    }

    /// No target of a group says that all is committed before all of them are sealed.
    private func awaitSeals(_ members: [Member]) async throws {
        let limit = members.map(\.server.policies.expirySeconds).max() ?? 0
        let end = ContinuousClock.now + .seconds(limit + 10)
        while true {
            var sealed = 0
            for member in members {
                let status = try await member.orders.status()
                try checkForAbort(member, status)
                if status.instance != member.instance { sealed += 1 }
                if [.held, .committed, .stopped].contains(status.phase) { sealed += 1 }
                show(member, status)
            }
            if sealed == members.count { break }
            if control.wish == .abort { throw try ended() }
            guard ContinuousClock.now < end else {
                throw Failure("not all of the group are sealed after \(Int(limit) + 10) s")
            }
            try await Task.sleep(for: Self.interval)
        }
        say("all \(members.count) of the group are sealed")
        for member in members {
            let status = try await member.orders.status()
            if status.phase == .held { try await member.orders.give(UpgradeStart(.proceed)) }
        }
    }

    private func checkForAbort(_ member: Member, _ status: UpgradeStatusReply) throws {
        guard status.instance == member.instance, status.phase == .serving,
            let reason = status.details?.lastAbort
        else { return }
        throw Failure(
            "\(member.server.target) has given the upgrade up and serves on: "
                + UpgradeReport.words(ofAbort: reason))
    }

    private func awaitReturn(_ member: Member) async throws {
        let limit = member.server.policies.expirySeconds + 120
        let end = ContinuousClock.now + .seconds(limit)
        var refusal: String?
        while true {
            if let status = try? await member.orders.status() {
                try checkForAbort(member, status)
                show(member, status)
                if status.instance != member.instance, status.phase == .serving {
                    return try await arrived(member, status, refusal)
                }
            }
            if let said = commands[member.index]?.poll() {
                guard refusal == nil else {
                    throw Failure("\(member.server.target): neither build took over: \(said)")
                }
                refusal = said
                try fallBack(member, said)
            }
            if control.wish == .abort {
                try await giveUp([member])
                throw try ended()
            }
            guard ContinuousClock.now < end else {
                throw Failure(
                    "\(member.server.target) is not back after \(Int(limit)) s: start an instance "
                        + "of either build over its store, and run the plan again")
            }
            try await Task.sleep(for: Self.interval)
        }
    }

    private func fallBack(_ member: Member, _ said: String) throws {
        let name = member.server.target
        guard let fallback = member.server.fallback else {
            throw Failure("\(name): the standby \(said); there is no fallback to start")
        }
        say("\(name): the standby \(said); starting the fallback")
        commands[member.index] = try DetachedCommand(
            fallback, logPath: "\(plan.path).\(name).log")
    }

    private func arrived(
        _ member: Member, _ status: UpgradeStatusReply, _ refusal: String?
    ) async throws {
        let name = member.server.target
        let seconds = (ContinuousClock.now - member.orderedAt) / .seconds(1)
        spent += max(0, seconds - member.server.policies.preflush)
        if let refusal {
            throw Failure("\(name) serves in the old build, for the new one \(refusal)")
        }
        if let wanted = member.server.versions, status.versions != wanted {
            throw Failure(
                "\(name) came back with protocol \(ProtocolRange(status.versions).text) and not "
                    + "\(ProtocolRange(wanted).text): another build took the store")
        }
        let nid = await client.currentNID(of: member.server.place)
        say(
            "\(name): serves protocol \(ProtocolRange(status.versions).text) at "
                + "\(nid?.description ?? "?"), \(Report.ms(seconds * 1000)) ms after the order; "
                + "\(status.evictions) evicted, \(status.replayed) replayed, "
                + "\(status.resent) resent")
    }

    private func show(_ member: Member, _ status: UpgradeStatusReply) {
        var line = "\(member.server.target) is \(status.phase.name)"
        if status.phase.isUpgrading {
            let report = UpgradeReport(status)
            let missing = report.clients.filter {
                $0.state == "not prepared" || $0.state == "flushed"
            }
            line += ", \(report.clientCount - missing.count) of \(report.clientCount) prepared"
            if let first = missing.first, missing.count <= 3 {
                line += "; \(first.uuid): \(first.reason)"
            }
        }
        progress.show(line)
    }
}
