import ArgumentParser
import Foundation

/// `sluice bench compare`: is this build faster or slower than another one?
struct CompareCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "Compare two builds by interleaved runs: better, worse or noise.",
        discussion: """
            Runs a benchmark of both builds by turns, once each per round, the order turned around \
            every round, and judges every series by an exact rank test over the rounds (Mann-Whitney, \
            two-sided; Holm's correction over the series). Throughput is judged where a series has \
            one, else the median latency. The exit status is 1 when something is worse.

              sluice bench compare --baseline ../old/.build/release/sluice net --seconds 0.2
            """)

    @Option(help: ArgumentHelp("The program of the other build.", valueName: "sluice"))
    var baseline: String

    @Option(help: ArgumentHelp("Rounds; each runs both builds once.", valueName: "n"))
    var rounds = 10

    @Option(help: "How certain an answer must be.")
    var confidence = 0.95

    @Option(help: ArgumentHelp("Differences below this are noise however certain.", valueName: "%"))
    var smallest = 1.0

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    @Argument(
        parsing: .captureForPassthrough,
        help: ArgumentHelp("The benchmark and its options, without --runs.", valueName: "benchmark")
    )
    var benchmark: [String]

    func validate() throws {
        guard (4...200).contains(rounds) else {
            throw ValidationError("--rounds must be from 4 to 200")
        }
        guard confidence >= 0.5, confidence < 1 else {
            throw ValidationError("--confidence must be at least 0.5 and below 1")
        }
        guard smallest >= 0, smallest <= 100 else {
            throw ValidationError("--smallest must be from 0 to 100")
        }
        guard !benchmark.isEmpty else { throw ValidationError("name a benchmark, such as net") }
        guard FileManager.default.isExecutableFile(atPath: baseline) else {
            throw ValidationError("--baseline \(baseline): no such program")
        }
    }

    private struct Verdict: Encodable {
        var series: String
        var statistic: String
        var baseline: Double
        var here: Double
        /// Here over the baseline.
        var ratio: Double
        /// Of a difference like this between two builds that are alike.
        var probability: Double
        var verdict: String
    }

    func run() async throws {
        let directory = try BenchDirectory("compare")
        let progress = ProgressLine()
        defer { progress.end() }
        var ours: [BenchResult] = []
        var theirs: [BenchResult] = []
        for round in 0...rounds {
            progress.show("round \(round) of \(rounds)")
            let isOursFirst = round % 2 == 0
            for isOurs in [isOursFirst, !isOursFirst] {
                let path = isOurs ? Machine.executablePath : baseline
                let result = try await once(path, directory.path)
                // The first round warms up.
                if round > 0 { if isOurs { ours.append(result) } else { theirs.append(result) } }
            }
        }
        progress.end()
        let verdicts = try judge(ours, theirs)
        if json {
            try Output.json(verdicts)
        } else {
            var table = TextTable("series", "of", "baseline", "here", "ratio", "p", "verdict")
            for verdict in verdicts {
                table.add(
                    verdict.series, verdict.statistic, BenchResult.number(verdict.baseline),
                    BenchResult.number(verdict.here), BenchResult.number(verdict.ratio),
                    BenchResult.number(verdict.probability), verdict.verdict)
            }
            Output.line(table.text)
            Output.line(
                "\(rounds) rounds; better and worse at \(BenchResult.number(confidence * 100)) % "
                    + "confidence over all series together, and by \(BenchResult.number(smallest)) % "
                    + "or more")
        }
        if verdicts.contains(where: { $0.verdict == "worse" }) { throw ExitCode.failure }
    }

    private func once(_ path: String, _ directory: String) async throws -> BenchResult {
        let arguments =
            ["bench"] + benchmark + ["--runs", "1", "--warm-up", "0", "--json"]
        let process = try PeerProcess(path, path, arguments, directory: directory, label: "run")
        let text = try await process.finish(seconds: 600)
        return try BenchResult(path: "the result of \(path)", data: Data(text.utf8))
    }

    private func judge(_ ours: [BenchResult], _ theirs: [BenchResult]) throws -> [Verdict] {
        var verdicts: [Verdict] = []
        for series in ours.first?.series ?? [] {
            let statistic =
                ["mibPerSecond", "perSecond"].first { series.median($0) != nil } ?? "p50"
            let a = ours.compactMap { $0.series(series.name)?.median(statistic) }
            let b = theirs.compactMap { $0.series(series.name)?.median(statistic) }
            guard !b.isEmpty, b.median > 0 else { continue }
            verdicts.append(
                Verdict(
                    series: series.name, statistic: statistic, baseline: b.median, here: a.median,
                    ratio: a.median / b.median, probability: RankTest.probability(a, b),
                    verdict: "noise"))
        }
        guard !verdicts.isEmpty else { throw Failure("the two builds have no series in common") }
        let answered = RankTest.holm(verdicts.map(\.probability), confidence: confidence)
        for index in verdicts.indices where answered[index] {
            let change = verdicts[index].ratio - 1
            guard abs(change) * 100 >= smallest else { continue }
            let isMore = change > 0
            let isMoreBetter = verdicts[index].statistic != "p50"
            verdicts[index].verdict = isMore == isMoreBetter ? "better" : "worse"
        }
        return verdicts
    }
}
