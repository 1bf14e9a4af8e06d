import Foundation

/// Results as one HTML page: tables that need no script, and plots drawn from the data inside.
struct ReportPage {
    private let results: [BenchResult]
    private let script: String

    init(_ results: [BenchResult], script: String) {
        self.results = results
        self.script = script
    }

    func write(to path: String) throws {
        do {
            try Data(html.utf8).write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw Failure("\(path) cannot be written: \(error.localizedDescription)")
        }
    }

    private var html: String {
        var page = """
            <!doctype html>
            <html lang="en"><head><meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <title>Sluice: measurements</title>
            <style>\(Self.style)</style></head><body>
            <h1>Sluice: measurements</h1>

            """
        if results.count > 1 {
            page += "<nav>"
            for (place, result) in results.enumerated() {
                page += "<a href=\"#r\(place)\">\(Self.escaped(title(result)))</a> "
            }
            page += "</nav>\n"
        }
        for (place, result) in results.enumerated() { page += section(result, place) }
        // "</" would end the script that the data stands in.
        let data =
            (try? Output.encoded(results, pretty: false)).map {
                String(decoding: $0, as: UTF8.self)
            }
            ?? "[]"
        page += "<script type=\"application/json\" id=\"data\">"
        page += data.replacing("</", with: "<\\/") + "</script>\n"
        page += "<script>" + script + "</script>\n"
        page += "<script>" + ReportScript.text + "</script>\n</body></html>\n"
        return page
    }

    private func title(_ result: BenchResult) -> String {
        "\(result.benchmark), \(result.date.prefix(10))"
    }

    private func section(_ result: BenchResult, _ place: Int) -> String {
        var text = "<section id=\"r\(place)\"><h2>\(Self.escaped(title(result)))</h2>\n"
        text += "<p class=\"how\"><code>\(Self.escaped(result.command))</code><br>"
        text += Self.escaped("\(result.date). \(result.environment.line).")
        text += " \(result.runs) runs that count, \(result.warmUp) before them that do not,"
        text += " interleaved.</p>\n"
        text += "<div class=\"plots\" data-result=\"\(place)\"></div>\n"
        text += table(
            ["series", "unit", "samples", "p50", "p90", "p99", "p99.9", "max", "figures"],
            result.series.map { series in
                let total = series.total
                let keys = Set(series.runs.flatMap(\.figures.keys)).sorted()
                let figures = keys.map {
                    "\($0) \(BenchResult.number(series.median($0) ?? 0))"
                }
                return [series.name, series.unit.rawValue, "\(total.count)"]
                    + [total.p50, total.p90, total.p99, total.p999, total.max]
                    .map(BenchResult.number) + [figures.joined(separator: ", ")]
            })
        if !result.ratios.isEmpty {
            text += table(
                [
                    "ratio, ours over theirs", "of", "median", "lowest", "highest", "wanted",
                    "what differs",
                ],
                result.ratios.map { ratio in
                    let wanted = ratio.bound.map { bound in
                        (ratio.sense == .atMost ? "at most " : "at least ")
                            + BenchResult.number(bound)
                            + (ratio.holds == true ? ": holds" : ": missed")
                    }
                    return [ratio.name, ratio.statistic]
                        + [ratio.median, ratio.low, ratio.high].map(BenchResult.number)
                        + [wanted ?? "", ratio.remark ?? ""]
                })
        }
        for fact in result.facts { text += "<p>\(Self.escaped(fact))</p>\n" }
        return text + "</section>\n"
    }

    private func table(_ header: [String], _ rows: [[String]]) -> String {
        var text = "<table><thead><tr>"
        for cell in header { text += "<th>\(Self.escaped(cell))</th>" }
        text += "</tr></thead><tbody>\n"
        for row in rows {
            text += "<tr>" + row.map { "<td>\(Self.escaped($0))</td>" }.joined() + "</tr>\n"
        }
        return text + "</tbody></table>\n"
    }

    private static func escaped(_ text: some StringProtocol) -> String {
        String(text).replacing("&", with: "&amp;").replacing("<", with: "&lt;")
            .replacing(">", with: "&gt;").replacing("\"", with: "&quot;")
    }

    private static let style = """
        body { font: 15px/1.45 system-ui, "DejaVu Sans", sans-serif; max-width: 1100px;
               margin: 2em auto; padding: 0 1em; color: #1b2733; background: #fff; }
        h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
        nav a { margin-right: 1em; } .how { color: #52606d; font-size: .87em; }
        code { font-family: "DejaVu Sans Mono", monospace; font-size: .95em; }
        table { border-collapse: collapse; margin: 1em 0; font-size: .87em; width: 100%; }
        th, td { text-align: left; padding: .25em .6em; border-bottom: 1px solid #d9e0e6;
                 vertical-align: top; }
        td { font-variant-numeric: tabular-nums; }
        .plot { width: 100%; min-height: 380px; margin: 1em 0; }
        @media print {
          @page { size: A4 landscape; margin: 12mm; }
          body { max-width: none; margin: 0; font-size: 11px; } nav { display: none; }
          .plot, table, tr { break-inside: avoid; } .modebar { display: none !important; }
        }
        """
}
