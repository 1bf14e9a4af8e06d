import ArgumentParser
import NodeRuntime
import WireFormat

/// `sluice net peer`.
struct LNetPeerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peer", abstract: "The nodes that this one knows.",
        subcommands: [
            NetPeerShowCommand.self, NetPeerListCommand.self, NetPeerAddCommand.self,
            NetPeerDeleteCommand.self, NetPeerSetCommand.self,
        ])
}

struct NetPeerShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show the node's peers, as lnetctl peer show does.")

    @Option(name: .customLong("peer"), help: ArgumentHelp("Only this one.", valueName: "nid"))
    var peer: NID?

    @Flag(name: .shortAndLong, help: "State, credits, health and counters as well.")
    var verbose = false

    @OptionGroup var node: NetOptions

    func run() async throws {
        var arguments: [String: String] = [:]
        arguments["nid"] = peer?.description
        if verbose { arguments["verbose"] = "1" }
        try node.show(ControlRequest("peer", "show", arguments))
    }
}

struct NetPeerListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Show the primary NIDs of the node's peers.")

    @OptionGroup var node: NetOptions

    func run() async throws { try node.show(ControlRequest("peer", "list")) }
}

struct NetPeerAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Tell the running node which NIDs a peer has.")

    @Option(
        name: .customLong("prim_nid"), help: ArgumentHelp("Its primary NID.", valueName: "nid"))
    var primary: NID

    @Option(name: .customLong("nid"), help: ArgumentHelp("Its others.", valueName: "nid,…"))
    var nids: NIDList?

    @Flag(name: .customLong("non_mr"), help: "It is not Multi-Rail.")
    var nonMultiRail = false

    @Flag(name: .customLong("lock_prim"), help: "Keep the primary NID whatever it says itself.")
    var locks = false

    @OptionGroup var node: RunningNode

    func run() async throws {
        var arguments = ["prim_nid": "\(primary)"]
        arguments["nid"] = nids?.text
        if nonMultiRail { arguments["non_mr"] = "1" }
        if locks { arguments["lock_prim"] = "1" }
        try node.show(ControlRequest("peer", "add", arguments))
    }
}

struct NetPeerDeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "del", abstract: "Let the running node forget a peer, or some of its NIDs.")

    @Option(
        name: .customLong("prim_nid"), help: ArgumentHelp("Its primary NID.", valueName: "nid"))
    var primary: NID

    @Option(name: .customLong("nid"), help: ArgumentHelp("Only these.", valueName: "nid,…"))
    var nids: NIDList?

    @OptionGroup var node: RunningNode

    func run() async throws {
        var arguments = ["prim_nid": "\(primary)"]
        arguments["nid"] = nids?.text
        try node.show(ControlRequest("peer", "del", arguments))
    }
}

struct NetPeerSetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set", abstract: "Set the health of a peer's interface.")

    @Option(name: .customLong("nid"), help: ArgumentHelp("Which one.", valueName: "nid"))
    var nid: NID?

    @Flag(help: "All of them.")
    var all = false

    @Option(help: ArgumentHelp("0 to 1000.", valueName: "n"))
    var health: Int

    @OptionGroup var node: RunningNode

    func run() async throws {
        var arguments = ["health": "\(health)"]
        arguments["nid"] = nid?.description
        if all { arguments["all"] = "1" }
        try node.show(ControlRequest("peer", "set", arguments))
    }
}
