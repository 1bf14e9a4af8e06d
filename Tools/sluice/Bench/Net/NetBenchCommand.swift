import ArgumentParser
import Primitives

/// `sluice bench net`: LNet beside bare sockets.
struct NetBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "net",
        abstract: "Measure LNet PUT and GET over TCP beside bare sockets, in the same rounds.",
        discussion: """
            Two processes each time, one side in each. Series:
              lnet-put-POLLING    a PUT of 64 B answered by one; half of there and back
              bare-echo           two sockets and epoll, the same 160 bytes there and back
              lnet-get            GETs of 1 MiB, 8 of them under way
              bare-fetch          two sockets and epoll, the same bytes asked for and sent, 8 under way
              bare-stream         one side writes as fast as it can, the other reads

            Polling asks again and again; sleeping waits in epoll. An operation begins when the one \
            before it has ended, so that nobody waits for his turn: no sample hides another (that is \
            a closed loop; `sluice bench pause` is the open one). What is used per operation is the \
            sum of both sides' loop threads.
            """)

    @Option(help: ArgumentHelp("How long each series is measured in each round.", valueName: "s"))
    var seconds = 0.5

    @Option(help: ArgumentHelp("LNet's accept_port for both sides.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard seconds >= 0.01, seconds <= 600 else {
            throw ValidationError("--seconds must be from 0.01 to 600")
        }
        guard acceptPort >= 1 else { throw ValidationError("--accept-port must be above 0") }
    }

    func run() async throws {
        let directory = try BenchDirectory("net")
        let bench = NetBench(
            options: options, acceptPort: acceptPort,
            duration: TickInterval(nanoseconds: UInt64(seconds * 1e9)), directory: directory.path)
        let plan: [(name: String, kind: NetBenchKind, wait: NetBenchWait)] = [
            ("lnet-put-polling", .put, .polling), ("bare-echo-polling", .echo, .polling),
            ("lnet-put-sleeping", .put, .sleeping), ("bare-echo-sleeping", .echo, .sleeping),
            ("lnet-get", .get, .sleeping), ("bare-fetch", .fetch, .sleeping),
            ("bare-stream", .stream, .sleeping),
        ]
        var result = options.begin("net")
        let runs = try await options.interleave(plan.count, "net") { index in
            try await bench.run(plan[index].kind, plan[index].wait)
        }
        for (index, item) in plan.enumerated() {
            let isSmall = item.kind == .put || item.kind == .echo
            result.series.append(
                BenchResult.Series(
                    name: item.name,
                    parameters: [
                        "size": "\(isSmall ? NetBenchSize.put : NetBenchSize.get)",
                        "depth": "\(isSmall ? 1 : NetBenchSize.depth)",
                        "wait": item.wait.rawValue, "fabric": "tcp",
                    ], unit: .us, runs: runs[index]))
        }
        result.compare("lnet-put-polling", to: "bare-echo-polling", "p50", bound: 1.1)
        result.compare("lnet-put-sleeping", to: "bare-echo-sleeping", "p50", bound: 1.1)
        result.compare("lnet-get", to: "bare-fetch", "mibPerSecond", .atLeast)
        result.compare("lnet-get", to: "bare-stream", "mibPerSecond", bound: 0.9, .atLeast)
        result.facts = [
            "Copies: a PUT of 64 B is copied once on its way into LNet's output buffer and once out "
                + "of the receive buffer into LNet's arena. A GET of 1 MiB is copied once, from the "
                + "receive buffer into its sink; its sender copies nothing. Bare sockets leave the "
                + "bytes in the receive buffer."
        ]
        try options.finish(result)
    }
}
