import ArgumentParser
import ClientCore
import WireFormat

/// `sluice maintenance`: a target stands still while something else is done.
struct MaintenanceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "maintenance",
        abstract: "Let a target stand still, with everything on disk, and go on again.",
        discussion: """
            start shuts the gates of the clients as an upgrade does: each gives its receipt, all is \
            committed with the clean record, and then the target waits. What is to be done can be \
            done then: switch a network, snapshot a disk, or stop the server (SIGTERM) and reboot. \
            The gates open again at stop, when an instance starts on the store, or by themselves \
            when the time is over.
            """,
        subcommands: [MaintenanceStartCommand.self, MaintenanceStopCommand.self])
}

struct MaintenanceStartCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "start", abstract: "Bring a target to a standstill.")

    @Option(help: ArgumentHelp("The target.", valueName: "name"))
    var target: String

    @OptionGroup var clusterOptions: ClusterOptions
    @OptionGroup var policies: PolicyOptions

    @Option(
        name: .customLong("for"),
        help: ArgumentHelp("The gates open by themselves after this long.", valueName: "s"))
    var duration = 600.0

    func validate() throws {
        guard duration > 0, duration <= 604_800 else {
            throw ValidationError("--for must be above 0 and at most 604800 seconds")
        }
    }

    func run() async throws {
        let file = try clusterOptions.load()
        let place = try file.index(of: target)
        let client = try clusterOptions.client(for: file)
        let orders = TargetOrders(client: client, place: place)
        var order = policies.order(scheme: .drain, expiry: duration, next: nil)
        order.holds = true
        let epoch = try await orders.give(order)
        let found = try await orders.wait(seconds: min(duration, policies.deadline + 30)) {
            $0.phase == .held || $0.phase == .serving
        }
        await client.close()
        guard let found else {
            throw Failure(
                "\(target) has the order and does not stand still yet: sluice upgrade status says "
                    + "who it waits for, sluice maintenance stop gives it up")
        }
        guard found.phase == .held else {
            throw Failure(
                "\(target) gave it up and serves on: "
                    + UpgradeReport.words(ofAbort: found.details?.lastAbort))
        }
        let left = Double(found.details?.expiryLeftMs ?? 0) / 1000
        Output.line(
            "\(target): stands still (\(epoch)), everything is on disk; the gates open in "
                + "\(Int(left)) s, with sluice maintenance stop, or when its next instance starts")
    }
}

struct MaintenanceStopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Let a target that stands still go on.")

    @Option(help: ArgumentHelp("The target.", valueName: "name"))
    var target: String

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        let file = try clusterOptions.load()
        let place = try file.index(of: target)
        let client = try clusterOptions.client(for: file)
        let orders = TargetOrders(client: client, place: place)
        let status = try await orders.status()
        if status.phase.isUpgrading, status.details?.holds != true {
            throw Failure(
                "\(target) is \(status.phase.name) in upgrade \(status.epoch) and not in "
                    + "maintenance: sluice upgrade abort gives that up")
        }
        try await orders.give(UpgradeStart(.abort))
        let isBack = try await orders.wait(seconds: 20) { $0.phase == .serving } != nil
        await client.close()
        guard isBack else {
            throw Failure("\(target) has the order and is not serving yet: see upgrade status")
        }
        Output.line("\(target): serves again, the gates are open")
    }
}
