import Primitives
import Testing

@Suite struct TicksTests {
    @Test func `an instant beyond the last one is the last one`() {
        let late = Ticks(nanoseconds: .max - 5)
        #expect(late + TickInterval(nanoseconds: 5) == .distantFuture)
        #expect(late + TickInterval(nanoseconds: 6) == .distantFuture)
        #expect(late + TickInterval(nanoseconds: .max) == .distantFuture)
        #expect(Ticks.distantFuture + .seconds(1) == .distantFuture)
        #expect(Ticks.zero + .seconds(1) == Ticks(nanoseconds: 1_000_000_000))
    }

    @Test func `an earlier instant is no time after a later one`() {
        #expect(Ticks(nanoseconds: 7) - Ticks(nanoseconds: 3) == TickInterval(nanoseconds: 4))
        #expect(Ticks(nanoseconds: 3) - Ticks(nanoseconds: 7) == .zero)
        #expect(Ticks.zero - .distantFuture == .zero)
    }

    @Test func `lengths of time saturate whatever they are made of`() {
        let forever = TickInterval(nanoseconds: .max)
        #expect(TickInterval.microseconds(3).nanoseconds == 3_000)
        #expect(TickInterval.milliseconds(3).nanoseconds == 3_000_000)
        #expect(TickInterval.seconds(3).nanoseconds == 3_000_000_000)
        #expect(TickInterval.microseconds(.max) == forever)
        #expect(TickInterval.milliseconds(.max) == forever)
        #expect(TickInterval.seconds(.max) == forever)
        #expect(forever + TickInterval(nanoseconds: 1) == forever)
        #expect(TickInterval.seconds(UInt64(UInt32.max)) * 8 == forever)
        #expect(TickInterval.seconds(2) * 3 == .seconds(6))
        #expect(TickInterval.seconds(1) < .milliseconds(1001))
    }

    @Test func `a length is told in milliseconds and seconds`() {
        #expect(TickInterval.microseconds(1500).inMilliseconds == 1.5)
        #expect(TickInterval.milliseconds(250).inSeconds == 0.25)
    }
}
