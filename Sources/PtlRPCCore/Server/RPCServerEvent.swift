public import WireFormat

/// What a server's owner is to act upon, in this order.
public enum RPCServerEvent: Equatable, Sendable {
    /// A client connects. The owner takes `connectReply(for:)`, completes it, and calls
    /// `answerConnect`; for a new client after the commit of its record (`clientRecord(of:)`).
    case connect(
        export: UInt32, token: RequestToken, request: ConnectRequest, mode: ConnectReply.Mode,
        isNewClient: Bool)
    /// A connect was refused; for the log.
    case connectRefused(nid: NID, clientUUID: String, refusal: ConnectRefusal)
    /// A request to execute, exactly once; `reply` or `refuse` follows, in any order.
    case execute(ServerRequest)
    /// DISCONNECT: the owner removes the client's rows, then calls `reply`; then it is forgotten.
    case disconnected(export: UInt32, token: RequestToken)
    /// All connections to the client are gone. Its export stays.
    case peerLost(export: UInt32)
    /// The answer to a request to a client, or why there is none.
    case callbackReply(cookie: UInt64, export: UInt32, status: Status, body: ReplyBody)
    /// After a clean start: the client has told all its opens and locks. What of it is still
    /// reserved was given up.
    case replayDone(export: UInt32)
    /// A recovery has reached this stage.
    case recoveryStage(RecoveryStage)
    /// Everybody is served from now on; the clients that were lost during the recovery.
    case recoveryFinished(evicted: [UInt32])
    /// A client has told all that it had: what that came to.
    case replayed(ExportSummary)
    /// What an export had under way that is taken away now: `evicted` follows at once.
    case losing(ExportSummary)
    /// The export is gone; its rows are to be removed. Its tokens are stale.
    case evicted(export: UInt32, clientUUID: String, reason: EvictionReason)
}

/// A request as its owner executes it.
public struct ServerRequest: Equatable, Sendable {
    public var token: RequestToken
    public var export: UInt32
    public var xid: XID
    /// Slot of an update, 1...; 0 for others.
    public var tag: UInt16
    public var body: RequestBody
    public var version: ProtocolVersion
    /// An update that was executed before the crash: it gets `replayTransno` again.
    public var isReplay: Bool
    public var replayTransno: Transno
    /// A lock or open that the client held in an earlier instance.
    public var isLockReplay: Bool
    /// Sent before: an enqueue may have been granted already.
    public var isResent: Bool
    /// Of a replay: what its first execution found.
    public var preVersions = PreVersions()
}

/// How a recovery proceeds.
public enum RecoveryStage: UInt8, Sendable, CaseIterable, Comparable {
    /// Not started: connects are parked.
    case standby = 0
    /// Until every known client is back.
    case connecting = 1
    /// Until every client has told its opens.
    case openReplay = 2
    /// Updates in the order of their transnos.
    case requestReplay = 3
    /// Locks, until every client has sent its final ping.
    case lockReplay = 4
    /// Nothing to recover.
    case serving = 5
    /// Nothing is accepted any more.
    case stopped = 6

    public static func < (a: RecoveryStage, b: RecoveryStage) -> Bool { a.rawValue < b.rawValue }
}

/// Why an export was taken away from its client.
public enum EvictionReason: Equatable, Sendable {
    /// The same UUID connected with another handle: the earlier client is dead.
    case clientRestarted
    /// Silent for the window of this stage.
    case recoveryWindow(RecoveryStage)
    /// A replay when nothing was to be replayed.
    case unexpectedReplay
    /// Some of its updates could not be done again: what they depended on was lost with another
    /// client. Evicted when its part of the recovery was over; what did not depend on it is kept.
    case replayFailed(count: UInt32)
    /// Not done when the recovery's hard limit passed, in this stage.
    case recoveryLimit(RecoveryStage)
    /// Not done when the recovery was ended by order.
    case recoveryAborted
    /// Said nothing for so long while others did.
    case silent(seconds: UInt64)
    /// The owner's decision.
    case owner(String)
}

extension EvictionReason: CustomStringConvertible {
    /// As it follows "because": what an operator reads.
    public var description: String {
        switch self {
        case .clientRestarted: "a new client with its name has connected"
        case .recoveryWindow(let stage):
            "it was silent for the whole recovery window, at stage \(stage.name)"
        case .unexpectedReplay: "it sent a replay although nothing of it is in recovery"
        case .replayFailed(let count):
            "\(count) of its updates stood on what was lost with another client"
        case .recoveryLimit(let stage):
            "it was not done when the recovery's hard limit passed, at stage \(stage.name)"
        case .recoveryAborted: "it was not done when the recovery was ended by order"
        case .silent(let seconds): "it said nothing for \(seconds) s while others did"
        case .owner(let reason): reason
        }
    }
}

extension RecoveryStage {
    /// As an operator reads it.
    public var name: String { shown.name }

    /// As it travels.
    public var shown: TargetShowReply.Stage {
        switch self {
        case .standby: .standby
        case .connecting: .connecting
        case .openReplay: .openReplay
        case .requestReplay: .requestReplay
        case .lockReplay: .lockReplay
        case .serving: .serving
        case .stopped: .stopped
        }
    }
}

/// Why a connect was refused.
public enum ConnectRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    case unknownTarget(String)
    case noCommonVersion(
        client: ClosedRange<ProtocolVersion>, server: ClosedRange<ProtocolVersion>)
    case recovering
    case tooManyClients
    case outdatedConnection
    case unreadable

    public var status: Status {
        switch self {
        case .unknownTarget: .noDevice
        case .noCommonVersion, .unreadable: .protocolError
        case .recovering, .tooManyClients: .busy
        case .outdatedConnection: .already
        }
    }

    public var description: String {
        switch self {
        case .unknownTarget(let name): "target \(name) is not here"
        case .noCommonVersion(let client, let server):
            "the client speaks protocol \(client.lowerBound) to \(client.upperBound), "
                + "this server \(server.lowerBound) to \(server.upperBound)"
        case .recovering: "recovery is going on: no new clients yet"
        case .tooManyClients: "no room for another client"
        case .outdatedConnection: "a newer connection of this client exists"
        case .unreadable: "the request could not be read"
        }
    }
}
