import Primitives
import Testing
@testable import UpgradeCore
import WireFormat

@Suite struct RandomRunTests {
    /// Options that a seed decides.
    static func options(_ seed: UInt64) -> World.Options {
        var random = SplitMix64(seed: seed &* 77 &+ 5)
        var options = World.Options()
        options.clientCount = 1 + random.below(4)
        if random.oneIn(3) { options.featureless = [random.below(options.clientCount)] }
        options.operationsMax = 2 + random.below(6)
        options.crashBudget = random.below(3)
        options.connectionLossBudget = random.below(4)
        options.duplicateBudget = random.below(4)
        options.deathBudget = random.oneIn(4) ? 1 : 0
        options.abortBudget = random.below(3)
        options.upgradeBudget = 1 + random.below(3)
        options.start.scheme = random.oneIn(5) ? .sync : .drain
        options.start.cachePolicy = [.keep, .flush, .clean][random.below(3)]
        options.start.deadlinePolicy = [.wait, .leaveBehind, .abort][random.below(3)]
        if random.oneIn(3) { options.start.preflushMs = 2_000 }
        if random.oneIn(4) { options.start.holds = true }
        if random.oneIn(8) { options.start.pauseBudgetMs = 4_000 }
        return options
    }

    @Test(arguments: 0..<30)
    func `no seed breaks a rule, and every gate opens again when faults stop`(block: UInt64) {
        for seed in (block * 100)..<(block * 100 + 100) {
            let world = World.run(seed: seed, Self.options(seed))
            #expect(world.violation == nil, "SEED=\(seed): \(world.violation ?? "")")
        }
    }

    @Test func `upgrades do come to their end`() {
        var committed = 0
        for seed in 0..<100 as Range<UInt64> {
            var options = Self.options(seed)
            options.abortBudget = 0
            committed += World.run(seed: seed, options).committedUpgrades
        }
        #expect(committed >= 80)
    }

    @Test func `equal seeds give equal runs`() {
        let one = World.run(seed: 7, Self.options(7))
        let other = World.run(seed: 7, Self.options(7))
        #expect(one.now == other.now)
        #expect(one.target?.machine.history.entries == other.target?.machine.history.entries)
        #expect(one.clients[0].machine.history.entries == other.clients[0].machine.history.entries)
    }
}
