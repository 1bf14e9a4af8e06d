import ArgumentParser
import Primitives

/// `sluice bench net`: LNet beside bare sockets.
struct NetBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "net",
        abstract: "Measure LNet PUT and GET beside bare sockets or perftest, in the same rounds.",
        discussion: """
            Two processes each time, one side in each. Over TCP:
              lnet-put-POLLING    a PUT of 64 B answered by one; half of there and back
              bare-echo           two sockets and epoll, the same 160 bytes there and back
              lnet-get            GETs of 1 MiB, 8 of them under way
              bare-fetch          two sockets and epoll, the same bytes asked for and sent, 8 under way
              bare-stream         one side writes as fast as it can, the other reads
              lnet-brw-read       lnet_selftest: reads of 4 KiB, 64 of them under way
              bare-exchange       two sockets and epoll, the bytes of such an RPC, 64 under way
            Over RDMA, where two addresses are on RDMA devices (see `sluice fabric`):
              lnet-put-POLLING    as above, an IMMEDIATE message there and one back
              ib_send_lat-POLLING perftest's ib_send_lat -R -s 64 on the same devices
              lnet-get, lnet-bulk GETs and PUTs of 1 MiB, 8 of them under way
              ib_write_bw         perftest's ib_write_bw -R -s 1048576, 8 under way

            Polling asks again and again; sleeping waits in epoll. An operation begins when the one \
            before it has ended, so that nobody waits for his turn: no sample hides another (that is \
            a closed loop; `sluice bench pause` is the open one). What is used per operation is the \
            sum of both sides' loop threads.
            """)

    @Option(help: ArgumentHelp("How long each series is measured in each round.", valueName: "s"))
    var seconds = 0.5

    @Option(help: ArgumentHelp("LNet's accept_port for both sides.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @Option(
        help: ArgumentHelp(
            "Only series over RDMA whose names contain this.", valueName: "part"))
    var only: String?

    @OptionGroup var fabricOption: FabricOption
    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard seconds >= 0.01, seconds <= 600 else {
            throw ValidationError("--seconds must be from 0.01 to 600")
        }
        guard acceptPort >= 2 else { throw ValidationError("--accept-port must be above 1") }
    }

    func run() async throws {
        let directory = try BenchDirectory("net")
        var bench = NetBench(
            options: options, acceptPort: acceptPort,
            duration: TickInterval(nanoseconds: UInt64(seconds * 1e9)), directory: directory.path)
        if let ends = try DemoAddresses.ends(fabricOption.fabric) {
            (bench.server, bench.client) = ends
            try await overVerbs(bench)
        } else {
            try await overTCP(bench)
        }
    }

    private func overVerbs(_ bench: NetBench) async throws {
        let peers = VerbsPeers(
            server: bench.server, directory: bench.directory, processors: options.processors)
        var plan: [PeerSeries] = []
        for (name, kind, wait) in [
            ("lnet-put-polling", NetBenchKind.put, NetBenchWait.polling),
            ("lnet-put-sleeping", .put, .sleeping), ("lnet-get", .get, .polling),
            ("lnet-bulk", .bulk, .polling),
        ] {
            plan.append(
                PeerSeries(
                    name: name, unit: .us,
                    parameters: [
                        "size": "\(NetBenchSize.payload(kind))",
                        "depth": "\(NetBenchSize.depth(kind))",
                        "wait": wait.rawValue, "fabric": "verbs",
                    ], measure: { try await bench.run(kind, wait) }))
        }
        // Each beside what it is compared with.
        let theirs = peers.series()
        plan = plan.flatMap { ours in [ours] + theirs.filter { $0.against == ours.name } }
        if let only { plan.removeAll { !$0.name.contains(only) } }
        var result = options.begin("net")
        let runs = try await options.interleave(plan.count, "net") { index in
            do {
                return try await plan[index].measure()
            } catch {
                throw Failure("\(plan[index].name): \(error)")
            }
        }
        for (index, item) in plan.enumerated() {
            result.series.append(
                BenchResult.Series(
                    name: item.name, parameters: item.parameters, unit: item.unit,
                    remark: item.remark, runs: runs[index]))
        }
        let names = Set(plan.map(\.name))
        for item in plan {
            guard let ours = item.against, names.contains(ours) else { continue }
            result.compare(ours, to: item.name, item.statistic, bound: item.bound, item.sense)
        }
        if names.isSuperset(of: ["lnet-bulk", "ib_write_bw"]) {
            result.compare("lnet-bulk", to: "ib_write_bw", "mibPerSecond", bound: 0.9, .atLeast)
        }
        result.facts = [
            "Copies: a message of 64 B is copied into its work request and once out of the receive "
                + "buffer into LNet's arena. A GET or PUT of 1 MiB is copied once into registered "
                + "memory by its source and once out of it by its sink, which here use plain buffers."
        ]
        result.facts += peers.facts
        try options.finish(result)
    }

    private func overTCP(_ bench: NetBench) async throws {
        let plan: [(name: String, kind: NetBenchKind, wait: NetBenchWait)] = [
            ("lnet-put-polling", .put, .polling), ("bare-echo-polling", .echo, .polling),
            ("lnet-put-sleeping", .put, .sleeping), ("bare-echo-sleeping", .echo, .sleeping),
            ("lnet-get", .get, .sleeping), ("bare-fetch", .fetch, .sleeping),
            ("bare-stream", .stream, .sleeping), ("lnet-brw-read", .brw, .sleeping),
            ("bare-exchange", .exchange, .sleeping),
        ]
        var result = options.begin("net")
        let runs = try await options.interleave(plan.count, "net") { index in
            try await bench.run(plan[index].kind, plan[index].wait)
        }
        for (index, item) in plan.enumerated() {
            result.series.append(
                BenchResult.Series(
                    name: item.name,
                    parameters: [
                        "size": "\(NetBenchSize.payload(item.kind))",
                        "depth": "\(NetBenchSize.depth(item.kind))",
                        "wait": item.wait.rawValue, "fabric": "tcp",
                    ], unit: .us, runs: runs[index]))
        }
        result.compare("lnet-put-polling", to: "bare-echo-polling", "p50", bound: 1.1)
        result.compare("lnet-put-sleeping", to: "bare-echo-sleeping", "p50", bound: 1.1)
        result.compare("lnet-get", to: "bare-fetch", "mibPerSecond", .atLeast)
        result.compare("lnet-get", to: "bare-stream", "mibPerSecond", bound: 0.9, .atLeast)
        result.compare(
            "lnet-brw-read", to: "bare-exchange", "perSecond", bound: 1 / 1.3, .atLeast,
            remark: "an RPC of brw goes there and back twice: LNet acknowledges the bulk before "
                + "the reply; the bare sockets do so once, with all of its bytes. Of each run of "
                + "lnet_selftest only the median is known")
        result.facts = [
            "Copies: a PUT of 64 B is copied once on its way into LNet's output buffer and once out "
                + "of the receive buffer into LNet's arena. A GET of 1 MiB is copied once, from the "
                + "receive buffer into its sink; its sender copies nothing. Bare sockets leave the "
                + "bytes in the receive buffer."
        ]
        try options.finish(result)
    }
}
