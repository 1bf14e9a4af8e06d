public import LNetCore
public import Primitives
public import WireFormat

extension RPCClient {
    // MARK: The owner's answers

    /// The owner's answer to `needOpenReplays`: its committed opens, none as it may be. An open
    /// that stands on the replay list is passed over, it comes back from there in its turn.
    /// Ignored unless it was asked for.
    public mutating func replayOpens(
        _ index: Int, _ opens: [(RequestBody, UInt64)], lnet: inout LNetCore, now: Ticks
    ) {
        guard case .awaitingOpens = imports[index].recovery?.phase else { return }
        let opens = configuration.mutation.is(.forgetsOpenReplays) ? [] : opens
        if imports[index].recovery!.isBatched, imports[index].savedCount == 0 {
            // Nothing lies between the opens and the locks: they may go together.
            imports[index].recovery!.opens = opens
            imports[index].recovery!.phase = .awaitingLocks
            imports[index].enter(.replayLocks, now)
            events.append(.needLockReplays(import: index))
            return
        }
        tellOpens(index, opens)
        pumpRecovery(index, &lnet, now)
    }

    private mutating func tellOpens(_ index: Int, _ opens: [(RequestBody, UInt64)]) {
        imports[index].recovery!.phase = .opens
        imports[index].recovery!.replays = opens
        imports[index].recovery!.nextReplay = 0
    }

    /// The owner's answer to `needLockReplays`: its locks in the order in which they are to be
    /// told. Ignored unless it was asked for.
    public mutating func replayLocks(
        _ index: Int, _ locks: [(RequestBody, UInt64)], lnet: inout LNetCore, now: Ticks
    ) {
        guard case .awaitingLocks = imports[index].recovery?.phase else { return }
        if let opens = imports[index].recovery!.opens {
            imports[index].recovery!.opens = nil
            let count = opens.count + locks.count
            if (1...Batch.countMax).contains(count) {
                return tellAll(index, opens + locks, &lnet, now)
            }
            // Too many for one: the opens first, as ever.
            imports[index].recovery!.locks = locks
            imports[index].enter(.replay, now)
            tellOpens(index, opens)
        } else {
            tellLocks(index, locks)
        }
        pumpRecovery(index, &lnet, now)
    }

    private mutating func tellLocks(_ index: Int, _ locks: [(RequestBody, UInt64)]) {
        imports[index].recovery!.phase = .locks
        imports[index].recovery!.replays = locks
        imports[index].recovery!.nextReplay = 0
    }

    /// Everything that is held in one message, which says too that there is no more: one round trip
    /// in the place of three. It comes whole or not at all.
    private mutating func tellAll(
        _ index: Int, _ all: [(RequestBody, UInt64)], _ lnet: inout LNetCore, _ now: Ticks
    ) {
        tellLocks(index, [])
        imports[index].recovery!.isSingle = true
        imports[index].recovery!.unansweredReplays = 1
        imports[index].counters.replayed &+= UInt64(all.count)
        let xid = sendInternal(
            index, .lockReplay, .batch(all.map(\.0)), flags: [.requestReplayDone, .lockReplayDone],
            &lnet, now)
        imports[index].recovery!.batches.append(.init(xid: xid, cookies: all.map(\.1)))
    }

    // MARK: Beginning

    /// The target knows nothing of this client.
    mutating func beginFresh(
        _ index: Int, _ reply: ConnectReply, wasKnown: Bool, _ lnet: inout LNetCore,
        _ now: Ticks
    ) {
        abandonRecovery(index, &lnet)
        // Whoever did something there may hold what the target has forgotten. An observer does not.
        if wasKnown && imports[index].wasUsed && !configuration.isObserver || hasState(index) {
            evict(index, &lnet, now)
        }
        imports[index].lastCommitted = reply.lastCommitted
        imports[index].highestTransno = .zero
        becomeFull(index, &lnet, now)
    }

