import Foundation
import Testing

@testable import sluice

/// Arithmetic that verdicts and tables rest on.
@Suite struct BenchFrameTests {
    @Test func `the rank test agrees with the tables of Mann and Whitney`() {
        // Two-sided probabilities of U = 0: 2 over the number of ways to choose.
        #expect(abs(RankTest.probability([1, 2, 3], [4, 5, 6]) - 0.1) < 1e-12)
        #expect(abs(RankTest.probability([1, 2, 3, 4], [5, 6, 7, 8]) - 2.0 / 70) < 1e-12)
        #expect(abs(RankTest.probability([5, 6, 7, 8], [1, 2, 3, 4]) - 2.0 / 70) < 1e-12)
        // U = 2 of 5 and 5: four orders of 252 are as extreme on one side.
        #expect(abs(RankTest.probability([1, 2, 3, 4, 7], [5, 6, 8, 9, 10]) - 8.0 / 252) < 1e-12)
        #expect(RankTest.probability([1, 1, 1], [1, 1, 1]) == 1)
        #expect(RankTest.probability([], [1]) == 1)
    }

    @Test func `Holm answers from the most certain question on and stops at the first doubt`() {
        #expect(
            RankTest.holm([0.04, 0.001, 0.03], confidence: 0.95) == [false, true, false])
        #expect(RankTest.holm([0.01, 0.02, 0.04], confidence: 0.95) == [true, true, true])
        #expect(RankTest.holm([], confidence: 0.95).isEmpty)
    }

    @Test func `the fit finds the exponent and what one more costs`() throws {
        let fit = try #require(GrowthFit([10, 100, 1000].map { ($0, 0.01 * Double($0)) }))
        #expect(abs(fit.exponent - 1) < 1e-9)
        #expect(abs(fit.microsecondsPerClient - 10) < 1e-9)
        #expect(GrowthFit([(10, 1)]) == nil)
        #expect(GrowthFit([(10, 1), (10, 2)]) == nil)
    }

    @Test func `a recorder's percentiles come back from its buckets`() {
        var recorder = Recorder(keepsRaw: true)
        for value in 1...1000 { recorder.record(UInt64(value) * 1000) }
        let run = recorder.run(unit: .us, figures: ["perSecond": 7])
        #expect(run.spread.count == 1000)
        #expect(abs(run.spread.p50 - 500) < 1)
        #expect(run.samples?.count == 1000 && run.samples?.first == 1)
        let merged = BenchResult.Spread(merging: [run, run], .us)
        #expect(merged.count == 2000)
        #expect(abs(merged.p99 - run.spread.p99) < 1)
        #expect(run.value("perSecond") == 7 && run.value("nothing") == nil)
    }

    @Test(arguments: [
        (0, "0"), (0.12345, "0.123"), (1.005, "1.00"), (9.999, "10.00"), (12.34, "12.3"),
        (123.4, "123"), (1_234_567, "1234567"), (-2.5, "-2.50"),
    ])
    func `numbers have three digits`(_ value: Double, _ text: String) {
        #expect(BenchResult.number(value) == text)
    }

    @Test func `what other programs print is read as they print it`() throws {
        #expect(
            try PeerParsing.ucx(
                """
                |     Test     | # iterations | 50.0%ile | average | overall |  average |  overall |
                +--------------+--------------+----------+---------+---------+----------+----------+
                                        5000      7.411     7.602     7.602      8.03       8.03
                """) == 7.411)
        #expect(
            try PeerParsing.libfabric(
                """
                bytes   #sent   #ack     total       time     MB/sec    usec/xfer   Mxfers/sec
                64      20k     =20k     2.4m        0.31s      8.21       7.79       0.13
                """) == 7.79)
        #expect(
            try PeerParsing.sockperf(
                "sockperf: ---> percentile 99.000 =    9.1\nsockperf: ---> percentile 50.000 =    6.543"
            ) == 6.543)
        let refusal = """
            sockperf: \u{1b}[2;35m== version #3.7-no.git == \u{1b}[0m
            sockperf: ERROR: Can`t connect socket (errno=115 Operation now in progress)
            """
        #expect(PeerParsing.sockperfGaveUpConnecting(refusal))
        #expect {
            try PeerParsing.sockperf(refusal)
        } throws: {
            "\($0)" == "sockperf: Can`t connect socket (errno=115 Operation now in progress)"
        }
        #expect {
            try PeerParsing.sockperf("sockperf: Starting test...\nsockperf: Test ended\n")
        } throws: {
            "\($0)" == "sockperf printed no median, and at last: sockperf: Test ended"
        }
        #expect(try PeerParsing.buckets("bucket 5 2\nbucket 9 1\n").count == 3)
        #expect(try PeerParsing.perSecond("calls 500 0.5\n") == 1000)
        #expect(throws: Failure.self) { try PeerParsing.buckets("") }
        #expect(throws: Failure.self) { try PeerParsing.ucx("error") }
    }
}
