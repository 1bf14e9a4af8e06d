/// The Mann-Whitney U test, two-sided and exact: how likely two sets of runs would be as far apart
/// as they are, were both builds alike. It asks for no shape of the distribution.
enum RankTest {
    /// The probability; 1 where one side is empty.
    static func probability(_ a: [Double], _ b: [Double]) -> Double {
        guard !a.isEmpty, !b.isEmpty else { return 1 }
        // A tie counts half for either side; doubled, so that everything is whole.
        var doubled = 0
        for x in a {
            for y in b { doubled += x > y ? 2 : x == y ? 1 : 0 }
        }
        let pairs = a.count * b.count
        // The smaller tail, rounded towards the middle: never more certain than the exact test.
        let tail = (min(doubled, 2 * pairs - doubled) + 1) / 2
        let ways = counts(a.count, b.count)
        let total = ways.reduce(0, +)
        return min(1, 2 * ways.prefix(tail + 1).reduce(0, +) / total)
    }

    /// How many orders of `a` and `b` values have each value of U.
    private static func counts(_ a: Int, _ b: Int) -> [Double] {
        // table[j] after i rounds: the ways for i and j values, by U. Adding the largest value to
        // either side gives f(i, j, u) = f(i-1, j, u-j) + f(i, j-1, u).
        var table = (0...b).map { _ in [1.0] }
        for i in 1...a {
            var next: [[Double]] = [[1.0]]
            for j in 1...max(1, b) where j <= b {
                var ways = [Double](repeating: 0, count: i * j + 1)
                for (u, count) in table[j].enumerated() { ways[u + j] += count }
                for (u, count) in next[j - 1].enumerated() { ways[u] += count }
                next.append(ways)
            }
            table = next
        }
        return table[b]
    }

    /// Holm's step-down over several questions: which of them are answered at this confidence, when
    /// any false answer at all shall be as rare as that.
    static func holm(_ probabilities: [Double], confidence: Double) -> [Bool] {
        let order = probabilities.indices.sorted { probabilities[$0] < probabilities[$1] }
        var answered = [Bool](repeating: false, count: probabilities.count)
        for (rank, index) in order.enumerated() {
            guard probabilities[index] * Double(probabilities.count - rank) <= 1 - confidence
            else { break }
            answered[index] = true
        }
        return answered
    }
}
