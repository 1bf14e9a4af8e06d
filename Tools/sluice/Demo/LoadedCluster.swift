import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// Real servers under a checked load, from their first start to what the verification finds.
///
/// It starts and loads, waits, verifies and stops; what happens to the servers meanwhile is for whoever owns it.
@MainActor
final class LoadedCluster {
    let cluster: DemoCluster
    let clientCount: Int
    let driver: LoadDriver
    let progress: ProgressLine
    /// What `phase` is shown as, and named by when time runs out.
    var phase = "starting servers" {
        didSet { watchdog.enter(phase) }
    }
    /// Set where servers end because somebody ended them: their end is then not a failure.
    var toleratesDeaths = false
    private(set) var demoDescriptorCount = 0
    private let seed: UInt64
    private let watchdog: Watchdog
    private var running: (admin: ClusterClient, fleet: ClientFleet, uuids: [String])?
    private var lastOperations: (count: UInt64, at: Ticks) = (0, .zero)
    private var rate = 0.0

    /// - Parameters:
    ///   - command: the command's name, for the sentence that the watchdog ends it with.
    ///   - secondsMax: after this long the program is ended.
    init(
        _ command: String, cluster: DemoCluster, clientCount: Int, seed: UInt64,
        secondsMax: Double, cancelsAtGate: Bool = false
    ) {
        self.cluster = cluster
        self.clientCount = clientCount
        self.seed = seed
        let progress = ProgressLine()
        self.progress = progress
        let directory = cluster.directory
        watchdog = Watchdog(seconds: secondsMax) { phase in
            progress.end()
            Output.note(
                "Error: the \(command) took longer than \(Int(secondsMax)) s and was ended while "
                    + "\(phase); logs are in \(directory)")
            // The servers end with their standard input.
            _exit(1)
        }
        driver = LoadDriver(
            clientCount: clientCount, targetCount: cluster.file.targets.count, seed: seed,
            cancelsAtGate: cancelsAtGate)
    }

    deinit { watchdog.stop() }

    var now: Ticks { Host.monotonicNow }

    // MARK: From the start to the end

    /// Starts the servers and the clients; returns when every client has made its first files.
    ///
    /// - Parameter configure: what the `index`th client is told beside its name and seed.
    func start(
        serving protocols: String = "1...1",
        configure: (_ index: Int, inout ClientConfiguration) -> Void = { _, _ in }
    ) async throws {
        watchdog.enter(phase)
        progress.show("\(phase) …")
        do {
            try Host.raiseDescriptorLimit()
        } catch {
            throw Failure("\(error)")
        }
        try await cluster.startAll(protocols: protocols)
        let uuids = (0..<clientCount).map { "load\(padded($0, 5))-\(getpid())" }
        let fleet = try makeFleet(uuids, configure)
        let admin = try ClusterClient(
            cluster.file, nids: [cluster.addresses.client(clientCount)])
        running = (admin, fleet, uuids)
        phase = "connecting clients"
        try await wait("every client has connected and made its files", seconds: 60) {
            $0.isSetUp
        }
    }

    private func makeFleet(
        _ uuids: [String], _ configure: (Int, inout ClientConfiguration) -> Void
    ) throws -> ClientFleet {
        var options = ClientFleet.Options()
        options.driver = driver
        var index = 0
        var random = SplitMix64(seed: seed)
        do {
            let fleet = try ClientFleet(
                cluster: cluster.file.description,
                nids: uuids.indices.map(cluster.addresses.client), options: options
            ) { client in
                client.uuid = uuids[index]
                client.seed = random.next()
                client.reportsUpdates = true
                configure(index, &client)
                index += 1
            }
            try fleet.start(named: "load")
            return fleet
        } catch {
            throw Failure("the clients cannot be made: \(error)")
        }
    }

    /// Lets every client end what it does, write back and unmount.
    func endLoad() async throws {
        guard let running else { return }
        phase = "finishing operations"
        driver.orders.withLock { $0.stops = true }
        try await wait("every client has ended its operations", seconds: 60) {
            $0.restCount == self.clientCount
        }
        phase = "writing back, unmounting"
        try await wait("every client has unmounted", seconds: 60) {
            $0.unmountedCount == self.clientCount
        }
        running.fleet.stop()
        do {
            try running.fleet.join()
        } catch {
            throw Failure("the clients' loop failed: \(error)")
        }
    }

