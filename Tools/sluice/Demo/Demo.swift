import ClientCore
import EventLoop
import Foundation
import LNetCore
import NodeRuntime
import Primitives
import WireFormat

/// The demo from the first server's start to the verdict: an operator and a supervisor in one.
final class Demo {
    let progress = ProgressLine()
    private let cluster: DemoCluster
    private let clientCount: Int
    private let seconds: Double
    private let scheme: DemoScheme
    private let seed: UInt64
    private let driver: LoadDriver
    private var admin: ClusterClient?
    private var phase = "starting servers" {
        didSet { watchdog.enter(phase) }
    }
    private let watchdog: Watchdog
    private var lastOperations: (count: UInt64, at: Ticks) = (0, .zero)
    private var rate = 0.0
    private var demoDescriptorCount = 0
    private var report: DemoReport
    /// t0 of each upgrade.
    private var orderedAt: [Ticks] = []

    init(
        cluster: DemoCluster, clientCount: Int, seconds: Double, scheme: DemoScheme, seed: UInt64
    ) {
        self.cluster = cluster
        self.clientCount = clientCount
        self.seconds = seconds
        self.scheme = scheme
        self.seed = seed
        let limit = Self.secondsMax(seconds)
        let directory = cluster.directory
        let progress = progress
        watchdog = Watchdog(seconds: limit) { phase in
            progress.end()
            Output.note(
                "Error: the demo took longer than \(Int(limit)) s and was ended while \(phase); "
                    + "logs are in \(directory)")
            // The servers end with their standard input.
            _exit(1)
        }
        driver = LoadDriver(
            clientCount: clientCount, targetCount: cluster.file.targets.count, seed: seed)
        report = DemoReport(
            scheme: scheme.rawValue, seed: seed, clients: clientCount, seconds: seconds)
    }

    deinit { watchdog.stop() }

    /// More than a demo of this length takes on a machine that is busy with other things.
    static func secondsMax(_ seconds: Double) -> Double { 120 + 6 * seconds }

    private var now: Ticks { Host.monotonicNow }

    func run() async throws -> DemoReport {
        watchdog.enter(phase)
        progress.show("\(phase) …")
        do {
            try Host.raiseDescriptorLimit()
        } catch {
            throw Failure("\(error)")
        }
        try await cluster.startAll()
        let uuids = (0..<clientCount).map { "load\(padded($0, 5))-\(getpid())" }
        let fleet = try makeFleet(uuids)
        let admin = try ClusterClient(
            cluster.file, nid: DemoCluster.clientNID(clientCount))
        self.admin = admin
        phase = "connecting clients"
        try await wait("every client has connected and made its files", seconds: 60) {
            $0.isSetUp
        }
        try await load()
        phase = "finishing operations"
        driver.orders.withLock { $0.stops = true }
        try await wait("every client has ended its operations", seconds: 60) {
            $0.restCount == self.clientCount
        }
        phase = "writing back, unmounting"
        try await wait("every client has unmounted", seconds: 60) {
            $0.unmountedCount == self.clientCount
        }
        fleet.stop()
        do {
            try fleet.join()
        } catch {
            throw Failure("the clients' loop failed: \(error)")
        }
        try await verify(admin, uuids)
        await admin.close()
        phase = "stopping servers"
        measure()
        await cluster.stopAll()
        summarise()
        progress.end()
        return report
    }

    private func makeFleet(_ uuids: [String]) throws -> ClientFleet {
        var options = ClientFleet.Options()
        options.driver = driver
        var index = 0
        var random = SplitMix64(seed: seed)
        do {
            let fleet = try ClientFleet(
                cluster: cluster.file.description,
                nids: uuids.indices.map(DemoCluster.clientNID), options: options
            ) { client in
                client.uuid = uuids[index]
                client.seed = random.next()
                client.reportsUpdates = true
                index += 1
            }
            try fleet.start(named: "load")
            return fleet
        } catch {
            throw Failure("the clients cannot be made: \(error)")
        }
    }

    // MARK: The load and the upgrades

    private func load() async throws {
        let began = now
        phase = "load"
        try await idle(until: began + interval(seconds / 3))
        let firstUpgrade = now
        var gaps: [(from: Ticks, to: Ticks)] = []
        for place in cluster.file.targets.indices {
            let from = now
            switch scheme {
            case .drain: try await drain(place)
            case .crash: try await crash(place)
            }
            gaps.append((from, now))
            try await idle(until: now + .milliseconds(500))
        }
        let lastUpgrade = gaps[gaps.count - 1].to
        phase = "load after the upgrades"
        let enough = max(began + interval(seconds), now + interval(max(1, seconds / 6)))
        try await idle(until: enough)
        windows = (began, firstUpgrade, gaps, lastUpgrade, now)
    }

