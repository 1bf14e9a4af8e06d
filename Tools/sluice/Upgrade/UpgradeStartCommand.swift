import ArgumentParser
import ClientCore
import WireFormat

/// `sluice upgrade start`: the order that begins it.
struct UpgradeStartCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "start", abstract: "Order a target to drain and hand over.")

    enum Scheme: String, ExpressibleByArgument, CaseIterable {
        case drain
        case sync
    }

    enum Policy: String, ExpressibleByArgument, CaseIterable {
        case wait
        case leaveBehind = "leave-behind"
        case abort
    }

    @Option(help: ArgumentHelp("The target to upgrade.", valueName: "name"))
    var target: String

    @OptionGroup var clusterOptions: ClusterOptions

    @Option(help: "drain gates the clients; sync commits before every reply instead.")
    var scheme = Scheme.drain

    @Option(help: ArgumentHelp("How long clients may take to prepare.", valueName: "s"))
    var deadline = 10.0

    @Option(help: "What happens to clients that are not prepared by then.")
    var late = Policy.leaveBehind

    @Option(
        help: ArgumentHelp(
            "Where the target comes back. Default: its other NID, where it has two.",
            valueName: "nid"))
    var next: NID?

    @Flag(help: "Wait until the next instance serves.")
    var wait = false

    @OptionGroup var output: JSONOption

    func validate() throws {
        guard deadline > 0, deadline <= 86_400 else {
            throw ValidationError("--deadline must be above 0 and at most 86400 seconds")
        }
    }

    private struct Report: Encodable {
        var target: String
        var epoch: String
        var next: String?
        var status: UpgradeReport?
    }

    func run() async throws {
        let file = try clusterOptions.load()
        let place = try file.index(of: target)
        let client = try clusterOptions.client(for: file)
        let before = try await UpgradeReport.ask(client, place)
        let next = try await destination(file.targets[place].nids, client, place)
        let policy: DeadlinePolicy =
            switch late {
            case .wait: .wait
            case .leaveBehind: .leaveBehind
            case .abort: .abort
            }
        let milliseconds = UInt32(deadline * 1000)
        let order = UpgradeStart(
            scheme: scheme == .drain ? .drain : .sync, deadlinePolicy: policy,
            deadlineMs: milliseconds, expiryMs: milliseconds &* 2 &+ 30_000,
            next: next ?? NID(rawValue: 0))
        let reply: ReplyBody
        do {
            reply = try await client.send(.upgradeStart(order), to: place)
        } catch {
            throw Failure("\(target) does not begin an upgrade now; it is \(before.phase)")
        }
        guard case .upgradeStarted(let epoch) = reply else {
            throw Failure("\(target) answered something else")
        }
        var status: UpgradeReport?
        if wait {
            let limit = ContinuousClock.now + .seconds(deadline * 2 + 60)
            while ContinuousClock.now < limit {
                if let now = try? await UpgradeReport.ask(client, place),
                    now.instance != before.instance
                {
                    status = now
                    break
                }
                try await Task.sleep(for: .milliseconds(50))
            }
            guard status != nil else {
                throw Failure("\(target) did not come back in time; is its standby running?")
            }
        }
        await client.close()
        if output.json {
            try Output.json(
                Report(
                    target: target, epoch: epoch.description, next: next?.description,
                    status: status))
        } else if let status {
            Output.line(status.text)
        } else {
            Output.line("\(target): upgrade \(epoch) has begun; sluice upgrade status tells more")
        }
    }

    /// Where the target comes back: what was asked for, else the NID of a pair that it is not on
    /// now. A target that was upgraded before stands on its second one.
    private func destination(
        _ nids: [NID], _ client: ClusterClient, _ place: Int
    ) async throws -> NID? {
        if let next {
            guard nids.contains(next) else {
                throw Failure("\(next) is no NID of \(target): clients would not find it there")
            }
            return next
        }
        guard nids.count == 2, let now = await client.currentNID(of: place) else { return nil }
        return nids.first { $0 != now }
    }
}
