import ArgumentParser
import EventLoop
import Foundation
import Primitives

/// How the demo brings its servers down.
enum DemoScheme: String, ExpressibleByArgument, CaseIterable {
    case drain
    case crash
}

/// `sluice demo`: the main job on real input.
struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Upgrade every server of a small cluster under load, and verify.",
        discussion: """
            Starts one metadata and two object servers that speak protocol 1 as processes, loads \
            them from client nodes with a seeded mix of all file operations, and upgrades one \
            after the other to protocol 2 while the load goes on. Afterwards fresh clients read \
            everything back and compare it with a model kept outside the cluster, and each \
            server's audit table is compared with the updates that it acknowledged.

            Scheme drain announces each upgrade and hands over to a standby. Scheme crash kills \
            the server; the new build refuses the unclean store, and the old build recovers by \
            replay.

            Exit status 0 means: nothing was lost, repeated or changed, and no client saw an error \
            or was evicted.

            With --json one object is printed:
              verdict               "passed" or "failed"
              scheme seed clients seconds   as they were chosen
              operations            file operations that ended well, reads among them
              acknowledgedUpdates   updates that a server acknowledged
              lostUpdates           of them, those that are not there afterwards
              duplicatedUpdates     executions of an update beyond the first
              corruptBytes          bytes that differ from the model
              clientErrors          errors and wrong answers that clients saw
              evictions             clients that a server forgot
              opsPerSecond          {before, during, after} the upgrades
              upgrades              one object each, times in milliseconds:
                target scheme fromProtocol toProtocol
                notificationMs      {p50, p99, max}: order to shut gate (t3-t0)
                receiptMs           {p50, p99, max}: order to receipt (t4-t0)
                preparedMs          order to the last receipt
                committedMs         order to the first notice that all is committed
                pauseMs             {p50, p99, max} over the clients that waited
                pausedClients       how many those are
                updateGapMs         {p50, p99, max}: first wait to first update acknowledged
                blackoutMs          last update of the old instance to first of the new
                replayed resent     requests, as the new instance counts them
                opsPerSecond        {before, during, after} this upgrade
                refusal             why the new build did not start (crash)
              memory                {serverPeakKiB, demoPeakKiB}
              fileDescriptors       {serverPeak, demoPeak}
              samples               some of what went wrong, in words
            Times that a scheme does not have are left out.
            """)

    @Option(help: ArgumentHelp("How many client nodes load the servers.", valueName: "n"))
    var clients = 200

    @Option(help: ArgumentHelp("How long they do.", valueName: "s"))
    var seconds = 20.0

    @Option(help: "drain, or crash for the baseline.")
    var scheme = DemoScheme.drain

    @Option(help: ArgumentHelp("Seed of the load. Default: from the time.", valueName: "n"))
    var seed: UInt64?

    @Option(help: ArgumentHelp("LNet's accept_port for all nodes.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @Option(
        help: ArgumentHelp(
            "An empty directory for stores and logs, which is kept. Default: a temporary one.",
            valueName: "dir"))
    var directory: String?

    @Flag(help: "Keep the temporary directory.")
    var keep = false

    @OptionGroup var fabricOption: FabricOption
    @Option(
        name: .customLong("output"),
        help: ArgumentHelp(
            "Write the upgrades' stamps to a file for sluice report.", valueName: "file"))
    var resultPath: String?

    @Option(
        help: ArgumentHelp(
            "Write a page with every client's phases; needs plotly, as sluice report does.",
            valueName: "file"))
    var report: String?

    @OptionGroup var output: JSONOption

    @Option(
        name: .customLong("break"),
        help: ArgumentHelp("lose, repeat or corrupt.", visibility: .hidden))
    var fault: FaultName?

    func validate() throws {
        guard (1...10_000).contains(clients) else {
            throw ValidationError("--clients must be from 1 to 10000")
        }
        guard seconds >= 3, seconds <= 86_400 else {
            throw ValidationError("--seconds must be from 3 to 86400")
        }
        guard acceptPort >= 2 else { throw ValidationError("--accept-port must be above 1") }
        for path in [resultPath, self.report].compactMap({ $0 }) {
            try BenchOptions.refuseUnwritable(path)
        }
    }

    @MainActor
    func run() async throws {
        let seed = seed ?? Host.realtimeNanoseconds % 1_000_000_000
        let addresses = try DemoAddresses(
            fabricOption.fabric, targetCount: DemoCluster.targets.count, clientCount: clients)
        Output.note(addresses.line)
        // Looked for before the demo, not after it.
        let script = try self.report.map { _ in try PlotLibrary.script(at: nil) }
        let cluster = try DemoCluster(
            directory: directory, keeps: keep, acceptPort: acceptPort, fault: fault,
            addresses: addresses)
        let demo = Demo(
            cluster: cluster, clientCount: clients, seconds: seconds, scheme: scheme, seed: seed)
        let report: DemoReport
        do {
            report = try await demo.run()
        } catch {
            await demo.abandon()
            throw error
        }
        if output.json {
            try Output.json(report)
        } else {
            Output.line(report.text)
        }
        if let resultPath { try demo.result.write(to: resultPath) }
        if let path = self.report, let script {
            try ReportPage([demo.result], script: script).write(to: path)
        }
        if keep || directory != nil { Output.note("stores and logs are in \(cluster.directory)") }
        guard report.faults.isEmpty else { throw ExitCode.failure }
    }
}
