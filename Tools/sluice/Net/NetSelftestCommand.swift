import ArgumentParser
import EventLoop
import Foundation
import LNetCore
import NodeRuntime
import Primitives
import WireFormat

/// `sluice net selftest`: lnet_selftest's console.
struct NetSelftestCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selftest",
        abstract: "Measure between nodes of lnet_selftest, as lst does.",
        discussion: """
            Makes a session on all nodes, adds one test to a batch, runs it, prints what `lst stat` \
            prints, and removes the session. The nodes are those of `sluice net node --selftest`, or \
            Lustre nodes with lnet_selftest loaded. Without --clients this command is the client; \
            then the latencies of its RPCs are told as well.
            """)

    enum TestName: String, ExpressibleByArgument, CaseIterable {
        case ping
        case read
        case write
    }

    enum CheckName: String, ExpressibleByArgument, CaseIterable {
        case none
        case simple
        case full
    }

    @Option(help: ArgumentHelp("Who is asked.", valueName: "nid,…"))
    var servers: NIDList

    @Option(help: ArgumentHelp("Who asks. Default: this command.", valueName: "nid,…"))
    var clients: NIDList?

    @Option(help: "ping, or a brw test: read or write.")
    var test = TestName.ping

    @Option(help: ArgumentHelp("Of brw: 1 to 1048576, with K or M.", valueName: "bytes"))
    var size = ByteCount(4096)

    @Option(help: "Of brw: which words are looked at.")
    var check = CheckName.none

    @Option(help: ArgumentHelp("RPCs under way per client and server.", valueName: "n"))
    var concurrency: UInt32 = 8

    @Option(help: ArgumentHelp("RPCs of each of these; 0: until the time is over.", valueName: "n"))
    var loop: UInt32 = 0

    @Option(help: ArgumentHelp("How long.", valueName: "s"))
    var time = 5.0

    @Option(help: ArgumentHelp("Print rates this often.", valueName: "s"))
    var interval = 1.0

    @Option(help: ArgumentHelp("Poll for this long before sleeping.", valueName: "us"))
    var spin: UInt32 = 50

    @OptionGroup var output: JSONOption

    @Option(
        name: .customLong("nid"), help: ArgumentHelp("Own NIDs.", valueName: "nid,…"))
    var own: NIDList?

    @Option(help: ArgumentHelp("LNet's accept_port.", valueName: "port"))
    var acceptPort: UInt16 = ClusterFile.defaultAcceptPort

    @Option(
        help: ArgumentHelp(
            "Write what its connections carry to this file, for Wireshark; where the port is not "
                + "988, with its option -d tcp.port==PORT,lnet.", valueName: "file"))
    var pcap: String?

    func validate() throws {
        guard (1...LNetHeader.payloadMax).contains(size.value) else {
            throw ValidationError("--size is 1 to 1048576 bytes")
        }
        guard (1...4096).contains(concurrency) else {
            throw ValidationError("--concurrency is 1 to 4096")
        }
        guard time > 0, time <= 3600, interval >= 0.1, interval <= 3600 else {
            throw ValidationError("--time and --interval are seconds, at most 3600")
        }
        let named = servers.nids + (clients?.nids ?? []) + (own?.nids ?? [])
        if let large = named.first(where: \.isLarge) {
            throw ValidationError(
                "\(large): lnet_selftest's messages have room for IPv4 NIDs only; name one")
        }
        guard !servers.nids.isEmpty, servers.nids.count <= 1024 else {
            throw ValidationError("--servers names 1 to 1024 nodes")
        }
    }

    struct Report: Codable {
        var test: String
        var sizeBytes: Int
        var concurrency: UInt32
        var seconds: Double
        var rpcs: UInt64
        var rpcsPerSecond: Double
        var errors: UInt64
        var latencyUs: [String: Double]?
    }

    func run() async throws {
        var options = NetOptions()
        options.control = nil
        options.own = own
        options.acceptPort = acceptPort
        var how = NetworkNode.Options()
        how.selftest = true
        how.write(capture: pcap)
        how.listens = own != nil
        how.spinMicroseconds = UInt64(spin)
        let node: NetworkNode
        let nid: NID
        do {
            var configuration = try options.configuration(toReach: servers.nids[0])
            configuration.discovery = false
            configuration.peerCredits = max(8, Int(concurrency) * 2)
            nid = configuration.nid
            node = try NetworkNode(configuration, options: how)
            try node.start(named: "selftest")
        } catch let error as RuntimeError {
            throw Failure("\(error)")
        }
        defer {
            node.stop()
            try? node.join()
        }
        let console = SelftestConsole(
            node: node, nid: nid, clients: clients?.nids ?? [nid], servers: servers.nids)
        try console.begin(wanted, loop: loop, concurrency: concurrency)
        let isOwnClient = clients == nil
        let started = ContinuousClock.now
        try console.start()
        var rows = StatisticsRows()
        _ = try rows.take(console.statistics())
        while started.duration(to: .now) < .seconds(time) {
            let left = Duration.seconds(time) - started.duration(to: .now)
            try await Task.sleep(for: min(.seconds(interval), max(.milliseconds(1), left)))
            let text = try rows.take(console.statistics())
            if !output.json { Output.line(text) }
            if loop > 0, try console.active() == 0 { break }
        }
        let elapsed = started.duration(to: .now)
        let result = isOwnClient ? try? node.selftestResults() : nil
        let errors = try console.errors()
        try console.end()
        report(result, errors, elapsed)
        if errors > 0 { throw Failure("\(errors) RPCs failed or brought wrong data") }
    }

    private var wanted: SelftestMessage.Test {
        let checks: UInt16 =
            switch check {
            case .none: 1
            case .simple: 2
            case .full: 3
            }
        return switch test {
        case .ping: .ping(size: 0, flags: 0)
        case .read, .write:
            .bulk(
                isWrite: test == .write, check: checks, length: UInt32(size.value), offset: 0)
        }
    }

    private func report(
        _ result: (completed: UInt64, roundTrips: [UInt32])?, _ errors: UInt64, _ elapsed: Duration
    ) {
        let seconds =
            Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
        guard let result else {
            if output.json {
                try? Output.json(
                    Report(
                        test: test.rawValue, sizeBytes: size.value, concurrency: concurrency,
                        seconds: seconds, rpcs: 0, rpcsPerSecond: 0, errors: errors))
            }
            return
        }
        let sorted = result.roundTrips.sorted()
        var latency: [String: Double] = [:]
        for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)]
        where !sorted.isEmpty {
            latency[name] = Double(sorted[Int(Double(sorted.count - 1) * part)]) / 1000
        }
        latency["max"] = sorted.last.map { Double($0) / 1000 }
        let rate = Double(result.completed) / seconds
        if output.json {
            try? Output.json(
                Report(
                    test: test.rawValue, sizeBytes: size.value, concurrency: concurrency,
                    seconds: seconds, rpcs: result.completed, rpcsPerSecond: rate, errors: errors,
                    latencyUs: latency))
            return
        }
        func us(_ name: String) -> String {
            latency[name].map { String(format: "%.1f", $0) } ?? "-"
        }
        Output.line("[Latency of clients]")
        Output.line(
            "RPCs: \(result.completed) Rate: \(Int(rate)) RPC/s us p50: \(us("p50")) "
                + "p90: \(us("p90")) p99: \(us("p99")) p99.9: \(us("p999")) max: \(us("max"))")
    }
}

/// A count of bytes with K or M behind, as lst takes it.
struct ByteCount: ExpressibleByArgument {
    var value: Int

    init(_ value: Int) { self.value = value }

    init?(argument: String) {
        var digits = argument[...]
        var factor = 1
        switch argument.last {
        case "k", "K": factor = 1024
        case "m", "M": factor = 1 << 20
        default: break
        }
        if factor > 1 { digits = digits.dropLast() }
        guard let value = Int(digits), value >= 0, value <= Int.max / factor else { return nil }
        self.value = value * factor
    }

    var defaultValueDescription: String { "\(value)" }
}
