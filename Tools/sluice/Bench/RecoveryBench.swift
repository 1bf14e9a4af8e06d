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
    private let directory: String
    private let file: ClusterFile
    private var servers: [ChildServer] = []
    private let errors = Lock(0)

    init(clientCount: Int, updateCount: Int, acceptPort: UInt16) throws {
        self.clientCount = clientCount
        self.updateCount = updateCount
        directory = NSTemporaryDirectory() + "sluice-recovery-\(getpid())"
        let process = UInt32(getpid())
        let address: UInt32 =
            127 << 24 | (1 + process % 60) << 16 | (process / 60 % 250) << 8 | 11
        var file = ClusterFile(
            acceptPort: acceptPort,
            targets: [
                ClientTarget(
                    name: "mdt0", kind: .mds, index: 0, nids: [NID(address: address, type: .tcp)])
            ])
        file.path = directory + "/cluster.yaml"
        self.file = file
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true)
            try file.text.write(toFile: file.path, atomically: true, encoding: .utf8)
        } catch {
            throw Failure("\(directory) cannot be made: \(error.localizedDescription)")
        }
    }

    deinit {
        servers = []
        try? FileManager.default.removeItem(atPath: directory)
    }

    func run(rounds: Int) async throws -> Report {
        do { try Host.raiseDescriptorLimit() } catch { throw Failure("\(error)") }
        var server = try start()
        _ = try await wait("ready", of: server, seconds: 30)
        let fleet: ClientFleet
        do {
            fleet = try ClientFleet(
                cluster: file.description,
                nids: (0..<clientCount).map(DemoCluster.clientNID))
            try fleet.start()
        } catch {
            throw Failure("\(error)")
        }
        // A few at a time: a server need not greet a thousand at once.
        for node in 0..<clientCount {
            fleet.mount(node)
            if node % 64 == 63 { try await Task.sleep(for: .milliseconds(20)) }
        }
        // One round trip each: everybody is connected, and its record committed.
        await everyClient(fleet, 1) {
            FileOperation.mkdir(at: .root, name("home", $0, $1), mode: 0o755)
        }
        let perClient = max(1, updateCount / clientCount)
        await everyClient(fleet, perClient) {
            FileOperation.mkdir(at: .root, name("d", $0, $1), mode: 0o755)
        }
        let admin = try ClusterClient(file, nids: [DemoCluster.clientNID(clientCount)])
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
            _ = try await wait("ready", of: server, seconds: 60)
            let ready = Host.monotonicNow
            let (replayed, evicted) = try await recovered(server, seconds: 120)
            let done = Host.monotonicNow
            await everyClient(fleet, 1) {
                FileOperation.mkdir(at: .root, name("r\(round)", $0, $1), mode: 0o755)
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
        report.clientErrors = errors.withLock { $0 }
        await admin.close()
        fleet.stop()
        do { try fleet.join() } catch { throw Failure("the clients' loop failed: \(error)") }
        server.send(SIGKILL)
        return report
    }

    // MARK: The server

    private func start() throws -> ChildServer {
        let target = file.targets[0]
        let server = try ChildServer(
            name: target.name, nid: target.nids[0],
            arguments: [
                "serve", "mds", "--target", target.name, "--store", "\(directory)/mdt0", "--nid",
                target.nids[0].description, "--cluster", file.path, "--supervised",
                "--commit-interval", "3600000", "--uncommitted-max", "2000",
            ], directory: directory, label: "mdt0.\(servers.count)")
        servers.append(server)
        return server
    }

    private func wait(
        _ word: String, of server: ChildServer, seconds: Double
    ) async throws -> String {
        let limit = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < limit {
            if let line = server.line(word) { return line }
            if let end = server.poll() {
                throw Failure("\(server.name) ended (\(end)): \(server.lastWords)")
            }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw Failure("\(server.name) was not \(word) in time: \(server.lastWords)")
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

    /// Every client does `count` operations one after another, all clients at once.
    private func everyClient(
        _ fleet: ClientFleet, _ count: Int,
        _ operation: @escaping @Sendable (_ node: Int, _ number: Int) -> FileOperation
    ) async {
        let left = Lock(clientCount)
        let errors = errors
        let once = Lock<CheckedContinuation<Void, Never>?>(nil)
        @Sendable func next(_ node: Int, _ number: Int) {
            guard number < count else {
                if left.withLock({
                    $0 -= 1; return $0
                }) == 0 {
                    once.withLock {
                        $0?.resume(); $0 = nil
                    }
                }
                return
            }
            fleet.submit(node: node, operation(node, number)) { result in
                if case .failure = result { errors.withLock { $0 += 1 } }
                next(node, number + 1)
            }
        }
        await withCheckedContinuation { continuation in
            once.withLock { $0 = continuation }
            for node in 0..<clientCount { next(node, 0) }
        }
    }

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

@Sendable private func name(_ kind: String, _ node: Int, _ number: Int) -> FileName {
    guard let name = FileName("\(kind).\(node).\(number)") else {
        preconditionFailure("a short name of ASCII letters is legal")
    }
    return name
}
