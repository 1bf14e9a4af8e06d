import ArgumentParser
import Simulator

/// Looks for a smaller run that breaks the same promise: fewer faults, clients, servers, minutes.
///
/// Whatever is left out changes the course of everything after it, so each step is tried with a few
/// seeds.
struct Shrinker {
    let command: SimulateCommand
    private let seedsPerStep: UInt64 = 6

    private struct Found {
        var command: SimulateCommand
        var seed: UInt64
        var property: Substring
    }

    func run(_ seed: UInt64) throws {
        // Its faults by name, so that each can be taken away.
        var start = command
        start.everyFault = false
        start.noFaults = true
        let plan = command.configuration(seed).plan()
        start.faults = plan.faults.map { FaultRate($0, plan[$0]) }
        guard var best = attempt(start, [seed]) else {
            Output.line("seed \(seed) passed: there is nothing to shrink")
            return
        }
        Output.line("breaks: \(best.property)")
        let property = best.property
        func keep(_ changed: SimulateCommand) -> Bool {
            let seeds = (0..<seedsPerStep).map { best.seed &+ $0 &* 1_000_003 }
            guard let found = attempt(changed, seeds), found.property == property else {
                return false
            }
            best = found
            Output.line("  smaller: \(line(best))")
            return true
        }
        var isGettingSmaller = true
        while isGettingSmaller {
            isGettingSmaller = false
            for fault in best.command.faults.map(\.fault) {
                var changed = best.command
                changed.faults.removeAll { $0.fault == fault }
                if keep(changed) { isGettingSmaller = true }
            }
            for divisor in [2.0, 4.0 / 3] {
                var changed = best.command
                changed.minutes /= divisor
                if changed.minutes > 0.01, keep(changed) { isGettingSmaller = true }
            }
            for count in [best.command.clients / 2, best.command.clients - 1] where count > 0 {
                var changed = best.command
                changed.clients = count
                if count < best.command.clients, keep(changed) { isGettingSmaller = true }
            }
            if best.command.servers > 2 {
                var changed = best.command
                changed.servers -= 1
                if keep(changed) { isGettingSmaller = true }
            }
        }
        try best.command.showFailure(best.seed, isAsked: true)
    }

    private func line(_ found: Found) -> String {
        "--seeds \(found.seed) " + found.command.arguments.joined(separator: " ")
    }

    private func attempt(_ command: SimulateCommand, _ seeds: [UInt64]) -> Found? {
        for seed in seeds {
            let run = ChildRun(command.arguments + ["--worker", "--seeds", "\(seed)"])
            guard let violation = run.run().violation else { continue }
            return Found(
                command: command, seed: seed,
                property: violation.prefix { $0 != ":" })
        }
        return nil
    }
}
