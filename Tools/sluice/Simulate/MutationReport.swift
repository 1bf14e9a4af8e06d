import Foundation
import Primitives
import Simulator

/// `sluice simulate --mutations`: each deliberate bug by itself, until a seed finds it that passes
/// without it.
final class MutationReport: @unchecked Sendable {
    private let command: SimulateCommand
    private let seeds: SeedRange
    private let count: Int
    // Guarded by `lock`.
    private let lock = NSLock()
    private var waiting: [Mutation]
    private var missed: [Mutation] = []

    init(command: SimulateCommand, seeds: SeedRange) {
        // One that is named is looked for alone.
        let asked = command.mutation
        self.seeds = seeds
        waiting = Mutation.allCases.filter { asked == .none ? $0 != .none : $0 == asked }.reversed()
        count = waiting.count
        self.command = {
            var command = command
            command.mutation = .none
            return command
        }()
    }

    /// Prints a line for each as it comes to its end. True where all were found.
    func run() -> Bool {
        Output.line("SEED=\(seeds.text)")
        Output.line(Self.row("deliberate bug", "seeds", "events", "found by"))
        let jobs = command.jobs ?? max(1, ProcessInfo.processInfo.activeProcessorCount)
        let group = DispatchGroup()
        for _ in 0..<jobs {
            group.enter()
            Thread.detachNewThread { [self] in
                while let mutation = lock.withLock({ waiting.popLast() }) { search(mutation) }
                group.leave()
            }
        }
        group.wait()
        Output.line("\(count - missed.count) of \(count) found")
        for mutation in missed { Output.line("NOT FOUND: \(mutation.rawValue)") }
        return missed.isEmpty
    }

    private func search(_ mutation: Mutation) {
        var from = seeds.seeds.lowerBound
        var events: UInt64 = 0
        while from <= seeds.seeds.upperBound {
            var found: (seed: UInt64, text: String)?
            var last = from
            let child = ChildRun(
                command.arguments + [
                    "--mutation", mutation.rawValue, "--worker", "--until-violation", "--seeds",
                    "\(from)..\(seeds.seeds.upperBound)",
                ])
            child.onEnd = { end in
                events += end.events
                last = end.seed
                if end.verdict == "violated" { found = (end.seed, end.text) }
            }
            child.run()
            if let found, passes(found.seed) {
                let property = found.text.split(separator: ":").first.map(String.init) ?? ""
                lock.withLock {
                    Output.line(
                        Self.row(
                            mutation.rawValue, "\(found.seed - seeds.seeds.lowerBound + 1)",
                            "\(events)", property))
                }
                return
            }
            guard last < .max else { break }
            from = last + 1
        }
        lock.withLock {
            missed.append(mutation)
            Output.line(Self.row(mutation.rawValue, "-", "\(events)", "NOT FOUND"))
        }
    }

    /// The seed finds nothing in what is as it should be.
    private func passes(_ seed: UInt64) -> Bool {
        var isPassed = false
        let child = ChildRun(command.arguments + ["--worker", "--seeds", "\(seed)"])
        child.onEnd = { isPassed = $0.verdict == "passed" }
        child.run()
        return isPassed
    }

    private static func row(
        _ name: String, _ seeds: String, _ events: String, _ found: String
    ) -> String {
        func left(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(1, width - text.count))
        }
        func right(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        return left(name, 26) + right(seeds, 6) + right(events, 12) + "  " + found
    }
}
