import ArgumentParser
import SluiceClient

/// `sluice fs rm`.
struct RemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove a file, or an empty directory.")

    @Argument(help: "What to remove.")
    var path: String

    @Flag(name: [.customShort("d"), .customLong("dir")], help: "Remove an empty directory.")
    var isDirectory = false

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        try await clusterOptions.withFileSystem { system in
            if isDirectory {
                try await system.rmdir(path)
            } else {
                try await system.unlink(path)
            }
        }
    }
}
