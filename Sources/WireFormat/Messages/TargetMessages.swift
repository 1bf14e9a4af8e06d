/// An operator's question how a target is, with its clients from one index on.
public struct TargetShowRequest: Hashable, Sendable {
    /// Exports are listed from this index on; `next` of the answer before, or 0.
    public var firstClient: UInt32

    public init(firstClient: UInt32 = 0) { self.firstClient = firstClient }

    func encode(into writer: inout WireWriter) {
        writer.u32(firstClient)
        writer.zeros(4)
    }

    init(from reader: inout WireReader) throws(WireError) {
        firstClient = try reader.u32()
        try reader.reserved(4)
    }
}

/// What a target counts from its start on. The order is that of the wire: new ones go last, and a
/// reader that knows fewer passes over the rest.
public enum TargetCounter: Int, CaseIterable, Sendable {
    // ptlrpc
    case requests, replies, connects, connectsRefused
    /// Bytes that do not parse.
    case malformed
    /// Handles that nobody has.
    case notConnected
    /// Handles that another client has.
    case foreignHandles
    /// Of an older connection, or with an XID from the past: dropped without an answer.
    case obsolete
    /// The same request was being executed.
    case duplicates
    /// Told to try again.
    case refused
    /// Replays outside any recovery, tags used twice, a transno claimed by two.
    case violations
    /// Of those, replays for an export that is not in recovery: each cost its client the export.
    case unexpectedReplays
    /// Updates executed again in the recovery.
    case replayed
    /// Replays that were on record already.
    case replayedFromRecord
    /// Replays that could not be done again.
    case replaysFailed
    /// Of those, the ones that told other versions than were found.
    case versionMismatches
    /// Updates answered from saved replies.
    case resent
    case evictions, earlyReplies, batches, bulkFetched, bulkSent, bulkAborted
    /// Requests to clients.
    case callbacks, callbacksResent, callbacksFailed
    // LDLM
    case lockEnqueues, lockGrants, lockCancels, lockConverts, lockRefusals
    /// Cookies that name no lock: given back already, or never given.
    case unknownLockCookies
    /// Cookies of another client's lock.
    case foreignLockCookies
    /// Requests about locks that no honest client sends.
    case lockFaults
    case blockingASTs, completionASTs, glimpseASTs
    /// Locks that were not given back in time.
    case lockTimeouts
    /// Locks made again from replays.
    case locksReplayed
    // The store
    case commits, commitFailures
    /// Requests that met damage in the store.
    case damages
    /// Updates refused while the disk took no commits.
    case diskRefusals
}

/// A target's full account of itself, with a page of its clients.
public struct TargetShowReply: Equatable, Sendable {
    /// How far a recovery is.
    public enum Stage: UInt8, Sendable, CaseIterable {
        case standby = 0, connecting = 1, openReplay = 2, requestReplay = 3, lockReplay = 4
        /// Nothing to recover.
        case serving = 5
        case stopped = 6

        /// As an operator reads it.
        public var name: String {
            switch self {
            case .standby: "standby"
            case .connecting: "connecting"
            case .openReplay: "open replay"
            case .requestReplay: "request replay"
            case .lockReplay: "lock replay"
            case .serving: "serving"
            case .stopped: "stopped"
            }
        }
    }

    /// Where one client stands with its recovery.
    public enum Standing: UInt8, Sendable, CaseIterable {
        /// No recovery, or done with it.
        case full = 0
        /// Known from its record, and not back yet.
        case absent = 1
        case opens = 2, requests = 3, locks = 4
        /// Its part is over; it waits for the others.
        case done = 5
    }

    public struct Flags: OptionSet, Hashable, Sendable {
        public var rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let connected = Flags(rawValue: 1)
        /// An administrator: no record, nobody waits for it.
        public static let observer = Flags(rawValue: 2)
        /// Left behind by an upgrade: its updates are refused until it connects anew.
        public static let fenced = Flags(rawValue: 4)
        /// Counted as prepared, synchronous or absent for the upgrade in hand.
        public static let countedOut = Flags(rawValue: 8)
        static let known: Flags = [.connected, .observer, .fenced, .countedOut]
    }

    public struct Client: Equatable, Sendable {
        public var uuid: String
        public var nid: NID
        public var version: ProtocolVersion
        public var standing: Standing
        public var flags: Flags
        public var admission: AdmissionState
        /// Every XID up to this one has been answered, as the client says.
        public var lastXID: XID
        /// Requests under way or queued here.
        public var requests: UInt32
        /// Locks granted to it and waited for.
        public var locks: UInt32
        /// Open files, at a metadata target.
        public var opens: UInt32
        /// Of its updates: executed again in this recovery, and those that could not be.
        public var replayed: UInt32
        public var replaysFailed: UInt32
        /// Bytes set aside for what it dirties.
        public var grant: UInt64
        /// Nanoseconds since its last request; 0 where it has sent none to this instance.
        public var silentNs: UInt64

