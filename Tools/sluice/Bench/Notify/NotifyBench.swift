import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import UpgradeCore
import WireFormat

/// A metadata server and many idle clients, upgraded again and again from one NID to the other.
final class NotifyBench {
    private let clientCount: Int
    private let scheme: UpgradeScheme
    private let directory: String
    private let file: ClusterFile
    private let processors: (Int, Int)?
    private let clients: NotifyClients
    private var fleet: ClientFleet?
    private var slow: SlowClients?
    private var admin: ClusterClient?
    private var server: ChildServer?
    private var place = 0
    private var startCount = 0

    /// What one upgrade showed, in ns since the order was accepted (t0).
    struct Round {
        /// t3: every client's gate.
        var gates: Recorder
        /// t4: every client's receipt at the target, when that began to take what a turn of its loop
        /// had received: at most 256 receipts.
        var receipts: Recorder
        /// t5: the last one.
        var lastReceiptNs: UInt64
        var committedNs: UInt64
        /// The last client is back at the next instance.
        var backNs: UInt64
        var timeline: UpgradeTimeline
    }

    init(
        clientCount: Int, slowCount: Int, scheme: UpgradeScheme, acceptPort: UInt16,
        directory: String, processors: (Int, Int)?
    ) async throws {
        self.clientCount = clientCount
        self.scheme = scheme
        self.directory = directory + "/\(clientCount)"
        self.processors = processors
        do {
            try FileManager.default.createDirectory(
                atPath: self.directory, withIntermediateDirectories: true)
        } catch {
            throw Failure("\(self.directory) cannot be made: \(error.localizedDescription)")
        }
        var file = ClusterFile(
            acceptPort: acceptPort,
            targets: [
                ClientTarget(
                    name: "mdt0", kind: .mds, index: 0,
                    nids: [NetBench.loopback(21), NetBench.loopback(22)])
            ])
        file.path = self.directory + "/cluster.yaml"
        self.file = file
        do {
            try file.text.write(toFile: file.path, atomically: true, encoding: .utf8)
            try Host.raiseDescriptorLimit()
        } catch {
            throw Failure("\(error)")
        }
        clients = NotifyClients(clientCount: clientCount)
        let server = try start(standby: false)
        self.server = server
        _ = try await server.awaitLine("ready")
        admin = try ClusterClient(
            file, nids: [DemoCluster.clientNID(clientCount + slowCount)], timeout: .seconds(30))
        var options = ClientFleet.Options()
        options.driver = clients
        options.cpu = processors?.1
        // They share this process, and have to be where the target finds them.
        do {
            let fleet = try ClientFleet(
                cluster: file.description, nids: (0..<clientCount).map(DemoCluster.clientNID),
                options: options)
            try fleet.start(named: "clients")
            self.fleet = fleet
        } catch {
            throw Failure("\(error)")
        }
        if slowCount > 0 {
            slow = try await SlowClients(
                count: slowCount, first: clientCount, file: file, directory: self.directory)
        }
        try await wait("every client has connected") { $0.connected == clientCount }
    }

    func close() async {
        await admin?.close()
        fleet?.stop()
        try? fleet?.join()
        server?.send(SIGKILL)
        server = nil
        slow = nil
    }

    /// Upgrades the target once, with everybody idle.
    func round(_ name: String) async throws -> Round {
        guard let admin, let old = server else { throw Failure("there is no server") }
        let standby = try start(standby: true)
        _ = try await standby.awaitLine("standby")
        // Whatever the last round and the start left to do is over by then.
        try await Task.sleep(for: .milliseconds(200))
        slow?.pause()
        defer { slow?.resume() }
        let order = UpgradeStart(
            scheme: scheme, deadlinePolicy: .leaveBehind, deadlineMs: 20_000, expiryMs: 60_000,
            next: standby.nid)
        guard case .upgradeStarted = try await admin.send(.upgradeStart(order), to: 0) else {
            throw Failure("the target does not begin its upgrade")
        }
        if let slow {
            try await Task.sleep(for: SlowClients.pauseTime)
            slow.resume()
        }
        let limit = ContinuousClock.now + .seconds(60)
        while old.poll() == nil {
            guard ContinuousClock.now < limit else { throw Failure("the target does not stop") }
            try await Task.sleep(for: .milliseconds(1))
        }
        guard old.poll() == .exited(0) else {
            throw Failure("the target did not end cleanly: \(old.lastWords)")
        }
        server = standby
        _ = try await standby.awaitLine("ready")
        let count = clientCount
        try await wait("every client is back") { $0.timelines.count == count }
        let backAt = Host.monotonicNow
        let stamps = clients.progress.withLock { progress in
            defer { progress.timelines = [] }
            return progress.timelines
        }
        let problems = clients.progress.withLock(\.problems)
        guard problems.isEmpty else { throw Failure(problems.joined(separator: "; ")) }
        return try read(stamps, backAt, name)
    }

