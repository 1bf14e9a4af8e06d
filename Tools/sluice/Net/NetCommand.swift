import ArgumentParser

/// `sluice net`: the messaging layer by itself.
struct NetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "net", abstract: "LNet: ping other nodes.", subcommands: [PingCommand.self])
}
