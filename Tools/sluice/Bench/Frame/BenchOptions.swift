import ArgumentParser
import EventLoop
import Foundation

/// What every benchmark can be told.
struct BenchOptions: ParsableArguments {
    @Option(help: ArgumentHelp("How many rounds count.", valueName: "n"))
    var runs = 5

    @Option(help: ArgumentHelp("How many rounds before them do not.", valueName: "n"))
    var warmUp = 1

    @Flag(inversion: .prefixedNo, help: "Pin the two sides to the first two processors.")
    var pin = true

    @Flag(name: .long, help: "Print the result as one JSON object instead of tables.")
    var json = false

    @Flag(name: .long, help: "Print one line of comma-separated values per series and run instead.")
    var csv = false

    @Flag(name: .long, help: "Keep every sample, in the JSON object and as lines of --csv.")
    var raw = false

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Write the JSON object to a file too.", valueName: "file"))
    var output: String?

    func validate() throws {
        guard (1...1000).contains(runs) else {
            throw ValidationError("--runs must be from 1 to 1000")
        }
        guard (0...100).contains(warmUp) else {
            throw ValidationError("--warm-up must be from 0 to 100")
        }
        guard !(json && csv) else {
            throw ValidationError(
                "--json and --csv exclude each other; --output writes JSON beside")
        }
        if let output { try Self.refuseUnwritable(output) }
    }

    /// Says that a file cannot be written, before minutes are spent rather than after.
    static func refuseUnwritable(_ path: String) throws {
        let folder = URL(filePath: path).deletingLastPathComponent().path
        guard FileManager.default.isWritableFile(atPath: folder) else {
            throw ValidationError("\(path): \(folder) cannot be written to")
        }
    }

    /// Processors for two sides; nil where they are not pinned.
    var processors: (Int, Int)? {
        pin && Host.cpuCount >= 2 ? (0, 1) : nil
    }

    var pinning: String {
        guard pin else { return "not pinned" }
        return processors == nil
            ? "not pinned: one processor" : "one side each on processor 0 and 1"
    }

    /// An empty result of this benchmark.
    func begin(_ benchmark: String) -> BenchResult {
        BenchResult(benchmark, runs: runs, warmUp: warmUp, pinning: pinning)
    }

    /// Measures each of `count` things once per round, forwards and backwards by turns, so that what
    /// drifts on the machine meets all of them alike. Rounds of the warm-up are measured and dropped.
    /// Nil instead of a run: there is none to keep.
    func interleave(
        _ count: Int, _ name: String, _ measure: (_ index: Int) async throws -> BenchResult.Run?
    ) async throws -> [[BenchResult.Run]] {
        let progress = ProgressLine()
        defer { progress.end() }
        var runs: [[BenchResult.Run]] = Array(repeating: [], count: count)
        for round in 0..<(warmUp + self.runs) {
            let order = round % 2 == 0 ? Array(0..<count) : (0..<count).reversed()
            for index in order {
                progress.show(
                    "\(name): round \(round + 1) of \(warmUp + self.runs), \(index + 1) of \(count)"
                )
                let run = try await measure(index)
                if let run, round >= warmUp { runs[index].append(run) }
            }
        }
        return runs
    }

    /// Prints the result as it was asked for.
    func finish(_ result: BenchResult) throws {
        if let output { try result.write(to: output) }
        if json {
            try Output.json(result, pretty: false)
        } else if csv {
            Output.line(result.csv(raw: raw))
        } else {
            Output.line(result.text)
        }
    }
}
