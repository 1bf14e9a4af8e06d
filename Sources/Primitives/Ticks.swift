/// An instant of a node's monotonic clock, in nanoseconds since an origin that only that node knows.
///
/// Cores never read a clock: the shell or the simulator passes the instant in.
@frozen
public struct Ticks: Comparable, Hashable, Sendable, BitwiseCopyable {
    public var nanoseconds: UInt64

    @inlinable
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    public static let zero = Ticks(nanoseconds: 0)
    /// Later than every instant that can be reached.
    public static let distantFuture = Ticks(nanoseconds: .max)

    @inlinable
    public static func < (a: Ticks, b: Ticks) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Saturates at `distantFuture`.
    @inlinable
    public static func + (a: Ticks, b: TickInterval) -> Ticks {
        let (sum, overflow) = a.nanoseconds.addingReportingOverflow(b.nanoseconds)
        return overflow ? .distantFuture : Ticks(nanoseconds: sum)
    }

    /// How much later `a` is than `b`; zero when it is not later.
    @inlinable
    public static func - (a: Ticks, b: Ticks) -> TickInterval {
        TickInterval(nanoseconds: a.nanoseconds > b.nanoseconds ? a.nanoseconds - b.nanoseconds : 0)
    }
}

/// A length of time in nanoseconds, never negative. Arithmetic saturates: a length beyond 584 years
/// is for ever.
@frozen
public struct TickInterval: Comparable, Hashable, Sendable, BitwiseCopyable {
    public var nanoseconds: UInt64

    @inlinable
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    public static let zero = TickInterval(nanoseconds: 0)

    @inlinable
    public static func microseconds(_ n: UInt64) -> TickInterval {
        .init(nanoseconds: 1_000) * n
    }
    @inlinable
    public static func milliseconds(_ n: UInt64) -> TickInterval {
        .init(nanoseconds: 1_000_000) * n
    }
    @inlinable
    public static func seconds(_ n: UInt64) -> TickInterval {
        .init(nanoseconds: 1_000_000_000) * n
    }

    @inlinable
    public static func < (a: TickInterval, b: TickInterval) -> Bool {
        a.nanoseconds < b.nanoseconds
    }
    @inlinable
    public static func + (a: TickInterval, b: TickInterval) -> TickInterval {
        let (sum, overflow) = a.nanoseconds.addingReportingOverflow(b.nanoseconds)
        return .init(nanoseconds: overflow ? .max : sum)
    }
    @inlinable
    public static func * (a: TickInterval, n: UInt64) -> TickInterval {
        let (product, overflow) = a.nanoseconds.multipliedReportingOverflow(by: n)
        return .init(nanoseconds: overflow ? .max : product)
    }

    public var inMilliseconds: Double { Double(nanoseconds) / 1e6 }
    public var inSeconds: Double { Double(nanoseconds) / 1e9 }
}
