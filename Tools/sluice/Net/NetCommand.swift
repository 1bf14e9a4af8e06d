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
            NetShowCommand.self, NetAddCommand.self, NetDeleteCommand.self, NetSetCommand.self,
            PingCommand.self, NetDiscoverCommand.self, LNetPeerCommand.self,
            NetRouteCommand.self, NetRoutingCommand.self, NetStatsCommand.self,
            NetGlobalCommand.self, NetFaultCommand.self, NetExportCommand.self,
            NetImportCommand.self, NetSelftestCommand.self, NetNodeCommand.self,
        ])
}
