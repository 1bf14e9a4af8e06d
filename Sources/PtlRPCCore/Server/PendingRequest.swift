import LNetCore
import Primitives
import WireFormat

/// A request between its arrival and its answer.
struct PendingRequest: Sendable {
    enum State: Sendable {
        /// A connect that the owner has to answer.
        case connecting
        /// The bytes of a write are on their way.
        case fetching
        /// Waits for its turn in the recovery.
        case queued
        /// The owner has it.
        case executing
        /// The bytes of a read are on their way; the reply follows their ACK.
        case putting
        /// A batch some of whose requests are not answered.
        case batched
    }

    var state = State.executing
    /// Nil for a connect that found no export.
    var export: UInt32
    var xid: XID
    var matchBits: UInt64
    var connectionCount: UInt32
    var tag: UInt16
    var opcode: Opcode
    var flags: MessageFlags
    /// Of a replay.
    var transno: Transno
    var replyPortal: UInt32
    var isUpdate: Bool
    /// Nil once handed over.
    var body: RequestBody?
    /// What `replyRecord` put into the row, for the slot.
    var saved: [UInt8]?
    /// What follows the ACK of a bulk PUT.
    var reply: PreparedReply?
    /// Of a connect.
    var mode = ConnectReply.Mode.fresh
    /// Of a replay: what its first execution found.
    var preVersions: PreVersions
    /// Of a replay: the client's replay before it.
    var predecessor: Transno
    var arrivedAt: Ticks
    /// When the client gives up; distant where it did not say.
    var deadline: Ticks
    /// The client takes early replies: the real one goes behind the room for them.
    var takesEarly: Bool
    /// The batch that the request came in, and its place there.
    var batch: (slot: SlotHandle, place: Int)?
    /// Of a batch: the answers so far.
    var answers: [BatchAnswer?] = []
    var missingAnswers = 0

    var isReplay: Bool { isUpdate && flags.contains(.replay) }

    init(
        export: UInt32, header: PtlRPCBody, xid: XID, replyPortal: UInt32, body: RequestBody,
        takesEarly: Bool, now: Ticks
    ) {
        self.export = export
        self.xid = xid
        // A client that names no match bits means its XID (OBD_CONNECT_BULK_MBITS unset).
        matchBits = header.matchBits == 0 ? xid.rawValue : header.matchBits
        connectionCount = header.connectionCount
        tag = header.tag
        opcode = body.opcode
        flags = header.flags
        transno = header.transno
        preVersions = header.preVersions
        predecessor = header.lastCommitted
        arrivedAt = now
        deadline =
            header.timeoutSeconds == 0
            ? .distantFuture : now + .seconds(UInt64(header.timeoutSeconds))
        self.takesEarly = takesEarly
        self.replyPortal = replyPortal
        isUpdate = body.isUpdate
        self.body = body
    }
}

/// A reply that waits for its bulk data to arrive.
struct PreparedReply: Sendable {
    var status: Status
    var body: ReplyBody
    var transno: Transno
    var trailer: ReplyTrailer?
    var preVersions: PreVersions
}

/// What a server writes into LNet's cookies: whose it is, what for, and which request.
struct ServerCookie {
    enum Kind: UInt64 {
        case request = 1
        case cancel = 2
        case callbackReply = 3
        case fetch = 4
        case bulkPut = 5
    }

    let rawValue: UInt64

    /// Tag 8 bits, kind 4, generation 20, index 32. The generation is cut: a request would have
    /// to be replaced half a million times at its place while one message is under way.
    init(tag: UInt8, _ kind: Kind, _ slot: SlotHandle = SlotHandle(index: 0, generation: 0)) {
        rawValue =
            UInt64(tag) << 56 | kind.rawValue << 52
            | UInt64(slot.generation & 0xF_FFFF) << 32 | UInt64(slot.index)
    }

    init(rawValue: UInt64) { self.rawValue = rawValue }

    var tag: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 56) }
    var kind: Kind? { Kind(rawValue: rawValue >> 52 & 0xF) }

    func slot<Element>(in table: SlotTable<Element>) -> SlotHandle? {
        let index = Int(UInt32(truncatingIfNeeded: rawValue))
        guard let handle = table.handle(at: index),
            UInt64(handle.generation & 0xF_FFFF) == rawValue >> 32 & 0xF_FFFF
        else { return nil }
        return handle
    }
}
