import ArgumentParser
import Foundation
import WireFormat

/// `sluice upgrade plan`: what a plan would do, and everything that is wrong with it.
struct UpgradePlanCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Check a plan against its file and the cluster, and change nothing.",
        discussion: """
            A plan is a YAML file; going back is a plan with the older protocol:

              cluster: cluster.yaml        # beside this file; default: --cluster
              protocol: 1...2              # what the next instances speak; also at a server
              defaults: {scheme: drain, cache: flush, reads: cached, late: leave-behind,
                         deadline: 10, expiry: 60, preflush: 2, pause-budget: 5}
              servers:
                - {target: ost0, next: 127.0.2.2@tcp}
                - target: mdt0
                  after: [ost0]
                  standby: sluice serve mds --target mdt0 --store /srv/mdt0 --standby …
                  fallback: sluice serve mds --target mdt0 --store /srv/mdt0 --protocol 1...1 …
              groups:
                - [ost0, ost1]             # no client is told before all of them are sealed
              budget: 30                   # seconds that clients may wait in all

            The keys of defaults may stand at a server too. All problems are printed, each with its \
            line; the exit status is 1 where there is one.
            """)

    @Argument(help: ArgumentHelp("The plan's file.", valueName: "plan"))
    var plan: String

    @Flag(help: "Taken and of no effect: this command changes nothing.")
    var dryRun = false

    @OptionGroup var clusterOptions: ClusterOptions
    @OptionGroup var output: JSONOption

    private struct Report: Encodable {
        struct Problem: Encodable {
            var line: Int
            var text: String
        }
        var plan: String
        var steps: [[String]]
        var servers: [PlanProbe.Finding]
        var problems: [Problem]
    }

    func run() async throws {
        let file = try PlanFile(path: plan, clusterOptions: clusterOptions)
        var problems = file.problems
        var probe = PlanProbe()
        if let found = file.plan {
            let client = try clusterOptions.client(for: found.cluster)
            probe = await PlanProbe.look(found, client)
            await client.close()
            problems += probe.problems
        }
        problems.sort()
        if output.json {
            try Output.json(
                Report(
                    plan: plan,
                    steps: file.plan.map { found in
                        found.steps.map { $0.map { found.servers[$0].target } }
                    } ?? [], servers: probe.findings,
                    problems: problems.map { Report.Problem(line: $0.line, text: $0.text) }))
        } else {
            if let found = file.plan, !found.steps.isEmpty { Output.line(probe.text(found)) }
            for problem in problems {
                Output.note("\(plan): line \(problem.line): \(problem.text)")
            }
            if problems.isEmpty { Output.line("no problems found") }
        }
        guard problems.isEmpty else { throw ExitCode.failure }
    }
}

/// `sluice upgrade run`: carries a plan out.
struct UpgradeRunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Carry a plan out, one step after the other.",
        discussion: """
            Checks it first, as sluice upgrade plan does. The targets carry the state: a run that \
            was killed is begun again with the same command, passes over what is through and goes on \
            with what is in hand. From elsewhere, pause, resume and abort steer it.
            """)

    @Argument(help: ArgumentHelp("The plan's file.", valueName: "plan"))
    var plan: String

    @Flag(help: "Only check, as sluice upgrade plan does.")
    var dryRun = false

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        let found = try PlanFile(path: plan, clusterOptions: clusterOptions).checked()
        let client = try clusterOptions.client(for: found.cluster)
        let probe = await PlanProbe.look(found, client)
        if dryRun || !probe.problems.isEmpty {
            await client.close()
            Output.line(probe.text(found))
            for problem in probe.problems.sorted() {
                Output.note("\(plan): line \(problem.line): \(problem.text)")
            }
            guard probe.problems.isEmpty else { throw ExitCode.failure }
            return Output.line("no problems found")
        }
        do {
            try await PlanRunner(found, client).run()
        } catch {
            await client.close()
            throw error
        }
        await client.close()
    }
}

/// `sluice upgrade pause`: the run waits before its next step.
struct UpgradePauseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause", abstract: "Let a plan's run wait before its next step.")

    @Argument(help: ArgumentHelp("The plan's file.", valueName: "plan"))
    var plan: String

    func run() throws {
        let control = PlanControl(path: plan)
        guard FileManager.default.fileExists(atPath: plan) else {
            throw Failure("\(plan): no such file")
        }
        try control.set(.pause)
        Output.line(
            control.isRunning
                ? "\(plan): its run waits before the next step"
                : "\(plan): nobody runs it; the next run will wait before its first step")
    }
}

/// `sluice upgrade resume`: the run goes on.
struct UpgradeResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Let a plan's run that was paused go on.")

    @Argument(help: ArgumentHelp("The plan's file.", valueName: "plan"))
    var plan: String

    func run() throws {
        let control = PlanControl(path: plan)
        guard control.wish == .pause else {
            throw Failure("\(plan) is not paused")
        }
        try control.set(nil)
        Output.line(
            control.isRunning
                ? "\(plan): its run goes on"
                : "\(plan): nobody runs it; begin it with sluice upgrade run \(plan)")
    }
}