    /// Reads everything back and compares the audit tables, then stops the servers.
    func verify() async throws -> Verification.Findings {
        guard let running else { return Verification.Findings() }
        demoDescriptorCount = driver.peakDescriptorCount
        measure()
        phase = "verifying: reading everything back"
        progress.show("\(phase) …")
        let verification = Verification(
            cluster: cluster.file,
            nids: (0..<Verification.nodeCount).map {
                cluster.addresses.client(clientCount + 1 + $0)
            }, models: driver.clients.map(\.model))
        var findings = try await verification.readBack()
        phase = "verifying: comparing audit tables"
        progress.show("\(phase) …")
        findings.add(
            try await Verification.audit(
                running.admin, acknowledged: driver.acknowledged, uuids: running.uuids))
        await running.admin.close()
        phase = "stopping servers"
        measure()
        await cluster.stopAll()
        progress.end()
        return findings
    }

    private func measure() {
        for server in cluster.servers { server.measure() }
        demoDescriptorCount = max(demoDescriptorCount, Machine.descriptorCount(of: getpid()))
    }

    /// Breaks every connection of the clients.
    func breakConnections() { running?.fleet.breakConnections() }

    // MARK: Orders

    /// Sends one request to a target, as an administrator.
    func send(
        _ body: RequestBody, to place: Int, within limit: Duration? = nil
    ) async throws -> ReplyBody {
        guard let running else { throw Failure("the cluster was not started") }
        return try await running.admin.send(body, to: place, within: limit)
    }

    /// Where the administrator's own client stands with every target.
    var administratorStanding: String { running?.admin.standing ?? "" }

    /// Gives a target an order, as an administrator; throws the target's own sentence where it is
    /// refused.
    func give(_ order: UpgradeStart, to place: Int) async throws {
        guard let running else { throw Failure("the cluster was not started") }
        try await TargetOrders(client: running.admin, place: place).give(order)
    }

    /// Waits until a target serves, as it says itself.
    func waitUntilServing(_ place: Int, seconds: UInt64) async throws {
        let limit = now + .seconds(seconds)
        while now < limit {
            if case .upgradeStatus(let status)? = try? await send(.upgradeStatus, to: place),
                status.phase == .serving
            {
                return
            }
            try await idle(until: now + .milliseconds(20))
        }
        throw Failure(
            "\(cluster.file.targets[place].name) did not come to serve in \(seconds) s")
    }

    // MARK: Waiting

    func idle(until end: Ticks) async throws {
        while now < end {
            try await breathe(.milliseconds(20))
        }
    }

    func wait(
        _ what: String, seconds: UInt64, _ isTrue: (LoadDriver.Progress) -> Bool
    ) async throws {
        let limit = now + .seconds(seconds)
        while true {
            let progress = driver.progress.withLock { $0 }
            if isTrue(progress) { return }
            guard now < limit else {
                var samples = progress.samples.prefix(3).joined(separator: "; ")
                if !progress.busy.isEmpty { samples = tellBusy(progress.busy) }
                throw Failure(
                    "\(phase): waited \(seconds) s in vain until \(what): "
                        + "\(progress.connectedCount) of "
                        + "\(clientCount) are connected, \(progress.backCount) back, "
                        + "\(progress.restCount) at rest, \(progress.unmountedCount) unmounted"
                        + (samples.isEmpty ? "" : " (\(samples))"))
            }
            try await breathe(.milliseconds(5))
        }
    }

    /// Shows what clients that do not come to an end wait for; returns the first few in a line.
    private func tellBusy(_ busy: [LoadDriver.BusyClient]) -> String {
        let shown = busy.prefix(3)
        self.progress.end()
        for client in shown {
            guard let report = running?.fleet.report(first: client.index, count: 1) else { break }
            for client in report.clients { Output.note(client.text) }
        }
        return shown.map {
            "client \($0.index): \($0.operation) for \(Int((now - $0.since).inSeconds)) s"
        }
        .joined(separator: "; ")
    }

    /// A moment of waiting, in which the servers are looked after and the line is written.
    private func breathe(_ pause: Duration) async throws {
        try await Task.sleep(for: pause)
        let now = self.now
        guard (now - lastOperations.at).inMilliseconds >= 200 else { return }
        if !toleratesDeaths { try cluster.check() }
        let progress = driver.progress.withLock { $0 }
        if lastOperations.at != .zero {
            rate =
                Double(progress.operations - lastOperations.count)
                / (now - lastOperations.at).inSeconds
        }
        lastOperations = (progress.operations, now)
        var line = "\(phase) | \(progress.connectedCount)/\(clientCount) clients"
        line += " | \(Int(rate)) ops/s | \(progress.shutGateCount) gates shut"
        if progress.errors > 0 { line += " | \(progress.errors) errors" }
        self.progress.show(line)
    }
}
