import ArgumentParser
import EventLoop
import Foundation

/// What a stress run does to processes and connections while it upgrades.
enum StressFault: String, ExpressibleByArgument, CaseIterable {
    /// SIGKILL to a server, or to a standby; in an upgrade or outside of one.
    case kill
    /// SIGSTOP, and SIGCONT up to some seconds later.
    case hang
    /// Every connection of the clients breaks at once.
    case reset
    /// An upgrade is ordered and called off again.
    case abort
    /// SIGTERM, and the same build again.
    case restart
}

/// `sluice stress`: upgrades without end, among faults, with the demo's verdict.
struct StressCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stress",
        abstract: "Upgrade and downgrade under load and faults, for as long as wanted, and verify.",
        discussion: """
            Starts the same cluster and load as sluice demo, with clients of all protocol versions \
            and some without the upgrade feature. Until the time is over its targets are upgraded \
            and downgraded at random (drain or sync, among protocols 1...1, 1...2 and 1...3, each \
            time to the other NID of the target), while servers and standbys are killed and \
            stopped, connections break, upgrades are called off, and operations that wait at a \
            gate are taken back. Whoever dies is started again, as a supervisor would: the build \
            that may start on the store is the one that is taken.

            Everything follows from the seed but the moments at which processes meet it. Each \
            incident is a line in stress.log in the directory, and on standard error with \
            --verbose. The directory stays where the verdict is not good.

            With --other-build, half of all servers are that program, and now and then one of its \
            own clients writes a file and reads it back: an earlier build of sluice beside this one.

            Exit status 0 means: nothing was lost, repeated or changed, and no client saw an error \
            or was evicted.
            """)

    @Option(help: ArgumentHelp("How long to go on.", valueName: "m"))
    var minutes = 1.0

    @Option(help: ArgumentHelp("End after so many upgrades came to their end.", valueName: "n"))
    var upgrades: Int?

    @Option(help: ArgumentHelp("How many client nodes load the servers.", valueName: "n"))
    var clients = 50

    @Option(
        help: ArgumentHelp(
            "kill, hang, reset, abort, restart; separated by commas; all, or none.",
            valueName: "list"))
    var faults = "all"

    @Option(help: ArgumentHelp("Faults per minute, on average.", valueName: "n"))
    var faultRate = 20.0

    @Flag(help: "Take operations back that wait at a gate, one in four clients that wait.")
    var appFault = false

    @Option(
        help: ArgumentHelp("Seed of load and incidents. Default: from the time.", valueName: "n"))
    var seed: UInt64?

    @Option(help: ArgumentHelp("LNet's accept_port for all nodes.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @Option(
        help: ArgumentHelp(
            "Another sluice program, whose servers and clients take part.", valueName: "path"))
    var otherBuild: String?

    @Option(
        help: ArgumentHelp(
            "An empty directory for stores and logs, which is kept. Default: a temporary one.",
            valueName: "dir"))
    var directory: String?

    @Flag(help: "Keep the temporary directory.")
    var keep = false

    @Flag(help: "A line on standard error for every incident.")
    var verbose = false

    @OptionGroup var fabricOption: FabricOption
    @OptionGroup var output: JSONOption

    func validate() throws {
        guard (1...10_000).contains(clients) else {
            throw ValidationError("--clients must be from 1 to 10000")
        }
        guard minutes > 0, minutes <= 10_080 else {
            throw ValidationError("--minutes must be above 0 and at most 10080, which is a week")
        }
        if let upgrades {
            guard upgrades >= 1 else { throw ValidationError("--upgrades must be above 0") }
        }
        guard faultRate >= 0, faultRate <= 600 else {
            throw ValidationError("--fault-rate must be from 0 to 600")
        }
        guard acceptPort >= 2 else { throw ValidationError("--accept-port must be above 1") }
        _ = try Self.parse(faults)
    }

    static func parse(_ text: String) throws -> [StressFault] {
        if text == "all" { return StressFault.allCases }
        if text == "none" { return [] }
        return try text.split(separator: ",", omittingEmptySubsequences: false).map { word in
            guard let fault = StressFault(rawValue: String(word)) else {
                let names = StressFault.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError(
                    "--faults: there is no fault '\(word)'; there are \(names), or all, or none")
            }
            return fault
        }
    }

    @MainActor
    func run() async throws {
        if let otherBuild {
            guard FileManager.default.isExecutableFile(atPath: otherBuild) else {
                throw Failure("--other-build \(otherBuild): no program is there")
            }
        }
        let seed = seed ?? Host.realtimeNanoseconds % 1_000_000_000
        Output.note("SEED=\(seed)")
        let addresses = try DemoAddresses(
            fabricOption.fabric, targetCount: DemoCluster.targets.count, clientCount: clients)
        Output.note(addresses.line)
        let cluster = try DemoCluster(
            directory: directory, keeps: keep, acceptPort: acceptPort, fault: nil,
            addresses: addresses)
        let stress = try StressRun(
            cluster: cluster, clientCount: clients, seconds: minutes * 60,
            upgradeCountMax: upgrades,
            faults: try Self.parse(faults), faultsPerMinute: faultRate, cancelsAtGate: appFault,
            otherBuild: otherBuild, seed: seed, isVerbose: verbose)
        let report: StressReport
        do {
            report = try await stress.run()
        } catch {
            cluster.removesDirectory = false
            await stress.abandon()
            Output.note("stores and logs are in \(cluster.directory)")
            throw error
        }
        if output.json {
            try Output.json(report)
        } else {
            Output.line(report.text)
        }
        let isGood = report.faults.isEmpty
        if !isGood { cluster.removesDirectory = false }
        if !cluster.removesDirectory {
            Output.note("stores and logs are in \(cluster.directory)")
        }
        guard isGood else { throw ExitCode.failure }
    }
}
