import Foundation
import Testing

/// `sluice simulate` as a stranger runs it.
@Suite struct CLISimulateTests {
    @Test func `seeds are run in processes and summed up, equal ones alike`() throws {
        let arguments = [
            "simulate", "--seeds", "1..3", "--minutes", "0.05", "--digests", "--coverage",
            "--jobs", "2",
        ]
        let first = try CommandLineTool.run(arguments, seconds: 300)
        #expect(first.status == 0, "\(first.output) \(first.errors)")
        #expect(first.output.hasPrefix("SEED=1..3\n"))
        #expect(first.output.contains("3 of 3 seeds passed"))
        #expect(first.output.contains("never reached:"))
        // Other processes, with other hash seeds: whatever iterates a dictionary shows here.
        func digests(_ run: CommandLineTool.Run) -> [Substring] {
            Array(run.output.split(separator: "\n").dropFirst().prefix(3))
        }
        let again = try CommandLineTool.run(arguments, seconds: 300)
        #expect(digests(first) == digests(again))
        #expect(digests(first).count == 3)
    }

    @Test func `a replay shows every node's last events`() throws {
        let run = try CommandLineTool.run(
            ["simulate", "--replay", "2", "--minutes", "0.03", "--clients", "2"], seconds: 300)
        #expect(run.status == 0, "\(run.errors)")
        #expect(run.output.hasPrefix("SEED=2\n"))
        for part in ["SEED=2 passed", "-- mdt0", "-- ost1", "-- client-1", "connected, version"] {
            #expect(run.output.contains(part), "\(part)")
        }
    }

    @Test func `a run that would not end is stopped by the limit on wall time and says so`() throws
    {
        let run = try CommandLineTool.run(
            [
                "simulate", "--seeds", "1", "--minutes", "100000", "--rate", "1000", "--wall", "2",
            ], seconds: 300)
        #expect(run.status == 2)
        #expect(run.output.contains("SEED=1 stopped by a limit: 2.0 s of wall time"))
    }

    @Test func `the simulator's speed is measured in both cases, and with nothing else`() throws {
        let mixed = try CommandLineTool.run(
            ["simulate", "--measure", "--replay", "3"], seconds: 60)
        #expect(mixed.status != 0)
        #expect(mixed.errors.contains("--measure takes --seeds and --wall alone"))
        let run = try CommandLineTool.run(
            ["simulate", "--measure", "--seeds", "1", "--wall", "1"], seconds: 300)
        for part in ["cluster-seconds a wall second", "events a wall second", "an operation"] {
            #expect(run.output.contains(part), "\(part)")
        }
    }

    @Test func `one upgrade with a thousand clients is measured against a stated network`() throws {
        let run = try CommandLineTool.run(["simulate", "--clients", "1000"], seconds: 600)
        #expect(run.status == 0, "\(run.output) \(run.errors)")
        for part in ["model:", "gate shut", "pause of an update", "0 updates lost, 0 repeated"] {
            #expect(run.output.contains(part), "\(part)")
        }
    }
}
