public import Primitives
public import WireFormat

/// A client's side of its target's upgrades: when its gate is shut, what it owes, when it opens again.
///
/// One per import, of a client or of a metadata server that acts as one; without I/O. Only a grant
/// opens a gate: by a completion AST or by the reply to a connect, never by time.
public struct UpgradeClient: Sendable {
    public let configuration: Configuration
    public internal(set) var state = State.disconnected
    /// Past states, oldest first.
    public internal(set) var history = StateRing<State>()
    /// Events that were legal and of no use.
    public internal(set) var droppedCount: UInt64 = 0

    /// The deliberate bug, where a test asks for one.
    public var mutation = Mutation.none

    /// The newest epoch that was announced to us, and whether only its pre-flush was.
    var seen = UpgradeEpoch.none
    var isSeenAsPreflush = false
    /// Upgrades up to this one are over: a grant said so. Never taken back, for epochs are not.
    var ended = UpgradeEpoch.none
    /// The notice of the upgrade in hand. Nil where only a trailer told of it.
    public internal(set) var notice: UpgradeNotice?
    /// A notice that came before we knew the lock as granted: applied when the import is FULL.
    var earlyNotice: UpgradeNotice?
    /// What the last reply to a connect said.
    var admission = AdmissionState.none
    var admissionEpoch = UpgradeEpoch.none
    /// The instance that we are or were connected to.
    public internal(set) var targetInstance: UInt64 = 0
    public internal(set) var isReceiptDelivered = false
    /// Bytes written back for the upgrade in hand: what the receipt says.
    public internal(set) var flushedBytes: UInt64 = 0
    /// The gate is shut and nothing that passed it runs any more.
    var isDrained = false
    /// Where the target said that it will come back.
    public internal(set) var next = NID(rawValue: 0)
    @usableFromInline var progressDue = Ticks.distantFuture
    /// For one mutation only: when a client without patience would open.
    @usableFromInline var impatientAt = Ticks.distantFuture

    public init(
        configuration: Configuration = Configuration(), mutation: Mutation = .none
    ) {
        self.configuration = configuration
        self.mutation = mutation
        history.note(.disconnected, at: .zero)
    }

    /// Invariant A, the client's half: a new update may begin for this target.
    @inlinable
    public var isGateOpen: Bool { if case .open = state { true } else { false } }

    /// The upgrade that the gate is shut for; `.none` where it is not shut for one.
    public var epoch: UpgradeEpoch {
        switch state {
        case .disconnected, .connecting, .replaying, .open: .none
        case .closing(let epoch), .prepared(let epoch), .committed(let epoch): epoch
        }
    }

    /// The newest upgrade that this client was told of: stands in its connect request.
    public var newestEpoch: UpgradeEpoch { max(seen, ended) }

    /// When `tick` is due next.
    public var nextDeadline: Ticks? { due == .distantFuture ? nil : due }

    /// The same; `distantFuture` where nothing is due.
    @inlinable
    public var due: Ticks { min(progressDue, impatientAt) }

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
