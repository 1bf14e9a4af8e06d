internal import Primitives
internal import WireFormat

// The transition table. Every pair of state and input has its arm; it stands in three parts, by who
// speaks, because one switch over all pairs is more than the compiler checks for completeness.
extension UpgradeTarget {
    mutating func take(
        _ input: Input, now: Ticks, into actions: inout Outbox<Action>
    ) throws(UpgradeFault) -> StepOutcome {
        switch input {
        case .start, .abort, .proceed:
            return try takeOrder(input, now: now, into: &actions)
        case .clientAdmitted, .clientGone, .receipt, .progress, .noticeDelivered,
            .commitNoticeDelivered:
            return try takeClient(input, now: now, into: &actions)
        case .exclusiveGranted, .exclusiveReleased, .backlogCommitted, .recordCommitted,
            .recordFailed, .recordWithdrawn, .tick:
            return try takeOwn(input, now: now, into: &actions)
        }
    }

    /// What an operator says.
    private mutating func takeOrder(
        _ input: Input, now: Ticks, into actions: inout Outbox<Action>
    ) throws(UpgradeFault) -> StepOutcome {
        switch (state, input) {
        // Orders.
        case (_, .start(let start, _)) where start.action == .abort:
            return try takeOrder(.abort(.operator), now: now, into: &actions)
        case (_, .start(let start, _)) where start.action == .proceed:
            return try takeOrder(.proceed, now: now, into: &actions)
        case (.serving, .start(let start, _)) where start.action == .finalize:
            // The owner does it: it is of the store.
            return .dropped(.notAsked)
        case (_, .start(let start, _)) where start.action == .finalize:
            actions.append(.refused(.notServing(phase)))
            return .taken
        case (.serving, .start(let start, let isRecovering)):
            return begin(start, isRecovering: isRecovering, now: now, into: &actions)
        case (.announced(let epoch), .start(let start, _)),
            (.gathering(let epoch), .start(let start, _)),
            (.committing(let epoch), .start(let start, _)),
            (.sealed(let epoch), .start(let start, _)),
            (.held(let epoch), .start(let start, _)),
            (.committed(let epoch), .start(let start, _)),
            (.stopped(let epoch), .start(let start, _)):
            // The same order again (its sender died, or its reply was lost) gets the same answer.
            let isSame = plan?.start == start
            actions.append(isSame ? .accepted(epoch) : .refused(.busy(phase, epoch)))
            return isSame ? .dropped(.duplicate) : .taken
        case (.aborting(let epoch), .start), (.withdrawing(let epoch, _), .start):
            actions.append(.refused(.busy(phase, epoch)))
            return .taken

        case (.held(let epoch), .proceed):
            plan?.start.holds = false
            actions.append(.accepted(epoch))
            commit(epoch, now: now, into: &actions)
            return .taken
        case (.announced(let epoch), .proceed), (.gathering(let epoch), .proceed),
            (.committing(let epoch), .proceed), (.sealed(let epoch), .proceed),
            (.committed(let epoch), .proceed), (.stopped(let epoch), .proceed):
            // It will not wait; or does not, or has not.
            plan?.start.holds = false
            actions.append(.accepted(epoch))
            return .taken
        case (.serving, .proceed), (.aborting, .proceed), (.withdrawing, .proceed):
            actions.append(.refused(.nothingToProceed(phase)))
            return .taken

        case (.announced(let epoch), .abort(let reason)),
            (.gathering(let epoch), .abort(let reason)),
            (.committing(let epoch), .abort(let reason)):
            abort(epoch, reason, now: now, into: &actions)
            return .taken
        case (.held(let epoch), .abort(let reason)):
            withdraw(epoch, reason, now: now, into: &actions)
            return .taken
        case (.committed(let epoch), .abort(let reason))
        where mutation.is(.abortOutOfCommitted):
            abort(epoch, reason, now: now, into: &actions)
            return .taken
        case (.sealed(let epoch), .abort), (.committed(let epoch), .abort),
            (.stopped(let epoch), .abort):
            actions.append(.refused(.pointOfNoReturn(phase, epoch)))
            return .taken
        case (.serving, .abort):
            actions.append(.refused(.nothingToAbort(.serving)))
            return .taken
        case (.aborting, .abort), (.withdrawing, .abort):
            return .dropped(.duplicate)

        case (_, .clientAdmitted), (_, .clientGone), (_, .receipt), (_, .progress),
            (_, .noticeDelivered), (_, .commitNoticeDelivered), (_, .exclusiveGranted),
            (_, .exclusiveReleased), (_, .backlogCommitted), (_, .recordCommitted),
            (_, .recordFailed), (_, .recordWithdrawn), (_, .tick):
            preconditionFailure("no order")
        }
    }

