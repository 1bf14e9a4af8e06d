import LNetCore
import Primitives
import WireFormat

/// The client side of one target (`struct obd_import`): where it is, what it owes, what it knows.
struct Import: Sendable {
    /// One place where the target may be.
    struct Endpoint: Sendable {
        var nid: NID
        /// Looked up at the first send; kept.
        var peer: PeerRef?
    }

    /// A CONNECT that was sent.
    struct Attempt: Sendable {
        /// `.zero` while it waits to be sent again.
        var xid: XID
        var endpoint: Int
        var connectionCount: UInt32
        var startedAt: Ticks
        var deadline: Ticks
    }

    struct Saved: Sendable, BitwiseCopyable {
        var transno: Transno
        var xid: XID
    }

    /// What the next instance is being told.
    struct Recovery: Sendable {
        enum Phase: Sendable {
            /// The owner is asked for its opens.
            case awaitingOpens
            case opens
            /// Saved requests, one at a time.
            case requests
            /// The owner is asked for its locks.
            case awaitingLocks
            case locks
            case finalPing
        }

        struct Batch: Sendable {
            var xid: XID
            var cookies: [UInt64]
        }

        var phase = Phase.awaitingOpens
        /// The instance that is told; a reconnect to it goes on where this one stopped.
        var instance: UInt64
        /// The owner's open or lock replays.
        var replays: [(RequestBody, UInt64)] = []
        var nextReplay = 0
        /// Those of them that were sent and not answered.
        var unansweredReplays = 0
        /// The batches among them, with the cookies of what they hold.
        var batches: [Batch] = []
        /// The highest transno whose replay was sent.
        var cursor = Transno.zero
        /// Saved requests that were sent and not answered, and those of them that carry bulk.
        var updatesUnderWay = 0
        var bulkUnderWay = 0
        /// After a clean stop, to a target that takes batches: what is held is told in one message.
        var isBatched = false
        /// The owner's answers, until it is clear whether they fit one message.
        var opens: [(RequestBody, UInt64)]?
        var locks: [(RequestBody, UInt64)]?
        /// The one message is under way; its answer is the end of the recovery.
        var isSingle = false
        /// Replays under way when the connection was lost.
        var interrupted = RequestList()
    }

    let targetName: String
    let kind: TargetKind
    var endpoints: [Endpoint]
    /// Of the connection, or of the next attempt.
    var endpoint = 0
    var state = ImportState.new
    var history = ImportHistory()

    var version: ProtocolVersion
    var features: Features = []
    /// Bytes that the target has set aside for dirty data, as the next connect says.
    var grantClaim: UInt32 = 0
    var instance: UInt64 = 0
    /// The server's export cookie.
    var remoteHandle: UInt64 = 0
    /// Of the connection that stands or stood last; 0 before the first.
    var connectionCount: UInt32 = 0
    /// The highest ever used.
    var lastConnectionCount: UInt32 = 0
    var modifyingRequestsMax = 1
    /// The newest upgrade that the target spoke of.
    var epoch = UpgradeEpoch.none
    var trailer: ReplyTrailer?
    /// DISCONNECT is under way.
    var isLeaving = false
    /// The owner has locks or opens there.
    var holdsState = false
    /// The owner wants the connection also when it asks nothing.
    var isKept = false
    /// Something was done there since the target last knew nothing of this client.
    var wasUsed = false

    var highestXID = XID.zero
    var highestTransno = Transno.zero
    var lastCommitted = Transno.zero
    var serverLockVolume: UInt64 = 0

    var unanswered = RequestList()
    var urgent = RequestList()
    var updates = RequestList()
    var others = RequestList()
    var sent = RequestList()
    /// Unanswered updates, sent or not.
    var updateCount = 0
    /// Sent and unanswered updates.
    var updatesSent = 0
    /// Bit t: modify slot t is taken.
    var tags: UInt64 = 1

    /// Answered updates that are not known to be committed, by transno, from `savedHead` on.
    var saved: [Saved] = []
    var savedHead = 0

    var attempt: Attempt?
    /// To where the target comes back; the server answers when it serves.
    var parked: Attempt?
    /// When the next attempt begins, where none is under way.
    var retryAt = Ticks.distantFuture
    /// Attempts that failed in a row.
    var failures = 0
    var recovery: Recovery?
    var lastSentAt = Ticks.zero
    /// When the owner last wanted something; pings are nobody's wish.
    var lastUsedAt = Ticks.zero
    /// DISCONNECT is under way because nothing is wanted here.
    var isIdling = false
    /// No deadline of a sent request is before this.
    var deadlineMin = Ticks.distantFuture
    /// The target's service time as its replies say it, and how much longer answers took.
    var serviceEstimate = TimeEstimate()
    var latencyEstimate = TimeEstimate()
    /// No update may go out before something saved is committed: ask for it then.
    var commitPingAt = Ticks.distantFuture
    /// When it became full last.
    var fullSince = Ticks.zero
    /// When it last asked for a better network, which ping asks now, and whose turn is next.
    var returnAskedAt = Ticks.zero
    var returnPing: UInt64?
    var returnTurn = 0
    var counters = ImportCounters()

    var savedCount: Int { saved.count - savedHead }
    var queuedCount: Int { urgent.count + updates.count + others.count }
    var nid: NID { endpoints[endpoint].nid }

    mutating func enter(_ state: ImportState, _ now: Ticks) {
        self.state = state
        history.append(state, at: now)
    }

    /// The place of `nid` among the endpoints; a new one is added.
    mutating func endpoint(for nid: NID) -> Int {
        if let index = endpoints.firstIndex(where: { $0.nid == nid }) { return index }
        endpoints.append(Endpoint(nid: nid))
        return endpoints.count - 1
    }

    /// Keeps the order of transnos; they nearly always come in order.
    mutating func save(_ xid: XID, _ transno: Transno) {
        var place = saved.count
        while place > savedHead, saved[place - 1].transno > transno { place -= 1 }
        saved.insert(Saved(transno: transno, xid: xid), at: place)
    }

    /// Takes the oldest saved request if it is committed.
    mutating func takeCommitted(upTo transno: Transno) -> XID? {
        guard savedHead < saved.count, saved[savedHead].transno <= transno else { return nil }
        let xid = saved[savedHead].xid
        savedHead += 1
        if savedHead == saved.count {
            saved.removeAll(keepingCapacity: saved.count <= 4096)
            savedHead = 0
        } else if savedHead >= 1024, savedHead * 2 >= saved.count {
            saved.removeFirst(savedHead)
            savedHead = 0
        }
        return xid
    }

    /// The transno before `transno` on the replay list; zero for the first.
    func predecessor(of transno: Transno) -> Transno {
        var low = savedHead
        var high = saved.count
        while low < high {
            let middle = (low + high) / 2
            if saved[middle].transno < transno { low = middle + 1 } else { high = middle }
        }
        return low > savedHead ? saved[low - 1].transno : .zero
    }

    /// A free modify slot within what the target allows, taken; nil while all are in use.
    mutating func takeTag() -> UInt16? {
        let tag = (~tags).trailingZeroBitCount
        guard tag <= modifyingRequestsMax, tag < 64 else { return nil }
        tags |= 1 << UInt64(tag)
        return UInt16(tag)
    }

    mutating func returnTag(_ tag: UInt16) {
        if tag != 0 { tags &= ~(1 << UInt64(tag)) }
    }
}
