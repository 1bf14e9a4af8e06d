internal import Primitives
internal import WireFormat

extension UpgradeClient {
    /// The transition table. Every pair of state and input has its arm.
    mutating func take(
        _ input: Input, now: Ticks, into actions: inout Outbox<Action>
    ) throws(UpgradeFault) -> StepOutcome {
        switch (state, input) {
        // Notices.
        case (.open, .notice(let notice, let ast, let isIdle)):
            guard isNews(notice) else { return decline(ast, .staleEpoch, into: &actions) }
            hear(notice)
            if notice.isPreflush {
                answer(ast, into: &actions)
                beginPreflush(notice, into: &actions)
                return .taken
            }
            actions.append(.shutGate)
            if isIdle || mutation.is(.receiptBeforeDrained) {
                prepare(notice.epoch, ast: ast, now: now, into: &actions)
            } else {
                answer(ast, into: &actions)
                close(notice.epoch, now: now, into: &actions)
            }
            return .taken
        case (.closing(let epoch), .notice(let notice, let ast, _)):
            if notice.epoch == epoch, !notice.isPreflush, self.notice == nil {
                // A trailer came first: now the policy is known too.
                hear(notice)
                answer(ast, into: &actions)
                close(epoch, now: now, into: &actions)
                return .taken
            }
            guard isNews(notice), !notice.isPreflush else {
                return decline(ast, .duplicate, into: &actions)
            }
            hear(notice)
            answer(ast, into: &actions)
            close(notice.epoch, now: now, into: &actions)
            return .taken
        case (.prepared(let epoch), .notice(let notice, let ast, _)):
            if notice.epoch == epoch, !notice.isPreflush {
                // The target asks again: it does not have the receipt.
                guard !isReceiptDelivered else { return decline(ast, .duplicate, into: &actions) }
                if self.notice == nil { hear(notice) }
                actions.append(.giveReceipt(epoch, ast: ast))
                return .taken
            }
            guard isNews(notice), !notice.isPreflush else {
                return decline(ast, .staleEpoch, into: &actions)
            }
            // Nothing has passed the gate since: still prepared, and for this one too.
            hear(notice)
            prepare(notice.epoch, ast: ast, now: now, into: &actions)
            return .taken
        case (.committed, .notice(_, let ast, _)):
            return decline(ast, .late, into: &actions)
        case (.connecting, .notice(let notice, let ast, _)),
            (.replaying, .notice(let notice, let ast, _)):
            // The lock is not known as granted yet: remembered, and applied at the grant.
            answer(ast, into: &actions)
            guard isNews(notice),
                notice.epoch > (earlyNotice?.epoch ?? .none)
                    || earlyNotice?.isPreflush == true
            else { return .dropped(.staleEpoch) }
            guard !mutation.is(.forgetEarlyNotice) else { return .dropped(.notAsked) }
            earlyNotice = notice
            return .taken
        case (.disconnected, .notice(_, let ast, _)):
            // Of a connection that is gone; the reply to the next connect tells.
            return decline(ast, .late, into: &actions)

        // Trailers: what a lost notice would have said, without its details.
        case (.open, .trailer(let trailer)):
            return heed(trailer, now: now, into: &actions)
        case (.closing, .trailer), (.committed, .trailer):
            return .dropped(.duplicate)
        case (.prepared(let epoch), .trailer(let trailer)):
            guard trailer.epoch == epoch, trailer.admission == .waiting, !isReceiptDelivered else {
                return .dropped(.late)
            }
            isReceiptDelivered = true
            return .taken
        case (.disconnected, .trailer), (.connecting, .trailer), (.replaying, .trailer):
            // The reply to the connect says it with authority.
            return .dropped(.late)

        // Preparing.
        case (.closing(let epoch), .operationsDrained(let named)):
            guard named == epoch else { return .dropped(.staleEpoch) }
            guard !isDrained else { return .dropped(.duplicate) }
            isDrained = true
            let policy = notice?.cachePolicy ?? .flush
            if policy == .keep {
                prepare(epoch, ast: nil, now: now, into: &actions)
            } else {
                actions.append(.flush(epoch, policy))
            }
            return .taken
        case (.open, .operationsDrained), (.prepared, .operationsDrained),
            (.committed, .operationsDrained), (.disconnected, .operationsDrained),
            (.connecting, .operationsDrained), (.replaying, .operationsDrained):
            return .dropped(.late)

        case (.closing(let epoch), .flushed(let named, let bytes)):
            guard named == epoch else { return .dropped(.staleEpoch) }
            flushedBytes &+= bytes
            // What a pre-flush wrote back is not all: operations have run since.
            guard isDrained else { return .dropped(.late) }
            prepare(epoch, ast: nil, now: now, into: &actions)
            return .taken
        case (.open, .flushed(let named, let bytes)):
            guard named == seen, isSeenAsPreflush else { return .dropped(.late) }
            flushedBytes &+= bytes
            actions.append(.sendProgress(named))
            return .taken
        case (.prepared, .flushed), (.committed, .flushed), (.disconnected, .flushed),
            (.connecting, .flushed), (.replaying, .flushed):
            return .dropped(.late)

        case (.prepared(let epoch), .receiptDelivered(let named)):
            guard named == epoch else { return .dropped(.staleEpoch) }
            guard !isReceiptDelivered else { return .dropped(.duplicate) }
            isReceiptDelivered = true
            return .taken
        case (.open, .receiptDelivered), (.closing, .receiptDelivered),
            (.committed, .receiptDelivered), (.disconnected, .receiptDelivered),
            (.connecting, .receiptDelivered), (.replaying, .receiptDelivered):
            return .dropped(.late)

        // Grants.
        case (.closing(let epoch), .granted(let named)),
            (.prepared(let epoch), .granted(let named)):
            ended = max(ended, named)
            guard named >= epoch || mutation.is(.anyGrantOpens) else {
                return .dropped(.staleEpoch)
            }
            open(now: now, into: &actions)
            return .taken
        case (.open, .granted(let named)), (.disconnected, .granted(let named)),
            (.connecting, .granted(let named)), (.replaying, .granted(let named)):
            // It may have overtaken the notice, or the reply to the connect, that it lifts.
            guard named > ended else { return .dropped(.duplicate) }
            ended = named
            return .taken
        case (.committed, .granted):
            // What was committed is never granted by the instance that said so.
            return .dropped(.late)

        // The commit notice.
        case (.prepared(let epoch), .commitNotice(let commit)),
            (.closing(let epoch), .commitNotice(let commit)):
            guard commit.epoch == epoch else { return .dropped(.staleEpoch) }
            finish(commit, now: now, into: &actions)
            return .taken
        case (.open, .commitNotice(let commit)):
            // Left behind without having heard of it: the gate is shut by what is certain now.
            guard commit.epoch > ended else { return .dropped(.staleEpoch) }
            seen = max(seen, commit.epoch)
            actions.append(.shutGate)
            finish(commit, now: now, into: &actions)
            return .taken
        case (.committed, .commitNotice):
            return .dropped(.duplicate)
        case (.disconnected, .commitNotice), (.connecting, .commitNotice),
            (.replaying, .commitNotice):
            // The reply to the connect says the same.
            return .dropped(.late)

        // The import.
        case (.open, .disconnected):
            actions.append(.shutGate)
            lose(now: now)
            return .taken
        case (.closing, .disconnected), (.prepared, .disconnected), (.connecting, .disconnected),
            (.replaying, .disconnected):
            lose(now: now)
            return .taken
        case (.committed, .disconnected):
            lose(now: now)
            if next.rawValue != 0 { actions.append(.reconnect(next)) }
            return .taken
        case (.disconnected, .disconnected):
            return .dropped(.duplicate)

        case (.closing, .left), (.prepared, .left), (.committed, .left):
            // The target counts on it no longer; the next connect tells what there is.
            open(now: now, into: &actions)
            return .taken
        case (.open, .left), (.disconnected, .left), (.connecting, .left), (.replaying, .left):
            return .dropped(.nothingDue)

        case (.disconnected, .connectStarted):
            enter(.connecting, now: now)
            return .taken
        case (.connecting, .connectStarted):
            return .dropped(.duplicate)
        case (.open, .connectStarted):
            // The import gave its connection up without a word.
            actions.append(.shutGate)
            lose(now: now)
            enter(.connecting, now: now)
            return .taken
        case (.closing, .connectStarted), (.prepared, .connectStarted),
            (.committed, .connectStarted), (.replaying, .connectStarted):
            lose(now: now)
            enter(.connecting, now: now)
            return .taken

        case (.disconnected, .connected(let reply)), (.connecting, .connected(let reply)):
            connect(reply, now: now, into: &actions)
            return .taken
        case (.replaying, .connected):
            return .dropped(.duplicate)
        case (.open, .connected), (.closing, .connected), (.prepared, .connected),
            (.committed, .connected):
            throw fault("connected")

        case (.replaying, .recovered):
            recover(now: now, into: &actions)
            return .taken
        case (.disconnected, .recovered), (.connecting, .recovered):
            throw fault("recovered")
        case (.open, .recovered), (.closing, .recovered), (.prepared, .recovered),
            (.committed, .recovered):
            return .dropped(.duplicate)

        case (.disconnected, .targetUp(let up)), (.connecting, .targetUp(let up)),
            (.committed, .targetUp(let up)), (.open, .targetUp(let up)),
            (.closing, .targetUp(let up)), (.prepared, .targetUp(let up)),
            (.replaying, .targetUp(let up)):
            guard up.instance > targetInstance else { return .dropped(.late) }
            actions.append(.reconnect(up.nid))
            return .taken

        // Time.
        case (.closing(let epoch), .tick):
            if now >= impatientAt {
                open(now: now, into: &actions)
                return .taken
            }
            guard now >= progressDue else { return .dropped(.nothingDue) }
            progressDue = now + configuration.progressInterval
            actions.append(.sendProgress(epoch))
            return .taken
        case (.prepared, .tick):
            guard now >= impatientAt else { return .dropped(.nothingDue) }
            open(now: now, into: &actions)
            return .taken
        case (.open, .tick), (.committed, .tick), (.disconnected, .tick), (.connecting, .tick),
            (.replaying, .tick):
            return .dropped(.nothingDue)
        }
    }
}