        public init(
            uuid: String, nid: NID, version: ProtocolVersion, standing: Standing, flags: Flags,
            admission: AdmissionState, lastXID: XID, requests: UInt32, locks: UInt32,
            opens: UInt32, replayed: UInt32, replaysFailed: UInt32, grant: UInt64, silentNs: UInt64
        ) {
            self.uuid = uuid
            self.nid = nid
            self.version = version
            self.standing = standing
            self.flags = flags
            self.admission = admission
            self.lastXID = lastXID
            self.requests = requests
            self.locks = locks
            self.opens = opens
            self.replayed = replayed
            self.replaysFailed = replaysFailed
            self.grant = grant
            self.silentNs = silentNs
        }
    }

    /// How far a recovery is, and how long it may still take.
    public struct Recovery: Equatable, Sendable {
        /// Clients that the target knew at its start, or knows now where nothing recovers.
        public var clients: UInt32 = 0
        /// Of them: not back yet; back and not done; done.
        public var absent: UInt32 = 0
        public var busy: UInt32 = 0
        public var done: UInt32 = 0
        /// Updates that wait for their turn.
        public var queued: UInt32 = 0
        /// The next update in the order.
        public var nextTransno = Transno.zero
        /// Nanoseconds until silent clients are evicted, and until whoever is not done is; 0 where
        /// no such time runs.
        public var windowNs: UInt64 = 0
        public var limitNs: UInt64 = 0

        public init() {}
    }

    public struct Locks: Equatable, Sendable {
        /// Granted and waiting, those of absent clients among them.
        public var count: UInt64 = 0
        public var waiting: UInt64 = 0
        /// Held for clients that are not back.
        public var reserved: UInt64 = 0
        public var bytes: UInt64 = 0

        public init() {}
    }

    /// Clients in one answer.
    public static let clientCountMax = 2_000

    public var targetName: String
    public var kind: TargetKind
    public var phase: UpgradePhase
    public var stage: Stage
    public var epoch: UpgradeEpoch
    public var instance: UInt64
    public var versions: ClosedRange<ProtocolVersion>
    public var features: Features
    public var lastTransno: Transno
    public var lastCommitted: Transno
    /// Nanoseconds since the target got its store.
    public var servedNs: UInt64
    public var recovery: Recovery
    public var locks: Locks
    public var opens: UInt64
    /// By `TargetCounter`, in its order.
    public var counters: [UInt64]
    public var clients: [Client]
    /// From where on clients are left to ask for; 0 when all were told.
    public var next: UInt32

    public init(
        targetName: String, kind: TargetKind, phase: UpgradePhase, stage: Stage,
        epoch: UpgradeEpoch, instance: UInt64, versions: ClosedRange<ProtocolVersion>,
        features: Features, lastTransno: Transno, lastCommitted: Transno, servedNs: UInt64,
        recovery: Recovery, locks: Locks, opens: UInt64, counters: [UInt64], clients: [Client],
        next: UInt32
    ) {
        self.targetName = targetName
        self.kind = kind
        self.phase = phase
        self.stage = stage
        self.epoch = epoch
        self.instance = instance
        self.versions = versions
        self.features = features
        self.lastTransno = lastTransno
        self.lastCommitted = lastCommitted
        self.servedNs = servedNs
        self.recovery = recovery
        self.locks = locks
        self.opens = opens
        self.counters = counters
        self.clients = clients
        self.next = next
    }

    /// 0 for what the target that answered does not count.
    public subscript(_ counter: TargetCounter) -> UInt64 {
        counter.rawValue < counters.count ? counters[counter.rawValue] : 0
    }
}

extension TargetShowReply {
    func encode(into writer: inout WireWriter) {
        writeText(targetName, into: &writer)
        writer.u8(kind.rawValue)
        writer.u8(phase.rawValue)
        writer.u8(stage.rawValue)
        writer.zeros(1)
        epoch.encode(into: &writer)
        writer.u64(instance)
        writer.u16(versions.lowerBound.rawValue)
        writer.u16(versions.upperBound.rawValue)
        writer.u64(features.rawValue)
        writer.u64(lastTransno.rawValue)
        writer.u64(lastCommitted.rawValue)
        writer.u64(servedNs)
        recovery.encode(into: &writer)
        writer.u64(locks.count)
        writer.u64(locks.waiting)
        writer.u64(locks.reserved)
        writer.u64(locks.bytes)
        writer.u64(opens)
        writer.u32(UInt32(counters.count))
        for counter in counters { writer.u64(counter) }
        let listed = clients.prefix(Self.clientCountMax)
        writer.u32(next)
        writer.u32(UInt32(listed.count))
        for client in listed { client.encode(into: &writer) }
    }

