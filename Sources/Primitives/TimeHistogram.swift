/// Counts of how long things took, in classes that double: up to 16 us, 32 us, ... 67 s, and more.
///
/// 25 words, no allocation, a few instructions for each `add`.
public struct TimeHistogram: Sendable {
    public static let classCount = 24
    private static let firstShift: UInt64 = 14

    private var counts = InlineArray<24, UInt64>(repeating: 0)
    public private(set) var count: UInt64 = 0
    public private(set) var sum = TickInterval.zero

    public init() {}

    /// The longest time of a class; nil for the last, which has no bound.
    public static func bound(_ index: Int) -> TickInterval? {
        index < classCount - 1
            ? TickInterval(nanoseconds: 1 << (firstShift + UInt64(index))) : nil
    }

    public mutating func add(_ time: TickInterval) {
        let rest = time.nanoseconds == 0 ? 0 : (time.nanoseconds - 1) >> Self.firstShift
        let index = min(UInt64.bitWidth - rest.leadingZeroBitCount, Self.classCount - 1)
        counts[index] &+= 1
        count &+= 1
        sum = TickInterval(nanoseconds: sum.nanoseconds &+ time.nanoseconds)
    }

    /// How many fell into a class.
    public subscript(_ index: Int) -> UInt64 { counts[index] }
}
