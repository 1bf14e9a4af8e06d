public import Primitives
public import WireFormat

extension UpgradeClient {
    /// Times that are the client's own affair.
    public struct Configuration: Sendable, Equatable {
        /// Between two progress messages of a client that is preparing.
        public var progressInterval: TickInterval

        public init(progressInterval: TickInterval = .seconds(1)) {
            self.progressInterval = progressInterval
        }
    }

    /// Where a client stands with one target.
    public enum State: Equatable, Sendable {
        case disconnected
        case connecting
        /// Connected: opens, transactions and locks are being replayed, resends are under way.
        case replaying
        /// The gate is open: admission granted, no notice pending, import FULL.
        case open
        /// The gate is shut; what had passed it finishes, the cache is flushed by policy.
        case closing(UpgradeEpoch)
        /// Nothing that was sent can need to be sent again; waits.
        case prepared(UpgradeEpoch)
        /// All is on disk; nothing is kept for replay. Waits for the next instance.
        case committed(UpgradeEpoch)
    }

    /// What a client is told.
    public enum Input: Equatable, Sendable {
        /// A blocking AST of the admission lock. `ast` names the AST for the answer; `isIdle`: no
        /// operation has passed the gate and still runs, no request is in flight, every other AST
        /// received is settled, and there is nothing that the notice's policy would flush.
        case notice(UpgradeNotice, ast: UInt64?, isIdle: Bool)
        /// What stood behind a reply of the target.
        case trailer(ReplyTrailer)
        /// What `drain` asked for has come true.
        case operationsDrained(UpgradeEpoch)
        /// Nothing is left at this moment that `flush` asked for, and every request was answered.
        case flushed(UpgradeEpoch, bytes: UInt64)
        /// The target answered the enqueue that carried the receipt: "waiting".
        case receiptDelivered(UpgradeEpoch)
        /// A completion AST with a grant: the gates of this epoch and all before it are lifted.
        case granted(UpgradeEpoch)
        case commitNotice(CommitNotice)
        case disconnected
        case connectStarted
        case connected(ConnectReply)
        /// Replay and resends are done: the import is FULL again.
        case recovered
        /// The import left the target by itself, since nobody wanted it.
        case left
        case targetUp(TargetUp)
        /// Time has passed: see `nextDeadline`.
        case tick
    }

    /// What a client has done for it, in this order.
    public enum Action: Equatable, Sendable {
        case shutGate
        case openGate
        /// Say `operationsDrained` as soon as no operation that passed the gate runs, no request is in
        /// flight, and every other AST received is settled. A waiting lock is not in flight.
        case drain(UpgradeEpoch)
        /// Treat the cache by policy, then say `flushed`. Never asked for with `keep`.
        case flush(UpgradeEpoch, CachePolicy)
        /// With an AST: the receipt is the AST's reply. Without: cancel CR and enqueue a new one, in
        /// one message, with the receipt; repeat it until it is answered.
        case giveReceipt(UpgradeEpoch, ast: UInt64?)
        /// Answer the AST without a receipt.
        case answerAST(UInt64)
        case sendProgress(UpgradeEpoch)
        /// Drop saved requests up to this transno: they are on disk. Keep what never got a reply.
        case purgeSaved(upTo: Transno)
        /// Connect to where the target will come back; its answer is the push.
        case preconnect(NID)
        /// Connect now: the target serves (here, where known).
        case reconnect(NID)
    }
}
