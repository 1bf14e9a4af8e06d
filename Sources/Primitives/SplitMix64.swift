/// A seeded generator of 64-bit words: equal seeds give equal sequences on every build.
///
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014).
public struct SplitMix64: RandomNumberGenerator, Sendable {
    @usableFromInline var state: UInt64

    @inlinable
    public init(seed: UInt64) { state = seed }

    @inlinable
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A generator whose sequence is independent of what this one gives afterwards.
    public mutating func split() -> SplitMix64 { SplitMix64(seed: next()) }

    /// True once in `n` draws on average; never for `n == 0`.
    @inlinable
    public mutating func oneIn(_ n: UInt64) -> Bool { n > 0 && next() % n == 0 }

    /// Uniform below `bound`, which must be positive.
    @inlinable
    public mutating func below(_ bound: Int) -> Int {
        precondition(bound > 0, "a bound must be positive")
        return Int(next() % UInt64(bound))
    }
}