    /// What clients say, and what becomes of them.
    private mutating func takeClient(
        _ input: Input, now: Ticks, into actions: inout Outbox<Action>
    ) throws(UpgradeFault) -> StepOutcome {
        switch (state, input) {
        // Clients come and go.
        case (.serving, .clientAdmitted(let client, let hasFeature, let isReconnect)),
            (.announced, .clientAdmitted(let client, let hasFeature, let isReconnect)),
            (.gathering, .clientAdmitted(let client, let hasFeature, let isReconnect)),
            (.committing, .clientAdmitted(let client, let hasFeature, let isReconnect)),
            (.aborting, .clientAdmitted(let client, let hasFeature, let isReconnect)):
            return try admit(
                client, hasFeature: hasFeature, isReconnect: isReconnect, now: now, into: &actions)
        case (.sealed, .clientAdmitted(let client, let hasFeature, let isReconnect)),
            (.held, .clientAdmitted(let client, let hasFeature, let isReconnect)),
            (.withdrawing, .clientAdmitted(let client, let hasFeature, let isReconnect)),
            (.committed, .clientAdmitted(let client, let hasFeature, let isReconnect)):
            // No lock changes any more and nothing is written: only the answer is known.
            return try admitSealed(client, hasFeature: hasFeature, isReconnect: isReconnect)
        case (.stopped, .clientAdmitted):
            return .dropped(.late)

        case (.serving, .clientGone(let client)), (.announced, .clientGone(let client)),
            (.gathering, .clientGone(let client)), (.committing, .clientGone(let client)),
            (.sealed, .clientGone(let client)), (.held, .clientGone(let client)),
            (.withdrawing, .clientGone(let client)), (.aborting, .clientGone(let client)):
            guard isKnown(client) else { return .dropped(.unknownClient) }
            vacate(client)
            settleAnnouncement(now: now, into: &actions)
            return .taken
        case (.committed(let epoch), .clientGone(let client)):
            guard isKnown(client) else { return .dropped(.unknownClient) }
            noteAnswered(client)
            vacate(client)
            stopIfAnswered(epoch, now: now, into: &actions)
            return .taken
        case (.stopped, .clientGone):
            return .dropped(.late)

        // Receipts.
        case (.announced(let epoch), .receipt(let client, let receipt)),
            (.gathering(let epoch), .receipt(let client, let receipt)):
            return takeReceipt(receipt, of: client, in: epoch, now: now, into: &actions)
        case (.serving, .receipt(let client, _)), (.aborting, .receipt(let client, _)):
            // The upgrade it speaks of was given up. Say so again: the grant may be lost.
            guard isKnown(client) else { return .dropped(.unknownClient) }
            guard clients[Int(client)].standing != .synchronous else {
                return .dropped(.notTakingPart)
            }
            actions.append(.grant(client: client, lastEpoch))
            return .dropped(.late)
        case (.committing, .receipt(let client, _)):
            guard isKnown(client) else { return .dropped(.unknownClient) }
            return .dropped(clients[Int(client)].standing == .leftBehind ? .leftBehind : .duplicate)
        case (.sealed, .receipt), (.held, .receipt), (.withdrawing, .receipt),
            (.committed, .receipt), (.stopped, .receipt):
            return .dropped(.late)

        case (.announced(let epoch), .progress(let client, let named)),
            (.gathering(let epoch), .progress(let client, let named)):
            return noteProgress(of: client, epoch, named, now: now, into: &actions)
        case (.serving, .progress), (.committing, .progress), (.sealed, .progress),
            (.held, .progress), (.withdrawing, .progress), (.committed, .progress),
            (.stopped, .progress), (.aborting, .progress):
            return .dropped(.late)

        case (.announced(let epoch), .noticeDelivered(let client, let named)),
            (.gathering(let epoch), .noticeDelivered(let client, let named)):
            return noteDelivery(to: client, epoch, named, now: now, into: &actions)
        case (.serving, .noticeDelivered), (.committing, .noticeDelivered),
            (.sealed, .noticeDelivered), (.held, .noticeDelivered),
            (.withdrawing, .noticeDelivered), (.committed, .noticeDelivered),
            (.stopped, .noticeDelivered), (.aborting, .noticeDelivered):
            return .dropped(.late)

        // The commit notices.
        case (.committed(let epoch), .commitNoticeDelivered(let client, let named)):
            guard named == epoch else { return .dropped(.staleEpoch) }
            guard isKnown(client) else { return .dropped(.unknownClient) }
            guard noteAnswered(client) else { return .dropped(.duplicate) }
            stopIfAnswered(epoch, now: now, into: &actions)
            return .taken
        case (.stopped, .commitNoticeDelivered):
            return .dropped(.late)
        case (.serving, .commitNoticeDelivered), (.announced, .commitNoticeDelivered),
            (.gathering, .commitNoticeDelivered), (.committing, .commitNoticeDelivered),
            (.sealed, .commitNoticeDelivered), (.held, .commitNoticeDelivered),
            (.withdrawing, .commitNoticeDelivered), (.aborting, .commitNoticeDelivered):
            return .dropped(.notAsked)

        case (_, .start), (_, .abort), (_, .proceed), (_, .exclusiveGranted),
            (_, .exclusiveReleased), (_, .backlogCommitted), (_, .recordCommitted),
            (_, .recordFailed), (_, .recordWithdrawn), (_, .tick):
            preconditionFailure("not of a client")
        }
    }

