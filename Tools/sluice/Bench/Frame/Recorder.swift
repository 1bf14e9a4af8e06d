import Histogram
import Primitives

/// Takes the samples of one run into an HdrHistogram of three significant digits.
struct Recorder {
    private var histogram: Histogram<UInt64>
    private var raw: [UInt64] = []
    private let keepsRaw: Bool

    /// An hour in ns: longer is recorded as that.
    private static let valueMax: UInt64 = 3_600_000_000_000

    init(keepsRaw: Bool = false) {
        histogram = Histogram(highestTrackableValue: Self.valueMax)
        self.keepsRaw = keepsRaw
        if keepsRaw { raw.reserveCapacity(1 << 16) }
    }

    /// Takes a time.
    mutating func record(_ interval: TickInterval) { record(interval.nanoseconds) }

    /// Takes a value in ns.
    mutating func record(_ nanoseconds: UInt64) {
        _ = histogram.record(min(nanoseconds, Self.valueMax))
        if keepsRaw { raw.append(nanoseconds) }
    }

    /// Takes a value in ns that was seen `count` times.
    mutating func record(_ nanoseconds: UInt64, count: UInt64) {
        _ = histogram.record(min(nanoseconds, Self.valueMax), count: count)
    }

    var count: Int { Int(histogram.totalCount) }

    /// The run, in multiples of `unit` nanoseconds.
    func run(unit: BenchResult.Unit, figures: [String: Double] = [:]) -> BenchResult.Run {
        var buckets: [UInt64] = []
        for bucket in histogram.recordedValues() {
            buckets.append(bucket.value)
            buckets.append(bucket.countAddedInThisIterationStep)
        }
        let samples = keepsRaw ? raw.map { Double($0) / unit.nanoseconds } : nil
        return BenchResult.Run(
            spread: BenchResult.Spread(histogram, unit), figures: figures, buckets: buckets,
            samples: samples)
    }
}

extension BenchResult.Spread {
    /// Percentiles of a histogram of ns.
    init(_ histogram: Histogram<UInt64>, _ unit: BenchResult.Unit) {
        func value(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / unit.nanoseconds }
        self.init(
            count: Int(histogram.totalCount), min: value(histogram.min),
            mean: histogram.totalCount == 0 ? 0 : histogram.mean / unit.nanoseconds,
            p50: value(histogram.valueAtPercentile(50)),
            p90: value(histogram.valueAtPercentile(90)),
            p99: value(histogram.valueAtPercentile(99)),
            p999: value(histogram.valueAtPercentile(99.9)), max: value(histogram.max))
    }

    /// Percentiles over the samples of several runs.
    init(merging runs: [BenchResult.Run], _ unit: BenchResult.Unit) {
        var histogram = Histogram<UInt64>(numberOfSignificantValueDigits: .three)
        histogram.autoResize = true
        for run in runs {
            var index = 0
            while index + 1 < run.buckets.count {
                _ = histogram.record(run.buckets[index], count: run.buckets[index + 1])
                index += 2
            }
        }
        self.init(histogram, unit)
    }
}
