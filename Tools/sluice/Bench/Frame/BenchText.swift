/// A result as tables and as comma-separated values.
extension BenchResult {
    /// Figures with a column of their own, where a series has them.
    private static let columns: [(key: String, title: String)] = [
        ("perSecond", "per s"), ("mibPerSecond", "MiB/s"), ("cpuUsPerOp", "cpu us/op"),
        ("switchesPerOp", "switches/op"), ("allocationsPerOp", "allocations/op"),
    ]

    var text: String {
        let shown = Self.columns.filter { column in
            series.contains { $0.median(column.key) != nil }
        }
        var table = TextTable(
            columns: ["series", "unit", "p50", "p90", "p99", "p99.9", "max"] + shown.map(\.title))
        for series in series {
            let total = series.total
            var cells = [series.name, series.unit.rawValue]
            cells += [total.p50, total.p90, total.p99, total.p999, total.max].map(Self.number)
            cells += shown.map { series.median($0.key).map(Self.number) ?? "-" }
            table.add(row: cells)
        }
        var lines = ["\(benchmark): \(runs) runs after \(warmUp) to warm up, interleaved", ""]
        lines.append(table.text)
        if !ratios.isEmpty {
            var table = TextTable(
                columns: ["ratio", "of", "median", "lowest", "highest", "wanted", ""])
            for ratio in ratios {
                let wanted = ratio.bound.map {
                    (ratio.sense == .atMost ? "at most " : "at least ") + Self.number($0)
                }
                table.add(
                    row: [
                        ratio.name, ratio.statistic, Self.number(ratio.median),
                        Self.number(ratio.low), Self.number(ratio.high), wanted ?? "-",
                        ratio.holds.map { $0 ? "holds" : "missed" } ?? "",
                    ])
            }
            lines += ["", table.text]
        }
        let others = otherFigures
        if !others.isEmpty {
            lines.append("")
            lines += others
        }
        if !facts.isEmpty { lines += [""] + facts }
        for ratio in ratios where ratio.remark != nil {
            let line = "\(ratio.theirs): \(ratio.remark ?? "")"
            if !lines.contains(line) { lines.append(line) }
        }
        lines += ["", "\(date), \(command)", environment.line]
        return lines.joined(separator: "\n")
    }

    private var otherFigures: [String] {
        let known = Set(Self.columns.map(\.key))
        return series.compactMap { series in
            let keys = Set(series.runs.flatMap(\.figures.keys)).subtracting(known).sorted()
            guard !keys.isEmpty else { return nil }
            let values = keys.map { "\($0) \(Self.number(series.median($0) ?? 0))" }
            return "\(series.name): " + values.joined(separator: ", ")
        }
    }

    func csv(raw: Bool) -> String {
        if raw {
            var lines = ["benchmark,series,run,sample,unit,value"]
            for series in series {
                for (run, values) in series.runs.enumerated() {
                    for (index, value) in (values.samples ?? []).enumerated() {
                        lines.append(
                            "\(benchmark),\(series.name),\(run),\(index),\(series.unit.rawValue),"
                                + "\(value)")
                    }
                }
            }
            return lines.joined(separator: "\n")
        }
        let keys = Set(series.flatMap { $0.runs.flatMap(\.figures.keys) }).sorted()
        var lines = [
            ([
                "benchmark", "series", "run", "unit", "count", "min", "mean", "p50", "p90", "p99",
                "p999", "max",
            ] + keys).joined(separator: ",")
        ]
        for series in series {
            for (index, run) in series.runs.enumerated() {
                let spread = run.spread
                var cells = [
                    benchmark, series.name, "\(index)", series.unit.rawValue, "\(spread.count)",
                ]
                cells += [
                    spread.min, spread.mean, spread.p50, spread.p90, spread.p99, spread.p999,
                    spread.max,
                ].map { "\($0)" }
                cells += keys.map { key in run.figures[key].map { "\($0)" } ?? "" }
                lines.append(cells.joined(separator: ","))
            }
        }
        return lines.joined(separator: "\n")
    }

    /// Three significant digits, or all before the point.
    static func number(_ value: Double) -> String {
        let size = abs(value)
        guard size > 0 else { return "0" }
        let digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let whole = Int64((size * scale).rounded())
        let sign = value < 0 && whole != 0 ? "-" : ""
        guard digits > 0 else { return sign + "\(whole)" }
        let text = String(whole % Int64(scale))
        let fraction = String(repeating: "0", count: digits - text.count) + text
        return sign + "\(whole / Int64(scale)).\(fraction)"
    }
}