    private func hasState(_ index: Int) -> Bool {
        if imports[index].holdsState || imports[index].savedCount > 0 { return true }
        var xid = imports[index].updates.head
        while xid != .zero {
            if requests[xid].wasSent { return true }
            xid = requests[xid].next
        }
        return false
    }

    /// Fails what was sent, and what makes no sense without the lost state; the rest waits on.
    private mutating func evict(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        imports[index].enter(.evicted, now)
        imports[index].counters.evictions &+= 1
        var next = imports[index].unanswered.head
        while next != .zero {
            let xid = next
            next = requests[xid].newer
            if requests[xid].wasSent || requests[xid].dependsOnHeldState {
                fail(xid, index, .notConnected, &lnet)
            }
        }
        forgetSaved(index)
        imports[index].holdsState = false
        imports[index].wasUsed = false
        events.append(.evicted(import: index))
    }

    /// A clean record says that all is committed. What is still on the replay list contradicts
    /// it: those updates are lost, and the owner is told which.
    mutating func loseUncommitted(_ index: Int) {
        for place in imports[index].savedHead..<imports[index].saved.count {
            let saved = imports[index].saved[place]
            events.append(
                .replayFailed(
                    import: index, opcode: requests[saved.xid].opcode,
                    status: .notConnected, xid: saved.xid, transno: saved.transno))
        }
        forgetSaved(index)
    }

    /// Tells an instance what the one before it knew. Goes on where it stopped if it is the same.
    mutating func beginRecovery(
        _ index: Int, _ instance: UInt64, isClean: Bool = false, _ lnet: inout LNetCore,
        _ now: Ticks
    ) {
        if imports[index].recovery?.instance == instance {
            resumeRecovery(index, &lnet, now)
            return
        }
        abandonRecovery(index, &lnet)
        imports[index].recovery = Import.Recovery(instance: instance)
        imports[index].recovery!.isBatched =
            isClean && imports[index].features.contains(.batchedReplay)
        imports[index].enter(.replay, now)
        events.append(.needOpenReplays(import: index))
    }

    /// The connection was lost on the way: what was under way is sent again, then it goes on.
    mutating func resumeRecovery(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        guard let phase = imports[index].recovery?.phase else { return }
        switch phase {
        case .awaitingOpens, .opens, .requests: imports[index].enter(.replay, now)
        case .awaitingLocks, .locks: imports[index].enter(.replayLocks, now)
        case .finalPing: imports[index].enter(.replayWait, now)
        }
        while let xid = imports[index].recovery?.interrupted.head, xid != .zero {
            unlist(xid, index)
            let flags: MessageFlags =
                switch requests[xid].kind {
                case .lockReplay where imports[index].recovery!.isSingle:
                    [.resent, .requestReplayDone, .lockReplayDone]
                case .lockReplay: [.resent, .requestReplayDone]
                case .call: [.resent, .replay]
                case .openReplay, .connect, .disconnect, .ping, .finalPing: .resent
                }
            imports[index].counters.resent &+= 1
            send(xid, index, flags, timeout: configuration.recoveryTimeout, &lnet, now)
        }
        if case .finalPing = phase { sendFinalPing(index, &lnet, now) }
        pumpRecovery(index, &lnet, now)
    }

    /// Forgets an unfinished recovery: its instance is gone, or has forgotten this client.
    mutating func abandonRecovery(_ index: Int, _ lnet: inout LNetCore) {
        guard imports[index].recovery != nil else { return }
        while let xid = imports[index].recovery?.interrupted.head, xid != .zero {
            if requests[xid].isSaved { unlist(xid, index) } else { release(xid) }
        }
        // Saved requests that are under way go back to the replay list.
        var sent = imports[index].sent.head
        while sent != .zero {
            let xid = sent
            sent = requests[xid].next
            guard requests[xid].isSaved else { continue }
            detachBulk(xid, &lnet)
            unlist(xid, index)
        }
        var next = imports[index].unanswered.head
        while next != .zero {
            let xid = next
            next = requests[xid].newer
            switch requests[xid].kind {
            case .openReplay, .lockReplay, .finalPing: release(xid)
            case .call, .connect, .disconnect, .ping: break
            }
        }
        imports[index].recovery = nil
    }

