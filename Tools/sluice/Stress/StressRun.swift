import ClientCore
import EventLoop
import Foundation
import Primitives
import WireFormat

/// A stress run: one task upgrades, one does harm, both supervise what they touch.
///
/// Everything happens on the main actor, so that the two take turns at each `await`, and nowhere else.
@MainActor
final class StressRun {
    /// A build as it is started: which versions it speaks, on which NID, from which file.
    struct Build: Equatable {
        var protocols: String
        var nid: Int
        var program: String?
    }

    /// What runs for a target now.
    struct Seat {
        var server: ChildServer
        var build: Build
        /// Somebody replaces the server, and starts another when it ends.
        var isBusy = false
    }

    let loaded: LoadedCluster
    let faults: [StressFault]
    let faultsPerMinute: Double
    let otherBuild: String?
    var report: StressReport
    var seats: [Seat] = []
    var isOver = false
    var end = Ticks.zero
    /// Announced drains that came to their end, as the driver counts what it watched.
    var finishedTraces: [Int] = []
    /// Who upgrades, and who does harm, each draw from one of their own.
    var upgradeRandom: SplitMix64
    var faultRandom: SplitMix64
    let upgradeCountMax: Int?
    private let log: StressLog

    var cluster: DemoCluster { loaded.cluster }
    var now: Ticks { loaded.now }

    init(
        cluster: DemoCluster, clientCount: Int, seconds: Double, upgradeCountMax: Int?,
        faults: [StressFault], faultsPerMinute: Double, cancelsAtGate: Bool, otherBuild: String?,
        seed: UInt64, isVerbose: Bool
    ) throws {
        loaded = LoadedCluster(
            "stress run", cluster: cluster, clientCount: clientCount, seed: seed,
            secondsMax: 600 + 2 * seconds, cancelsAtGate: cancelsAtGate)
        loaded.toleratesDeaths = true
        self.upgradeCountMax = upgradeCountMax
        self.faults = faults
        self.faultsPerMinute = faultsPerMinute
        self.otherBuild = otherBuild
        upgradeRandom = SplitMix64(seed: seed ^ 0x0000_0BAD)
        faultRandom = SplitMix64(seed: seed ^ 0xFA01_7000)
        report = StressReport(seed: seed, clients: clientCount, seconds: seconds)
        log = try StressLog(
            path: cluster.directory + "/stress.log", progress: isVerbose ? loaded.progress : nil,
            began: loaded.now)
    }

    func run() async throws -> StressReport {
        let first = Build(protocols: "1...1", nid: 0)
        try await loaded.start(serving: first.protocols) { index, client in
            client.versions = Self.versions(ofClient: index)
            if index % 8 == 5 { client.features.remove(.upgrade) }
        }
        seats = cluster.current.map { Seat(server: $0, build: first) }
        loaded.phase = "stress"
        let began = now
        end = began + TickInterval(nanoseconds: UInt64(report.seconds * 1e9))
        let harm = Task { try await harmUntilOver() }
        let upgrades = Task { try await upgradeUntilOver() }
        // Whichever throws ends the other's loop.
        let ended = (await harm.result, await upgrades.result)
        try ended.0.get()
        try ended.1.get()
        report.seconds = (now - began).inSeconds
        for place in seats.indices {
            loaded.phase = "waiting until \(name(place)) has recovered"
            try await loaded.waitUntilServing(place, seconds: 120)
        }
        try await loaded.endLoad()
        summarise(try await loaded.verify())
        return report
    }

    func abandon() async {
        loaded.progress.end()
        for server in cluster.servers { server.send(SIGCONT) }
        await cluster.stopAll()
    }

    /// Clients of all versions: those of 1 alone, of 1 and 2, and twice as many of all.
    static func versions(ofClient index: Int) -> ClosedRange<ProtocolVersion> {
        let all = ProtocolVersion.supported
        switch index % 4 {
        case 0: return all.lowerBound...all.lowerBound
        case 1: return all.lowerBound...min(ProtocolVersion(rawValue: 2), all.upperBound)
        default: return all
        }
    }

