public import Primitives
public import WireFormat

extension UpgradeTarget {
    /// Where this target stands, as others are told.
    public var phase: UpgradePhase {
        switch state {
        case .serving: .serving
        case .announced: .announced
        case .gathering: .gathering
        case .committing: .committing
        case .sealed: .sealed
        case .held: .held
        case .committed: .committed
        case .stopped: .stopped
        case .aborting, .withdrawing: .aborting
        }
    }

    /// The upgrade in hand; `.none` while serving.
    public var epoch: UpgradeEpoch {
        switch state {
        case .serving: .none
        case .announced(let epoch), .gathering(let epoch), .committing(let epoch),
            .sealed(let epoch), .held(let epoch), .withdrawing(let epoch, _),
            .committed(let epoch), .stopped(let epoch), .aborting(let epoch):
            epoch
        }
    }

    /// The newest upgrade that this instance has announced: it names what a grant ends.
    public var lastEpoch: UpgradeEpoch { UpgradeEpoch(instance: instance, counter: counter) }

    /// The order in hand or the last one.
    public var order: UpgradeStart? { plan?.start }

    /// Clients that still hold their admission lock.
    public var unpreparedCount: Int { grantedCount }

    /// Where the target will come back, as far as its operator said.
    public var next: NID { plan?.start.next ?? NID(rawValue: 0) }

    /// The notice of the upgrade in hand, with the time that is left; nil where clients are not gated.
    public func notice(now: Ticks) -> UpgradeNotice? {
        guard let plan, plan.start.scheme == .drain else { return nil }
        switch state {
        case .serving, .aborting, .withdrawing: return nil
        case .announced, .gathering, .committing, .sealed, .held, .committed, .stopped: break
        }
        let deadline = plan.acceptedAt + .milliseconds(UInt64(plan.start.deadlineMs))
        return UpgradeNotice(
            epoch: epoch, scheme: plan.start.scheme, cachePolicy: plan.start.cachePolicy,
            deadlinePolicy: plan.start.deadlinePolicy,
            isPreflush: plan.isPreflushing,
            deadlineMs: UInt32(clamping: (deadline - now).nanoseconds / 1_000_000),
            expectedPauseMs: plan.start.expectedPauseMs, next: plan.start.next,
            readPolicy: plan.start.readPolicy)
    }

    /// What the reply to this client's connect says. Feed `clientAdmitted` first.
    public func admission(for client: UInt32, now: Ticks) -> Admission {
        let state = admissionState(of: client)
        let isGated = isExclusiveQueued && state != .none
        return Admission(
            state: state, epoch: isGated ? epoch : .none, notice: isGated ? notice(now: now) : nil)
    }

    /// Where the client stands in the queue of the admission lock.
    public func admissionState(of client: UInt32) -> AdmissionState {
        guard isKnown(client) else { return .none }
        switch clients[Int(client)].standing {
        case .vacant, .synchronous: return .none
        case .granted: return isExclusiveQueued ? .revoking : .granted
        case .prepared, .bornPrepared, .leftBehind:
            switch state {
            case .committed, .stopped: return .committed
            case .serving, .announced, .gathering, .committing, .sealed, .held, .withdrawing,
                .aborting:
                return .waiting
            }
        }
    }

    /// What stands behind every reply to this client: nil while no gate is to be shut.
    public func trailer(for client: UInt32) -> ReplyTrailer? {
        guard isExclusiveQueued else { return nil }
        let state = admissionState(of: client)
        return state == .none ? nil : ReplyTrailer(epoch: epoch, admission: state)
    }

    /// Invariant A's check, to be asked where a transno would be assigned.
    public func verdict(for client: UInt32, _ request: RequestClass) -> Verdict {
        if mutation.is(.executeAfterSeal), isKnown(client) {
            switch state {
            case .sealed, .held, .withdrawing, .committed: return .execute
            case .serving, .announced, .gathering, .committing, .stopped, .aborting: break
            }
        }
        switch state {
        case .sealed, .held, .withdrawing, .committed, .stopped:
            return .leaveForNext
        case .serving, .aborting, .announced, .gathering, .committing:
            break
        }
        guard isKnown(client) else { return .refuse }
        if mutation.is(.targetDoesNotCheck) { return .execute }
        switch clients[Int(client)].standing {
        case .vacant:
            return .refuse
        case .synchronous:
            return state == .serving ? .execute : .executeAndCommit
        case .granted:
            // In `sync` everybody keeps the lock; in `drain` nobody has it when EX is granted.
            if case .committing = state { return .executeAndCommit }
            return .execute
        case .prepared, .bornPrepared:
            return request == .flush ? .executeAndCommit : .refuse
        case .leftBehind:
            return mutation.is(.countWithoutFencing) ? .execute : .leaveForNext
        }
    }

