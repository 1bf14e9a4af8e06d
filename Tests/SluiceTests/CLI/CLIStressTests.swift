import Foundation
import Testing

@testable import sluice

/// What the stress run says of wrong arguments; `Tools/test` runs a short one from a release build.
@Suite(.serialized) struct CLIStressTests {
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
