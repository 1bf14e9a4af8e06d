import ArgumentParser

/// `sluice target`: what running targets tell of themselves, and orders to them.
struct TargetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "target", abstract: "Ask running targets how they are.",
        subcommands: [TargetShowCommand.self, TargetAbortRecoveryCommand.self])
}
