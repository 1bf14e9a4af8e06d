import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// How the server is changed under the load.
enum PauseScheme: String, CaseIterable, Sendable {
    /// Announce, gate, drain, hand over to a warm standby.
    case drain
    /// The same, while some clients more do not answer at all.
    case stuck = "drain-stuck"
    /// Commit before every reply, hand over to a warm standby.
    case sync
    /// Kill it and start it again: clients replay.
    case crash
}

/// One metadata server under a load of updates at a fixed rate, and one change of it.
struct PauseBench {
    var clientCount: Int
    var interval: TickInterval
    /// How long the clients may flush, and connect to the standby, before a gate shuts.
    var preflushMs: UInt32
    /// Clients more that are held during the rounds of `stuck`.
    var stuckCount: Int
    var acceptPort: UInt16
    var options: BenchOptions
    var directory: String

    struct Round {
        var latencies: Recorder
        var pauses: Recorder
        var blackoutMs: Double
        var timeline: UpgradeTimeline
    }

    func round(_ scheme: PauseScheme, _ number: Int) async throws -> Round {
        let own = "\(directory)/\(scheme).\(number)"
        defer { try? FileManager.default.removeItem(atPath: own) }
        var file = ClusterFile(
            acceptPort: acceptPort,
            targets: [
                ClientTarget(
                    name: "mdt0", kind: .mds, index: 0,
                    nids: [NetBench.loopback(41), NetBench.loopback(42)])
            ])
        file.path = own + "/cluster.yaml"
        do {
            try FileManager.default.createDirectory(
                atPath: own, withIntermediateDirectories: true)
            try file.text.write(toFile: file.path, atomically: true, encoding: .utf8)
            try Host.raiseDescriptorLimit()
        } catch {
            throw Failure("\(error)")
        }
        let old = try start(file, own, place: 0, standby: false, label: "old")
        _ = try await old.awaitLine("ready")
        let load = PauseLoad(clientCount: clientCount, interval: interval, run: number)
        var fleetOptions = ClientFleet.Options()
        fleetOptions.driver = load
        fleetOptions.cpu = options.processors?.1
        let fleet: ClientFleet
        do {
            fleet = try ClientFleet(
                cluster: file.description, nids: (0..<clientCount).map(DemoCluster.clientNID),
                options: fleetOptions)
            try fleet.start(named: "load")
        } catch {
            throw Failure("\(error)")
        }
        defer { fleet.stop() }
        let count = clientCount
        try await wait(load, old, "every client works") {
            $0.connected == count && $0.operations >= count
        }
        let admin = try ClusterClient(
            file, nids: [DemoCluster.clientNID(clientCount)], timeout: .seconds(30))
        var standby: ChildServer?
        if scheme != .crash {
            let next = try start(file, own, place: 1, standby: true, label: "next")
            _ = try await next.awaitLine("standby")
            standby = next
        }
        var held: SlowClients?
        if scheme == .stuck {
            held = try await SlowClients(
                count: stuckCount, first: clientCount + 1, file: file, directory: own)
        }
        defer { held?.resume() }
        try await Task.sleep(for: .milliseconds(500))
        held?.pause()
        load.orders.withLock { $0.watches = true }
        try await Task.sleep(for: .milliseconds(3))
        let ordered = Host.monotonicNow
        let next: ChildServer
        if let standby {
            let order = UpgradeStart(
                scheme: scheme == .sync ? .sync : .drain, deadlinePolicy: .leaveBehind,
                deadlineMs: 20_000, expiryMs: 60_000, next: standby.nid,
                preflushMs: scheme == .sync ? 0 : preflushMs)
            try await TargetOrders(client: admin, place: 0).give(order)
            next = standby
        } else {
            old.send(SIGKILL)
            while old.poll() == nil { try await Task.sleep(for: .milliseconds(1)) }
            next = try start(file, own, place: 0, standby: false, label: "again")
        }
        _ = try await next.awaitLine("ready", seconds: 60)
        try await wait(load, next, "every client is back") { $0.back >= count }
        // What waited is worked off, and the pause of whoever only now notices is over.
        try await Task.sleep(for: .milliseconds(1000))
        load.orders.withLock { $0.stops = true }
        try await wait(load, next, "the load has ended") { $0.outcome != nil }
        let progress = load.progress.withLock { $0 }
        await admin.close()
        fleet.stop()
        try? fleet.join()
        next.send(SIGKILL)
        guard progress.problems.isEmpty, let outcome = progress.outcome else {
            throw Failure(progress.problems.joined(separator: "; "))
        }
        return describe(outcome, scheme, ordered)
    }

    private func describe(
        _ outcome: PauseLoad.Outcome, _ scheme: PauseScheme, _ ordered: Ticks
    ) -> Round {
        var pauses = Recorder()
        for pause in outcome.pauses { pauses.record(pause) }
        func since(_ at: Ticks) -> Double? { at > ordered ? (at - ordered).inMilliseconds : nil }
        let timeline = UpgradeTimeline(
            name: "mdt0 under load", scheme: scheme.rawValue,
            clients: outcome.stamps.map {
                UpgradeTimeline.Client(
                    gateShut: since($0.gateShut), receiptGiven: since($0.receiptGiven),
                    committed: since($0.committed), disconnected: since($0.disconnected),
                    reconnected: since($0.reconnected), gateOpened: since($0.gateOpened),
                    firstWaited: since($0.firstWaited), firstUpdate: since($0.firstUpdate))
            }, throughput: outcome.slices,
            fromMs: -(ordered - outcome.began).inMilliseconds, intervalMs: 100)
        return Round(
            latencies: outcome.latencies, pauses: pauses,
            blackoutMs: outcome.blackout.inMilliseconds, timeline: timeline)
    }

    private func start(
        _ file: ClusterFile, _ own: String, place: Int, standby: Bool, label: String
    ) throws -> ChildServer {
        let target = file.targets[0]
        var arguments = [
            "serve", "mds", "--target", target.name, "--store", "\(own)/mdt0", "--nid",
            target.nids[place].description, "--cluster", file.path, "--supervised",
        ]
        if let processors = options.processors { arguments += ["--cpu", "\(processors.0)"] }
        if standby { arguments.append("--standby") }
        return try ChildServer(
            name: target.name, nid: target.nids[place], arguments: arguments, directory: own,
            label: label)
    }

    private func wait(
        _ load: PauseLoad, _ server: ChildServer, _ what: String,
        _ isTrue: (PauseLoad.Progress) -> Bool
    ) async throws {
        let limit = ContinuousClock.now + .seconds(60)
        while true {
            let progress = load.progress.withLock { $0 }
            if isTrue(progress) { return }
            guard ContinuousClock.now < limit else {
                throw Failure(
                    "waited 60 s in vain until \(what): \(progress.connected) connected, "
                        + "\(progress.back) back; \(server.lastWords)")
            }
            try await Task.sleep(for: .milliseconds(3))
        }
    }
}
