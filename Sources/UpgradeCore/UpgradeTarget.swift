public import Primitives
internal import WireFormat

/// A target on its way from one instance to the next: announce, gate, receipts, commit, tell, stop.
///
/// One per target, without I/O. What happens to locks, store and clients comes in as inputs; what has
/// to be done goes out as actions. The table of transitions stands in the article <doc:UpgradePath>.
/// Every input is constant time, except those that end or open an upgrade (linear in clients).
public struct UpgradeTarget: Sendable {
    /// Set while an upgrade is in hand, until the next one.
    struct Plan: Sendable, Equatable {
        var start: UpgradeStart
        var acceptedAt: Ticks
        var deadline: Ticks
        var expiry: Ticks
        /// Gates are open, clients flush; EX is not queued.
        var isPreflushing: Bool
        /// When who has not flushed is judged; `distantFuture` once it is.
        var preflushEnd: Ticks
        /// When the gates began to shut; `distantFuture` before.
        var announcedAt = Ticks.distantFuture
        /// When it is given up so that no gate stays shut beyond the order's pause budget.
        var budgetEnd = Ticks.distantFuture
    }

    struct Client: Sendable {
        var standing = Standing.vacant
        var isNoticeDelivered = false
        var isFlushed = false
        var isOwedWakeUp = false
        /// It came behind the seal, where no lock can be queued.
        var lacksLock = false
        var isCommitNoticeDelivered = false
        /// Receipts up to this epoch are void: a grant came after them.
        var grantEpoch = UpgradeEpoch.none
        var receipt: UpgradeReceipt?
        var receiptAt = Ticks.zero
        var lastHeard = Ticks.zero
    }

    public let instance: UInt64
    public let configuration: Configuration
    public var sites = FaultSites()
    public internal(set) var state = State.serving
    /// Past states, oldest first.
    public internal(set) var history = StateRing<State>()
    /// Events that were legal and of no use.
    public internal(set) var droppedCount: UInt64 = 0
    /// Why the last upgrade was given up, where it was.
    public internal(set) var lastAbort: UpgradeAbortReason?

    /// The deliberate bug, where a test asks for one.
    public var mutation = Mutation.none

    var counter: UInt64 = 0
    var plan: Plan?
    var clients: [Client] = []
    /// Clients with standing `granted`; of these, those that have the notice, and have flushed.
    var grantedCount = 0
    var deliveredCount = 0
    var flushedCount = 0
    /// Waiting clients that have not answered their commit notice.
    var unansweredCount = 0
    var acknowledgementEnd = Ticks.distantFuture
    var lastCommitted = Transno.zero

    /// A target that serves. `instance` must be greater than that of every instance before it.
    public init(instance: UInt64, configuration: Configuration = Configuration()) {
        self.instance = instance
        self.configuration = configuration
        history.note(.serving, at: .zero)
    }

    /// Takes one event. Throws where the caller broke an invariant; nothing has changed then.
    @discardableResult
    public mutating func step(
        _ input: Input, now: Ticks, into actions: inout Outbox<Action>
    ) throws(UpgradeFault) -> StepOutcome {
        let outcome = try take(input, now: now, into: &actions)
        if outcome != .taken { droppedCount &+= 1 }
        return outcome
    }

    mutating func enter(_ next: State, now: Ticks) {
        state = next
        history.note(next, at: now)
    }

    func fault(_ event: StaticString) -> UpgradeFault {
        UpgradeFault(state: "\(state)", event: "\(event)")
    }
}
