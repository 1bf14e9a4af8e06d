import ArgumentParser
import SluiceClient

/// `sluice fs stat`.
struct StatCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stat", abstract: "Show a file's attributes.")

    @Argument(help: "The file or directory.")
    var path: String

    @OptionGroup var clusterOptions: ClusterOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        let status = try await clusterOptions.withFileSystem { try await $0.stat(path) }
        let report = StatusReport(status, path: path)
        if output.json { return try Output.json(report) }
        var lines = [
            "path      \(report.path)", "type      \(report.type)", "size      \(report.size)",
            "mode      \(report.mode)", "links     \(report.links)",
            "modified  \(report.modified)", "changed   \(report.changed)",
        ]
        if let entries = report.entries { lines.append("entries   \(entries)") }
        lines.append("fid       \(report.fid)")
        Output.line(lines.joined(separator: "\n"))
    }
}
