internal import Primitives
internal import WireFormat

// What the arms of the transition table do.
extension UpgradeTarget {
    func isKnown(_ client: UInt32) -> Bool {
        Int(client) < clients.count && clients[Int(client)].standing != .vacant
    }

    /// EX stands in the queue: whoever connects now waits behind it.
    var isExclusiveQueued: Bool {
        switch state {
        case .serving, .aborting: false
        case .announced, .gathering, .committing, .sealed, .held, .withdrawing, .committed,
            .stopped:
            plan?.start.scheme == .drain && plan?.isPreflushing == false
        }
    }

    mutating func begin(
        _ start: UpgradeStart, isRecovering: Bool, now: Ticks, into actions: inout Outbox<Action>
    ) -> StepOutcome {
        guard !isRecovering else {
            actions.append(.refused(.recovering))
            return .taken
        }
        guard start.expiryMs > 0 else {
            actions.append(.refused(.noExpiry))
            return .taken
        }
        counter += 1
        let epoch = lastEpoch
        let deadline = TickInterval.milliseconds(UInt64(start.deadlineMs))
        // A pre-flush leaves at least half of the time for the announcement proper.
        let preflush = min(
            .milliseconds(UInt64(start.preflushMs)),
            TickInterval(nanoseconds: deadline.nanoseconds / 2))
        let hasPreflush = start.scheme == .drain && preflush > .zero && grantedCount > 0
        plan = Plan(
            start: start, acceptedAt: now, deadline: now + deadline,
            expiry: now + .milliseconds(UInt64(start.expiryMs)), isPreflushing: hasPreflush,
            preflushEnd: hasPreflush ? now + preflush : .distantFuture)
        lastAbort = nil
        for index in clients.indices { clients[index].forgetUpgrade() }
        deliveredCount = 0
        flushedCount = 0
        actions.append(.accepted(epoch))
        actions.append(.report(.accepted(epoch), at: now))
        switch start.scheme {
        case .drain:
            enter(.announced(epoch), now: now)
            if hasPreflush {
                actions.append(.sendPreflush(notice(now: now)!))
            } else {
                announce(epoch, now: now, into: &actions)
            }
        case .sync:
            // Nobody is gated: what remains is to have everything on disk, and to stay so.
            enter(.committing(epoch), now: now)
            actions.append(.commitBeforeReply(true))
            actions.append(.commitNow)
        case .crash:
            enter(.stopped(epoch), now: now)
            actions.append(.abandon(epoch))
        }
        return .taken
    }

    /// The announcement proper.
    mutating func announce(
        _ epoch: UpgradeEpoch, now: Ticks, into actions: inout Outbox<Action>
    ) {
        plan?.isPreflushing = false
        plan?.preflushEnd = .distantFuture
        plan?.announcedAt = now
        setBudget(fanOut: .zero)
        actions.append(.suspendBlockingASTs)
        actions.append(.report(.noticesQueued, at: now))
        actions.append(.enqueueExclusive(epoch))
    }

    mutating func admit(
        _ client: UInt32, hasFeature: Bool, isReconnect: Bool, now: Ticks,
        into actions: inout Outbox<Action>
    ) throws(UpgradeFault) -> StepOutcome {
        if isReconnect {
            guard isKnown(client),
                (clients[Int(client)].standing != .synchronous) == hasFeature
            else { throw fault("clientAdmitted as a reconnect of a client that is not here") }
            // Admission belongs to the export: nothing changes with the connection.
            clients[Int(client)].lastHeard = now
            if mutation.is(.reconnectWaitsAgain), isExclusiveQueued,
                clients[Int(client)].standing == .granted
            {
                setStanding(.prepared, of: client)
                actions.append(.requeueAdmission(client: client))
            }
            return .taken
        }
        guard !isKnown(client) else { throw fault("clientAdmitted for an index in use") }
        while clients.count <= Int(client) { clients.append(Client()) }
        clients[Int(client)] = Client()
        clients[Int(client)].lastHeard = now
        if !hasFeature {
            setStanding(.synchronous, of: client)
        } else {
            setStanding(isExclusiveQueued ? .bornPrepared : .granted, of: client)
            // Its gate opens with the answer: a receipt for an earlier instance, sent again to this
            // one, tells nothing of an order that comes after.
            if !mutation.is(.receiptOutlivesGrant) {
                clients[Int(client)].grantEpoch = UpgradeEpoch(
                    instance: instance, counter: counter)
            }
            actions.append(.enqueueAdmission(client: client))
        }
        return .taken
    }

