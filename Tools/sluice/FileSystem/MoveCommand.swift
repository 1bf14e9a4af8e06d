import ArgumentParser
import SluiceClient

/// `sluice fs mv`.
struct MoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mv", abstract: "Give a file or directory another name.")

    @Argument(help: "The name it has.")
    var path: String

    @Argument(help: "The name it gets, in place of the file that has it now.")
    var newPath: String

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        try await clusterOptions.withFileSystem { try await $0.rename(path, to: newPath) }
    }
}
