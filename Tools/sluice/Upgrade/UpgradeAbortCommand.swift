import ArgumentParser
import ClientCore
import WireFormat

/// `sluice upgrade abort`: the gates open again.
struct UpgradeAbortCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "abort",
        abstract: "Give an upgrade up: of one target, or of every target of a plan.",
        discussion: """
            Possible until the clients are told that all is committed; after that there is only the \
            way forward, to an instance of either build. With a plan its run ends too, if there is one.
            """)

    @Argument(help: ArgumentHelp("The plan's file.", valueName: "plan"))
    var plan: String?

    @Option(help: ArgumentHelp("The target.", valueName: "name"))
    var target: String?

    @OptionGroup var clusterOptions: ClusterOptions

    func validate() throws {
        guard (plan == nil) != (target == nil) else {
            throw ValidationError("name a plan's file, or a target with --target")
        }
    }

    func run() async throws {
        if let plan { return try await abort(plan: plan) }
        let file = try clusterOptions.load()
        let place = try file.index(of: target!)
        let client = try clusterOptions.client(for: file)
        let orders = TargetOrders(client: client, place: place)
        let epoch = try await orders.give(UpgradeStart(.abort))
        let isBack = try await orders.wait(seconds: 20) { $0.phase == .serving } != nil
        await client.close()
        guard isBack else {
            throw Failure("\(target!) has the order and is not serving yet: see upgrade status")
        }
        Output.line("\(target!): upgrade \(epoch) is given up, the gates are open")
    }

    private func abort(plan path: String) async throws {
        let plan = try PlanFile(path: path, clusterOptions: clusterOptions).checked()
        try PlanControl(path: path).set(.abort)
        let client = try clusterOptions.client(for: plan.cluster)
        var failures: [String] = []
        for step in plan.servers {
            let orders = TargetOrders(client: client, place: step.place)
            do {
                guard try await orders.status().phase.isUpgrading else {
                    Output.line("\(step.target): no upgrade in hand")
                    continue
                }
                try await orders.give(UpgradeStart(.abort))
                Output.line("\(step.target): given up")
            } catch {
                failures.append("\(error)")
            }
        }
        await client.close()
        if !PlanControl(path: path).isRunning { try PlanControl(path: path).set(nil) }
        guard failures.isEmpty else { throw Failure(failures.joined(separator: "; ")) }
    }
}

extension UpgradePhase {
    /// An upgrade is in hand.
    var isUpgrading: Bool {
        switch self {
        case .announced, .gathering, .committing, .sealed, .held, .committed, .stopped, .aborting:
            true
        case .serving, .recovering, .standby, .starting: false
        }
    }
}
