/// A hash that is the same in every process: digests of runs, checksums of records, bucket choice.
///
/// FNV-1a over bytes (Fowler, Noll, Vo), finished with SplitMix64's mixer. Not for adversaries.
public struct StableHash: Sendable {
    @usableFromInline var state: UInt64 = 0xCBF2_9CE4_8422_2325

    @inlinable
    public init() {}

    @inlinable
    public mutating func combine(_ byte: UInt8) {
        state = (state ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
    }

    @inlinable
    public mutating func combine(_ word: UInt64) {
        for shift in stride(from: 0, to: 64, by: 8) {
            combine(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
        }
    }

    @inlinable
    public mutating func combine(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { combine(byte) }
    }

    public var value: UInt64 {
        var mixer = SplitMix64(seed: state)
        return mixer.next()
    }
}
