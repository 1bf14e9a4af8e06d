import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// Kills a metadata server with many updates that nobody has committed, and measures how long the
/// next instance takes until everybody is back and everything is done again.
final class RecoveryBench {
    struct Round: Encodable {
        /// Updates that clients were told of and the disk had not.
        var uncommitted: UInt64
        /// From the start of the process to its `ready` line.
        var readyMs: Double
        /// From `ready` to the end of the recovery.
        var recoveryMs: Double
        /// From the kill to the end of the recovery.
        var totalMs: Double
        /// Requests replayed, as the server counts them.
        var replayed: UInt64
        var evicted: UInt64
        /// From the kill until every client had another update answered.
        var clientsBackMs: Double
    }

    struct Report: Encodable {
        var clients: Int
        var updates: Int
        var rounds: [Round]
        /// Directories that are not there in the end.
        var lost: Int
        var serverPeakKiB: Int
        var clientErrors: Int
    }

    let clientCount: Int
    let updateCount: Int
    private let bed: MetadataBed

    init(clientCount: Int, updateCount: Int, acceptPort: UInt16) throws {
        self.clientCount = clientCount
        self.updateCount = updateCount
        bed = try MetadataBed("recovery", acceptPort: acceptPort)
    }

    func run(rounds: Int) async throws -> Report {
        var server = try start()
        _ = try await server.awaitLine("ready", seconds: 30)
        let fleet = try await bed.mount(clientCount)
        // One round trip each: everybody is connected, and its record committed.
        await bed.everyClient(fleet, clientCount, 1) {
            FileOperation.mkdir(at: .root, MetadataBed.name("home", $0, $1), mode: 0o755)
        }
        let perClient = max(1, updateCount / clientCount)
        await bed.everyClient(fleet, clientCount, perClient) {
            FileOperation.mkdir(at: .root, MetadataBed.name("d", $0, $1), mode: 0o755)
        }
        let admin = try ClusterClient(bed.file, nids: [DemoCluster.clientNID(clientCount)])
        var report = Report(
            clients: clientCount, updates: perClient * clientCount, rounds: [], lost: 0,
            serverPeakKiB: 0, clientErrors: 0)
        for round in 0..<rounds {
            let uncommitted = try await uncommitted(admin)
            server.measure()
            report.serverPeakKiB = max(report.serverPeakKiB, server.peakMemoryKiB)
            server.send(SIGKILL)
            while server.poll() == nil { try await Task.sleep(for: .milliseconds(1)) }
            let killed = Host.monotonicNow
            server = try start()
            _ = try await server.awaitLine("ready", seconds: 60)
            let ready = Host.monotonicNow
            let (replayed, evicted) = try await recovered(server, seconds: 120)
            let done = Host.monotonicNow
            await bed.everyClient(fleet, clientCount, 1) {
                FileOperation.mkdir(at: .root, MetadataBed.name("r\(round)", $0, $1), mode: 0o755)
            }
            let back = Host.monotonicNow
            report.rounds.append(
                Round(
                    uncommitted: uncommitted, readyMs: (ready - killed).inMilliseconds,
                    recoveryMs: (done - ready).inMilliseconds,
                    totalMs: (done - killed).inMilliseconds, replayed: replayed, evicted: evicted,
                    clientsBackMs: (back - killed).inMilliseconds))
        }
        let expected = clientCount * (1 + perClient + rounds)
        report.lost = expected - (try await entryCount(fleet))
        server.measure()
        report.serverPeakKiB = max(report.serverPeakKiB, server.peakMemoryKiB)
        report.clientErrors = bed.errors.withLock { $0 }
        await admin.close()
        fleet.stop()
        do { try fleet.join() } catch { throw Failure("the clients' loop failed: \(error)") }
        server.send(SIGKILL)
        return report
    }

    // MARK: The server

    private func start() throws -> ChildServer {
        try bed.start(["--commit-interval", "3600000", "--uncommitted-max", "2000"])
    }

    /// Waits for the line that ends a recovery, and reads its numbers.
    private func recovered(
        _ server: ChildServer, seconds: Double
    ) async throws -> (replayed: UInt64, evicted: UInt64) {
        let limit = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < limit {
            if let line = server.logLine(containing: "recovered ") {
                let numbers =
                    line.split(separator: "recovered ").last?
                    .split { !$0.isNumber }.compactMap { UInt64($0) } ?? []
                guard numbers.count >= 3 else { throw Failure("cannot read \(line)") }
                return (numbers[1], numbers[2])
            }
            if let end = server.poll() {
                throw Failure("\(server.name) ended (\(end)): \(server.lastWords)")
            }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw Failure("the recovery does not end: \(server.lastWords)")
    }

    private func uncommitted(_ admin: ClusterClient) async throws -> UInt64 {
        guard case .upgradeStatus(let status) = try await admin.send(.upgradeStatus, to: 0) else {
            throw Failure("mdt0 answered something else")
        }
        return status.lastTransno.rawValue - status.lastCommitted.rawValue
    }

    // MARK: The clients

    private func entryCount(_ fleet: ClientFleet) async throws -> Int {
        var count = 0
        var after: FileName?
        while true {
            let last = after
            let result = await withCheckedContinuation { continuation in
                fleet.submit(
                    node: 0, .readdir(.root, after: last, entryCountMax: 4096)
                ) { continuation.resume(returning: $0) }
            }
            guard case .success(.entries(let entries, let isEnd)) = result else {
                throw Failure("the root cannot be listed: \(result)")
            }
            count += entries.count
            after = entries.last?.name
            if isEnd || after == nil { return count }
        }
    }
}