    /// What the lock server, the store and the clock say.
    private mutating func takeOwn(
        _ input: Input, now: Ticks, into actions: inout Outbox<Action>
    ) throws(UpgradeFault) -> StepOutcome {
        switch (state, input) {
        // The lock server.
        case (.announced(let epoch), .exclusiveGranted), (.gathering(let epoch), .exclusiveGranted):
            // Invariant B, in our own books: they are ahead of the lock server's.
            guard grantedCount == 0, plan?.isPreflushing == false else {
                throw fault("exclusiveGranted")
            }
            enter(.committing(epoch), now: now)
            actions.append(.report(.allPrepared, at: now))
            actions.append(.commitBeforeReply(true))
            if mutation.is(.sealBeforeBacklog) {
                seal(epoch, now: now, into: &actions)
            } else {
                actions.append(.commitNow)
            }
            return .taken
        case (.aborting, .exclusiveGranted), (.serving, .exclusiveGranted):
            return .dropped(.late)
        case (.committing, .exclusiveGranted), (.sealed, .exclusiveGranted),
            (.held, .exclusiveGranted), (.withdrawing, .exclusiveGranted),
            (.committed, .exclusiveGranted), (.stopped, .exclusiveGranted):
            return .dropped(.duplicate)

        case (.aborting, .exclusiveReleased):
            enter(.serving, now: now)
            actions.append(.report(.serving, at: now))
            return .taken
        case (.serving, .exclusiveReleased):
            return .dropped(.duplicate)
        case (.announced, .exclusiveReleased), (.gathering, .exclusiveReleased),
            (.committing, .exclusiveReleased), (.sealed, .exclusiveReleased),
            (.held, .exclusiveReleased), (.withdrawing, .exclusiveReleased),
            (.committed, .exclusiveReleased), (.stopped, .exclusiveReleased):
            // EX is kept until the instance ends: nobody may have taken it.
            throw fault("exclusiveReleased")

        // The store.
        case (.committing(let epoch), .backlogCommitted):
            actions.append(.report(.backlogCommitted, at: now))
            seal(epoch, now: now, into: &actions)
            return .taken
        case (.serving, .backlogCommitted), (.announced, .backlogCommitted),
            (.gathering, .backlogCommitted), (.aborting, .backlogCommitted):
            return .dropped(.late)
        case (.sealed, .backlogCommitted), (.held, .backlogCommitted),
            (.withdrawing, .backlogCommitted), (.committed, .backlogCommitted),
            (.stopped, .backlogCommitted):
            return .dropped(.duplicate)

        case (.sealed(let epoch), .recordCommitted(let lastCommitted)):
            self.lastCommitted = lastCommitted
            guard plan?.start.holds == true else {
                commit(epoch, now: now, into: &actions)
                return .taken
            }
            enter(.held(epoch), now: now)
            actions.append(.report(.held, at: now))
            return .taken
        case (.held, .recordCommitted), (.withdrawing, .recordCommitted),
            (.committed, .recordCommitted), (.stopped, .recordCommitted):
            return .dropped(.duplicate)
        case (.serving, .recordCommitted), (.announced, .recordCommitted),
            (.gathering, .recordCommitted), (.committing, .recordCommitted),
            (.aborting, .recordCommitted):
            // A record on disk under a target that executes: the next start would believe it.
            throw fault("recordCommitted")

        case (.sealed(let epoch), .recordFailed):
            // Nobody has been told, nothing was written: the one way back from here.
            actions.append(.unseal)
            abort(epoch, .recordFailed, now: now, into: &actions)
            return .taken
        case (.serving, .recordFailed), (.announced, .recordFailed), (.gathering, .recordFailed),
            (.committing, .recordFailed), (.aborting, .recordFailed):
            return .dropped(.late)
        case (.held, .recordFailed), (.withdrawing, .recordFailed), (.committed, .recordFailed),
            (.stopped, .recordFailed):
            throw fault("recordFailed")

        case (.withdrawing(let epoch, let reason), .recordWithdrawn):
            actions.append(.unseal)
            abort(epoch, reason, now: now, into: &actions)
            return .taken
        case (.serving, .recordWithdrawn), (.aborting, .recordWithdrawn):
            return .dropped(.duplicate)
        case (.announced, .recordWithdrawn), (.gathering, .recordWithdrawn),
            (.committing, .recordWithdrawn), (.sealed, .recordWithdrawn),
            (.held, .recordWithdrawn), (.committed, .recordWithdrawn),
            (.stopped, .recordWithdrawn):
            throw fault("recordWithdrawn")

        // Time.
        case (.announced(let epoch), .tick), (.gathering(let epoch), .tick):
            return judgeTime(epoch, now: now, into: &actions)
        case (.committing(let epoch), .tick):
            guard let reason = overdue(now: now) else { return .dropped(.nothingDue) }
            abort(epoch, reason, now: now, into: &actions)
            return .taken
        case (.held(let epoch), .tick):
            guard let reason = overdue(now: now) else { return .dropped(.nothingDue) }
            withdraw(epoch, reason, now: now, into: &actions)
            return .taken
        case (.committed(let epoch), .tick):
            guard now >= acknowledgementEnd else { return .dropped(.nothingDue) }
            stop(epoch, now: now, into: &actions)
            return .taken
        case (.serving, .tick), (.sealed, .tick), (.withdrawing, .tick), (.stopped, .tick),
            (.aborting, .tick):
            return .dropped(.nothingDue)

        case (_, .start), (_, .abort), (_, .proceed), (_, .clientAdmitted), (_, .clientGone),
            (_, .receipt), (_, .progress), (_, .noticeDelivered), (_, .commitNoticeDelivered):
            preconditionFailure("not the target's own")
        }
    }
}
