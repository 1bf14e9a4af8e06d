public import WireFormat

/// What the owner of an `RPCClient` is told, in the order in which it happened.
public enum RPCClientEvent: Equatable, Sendable {
    /// The answer to a `call`; `status` may be an error. A refused update (`inProgress`,
    /// `tryAgain`) arrives here too: the owner calls again once its gate is open.
    case reply(
        cookie: UInt64, import: Int, status: Status, body: ReplyBody, xid: XID, transno: Transno)
    /// The end of a `call` without an answer: eviction or lost state (`notConnected`), closed
    /// (`shutdown`), a full queue (`tryAgain`), bad bytes (`protocolError`).
    case failed(cookie: UInt64, import: Int, status: Status, xid: XID)
    /// A server's request; exactly one `answer` is due. Nil where its import is not known.
    case callback(import: Int?, token: CallbackToken, body: RequestBody)
    /// A target took the client (back); recovery, if any, follows.
    case connected(import: Int, reply: ConnectReply)
    /// `replayOpens` is due: every open that is committed and not closed, or none.
    case needOpenReplays(import: Int)
    /// `replayLocks` is due: every lock in the order of its grant, waiting ones last, or none.
    case needLockReplays(import: Int)
    /// The answer to one of the owner's replays, or to `status` a failure of it.
    case replayReply(
        import: Int, cookie: UInt64, status: Status, body: ReplyBody, xid: XID, transno: Transno)
    /// A saved update could not be done again: it was refused, or (with `notConnected`) a target
    /// that claims to have committed all does not have it. The update is lost.
    case replayFailed(import: Int, opcode: Opcode, status: Status, xid: XID, transno: Transno)
    /// Requests flow.
    case full(import: Int)
    /// Requests wait; the import reconnects by itself unless `reason` is `closed`.
    case disconnected(import: Int, reason: DisconnectReason)
    /// The target has forgotten this client: locks and opens there are gone, and every request
    /// under way has failed just before.
    case evicted(import: Int)
    /// A reply's trailer that says something new: the target prepares for an upgrade.
    case trailer(import: Int, trailer: ReplyTrailer)
    /// Everything up to here is on disk.
    case committed(import: Int, transno: Transno)
    /// The target will not have this client (access, version). Tried again after a long pause.
    case refused(import: Int, status: Status)
}

/// Why an import is no longer connected.
public enum DisconnectReason: Equatable, Sendable {
    /// LNet lost its connections to the server.
    case connectionLost
    /// A request got no answer in time.
    case requestTimeout
    /// The server does not know the connection.
    case notConnected
    /// A new instance took over: by `preconnect` or `targetUp`.
    case switched
    /// By `disconnect`.
    case closed
    /// Nothing was wanted; the next call connects again.
    case idle
}

/// Where the answer to a server's request goes.
public struct CallbackToken: Hashable, Sendable, BitwiseCopyable {
    public let nid: NID
    public let xid: XID
    public let opcode: Opcode
    let connectionCount: UInt32
    let handle: UInt64
    let version: ProtocolVersion
}

/// Names a request from `call` on; stale once it was answered or has failed.
public struct RequestHandle: Hashable, Sendable, BitwiseCopyable {
    public let xid: XID
}
