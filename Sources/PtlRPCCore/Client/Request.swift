import LNetCore
import Primitives
import WireFormat

/// A request as a typed value, from its call until it is answered and, for an update, committed.
struct Request: Sendable {
    enum Kind: UInt8, Sendable {
        /// The owner's.
        case call
        case connect
        case disconnect
        /// Tells whether the connection lives, and what is committed.
        case ping
        case openReplay
        case lockReplay
        /// Ends a recovery.
        case finalPing
    }

    /// Which of the lists of its import holds the request.
    enum Place: UInt8, Sendable {
        /// In none: a connect, or an answered update on the replay list that is not being replayed.
        case none
        case urgent
        case updates
        case others
        case sent
        /// A replay whose connection was lost; it goes out again when the recovery goes on.
        case interrupted
    }

    /// 0 where the slot is free.
    var xid = XID.zero
    var importIndex: Int32 = 0
    var kind = Kind.call
    var place = Place.none
    // What the body says, asked for often.
    var opcode = Opcode.ping
    var isUpdate = false
    var isUrgent = false
    var dependsOnHeldState = false
    var wasSent = false
    /// Nobody awaits the answer any more.
    var isCancelled = false
    /// Answered, on the replay list.
    var isSaved = false
    /// Answers whose bulk bytes were not what they said.
    var bulkFailures: UInt8 = 0
    /// The modify slot, 0 for none; kept across resends.
    var tag: UInt16 = 0
    /// Of the connection that it was last sent on.
    var connectionCount: UInt32 = 0
    /// Bytes that the server has put into the bulk sink.
    var bulkReceived: UInt32 = 0
    var transno = Transno.zero
    /// Of a saved update: what it found, to be found again by its replay.
    var preVersions = PreVersions()
    var cookie: UInt64 = 0
    var sentAt = Ticks.zero
    var deadline = Ticks.zero
    var bulk: MEHandle?
    /// Neighbours among the unanswered of the import, in the order of their XIDs; 0 for none.
    var older = XID.zero
    var newer = XID.zero
    /// Neighbours in the list of `place`.
    var previous = XID.zero
    var next = XID.zero
    var body = RequestBody.ping
}

/// A list of requests, linked through the requests.
struct RequestList: Sendable, BitwiseCopyable {
    var head = XID.zero
    var tail = XID.zero
    var count = 0

    var isEmpty: Bool { count == 0 }
}

extension RequestBody {
    /// What neither waits for other requests nor counts among them: the shutdown needs it (R7),
    /// and the target answers it at once.
    var isUrgent: Bool {
        switch self {
        case .cancel, .convert, .ping, .disconnect, .upgradeProgress, .upgradeStatus, .upgradeStart,
            .upgradeOrder, .upgradeReceipts:
            true
        case .enqueue(let enqueue): enqueue.receipt != nil
        default: false
        }
    }

    /// Means nothing, or does harm, once the target has forgotten the locks and opens of this
    /// client.
    var dependsOnHeldState: Bool {
        switch self {
        case .enqueue, .cancel, .convert, .close, .openReplay, .objectWrite, .objectRead,
            .objectPunch,
            .upgradeProgress:
            true
        default: false
        }
    }

    /// The update as it is to be replayed: with the names that its execution gave.
    mutating func complete(from reply: ReplyBody) {
        switch (self, reply) {
        case (.open(var open), .open(let answer)):
            open.file = answer.attributes.file
            open.handle = answer.handle
            open.layout = answer.layout
            self = .open(open)
        case (.mkdir(var mkdir), .attributes(let answer)):
            mkdir.file = answer.attributes.file
            self = .mkdir(mkdir)
        default:
            break
        }
    }
}
