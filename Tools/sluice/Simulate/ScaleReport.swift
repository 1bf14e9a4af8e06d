import ArgumentParser
import Foundation
import Primitives
import Simulator

/// One upgrade with very many clients, as the command prints it.
struct ScaleReport {
    let command: SimulateCommand

    func run() throws {
        let seed = command.replay ?? 1
        Output.line("SEED=\(seed)")
        let model = ScaleRun.Model()
        let gigabits = Double(model.bytesPerSecond) * 8 / 1e9
        Output.line(
            """
            model: \(model.latencyMin.inMilliseconds * 1000) to \
            \(model.latencyMax.inMilliseconds * 1000) us one way, \(gigabits) Gbit/s a node each \
            way, \(model.processorTime.inMilliseconds * 1000) us of processor for each segment \
            sent or received, commits of \(model.commitTime.inMilliseconds) ms, one target
            """)
        let clock = ContinuousClock()
        let start = clock.now
        let deadline = start + .seconds(max(command.wall, 3600))
        let report = ScaleRun(clientCount: command.clients, seed: seed, model: model).run(
            mustStop: { clock.now > deadline ? "the wall limit" : nil },
            progress: { Output.note($0) })
        let spent = Double((clock.now - start).components.seconds)
        if let failure = report.failure {
            Output.line("stopped: \(failure)")
            throw ExitCode(2)
        }
        var table = TextTable("from the order, ms", "p50", "p99", "last")
        func add(_ name: String, _ spread: ScaleRun.Spread) {
            table.add(
                name, Self.ms(spread.median), Self.ms(spread.p99), Self.ms(spread.max))
        }
        add("gate shut", report.notification)
        add("receipt sent", report.receipt)
        add("commit notice", report.commitNotice)
        add("reconnected", report.reconnected)
        add("gate open", report.gateOpened)
        add("pause of an update", report.pause)
        Output.line(table.text)
        Output.line(
            "all prepared after \(Self.ms(report.allPrepared)) ms, stopped after "
                + "\(Self.ms(report.stopped)) ms")
        let perClient = Double(report.bytes) / Double(report.clients)
        Output.line(
            "\(report.segments) segments, \(report.bytes) bytes from the order to the last gate: "
                + "\(SimulationFleet.rounded(Double(report.segments) / Double(report.clients), 1)) "
                + "and \(SimulationFleet.rounded(perClient, 0)) a client")
        for message in report.messages.prefix(16) {
            Output.line(
                "  \(message.name): \(message.count)")
        }
        let memory = Machine.peakMemoryKiB(of: getpid())
        Output.line(
            "\(report.lost) updates lost, \(report.repeated) repeated; \(memory / 1024) MiB at most, "
                + "\(memory * 1024 / report.clients) bytes a client with its share of the server; "
                + "\(Int(spent)) s of wall time")
        if report.lost + report.repeated > 0 { throw ExitCode(1) }
    }

    private static func ms(_ time: TickInterval) -> String {
        SimulationFleet.rounded(time.inMilliseconds, 1)
    }
}
