import Foundation
import Testing

@testable import sluice

/// The stress run, short: what it does to a cluster is survived, and what it says of it is true.
@Suite(.serialized) struct CLIStressTests {
    @Test(.timeLimit(.minutes(8)), arguments: [11, 12])
    func `upgrades among kills, hangs, resets and cancellations lose nothing`(_ seed: Int) throws {
        let run = try CommandLineTool.run(
            [
                "stress", "--minutes", "2", "--upgrades", "8", "--clients", "8", "--seed",
                "\(seed)", "--fault-rate", "60", "--app-fault", "--json",
            ], seconds: 400)
        let object = try? JSONSerialization.jsonObject(with: Data(run.output.utf8))
        let report = try #require(object as? [String: Any], "\(run.errors)")
        #expect(run.status == 0, "\(run.errors) \(report)")
        #expect(run.errors.contains("SEED=\(seed)"))
        for counter in [
            "lostUpdates", "duplicatedUpdates", "corruptBytes", "clientErrors", "evictions",
        ] {
            #expect(report[counter] as? Int == 0, "\(counter): \(report)")
        }
        let incidents = try #require(report["incidents"] as? [String: Int])
        #expect(incidents["completed"] ?? 0 >= 1)
        let harm = ["kills", "standbysKilled", "hangs", "resets", "restarts"]
            .reduce(0) { $0 + (incidents[$1] ?? 0) }
        #expect(harm > 0, "\(incidents)")
    }

    @Test func `wrong arguments are named with what is right`() throws {
        for (arguments, words) in [
            (["--faults", "kill,fire"], "there is no fault 'fire'"),
            (["--minutes", "0"], "--minutes must be above 0"),
            (["--clients", "0"], "--clients must be from 1"),
            (["--upgrades", "0"], "--upgrades must be above 0"),
            (["--fault-rate", "-1"], "--fault-rate"),
        ] {
            let run = try CommandLineTool.run(["stress"] + arguments, seconds: 60)
            #expect(run.status != 0)
            #expect(run.errors.contains(words), "\(run.errors)")
        }
        let run = try CommandLineTool.run(
            ["stress", "--other-build", "/dev/null"], seconds: 60)
        #expect(run.status != 0)
        #expect(run.errors.contains("--other-build /dev/null: no program is there"))
    }
}