    // MARK: Going on

    /// Sends what the recovery's phase has to send, and enters the next when all is answered.
    mutating func pumpRecovery(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        while imports[index].state.isConnected, let phase = imports[index].recovery?.phase {
            switch phase {
            case .awaitingOpens, .awaitingLocks, .finalPing:
                return
            case .opens:
                guard sendReplays(index, .openReplay, [], &lnet, now) else { return }
                imports[index].recovery!.phase = .requests
            case .requests:
                guard replaySaved(index, &lnet, now) else { return }
                prune(index)
                imports[index].enter(.replayLocks, now)
                if let locks = imports[index].recovery!.locks {
                    imports[index].recovery!.locks = nil
                    tellLocks(index, locks)
                } else {
                    imports[index].recovery!.phase = .awaitingLocks
                    events.append(.needLockReplays(import: index))
                }
            case .locks:
                guard sendReplays(index, .lockReplay, .requestReplayDone, &lnet, now) else {
                    return
                }
                if imports[index].recovery!.isSingle {
                    return becomeFull(index, &lnet, now)
                }
                imports[index].recovery!.phase = .finalPing
                imports[index].recovery!.replays = []
                imports[index].enter(.replayWait, now)
                sendFinalPing(index, &lnet, now)
            }
        }
    }

    /// Keeps a window of saved requests under way, by transno: the target puts those of all clients
    /// in order. At most one whose bytes it has to fetch, since it keeps them until their turn.
    /// True when all are answered.
    private mutating func replaySaved(
        _ index: Int, _ lnet: inout LNetCore, _ now: Ticks
    ) -> Bool {
        let window = sites.fires(.narrowReplay) ? 1 : configuration.updateReplaysInFlightMax
        while imports[index].recovery!.updatesUnderWay < window,
            let (xid, transno) = nextSaved(index)
        {
            let hasBulk = requests.hasBulkSource(xid)
            if hasBulk {
                guard imports[index].recovery!.bulkUnderWay == 0 else { return false }
                imports[index].recovery!.bulkUnderWay = 1
            }
            imports[index].recovery!.cursor = transno
            imports[index].recovery!.updatesUnderWay += 1
            imports[index].counters.replayed &+= 1
            send(xid, index, .replay, timeout: configuration.recoveryTimeout, &lnet, now)
        }
        return imports[index].recovery!.updatesUnderWay == 0
    }

    /// Keeps a few replays under way, in their order: one by one, or in batches where the version
    /// has them. True when all are answered.
    private mutating func sendReplays(
        _ index: Int, _ kind: Request.Kind, _ flags: MessageFlags, _ lnet: inout LNetCore,
        _ now: Ticks
    ) -> Bool {
        let isBatching =
            imports[index].version >= .v3 || imports[index].features.contains(.batchedReplay)
        let batchCountMax = isBatching ? min(configuration.batchCountMax, Batch.countMax) : 1
        while imports[index].recovery!.unansweredReplays < configuration.replaysInFlightMax,
            imports[index].recovery!.nextReplay < imports[index].recovery!.replays.count
        {
            var bodies: [RequestBody] = []
            var cookies: [UInt64] = []
            while bodies.count < batchCountMax,
                imports[index].recovery!.nextReplay < imports[index].recovery!.replays.count
            {
                let (body, cookie) = imports[index].recovery!.replays[
                    imports[index].recovery!.nextReplay]
                imports[index].recovery!.nextReplay += 1
                if case .openReplay(let open) = body, isSavedOpen(index, open.handle) { continue }
                bodies.append(body)
                cookies.append(cookie)
            }
            guard !bodies.isEmpty else { break }
            imports[index].recovery!.unansweredReplays += 1
            imports[index].counters.replayed &+= UInt64(bodies.count)
            guard bodies.count > 1 else {
                sendInternal(index, kind, bodies[0], flags: flags, cookie: cookies[0], &lnet, now)
                continue
            }
            let xid = sendInternal(index, kind, .batch(bodies), flags: flags, &lnet, now)
            imports[index].recovery!.batches.append(.init(xid: xid, cookies: cookies))
        }
        return imports[index].recovery!.unansweredReplays == 0
            && imports[index].recovery!.nextReplay == imports[index].recovery!.replays.count
    }

