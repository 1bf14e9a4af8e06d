public import Primitives
public import WireFormat

/// The states of the client side of a connection (`enum lustre_imp_state`, lustre_import.h).
public enum ImportState: UInt8, BitwiseCopyable, Sendable, CaseIterable {
    /// Ended by `disconnect`.
    case closed = 1
    case new = 2
    /// No connection; the next attempt has a time.
    case disconnected = 3
    case connecting = 4
    /// Open replays, then saved requests.
    case replay = 5
    case replayLocks = 6
    /// The final ping is under way.
    case replayWait = 7
    /// Resending what was not answered.
    case recover = 8
    case full = 9
    /// The target has forgotten the client; passed through on the way to `full`.
    case evicted = 10
    /// Disconnected because nothing was wanted; the next call connects.
    case idle = 11

    /// LUSTRE_IMP_*, as `lctl` prints them.
    public var name: String {
        switch self {
        case .closed: "CLOSED"
        case .new: "NEW"
        case .disconnected: "DISCONN"
        case .connecting: "CONNECTING"
        case .replay: "REPLAY"
        case .replayLocks: "REPLAY_LOCKS"
        case .replayWait: "REPLAY_WAIT"
        case .recover: "RECOVER"
        case .full: "FULL"
        case .evicted: "EVICTED"
        case .idle: "IDLE"
        }
    }

    /// A connection stands.
    public var isConnected: Bool {
        switch self {
        case .replay, .replayLocks, .replayWait, .recover, .full, .evicted: true
        case .closed, .new, .disconnected, .connecting, .idle: false
        }
    }
}

/// The last states of an import, for post-mortems (`import_state_hist`).
public struct ImportHistory: Sendable {
    public struct Entry: Equatable, Sendable, BitwiseCopyable {
        public var state: ImportState
        public var at: Ticks
    }

    private var ring = InlineArray<16, Entry>(repeating: Entry(state: .new, at: .zero))
    private var written = 0

    mutating func append(_ state: ImportState, at now: Ticks) {
        ring[written % 16] = Entry(state: state, at: now)
        written &+= 1
    }

    /// Oldest first, at most 16.
    public var entries: [Entry] {
        (max(0, written - 16)..<written).map { ring[$0 % 16] }
    }
}

/// An import as an operator or an upgrade receipt sees it.
public struct ImportSummary: Sendable {
    public var targetName: String
    public var state: ImportState
    public var version: ProtocolVersion
    public var features: Features
    /// The target's instance that the import is, or was last, connected to; 0 for none.
    public var instance: UInt64
    public var nid: NID
    /// Everywhere that the target may be, failover partners among them.
    public var nids: [NID]
    /// Attempts that failed in a row; 0 while connected.
    public var failures: Int
    /// How many connections were made, this one included.
    public var connectionCount: UInt32
    /// The highest XID given to a request of this import.
    public var highestXID: XID
    public var highestTransno: Transno
    public var lastCommitted: Transno
    /// Updates without an answer, sent or waiting.
    public var updatesInFlight: Int
    /// Requests sent and not answered.
    public var sentCount: Int
    /// The replay list.
    public var savedCount: Int
    /// Requests that have not gone out.
    public var queuedCount: Int
    /// The target's estimate of its service time, and ours of the network beside it; zero where
    /// nothing slow was seen.
    public var serviceEstimate: TickInterval
    public var networkLatency: TickInterval
    /// A DISCONNECT is on its way, for idleness or for good: nothing else goes out on this connection.
    public var isDisconnecting: Bool
    public var counters: ImportCounters
    public var history: ImportHistory
}

public struct ImportCounters: Equatable, Sendable {
    public internal(set) var calls: UInt64 = 0
    public internal(set) var replies: UInt64 = 0
    public internal(set) var connectAttempts: UInt64 = 0
    public internal(set) var connects: UInt64 = 0
    /// Saved requests, opens and locks sent as replays.
    public internal(set) var replayed: UInt64 = 0
    public internal(set) var resent: UInt64 = 0
    public internal(set) var timeouts: UInt64 = 0
    /// "Still at it": deadlines that a target put off.
    public internal(set) var earlyReplies: UInt64 = 0
    public internal(set) var idleDisconnects: UInt64 = 0
    /// Returns to an endpoint on a better network of the same node.
    public internal(set) var returns: UInt64 = 0
    public internal(set) var evictions: UInt64 = 0
    /// Replies of older connections, of other nodes, or to nothing.
    public internal(set) var lateReplies: UInt64 = 0
    /// Requests of the server on an older connection.
    public internal(set) var lateCallbacks: UInt64 = 0
    /// Messages whose bytes were refused.
    public internal(set) var badMessages: UInt64 = 0
}
