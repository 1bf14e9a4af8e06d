import ArgumentParser
import SluiceClient
import WireFormat

/// `sluice fs ls`.
struct ListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List a directory.")

    @Argument(help: "The directory.")
    var path = "/"

    @OptionGroup var clusterOptions: ClusterOptions
    @OptionGroup var output: JSONOption

    private struct Entry: Encodable {
        var name: String
        var type: String
        var fid: String
    }

    func run() async throws {
        let entries = try await clusterOptions.withFileSystem { try await $0.list(path) }
        if output.json {
            try Output.json(
                entries.map {
                    Entry(
                        name: $0.name.text, type: $0.type.word, fid: $0.file.description)
                })
        } else {
            for entry in entries {
                Output.line(entry.name.text + (entry.type == .directory ? "/" : ""))
            }
        }
    }
}
