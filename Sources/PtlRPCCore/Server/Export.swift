import LNetCore
import Primitives
import WireFormat

/// One client at one target. C name: `struct obd_export`.
struct Export: Sendable {
    /// Where the client stands in its own recovery; `none` outside.
    enum Recovery: Sendable {
        case none
        /// Known from its record and not back yet.
        case absent
        /// Back; may tell its opens.
        case opens
        /// Replays updates.
        case requests
        /// Has no more updates; replays locks.
        case locks
        /// Has sent its final ping.
        case done

        var standing: TargetShowReply.Standing {
            switch self {
            case .none: .full
            case .absent: .absent
            case .opens: .opens
            case .requests: .requests
            case .locks: .locks
            case .done: .done
            }
        }
    }

    var uuid: String
    var clientHandle: UInt64
    var nid: NID
    var version: ProtocolVersion
    var features: Features
    /// Where replies go; nil while no connection is known.
    var peer: PeerRef?
    var connectionCount: UInt32 = 0
    var isObserver = false
    var isFenced = false
    /// A disconnect is being executed: nothing else is taken.
    var isLeaving = false
    /// Loaded, and not connected in this instance.
    var isAbsent = false
    /// Part of the clean record until its final ping: told so at every connect.
    var isCleanRecord = false
    /// Only clean stops lie between this instance of the target and the present one.
    var cleanSince: UInt64 = 0
    /// Connects of this client that know less than the record are asked to come again until then.
    var doubtedUntil: Ticks?
    /// No request has used this handle: the client may not have had the connect reply.
    var isUnheard = true
    /// A new client; told so again while it is unheard.
    var isFresh = false
    var recovery = Recovery.none
    var lastXID = XID.zero
    /// By tag - 1; made with the first update.
    var slots: [ReplySlot] = []
    /// Requests under way or queued, oldest first.
    var requests: [SlotHandle] = []
    var callbacks: [SlotHandle] = []
    /// Replays in the queue: those up to which nothing of this client is missing.
    var queuedReplayCount = 0
    /// All replays of this client up to this transno have come.
    var shownTransno = Transno.zero
    /// Replays whose predecessor has not come: it was lost, or its bytes are on their way.
    var heldReplays: [SlotHandle] = []
    /// Replays of this recovery, so that one that is sent again gets its answer.
    var replayed: [ReplySlot] = []
    /// When it last sent a request.
    var lastHeard = Ticks.zero
    /// What its replays of this recovery came to.
    var account = ReplayAccount()
    var pendingConnect: SlotHandle?
    var finalPing: SlotHandle?
    var trailer: ReplyTrailer?

    /// Gives the saved replies free that the client says it needs no more.
    mutating func freeSlots() {
        for index in slots.indices
        where slots[index].state == .finished && slots[index].xid <= lastXID {
            slots[index].saved = []
        }
    }

    mutating func makeSlots() {
        if slots.isEmpty {
            slots = [ReplySlot](repeating: ReplySlot(), count: Int(ReplyRecord.tagMax))
        }
    }
}

/// The last update of one tag. C name: `struct tg_reply_data`.
struct ReplySlot: Sendable {
    enum State: Sendable {
        case empty
        case inProgress
        case finished
        /// Came and was not executed: may come again.
        case refused
    }

    var state = State.empty
    var xid = XID.zero
    var transno = Transno.zero
    var status = Status.ok
    var saved: [UInt8] = []
}
