import ArgumentParser
import ClientCore
import WireFormat

/// `sluice upgrade start`: the order that begins it.
struct UpgradeStartCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "start", abstract: "Order a target to drain and hand over.",
        discussion: """
            Scheme drain gates the clients, takes a receipt from each, commits, tells them and hands \
            over. Scheme sync gates nobody: the target commits before every reply, and stops. Scheme \
            crash ends the server at once, unannounced; the next instance recovers by replay, which \
            it refuses where its protocol range is another.
            """)

    @Option(help: ArgumentHelp("The target to upgrade.", valueName: "name"))
    var target: String

    @OptionGroup var clusterOptions: ClusterOptions

    @Option(help: "How it is brought down: drain, sync or crash.")
    var scheme = SchemeName.drain

    @OptionGroup var policies: PolicyOptions

    @Option(
        help: ArgumentHelp(
            "An upgrade that has not come to its end by then is given up by the target itself. "
                + "Default: twice the deadline and 30 s.", valueName: "s"))
    var expiry: Double?

    @Option(
        help: ArgumentHelp(
            "Where the target comes back. Default: its other NID, where it has two.",
            valueName: "nid"))
    var next: NID?

    @Flag(help: "Wait until the next instance serves.")
    var wait = false

    @OptionGroup var output: JSONOption

    func validate() throws {
        if let expiry, !(expiry > 0 && expiry <= 604_800) {
            throw ValidationError("--expiry must be above 0 and at most 604800 seconds")
        }
    }

    private struct Report: Encodable {
        var target: String
        var epoch: String
        var next: String?
        var status: UpgradeReport?
    }

    private var wireScheme: UpgradeScheme {
        switch scheme {
        case .drain: .drain
        case .sync: .sync
        case .crash: .crash
        }
    }

    func run() async throws {
        let file = try clusterOptions.load()
        let place = try file.index(of: target)
        let client = try clusterOptions.client(for: file)
        let orders = TargetOrders(client: client, place: place)
        let before = try await orders.status()
        let next = try await orders.destination(next)
        let order = policies.order(
            scheme: wireScheme, expiry: expiry ?? policies.expiryDefault, next: next)
        let epoch = try await orders.give(order)
        var status: UpgradeReport?
        if wait { status = try await awaitNext(orders, before, epoch) }
        await client.close()
        if output.json {
            try Output.json(
                Report(
                    target: target, epoch: epoch.description, next: next?.description,
                    status: status))
        } else if let status {
            Output.line(status.text)
        } else {
            Output.line("\(target): upgrade \(epoch) has begun; sluice upgrade status tells more")
        }
    }

    /// The next instance's account; throws where the target gives up or nobody comes.
    private func awaitNext(
        _ orders: TargetOrders, _ before: UpgradeStatusReply, _ epoch: UpgradeEpoch
    ) async throws -> UpgradeReport {
        let limit = max(expiry ?? policies.expiryDefault, policies.deadline) + 30
        let found = try await orders.wait(seconds: limit) { now in
            now.instance != before.instance
                || now.phase == .serving && now.details?.lastAbort != nil
        }
        guard let found else {
            throw Failure("\(target) did not come back in time; is its standby running?")
        }
        guard found.instance != before.instance else {
            throw Failure(
                "\(target) gave upgrade \(epoch) up and serves on: "
                    + UpgradeReport.words(ofAbort: found.details?.lastAbort))
        }
        return UpgradeReport(found)
    }
}
