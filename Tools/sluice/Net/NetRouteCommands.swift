import ArgumentParser
import NodeRuntime
import WireFormat

/// `sluice net route`.
struct NetRouteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "route", abstract: "Ways to other networks.",
        subcommands: [
            NetRouteShowCommand.self, NetRouteAddCommand.self, NetRouteDeleteCommand.self,
        ])
}

struct NetRouteShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show the node's routes, as lnetctl route show does.")

    @Flag(name: .shortAndLong, help: "Whether they are up as well.")
    var verbose = false

    @OptionGroup var node: NetOptions

    func run() async throws {
        try node.show(ControlRequest("route", "show", verbose ? ["verbose": "1"] : [:]))
    }
}

struct NetRouteAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Give the running node a route.")

    @Option(help: ArgumentHelp("The remote network, such as o2ib or tcp1.", valueName: "net"))
    var net: String

    @Option(
        help: ArgumentHelp("The gateway's NID, on a network of the node's.", valueName: "nid,…"))
    var gateway: NIDList

    @Option(help: ArgumentHelp("Hops, 1 to 255. Default: undefined.", valueName: "n"))
    var hop: Int?

    @Option(help: ArgumentHelp("0 is best.", valueName: "n"))
    var priority: Int?

    @OptionGroup var node: RunningNode

    func run() async throws {
        var arguments = ["net": net, "gateway": gateway.text]
        arguments["hop"] = hop.map { "\($0)" }
        arguments["priority"] = priority.map { "\($0)" }
        try node.show(ControlRequest("route", "add", arguments))
    }
}

struct NetRouteDeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "del", abstract: "Take a route from the running node.")

    @Option(help: ArgumentHelp("The remote network.", valueName: "net"))
    var net: String

    @Option(help: ArgumentHelp("The gateway's NID.", valueName: "nid,…"))
    var gateway: NIDList

    @OptionGroup var node: RunningNode

    func run() async throws {
        try node.show(
            ControlRequest("route", "del", ["net": net, "gateway": gateway.text]))
    }
}

/// `sluice net routing`.
struct NetRoutingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "routing",
        abstract: "Show whether the node is a router, and its buffers, as lnetctl does.")

    @OptionGroup var node: NetOptions

    func run() async throws { try node.show(ControlRequest("routing", "show")) }
}

/// `sluice net global`.
struct NetGlobalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "global", abstract: "Settings of the whole node.",
        subcommands: [NetGlobalShowCommand.self, NetGlobalSetCommand.self])
}

struct NetGlobalShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show them, as lnetctl global show does.")

    @OptionGroup var node: NetOptions

    func run() async throws { try node.show(ControlRequest("global", "show")) }
}

struct NetGlobalSetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set",
        abstract: "Change them, as lnetctl set does: discovery 1.",
        discussion: """
            discovery, drop_asym_route, routing: 0 or 1. retry_count, health_sensitivity, \
            transaction_timeout, lnd_timeout, max_recovery_ping_interval, tiny_buffers, \
            small_buffers, large_buffers: a number; times in seconds.
            """)

    @Argument(help: ArgumentHelp("Which setting.", valueName: "name"))
    var name: String

    @Argument(help: ArgumentHelp("Its value.", valueName: "value"))
    var value: Int

    @OptionGroup var node: RunningNode

    func run() async throws {
        try node.show(ControlRequest("global", "set", [name: "\(value)"]))
    }
}
