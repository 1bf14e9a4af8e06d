import ArgumentParser
import Foundation
import LNetCore
import NodeRuntime
import WireFormat

/// `sluice net node`: a node that is nothing but LNet, until SIGTERM.
struct NetNodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "Run a node that is nothing but LNet until SIGTERM: it answers pings.",
        discussion: """
            Prints one line on standard output when it listens:
              ready nid=127.0.1.7@tcp
            With --control others operate it: `sluice net --help`.
            """)

    @Option(
        name: .customLong("nid"),
        help: ArgumentHelp("Its NID, and others behind commas.", valueName: "nid,…"))
    var own: NIDList

    @Option(help: ArgumentHelp("LNet's accept_port.", valueName: "port"))
    var acceptPort: UInt16 = ClusterFile.defaultAcceptPort

    @Option(help: ArgumentHelp("Listen for operators at this path.", valueName: "path"))
    var control: String?

    @Flag(help: "Pass messages on between its networks.")
    var routing = false

    @Flag(help: "Serve lnet_selftest, as a node with that module loaded.")
    var selftest = false

    @Flag(help: "Neither ask peers who they are, nor tell them.")
    var withoutDiscovery = false

    @Option(
        help: ArgumentHelp(
            "Write what its connections carry to this file, for Wireshark; where the port is not "
                + "988, with its option -d tcp.port==PORT,lnet.", valueName: "file"))
    var pcap: String?

    @Option(help: ArgumentHelp("Poll for this long before sleeping.", valueName: "us"))
    var spin: UInt32 = 0

    func run() throws {
        var options = NetOptions()
        options.control = nil
        options.own = own
        options.acceptPort = acceptPort
        var configuration = try options.configuration(toReach: nil)
        configuration.discovery = !withoutDiscovery
        configuration.routing = routing
        var how = NetworkNode.Options()
        how.spinMicroseconds = UInt64(spin)
        how.selftest = selftest
        how.write(capture: pcap)
        do {
            let node = try NetworkNode(configuration, options: how)
            try SignalWatch.start { _ in node.stop() }
            var router = ControlRouter()
            router.addNetwork(node.network)
            let server = try control.map { try ControlServer(path: $0, router) }
            defer { server?.stop() }
            Output.line("ready nid=\(own.text)")
            try node.run()
        } catch let error as RuntimeError {
            throw Failure("\(error)")
        } catch let error as ControlError {
            throw Failure("\(error)")
        }
    }
}
