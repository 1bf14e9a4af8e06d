import Foundation

/// What a benchmark came to: the object that `--json` prints and `sluice report` reads.
///
/// The format has a version; a field is never given another meaning within one.
struct BenchResult: Codable, Sendable {
    static let formatName = "sluice-bench"
    static let currentVersion = 1

    /// What a sample counts in.
    enum Unit: String, Codable, Sendable {
        case us
        case ms
        var nanoseconds: Double { self == .us ? 1e3 : 1e6 }
    }

    /// Percentiles of samples, in the unit of their series.
    struct Spread: Codable, Sendable {
        var count: Int
        var min: Double
        var mean: Double
        var p50: Double
        var p90: Double
        var p99: Double
        var p999: Double
        var max: Double
    }

    /// One run of one series.
    struct Run: Codable, Sendable {
        var spread: Spread
        /// Numbers of the run as a whole: `perSecond`, `mibPerSecond`, `cpuUsPerOp`,
        /// `switchesPerOp`, `allocationsPerOp`, and those that a benchmark explains itself.
        var figures: [String: Double]
        /// The HdrHistogram: value in ns, how often, value, how often and so on.
        var buckets: [UInt64]
        /// Every sample in the order in which it came; only with `--raw`.
        var samples: [Double]?

        /// A percentile by its name, or a figure.
        func value(_ statistic: String) -> Double? {
            switch statistic {
            case "min": spread.min
            case "mean": spread.mean
            case "p50": spread.p50
            case "p90": spread.p90
            case "p99": spread.p99
            case "p999": spread.p999
            case "max": spread.max
            default: figures[statistic]
            }
        }
    }

    /// One thing that was measured, in every run once.
    struct Series: Codable, Sendable {
        var name: String
        /// What it was measured with: `size`, `depth`, `wait`, `clients` and the like.
        var parameters: [String: String]
        var unit: Unit
        /// What differs from the series that it stands beside, in words.
        var remark: String?
        var runs: [Run] = []

        /// Over the samples of all runs.
        var total: Spread { Spread(merging: runs, unit) }
        /// The middle one of a statistic over the runs.
        func median(_ statistic: String) -> Double? {
            let values = runs.compactMap { $0.value(statistic) }
            return values.isEmpty ? nil : values.median
        }
    }

    /// Two series of the same rounds, one over the other.
    struct Ratio: Codable, Sendable {
        enum Sense: String, Codable, Sendable { case atMost, atLeast }
        var name: String
        var ours: String
        var theirs: String
        /// Which number of a run is compared.
        var statistic: String
        /// Ours over theirs, round by round.
        var perRun: [Double]
        var median: Double
        var low: Double
        var high: Double
        /// What it ought to be, where that was said.
        var bound: Double?
        var sense: Sense
        var remark: String?

        var holds: Bool? {
            bound.map { sense == .atMost ? median <= $0 : median >= $0 }
        }
    }

    var format = Self.formatName
    var version = Self.currentVersion
    var benchmark: String
    /// The command line, without the path of the program.
    var command: String
    /// When it began, ISO 8601, UTC.
    var date: String
    var environment: BenchEnvironment
    /// Rounds that count, and rounds before them that do not.
    var runs: Int
    var warmUp: Int
    var series: [Series] = []
    var ratios: [Ratio] = []
    /// Sentences that belong to the numbers: what is copied, what differs.
    var facts: [String] = []
    /// Clients' stamps of upgrades, for the report.
    var timelines: [UpgradeTimeline]?

    init(_ benchmark: String, runs: Int, warmUp: Int, pinning: String) {
        self.benchmark = benchmark
        command = "sluice " + CommandLine.arguments.dropFirst().joined(separator: " ")
        date = Date().formatted(.iso8601)
        environment = BenchEnvironment(pinning: pinning)
        self.runs = runs
        self.warmUp = warmUp
    }

    func series(_ name: String) -> Series? { series.first { $0.name == name } }

    /// Compares two series of the same rounds; nothing where one of them is missing.
    mutating func compare(
        _ ours: String, to theirs: String, _ statistic: String, bound: Double? = nil,
        _ sense: Ratio.Sense = .atMost, remark: String? = nil
    ) {
        guard let a = series(ours), let b = series(theirs) else { return }
        var perRun: [Double] = []
        for (mine, other) in zip(a.runs, b.runs) {
            guard let above = mine.value(statistic), let below = other.value(statistic), below > 0
            else { continue }
            perRun.append(above / below)
        }
        guard let low = perRun.min(), let high = perRun.max() else { return }
        ratios.append(
            Ratio(
                name: "\(ours) / \(theirs)", ours: ours, theirs: theirs, statistic: statistic,
                perRun: perRun, median: perRun.median, low: low, high: high, bound: bound,
                sense: sense, remark: remark ?? b.remark))
    }

    // MARK: Files

    /// Reads a result; a file that is none is refused with its name.
    init(path: String) throws {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: path))
        } catch {
            throw Failure("\(path): cannot be read: \(Self.brief(error))")
        }
        try self.init(path: path, data: data)
    }

    init(path: String, data: Data) throws {
        struct Head: Decodable {
            var format: String?
            var version: Int?
        }
        let head: Head
        do {
            head = try JSONDecoder().decode(Head.self, from: data)
        } catch DecodingError.dataCorrupted {
            throw Failure(
                data.first == UInt8(ascii: "{")
                    ? "\(path): cut short or damaged: run the benchmark again"
                    : "\(path): not JSON: a result comes from sluice bench with --output or --json")
        } catch {
            throw Failure("\(path): not a result of sluice bench")
        }
        guard head.format == Self.formatName, let version = head.version else {
            throw Failure(
                "\(path): not a result of sluice bench: it has no format \(Self.formatName)")
        }
        guard version == Self.currentVersion else {
            throw Failure(
                "\(path): a result of version \(version), and this build reads version "
                    + "\(Self.currentVersion): run the benchmark again, or read it with the build "
                    + "that wrote it")
        }
        do {
            self = try JSONDecoder().decode(BenchResult.self, from: data)
        } catch {
            throw Failure("\(path): a damaged result: \(Self.brief(error))")
        }
    }

    private static func brief(_ error: any Error) -> String {
        switch error {
        case DecodingError.keyNotFound(let key, _): "\(key.stringValue) is missing"
        case DecodingError.typeMismatch(_, let context),
            DecodingError.valueNotFound(_, let context):
            context.codingPath.map(\.stringValue).joined(separator: ".") + " is no such value"
        default: error.localizedDescription
        }
    }

    func write(to path: String) throws {
        do {
            try Output.encoded(self, pretty: false).write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw Failure("\(path) cannot be written: \(error.localizedDescription)")
        }
    }
}

extension [Double] {
    /// The middle one, or the mean of the two in the middle. Of nothing: 0.
    var median: Double {
        guard !isEmpty else { return 0 }
        let sorted = sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}