    func name(_ place: Int) -> String { cluster.file.targets[place].name }

    func say(_ text: String) { log.line(text, at: now) }

    func idle(milliseconds: Int) async throws {
        try await loaded.idle(until: now + .milliseconds(UInt64(max(0, milliseconds))))
    }

    // MARK: Starting what has ended

    /// Starts the first of `builds` that the store admits, again where it is killed meanwhile.
    func start(_ place: Int, oneOf builds: [Build]) async throws {
        var attempts = 0
        var refusals: [String] = []
        var remaining = builds[...]
        while let build = remaining.first {
            attempts += 1
            guard attempts <= 40 else { break }
            let server = try cluster.start(
                place, nid: build.nid, protocols: build.protocols, program: build.program)
            seats[place].server = server
            seats[place].build = build
            cluster.replaceCurrent(place, by: server)
            let limit = now + .seconds(60)
            while server.line("ready") == nil {
                if let end = server.poll() {
                    if end == .exited(1) {
                        report.incidents.refusals += 1
                        refusals.append(server.lastWords)
                        say("\(name(place)): \(spelled(build)) refuses: \(server.lastWords)")
                        remaining = remaining.dropFirst()
                    }
                    break
                }
                guard now < limit else {
                    throw Failure(
                        "\(name(place)): \(spelled(build)) is not ready after 60 s: "
                            + server.lastWords)
                }
                try await idle(milliseconds: 5)
            }
            if server.line("ready") != nil {
                say("\(name(place)): \(spelled(build)) serves")
                cluster.forgetDead()
                return
            }
        }
        throw Failure(
            "\(name(place)): no build starts on its store: \(refusals.joined(separator: "; "))")
    }

    func spelled(_ build: Build) -> String {
        "\(build.protocols) on its \(build.nid == 0 ? "first" : "second") NID"
            + (build.program == nil ? "" : " (other build)")
    }

    // MARK: The verdict

    private func summarise(_ findings: Verification.Findings) {
        let driver = loaded.driver
        report.lostUpdates = findings.lost
        report.duplicatedUpdates = findings.duplicated
        report.corruptBytes = findings.corruptBytes
        report.clientErrors = findings.errors + driver.otherErrorCount
        report.samples = findings.samples
        report.evictions += driver.evictions
        report.acknowledgedUpdates = driver.acknowledged.reduce(0) { $0 + UInt64($1.count) }
        for client in driver.clients {
            report.operations += client.tally.operations
            report.clientErrors += client.tally.errors
            report.corruptBytes += client.tally.corruptBytes
            report.cancellations += client.tally.cancellations
            if report.samples.count < 12 { report.samples += client.tally.samples }
        }
        if report.samples.count < 16 { report.samples += driver.otherErrors }
        let pauses = finishedTraces.filter { $0 < driver.traces.count }
            .flatMap { driver.traces[$0].pauses }
        report.pauseMs = DemoReport.Percentiles(pauses)
        report.verdict = report.faults.isEmpty ? "passed" : "failed"
        say("\(report.verdict): \(report.faults.joined(separator: ", "))")
    }
}

/// What happened, a line each: in a file, and for who wants to see it on standard error.
@MainActor
private final class StressLog {
    private let file: Foundation.FileHandle
    private let progress: ProgressLine?
    private let began: Ticks

    init(path: String, progress: ProgressLine?, began: Ticks) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let file = Foundation.FileHandle(forWritingAtPath: path)
        else { throw Failure("\(path) cannot be written") }
        self.file = file
        self.progress = progress
        self.began = began
    }

    func line(_ text: String, at now: Ticks) {
        let tenths = Int(((now - began).inSeconds * 1000).rounded())
        let line = "\(padded(tenths / 1000, 5)).\(padded(tenths % 1000, 3)) \(text)"
        try? file.write(contentsOf: Data((line + "\n").utf8))
        guard let progress else { return }
        progress.end()
        Output.note(line)
    }
}