    /// The owner's open or lock replay was answered, or a batch of them.
    mutating func heldStateAnswered(
        _ xid: XID, _ index: Int, _ header: PtlRPCBody, _ body: ReplyBody,
        _ lnet: inout LNetCore, _ now: Ticks
    ) {
        if requests[xid].opcode == .batch {
            let place = imports[index].recovery?.batches.firstIndex { $0.xid == xid }
            let cookies = place.map { imports[index].recovery!.batches.remove(at: $0).cookies }
            var answers: [BatchAnswer] = []
            if case .batch(let all) = body { answers = all }
            for (number, cookie) in (cookies ?? []).enumerated() {
                // A target that answers fewer than it was asked has not done the others.
                let answer =
                    number < answers.count
                    ? answers[number]
                    : BatchAnswer(
                        opcode: .batch,
                        status: header.status.isError ? header.status : .protocolError,
                        body: .empty)
                events.append(
                    .replayReply(
                        import: index, cookie: cookie, status: answer.status, body: answer.body,
                        xid: xid, transno: .zero))
            }
        } else {
            events.append(
                .replayReply(
                    import: index, cookie: requests[xid].cookie, status: header.status,
                    body: body, xid: xid, transno: header.transno))
        }
        release(xid)
        imports[index].recovery?.unansweredReplays -= 1
        pumpRecovery(index, &lnet, now)
    }

    private func isSavedOpen(_ index: Int, _ handle: UInt64) -> Bool {
        for place in imports[index].savedHead..<imports[index].saved.count {
            if requests.openHandle(imports[index].saved[place].xid) == handle { return true }
        }
        return false
    }

    /// The saved request with the lowest transno whose replay was not sent yet.
    private func nextSaved(_ index: Int) -> (XID, Transno)? {
        let cursor = imports[index].recovery!.cursor
        var low = imports[index].savedHead
        var high = imports[index].saved.count
        while low < high {
            let middle = (low + high) / 2
            if imports[index].saved[middle].transno > cursor {
                high = middle
            } else {
                low = middle + 1
            }
        }
        guard low < imports[index].saved.count else { return nil }
        return (imports[index].saved[low].xid, imports[index].saved[low].transno)
    }

    private mutating func sendFinalPing(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        sendInternal(
            index, .finalPing, .ping, flags: [.requestReplayDone, .lockReplayDone], &lnet, now)
    }

    /// A saved request was replayed.
    mutating func replayAnswered(
        _ xid: XID, _ index: Int, _ header: PtlRPCBody, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        detachBulk(xid, &lnet)
        unlist(xid, index)
        imports[index].recovery?.updatesUnderWay -= 1
        if requests.hasBulkSource(xid) { imports[index].recovery?.bulkUnderWay = 0 }
        if header.status.isError {
            events.append(
                .replayFailed(
                    import: index, opcode: requests[xid].opcode, status: header.status,
                    xid: xid, transno: requests[xid].transno))
        }
        pumpRecovery(index, &lnet, now)
    }

    /// The recovery is over, or there was none: what was not answered is sent again, then the
    /// rest.
    mutating func becomeFull(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        imports[index].recovery = nil
        prune(index)
        imports[index].enter(.recover, now)
        pump(index, &lnet, now)
        imports[index].enter(.full, now)
        imports[index].fullSince = now
        events.append(.full(import: index))
    }
}
