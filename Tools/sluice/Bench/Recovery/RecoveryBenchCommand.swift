import ArgumentParser

/// `sluice bench recovery`: what a crash costs.
struct RecoveryBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recovery",
        abstract: "Kill a metadata server with many uncommitted updates, and time its recovery.",
        discussion: """
            Starts one metadata server that commits nothing of its own accord, lets the clients do \
            their updates, kills it with SIGKILL, starts it again and waits until every client is \
            back and every update is done again; then the same once more. Afterwards every update \
            is looked for.

            The exit status is 0 only if none is missing, no client was evicted and none saw an \
            error. A second recovery that takes more than 1.5 times as long as the first is said.
            """)

    @Option(help: ArgumentHelp("How many clients.", valueName: "n"))
    var clients = 1000

    @Option(help: ArgumentHelp("How many updates they do together.", valueName: "n"))
    var updates = 100_000

    @Option(help: ArgumentHelp("How often the server is killed.", valueName: "n"))
    var rounds = 2

    @Option(help: ArgumentHelp("LNet's accept_port for all nodes.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @OptionGroup var output: JSONOption

    func validate() throws {
        guard (1...10_000).contains(clients) else {
            throw ValidationError("--clients must be from 1 to 10000")
        }
        guard (1...5_000_000).contains(updates) else {
            throw ValidationError("--updates must be from 1 to 5000000")
        }
        guard (1...100).contains(rounds) else {
            throw ValidationError("--rounds must be from 1 to 100")
        }
        guard acceptPort >= 1 else { throw ValidationError("--accept-port must be above 0") }
    }

    func run() async throws {
        let bench = try RecoveryBench(
            clientCount: clients, updateCount: updates, acceptPort: acceptPort)
        let report = try await bench.run(rounds: rounds)
        if output.json {
            try Output.json(report)
        } else {
            var table = TextTable(
                "round", "uncommitted", "replayed", "evicted", "ready ms", "recovery ms",
                "total ms", "clients back ms")
            for (number, round) in report.rounds.enumerated() {
                table.add(
                    "\(number + 1)", "\(round.uncommitted)", "\(round.replayed)",
                    "\(round.evicted)", "\(Int(round.readyMs))", "\(Int(round.recoveryMs))",
                    "\(Int(round.totalMs))", "\(Int(round.clientsBackMs))")
            }
            Output.line(table.text)
            Output.line(
                "\(report.clients) clients, \(report.updates) updates, \(report.lost) lost, "
                    + "\(report.clientErrors) errors, server \(report.serverPeakKiB / 1024) MiB")
        }
        if let first = report.rounds.first, let longest = report.rounds.map(\.totalMs).max(),
            longest > 1.5 * first.totalMs
        {
            Output.note("a later recovery took \(longest / first.totalMs) times as long")
        }
        let isWhole =
            report.lost == 0 && report.clientErrors == 0
            && report.rounds.allSatisfy { $0.evicted == 0 }
        guard isWhole else { throw ExitCode.failure }
    }
}
