import ArgumentParser
import NodeRuntime
import WireFormat

/// `sluice net show`.
struct NetShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show the node's interfaces, as lnetctl net show does.")

    @Option(help: ArgumentHelp("Only this network, such as tcp or o2ib1.", valueName: "net"))
    var net: String?

    @Flag(name: .shortAndLong, help: "Counters and tunables as well.")
    var verbose = false

    @OptionGroup var node: NetOptions

    func run() async throws {
        var arguments: [String: String] = [:]
        arguments["net"] = net
        if verbose { arguments["verbose"] = "1" }
        try node.show(ControlRequest("net", "show", arguments))
    }
}

/// `sluice net stats`.
struct NetStatsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "Show the node's counters, as lnetctl stats show does.")

    @OptionGroup var node: NetOptions

    func run() async throws { try node.show(ControlRequest("stats", "show")) }
}

/// `sluice net peer`.
struct LNetPeerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peer", abstract: "The nodes that this one knows.",
        subcommands: [LNetPeerShowCommand.self])
}

struct LNetPeerShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show the node's peers, as lnetctl peer show does.")

    @Option(name: .customLong("peer"), help: ArgumentHelp("Only this one.", valueName: "nid"))
    var peer: NID?

    @Flag(name: .shortAndLong, help: "Credits and counters as well.")
    var verbose = false

    @OptionGroup var node: NetOptions

    func run() async throws {
        var arguments: [String: String] = [:]
        arguments["nid"] = peer?.description
        if verbose { arguments["verbose"] = "1" }
        try node.show(ControlRequest("peer", "show", arguments))
    }
}

/// `sluice net global`.
struct NetGlobalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "global", abstract: "Settings of the whole node.",
        subcommands: [NetGlobalShowCommand.self])
}

struct NetGlobalShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show them, as lnetctl global show does.")

    @OptionGroup var node: NetOptions

    func run() async throws { try node.show(ControlRequest("global", "show")) }
}