    private func read(
        _ stamps: [NotifyClients.Stamps], _ backAt: Ticks, _ name: String
    ) throws -> Round {
        let theirs = try TargetStamps(path: stampPath(startCount - 1))
        guard let t0 = theirs.accepted, let last = theirs.lastReceipt else {
            throw Failure("the target's stamps are not whole")
        }
        var gates = Recorder()
        for stamp in stamps where stamp.gateShut > t0 { gates.record(stamp.gateShut - t0) }
        var receipts = Recorder()
        for at in theirs.receipts { receipts.record(at - t0) }
        func since(_ at: Ticks) -> Double? { at > t0 ? (at - t0).inMilliseconds : nil }
        let timeline = UpgradeTimeline(
            name: name, scheme: "\(scheme)",
            clients: stamps.map {
                UpgradeTimeline.Client(
                    gateShut: since($0.gateShut), receiptGiven: since($0.receiptGiven),
                    committed: since($0.committed), disconnected: since($0.disconnected),
                    reconnected: since($0.reconnected), gateOpened: since($0.gateOpened),
                    firstWaited: since($0.firstWaited), firstUpdate: since($0.firstUpdate))
            }, throughput: [], fromMs: 0, intervalMs: 100)
        return Round(
            gates: gates, receipts: receipts, lastReceiptNs: (last - t0).nanoseconds,
            committedNs: theirs.committed.map { ($0 - t0).nanoseconds } ?? 0,
            backNs: (backAt - t0).nanoseconds, timeline: timeline)
    }

    private func stampPath(_ number: Int) -> String { "\(directory)/stamps.\(number)" }

    private func start(standby: Bool) throws -> ChildServer {
        let target = file.targets[0]
        startCount += 1
        if standby { place = 1 - place }
        var arguments = [
            "serve", "mds", "--target", target.name, "--store", "\(directory)/mdt0", "--nid",
            target.nids[place].description, "--cluster", file.path, "--supervised", "--stamps",
            stampPath(startCount),
        ]
        if let processors { arguments += ["--cpu", "\(processors.0)"] }
        if standby { arguments.append("--standby") }
        return try ChildServer(
            name: target.name, nid: target.nids[place], arguments: arguments,
            directory: directory, label: "mdt0.\(startCount)")
    }

    private func wait(
        _ what: String, _ isTrue: (NotifyClients.Progress) -> Bool
    ) async throws {
        let limit = ContinuousClock.now + .seconds(90)
        while true {
            let progress = clients.progress.withLock { $0 }
            if isTrue(progress) { return }
            guard ContinuousClock.now < limit else {
                throw Failure(
                    "waited 90 s in vain until \(what): \(progress.connected) of \(clientCount) "
                        + "connected, \(progress.back) back; "
                        + (server?.lastWords ?? "no server"))
            }
            try await Task.sleep(for: .milliseconds(2))
        }
    }
}

/// What `sluice serve --stamps` wrote.
struct TargetStamps {
    var accepted: Ticks?
    /// As the target began to take what a turn of its loop had received.
    var receipts: [Ticks] = []
    /// t5, at the same precision.
    var lastReceipt: Ticks?
    var committed: Ticks?

    init(path: String) throws {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw Failure("\(path): the target wrote no stamps")
        }
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 4, let at = UInt64(words[2]), let now = UInt64(words[3]) else {
                throw Failure("\(path): cannot read \(line)")
            }
            switch words[0] {
            case "accepted": accepted = Ticks(nanoseconds: at)
            case "receipt": receipts.append(Ticks(nanoseconds: at))
            case "prepared": lastReceipt = Ticks(nanoseconds: at)
            case "committed": committed = Ticks(nanoseconds: now)
            default: break
            }
        }
    }
}