    private var windows:
        (
            began: Ticks, first: Ticks, upgrades: [(from: Ticks, to: Ticks)], last: Ticks,
            ended: Ticks
        )?

    private func drain(_ place: Int) async throws {
        guard let admin else { return }
        let name = cluster.file.targets[place].name
        phase = "upgrading \(name): starting its standby"
        let old = cluster.current[place]
        let standby = try cluster.start(place, nid: 1, protocols: "1...2", standby: true)
        try await cluster.waitForLine("standby", of: standby, seconds: 20)
        phase = "upgrading \(name): drain"
        old.measure()
        let order = UpgradeStart(
            scheme: .drain, deadlineMs: 20_000, expiryMs: 60_000, next: standby.nid)
        try await observe(place, isAnnounced: true)
        guard case .upgradeStarted = try await admin.send(.upgradeStart(order), to: place) else {
            throw Failure("\(name) does not begin its upgrade")
        }
        let end = try await cluster.waitForEnd(of: old, seconds: 60)
        guard end == .exited(0) else {
            throw Failure("\(name) did not end cleanly (\(end)): \(old.lastWords)")
        }
        cluster.replaceCurrent(place, by: standby)
        try await cluster.waitForLine("ready", of: standby, seconds: 20)
        try await wait("every client is back at \(name)", seconds: 60) {
            $0.backCount == self.clientCount
        }
        try await note(place, from: 1, to: 2, refusal: nil)
    }

    private func crash(_ place: Int) async throws {
        let name = cluster.file.targets[place].name
        phase = "upgrading \(name): starting its standby"
        let old = cluster.current[place]
        let standby = try cluster.start(place, nid: 1, protocols: "1...2", standby: true)
        try await cluster.waitForLine("standby", of: standby, seconds: 20)
        phase = "upgrading \(name): killed"
        old.measure()
        try await observe(place, isAnnounced: false)
        old.send(SIGKILL)
        _ = try await cluster.waitForEnd(of: old, seconds: 10)
        let end = try await cluster.waitForEnd(of: standby, seconds: 20)
        guard end == .exited(1) else {
            throw Failure("\(name): the new build took an unclean store (\(end))")
        }
        let refusal = standby.lastWords
        phase = "upgrading \(name): the old build recovers"
        let fallback = try cluster.start(place, nid: 0, protocols: "1...1")
        cluster.replaceCurrent(place, by: fallback)
        try await cluster.waitForLine("ready", of: fallback, seconds: 20)
        try await wait("every client is back at \(name)", seconds: 90) {
            $0.backCount == self.clientCount
        }
        try await recovered(place)
        try await note(place, from: 1, to: 1, refusal: refusal)
    }

    /// Makes the driver keep the clients' stamps; what comes next is the upgrade's t0.
    private func observe(_ place: Int, isAnnounced: Bool) async throws {
        let count = driver.progress.withLock(\.traceCount)
        let began = now
        driver.orders.withLock { $0.begins = (place, began, isAnnounced) }
        try await wait("the clients are watched", seconds: 10) { $0.traceCount > count }
        orderedAt.append(now)
    }

    /// Waits until a target serves again.
    private func recovered(_ place: Int) async throws {
        guard let admin else { return }
        let limit = now + .seconds(90)
        while now < limit {
            if case .upgradeStatus(let status)? = try? await admin.send(.upgradeStatus, to: place),
                status.phase == .serving
            {
                return
            }
            try await idle(until: now + .milliseconds(20))
        }
        throw Failure("\(cluster.file.targets[place].name) did not recover in 90 s")
    }

    /// Ends the trace of an upgrade and keeps what the new instance says of it.
    private func note(_ place: Int, from: Int, to: Int, refusal: String?) async throws {
        guard let admin else { return }
        let name = cluster.file.targets[place].name
        driver.orders.withLock { $0.endsTrace = true }
        guard case .upgradeStatus(let status) = try await admin.send(.upgradeStatus, to: place)
        else { throw Failure("\(name) answered something else than its state") }
        let version = status.clients.map(\.version.rawValue).min().map(Int.init) ?? to
        report.evictions += status.evictions
        report.upgrades.append(
            DemoReport.Upgrade(
                target: name, scheme: scheme.rawValue, fromProtocol: from, toProtocol: version,
                notificationMs: nil, receiptMs: nil, preparedMs: nil, committedMs: nil,
                pauseMs: nil, pausedClients: 0, updateGapMs: nil, blackoutMs: nil,
                replayed: status.replayed,
                resent: status.resent,
                opsPerSecond: DemoReport.Rates(before: 0, during: 0, after: 0), refusal: refusal))
    }

    // MARK: Waiting

    private func interval(_ seconds: Double) -> TickInterval {
        TickInterval(nanoseconds: UInt64(seconds * 1e9))
    }

