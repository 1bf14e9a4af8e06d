import ArgumentParser
import EventLoop
import NodeRuntime
import WireFormat

/// `sluice bench slow-clients`: idle clients, for `sluice bench notify --slow-clients`.
struct SlowClientsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "slow-clients", abstract: "Idle clients that can be held.",
        shouldDisplay: false)

    @Option var count: Int
    /// Of the first; the others follow it.
    @Option var nid: NID
    @Option var cluster: String

    func run() async throws {
        NetPeerCommand.endWithInput()
        let file = try ClusterFile(path: cluster)
        let driver = NotifyClients(clientCount: count)
        var options = ClientFleet.Options()
        options.driver = driver
        let nids = (0..<count).map {
            NID(address: nid.address + UInt32($0), type: nid.type, number: nid.number)
        }
        do {
            let fleet = try ClientFleet(
                cluster: file.description, nids: nids, options: options)
            try fleet.start()
            while driver.progress.withLock(\.connected) < count {
                try await Task.sleep(for: .milliseconds(5))
            }
            Output.line("connected \(count)")
            try fleet.join()
        } catch {
            throw Failure("\(error)")
        }
    }
}
