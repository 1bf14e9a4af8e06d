import ArgumentParser
import NodeRuntime
import WireFormat

/// `sluice net show`.
struct NetShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show the node's interfaces, as lnetctl net show does.",
        discussion: """
            With -v also, by network, why connections ended (lnd faults) and over RDMA which \
            requests to connect were rejected, by this node and by its peers.
            """)

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
