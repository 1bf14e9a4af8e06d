internal import Primitives
internal import WireFormat

// What the arms of the transition table do.
extension UpgradeClient {
    /// Newer than all we know; or the announcement proper of what we know from its pre-flush.
    func isNews(_ notice: UpgradeNotice) -> Bool {
        if mutation.is(.anyNoticeShuts) { return true }
        guard notice.epoch > ended else { return false }
        return notice.epoch > seen
            || (notice.epoch == seen && isSeenAsPreflush && !notice.isPreflush)
    }

    mutating func hear(_ notice: UpgradeNotice) {
        if notice.epoch > seen { flushedBytes = 0 }
        seen = notice.epoch
        isSeenAsPreflush = notice.isPreflush
        self.notice = notice
    }

    func answer(_ ast: UInt64?, into actions: inout Outbox<Action>) {
        if let ast { actions.append(.answerAST(ast)) }
    }

    func decline(
        _ ast: UInt64?, _ drop: StepOutcome.Drop, into actions: inout Outbox<Action>
    ) -> StepOutcome {
        answer(ast, into: &actions)
        return .dropped(drop)
    }

    mutating func heed(
        _ trailer: ReplyTrailer, now: Ticks, into actions: inout Outbox<Action>
    ) -> StepOutcome {
        switch trailer.admission {
        case .none, .granted:
            // Not a grant either: it may be older than the notice that overtook it.
            return .dropped(.notAsked)
        case .revoking, .waiting, .committed:
            break
        }
        guard trailer.epoch > ended,
            trailer.epoch > seen || (trailer.epoch == seen && isSeenAsPreflush)
        else { return .dropped(.staleEpoch) }
        if trailer.epoch > seen {
            flushedBytes = 0
            notice = nil
        }
        seen = trailer.epoch
        isSeenAsPreflush = false
        actions.append(.shutGate)
        close(trailer.epoch, now: now, into: &actions)
        return .taken
    }

    /// The gate is shut: what had passed it has to finish.
    mutating func close(
        _ epoch: UpgradeEpoch, now: Ticks, into actions: inout Outbox<Action>
    ) {
        enter(.closing(epoch), now: now)
        isReceiptDelivered = false
        isDrained = false
        progressDue = now + configuration.progressInterval
        setImpatience(now: now)
        actions.append(.drain(epoch))
    }

    mutating func prepare(
        _ epoch: UpgradeEpoch, ast: UInt64?, now: Ticks, into actions: inout Outbox<Action>
    ) {
        enter(.prepared(epoch), now: now)
        isReceiptDelivered = false
        progressDue = .distantFuture
        setImpatience(now: now)
        actions.append(.giveReceipt(epoch, ast: ast))
    }

    mutating func finish(
        _ commit: CommitNotice, now: Ticks, into actions: inout Outbox<Action>
    ) {
        enter(.committed(commit.epoch), now: now)
        progressDue = .distantFuture
        impatientAt = .distantFuture
        next = commit.next
        actions.append(.purgeSaved(upTo: commit.lastCommitted))
        if next.rawValue != 0 { actions.append(.preconnect(next)) }
    }

    mutating func open(now: Ticks, into actions: inout Outbox<Action>) {
        enter(.open, now: now)
        notice = nil
        earlyNotice = nil
        isReceiptDelivered = false
        progressDue = .distantFuture
        impatientAt = .distantFuture
        actions.append(.openGate)
    }

    mutating func lose(now: Ticks) {
        enter(.disconnected, now: now)
        earlyNotice = nil
        isReceiptDelivered = false
        progressDue = .distantFuture
        impatientAt = .distantFuture
    }

    mutating func connect(
        _ reply: ConnectReply, now: Ticks, into actions: inout Outbox<Action>
    ) {
        if reply.instance != targetInstance {
            // Epochs carry their instance: those of the earlier ones ended with them.
            ended = max(ended, UpgradeEpoch(instance: reply.instance, counter: 0))
            targetInstance = reply.instance
            notice = nil
            next = NID(rawValue: 0)
        }
        admission = reply.admission
        admissionEpoch = reply.epoch
        if let notice = reply.notice, notice.epoch >= seen, notice.epoch > ended { hear(notice) }
        if reply.mode == .recovering, mutation.is(.purgeOnAnyRestart) {
            actions.append(.purgeSaved(upTo: Transno(rawValue: .max)))
        }
        if reply.mode == .cleanRecord || reply.admission == .committed {
            // The clean record answers where the commit notice was lost.
            actions.append(.purgeSaved(upTo: reply.lastCommitted))
        }
        enter(.replaying, now: now)
    }

    mutating func recover(now: Ticks, into actions: inout Outbox<Action>) {
        var early = earlyNotice
        earlyNotice = nil
        if let notice = early, !isNews(notice) || notice.epoch <= admissionEpoch { early = nil }
        let isEnded = admissionEpoch <= ended
        switch admission {
        case .none, .granted:
            reopen(early, now: now, into: &actions)
        case .revoking:
            if isEnded || early != nil {
                reopen(early, now: now, into: &actions)
            } else {
                // It still holds CR: it goes on preparing, and is not counted as prepared.
                seen = max(seen, admissionEpoch)
                close(admissionEpoch, now: now, into: &actions)
            }
        case .waiting:
            if isEnded || early != nil {
                reopen(early, now: now, into: &actions)
            } else {
                seen = max(seen, admissionEpoch)
                enter(.prepared(admissionEpoch), now: now)
                isReceiptDelivered = true
                setImpatience(now: now)
            }
        case .committed:
            seen = max(seen, admissionEpoch)
            enter(.committed(admissionEpoch), now: now)
            next = notice?.next ?? NID(rawValue: 0)
            if next.rawValue != 0 { actions.append(.preconnect(next)) }
        }
    }

    /// FULL again with the lock granted, unless a notice has come before the gate could open.
    private mutating func reopen(
        _ early: UpgradeNotice?, now: Ticks, into actions: inout Outbox<Action>
    ) {
        guard let early else {
            open(now: now, into: &actions)
            return
        }
        guard early.isPreflush else {
            hear(early)
            close(early.epoch, now: now, into: &actions)
            return
        }
        open(now: now, into: &actions)
        hear(early)
        beginPreflush(early, into: &actions)
    }

    /// While the gate is open there is time to connect to where the target comes back.
    func beginPreflush(_ notice: UpgradeNotice, into actions: inout Outbox<Action>) {
        if notice.next.rawValue != 0 { actions.append(.preconnect(notice.next)) }
        if notice.cachePolicy == .keep {
            actions.append(.sendProgress(notice.epoch))
        } else {
            actions.append(.flush(notice.epoch, notice.cachePolicy))
        }
    }

    private mutating func setImpatience(now: Ticks) {
        guard mutation.is(.clientOpensByTime), impatientAt == .distantFuture else { return }
        impatientAt = now + .milliseconds(UInt64(notice?.deadlineMs ?? 1_000))
    }
}
