import ArgumentParser
import Primitives

/// `sluice bench peers`: others beside ours, in the same rounds.
struct PeersBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peers",
        abstract: "Measure other systems beside ours, in the same rounds.",
        discussion: """
            net: UCX, libfabric, sockperf and bare sockets. rpc: gRPC C++. notify: NATS, Redis, etcd \
            and a bare fan-out. Who is not installed, or fails, is named with the reason and left \
            out; `Tools/bench-peers` installs them from Debian, builds the small programs that they \
            need and calls this.

            Each is set up as its documentation recommends; what differs in the work is said below \
            the table. Ratios are ours over theirs, round by round.
            """)

    enum Part: String, ExpressibleByArgument, CaseIterable {
        case net
        case rpc
        case notify
    }

    @Argument(help: ArgumentHelp("net, rpc, notify: all of them by default.", valueName: "part"))
    var parts: [Part] = []

    @Option(help: ArgumentHelp("How many clients are notified.", valueName: "n"))
    var clients = 1000

    @Option(help: ArgumentHelp("How long each series is measured in a round.", valueName: "s"))
    var seconds = 0.5

    @Option(
        help: ArgumentHelp(
            "Where the programs are that Tools/bench-peers built.", valueName: "dir"))
    var programs: String?

    @Option(help: ArgumentHelp("LNet's accept_port for our nodes.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (1...10_000).contains(clients) else {
            throw ValidationError("--clients must be from 1 to 10000")
        }
        guard seconds >= 0.05, seconds <= 60 else {
            throw ValidationError("--seconds must be from 0.05 to 60")
        }
    }

    func run() async throws {
        let directory = try BenchDirectory("peers")
        let duration = TickInterval(nanoseconds: UInt64(seconds * 1e9))
        var found = PeerPrograms(directory: programs)
        var result = options.begin("peers")
        let parts = self.parts.isEmpty ? Part.allCases : self.parts
        if parts.contains(.net) {
            let bench = NetBench(
                options: options, acceptPort: acceptPort, duration: duration,
                directory: directory.path)
            try await measure(NetPeers.series(&found, bench), "net", &found, &result)
        }
        if parts.contains(.rpc) {
            let bench = RPCBench(
                options: options, acceptPort: acceptPort, duration: duration,
                directory: directory.path)
            try await measure(
                RPCPeers.series(&found, bench, seconds: seconds), "rpc", &found, &result)
        }
        if parts.contains(.notify) {
            let peers = try await NotifyPeers(
                clients, &found, options: options, acceptPort: acceptPort,
                directory: directory.path)
            try await measure(peers.series, "notify", &found, &result)
            await peers.close()
        }
        result.facts += found.missing
        try options.finish(result)
    }

    /// Measures all of a part. A peer that fails once is out of it from then on; ours must not fail.
    private func measure(
        _ plan: [PeerSeries], _ name: String, _ found: inout PeerPrograms,
        _ result: inout BenchResult
    ) async throws {
        var failures: [Int: String] = [:]
        let runs = try await options.interleave(plan.count, name) { index in
            guard failures[index] == nil else { return nil }
            do {
                return try await plan[index].measure()
            } catch {
                guard plan[index].isPeer else { throw Failure("\(plan[index].name): \(error)") }
                failures[index] = "\(error)"
                return nil
            }
        }
        for (index, item) in plan.enumerated() {
            if let failure = failures[index] {
                found.note("\(item.name) is left out: \(failure)")
                continue
            }
            result.series.append(
                BenchResult.Series(
                    name: item.name, parameters: item.parameters, unit: item.unit,
                    remark: item.remark, runs: runs[index]))
        }
        for item in plan {
            guard let ours = item.against else { continue }
            result.compare(ours, to: item.name, item.statistic, bound: item.bound, item.sense)
        }
    }
}