    mutating func admitSealed(
        _ client: UInt32, hasFeature: Bool, isReconnect: Bool
    ) throws(UpgradeFault) -> StepOutcome {
        if isReconnect {
            guard isKnown(client),
                (clients[Int(client)].standing != .synchronous) == hasFeature
            else { throw fault("clientAdmitted as a reconnect of a client that is not here") }
            // The reply to the connect tells what a commit notice would.
            if case .committed = state { noteAnswered(client) }
            return .taken
        }
        guard !isKnown(client) else { throw fault("clientAdmitted for an index in use") }
        while clients.count <= Int(client) { clients.append(Client()) }
        clients[Int(client)] = Client()
        setStanding(hasFeature ? .bornPrepared : .synchronous, of: client)
        clients[Int(client)].lacksLock = hasFeature
        if case .committed = state { clients[Int(client)].isCommitNoticeDelivered = true }
        return .taken
    }

    mutating func takeReceipt(
        _ receipt: UpgradeReceipt, of client: UInt32, in epoch: UpgradeEpoch, now: Ticks,
        into actions: inout Outbox<Action>
    ) -> StepOutcome {
        guard isKnown(client) else { return .dropped(.unknownClient) }
        let index = Int(client)
        switch clients[index].standing {
        case .vacant: return .dropped(.unknownClient)
        case .synchronous: return .dropped(.notTakingPart)
        case .leftBehind: return .dropped(.leftBehind)
        case .prepared, .bornPrepared: return .dropped(.duplicate)
        case .granted: break
        }
        // Valid for a later epoch too, as long as no grant came between.
        guard
            receipt.epoch > clients[index].grantEpoch || mutation.is(.receiptOutlivesGrant),
            receipt.epoch <= epoch
        else {
            return .dropped(.staleEpoch)
        }
        guard isExclusiveQueued else { return .dropped(.notAsked) }
        setStanding(.prepared, of: client)
        clients[index].receipt = receipt
        clients[index].receiptAt = now
        clients[index].lastHeard = now
        clients[index].isNoticeDelivered = true
        actions.append(.report(.receipt(client: client), at: now))
        actions.append(.requeueAdmission(client: client))
        settleAnnouncement(now: now, into: &actions)
        return .taken
    }

    mutating func noteProgress(
        of client: UInt32, _ epoch: UpgradeEpoch, _ named: UpgradeEpoch, now: Ticks,
        into actions: inout Outbox<Action>
    ) -> StepOutcome {
        guard isKnown(client) else { return .dropped(.unknownClient) }
        guard named == epoch else { return .dropped(.staleEpoch) }
        let index = Int(client)
        switch clients[index].standing {
        case .vacant: return .dropped(.unknownClient)
        case .synchronous: return .dropped(.notTakingPart)
        case .leftBehind: return .dropped(.leftBehind)
        case .prepared, .bornPrepared: return .dropped(.late)
        case .granted: break
        }
        clients[index].lastHeard = now
        if isExclusiveQueued {
            if !clients[index].isNoticeDelivered {
                clients[index].isNoticeDelivered = true
                deliveredCount += 1
            }
        } else if !clients[index].isFlushed {
            clients[index].isFlushed = true
            flushedCount += 1
        }
        settleAnnouncement(now: now, into: &actions)
        return .taken
    }

    mutating func noteDelivery(
        to client: UInt32, _ epoch: UpgradeEpoch, _ named: UpgradeEpoch, now: Ticks,
        into actions: inout Outbox<Action>
    ) -> StepOutcome {
        guard isKnown(client) else { return .dropped(.unknownClient) }
        guard named == epoch else { return .dropped(.staleEpoch) }
        let index = Int(client)
        guard clients[index].standing == .granted else { return .dropped(.late) }
        clients[index].lastHeard = now
        guard isExclusiveQueued else { return .taken }
        guard !clients[index].isNoticeDelivered else { return .dropped(.duplicate) }
        clients[index].isNoticeDelivered = true
        clients[index].isOwedWakeUp = false
        deliveredCount += 1
        settleAnnouncement(now: now, into: &actions)
        return .taken
    }

    /// Moves on where nobody is missing any more.
    mutating func settleAnnouncement(now: Ticks, into actions: inout Outbox<Action>) {
        guard case .announced(let epoch) = state else { return }
        if isExclusiveQueued {
            if deliveredCount == grantedCount {
                enter(.gathering(epoch), now: now)
                if let plan { setBudget(fanOut: now - plan.announcedAt) }
            }
        } else if flushedCount == grantedCount {
            announce(epoch, now: now, into: &actions)
        }
    }

