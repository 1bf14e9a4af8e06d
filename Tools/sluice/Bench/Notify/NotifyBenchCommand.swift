import ArgumentParser
import Primitives
import WireFormat

/// `sluice bench notify`: how long it takes until everybody knows and has said so.
struct NotifyBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "notify",
        abstract: "Measure how long an upgrade's announcement takes to reach and gate all clients.",
        discussion: """
            For each number of clients a real metadata server is upgraded once per round, from one \
            NID to its standby on the other and back in the next, while idle clients in one other \
            process hold their connections. Stamps are those of the upgrade path:
              notify-N-gates      t3-t0 per client: from the accepted order to its shut gate
              notify-N-receipts   t4-t0 per client: to its receipt at the target
              notify-N-last       t5-t0: to the last receipt. The target reads its clock once it has \
            received what its sockets had, at most 256 receipts, before it deals with them: t4 and t5 \
            are early by less than dealing with those takes
              bare-N, bare-N-last the same from a process that writes as many bytes to as many \
            sockets and reads as many from each, in the same rounds

            Everybody is told at once and every client is a sample: nothing waits for a sample \
            before it, so that no slow one hides another.
            """)

    enum Scheme: String, ExpressibleByArgument, CaseIterable {
        case drain
        case sync
    }

    @Option(
        help: ArgumentHelp(
            "How many clients: one number, or several with commas.", valueName: "n,…"))
    var clients = ClientCounts([1, 10, 100, 1000, 4000])

    @Option(
        help: ArgumentHelp(
            "So many clients more, which are held for 200 ms when the order comes.", valueName: "n")
    )
    var slowClients = 0

    @Option(help: "drain gates the clients; sync commits before every reply instead.")
    var scheme = Scheme.drain

    @Option(help: ArgumentHelp("LNet's accept_port for all nodes.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @Flag(inversion: .prefixedNo, help: "Measure the bare fan-out beside it.")
    var bare = true

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard clients.values.allSatisfy({ (1...20_000).contains($0) }) else {
            throw ValidationError("--clients must be from 1 to 20000")
        }
        guard (0...5000).contains(slowClients) else {
            throw ValidationError("--slow-clients must be from 0 to 5000")
        }
        guard acceptPort >= 1 else { throw ValidationError("--accept-port must be above 0") }
    }

    func run() async throws {
        let directory = try BenchDirectory("notify")
        var result = options.begin("notify")
        var fits: [(clients: Int, ms: Double)] = []
        var bareFits: [(clients: Int, ms: Double)] = []
        result.timelines = []
        for count in clients.values {
            try await measure(count, directory.path, &result)
            if let ms = result.series("notify-\(count)-last")?.median("p50") {
                fits.append((count, ms))
            }
            if let ms = result.series("bare-\(count)-last")?.median("p50") {
                bareFits.append((count, ms))
            }
        }
        if let fit = GrowthFit(fits) { result.facts.append("The last receipt \(fit.sentence).") }
        if let fit = GrowthFit(bareFits) {
            result.facts.append("The bare fan-out \(fit.sentence).")
        }
        if slowClients > 0 {
            result.facts.append(
                "\(slowClients) clients more were held for 200 ms from the order on: the last receipt "
                    + "is theirs.")
        }
        try options.finish(result)
    }

    private func measure(
        _ count: Int, _ directory: String, _ result: inout BenchResult
    ) async throws {
        let bench = try await NotifyBench(
            clientCount: count, slowCount: slowClients,
            scheme: scheme == .drain ? .drain : .sync, acceptPort: acceptPort,
            directory: directory, processors: options.processors)
        var fanOut: BareFanOut?
        if bare {
            fanOut = try await BareFanOut(
                count: count, directory: directory, processors: options.processors)
        }
        let parameters = ["clients": "\(count)", "scheme": scheme.rawValue, "fabric": "tcp"]
        func series(_ name: String, _ remark: String? = nil) -> BenchResult.Series {
            BenchResult.Series(name: name, parameters: parameters, unit: .ms, remark: remark)
        }
        var gates = series("notify-\(count)-gates")
        var receipts = series("notify-\(count)-receipts")
        var last = series("notify-\(count)-last")
        var bareAnswers = series("bare-\(count)")
        var bareLast = series("bare-\(count)-last")
        let progress = ProgressLine()
        defer { progress.end() }
        let rounds = options.warmUp + options.runs
        for number in 0..<rounds {
            progress.show("notify, \(count) clients: round \(number + 1) of \(rounds)")
            let isBareFirst = number % 2 == 1
            var bareRun: Recorder?
            if isBareFirst { bareRun = try await runBare(fanOut) }
            let round = try await bench.round("\(count) clients")
            if !isBareFirst { bareRun = try await runBare(fanOut) }
            guard number >= options.warmUp else { continue }
            gates.runs.append(round.gates.run(unit: .ms))
            receipts.runs.append(round.receipts.run(unit: .ms))
            var one = Recorder()
            one.record(round.lastReceiptNs)
            last.runs.append(
                one.run(
                    unit: .ms,
                    figures: [
                        "committedMs": Double(round.committedNs) / 1e6,
                        "allBackMs": Double(round.backNs) / 1e6,
                    ]))
            if let bareRun {
                let run = bareRun.run(unit: .ms)
                bareAnswers.runs.append(run)
                var slowest = Recorder()
                slowest.record(UInt64(run.spread.max * 1e6))
                bareLast.runs.append(slowest.run(unit: .ms))
            }
            if number == rounds - 1 { result.timelines?.append(round.timeline) }
        }
        await bench.close()
        result.series += [gates, receipts, last]
        guard bare else { return }
        result.series += [bareAnswers, bareLast]
        result.compare(
            "notify-\(count)-last", to: "bare-\(count)-last", "p50",
            bound: count >= 1000 && slowClients == 0 ? 1.25 : nil)
    }

    private func runBare(_ fanOut: BareFanOut?) async throws -> Recorder? {
        guard let fanOut else { return nil }
        let box = Sending(fanOut)
        let processor = options.processors?.0
        return try await onThread {
            if let processor { try pin(processor) }
            return try box.value.run()
        }
    }
}

/// A value that one thread at a time uses, handed from one to the next.
struct Sending<Value>: @unchecked Sendable {
    // Whoever makes it waits for the thread that it is given to.
    let value: Value
    init(_ value: Value) { self.value = value }
}

/// Numbers with commas between them.
struct ClientCounts: ExpressibleByArgument, CustomStringConvertible {
    var values: [Int]
    init(_ values: [Int]) { self.values = values }

    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
        let values = parts.compactMap { Int($0) }
        guard !values.isEmpty, values.count == parts.count else { return nil }
        self.values = values
    }

    var description: String { values.map(String.init).joined(separator: ",") }
    var defaultValueDescription: String { description }
}