    /// Whether this client may begin an update here now.
    public func mayExecuteUpdate(_ client: UInt32) -> Bool {
        switch verdict(for: client, .update) {
        case .execute, .executeAndCommit: true
        case .refuse, .leaveForNext: false
        }
    }

    /// `verdict`, with the promise noted that a refusal makes: the client will be woken.
    public mutating func judge(_ client: UInt32, _ request: RequestClass) -> Verdict {
        let verdict = verdict(for: client, request)
        switch verdict {
        case .execute, .executeAndCommit: break
        case .refuse, .leaveForNext:
            if isKnown(client) { clients[Int(client)].isOwedWakeUp = true }
        }
        return verdict
    }

    /// Whether a refused client still waits to be told that it may try again.
    public func owesWakeUp(_ client: UInt32) -> Bool {
        isKnown(client) && clients[Int(client)].isOwedWakeUp
    }

    /// Whether `broadcast` means this client: it waits, or would if its lock had not been taken.
    public func isTold(_ client: UInt32) -> Bool {
        guard isKnown(client) else { return false }
        switch clients[Int(client)].standing {
        case .prepared, .bornPrepared, .leftBehind: return true
        case .vacant, .synchronous, .granted: return false
        }
    }

    /// One more than the highest client index in use or used.
    public var clientSlotCount: Int { clients.count }

    /// A client's standing; `vacant` for an index that nobody has.
    public func standing(of client: UInt32) -> Standing {
        isKnown(client) ? clients[Int(client)].standing : .vacant
    }

    /// The receipt that counts for the upgrade in hand.
    public func receipt(of client: UInt32) -> UpgradeReceipt? {
        isKnown(client) ? clients[Int(client)].receipt : nil
    }

    /// A client's account; nil for an index that nobody has.
    public func status(of client: UInt32) -> ClientStatus? {
        guard isKnown(client) else { return nil }
        let entry = clients[Int(client)]
        return ClientStatus(
            client: client, standing: entry.standing, admission: admissionState(of: client),
            isCountedOut: state != .serving && entry.standing.isCountedOut,
            isNoticeDelivered: entry.isNoticeDelivered, isFlushed: entry.isFlushed,
            isOwedWakeUp: entry.isOwedWakeUp, receipt: entry.receipt,
            receiptAt: entry.receipt == nil ? nil : entry.receiptAt, lastHeard: entry.lastHeard,
            reason: reason(entry))
    }

    private func reason(_ entry: Client) -> String {
        switch entry.standing {
        case .vacant: "gone"
        case .synchronous: "without the upgrade feature: commits before every reply"
        case .prepared: "prepared: nothing to resend"
        case .bornPrepared: "connected during the upgrade: never had anything to resend"
        case .leftBehind: "gave no receipt before the deadline: left behind, its record is kept"
        case .granted:
            if !isExclusiveQueued {
                plan?.isPreflushing == true && state != .serving
                    ? (entry.isFlushed ? "flushed, gate open" : "flushing, gate open") : "serving"
            } else if entry.isNoticeDelivered {
                "has the notice and is preparing"
            } else {
                "has not answered the notice"
            }
        }
    }

    /// When `tick` is due next.
    public var nextDeadline: Ticks? {
        guard let plan else { return nil }
        switch state {
        case .serving, .sealed, .withdrawing, .stopped, .aborting: return nil
        case .announced, .gathering:
            return min(plan.preflushEnd, plan.deadline, plan.expiry, plan.budgetEnd)
        case .committing, .held: return min(plan.expiry, plan.budgetEnd)
        case .committed: return acknowledgementEnd
        }
    }

    /// Milliseconds until the clients' time is over, and until the order is; nil while serving.
    public func timeLeft(now: Ticks) -> (deadlineMs: UInt32, expiryMs: UInt32)? {
        guard let plan, state != .serving else { return nil }
        func left(_ end: Ticks) -> UInt32 {
            end > now ? UInt32(clamping: (end - now).nanoseconds / 1_000_000) : 0
        }
        let deadline = plan.acceptedAt + .milliseconds(UInt64(plan.start.deadlineMs))
        return (left(deadline), left(plan.expiry))
    }

    /// Clients flush, the gates are open still.
    public var isPreflushing: Bool { plan?.isPreflushing == true && state != .serving }
}
