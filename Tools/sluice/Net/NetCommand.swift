import ArgumentParser

/// `sluice net`: the messaging layer by itself.
struct NetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "net",
        abstract: "LNet, with the nouns, verbs and YAML of lnetctl.",
        discussion: """
            With --control PATH, or SLUICE_CONTROL in the environment, a command is about the \
            running node whose control socket that is: one of `sluice net node --control PATH` or \
            `sluice serve … --control PATH`. Without, the command is a node of its own for as long \
            as it runs.
            """,
        subcommands: [
            NetShowCommand.self, PingCommand.self, LNetPeerCommand.self, NetStatsCommand.self,
            NetGlobalCommand.self, NetNodeCommand.self,
        ])
}
