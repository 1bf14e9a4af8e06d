import ArgumentParser
import EventLoop
import Foundation
import LNetCore
import NodeRuntime
import WireFormat

/// Which node a `net` command is about: a running one, or one of its own.
struct NetOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The control socket of a running node. Default: the environment variable "
                + "SLUICE_CONTROL; without it the command is a node of its own.",
            valueName: "path"))
    var control: String?

    @Option(
        name: .customLong("nid"),
        help: ArgumentHelp(
            "A node of its own: its NID, and others behind commas.", valueName: "nid,…"))
    var own: NIDList?

    @Option(
        help: ArgumentHelp("A node of its own: LNet's accept_port.", valueName: "port"))
    var acceptPort: UInt16 = ClusterFile.defaultAcceptPort

    @Option(
        help: ArgumentHelp(
            "A node of its own: Write what its connections carry to this file, for Wireshark; where the port is not "
                + "988, with its option -d tcp.port==PORT,lnet.", valueName: "file"))
    var pcap: String?

    var controlPath: String? {
        let path = control ?? ProcessInfo.processInfo.environment["SLUICE_CONTROL"]
        return path.flatMap { $0.isEmpty ? nil : $0 }
    }

    func validate() throws {
        guard pcap == nil || !asksRunningNode else {
            throw ValidationError(
                "--pcap is for a node of the command's own: a running one writes a capture if it was "
                    + "started with --pcap")
        }
        guard control == nil || own == nil else {
            throw ValidationError("--control names a running node, --nid one of its own: give one")
        }
    }

    /// Asks the node and returns its answer.
    ///
    /// - Parameter peer: whom a node of its own is to reach, if it has no NID yet.
    func ask(_ request: ControlRequest, toReach peer: NID? = nil, seconds: Double = 30) throws
        -> String
    {
        do {
            if let path = asksRunningNode ? controlPath : nil {
                return try ControlClient(path: path).ask(request, timeout: .seconds(seconds))
            }
            let node = try NetworkNode(try configuration(toReach: peer), options: quiet)
            try node.start()
            defer {
                node.stop()
                try? node.join()
            }
            var router = ControlRouter()
            router.addNetwork(node.network)
            return try router.answer(request)
        } catch let error as ControlError {
            throw Failure(explain(error))
        } catch let error as RuntimeError {
            throw Failure("\(error)")
        }
    }

    /// Asks the node and prints its answer.
    func show(_ request: ControlRequest, toReach peer: NID? = nil, seconds: Double = 30) throws {
        let text = try ask(request, toReach: peer, seconds: seconds)
        if !text.isEmpty { Output.text(text) }
    }

    /// Whether the command is about a node that runs.
    var asksRunningNode: Bool { own == nil && controlPath != nil }

    var quiet: NetworkNode.Options {
        var options = NetworkNode.Options()
        // A command that asks has no name under which others know it.
        options.listens = own != nil
        options.write(capture: pcap)
        return options
    }

    func configuration(toReach peer: NID?) throws -> LNetConfiguration {
        var nids = own?.nids ?? []
        if nids.isEmpty {
            nids = [try Machine.clientNID(toReach: peer ?? NID(address: 0x7F00_0001, type: .tcp))]
        }
        let seed = Host.realtimeNanoseconds
        var configuration = LNetConfiguration(
            nid: nids[0], incarnation: seed, acceptPort: acceptPort, seed: seed)
        configuration.otherNIDs = Array(nids.dropFirst())
        configuration.discovery = true
        return configuration
    }

    private func explain(_ error: ControlError) -> String {
        if own == nil, controlPath == nil, acceptPort < 1024, error.errno == 13 || error.errno == 1
        {
            return "a source port below 1024 is needed towards port \(acceptPort) and not "
                + "permitted; run as root or with CAP_NET_BIND_SERVICE"
        }
        return error.description
    }
}

extension NetworkNode.Options {
    /// Where a capture goes, if anywhere; its early end is told on standard error.
    mutating func write(capture path: String?) {
        capturePath = path
        captureEnded = { FileHandle.standardError.write(Data("\($0)\n".utf8)) }
    }
}

/// NIDs behind commas.
struct NIDList: ExpressibleByArgument {
    var nids: [NID]

    init?(argument: String) {
        nids = []
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let nid = NID(String(part)) else { return nil }
            nids.append(nid)
        }
    }

    var text: String { nids.map(\.description).joined(separator: ",") }
}
