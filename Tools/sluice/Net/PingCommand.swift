import ArgumentParser
import Fabric
import LNetCore
import NodeRuntime
import Primitives
import WireFormat

/// `sluice net ping`: what `lnetctl ping` asks, and how long the answer took.
struct PingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping",
        abstract: "Ping a node through LNet, as lnetctl ping does.",
        discussion: """
            Against port 988 a real Lustre node believes only peers whose source port is below \
            1024, so that this needs root or CAP_NET_BIND_SERVICE.
            """)

    @Argument(help: ArgumentHelp("The node's NID, such as 127.0.1.7@tcp.", valueName: "nid"))
    var peer: NID

    @OptionGroup var node: NetOptions

    @Option(help: ArgumentHelp("How many pings, one after the other.", valueName: "n"))
    var count = 1

    @Option(help: ArgumentHelp("Wait this long for each answer.", valueName: "s"))
    var timeout = 5.0

    @OptionGroup var fabricOption: FabricOption
    @OptionGroup var output: JSONOption

    func validate() throws {
        guard (1...1_000_000).contains(count) else {
            throw ValidationError("--count must be from 1 to 1000000")
        }
        guard timeout > 0, timeout <= 3600 else {
            throw ValidationError("--timeout must be above 0 and at most 3600 seconds")
        }
        guard peer.type == .tcp || peer.type == .o2ib else {
            throw ValidationError("\(peer): only tcp and o2ib networks can be reached")
        }
    }

    private struct Report: Encodable {
        struct Interface: Encodable {
            var nid: String
            var isUp: Bool
        }
        var primaryNid: String
        var interfaces: [Interface]
        var roundTripUs: [Double]
    }

    func run() async throws {
        if node.asksRunningNode {
            let arguments = ["nid": "\(peer)", "timeout": "\(Int(timeout * 1000))"]
            try node.show(ControlRequest("net", "ping", arguments), seconds: timeout + 5)
            return
        }
        let configuration = try node.configuration(toReach: peer)
        let nids = [configuration.nid] + configuration.otherNIDs
        if fabricOption.fabric != .auto || nids.contains(where: { $0.type == .o2ib }) {
            _ = try fabricOption.decide(nids)
        }
        let own: NetworkNode
        do {
            own = try NetworkNode(configuration, options: node.quiet)
            try own.start(named: "ping")
        } catch {
            throw Failure("\(error)")
        }
        defer {
            own.stop()
            try? own.join()
        }
        var roundTrips: [Double] = []
        var info: PingInfo?
        for _ in 0..<count {
            do throws(PingFailure) {
                let answer = try own.network.ping(
                    peer, timeout: TickInterval(nanoseconds: UInt64(timeout * 1e9)))
                roundTrips.append(Double(answer.roundTrip.nanoseconds) / 1e3)
                info = answer.info
            } catch {
                throw Failure("failed to ping \(peer): \(explain(error))")
            }
        }
        guard let info else { return }
        if output.json {
            try Output.json(
                Report(
                    primaryNid: info.interfaces.first?.nid.description ?? peer.description,
                    interfaces: info.interfaces.map {
                        Report.Interface(nid: $0.nid.description, isUp: $0.isUp)
                    }, roundTripUs: roundTrips))
        } else {
            Output.line(text(info, roundTrips))
        }
    }

    private func explain(_ failure: PingFailure) -> String {
        if node.acceptPort < 1024, failure.errno == 13 || failure.errno == 1 {
            return
                "a source port below 1024 is needed towards port \(node.acceptPort) and not permitted; "
                + "run as root or with CAP_NET_BIND_SERVICE"
        }
        return failure.description.replacing("\(peer): ", with: "")
    }

    /// As `lnetctl ping` prints it, with the round-trip times behind.
    private func text(_ info: PingInfo, _ roundTrips: [Double]) -> String {
        var lines = ["ping:"]
        lines.append("    - primary nid: \(info.interfaces.first?.nid ?? peer)")
        lines.append("      Multi-Rail: \(info.features.contains(.multiRail) ? "True" : "False")")
        lines.append("      peer ni:")
        for interface in info.interfaces {
            lines.append("        - nid: \(interface.nid)")
            lines.append("          status: \(interface.isUp ? "up" : "down")")
        }
        let sorted = roundTrips.sorted()
        func us(_ value: Double) -> String { String(Int(value.rounded())) }
        lines.append("      round trip us:")
        lines.append("          count: \(sorted.count)")
        lines.append("          min: \(us(sorted[0]))")
        lines.append("          p50: \(us(sorted[sorted.count / 2]))")
        lines.append("          max: \(us(sorted[sorted.count - 1]))")
        return lines.joined(separator: "\n")
    }
}
