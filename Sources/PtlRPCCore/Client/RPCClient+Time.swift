public import LNetCore
public import Primitives
import WireFormat

extension RPCClient {
    /// Time has passed.
    public mutating func tick(lnet: inout LNetCore, now: Ticks) {
        for index in imports.indices {
            if let parked = imports[index].parked, parked.deadline <= now {
                repeatParked(index, &lnet, now)
            }
            if let attempt = imports[index].attempt, attempt.deadline <= now {
                attemptFailed(index, tryNext: true, now)
            }
            switch imports[index].state {
            case .disconnected, .connecting:
                startDueAttempt(index, &lnet, now)
            case .replay, .replayLocks, .replayWait, .recover, .full, .evicted:
                if isOverdue(index, now) {
                    imports[index].counters.timeouts &+= 1
                    lost(index, .requestTimeout, &lnet, now)
                } else if let due = pingDeadline(index),
                    due <= now || sites.fires(.pingEarly)
                {
                    imports[index].commitPingAt = .distantFuture
                    sendInternal(index, .ping, .ping, &lnet, now)
                } else if let due = idleDeadline(index), due <= now {
                    becomeIdle(index, &lnet, now)
                } else if let due = returnDeadline(index), due <= now {
                    askForReturn(index, &lnet, now)
                }
            case .new, .closed, .idle:
                break
            }
        }
    }

    /// When `tick` is due next; nil while nothing can happen by itself.
    public var nextDeadline: Ticks? {
        var earliest = Ticks.distantFuture
        for index in imports.indices {
            if let parked = imports[index].parked { earliest = min(earliest, parked.deadline) }
            if let attempt = imports[index].attempt {
                earliest = min(earliest, attempt.deadline)
            } else {
                earliest = min(earliest, imports[index].retryAt)
            }
            if !imports[index].sent.isEmpty {
                earliest = min(earliest, imports[index].deadlineMin)
            }
            if let due = pingDeadline(index) { earliest = min(earliest, due) }
            if let due = idleDeadline(index) { earliest = min(earliest, due) }
            if let due = returnDeadline(index) { earliest = min(earliest, due) }
        }
        return earliest == .distantFuture ? nil : earliest
    }

    /// Whether a request has had no answer in time. Early replies put single deadlines off, so the
    /// list of what was sent is not in their order: it is looked through when the earliest that
    /// there was has passed, which under load is once in a time-out.
    private mutating func isOverdue(_ index: Int, _ now: Ticks) -> Bool {
        guard imports[index].deadlineMin <= now, !imports[index].sent.isEmpty else { return false }
        var earliest = Ticks.distantFuture
        var xid = imports[index].sent.head
        while xid != .zero {
            earliest = min(earliest, requests[xid].deadline)
            xid = requests[xid].next
        }
        imports[index].deadlineMin = earliest
        return earliest <= now
    }

    /// When a ping is due: the connection was silent for long, or commits are waited for.
    private func pingDeadline(_ index: Int) -> Ticks? {
        guard imports[index].state == .full, imports[index].sent.isEmpty else { return nil }
        if imports[index].commitPingAt != .distantFuture { return imports[index].commitPingAt }
        guard let interval = configuration.pingInterval else { return nil }
        let waitsForCommit = imports[index].savedCount > 0
        return imports[index].lastSentAt
            + (waitsForCommit ? min(interval, configuration.commitPingInterval) : interval)
    }

    /// When the connection is given up because nobody wants it. Not while an upgrade is announced:
    /// the target counts on its clients then.
    private func idleDeadline(_ index: Int) -> Ticks? {
        guard let timeout = configuration.idleTimeout, imports[index].state == .full,
            imports[index].sent.isEmpty, imports[index].queuedCount == 0,
            imports[index].savedCount == 0, !imports[index].holdsState, !imports[index].isKept,
            imports[index].trailer == nil, imports[index].parked == nil
        else { return nil }
        return imports[index].lastUsedAt + timeout
    }

    // MARK: Adaptive time-outs

    var latencyHistory: TickInterval { configuration.adaptive?.history ?? .zero }

    /// How long the answer to a new request may take, the network apart.
    mutating func requestTimeout(_ index: Int, _ now: Ticks) -> TickInterval {
        guard let adaptive = configuration.adaptive else { return configuration.requestTimeout }
        let estimate = imports[index].serviceEstimate.current(at: now, history: adaptive.history)
        return configuration.requestTimeout + adaptive.addition(estimate)
    }

    /// What a reply says of the target and of the network between. What had to be sent twice, or
    /// waited for others in a recovery, says nothing.
    mutating func learn(_ xid: XID, _ index: Int, _ header: PtlRPCBody, _ now: Ticks) {
        guard let adaptive = configuration.adaptive, requests[xid].kind != .finalPing,
            !requests[xid].isSaved
        else { return }
        imports[index].serviceEstimate.add(
            .seconds(UInt64(header.timeoutSeconds)), at: now, history: adaptive.history)
        // The header tells whole seconds, rounded up: less than one of them is no latency.
        let served = TickInterval.seconds(UInt64(header.serviceSeconds))
        let elapsed = now - requests[xid].sentAt
        guard elapsed > served, elapsed.nanoseconds - served.nanoseconds >= 1_000_000_000 else {
            return
        }
        imports[index].latencyEstimate.add(
            TickInterval(nanoseconds: elapsed.nanoseconds - served.nanoseconds), at: now,
            history: adaptive.history)
    }

    /// The target has shown that it answered the calls whose cookies `isAnswered` knows: an answer that
    /// is not here in the shortest time-out is lost, however long such calls take elsewhere. Linear
    /// in the requests under way.
    public mutating func expectSoon(
        _ index: Int, now: Ticks, where isAnswered: (_ cookie: UInt64) -> Bool
    ) {
        let soon = now + configuration.requestTimeout
        var xid = imports[index].sent.head
        while xid != .zero {
            if requests[xid].kind == .call, requests[xid].deadline > soon,
                isAnswered(requests[xid].cookie)
            {
                requests[xid].deadline = soon
                imports[index].deadlineMin = min(imports[index].deadlineMin, soon)
            }
            xid = requests[xid].next
        }
    }

    /// The target is still at it and says how long it may take, counted from the sending.
    mutating func putOff(_ xid: XID, _ index: Int, _ header: PtlRPCBody, _ now: Ticks) {
        imports[index].counters.earlyReplies &+= 1
        let deadline =
            requests[xid].sentAt + .seconds(UInt64(header.timeoutSeconds))
            + imports[index].latencyEstimate.current(at: now, history: latencyHistory)
        requests[xid].deadline = max(requests[xid].deadline, deadline)
        noteCommitted(index, header.lastCommitted)
    }
}
