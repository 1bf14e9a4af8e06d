import ArgumentParser

/// `sluice store`: look at a store that nobody serves, and change its format.
struct StoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store", abstract: "Check the store of a target that is not running.",
        subcommands: [StoreCheckCommand.self, StoreConvertCommand.self])
}
