import Primitives
import Testing

@Suite struct TimeHistogramTests {
    @Test func `a time falls into the first class whose bound it does not exceed`() throws {
        for index in 0..<(TimeHistogram.classCount - 1) {
            let bound = try #require(TimeHistogram.bound(index))
            var histogram = TimeHistogram()
            histogram.add(bound)
            histogram.add(TickInterval(nanoseconds: bound.nanoseconds + 1))
            #expect(histogram[index] == 1, "class \(index)")
            #expect(histogram[index + 1] == 1, "class \(index)")
            #expect(histogram.count == 2)
        }
    }

    @Test func `the shortest and the longest times have classes too`() {
        var histogram = TimeHistogram()
        histogram.add(.zero)
        histogram.add(TickInterval(nanoseconds: .max / 2))
        #expect(histogram[0] == 1)
        #expect(histogram[TimeHistogram.classCount - 1] == 1)
        #expect(TimeHistogram.bound(TimeHistogram.classCount - 1) == nil)
    }
}
