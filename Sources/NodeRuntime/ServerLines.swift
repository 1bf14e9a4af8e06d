import NodeCore

extension ServerStart {
    /// How an operator reads it.
    var line: String {
        switch self {
        case .fresh: "a new store"
        case .clean: "after a clean stop"
        case .recovering(let clientCount): "recovering \(clientCount) clients"
        }
    }
}

extension ServerLog {
    /// How an operator reads it.
    var line: String {
        switch self {
        case .evicted(let client, let reason): "evicted \(client): \(reason)"
        case .recovered(let clientCount, let replayed, let evicted):
            "recovered \(clientCount) clients, \(replayed) requests replayed, \(evicted) evicted"
        case .recoveryAborted: "recovery ended by order"
        case .upgrade(let text): text
        case .connectRefused(let text): "refused a connect of \(text)"
        case .commitFailed(let text): "a commit failed: \(text)"
        case .commitsAgain: "commits succeed again"
        case .damage(let text, let opcode, let xid):
            "damaged store: \(text); met by \(opcode)" + (xid == 0 ? "" : " \(xid)")
        case .fault(let text): text
        case .injected(let text): "deliberate fault: \(text)"
        }
    }
}
