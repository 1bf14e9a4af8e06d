import ClientCore
import Foundation
import Glibc
import NodeRuntime
import WireFormat

/// Clients in a process of their own that is held when the order comes, and let go later: they are
/// there, and do not answer.
final class SlowClients {
    static let pauseTime = Duration.milliseconds(200)
    private let child: ChildServer

    init(count: Int, first: Int, file: ClusterFile, directory: String) async throws {
        child = try ChildServer(
            name: "the slow clients", nid: file.targets[0].nids[0],
            arguments: [
                "bench", "slow-clients", "--count", "\(count)", "--nid",
                DemoCluster.clientNID(first).description, "--cluster", file.path,
            ], directory: directory, label: "slow")
        _ = try await child.awaitLine("connected", seconds: 60)
    }

    func pause() { child.send(SIGSTOP) }
    func resume() { child.send(SIGCONT) }

    deinit { child.send(SIGCONT) }
}
