import ClientCore
import EventLoop
import Foundation
import LNetCore
import NodeRuntime
import Primitives
import WireFormat

/// The demo from the first server's start to the verdict: an operator and a supervisor in one.
@MainActor
final class Demo {
    private let loaded: LoadedCluster
    private let seconds: Double
    private let scheme: DemoScheme
    private var report: DemoReport
    /// t0 of each upgrade.
    private(set) var orderedAt: [Ticks] = []

    var cluster: DemoCluster { loaded.cluster }
    var driver: LoadDriver { loaded.driver }
    private var clientCount: Int { loaded.clientCount }
    private var now: Ticks { loaded.now }

    init(
        cluster: DemoCluster, clientCount: Int, seconds: Double, scheme: DemoScheme, seed: UInt64
    ) {
        self.seconds = seconds
        self.scheme = scheme
        loaded = LoadedCluster(
            "demo", cluster: cluster, clientCount: clientCount, seed: seed,
            secondsMax: Self.secondsMax(seconds))
        report = DemoReport(
            scheme: scheme.rawValue, seed: seed, clients: clientCount, seconds: seconds)
    }

    /// More than a demo of this length takes on a machine that is busy with other things.
    nonisolated static func secondsMax(_ seconds: Double) -> Double { 120 + 6 * seconds }

    func run() async throws -> DemoReport {
        try await loaded.start()
        try await load()
        try await loaded.endLoad()
        let findings = try await loaded.verify()
        report.lostUpdates = findings.lost
        report.duplicatedUpdates = findings.duplicated
        report.corruptBytes = findings.corruptBytes
        report.clientErrors = findings.errors
        report.samples = findings.samples
        summarise()
        return report
    }

    /// Takes the progress line away and ends the servers, where `run` threw.
    func abandon() async {
        loaded.progress.end()
        await cluster.stopAll()
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
        let name = cluster.file.targets[place].name
        phase = "upgrading \(name): starting its standby"
        let old = cluster.current[place]
        let standby = try cluster.start(place, nid: 1, protocols: "1...2", standby: true)
        try await cluster.waitForLine("standby", of: standby, seconds: 20)
        phase = "upgrading \(name): drain"
        old.measure()
        let order = UpgradeStart(
            scheme: .drain, deadlineMs: 20_000, expiryMs: 60_000, next: standby.nid,
            preflushMs: 3_000)
        try await observe(place, isAnnounced: true)
        try await loaded.give(order, to: place)
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
        try await loaded.waitUntilServing(place, seconds: 90)
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

    /// Ends the trace of an upgrade and keeps what the new instance says of it.
    private func note(_ place: Int, from: Int, to: Int, refusal: String?) async throws {
        let name = cluster.file.targets[place].name
        driver.orders.withLock { $0.endsTrace = true }
        guard case .upgradeStatus(let status) = try await loaded.send(.upgradeStatus, to: place)
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

    private func interval(_ seconds: Double) -> TickInterval {
        TickInterval(nanoseconds: UInt64(seconds * 1e9))
    }

    private func idle(until end: Ticks) async throws { try await loaded.idle(until: end) }

    private func wait(
        _ what: String, seconds: UInt64, _ isTrue: (LoadDriver.Progress) -> Bool
    ) async throws {
        try await loaded.wait(what, seconds: seconds, isTrue)
    }

    private var phase: String {
        get { loaded.phase }
        set { loaded.phase = newValue }
    }

    // MARK: The verdict

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
            demoPeak: loaded.demoDescriptorCount)
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
