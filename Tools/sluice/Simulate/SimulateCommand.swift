import ArgumentParser
import Foundation
import Primitives
import Simulator

/// `sluice simulate`: whole clusters in virtual time.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Run whole clusters in virtual time, with seeded faults, and judge them.",
        discussion: """
            Each seed is a cluster of its own: servers and clients, the very code that production \
            runs, a network and disks that fail, upgrades and downgrades among random load, and an \
            oracle that checks after every step what is promised. When the faults stop, everything \
            has to come to its end; then all is read back. Equal seeds give equal runs, on every \
            build.

            A run that breaks a promise prints the seed, the promise, and the last events of every \
            node; exit status 1. --replay SEED shows the same run again, --shrink looks for a \
            smaller one. A limit that ends a run is named; exit status 2.

            Faults, each on in half of the runs, and its usual rate (a share of what it strikes, or \
            times a minute of virtual time); --fault NAME=RATE sets one for every run, 0 is off:

            \(Fault.allCases.map(Self.line).joined(separator: "\n"))

            With --clients 1000 or more, and without --seeds: one announced upgrade of one target \
            with so many clients, against a stated network; prints messages, bytes and times.
            """)

    private static func line(_ fault: Fault) -> String {
        let rate = "\(fault.usualRate)" + (fault.unit == .perMinute ? "/min" : "")
        func padded(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(1, width - text.count))
        }
        return "  " + padded(fault.rawValue, 15) + padded(rate, 11) + fault.explanation
    }

    @Option(help: ArgumentHelp("Which seeds: 7, or 1..100.", valueName: "a..b"))
    var seeds: SeedRange?

    @Option(help: ArgumentHelp("This seed again, with its timeline.", valueName: "seed"))
    var replay: UInt64?

    @Flag(help: "Look for a smaller run that breaks the same promise (with --replay).")
    var shrink = false

    @Option(help: ArgumentHelp("Clients.", valueName: "n"))
    var clients = 6

    @Option(
        help: ArgumentHelp("Servers: one metadata server, the others for objects.", valueName: "n"))
    var servers = 3

    @Option(help: ArgumentHelp("Virtual minutes of load and faults.", valueName: "m"))
    var minutes = 0.25

    @Option(help: ArgumentHelp("Operations a client begins in a virtual second.", valueName: "n"))
    var rate = 8.0

    @Option(
        name: .customLong("fault"),
        help: ArgumentHelp("The rate of one fault; may be given again.", valueName: "name=rate"))
    var faults: [FaultRate] = []

    @Flag(help: "Every fault in every run.")
    var everyFault = false

    @Flag(help: "No faults but those of --fault.")
    var noFaults = false

    @Flag(help: "Print what the runs have reached, and what they never did.")
    var coverage = false

    @Flag(help: "Print each seed's digest.")
    var digests = false

    @Flag(
        help: ArgumentHelp(
            "How fast the simulator is: cluster-seconds a second under light load without faults, and "
                + "events a second under full load with every fault; --seeds alone goes with it."))
    var measure = false

    @Option(
        help: ArgumentHelp(
            "Processes that run at the same time. Default: one a core.", valueName: "n"))
    var jobs: Int?

    @Option(help: ArgumentHelp("Wall seconds after which a run is given up.", valueName: "s"))
    var wall = 120.0

    @Option(
        help: ArgumentHelp(
            "Virtual minutes for everything to end when faults stop.", valueName: "m"))
    var calm = 10.0

    @Option(
        help: ArgumentHelp(
            "A deliberate bug in every server and client: what the checks are checked with. "
                + "Needs a debug build, or one with -Xswiftc -DMUTATIONS.",
            valueName: "name"),
        transform: SimulateCommand.mutation)
    var mutation = Mutation.none

    @Flag(
        help: "After how many of the seeds each deliberate bug (or that of --mutation) is found.")
    var mutations = false

    /// Runs the seeds in this process and reports line by line: what `simulate` starts.
    @Flag(help: .hidden)
    var worker = false

    /// With `--worker`: the first violation ends it.
    @Flag(help: .hidden)
    var untilViolation = false

    /// With `--worker`: every line of the timeline as it comes.
    @Flag(help: .hidden)
    var stream = false

    func validate() throws {
        guard (1...10_000_000).contains(clients) else {
            throw ValidationError("--clients must be from 1 to 10000000")
        }
        guard (2...64).contains(servers) else {
            throw ValidationError("--servers must be from 2 to 64")
        }
        guard minutes > 0, minutes <= 1_000_000 else {
            throw ValidationError("--minutes must be above 0 and at most 1000000")
        }
        guard rate > 0, rate <= 10_000 else {
            throw ValidationError("--rate must be above 0 and at most 10000")
        }
        guard wall > 0 else { throw ValidationError("--wall must be above 0") }
        guard calm > 0, calm <= 10_000 else {
            throw ValidationError("--calm must be above 0 and at most 10000")
        }
        guard (1...1024).contains(jobs ?? 1) else {
            throw ValidationError("--jobs must be from 1 to 1024")
        }
        if seeds != nil, replay != nil {
            throw ValidationError("--seeds and --replay exclude each other")
        }
        if shrink, replay == nil { throw ValidationError("--shrink needs --replay SEED") }
        if mutations || mutation != .none, !Mutation.isCompiledIn {
            throw ValidationError(
                "this build has no deliberate bugs: use a debug build, or build with "
                    + "-Xswiftc -DMUTATIONS")
        }
        if mutations, replay != nil {
            throw ValidationError("--mutations looks for seeds: it takes --seeds, not --replay")
        }
        if measure, mutations || mutation != .none || replay != nil {
            throw ValidationError("--measure takes --seeds and --wall alone")
        }
        if everyFault, noFaults {
            throw ValidationError("--every-fault and --no-faults exclude each other")
        }
        if clients > 10_000, seeds != nil || replay != nil {
            throw ValidationError("--clients must be at most 10000 with --seeds or --replay")
        }
    }

    private static func mutation(_ name: String) throws -> Mutation {
        guard let mutation = Mutation(rawValue: name) else {
            let names = Mutation.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("'\(name)' is none of \(names)")
        }
        return mutation
    }

    func configuration(_ seed: UInt64) -> SimulationConfiguration {
        var configuration = SimulationConfiguration(seed: seed)
        configuration.clientCount = clients
        configuration.serverCount = servers
        configuration.duration = TickInterval(nanoseconds: UInt64(minutes * 60e9))
        configuration.operationsPerSecond = rate
        configuration.fixedRates = faults.map { ($0.fault, $0.rate) }
        configuration.hasEveryFault = everyFault
        configuration.hasNoFaults = noFaults
        configuration.mutation = mutation
        configuration.calmLimit = TickInterval(nanoseconds: UInt64(calm * 60e9))
        return configuration
    }

    func run() throws {
        if worker {
            return SimulationWorker(command: self).run(seeds ?? SeedRange(1...1))
        }
        if measure {
            return try MeasureReport(seeds: seeds ?? SeedRange(1...3), wall: wall).run()
        }
        if mutations {
            let report = MutationReport(command: self, seeds: seeds ?? SeedRange(1...1000))
            guard report.run() else { throw ExitCode(1) }
            return
        }
        if clients >= 1000, seeds == nil, replay == nil {
            return try ScaleReport(command: self).run()
        }
        if let replay {
            Output.line("SEED=\(replay)")
            if shrink { return try Shrinker(command: self).run(replay) }
            return try showFailure(replay, isAsked: true)
        }
        let range = seeds ?? SeedRange(1...100)
        Output.line("SEED=\(range.text)")
        let fleet = SimulationFleet(command: self, seeds: range)
        fleet.run()
        Output.line(fleet.report)
        if coverage { Output.line(fleet.coverageReport) }
        for seed in fleet.failures.prefix(3) { try showFailure(seed, isAsked: false) }
        if !fleet.failures.isEmpty || fleet.accidents > 0 { throw ExitCode(1) }
        if fleet.limited > 0 { throw ExitCode(2) }
    }

    /// The same run in a process of its own, with its timeline; nothing is lost where it traps.
    func showFailure(_ seed: UInt64, isAsked: Bool) throws {
        let run = ChildRun(
            arguments + ["--worker", "--stream", "--seeds", "\(seed)"])
        var timeline = Timeline()
        run.onLine = { line in
            // "at NODE NANOSECONDS TEXT", "name NODE 0 TEXT"
            let parts = line.split(separator: " ", maxSplits: 3)
            guard parts.count == 4, let node = Int(parts[1]), let time = UInt64(parts[2]) else {
                return
            }
            if parts[0] == "name" { timeline.name(node, String(parts[3])) }
            if parts[0] == "at" {
                timeline.note(node, String(parts[3]), at: Ticks(nanoseconds: time))
            }
        }
        let result = run.run()
        Output.line(
            "\nSEED=\(seed)" + (result.violation.map { " breaks: \($0)" } ?? " passed")
                + (result.limit.map { "; stopped by a limit: \($0)" } ?? ""))
        Output.line(timeline.text)
        Output.line("again: sluice simulate --replay \(seed) " + arguments.joined(separator: " "))
        if isAsked, result.violation != nil { throw ExitCode(1) }
    }

    /// What a child is to do as this command was told.
    var arguments: [String] {
        var list = [
            "--clients", "\(clients)", "--servers", "\(servers)", "--minutes", "\(minutes)",
            "--rate", "\(rate)", "--wall", "\(wall)", "--calm", "\(calm)",
        ]
        for fault in faults { list += ["--fault", "\(fault.fault.rawValue)=\(fault.rate)"] }
        if everyFault { list.append("--every-fault") }
        if noFaults { list.append("--no-faults") }
        if mutation != .none { list += ["--mutation", mutation.rawValue] }
        return list
    }
}

/// `7` or `1..100`.
struct SeedRange: ExpressibleByArgument {
    var seeds: ClosedRange<UInt64>

    init(_ seeds: ClosedRange<UInt64>) { self.seeds = seeds }

    init?(argument: String) {
        let ends = argument.split(separator: "..", omittingEmptySubsequences: false)
        guard ends.count == 1 || ends.count == 2, let low = UInt64(ends[0]),
            let high = UInt64(ends[ends.count - 1]), low <= high
        else { return nil }
        seeds = low...high
    }

    var text: String {
        seeds.count == 1 ? "\(seeds.lowerBound)" : "\(seeds.lowerBound)..\(seeds.upperBound)"
    }
}

/// `loss=0.01`.
struct FaultRate: ExpressibleByArgument {
    var fault: Fault
    var rate: Double

    init(_ fault: Fault, _ rate: Double) {
        self.fault = fault
        self.rate = rate
    }

    init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, let fault = Fault(rawValue: String(parts[0])),
            let rate = Double(parts[1]), rate >= 0, rate <= (fault.unit == .share ? 1 : 10_000)
        else { return nil }
        self.fault = fault
        self.rate = rate
    }
}
