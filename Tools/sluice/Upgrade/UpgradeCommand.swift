import ArgumentParser

/// `sluice upgrade`: of one target, or of a whole cluster by a plan.
struct UpgradeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upgrade",
        abstract: "Upgrade targets, or go back: one by order, or many by a plan.",
        discussion: """
            Start the new server first: sluice serve … --standby on the target's second NID. It \
            waits for the store and takes over when the old one has let go. Going back to an older \
            build is the same, until the upgrade is finalised.
            """,
        subcommands: [
            UpgradeStartCommand.self, UpgradeStatusCommand.self, UpgradeAbortCommand.self,
            UpgradeReceiptsCommand.self, UpgradeFinalizeCommand.self, UpgradePlanCommand.self,
            UpgradeRunCommand.self, UpgradePauseCommand.self, UpgradeResumeCommand.self,
        ])
}
