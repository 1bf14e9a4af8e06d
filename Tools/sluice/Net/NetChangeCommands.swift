import ArgumentParser
import Foundation
import NodeRuntime
import WireFormat

/// `sluice net add`.
struct NetAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Give the running node one more interface.")

    @Argument(help: ArgumentHelp("Its NID, of an address of this machine.", valueName: "nid"))
    var nid: NID

    @OptionGroup var node: RunningNode

    func run() async throws {
        try node.show(ControlRequest("net", "add", ["nid": "\(nid)"]))
    }
}

/// `sluice net del`.
struct NetDeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "del", abstract: "Take an interface from the running node.")

    @Argument(help: ArgumentHelp("Its NID; any but the first.", valueName: "nid"))
    var nid: NID

    @OptionGroup var node: RunningNode

    func run() async throws {
        try node.show(ControlRequest("net", "del", ["nid": "\(nid)"]))
    }
}

/// `sluice net set`.
struct NetSetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set", abstract: "Change an interface of the running node.")

    @Option(name: .customLong("ni"), help: ArgumentHelp("Which one.", valueName: "nid"))
    var nid: NID?

    @Flag(help: "All of them.")
    var all = false

    @Option(help: ArgumentHelp("Its health, 0 to 1000.", valueName: "n"))
    var health: Int?

    @Option(help: ArgumentHelp("Of the whole node: LND timeout.", valueName: "s"))
    var lndTimeout: Int?

    @OptionGroup var node: RunningNode

    func run() async throws {
        var arguments: [String: String] = [:]
        arguments["nid"] = nid?.description
        if all { arguments["all"] = "1" }
        arguments["health"] = health.map { "\($0)" }
        arguments["lnd-timeout"] = lndTimeout.map { "\($0)" }
        try node.show(ControlRequest("net", "set", arguments))
    }
}

/// `sluice net discover`.
struct NetDiscoverCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "discover",
        abstract: "Ask nodes for all their NIDs, as lnetctl discover does.")

    @Argument(help: ArgumentHelp("NIDs of the nodes.", valueName: "nid,…"))
    var peers: NIDList

    @Flag(help: "Ask even those that are known.")
    var force = false

    @Option(help: ArgumentHelp("Wait this long for each.", valueName: "s"))
    var timeout = 5.0

    @OptionGroup var node: NetOptions

    func validate() throws {
        guard timeout > 0, timeout <= 180 else {
            throw ValidationError("--timeout must be above 0 and at most 180 seconds")
        }
    }

    func run() async throws {
        var arguments = ["nid": peers.text, "timeout": "\(Int(timeout * 1000))"]
        if force { arguments["force"] = "1" }
        try node.show(
            ControlRequest("net", "discover", arguments), toReach: peers.nids.first,
            seconds: timeout * Double(peers.nids.count) + 5)
    }
}

/// `sluice net export`.
struct NetExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write what the node is set to as a file that import and lnetctl read.")

    @Flag(help: "Without what only was counted.")
    var backup = false

    @Argument(help: ArgumentHelp("Default: standard output.", valueName: "file"))
    var file: String?

    @OptionGroup var node: NetOptions

    func run() async throws {
        let text = try node.ask(ControlRequest("net", "export", backup ? ["backup": "1"] : [:]))
        guard let file else {
            Output.text(text)
            return
        }
        do {
            try text.write(toFile: file, atomically: true, encoding: .utf8)
        } catch {
            throw Failure("\(file) cannot be written: \(error.localizedDescription)")
        }
    }
}

/// `sluice net import`.
struct NetImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Set the running node as a file of export or lnetctl says.")

    @Flag(name: .customLong("del"), help: "Delete what the file names.")
    var deletes = false

    @Flag(name: .customLong("show"), help: "Change nothing; show what the node has.")
    var shows = false

    @Argument(help: ArgumentHelp("Default: standard input.", valueName: "file"))
    var file: String?

    @OptionGroup var node: RunningNode

    func validate() throws {
        guard !deletes || !shows else { throw ValidationError("give --del or --show, not both") }
    }

    func run() async throws {
        let data: Data
        if let file {
            guard let read = FileManager.default.contents(atPath: file) else {
                throw Failure("\(file) cannot be read")
            }
            data = read
        } else {
            data = FileHandle.standardInput.readDataToEndOfFile()
        }
        guard let text = String(data: data, encoding: .utf8), !text.isEmpty else {
            throw Failure("\(file ?? "standard input") holds no YAML")
        }
        var arguments: [String: String] = [:]
        if deletes { arguments["del"] = "1" }
        if shows { arguments["show"] = "1" }
        try node.show(ControlRequest("net", "import", arguments, body: text))
    }
}

/// The running node that a command changes.
struct RunningNode: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The control socket of the running node. Default: the environment variable "
                + "SLUICE_CONTROL.", valueName: "path"))
    var control: String?

    func show(_ request: ControlRequest) throws {
        let path = control ?? ProcessInfo.processInfo.environment["SLUICE_CONTROL"]
        guard let path, !path.isEmpty else {
            throw Failure(
                "this is about a node that runs: name its control socket with --control PATH or "
                    + "SLUICE_CONTROL")
        }
        do {
            let text = try ControlClient(path: path).ask(request)
            if !text.isEmpty { Output.text(text) }
        } catch {
            throw Failure("\(error)")
        }
    }
}
