public import Primitives

/// What one run of the simulator is: with the same values, the same run.
public struct SimulationConfiguration: Sendable {
    public var seed: UInt64
    public var clientCount = 6
    /// One metadata server, and object servers: 2 to 64 in all.
    public var serverCount = 3
    /// How long load and faults last, in virtual time.
    public var duration = TickInterval.seconds(30)
    /// Operations that each client begins in a second, while none of its own is under way.
    public var operationsPerSecond = 8.0
    /// Rates that do not depend on the seed.
    public var fixedRates: [(fault: Fault, rate: Double)] = []
    /// Every fault is on, at its usual rate; otherwise the seed decides which are, and how often.
    public var hasEveryFault = false
    /// Load alone: nothing goes wrong but what `fixedRates` says.
    public var hasNoFaults = false
    /// A deliberate bug of every server and client. Without effect in a release build that was made
    /// without MUTATIONS.
    public var mutation = Mutation.none
    /// What happens last: when the faults have stopped, everything comes to its end within this.
    public var calmLimit = TickInterval.seconds(600)
    /// Happenings after which the run is given up.
    public var eventLimit: UInt64 = .max

    public init(seed: UInt64) { self.seed = seed }

    /// The faults of this run.
    public func plan() -> FaultPlan {
        var plan = FaultPlan()
        if hasEveryFault {
            plan = .every
        } else if !hasNoFaults {
            var random = SplitMix64(seed: seed ^ 0xFA17)
            for fault in Fault.allCases {
                let isOn = random.oneIn(2)
                let scale = [0.3, 1, 1, 3][random.below(4)]
                if isOn { plan[fault] = fault.usualRate * scale }
            }
        }
        for item in fixedRates { plan[item.fault] = item.rate }
        return plan
    }
}
