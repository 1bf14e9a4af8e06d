import ArgumentParser
import Fabric

/// `sluice fabric`: every way to send that this machine has.
struct FabricCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fabric",
        abstract: "List every way to send, and whether it would be used.",
        discussion: """
            Lists each port of each RDMA device, soft-RoCE devices that could be made, soft iWARP, \
            and TCP by interface, with the reason for which a node with --fabric auto would use \
            it, or would not. Nothing is made or changed. The exit status is 0 also where there is \
            no RDMA.
            """)

    @OptionGroup var output: JSONOption

    private struct Report: Encodable {
        var ways: [FabricWay]
        var survey: FabricSurvey
    }

    func run() throws {
        let survey = FabricSurvey.take()
        if output.json {
            try Output.json(Report(ways: survey.ways, survey: survey))
            return
        }
        var table = TextTable("way", "used", "why")
        for way in survey.ways { table.add(way.name, way.isUsed ? "yes" : "no", way.reason) }
        Output.line(table.text)
        for way in survey.ways where !way.nids.isEmpty {
            let shown = way.nids.prefix(4).joined(separator: ", ")
            let more = way.nids.count > 4 ? " and \(way.nids.count - 4) more" : ""
            Output.line("\(way.name): \(shown)\(more)")
        }
        for port in survey.ports { describe(port) }
    }

    private func describe(_ port: FabricSurvey.Port) {
        Output.line("")
        Output.line("\(port.device) port \(port.number):")
        if let error = port.error {
            Output.line("  \(error)")
            return
        }
        Output.line("  transport \(port.transport), link layer \(port.linkLayer), \(port.state)")
        let limits = port.limits
        Output.line(
            "  MTU \(limits.mtuActiveBytes) of \(limits.mtuMaxBytes) bytes, messages up to "
                + "\(limits.messageBytesMax) bytes")
        Output.line(
            "  at most \(limits.queuePairsMax) queue pairs, \(limits.memoryRegionsMax) memory "
                + "regions, \(limits.sharedReceivesMax) shared receives")
        for gid in port.gids.prefix(8) {
            let used = gid.address != nil && gid.type == "RoCE v2"
            Output.line(
                "  GID \(gid.index): \(gid.value), \(gid.type)"
                    + (gid.interface.map { ", \($0)" } ?? "") + (used ? ", used" : ""))
        }
        if port.gids.count > 8 { Output.line("  and \(port.gids.count - 8) GIDs more") }
    }
}
