import ArgumentParser

/// `sluice upgrade`: begin one, and see where one stands.
struct UpgradeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upgrade",
        abstract: "Begin the upgrade of a target, or show who is prepared for it.",
        discussion: """
            Start the new server first: sluice serve … --standby on the target's second NID. It \
            waits for the store and takes over when the old one has let go.
            """,
        subcommands: [UpgradeStartCommand.self, UpgradeStatusCommand.self])
}
