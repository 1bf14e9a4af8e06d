import NodeCore
import PtlRPCCore
import Primitives
import WireFormat

/// One line for an operator, and what it is about by name: for logs that are searched.
public struct ServerLine: Sendable, CustomStringConvertible {
    /// As swift-log orders them.
    public enum Level: Sendable, CaseIterable {
        case debug, info, notice, warning, error
    }

    public var level: Level
    /// The whole sentence: nothing in `fields` has to be read beside it.
    public var text: String
    /// Names and values, for those who search and count.
    public var fields: [(name: String, value: String)]

    public init(_ level: Level, _ text: String, _ fields: [(name: String, value: String)] = []) {
        self.level = level
        self.text = text
        self.fields = fields
    }

    public var description: String { text }
}

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

extension ServerLine {
    /// What a node wants told.
    init(_ log: ServerLog) {
        switch log {
        case .evicted(let client, let reason, let loss):
            self.init(
                .warning,
                "evicted \(loss.name(client)) because \(reason); it lost \(loss.words)",
                [("event", "evicted"), ("client", client), ("reason", reason)] + loss.fields)
        case .clientRestarted(let client, let loss):
            self.init(
                .notice,
                "\(loss.name(client)) is a new process; the one before left \(loss.words)",
                [("event", "client-restarted"), ("client", client)] + loss.fields)
        case .replayed(let client, let nid, let account, let took):
            self.init(replayed: client, at: "\(nid)", account, took)
        case .replayFailed(let client, let opcode, let xid, let transno, let reason):
            self.init(
                .warning,
                "cannot replay \(opcode) \(xid) of \(client), transno \(transno): \(reason); "
                    + "the update is lost, and its client is evicted when its replay is over",
                [
                    ("event", "replay-failed"), ("client", client), ("opcode", opcode),
                    ("xid", "\(xid)"), ("transno", "\(transno)"), ("reason", reason),
                ])
        case .recovered(let clientCount, let replayed, let evicted):
            self.init(
                evicted == 0 ? .notice : .warning,
                "recovered \(clientCount) clients, \(replayed) requests replayed, "
                    + "\(evicted) evicted",
                [
                    ("event", "recovered"), ("clients", "\(clientCount)"),
                    ("replayed", "\(replayed)"), ("evicted", "\(evicted)"),
                ])
        case .recoveryAborted:
            self.init(.warning, "recovery ended by order", [("event", "recovery-aborted")])
        case .upgrade(let text):
            self.init(.notice, text, [("event", "upgrade")])
        case .connectRefused(let text):
            self.init(.notice, "refused a connect of \(text)", [("event", "connect-refused")])
        case .commitFailed(let text):
            self.init(.error, "a commit failed: \(text)", [("event", "commit-failed")])
        case .commitsAgain:
            self.init(.notice, "commits succeed again", [("event", "commits-again")])
        case .damage(let text, let opcode, let xid):
            self.init(
                .error,
                "damaged store: \(text); met by \(opcode)" + (xid == 0 ? "" : " \(xid)"),
                [("event", "damage"), ("opcode", opcode), ("xid", "\(xid)")])
        case .fault(let text):
            self.init(.error, text, [("event", "fault")])
        case .injected(let text):
            self.init(.warning, "deliberate fault: \(text)", [("event", "injected")])
        }
    }

    private init(
        replayed client: String, at nid: String, _ account: ReplayAccount, _ took: TickInterval
    ) {
        let milliseconds = took.nanoseconds / 1_000_000
        var text = "\(client) at \(nid) replayed \(account.executed) updates"
        if account.executed > 0 {
            let (first, last) = (account.firstTransno.rawValue, account.lastTransno.rawValue)
            text += first == last ? " (transno \(first))" : " (transno \(first) to \(last))"
        }
        text += ", \(account.fromRecord) more were on record, \(account.opens) opens, "
        text += "\(account.locks) locks, in \(milliseconds) ms"
        self.init(
            .info, text,
            [
                ("event", "replayed"), ("client", client), ("nid", nid),
                ("executed", "\(account.executed)"), ("recorded", "\(account.fromRecord)"),
                ("opens", "\(account.opens)"), ("locks", "\(account.locks)"),
                ("ms", "\(milliseconds)"),
            ])
    }
}

extension EvictionLoss {
    fileprivate func name(_ client: String) -> String {
        nid.rawValue == 0 ? client : "\(client) at \(nid)"
    }

    fileprivate var words: String {
        var parts: [String] = []
        func add(_ count: Int, _ one: String, _ many: String) {
            if count > 0 { parts.append("\(count) \(count == 1 ? one : many)") }
        }
        add(locks, "lock", "locks")
        add(opens, "open file", "open files")
        add(requests, "request under way", "requests under way")
        return parts.isEmpty ? "nothing here" : parts.joined(separator: ", ")
    }

    fileprivate var fields: [(name: String, value: String)] {
        [
            ("nid", nid.rawValue == 0 ? "" : "\(nid)"), ("locks", "\(locks)"),
            ("opens", "\(opens)"), ("requests", "\(requests)"), ("replayed", "\(replayed)"),
        ]
    }
}
