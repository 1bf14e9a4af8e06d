import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// A metadata server as a process, and one client of it.
struct RPCBench {
    var options: BenchOptions
    var acceptPort: UInt16
    var duration: TickInterval
    var directory: String

    /// One run, against a server that was just started.
    func run(concurrency: Int, _ wait: NetBenchWait) async throws -> BenchResult.Run {
        var file = ClusterFile(
            acceptPort: acceptPort,
            targets: [
                ClientTarget(name: "mdt0", kind: .mds, index: 0, nids: [NetBench.loopback(31)])
            ])
        file.path = directory + "/cluster.yaml"
        let store = directory + "/mdt0"
        try? FileManager.default.removeItem(atPath: store)
        do {
            try file.text.write(toFile: file.path, atomically: true, encoding: .utf8)
        } catch {
            throw Failure("\(file.path) cannot be written: \(error.localizedDescription)")
        }
        let target = file.targets[0]
        var arguments = [
            "serve", "mds", "--target", target.name, "--store", store, "--nid",
            target.nids[0].description, "--cluster", file.path, "--supervised",
        ]
        if wait == .polling { arguments += ["--spin", "3600000000"] }
        if let processors = options.processors { arguments += ["--cpu", "\(processors.1)"] }
        let server = try ChildServer(
            name: target.name, nid: target.nids[0], arguments: arguments, directory: directory,
            label: "mdt0")
        _ = try await server.awaitLine("ready")
        let asker = RPCAsker(concurrency: concurrency, for: duration, keepsRaw: options.raw)
        var fleetOptions = ClientFleet.Options()
        fleetOptions.driver = asker
        fleetOptions.spin = wait.spin
        fleetOptions.cpu = options.processors?.0
        let before = ProcessUsage(of: server.process)
        let began = Host.monotonicNow
        let outcome: RPCAsker.Outcome
        do {
            let fleet = try ClientFleet(
                cluster: file.description, nids: [NetBench.loopback(32)], options: fleetOptions)
            try fleet.start(named: "client")
            outcome = try await Self.outcome(of: asker, within: duration + .seconds(20))
            fleet.stop()
            try fleet.join()
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure("\(error)")
        }
        if let failure = outcome.failure { throw Failure("a call failed: \(failure)") }
        // The server is asked from outside: its share of the time that was measured.
        let share = outcome.seconds / (Host.monotonicNow - began).inSeconds
        let theirs = ProcessUsage(of: server.process) - before
        let calls = outcome.recorder.count
        var usage = outcome.usage
        usage.cpuNs += UInt64(Double(theirs.cpuNs) * share)
        usage.switches += UInt64(Double(theirs.switches) * share)
        var figures = usage.figures(operations: calls)
        figures["perSecond"] = Double(calls) / outcome.seconds
        return outcome.recorder.run(unit: .us, figures: figures)
    }

    private static func outcome(
        of asker: RPCAsker, within limit: TickInterval
    ) async throws -> RPCAsker.Outcome {
        let end = Host.monotonicNow + limit
        while Host.monotonicNow < end {
            if let outcome = asker.outcome.withLock({ $0 }) { return outcome }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw Failure("the target stopped to answer")
    }
}

/// What a process's first thread, which is a server's loop, used so far.
struct ProcessUsage {
    var cpuNs: UInt64 = 0
    var switches: UInt64 = 0

    init(of process: pid_t) {
        let thread = "/proc/\(process)/task/\(process)"
        if let text = try? String(contentsOfFile: "\(thread)/schedstat", encoding: .utf8) {
            cpuNs = text.split(separator: " ").first.flatMap { UInt64($0) } ?? 0
        }
        if let text = try? String(contentsOfFile: "\(thread)/status", encoding: .utf8) {
            for line in text.split(separator: "\n") where line.contains("ctxt_switches:") {
                switches += line.split(separator: "\t").last.flatMap { UInt64($0) } ?? 0
            }
        }
    }

    static func - (a: ProcessUsage, b: ProcessUsage) -> ProcessUsage {
        var difference = a
        difference.cpuNs -= min(a.cpuNs, b.cpuNs)
        difference.switches -= min(a.switches, b.switches)
        return difference
    }
}
