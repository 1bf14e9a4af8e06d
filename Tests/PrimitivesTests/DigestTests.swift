import Primitives
import Testing

@Suite struct SplitMix64Tests {
    @Test func `seeds give the reference sequences`() {
        var zero = SplitMix64(seed: 0)
        #expect(
            (0..<5).map { _ in zero.next() } == [
                0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F,
                0xF88B_B8A8_724C_81EC, 0x1B39_896A_51A8_749B,
            ])
        var other = SplitMix64(seed: 1_234_567)
        #expect(
            (0..<5).map { _ in other.next() } == [
                6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
                4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
            ])
    }

    @Test func `what is drawn stays below its bound and reaches every value`() {
        var random = SplitMix64(seed: 42)
        var seen = [Bool](repeating: false, count: 7)
        for _ in 0..<500 { seen[random.below(7)] = true }
        #expect(seen.allSatisfy { $0 })
        #expect((0..<100).allSatisfy { _ in !random.oneIn(0) })
        #expect((0..<100).allSatisfy { _ in random.oneIn(1) })
    }

    @Test func `a split generator goes its own way`() {
        var parent = SplitMix64(seed: 9)
        var child = parent.split()
        var again = SplitMix64(seed: 9)
        var childAgain = again.split()
        let fromChild = (0..<8).map { _ in child.next() }
        #expect(fromChild == (0..<8).map { _ in childAgain.next() })
        #expect(fromChild != (0..<8).map { _ in parent.next() })
    }
}

@Suite struct StableHashTests {
    private func hash(_ bytes: [UInt8]) -> UInt64 {
        var hash = StableHash()
        hash.combine(bytes)
        return hash.value
    }

    /// Stored and sent digests depend on these numbers: they never change.
    @Test func `digests are these numbers for all time`() {
        #expect(hash([]) == 0xC381_7C01_6BA4_FF30)
        #expect(hash(Array("a".utf8)) == 0x5F29_C2AA_DD9B_8527)
        #expect(hash(Array("sluice".utf8)) == 0xBD8E_7409_0315_6B3C)
        var word = StableHash()
        word.combine(0x0102_0304_0506_0708 as UInt64)
        #expect(word.value == 0xD26E_261B_4DEE_0B9F)
    }

    @Test func `a word counts as its eight bytes, the lowest first`() {
        var word = StableHash()
        word.combine(0x0102_0304_0506_0708 as UInt64)
        #expect(word.value == hash([8, 7, 6, 5, 4, 3, 2, 1]))
        var single = StableHash()
        for byte in [1, 2, 3] as [UInt8] { single.combine(byte) }
        #expect(single.value == hash([1, 2, 3]))
    }

    @Test func `reading the value changes nothing`() {
        var hash = StableHash()
        hash.combine(1 as UInt8)
        let first = hash.value
        #expect(hash.value == first)
        hash.combine(2 as UInt8)
        #expect(hash.value == self.hash([1, 2]))
    }
}