    mutating func judgeTime(
        _ epoch: UpgradeEpoch, now: Ticks, into actions: inout Outbox<Action>
    ) -> StepOutcome {
        guard let plan else { return .dropped(.nothingDue) }
        if let reason = overdue(now: now) {
            abort(epoch, reason, now: now, into: &actions)
            return .taken
        }
        var outcome = StepOutcome.dropped(.nothingDue)
        if now >= plan.preflushEnd {
            endPreflush(epoch, plan.start.deadlinePolicy, now: now, into: &actions)
            guard case .announced = state else { return .taken }
            outcome = .taken
        }
        guard now >= plan.deadline || sites.fires(.deadlineEarly) else { return outcome }
        self.plan?.deadline = .distantFuture
        switch plan.start.deadlinePolicy {
        case .wait:
            break
        case .abort:
            if grantedCount > 0 { abort(epoch, .deadline, now: now, into: &actions) }
        case .leaveBehind:
            leaveBehind(now: now, into: &actions) { _ in true }
            settleAnnouncement(now: now, into: &actions)
        }
        return .taken
    }

    /// Why it has to be given up now; nil where it has not.
    func overdue(now: Ticks) -> UpgradeAbortReason? {
        guard let plan, !mutation.is(.neverExpires) else { return nil }
        if now >= plan.expiry { return .expired }
        return now >= plan.budgetEnd ? .pauseBudget : nil
    }

    /// The gates that are shut must be open again when the budget is used up: what it takes to open
    /// them is what it took to shut them, and a quarter of the budget is kept in any case.
    mutating func setBudget(fanOut: TickInterval) {
        guard let plan, plan.start.pauseBudgetMs > 0 else { return }
        let budget = TickInterval.milliseconds(UInt64(plan.start.pauseBudgetMs))
        let reserve = min(
            budget.nanoseconds, max(budget.nanoseconds / 4, fanOut.nanoseconds * 2))
        self.plan?.budgetEnd =
            plan.announcedAt + TickInterval(nanoseconds: budget.nanoseconds - reserve)
    }

    /// Who has not flushed in time is judged before any gate is shut: nobody waits for them then.
    mutating func endPreflush(
        _ epoch: UpgradeEpoch, _ policy: DeadlinePolicy, now: Ticks,
        into actions: inout Outbox<Action>
    ) {
        plan?.preflushEnd = .distantFuture
        switch policy {
        case .wait:
            // With their gates open, until they have or the order expires.
            if flushedCount == grantedCount { announce(epoch, now: now, into: &actions) }
        case .abort:
            guard flushedCount == grantedCount else {
                return abort(epoch, .deadline, now: now, into: &actions)
            }
            announce(epoch, now: now, into: &actions)
        case .leaveBehind:
            leaveBehind(now: now, into: &actions) { !$0.isFlushed }
            announce(epoch, now: now, into: &actions)
        }
    }

    /// Takes the lock of every holder that `isMeant`, and counts it absent.
    mutating func leaveBehind(
        now: Ticks, into actions: inout Outbox<Action>, _ isMeant: (Client) -> Bool
    ) {
        for index in clients.indices
        where clients[index].standing == .granted && isMeant(clients[index]) {
            let client = UInt32(index)
            // The lock away first, then counted absent.
            actions.append(.takeAdmission(client: client))
            if !mutation.is(.countWithoutFencing) {
                actions.append(.fence(client: client))
            }
            setStanding(.leftBehind, of: client)
            actions.append(.report(.leftBehind(client: client), at: now))
        }
    }

    /// The point of no return.
    mutating func commit(_ epoch: UpgradeEpoch, now: Ticks, into actions: inout Outbox<Action>) {
        enter(.committed(epoch), now: now)
        actions.append(.report(.committed, at: now))
        tell(epoch, now: now, into: &actions)
    }

    /// The record is on disk and nobody was told: it has to go before anything executes again.
    mutating func withdraw(
        _ epoch: UpgradeEpoch, _ reason: UpgradeAbortReason, now: Ticks,
        into actions: inout Outbox<Action>
    ) {
        enter(.withdrawing(epoch, reason), now: now)
        if mutation.is(.opensBeforeWithdrawal) {
            actions.append(.unseal)
            abort(epoch, reason, now: now, into: &actions)
        } else {
            actions.append(.withdrawRecord(epoch))
        }
    }

