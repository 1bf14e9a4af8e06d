import Primitives
import WireFormat

/// One operation of an application on its way through the client.
struct Operation {
    enum Stage {
        /// In the queue of a shut gate: nothing has been formatted, nothing is held.
        case atGate
        /// Waits for a metadata server's answer.
        case metadata
        /// Takes the locks of its stripes, in their order.
        case locking
        /// Reads, punches or write-backs are on their way.
        case data
        /// Waits until dirty bytes have gone.
        case throttled
        /// Waits for a record lock: no request is under way, and no gate waits for it.
        case recordLock
    }

    var cookie: UInt64
    var request: FileOperation
    var stage: Stage
    /// Bit i: names target i.
    var targets: UInt64
    /// Counted in `running` of these targets.
    var runningTargets: UInt64 = 0
    var isCancelled = false
    /// How often it was told to come again.
    var retryCount = 0
    /// Locks held, by stripe of `layout`.
    var locks: [SlotHandle?] = []
    /// The lock it waits for.
    var awaited: SlotHandle?
    /// Of a stat, or of a read that may reach beyond the end, by stripe: what the holders of others'
    /// locks said, where there was no lock.
    var glimpsed: [GlimpsedSize?] = []
    /// While it waits for a lock: until when it keeps those that it has.
    var holdsUntil: Ticks = .zero
    var layout: FileLayout = .none
    var objects: [SlotHandle] = []
    var pendingReplies = 0
    var failure: Status = .ok
    var attributes: FileAttributes?
    /// Bytes of a read, in place.
    var collected: [UInt8] = []
    var pieces: [StripePiece] = []
    /// Of a request to the metadata server: its number for the cache, what it looks for, the locks
    /// that the answer may bring, and what it changes.
    var number: UInt64 = 0
    var locate: LocateRequest?
    var expected: [UInt64] = []
    var update: NameCache.Update?
    /// Where an append that goes past the cache begins.
    var appendOffset: UInt64 = 0
    /// Of a statfs: what the targets have told so far.
    var space = SpaceStatus()
    /// Of a sync: everything is written back, the servers are asked to commit.
    var isSyncing = false
    /// The server does not know the request any more.
    var avoidsLocate = false
}

extension Operation {
    /// What it has to lock of the object of a stripe; nil for nothing.
    func need(of stripe: Int) -> (mode: LockMode, range: Extent)? {
        switch request {
        case .read(_, let offset, let byteCount):
            return layout.objectRange(stripe: stripe, offset: offset, byteCount: byteCount)
                .map { (.pr, $0) }
        case .write(_, let offset, let bytes):
            return layout.objectRange(stripe: stripe, offset: offset, byteCount: bytes.count)
                .map { (.pw, $0) }
        case .append, .truncate:
            // The size is part of it.
            return (.pw, .whole)
        default:
            return hasGlimpsed(stripe) ? nil : (.pr, .whole)
        }
    }

    /// Whether the size of a stripe's object was told without a lock.
    func hasGlimpsed(_ stripe: Int) -> Bool { stripe < glimpsed.count && glimpsed[stripe] != nil }

    /// It has no lock on a stripe's object any more. Sizes that a read was told beside its locks, or is
    /// about to be told, need not be true together with what it reads under later ones.
    mutating func lose(stripe: Int) {
        locks[stripe] = nil
        guard case .read = request else { return }
        glimpsed = []
        awaited = nil
    }

    mutating func note(_ size: GlimpsedSize, of stripe: Int) {
        while glimpsed.count <= stripe { glimpsed.append(nil) }
        glimpsed[stripe] = size
        awaited = nil
    }
}

/// Size and time of an object as its holders know them.
struct GlimpsedSize {
    var size: UInt64
    var modified: Timestamp
}

/// A file that an application has open.
struct OpenFile {
    var file: FileID
    var serverHandle: UInt64
    var flags: OpenFlags
    var layout: FileLayout
    /// The transaction that opened it: decides how it is replayed.
    var transno: Transno
    /// One per stripe.
    var objects: [SlotHandle]
    var pattern = ReadPattern()
    /// The target has forgotten it.
    var isStale = false
    /// Its close is under way: nothing else may use it.
    var isClosing = false
}

/// What a client keeps of one data object.
struct CachedObject {
    var target: Int
    var object: ObjectName
    var cache = ExtentCache()
    /// The granted locks: bytes are true in their ranges.
    var locks: [HeldExtent] = []
    /// True under a lock that reaches to the end; else nobody has made it less while any lock is
    /// held, since whoever cuts a file takes the whole of it.
    var size: UInt64 = 0
    var modified: Timestamp = .zero
    /// Open files and operations that refer to it.
    var userCount = 0
    /// Answers outstanding of the write-back that is under way.
    var writesInFlight = 0
    /// Locks to give back as soon as nothing is dirty.
    var cancels: [SlotHandle] = []
    /// Operations that wait until nothing is dirty.
    var waiters: [SlotHandle] = []
    var dirtySince: Ticks = .zero
    var isQueuedDirty = false
    var writeError: Status = .ok
    /// Bytes of the round of write-back under way that have arrived.
    var roundByteCount = 0
    /// Grows with every change of this client's own: what was asked for before is older.
    var changeCount: UInt64 = 0
    /// The change with which clean bytes were last dropped: what was asked for before it may be older
    /// than bytes that were here and are not any more.
    var droppedAt: UInt64 = 0
    /// What is being read ahead.
    var readAheads: [ReadAheadPiece] = []
}

/// A granted lock on a part of an object.
struct HeldExtent {
    var lock: SlotHandle
    var range: Extent
}

/// What an RPC's answer is for.
enum PendingCall {
    case metadata(SlotHandle)
    case read(SlotHandle, piece: Int, changeCount: UInt64)
    case readAhead(object: SlotHandle, offset: UInt64)
    case writeThrough(SlotHandle, piece: Int)
    case statfs(SlotHandle)
    case sync(SlotHandle)
    case punch(SlotHandle)
    case raw(SlotHandle)
    case write(object: SlotHandle, byteCount: Int)
    case enqueue(target: Int, lock: SlotHandle)
    case lockReplay(target: Int, lock: SlotHandle)
    case openReplay(handle: SlotHandle)
    case receipt(target: Int, UpgradeEpoch)
    case convert(target: Int, lock: SlotHandle)
    case recordLock(SlotHandle)
    case recordReplay(HeldRecord)
    /// The cancel of a wait for a record lock.
    case recordCancel(HeldRecord)
    /// A record lock that is put right after a grant that nobody waited for any more.
    case recordRestored(HeldRecord)
    /// Answers of no interest.
    case none
}

struct ObjectKey: Hashable {
    var target: Int
    var object: ObjectName
}
