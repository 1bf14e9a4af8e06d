import ArgumentParser
import ClientCore
import WireFormat

/// `sluice upgrade receipts`: who has said what.
struct UpgradeReceiptsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "receipts",
        abstract: "Show the receipts that a target has of its clients.",
        discussion: """
            Of the upgrade in hand; else of the last one, as the clean record kept them that the \
            instance started from. A receipt says: the highest XID that the client ever sent, the \
            highest transno that it was told, its open files, the bytes that it wrote back, and that \
            nothing can need to be sent again.
            """)

    @Option(help: ArgumentHelp("The target.", valueName: "name"))
    var target: String

    @OptionGroup var clusterOptions: ClusterOptions
    @OptionGroup var output: JSONOption

    private struct Report: Encodable {
        struct Row: Encodable {
            var client: String
            var nid: String
            var kind: String
            var hasReturned: Bool
            var lastXid: UInt64?
            var lastTransno: UInt64?
            var openCount: UInt32?
            var flushedBytes: UInt64?
        }
        var target: String
        var isLive: Bool
        var epoch: String
        var lastTransno: UInt64
        var receipts: [Row]
    }

    func run() async throws {
        let file = try clusterOptions.load()
        let place = try file.index(of: target)
        let client = try clusterOptions.client(for: file)
        let found: UpgradeReceiptsReply
        do {
            found = try await TargetOrders(client: client, place: place).receipts()
        } catch let refusal as ClusterClient.Refusal {
            throw Failure("\(target) runs a build that does not tell receipts (\(refusal.status))")
        }
        await client.close()
        if output.json {
            try Output.json(report(found))
        } else {
            Output.line(text(found))
        }
    }

    private func report(_ found: UpgradeReceiptsReply) -> Report {
        Report(
            target: target, isLive: found.isLive, epoch: found.epoch.description,
            lastTransno: found.lastTransno.rawValue,
            receipts: found.rows.map { row in
                Report.Row(
                    client: row.uuid, nid: row.nid.description, kind: row.kind.words,
                    hasReturned: row.hasReturned, lastXid: row.receipt?.lastXID.rawValue,
                    lastTransno: row.receipt?.lastTransno.rawValue,
                    openCount: row.receipt?.openCount, flushedBytes: row.receipt?.flushedBytes)
            })
    }

    private func text(_ found: UpgradeReceiptsReply) -> String {
        if found.epoch == .none {
            return "\(target): no upgrade in hand, and it did not start from a clean stop"
        }
        var lines = [
            found.isLive
                ? "\(target): upgrade \(found.epoch), in hand"
                : "\(target): upgrade \(found.epoch), from the clean record; transno "
                    + "\(found.lastTransno.rawValue) is the last on disk"
        ]
        guard !found.rows.isEmpty else { return lines[0] + "; no clients" }
        var table = TextTable(
            "client", "nid", "what it gave", "last xid", "last transno", "opens", "flushed bytes",
            "back")
        for row in found.rows {
            let receipt = row.receipt
            table.add(
                row.uuid, row.nid.description, row.kind.words,
                receipt.map { "\($0.lastXID.rawValue)" } ?? "-",
                receipt.map { "\($0.lastTransno.rawValue)" } ?? "-",
                receipt.map { "\($0.openCount)" } ?? "-",
                receipt.map { "\($0.flushedBytes)" } ?? "-",
                found.isLive ? "-" : row.hasReturned ? "yes" : "no")
        }
        lines.append(table.text)
        return lines.joined(separator: "\n")
    }
}

extension UpgradeReceiptsReply.Kind {
    var words: String {
        switch self {
        case .missing: "nothing yet"
        case .receipt: "receipt"
        case .bornPrepared: "born prepared"
        case .synchronous: "synchronous"
        case .absent: "left behind"
        case .carriedForward: "absent, carried forward"
        }
    }
}
