public import Primitives

/// How long an answer may take, learnt from how long answers took (Lustre's at_* parameters).
///
/// A server estimates its service time, says it with every reply (pb_timeout), and answers early,
/// "still at it", where a request nears its deadline. A client waits for
///
///     shortest time-out + 5/4 · (estimate − estimateMin) + network latency
///
/// which is Lustre's estimate · 5/4 + 5 s with the shortest time-out at 10 s.
public struct AdaptiveTimeouts: Equatable, Sendable {
    /// at_min. Four seconds, so that the shortest time-out is 10 s as it is without adaption.
    public var estimateMin = TickInterval.seconds(4)
    /// at_max.
    public var estimateMax = TickInterval.seconds(600)
    /// at_history: how long a slow answer is remembered.
    public var history = TickInterval.seconds(600)
    /// at_early_margin: an early reply goes out this long before the deadline.
    public var earlyMargin = TickInterval.seconds(5)
    /// at_extra: what an early reply asks for beyond the time that has passed.
    public var earlyExtra = TickInterval.seconds(30)

    public init() {}

    /// What is added to the shortest time-out.
    func addition(_ estimate: TickInterval) -> TickInterval {
        let over =
            min(estimate, estimateMax).nanoseconds
            - min(estimateMin.nanoseconds, min(estimate, estimateMax).nanoseconds)
        return TickInterval(nanoseconds: over + over / 4)
    }
}

/// The longest of the samples of the last while, in four bins of equal time (`struct adaptive_timeout`).
struct TimeEstimate: Sendable, BitwiseCopyable {
    private var bins = (TickInterval.zero, TickInterval.zero, TickInterval.zero, TickInterval.zero)
    /// When the newest bin began.
    private var binStart = Ticks.zero
    private var hasSamples = false

    /// Zero samples say nothing and are passed over.
    mutating func add(_ sample: TickInterval, at now: Ticks, history: TickInterval) {
        guard sample.nanoseconds > 0 else { return }
        age(now, history)
        bins.0 = max(bins.0, sample)
    }

    /// The longest sample remembered; zero for none.
    mutating func current(at now: Ticks, history: TickInterval) -> TickInterval {
        guard hasSamples else { return .zero }
        age(now, history)
        return max(max(bins.0, bins.1), max(bins.2, bins.3))
    }

    /// The same as of the last sample; for those who only look.
    var latest: TickInterval { max(max(bins.0, bins.1), max(bins.2, bins.3)) }

    private mutating func age(_ now: Ticks, _ history: TickInterval) {
        let bin = max(1, history.nanoseconds / 4)
        guard hasSamples else {
            hasSamples = true
            binStart = now
            return
        }
        let passed = (now - binStart).nanoseconds / bin
        guard passed > 0 else { return }
        for _ in 0..<min(passed, 4) { bins = (.zero, bins.0, bins.1, bins.2) }
        binStart = binStart + TickInterval(nanoseconds: passed * bin)
    }
}

extension TickInterval {
    /// Whole seconds for a header, rounded up: at least the time that is meant.
    var secondsRoundedUp: UInt32 {
        UInt32(clamping: nanoseconds / 1_000_000_000 + (nanoseconds % 1_000_000_000 == 0 ? 0 : 1))
    }
}
