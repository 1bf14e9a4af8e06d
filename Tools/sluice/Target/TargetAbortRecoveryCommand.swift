import ArgumentParser
import WireFormat

/// `sluice target abort-recovery`: serves those who are there, without those who are not.
struct TargetAbortRecoveryCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "abort-recovery",
        abstract: "End a target's recovery: clients that are not done are evicted.",
        discussion: """
            A recovering target waits for every client that it knows, for a while. This ends the \
            wait. What only the evicted clients could have replayed is lost, and so are their \
            locks and open files there; clients that are done keep everything.
            """)

    @Option(help: ArgumentHelp("The target that recovers.", valueName: "name"))
    var target: String

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        let file = try clusterOptions.load()
        let place = try file.index(of: target)
        let client = try clusterOptions.client(for: file)
        let status: Status
        do {
            _ = try await client.send(.abortRecovery, to: place)
            status = .ok
        } catch let refusal as ClusterClient.Refusal {
            status = refusal.status
        }
        await client.close()
        guard status != .already else { throw Failure("\(target) is not recovering") }
        guard status == .ok else { throw Failure("\(target): \(status)") }
        Output.line("\(target): recovery ended")
    }
}
