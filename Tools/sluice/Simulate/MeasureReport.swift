import ArgumentParser
import Foundation
import Glibc
import Primitives
import Simulator

/// How fast the simulator is, in the two cases that it is judged by, one after the other on one core.
struct MeasureReport {
    let seeds: SeedRange
    let wall: Double

    /// What one case came to, over all seeds.
    private struct Sum {
        var virtual = 0.0
        var wall = 0.0
        var processor = 0.0
        var events: UInt64 = 0
        var operations: UInt64 = 0
        var counters = SimulatedCluster.FaultCounters()
        var failure: String?
    }

    func run() throws {
        Output.line("SEED=\(seeds.text)")
        var light = SimulationConfiguration(seed: 1)
        light.clientCount = 20
        light.serverCount = 3
        light.operationsPerSecond = 1
        light.duration = .seconds(300)
        light.hasNoFaults = true
        var full = SimulationConfiguration(seed: 1)
        full.clientCount = 20
        full.serverCount = 3
        full.operationsPerSecond = 100
        full.duration = .seconds(30)
        full.hasEveryFault = true
        let calm = measure(light)
        let storm = measure(full)
        var table = TextTable(
            "3 servers, 20 clients", "cluster-s", "wall s", "processor s", "operations", "events")
        func add(_ name: String, _ sum: Sum) {
            table.add(
                name, Self.text(sum.virtual, 0), Self.text(sum.wall, 2),
                Self.text(sum.processor, 2), "\(sum.operations)", "\(sum.events)")
        }
        add("1 operation/s each, no faults", calm)
        add("100 operations/s each, every fault", storm)
        Output.line(table.text)
        Output.line(
            "\(Self.text(calm.virtual / calm.wall, 0)) cluster-seconds a wall second "
                + "(\(Self.text(calm.virtual / calm.processor, 0)) a processor second): 1 operation/s, "
                + "no faults")
        Output.line(
            "\(Self.text(Double(storm.events) / storm.wall, 0)) events a wall second "
                + "(\(Self.text(Double(storm.events) / storm.processor, 0)) a processor second): "
                + "100 operations/s, every fault")
        let count = Double(max(1, calm.operations))
        Output.line(
            "an operation without faults: \(Self.text(Double(calm.events) / count, 1)) events, of them "
                + "\(Self.text(Double(calm.counters.deliveries) / count, 2)) arrivals with "
                + "\(Self.text(Double(calm.counters.bytes) / count, 0)) bytes, "
                + "\(Self.text(Double(calm.counters.wakes) / count, 2)) timers and "
                + "\(Self.text(Double(calm.counters.commits) / count, 2)) commits")
        for (name, sum) in [("light", calm), ("full", storm)] {
            if let failure = sum.failure { Output.line("\(name) load: \(failure)") }
        }
        if calm.failure != nil || storm.failure != nil { throw ExitCode(1) }
    }

    private func measure(_ configuration: SimulationConfiguration) -> Sum {
        var sum = Sum()
        let clock = ContinuousClock()
        for seed in seeds.seeds {
            var configuration = configuration
            configuration.seed = seed
            let (start, processor) = (clock.now, Glibc.clock())
            let deadline = start + .seconds(wall)
            let outcome = Simulation(configuration).run {
                clock.now > deadline ? "\(wall) s of wall time" : nil
            }
            let spent = (clock.now - start).components
            sum.wall += Double(spent.seconds) + Double(spent.attoseconds) / 1e18
            sum.processor += Double(Glibc.clock() - processor) / Double(CLOCKS_PER_SEC)
            sum.virtual += outcome.passed.inSeconds
            sum.events += outcome.events
            sum.operations += outcome.operations
            sum.counters.deliveries += outcome.faults.deliveries
            sum.counters.bytes += outcome.faults.bytes
            sum.counters.wakes += outcome.faults.wakes
            sum.counters.commits += outcome.faults.commits
            if let violation = outcome.violation {
                sum.failure = "SEED=\(seed) breaks: \(violation)"
            }
            if let limit = outcome.limit {
                sum.failure = "SEED=\(seed) stopped by a limit: \(limit)"
            }
        }
        return sum
    }

    private static func text(_ value: Double, _ digits: Int) -> String {
        SimulationFleet.rounded(value, digits)
    }
}
