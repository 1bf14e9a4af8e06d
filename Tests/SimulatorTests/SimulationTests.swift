import class Foundation.ProcessInfo
import Primitives
import Simulator
import Testing

/// Whole clusters under load and faults, judged by the oracle.
@Suite struct SimulationTests {
    /// A dozen, or those of `SEEDS=first...last` in the environment.
    static let seeds: ClosedRange<UInt64> = {
        let bounds = (ProcessInfo.processInfo.environment["SEEDS"] ?? "")
            .split(separator: ".").compactMap { UInt64($0) }
        guard let first = bounds.first, let last = bounds.last, first <= last else {
            return 1...12
        }
        return first...last
    }()

    private func run(
        _ seed: UInt64, _ change: (inout SimulationConfiguration) -> Void = { _ in }
    ) -> Simulation.Outcome {
        var configuration = SimulationConfiguration(seed: seed)
        configuration.duration = .seconds(10)
        change(&configuration)
        return Simulation(configuration).run()
    }

    @Test(arguments: seeds)
    func `nothing that was promised is broken by chosen faults`(seed: UInt64) {
        let outcome = run(seed)
        if let violation = outcome.violation { Issue.record("SEED=\(seed) \(violation)") }
        #expect(outcome.limit == nil)
        #expect(outcome.operations > 50)
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `nothing that was promised is broken by all faults together`(seed: UInt64) {
        let outcome = run(seed) { $0.hasEveryFault = true }
        if let violation = outcome.violation { Issue.record("SEED=\(seed) \(violation)") }
    }

    /// Seeds that broke a promise once. What they taught stands beside them as a script; they stay
    /// because another course of events is worth as much as any.
    @Test(
        arguments: [
            62, 72, 110, 259, 279, 285, 291, 520, 667, 787, 969, 1029, 1487, 2530, 2798, 2915, 5828,
            7138, 7904, 9390, 9639,
        ] as [UInt64])
    func `a seed that failed once comes through`(seed: UInt64) {
        let outcome = run(seed) { $0.duration = .seconds(15) }
        if let violation = outcome.violation { Issue.record("SEED=\(seed) \(violation)") }
    }

    @Test(arguments: [94, 196] as [UInt64])
    func `a seed with all faults that failed once comes through`(seed: UInt64) {
        let outcome = run(seed) {
            $0.duration = .seconds(15)
            $0.hasEveryFault = true
        }
        if let violation = outcome.violation { Issue.record("SEED=\(seed) \(violation)") }
    }

    @Test(arguments: [27, 88, 98] as [UInt64])
    func `a busy seed with an upgrade every second that failed once comes through`(seed: UInt64) {
        let outcome = run(seed) {
            $0.duration = .seconds(15)
            $0.operationsPerSecond = 100
            $0.fixedRates = [(.upgrade, 60), (.batch, 0.7)]
        }
        if let violation = outcome.violation { Issue.record("SEED=\(seed) \(violation)") }
    }

    @Test(arguments: [268, 884] as [UInt64])
    func `a seed with late clients and crashes that failed once comes through`(seed: UInt64) {
        let outcome = run(seed) {
            $0.duration = .seconds(15)
            $0.operationsPerSecond = 60
            $0.fixedRates = [
                (.upgrade, 60), (.abort, 10), (.batch, 0.7), (.reset, 0.01), (.slowDisk, 0.1),
                (.hang, 10), (.crash, 8), (.oldPeer, 0.4),
            ]
        }
        if let violation = outcome.violation { Issue.record("SEED=\(seed) \(violation)") }
    }

    @Test func `what a run has reached can be told of every state`() {
        var configuration = SimulationConfiguration(seed: 1)
        configuration.duration = .seconds(5)
        let simulation = Simulation(configuration)
        _ = simulation.run()
        let rows = simulation.coverage.rows
        #expect(rows.contains { $0.name == "import FULL" && $0.count > 0 })
        #expect(Set(rows.map(\.name)).count == rows.count)
    }

    @Test func `equal seeds give equal digests and others give others`() {
        let first = run(3)
        let again = run(3)
        #expect(first.digest == again.digest)
        #expect(first.events == again.events)
        #expect(run(4).digest != first.digest)
    }

    @Test func `a timeline changes nothing of what happens`() {
        var configuration = SimulationConfiguration(seed: 8)
        configuration.duration = .seconds(3)
        let quiet = Simulation(configuration).run()
        let noted = Simulation(configuration, keepsTimeline: true)
        #expect(noted.run().digest == quiet.digest)
        #expect(noted.timeline?.text.contains("reader") == true)
    }
}
