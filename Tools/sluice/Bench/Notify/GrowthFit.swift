import Foundation

/// How a time grows with the number of clients: `a · n^b`, by least squares of the logarithms, and
/// the cost of one client more between the two largest.
struct GrowthFit {
    var exponent: Double
    var microsecondsPerClient: Double

    /// Nil for fewer than two different numbers.
    init?(_ points: [(clients: Int, ms: Double)]) {
        let points = points.filter { $0.clients > 0 && $0.ms > 0 }.sorted {
            $0.clients < $1.clients
        }
        guard let last = points.last, points.count >= 2,
            points[points.count - 2].clients < last.clients
        else { return nil }
        let x = points.map { log(Double($0.clients)) }
        let y = points.map { log($0.ms) }
        let meanX = x.reduce(0, +) / Double(x.count)
        let meanY = y.reduce(0, +) / Double(y.count)
        var above = 0.0
        var below = 0.0
        for (x, y) in zip(x, y) {
            above += (x - meanX) * (y - meanY)
            below += (x - meanX) * (x - meanX)
        }
        exponent = above / below
        let before = points[points.count - 2]
        microsecondsPerClient =
            (last.ms - before.ms) * 1000 / Double(last.clients - before.clients)
    }

    var sentence: String {
        "grows as clients^\(BenchResult.number(exponent)), and costs "
            + "\(BenchResult.number(microsecondsPerClient)) us for each client more at the end"
    }
}
