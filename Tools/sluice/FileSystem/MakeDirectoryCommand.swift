import ArgumentParser
import SluiceClient

/// `sluice fs mkdir`.
struct MakeDirectoryCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mkdir", abstract: "Make a directory.")

    @Argument(help: "The new directory.")
    var path: String

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        try await clusterOptions.withFileSystem { _ = try await $0.mkdir(path) }
    }
}
