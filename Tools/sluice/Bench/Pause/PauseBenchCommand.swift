import ArgumentParser
import Primitives

/// `sluice bench pause`: what clients at work notice of a changed server.
struct PauseBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Measure pause and blackout per scheme, under a load at a fixed rate.",
        discussion: """
            Every client makes a directory at fixed times, whether or not the one before was \
            answered in time (an open loop), and latency is counted from when an operation was due: \
            what queues behind a pause is counted with its wait. Per scheme and round a fresh metadata \
            server is changed once:
              pause-SCHEME     each client's longest operation from the order on
              latency-SCHEME   every operation that was due from the order on, to a second after \
            everybody is back
            blackoutMs is the longest time in which no update of any client was acknowledged.

            drain and sync hand over to a warm standby; crash kills the server with SIGKILL and starts \
            it again. With drain the clients flush, and connect to the standby, before their gates shut \
            (--preflush). --stuck-clients adds drain-stuck: drain, with some clients more that do not \
            answer from before the order to the end.
            """)

    @Option(help: ArgumentHelp("How many clients.", valueName: "n"))
    var clients = 100

    @Option(help: ArgumentHelp("Updates of each client per second.", valueName: "n"))
    var rate = 10.0

    @Option(help: ArgumentHelp("drain, sync, crash: names with commas.", valueName: "name,…"))
    var schemes = "drain,sync,crash"

    @Option(
        help: ArgumentHelp(
            "How long clients may flush before the gates shut, as in sluice upgrade; 0: not at all.",
            valueName: "s"))
    var preflush = 2.0

    @Option(
        help: ArgumentHelp(
            "Measure drain again with so many clients more that are stuck.", valueName: "n"))
    var stuckClients = 0

    @Option(help: ArgumentHelp("LNet's accept_port for all nodes.", valueName: "port"))
    var acceptPort: UInt16 = 10988

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (1...10_000).contains(clients) else {
            throw ValidationError("--clients must be from 1 to 10000")
        }
        guard rate >= 0.1, rate <= 1000 else {
            throw ValidationError("--rate must be from 0.1 to 1000")
        }
        guard preflush >= 0, preflush <= 600 else {
            throw ValidationError("--preflush must be from 0 to 600")
        }
        guard (0...1000).contains(stuckClients) else {
            throw ValidationError("--stuck-clients must be from 0 to 1000")
        }
        _ = try chosen()
    }

    private func chosen() throws -> [PauseScheme] {
        let named = try schemes.split(separator: ",", omittingEmptySubsequences: false).map {
            guard let scheme = PauseScheme(rawValue: String($0)), scheme != .stuck else {
                throw ValidationError("--schemes: there is no scheme \($0); drain, sync and crash")
            }
            return scheme
        }
        return stuckClients > 0 ? named + [.stuck] : named
    }

    func run() async throws {
        let directory = try BenchDirectory("pause")
        let bench = PauseBench(
            clientCount: clients, interval: TickInterval(nanoseconds: UInt64(1e9 / rate)),
            preflushMs: PolicyOptions.milliseconds(preflush), stuckCount: stuckClients,
            acceptPort: acceptPort, options: options, directory: directory.path)
        let plan = try chosen()
        var result = options.begin("pause")
        var rounds: [[PauseBench.Round]] = Array(repeating: [], count: plan.count)
        var number = 0
        _ = try await options.interleave(plan.count, "pause") { index in
            number += 1
            let round = try await bench.round(plan[index], number)
            rounds[index].append(round)
            return round.pauses.run(unit: .ms)
        }
        let parameters = [
            "clients": "\(clients)", "rate": "\(rate)", "fabric": "tcp", "preflush": "\(preflush)",
        ]
        result.timelines = []
        for (index, scheme) in plan.enumerated() {
            let counted = rounds[index].dropFirst(options.warmUp)
            var pause = BenchResult.Series(
                name: "pause-\(scheme.rawValue)", parameters: parameters, unit: .ms)
            var latency = BenchResult.Series(
                name: "latency-\(scheme.rawValue)", parameters: parameters, unit: .ms)
            for round in counted {
                pause.runs.append(
                    round.pauses.run(unit: .ms, figures: ["blackoutMs": round.blackoutMs]))
                latency.runs.append(round.latencies.run(unit: .ms))
            }
            result.series += [pause, latency]
            if let last = counted.last { result.timelines?.append(last.timeline) }
        }
        for other in plan where other != .drain && other != .stuck {
            result.compare("pause-drain", to: "pause-\(other.rawValue)", "p99")
        }
        if plan.contains(.stuck) {
            result.compare("pause-drain-stuck", to: "pause-drain", "p50", bound: 1.1)
        }
        result.facts.append(
            "\(clients) clients, \(BenchResult.number(rate * Double(clients))) updates per second "
                + "together, in an open loop.")
        try options.finish(result)
    }
}