    private func idle(until end: Ticks) async throws {
        while now < end {
            try await breathe(.milliseconds(20))
        }
    }

    private func wait(
        _ what: String, seconds: UInt64, _ isTrue: (LoadDriver.Progress) -> Bool
    ) async throws {
        let limit = now + .seconds(seconds)
        while true {
            let progress = driver.progress.withLock { $0 }
            if isTrue(progress) { return }
            guard now < limit else {
                let samples = progress.samples.prefix(3).joined(separator: "; ")
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

    /// A moment of waiting, in which the servers are looked after and the line is written.
    private func breathe(_ pause: Duration) async throws {
        try await Task.sleep(for: pause)
        let now = self.now
        guard (now - lastOperations.at).inMilliseconds >= 200 else { return }
        try cluster.check()
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

    private func measure() {
        for server in cluster.servers { server.measure() }
        demoDescriptorCount = max(demoDescriptorCount, Machine.descriptorCount(of: getpid()))
    }

    // MARK: The verdict

    private func verify(_ admin: ClusterClient, _ uuids: [String]) async throws {
        demoDescriptorCount = driver.peakDescriptorCount
        measure()
        phase = "verifying: reading everything back"
        progress.show("\(phase) …")
        let verification = Verification(
            cluster: cluster.file, firstNode: clientCount + 1, models: driver.clients.map(\.model))
        var findings = try await verification.readBack()
        phase = "verifying: comparing audit tables"
        progress.show("\(phase) …")
        findings.add(
            try await Verification.audit(
                admin, acknowledged: driver.acknowledged, uuids: uuids))
        report.lostUpdates = findings.lost
        report.duplicatedUpdates = findings.duplicated
        report.corruptBytes = findings.corruptBytes
        report.clientErrors = findings.errors
        report.samples = findings.samples
    }

    private func summarise() {
        report.acknowledgedUpdates = driver.acknowledged.reduce(0) { $0 + UInt64($1.count) }
        report.evictions += driver.evictions
        if cluster.fault != nil { report.injectedFaults = cluster.injectedFaultCount }
        report.clientErrors += driver.otherErrorCount
        for client in driver.clients {
            report.operations += client.tally.operations
            report.clientErrors += client.tally.errors
            report.corruptBytes += client.tally.corruptBytes
            if report.samples.count < 12 { report.samples += client.tally.samples }
        }
        if report.samples.count < 16 { report.samples += driver.otherErrors }
        for (place, trace) in driver.traces.enumerated() where place < report.upgrades.count {
            var trace = trace
            trace.began = orderedAt[place]
            describe(trace, place)
        }
        if let windows {
            let busy = windows.upgrades.reduce(0.0) { $0 + ($1.to - $1.from).inSeconds }
            let during = windows.upgrades.reduce(0.0) { sum, gap in
                sum + driver.rate(from: gap.from, to: gap.to) * (gap.to - gap.from).inSeconds
            }
            report.opsPerSecond = DemoReport.Rates(
                before: driver.rate(from: windows.began, to: windows.first),
                during: busy > 0 ? during / busy : 0,
                after: driver.rate(from: windows.last, to: windows.ended))
        }
        report.memory = DemoReport.Memory(
            serverPeakKiB: cluster.servers.map(\.peakMemoryKiB).max() ?? 0,
            demoPeakKiB: Machine.peakMemoryKiB(of: getpid()))
        report.fileDescriptors = DemoReport.Descriptors(
            serverPeak: cluster.servers.map(\.peakDescriptorCount).max() ?? 0,
            demoPeak: demoDescriptorCount)
        report.verdict = report.faults.isEmpty ? "passed" : "failed"
    }

    private func describe(_ trace: Trace, _ place: Int) {
        // A crash tells nobody: there is nothing between the kill and the next instance.
        if trace.isAnnounced {
            let receipts = trace.sinceOrder(trace.receipt)
            report.upgrades[place].notificationMs = .init(trace.sinceOrder(trace.gateShut))
            report.upgrades[place].receiptMs = .init(receipts)
            report.upgrades[place].preparedMs = receipts.max()
            report.upgrades[place].committedMs = trace.sinceOrder(trace.committed).min()
        }
        report.upgrades[place].pauseMs = .init(trace.pauses)
        report.upgrades[place].pausedClients = trace.pauses.count
        report.upgrades[place].updateGapMs = .init(trace.updateGaps)
        report.upgrades[place].blackoutMs = trace.blackoutMs
        let second = TickInterval.milliseconds(500)
        let before = Ticks(nanoseconds: trace.began.nanoseconds - second.nanoseconds)
        report.upgrades[place].opsPerSecond = DemoReport.Rates(
            before: driver.rate(from: before, to: trace.began),
            during: driver.rate(from: trace.began, to: trace.ended),
            after: driver.rate(from: trace.ended, to: trace.ended + second))
    }
}