    mutating func seal(_ epoch: UpgradeEpoch, now: Ticks, into actions: inout Outbox<Action>) {
        enter(.sealed(epoch), now: now)
        actions.append(.report(.sealed, at: now))
        actions.append(.seal)
        actions.append(.writeCleanRecord(epoch))
        if mutation.is(.tellBeforeDisk) {
            actions.append(
                .broadcast(CommitNotice(epoch: epoch, lastCommitted: lastCommitted, next: next)))
        }
    }

    mutating func tell(_ epoch: UpgradeEpoch, now: Ticks, into actions: inout Outbox<Action>) {
        acknowledgementEnd = now + configuration.acknowledgementBound
        guard plan?.start.scheme == .drain else {
            stop(epoch, now: now, into: &actions)
            return
        }
        unansweredCount = 0
        for index in clients.indices {
            clients[index].isCommitNoticeDelivered = false
            if clients[index].isWaiting { unansweredCount += 1 }
            if isTold(UInt32(index)) { clients[index].isOwedWakeUp = false }
        }
        actions.append(
            .broadcast(CommitNotice(epoch: epoch, lastCommitted: lastCommitted, next: next)))
        stopIfAnswered(epoch, now: now, into: &actions)
    }

    /// False where the client is not one that is waited for.
    @discardableResult
    mutating func noteAnswered(_ client: UInt32) -> Bool {
        let index = Int(client)
        guard isKnown(client), clients[index].isWaiting, !clients[index].isCommitNoticeDelivered
        else { return false }
        clients[index].isCommitNoticeDelivered = true
        unansweredCount -= 1
        return true
    }

    mutating func stopIfAnswered(
        _ epoch: UpgradeEpoch, now: Ticks, into actions: inout Outbox<Action>
    ) {
        if unansweredCount == 0 { stop(epoch, now: now, into: &actions) }
    }

    mutating func stop(_ epoch: UpgradeEpoch, now: Ticks, into actions: inout Outbox<Action>) {
        enter(.stopped(epoch), now: now)
        actions.append(.report(.stopped, at: now))
        actions.append(.stop(epoch))
    }

    mutating func abort(
        _ epoch: UpgradeEpoch, _ reason: UpgradeAbortReason, now: Ticks,
        into actions: inout Outbox<Action>
    ) {
        lastAbort = reason
        let wasQueued = isExclusiveQueued
        enter(.aborting(epoch), now: now)
        actions.append(.report(.aborted(reason), at: now))
        actions.append(.commitBeforeReply(false))
        for index in clients.indices {
            let client = UInt32(index)
            switch clients[index].standing {
            case .vacant, .synchronous:
                break
            case .granted, .prepared, .bornPrepared:
                setStanding(.granted, of: client)
                if clients[index].lacksLock {
                    clients[index].lacksLock = false
                    actions.append(.enqueueAdmission(client: client))
                }
            case .leftBehind:
                setStanding(.granted, of: client)
                actions.append(.unfence(client: client))
                actions.append(.enqueueAdmission(client: client))
            }
            clients[index].grantEpoch = epoch
            clients[index].forgetUpgrade()
        }
        deliveredCount = 0
        flushedCount = 0
        actions.append(.releaseExclusive(epoch))
        if wasQueued { actions.append(.resumeBlockingASTs) }
        actions.append(.grantAll(epoch))
    }

    /// Every change of standing goes through here: it keeps the counts.
    mutating func setStanding(_ standing: Standing, of client: UInt32) {
        let index = Int(client)
        if clients[index].standing == .granted {
            grantedCount -= 1
            if clients[index].isNoticeDelivered { deliveredCount -= 1 }
            if clients[index].isFlushed { flushedCount -= 1 }
        }
        clients[index].standing = standing
        if standing == .granted {
            grantedCount += 1
            clients[index].isNoticeDelivered = false
            clients[index].isFlushed = false
        }
    }

    mutating func vacate(_ client: UInt32) {
        setStanding(.vacant, of: client)
        clients[Int(client)] = Client()
    }
}

extension UpgradeTarget.Client {
    var isWaiting: Bool { standing == .prepared || standing == .bornPrepared }

    /// Clears what belongs to one upgrade. The counts are the caller's.
    mutating func forgetUpgrade() {
        isNoticeDelivered = false
        isFlushed = false
        isOwedWakeUp = false
        isCommitNoticeDelivered = false
        receipt = nil
        receiptAt = .zero
    }
}
