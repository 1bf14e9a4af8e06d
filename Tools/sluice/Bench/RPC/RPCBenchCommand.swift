import ArgumentParser
import Primitives

/// `sluice bench rpc`: requests without a body.
struct RPCBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rpc",
        abstract: "Measure requests without a body between a client and a metadata server.",
        discussion: """
            Each run starts a server and one client that keeps 1 or 64 pings (obd_ping) under way: a \
            request through ptlrpc and LNet, its row in the server's table of exports, and the reply. \
            The next one is sent when one has ended, so that its latency is counted from when it was \
            sent and nothing waits unseen. Polling asks again and again on both sides; sleeping waits \
            in epoll on both. Allocations are those of the client's loop.

            `Tools/bench-peers rpc` runs gRPC C++ beside it, in the same rounds.
            """)

    @Option(help: ArgumentHelp("How long each series is measured in each round.", valueName: "s"))
    var seconds = 0.5

    @Option(
        help: ArgumentHelp(
            "How many requests are under way: numbers with commas.", valueName: "n,…"))
    var concurrency = ClientCounts([1, 64])

    @Option(help: "Only with both sides polling, or only with both sleeping.")
    var wait: NetBenchWait?

    @Option(help: ArgumentHelp("LNet's accept_port for both sides.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard seconds >= 0.05, seconds <= 600 else {
            throw ValidationError("--seconds must be from 0.05 to 600")
        }
        guard concurrency.values.allSatisfy({ (1...1024).contains($0) }) else {
            throw ValidationError("--concurrency must be from 1 to 1024")
        }
        guard acceptPort >= 1 else { throw ValidationError("--accept-port must be above 0") }
    }

    func run() async throws {
        let directory = try BenchDirectory("rpc")
        let bench = RPCBench(
            options: options, acceptPort: acceptPort,
            duration: TickInterval(nanoseconds: UInt64(seconds * 1e9)), directory: directory.path)
        var plan: [(concurrency: Int, wait: NetBenchWait)] = []
        for count in concurrency.values {
            for wait in self.wait.map({ [$0] }) ?? NetBenchWait.allCases {
                plan.append((count, wait))
            }
        }
        var result = options.begin("rpc")
        let runs = try await options.interleave(plan.count, "rpc") { index in
            try await bench.run(concurrency: plan[index].concurrency, plan[index].wait)
        }
        for (index, item) in plan.enumerated() {
            result.series.append(
                BenchResult.Series(
                    name: "rpc-\(item.concurrency)-\(item.wait)",
                    parameters: [
                        "concurrency": "\(item.concurrency)", "wait": item.wait.rawValue,
                        "fabric": "tcp", "size": "0",
                    ], unit: .us, runs: runs[index]))
        }
        try options.finish(result)
    }
}
