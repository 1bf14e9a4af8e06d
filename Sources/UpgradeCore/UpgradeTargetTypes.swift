public import Primitives
public import WireFormat

extension UpgradeTarget {
    /// Times that are the target's own affair.
    public struct Configuration: Sendable, Equatable {
        /// How long a target that is done waits for the acknowledgements of its commit notices.
        public var acknowledgementBound: TickInterval

        public init(acknowledgementBound: TickInterval = .seconds(1)) {
            self.acknowledgementBound = acknowledgementBound
        }
    }

    /// Where a target stands between two instances of itself.
    public enum State: Equatable, Sendable {
        case serving
        /// The notices are on their way; with a pre-flush the gates are still open.
        case announced(UpgradeEpoch)
        /// Every holder has the notice; receipts come in.
        case gathering(UpgradeEpoch)
        /// Nobody can begin an update (scheme `drain`); what was executed goes to disk.
        case committing(UpgradeEpoch)
        /// Nothing executes any more; the clean record goes to disk.
        case sealed(UpgradeEpoch)
        /// All is on disk; the clients are not told before `proceed`. It can still be given up.
        case held(UpgradeEpoch)
        /// Given up out of `held`: the clean record is being withdrawn; the gates open after that.
        case withdrawing(UpgradeEpoch, UpgradeAbortReason)
        /// All is on disk and the clients are being told. The point of no return.
        case committed(UpgradeEpoch)
        case stopped(UpgradeEpoch)
        /// The gates are being opened again.
        case aborting(UpgradeEpoch)
    }

    /// What a target is told. Clients are named by their export's index.
    public enum Input: Equatable, Sendable {
        /// An operator's order. With `isAbort` the same as `abort(.operator)`.
        case start(UpgradeStart, isRecovering: Bool)
        case abort(UpgradeAbortReason)
        /// Wait no longer behind the seal.
        case proceed
        /// A connect is being answered. Feed it, then ask `admission(for:now:)` what the reply says.
        case clientAdmitted(client: UInt32, hasFeature: Bool, isReconnect: Bool)
        /// The export is at its end. Feed it before its locks are removed.
        case clientGone(client: UInt32)
        /// By the reply to the blocking AST or by an enqueue; of the newest connection only.
        case receipt(client: UInt32, UpgradeReceipt)
        /// The client is alive and preparing; during a pre-flush: it has flushed.
        case progress(client: UInt32, UpgradeEpoch)
        /// The blocking AST (or pre-flush notice) of this epoch was answered by the client.
        case noticeDelivered(client: UInt32, UpgradeEpoch)
        /// The lock server granted the target's own EX: every CR is cancelled.
        case exclusiveGranted
        /// The target's EX is gone: every waiting CR is granted.
        case exclusiveReleased
        /// What was executed when `commitNow` came out is on disk, and every update that it sent to
        /// other servers is committed there or logged here.
        case backlogCommitted
        /// The group with the clean record is on disk; nothing above this transno was executed.
        case recordCommitted(lastCommitted: Transno)
        /// The store says for certain that the group with the clean record was not written.
        case recordFailed
        /// The record that stood in the store is gone from the disk.
        case recordWithdrawn
        /// The client has answered its commit notice.
        case commitNoticeDelivered(client: UInt32, UpgradeEpoch)
        /// Time has passed: see `nextDeadline`.
        case tick
    }

    /// What a target has done for it, in this order.
    public enum Action: Equatable, Sendable {
        /// The order was taken (now, or when it came for the first time).
        case accepted(UpgradeEpoch)
        case refused(UpgradeRefusal)
        /// Queue EX for the target itself on its admission resource. The blocking ASTs that the lock
        /// server then wants carry `notice(now:)`.
        case enqueueExclusive(UpgradeEpoch)
        /// Give up EX, waiting or granted. Answer with `exclusiveReleased` when that is done.
        case releaseExclusive(UpgradeEpoch)
        /// Send this to every client that holds CR, as a blocking AST: flush and report.
        case sendPreflush(UpgradeNotice)
        /// Send no blocking ASTs but the admission lock's, let conflicting enqueues wait.
        case suspendBlockingASTs
        case resumeBlockingASTs
        /// Every update is (no longer) committed before its reply.
        case commitBeforeReply(Bool)
        /// Commit what was executed; answer with `backlogCommitted`.
        case commitNow
        /// From here on nothing executes and no lock changes.
        case seal
        case unseal
        /// Put the clean record into the last group; answer with `recordCommitted`.
        case writeCleanRecord(UpgradeEpoch)
        /// Delete the clean record again; answer with `recordWithdrawn` when that is on disk.
        case withdrawRecord(UpgradeEpoch)
        /// Complete every waiting admission lock without a grant.
        case broadcast(CommitNotice)
        /// Queue CR for this client: its first, or one taken from it before.
        case enqueueAdmission(client: UInt32)
        /// Its receipt counts: cancel its CR, and queue a new one behind EX in its name.
        case requeueAdmission(client: UInt32)
        /// Take this client's admission lock away. Always before `fence`.
        case takeAdmission(client: UInt32)
        /// Execute nothing of this client in this instance; its record is kept.
        case fence(client: UInt32)
        case unfence(client: UInt32)
        /// Tell every client that takes part that this upgrade and all before it gate no longer: a
        /// completion AST with the epoch, repeated until it is answered.
        case grantAll(UpgradeEpoch)
        /// The same to one client.
        case grant(client: UInt32, UpgradeEpoch)
        /// Close the store and end this instance.
        case stop(UpgradeEpoch)
        /// End this instance as a crash would; what is not committed is for the next one's recovery.
        case abandon(UpgradeEpoch)
        /// For status and measurement.
        case report(UpgradeEvent, at: Ticks)
    }