    init(from reader: inout WireReader) throws(WireError) {
        targetName = try readText(
            from: &reader, limit: ConnectRequest.uuidSize, field: "target name")
        kind = try Self.word(try reader.u8(), "target kind")
        phase = try Self.word(try reader.u8(), "phase")
        stage = try Self.word(try reader.u8(), "recovery stage")
        try reader.reserved(1)
        epoch = try UpgradeEpoch(from: &reader)
        instance = try reader.u64()
        let low = ProtocolVersion(rawValue: try reader.u16())
        let high = ProtocolVersion(rawValue: try reader.u16())
        guard low <= high else { throw .badVersion(UInt32(low.rawValue)) }
        versions = low...high
        features = Features(rawValue: try reader.u64())
        lastTransno = Transno(rawValue: try reader.u64())
        lastCommitted = Transno(rawValue: try reader.u64())
        servedNs = try reader.u64()
        recovery = try Recovery(from: &reader)
        locks = Locks()
        locks.count = try reader.u64()
        locks.waiting = try reader.u64()
        locks.reserved = try reader.u64()
        locks.bytes = try reader.u64()
        opens = try reader.u64()
        counters = []
        let counterCount = try Self.count(try reader.u32(), "counters", limit: 1024)
        for _ in 0..<counterCount { counters.append(try reader.u64()) }
        next = try reader.u32()
        clients = []
        let clientCount = try Self.count(
            try reader.u32(), "clients", limit: UInt32(Self.clientCountMax))
        for _ in 0..<clientCount { clients.append(try Client(from: &reader)) }
    }

    fileprivate static func word<Word: RawRepresentable>(
        _ raw: UInt8, _ field: String
    ) throws(WireError) -> Word where Word.RawValue == UInt8 {
        guard let word = Word(rawValue: raw) else {
            throw .badValue(field: field, value: UInt64(raw))
        }
        return word
    }

    private static func count(
        _ count: UInt32, _ field: String, limit: UInt32
    ) throws(WireError) -> UInt32 {
        guard count <= limit else {
            throw .badLength(field: field, value: UInt64(count), limit: UInt64(limit))
        }
        return count
    }
}

extension TargetShowReply.Recovery {
    func encode(into writer: inout WireWriter) {
        writer.u32(clients)
        writer.u32(absent)
        writer.u32(busy)
        writer.u32(done)
        writer.u32(queued)
        writer.u64(nextTransno.rawValue)
        writer.u64(windowNs)
        writer.u64(limitNs)
    }

    init(from reader: inout WireReader) throws(WireError) {
        clients = try reader.u32()
        absent = try reader.u32()
        busy = try reader.u32()
        done = try reader.u32()
        queued = try reader.u32()
        nextTransno = Transno(rawValue: try reader.u64())
        windowNs = try reader.u64()
        limitNs = try reader.u64()
    }
}

extension TargetShowReply.Client {
    func encode(into writer: inout WireWriter) {
        writeText(uuid, into: &writer)
        writer.u64(nid.rawValue)
        writer.u16(version.rawValue)
        writer.u8(standing.rawValue)
        writer.u8(flags.rawValue)
        writer.u8(admission.rawValue)
        writer.u64(lastXID.rawValue)
        for number in [requests, locks, opens, replayed, replaysFailed] { writer.u32(number) }
        writer.u64(grant)
        writer.u64(silentNs)
    }

    init(from reader: inout WireReader) throws(WireError) {
        uuid = try readText(from: &reader, limit: ConnectRequest.uuidSize, field: "client uuid")
        nid = NID(rawValue: try reader.u64())
        version = ProtocolVersion(rawValue: try reader.u16())
        standing = try TargetShowReply.word(try reader.u8(), "standing")
        flags = TargetShowReply.Flags(rawValue: try reader.u8())
        guard flags.isSubset(of: .known) else { throw .reservedBitsSet(UInt64(flags.rawValue)) }
        admission = try TargetShowReply.word(try reader.u8(), "admission")
        lastXID = XID(rawValue: try reader.u64())
        requests = try reader.u32()
        locks = try reader.u32()
        opens = try reader.u32()
        replayed = try reader.u32()
        replaysFailed = try reader.u32()
        grant = try reader.u64()
        silentNs = try reader.u64()
    }
}
