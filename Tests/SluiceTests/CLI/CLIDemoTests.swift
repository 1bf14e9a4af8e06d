import Foundation
import Testing

/// The demo, small: it passes on a good cluster and fails on a bad one.
@Suite(.serialized) struct CLIDemoTests {
    private func demo(_ arguments: [String]) throws -> (Int32, [String: Any], String) {
        let run = try CommandLineTool.run(
            ["demo", "--clients", "6", "--seconds", "4", "--seed", "7", "--json"] + arguments,
            seconds: 240)
        let object = try? JSONSerialization.jsonObject(with: Data(run.output.utf8))
        return (run.status, object as? [String: Any] ?? [:], run.errors)
    }

    private static let counters = [
        "lostUpdates", "duplicatedUpdates", "corruptBytes", "clientErrors", "evictions",
    ]

    @Test(.timeLimit(.minutes(5)), arguments: ["drain", "crash"])
    func `every server is upgraded under load and nothing is lost`(_ scheme: String) throws {
        let (status, report, errors) = try demo(["--scheme", scheme])
        #expect(status == 0, "\(errors) \(report)")
        for counter in Self.counters { #expect(report[counter] as? Int == 0, "\(counter)") }
        #expect(report["acknowledgedUpdates"] as? Int ?? 0 > 0)
        let upgrades = try #require(report["upgrades"] as? [[String: Any]])
        #expect(upgrades.count == 3)
        for upgrade in upgrades {
            #expect(upgrade["fromProtocol"] as? Int == 1)
            #expect(upgrade["toProtocol"] as? Int == (scheme == "drain" ? 2 : 1))
        }
        if scheme == "crash" {
            let replayed = upgrades.reduce(0) { $0 + ($1["replayed"] as? Int ?? 0) }
            #expect(replayed > 0)
        }
        // What a scheme has no moment for is left out, and not given as a number.
        for upgrade in upgrades {
            for key in ["notificationMs", "receiptMs", "preparedMs", "committedMs"] {
                #expect((upgrade[key] == nil) == (scheme == "crash"), "\(key)")
            }
            #expect((upgrade["refusal"] == nil) == (scheme == "drain"))
        }
    }

    @Test(
        .timeLimit(.minutes(5)),
        arguments: [
            ("lose", "lostUpdates"), ("repeat", "duplicatedUpdates"), ("corrupt", "corruptBytes"),
        ])
    func `a deliberate fault is found and named`(_ fault: String, _ counter: String) throws {
        let (status, report, errors) = try demo(["--break", fault])
        #expect(status == 1)
        #expect(report[counter] as? Int ?? 0 > 0, "\(errors) \(report)")
        #expect(report["injectedFaults"] as? Int ?? 0 > 0)
        #expect(report["verdict"] as? String == "failed")
    }
}
