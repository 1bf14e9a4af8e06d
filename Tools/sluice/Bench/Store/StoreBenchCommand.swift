import ArgumentParser
import Foundation

/// `sluice bench store`: what the stack adds to the disk.
struct StoreBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store",
        abstract: "Measure durable updates through the whole stack beside the store alone.",
        discussion: """
            Many clients make directories, each one after the other. Series:
              durable-stack  at a metadata server that answers when the update is on the disk; one \
            process for the server, one for all clients
              store-alone    the same transactions in groups of the same clients, given to a store \
            in this process

            A sample is the time from asking for an update to knowing that it is durable. The ratio \
            of updates per second is to be at least 0.7. The exit status is 0 only if no client saw \
            an error.
            """)

    @Option(help: ArgumentHelp("How many clients.", valueName: "n"))
    var clients = 256

    @Option(help: ArgumentHelp("How many updates a round does of each series.", valueName: "n"))
    var updates = 20_000

    @Option(
        help: ArgumentHelp(
            "Where both stores are; default: the temporary directory.", valueName: "dir"))
    var directory: String?

    @Option(help: ArgumentHelp("LNet's accept_port for all nodes.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (1...10_000).contains(clients) else {
            throw ValidationError("--clients must be from 1 to 10000")
        }
        guard (1...1_000_000).contains(updates) else {
            throw ValidationError("--updates must be from 1 to 1000000")
        }
        guard acceptPort >= 1 else { throw ValidationError("--accept-port must be above 0") }
        if let directory, !FileManager.default.isWritableFile(atPath: directory) {
            throw ValidationError("--directory \(directory) cannot be written to")
        }
    }

    func run() async throws {
        let bench = try StoreBench(
            clients: clients, updates: updates, acceptPort: acceptPort, parent: directory)
        try await bench.begin()
        var result = options.begin("store")
        let kinds = StoreBench.Kind.allCases
        let runs = try await options.interleave(kinds.count, "store") { index in
            try await bench.run(kinds[index], keepsRaw: options.raw)
        }
        try bench.end()
        for (index, kind) in kinds.enumerated() {
            result.series.append(
                BenchResult.Series(
                    name: kind.rawValue,
                    parameters: ["clients": "\(clients)", "updates": "\(bench.updateCount)"],
                    unit: .us, runs: runs[index]))
        }
        result.compare("durable-stack", to: "store-alone", "perSecond", bound: 0.7, .atLeast)
        result.facts = [
            "The store alone has its transactions ready, and every group of it has an update of each "
                + "client. Nothing is pinned, whatever --pin says: the stack's server and clients "
                + "are processes of their own."
        ]
        try options.finish(result)
        guard bench.errorCount == 0 else {
            Output.note("\(bench.errorCount) operations failed")
            throw ExitCode.failure
        }
    }
}
