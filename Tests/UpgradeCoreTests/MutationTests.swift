import Primitives
import Testing
@testable import UpgradeCore
import WireFormat

/// Every rule, switched off once: the checks of `World` must notice, within seeds that are clean
/// without it (`RandomRunTests` runs the same ones).
@Suite struct MutationTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var mutation: Mutation
        var testDescription: String { name }
    }

    static let cases: [Case] = [
        Case(name: "the target does not check", mutation: .targetDoesNotCheck),
        Case(name: "a reconnecting client waits again", mutation: .reconnectWaitsAgain),
        Case(name: "abort out of committed", mutation: .abortOutOfCommitted),
        Case(name: "tell before the disk", mutation: .tellBeforeDisk),
        Case(name: "execute after the seal", mutation: .executeAfterSeal),
        Case(name: "count absent without fencing", mutation: .countWithoutFencing),
        Case(name: "purge on any restart", mutation: .purgeOnAnyRestart),
        Case(name: "the client opens by time", mutation: .clientOpensByTime),
        Case(name: "any grant opens", mutation: .anyGrantOpens),
        Case(name: "any notice shuts", mutation: .anyNoticeShuts),
        Case(name: "an early notice is forgotten", mutation: .forgetEarlyNotice),
        Case(name: "a receipt before all is drained", mutation: .receiptBeforeDrained),
        Case(name: "the seal does not wait for other servers", mutation: .sealBeforeBacklog),
        Case(name: "upgrades never expire", mutation: .neverExpires),
        Case(name: "opens before the record is withdrawn", mutation: .opensBeforeWithdrawal),
    ]

    @Test(arguments: cases)
    func `a rule that is left out is found`(mutant: Case) {
        let seed = (0..<3_000 as Range<UInt64>).first { seed in
            var options = RandomRunTests.options(seed)
            if mutant.mutation == .targetDoesNotCheck {
                // It takes a client that comes back with resends while the next upgrade waits.
                options.start.scheme = .drain
                options.start.deadlinePolicy = .leaveBehind
                options.connectionLossBudget = 4
                options.upgradeBudget = 3
                options.abortBudget = 0
                options.crashBudget = 0
            }
            if mutant.mutation == .forgetEarlyNotice {
                // It takes a client that is coming back, idle, in the moment of the announcement.
                options.connectionLossBudget = 5
                options.upgradeBudget = 3
                options.operationsMax = 1
                options.start.scheme = .drain
                options.start.preflushMs = 0
                options.crashBudget = 0
            }
            if mutant.mutation == .opensBeforeWithdrawal {
                options.start.holds = true
                options.crashBudget = 2
                options.abortBudget = 2
            }
            let rightful = options
            options.mutation = mutant.mutation
            return World.run(seed: seed, options).violation != nil
                && World.run(seed: seed, rightful).violation == nil
        }
        #expect(seed != nil, "no seed found: \(mutant.name)")
    }

    @Test func `a record withdrawn after the first acknowledged update is found`() {
        let seed = (0..<3_000 as Range<UInt64>).first { seed in
            var options = RandomRunTests.options(seed)
            options.withdrawsLazily = true
            return World.run(seed: seed, options).violation != nil
        }
        #expect(seed != nil)
    }
}
