import ArgumentParser

/// `sluice bench`: ratios, each side measured in the same run.
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure parts of the stack against what they stand on, side by side.",
        subcommands: [
            NetBenchCommand.self, PeerTableBenchCommand.self, RPCBenchCommand.self,
            NotifyBenchCommand.self,
            PauseBenchCommand.self, PeersBenchCommand.self, CompareCommand.self,
            LockBenchCommand.self, StoreBenchCommand.self,
            RecoveryBenchCommand.self,
            NetPeerCommand.self, FanOutClientsCommand.self, SlowClientsCommand.self,
        ])
}
