import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// Updates that are on the disk before they are answered: through the whole stack, and the same
/// transactions in groups of the same clients with the store alone.
///
/// Either side serves clients that each make one directory after the other and begin the next when
/// the one before is durable; what comes while a group is on its way to the disk goes with the next.
final class StoreBench {
    enum Kind: String, CaseIterable {
        case stack = "durable-stack"
        case store = "store-alone"
    }

    private let clientCount: Int
    private let perClient: Int
    private let bed: MetadataBed
    private let alone: StoreAlone
    private var fleet: ClientFleet?
    private var server: ChildServer?
    private var round = 0

    var errorCount: Int { bed.errors.withLock { $0 } }
    var updateCount: Int { clientCount * perClient }

    init(clients: Int, updates: Int, acceptPort: UInt16, parent: String?) throws {
        clientCount = clients
        perClient = max(1, updates / clients)
        bed = try MetadataBed(
            "store", acceptPort: acceptPort, parent: parent ?? NSTemporaryDirectory())
        alone = try StoreAlone(directory: bed.directory + "/alone")
    }

    func begin() async throws {
        let server = try bed.start(["--without", "upgrade"])
        self.server = server
        _ = try await server.awaitLine("ready", seconds: 30)
        let fleet = try await bed.mount(clientCount)
        self.fleet = fleet
        // Everybody is connected, and its record committed.
        await bed.everyClient(fleet, clientCount, 1) {
            .mkdir(at: .root, MetadataBed.name("home", $0, $1), mode: 0o755)
        }
    }

    func end() throws {
        fleet?.stop()
        do { try fleet?.join() } catch { throw Failure("the clients' loop failed: \(error)") }
        server?.send(SIGKILL)
    }

    func run(_ kind: Kind, keepsRaw: Bool) async throws -> BenchResult.Run {
        round += 1
        switch kind {
        case .stack: return await runStack(keepsRaw)
        case .store:
            return try alone.run(
                "d\(round)", clients: clientCount, perClient: perClient, keepsRaw: keepsRaw)
        }
    }

    private func runStack(_ keepsRaw: Bool) async -> BenchResult.Run {
        guard let fleet else { preconditionFailure("begin comes first") }
        let recorder = Lock(Recorder(keepsRaw: keepsRaw))
        let round = round
        let began = Host.monotonicNow
        await bed.everyClient(
            fleet, clientCount, perClient,
            { .mkdir(at: .root, MetadataBed.name("d\(round)", $0, $1), mode: 0o755) },
            took: { time in recorder.withLock { $0.record(time) } })
        let seconds = (Host.monotonicNow - began).inSeconds
        return recorder.withLock {
            $0.run(unit: .us, figures: ["perSecond": Double(updateCount) / seconds])
        }
    }
}