    /// Where a client stands for this target.
    public enum Standing: UInt8, Sendable, CaseIterable {
        /// No client has this index.
        case vacant
        /// Without the feature: its updates are committed before their replies.
        case synchronous
        /// Holds CR.
        case granted
        /// Gave its receipt and waits.
        case prepared
        /// Connected behind EX and waits: it never had anything to prepare.
        case bornPrepared
        /// Its lock was taken at the deadline; nothing of it executes here any more.
        case leftBehind

        /// Stands in the way of nothing.
        public var isCountedOut: Bool { self != .granted }
    }

    /// One client's account.
    public struct ClientStatus: Equatable, Sendable {
        public var client: UInt32
        public var standing: Standing
        public var admission: AdmissionState
        /// Prepared, synchronous or left behind, for the upgrade in hand.
        public var isCountedOut: Bool
        public var isNoticeDelivered: Bool
        public var isFlushed: Bool
        /// A refused update waits for a grant, a commit notice or the next instance.
        public var isOwedWakeUp: Bool
        public var receipt: UpgradeReceipt?
        public var receiptAt: Ticks?
        public var lastHeard: Ticks?
        /// Why it is where it is, in words.
        public var reason: String
    }

    /// What kind of request asks to be executed.
    @frozen
    public enum RequestClass: UInt8, Sendable, CaseIterable {
        /// A new operation that changes the store.
        case update
        /// What the shutdown itself needs: closes, write-back, cancels that write, destroys.
        case flush
        /// A request of earlier times that is sent again.
        case replay
    }

    /// What to do with a request that would take a transno.
    @frozen
    public enum Verdict: UInt8, Sendable, CaseIterable {
        case execute
        /// Execute, and hold the reply until it is committed.
        case executeAndCommit
        /// Answer "try again when woken", with a trailer; the client waits at its gate.
        case refuse
        /// Neither execute nor answer: it is the next instance's.
        case leaveForNext
    }

    /// What the reply to a connect says.
    public struct Admission: Equatable, Sendable {
        public var state: AdmissionState
        public var epoch: UpgradeEpoch
        public var notice: UpgradeNotice?
    }
}

/// Why an upgrade was given up.
public enum UpgradeAbortReason: UInt8, Sendable, CaseIterable {
    case `operator`
    /// Not every client was prepared at the deadline, and the policy says `abort`.
    case deadline
    /// It was forgotten: the expiry passed before the seal.
    case expired
    /// The clean record could not be written.
    case recordFailed
    /// Another target of the same plan was given up.
    case plan
    /// Going on would have kept clients waiting longer than the order allows.
    case pauseBudget

    /// In a sentence.
    public var words: String {
        switch self {
        case .operator: "by order"
        case .deadline: "not every client was prepared at the deadline"
        case .expired: "it had expired"
        case .recordFailed: "the clean record could not be written"
        case .plan: "another target of its plan was given up"
        case .pauseBudget: "going on would have exceeded the pause budget"
        }
    }
}

/// What an upgrade's clock is read at. See the benchmark's stamps t0...t8.
public enum UpgradeEvent: Equatable, Sendable {
    /// t0
    case accepted(UpgradeEpoch)
    /// t1: the blocking ASTs are being queued.
    case noticesQueued
    /// t4
    case receipt(client: UInt32)
    case leftBehind(client: UInt32)
    /// t5
    case allPrepared
    case backlogCommitted
    /// t6
    case sealed
    /// The clean record is on disk, and the target waits for `proceed`.
    case held
    /// The clean record is on disk, the commit notices go out.
    case committed
    /// t8
    case stopped
    case aborted(UpgradeAbortReason)
    case serving
}

/// Why an order was not taken.
public enum UpgradeRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    /// Another upgrade is going on.
    case busy(UpgradePhase, UpgradeEpoch)
    /// Recovery has to end first: not all of the earlier updates are back.
    case recovering
    /// Clients may have been told: there is only the way forward.
    case pointOfNoReturn(UpgradePhase, UpgradeEpoch)
    /// There is no upgrade to give up.
    case nothingToAbort(UpgradePhase)
    /// There is no upgrade that could go on.
    case nothingToProceed(UpgradePhase)
    /// Only a target that serves can be asked for this.
    case notServing(UpgradePhase)
    /// Without an expiry, a forgotten upgrade would never lift its gates.
    case noExpiry

    public var description: String {
        switch self {
        case .busy(let phase, let epoch):
            "upgrade \(epoch) of this target is \(phase.name): "
                + (phase.canAbort
                    ? "wait for its end, or give it up with `sluice upgrade abort`"
                    : "wait for its end")
        case .recovering:
            "this target is recovering: start the upgrade when recovery has ended"
        case .pointOfNoReturn(let phase, let epoch):
            "upgrade \(epoch) is \(phase.name) and cannot be given up: "
                + "start an instance of either build over the same store"
        case .nothingToAbort(let phase):
            "there is no upgrade to abort: this target is \(phase.name), so nothing is to be done"
        case .nothingToProceed(let phase):
            "there is no upgrade that waits: this target is \(phase.name); "
                + "begin one with `sluice upgrade start`"
        case .notServing(let phase):
            "this target is \(phase.name): ask again when it is serving"
        case .noExpiry:
            "an upgrade needs an expiry above 0 ms, so that a forgotten one ends by itself"
        }
    }
}

extension UpgradePhase {
    /// An upgrade that stands here can be given up.
    public var canAbort: Bool {
        switch self {
        case .announced, .gathering, .committing, .held: true
        case .serving, .sealed, .committed, .stopped, .aborting, .recovering, .standby, .starting:
            false
        }
    }
}
