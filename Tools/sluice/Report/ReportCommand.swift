import ArgumentParser
import Foundation

/// `sluice report`: results as one page.
struct ReportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Make one self-contained page with plots from results of sluice bench.",
        discussion: """
            Results come from --output or --json of the benchmarks and of sluice demo. The page holds \
            the data, the tables, and the plotting library (plotly.js from PyPI's package plotly), so \
            that it can be mailed, archived and printed.
            """)

    @Argument(help: ArgumentHelp("Files with results.", valueName: "result"))
    var results: [String]

    @Option(
        name: .shortAndLong, help: ArgumentHelp("Where the page is written.", valueName: "file"))
    var output: String

    @Option(
        help: ArgumentHelp(
            "The plotting library, a plotly.min.js. Default: $PLOTLY_JS, else Python's package plotly.",
            valueName: "file"))
    var script: String?

    func run() async throws {
        let loaded = try results.map { try BenchResult(path: $0) }
        try ReportPage(loaded, script: try PlotLibrary.script(at: script)).write(to: output)
        Output.note("wrote \(output)")
    }
}
