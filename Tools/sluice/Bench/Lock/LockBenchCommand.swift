import ArgumentParser

/// `sluice bench lock`: the lock server without anything around it.
struct LockBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lock",
        abstract: "Measure the lock server in this process: pairs per second, bytes per lock.",
        discussion: """
            Fills a lock server with locks of a thousand owners, each on a resource of its own, and \
            asks for further ones and gives them back: one thread, no network and no messages. \
            Wanted are 200,000 pairs per second beside a million locks, and fewer than 256 bytes for \
            each of these. A sample is the mean of 500 pairs. Series:
              pairs-own      each pair on a resource of its own
              pairs-shared   all on one resource that every owner holds a lock on
            """)

    @Option(help: ArgumentHelp("How many locks are held.", valueName: "n"))
    var locks = 1_000_000

    @Option(help: ArgumentHelp("How many pairs a round does of each series.", valueName: "n"))
    var pairs = 500_000

    @OptionGroup var options: BenchOptions

    func validate() throws {
        // 24 bits of a cookie are a lock's place.
        guard (1...16_000_000).contains(locks) else {
            throw ValidationError("--locks must be from 1 to 16000000")
        }
        guard (1...1_000_000_000).contains(pairs) else {
            throw ValidationError("--pairs must be from 1 to 1000000000")
        }
    }

    func run() async throws {
        let bench = LockBench(locks: locks)
        var result = options.begin("lock")
        let kinds = LockBench.Kind.allCases
        let runs = try await options.interleave(kinds.count, "lock") { index in
            bench.run(kinds[index], pairs: pairs, keepsRaw: options.raw)
        }
        for (index, kind) in kinds.enumerated() {
            result.series.append(
                BenchResult.Series(
                    name: kind.rawValue,
                    parameters: ["locks": "\(locks)", "owners": "\(LockBench.ownerCount)"],
                    unit: .us, runs: runs[index]))
        }
        let slowest =
            kinds.compactMap { result.series($0.rawValue)?.median("perSecond") }.min() ?? 0
        result.facts = [
            "\(Int(bench.bytesPerLock.rounded())) bytes per lock with its resource in use, "
                + "\(Int(bench.reservedBytesPerLock.rounded())) with what is set aside for growth; "
                + "wanted: fewer than 256, "
                + (bench.bytesPerLock < 256 ? "holds" : "missed"),
            "\(Int(slowest)) pairs per second in the slower series; wanted: 200000, "
                + (slowest >= 200_000 ? "holds" : "missed"),
            "\(locks) locks were granted at \(Int(bench.fillRate)) per second.",
        ]
        try options.finish(result)
    }
}
