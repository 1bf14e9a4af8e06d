import ArgumentParser

/// `sluice client`: what running clients tell of themselves.
struct ClientCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "client", abstract: "Ask the clients of a running process how they are.",
        subcommands: [ClientShowCommand.self])
}
