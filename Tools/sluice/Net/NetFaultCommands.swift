import ArgumentParser
import NodeRuntime
import WireFormat

/// `sluice net fault`.
struct NetFaultCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fault", abstract: "Faults on purpose in a running node.",
        subcommands: [
            NetFaultDropCommand.self, NetFaultDelayCommand.self, NetFaultBreakCommand.self,
        ])
}

struct NetFaultDropCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drop",
        abstract: "Drop received messages, or fail sent ones with a health error.",
        subcommands: [
            NetFaultDropAddCommand.self, FaultVerb<DropDelete>.self, FaultVerb<DropReset>.self,
            FaultVerb<DropShow>.self,
        ])
}

struct NetFaultDelayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delay", abstract: "Delay messages.",
        subcommands: [
            NetFaultDelayAddCommand.self, FaultVerb<DelayDelete>.self,
            FaultVerb<DelayReset>.self, FaultVerb<DelayShow>.self,
        ])
}

struct NetFaultBreakCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "break",
        abstract: "Break open connections: sockets, and queue pairs over RDMA.",
        discussion: """
            What is under way on them is lost, as when the network fails; the next message connects \
            anew. Prints how many connections that were.
            """)

    @Option(help: ArgumentHelp("Only those to this peer: a NID, *@NET or *.", valueName: "nid"))
    var dest = "*"

    @OptionGroup var node: RunningNode

    func run() async throws {
        try node.show(ControlRequest("fault", "break", ["dest": dest]))
    }
}

/// Which messages a rule is about.
struct FaultOptions: ParsableArguments {
    @Option(help: ArgumentHelp("From whom: a NID, *@NET or *.", valueName: "nid"))
    var source: String

    @Option(help: ArgumentHelp("To whom: a NID, *@NET or *.", valueName: "nid"))
    var dest: String

    @Option(help: ArgumentHelp("One of so many.", valueName: "n"))
    var rate: Int?

    @Option(help: ArgumentHelp("One in each such time.", valueName: "s"))
    var interval: Int?

    @Option(help: ArgumentHelp("Portals.", valueName: "n,…"))
    var portal: String?

    @Option(help: ArgumentHelp("PUT, ACK, GET, REPLY.", valueName: "type,…"))
    var message: String?

    var arguments: [String: String] {
        var arguments = ["source": source, "dest": dest]
        arguments["rate"] = rate.map { "\($0)" }
        arguments["interval"] = interval.map { "\($0)" }
        arguments["portal"] = portal
        arguments["message"] = message
        return arguments
    }

    func validate() throws {
        guard (rate == nil) != (interval == nil) else {
            throw ValidationError("give either --rate N or --interval SECONDS")
        }
    }
}

struct NetFaultDropAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Add a rule.")

    @OptionGroup var rule: FaultOptions

    @Option(
        name: .customLong("health_error"),
        help: ArgumentHelp(
            "Fail them on sending instead, with one of these: local_dropped, remote_timeout, …, "
                + "random.", valueName: "error,…"))
    var healthError: String?

    @OptionGroup var node: RunningNode

    func run() async throws {
        var arguments = rule.arguments
        arguments["health_error"] = healthError
        try node.show(ControlRequest("fault-drop", "add", arguments))
    }
}

struct NetFaultDelayAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Add a rule.")

    @OptionGroup var rule: FaultOptions

    @Option(help: ArgumentHelp("How long.", valueName: "s"))
    var latency: Int

    @OptionGroup var node: RunningNode

    func run() async throws {
        var arguments = rule.arguments
        arguments["latency"] = "\(latency)"
        try node.show(ControlRequest("fault-delay", "add", arguments))
    }
}

/// A verb about rules that are there.
protocol FaultVerbKind: Sendable {
    static var noun: String { get }
    static var verb: String { get }
    static var abstract: String { get }
}

enum DropDelete: FaultVerbKind {
    static let (noun, verb) = ("fault-drop", "del")
    static let abstract = "Delete rules by --source and --dest, or --all."
}
enum DropReset: FaultVerbKind {
    static let (noun, verb) = ("fault-drop", "reset")
    static let abstract = "Begin the counting anew."
}
enum DropShow: FaultVerbKind {
    static let (noun, verb) = ("fault-drop", "show")
    static let abstract = "Show the rules and their counters."
}
enum DelayDelete: FaultVerbKind {
    static let (noun, verb) = ("fault-delay", "del")
    static let abstract = "Delete rules by --source and --dest, or --all."
}
enum DelayReset: FaultVerbKind {
    static let (noun, verb) = ("fault-delay", "reset")
    static let abstract = "Begin the counting anew."
}
enum DelayShow: FaultVerbKind {
    static let (noun, verb) = ("fault-delay", "show")
    static let abstract = "Show the rules and their counters."
}

struct FaultVerb<Kind: FaultVerbKind>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: Kind.verb, abstract: Kind.abstract)
    }

    @Option(help: ArgumentHelp("Only those from this NID.", valueName: "nid"))
    var source: String?

    @Option(help: ArgumentHelp("Only those to this NID.", valueName: "nid"))
    var dest: String?

    @Flag(help: "All of them.")
    var all = false

    @OptionGroup var node: RunningNode

    func run() async throws {
        var arguments: [String: String] = [:]
        arguments["source"] = source
        arguments["dest"] = dest
        if all { arguments["all"] = "1" }
        try node.show(ControlRequest(Kind.noun, Kind.verb, arguments))
    }
}
