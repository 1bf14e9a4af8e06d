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
        imports[index].recovery!.phase = .opens
        imports[index].recovery!.replays = opens
        imports[index].recovery!.nextReplay = 0
        pumpRecovery(index, &lnet, now)
    }

    /// The owner's answer to `needLockReplays`: its locks in the order in which they are to be
    /// told. Ignored unless it was asked for.
    public mutating func replayLocks(
        _ index: Int, _ locks: [(RequestBody, UInt64)], lnet: inout LNetCore, now: Ticks
    ) {
        guard case .awaitingLocks = imports[index].recovery?.phase else { return }
        imports[index].recovery!.phase = .locks
        imports[index].recovery!.replays = locks
        imports[index].recovery!.nextReplay = 0
        pumpRecovery(index, &lnet, now)
    }

    // MARK: Beginning

    /// The target knows nothing of this client.
    mutating func beginFresh(
        _ index: Int, _ reply: ConnectReply, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        abandonRecovery(index, &lnet)
        if hasState(index) {
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
        _ index: Int, _ instance: UInt64, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        if imports[index].recovery?.instance == instance {
            resumeRecovery(index, &lnet, now)
            return
        }
        abandonRecovery(index, &lnet)
        imports[index].recovery = Import.Recovery(instance: instance)
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
                requests[xid].kind == .lockReplay ? [.resent, .requestReplayDone] : .resent
            imports[index].counters.resent &+= 1
            send(xid, index, flags, timeout: configuration.recoveryTimeout, &lnet, now)
        }
        if let xid = imports[index].recovery?.replaying, xid != .zero {
            imports[index].counters.resent &+= 1
            send(
                xid, index, [.replay, .resent], timeout: configuration.recoveryTimeout, &lnet,
                now)
        }
        if case .finalPing = phase { sendFinalPing(index, &lnet, now) }
        pumpRecovery(index, &lnet, now)
    }

    /// Forgets an unfinished recovery: its instance is gone, or has forgotten this client.
    mutating func abandonRecovery(_ index: Int, _ lnet: inout LNetCore) {
        guard imports[index].recovery != nil else { return }
        while let xid = imports[index].recovery?.interrupted.head, xid != .zero { release(xid) }
        var next = imports[index].unanswered.head
        while next != .zero {
            let xid = next
            next = requests[xid].newer
            switch requests[xid].kind {
            case .openReplay, .lockReplay, .finalPing: release(xid)
            case .call, .connect, .disconnect, .ping: break
            }
        }
        let replaying = imports[index].recovery!.replaying
        if replaying != .zero {
            detachBulk(replaying, &lnet)
            unlist(replaying, index)
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
                guard imports[index].recovery!.replaying == .zero else { return }
                if let xid = nextSaved(index) {
                    imports[index].recovery!.replaying = xid
                    imports[index].counters.replayed &+= 1
                    send(
                        xid, index, .replay, timeout: configuration.recoveryTimeout, &lnet, now)
                    return
                }
                imports[index].recovery!.phase = .awaitingLocks
                imports[index].enter(.replayLocks, now)
                events.append(.needLockReplays(import: index))
            case .locks:
                guard sendReplays(index, .lockReplay, .requestReplayDone, &lnet, now) else {
                    return
                }
                imports[index].recovery!.phase = .finalPing
                imports[index].recovery!.replays = []
                imports[index].enter(.replayWait, now)
                sendFinalPing(index, &lnet, now)
            }
        }
    }

    /// Keeps a few replays under way, in their order. True when all are answered.
    private mutating func sendReplays(
        _ index: Int, _ kind: Request.Kind, _ flags: MessageFlags, _ lnet: inout LNetCore,
        _ now: Ticks
    ) -> Bool {
        while imports[index].recovery!.unansweredReplays < configuration.replaysInFlightMax,
            imports[index].recovery!.nextReplay < imports[index].recovery!.replays.count
        {
            let (body, cookie) = imports[index].recovery!.replays[
                imports[index].recovery!.nextReplay]
            imports[index].recovery!.nextReplay += 1
            if case .openReplay(let open) = body, isSavedOpen(index, open.handle) { continue }
            imports[index].recovery!.unansweredReplays += 1
            imports[index].counters.replayed &+= 1
            sendInternal(index, kind, body, flags: flags, cookie: cookie, &lnet, now)
        }
        return imports[index].recovery!.unansweredReplays == 0
            && imports[index].recovery!.nextReplay == imports[index].recovery!.replays.count
    }

    private func isSavedOpen(_ index: Int, _ handle: UInt64) -> Bool {
        for place in imports[index].savedHead..<imports[index].saved.count {
            if requests.openHandle(imports[index].saved[place].xid) == handle { return true }
        }
        return false
    }

    /// The saved request with the lowest transno that was not replayed yet.
    private func nextSaved(_ index: Int) -> XID? {
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
        return low < imports[index].saved.count ? imports[index].saved[low].xid : nil
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
        if imports[index].recovery?.replaying == xid {
            imports[index].recovery!.replaying = .zero
            imports[index].recovery!.cursor = requests[xid].transno
        }
        if header.status.isError {
            events.append(
                .replayFailed(
                    import: index, opcode: requests[xid].opcode, status: header.status,
                    xid: xid, transno: requests[xid].transno))
        }
        prune(index)
        pumpRecovery(index, &lnet, now)
    }

    /// The recovery is over, or there was none: what was not answered is sent again, then the
    /// rest.
    mutating func becomeFull(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        imports[index].recovery = nil
        imports[index].enter(.recover, now)
        pump(index, &lnet, now)
        imports[index].enter(.full, now)
        events.append(.full(import: index))
    }
}
