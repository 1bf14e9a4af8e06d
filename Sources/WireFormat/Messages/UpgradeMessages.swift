/// Names one upgrade of one target: the instance that announced it and a counter. Never used again.
@frozen
public struct UpgradeEpoch: Hashable, Comparable, Sendable, BitwiseCopyable {
    public var instance: UInt64
    public var counter: UInt64

    public init(instance: UInt64, counter: UInt64) {
        self.instance = instance
        self.counter = counter
    }

    public static let none = UpgradeEpoch(instance: 0, counter: 0)
    public static let encodedSize = 16

    public static func < (a: UpgradeEpoch, b: UpgradeEpoch) -> Bool {
        (a.instance, a.counter) < (b.instance, b.counter)
    }

    public func encode(into writer: inout WireWriter) {
        writer.u64(instance)
        writer.u64(counter)
    }

    public init(from reader: inout WireReader) throws(WireError) {
        instance = try reader.u64()
        counter = try reader.u64()
    }
}

extension UpgradeEpoch: CustomStringConvertible {
    public var description: String { "\(instance).\(counter)" }
}

/// How a target is brought down for its upgrade.
public enum UpgradeScheme: UInt8, Sendable, CaseIterable {
    /// Announce, gate, receipts, commit, tell, hand over.
    case drain = 1
    /// Commit before every reply; gate nobody.
    case sync = 2

    public var name: String { self == .drain ? "drain" : "sync" }
}

/// What happens to clients that have given no receipt at the deadline.
public enum DeadlinePolicy: UInt8, Sendable, CaseIterable {
    case wait = 1
    /// Their admission lock is taken, they count as absent, their record is kept.
    case leaveBehind = 2
    case abort = 3
}

/// What a client does with its cache before it gives its receipt.
public enum CachePolicy: UInt8, Sendable, CaseIterable {
    /// Dirty data stays; it goes to the next instance under the replayed lock.
    case keep = 1
    /// Dirty data is written back, locks and clean data stay.
    case flush = 2
    /// Written back and dropped, unused locks cancelled.
    case clean = 3
}

/// What the blocking AST of an admission lock carries: an upgrade is about to happen.
public struct UpgradeNotice: Hashable, Sendable {
    static let magic: UInt32 = 0x5A1C_E003
    public static let encodedSize = 56

    public var epoch: UpgradeEpoch
    public var scheme: UpgradeScheme
    public var cachePolicy: CachePolicy
    public var deadlinePolicy: DeadlinePolicy
    /// Flush and report, but leave the gate open: the announcement proper follows.
    public var isPreflush: Bool
    /// Milliseconds from the sending of this notice.
    public var deadlineMs: UInt32
    public var expectedPauseMs: UInt32
    /// Where the target will come back; `NID(rawValue: 0)` where that is not known.
    public var next: NID

    public init(
        epoch: UpgradeEpoch, scheme: UpgradeScheme, cachePolicy: CachePolicy,
        deadlinePolicy: DeadlinePolicy, isPreflush: Bool, deadlineMs: UInt32,
        expectedPauseMs: UInt32, next: NID
    ) {
        self.epoch = epoch
        self.scheme = scheme
        self.cachePolicy = cachePolicy
        self.deadlinePolicy = deadlinePolicy
        self.isPreflush = isPreflush
        self.deadlineMs = deadlineMs
        self.expectedPauseMs = expectedPauseMs
        self.next = next
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u8(scheme.rawValue)
        writer.u8(cachePolicy.rawValue)
        writer.u8(deadlinePolicy.rawValue)
        writer.u8(isPreflush ? 1 : 0)
        epoch.encode(into: &writer)
        writer.u32(deadlineMs)
        writer.u32(expectedPauseMs)
        writer.u64(next.rawValue)
        writer.zeros(16)
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let magic = try reader.u32()
        guard magic == Self.magic else { throw .badMagic(magic) }
        let rawScheme = try reader.u8()
        let rawCache = try reader.u8()
        let rawDeadline = try reader.u8()
        let flags = try reader.u8()
        guard let scheme = UpgradeScheme(rawValue: rawScheme),
            let cachePolicy = CachePolicy(rawValue: rawCache),
            let deadlinePolicy = DeadlinePolicy(rawValue: rawDeadline)
        else {
            throw .badValue(
                field: "upgrade notice",
                value: UInt64(rawScheme) << 16 | UInt64(rawCache) << 8 | UInt64(rawDeadline))
        }
        guard flags <= 1 else { throw .reservedBitsSet(UInt64(flags)) }
        self.scheme = scheme
        self.cachePolicy = cachePolicy
        self.deadlinePolicy = deadlinePolicy
        isPreflush = flags == 1
        epoch = try UpgradeEpoch(from: &reader)
        deadlineMs = try reader.u32()
        expectedPauseMs = try reader.u32()
        next = NID(rawValue: try reader.u64())
        try reader.reserved(16)
    }
}

/// A client's word that it is prepared: nothing of what it sent can need to be sent again.
public struct UpgradeReceipt: Hashable, Sendable {
    static let magic: UInt32 = 0x5A1C_E004
    public static let encodedSize = 64

    public var epoch: UpgradeEpoch
    /// The highest XID that this client has ever sent to the target.
    public var lastXID: XID
    /// The highest transno that this client has been told.
    public var lastTransno: Transno
    public var openCount: UInt32
    /// Bytes written back for this upgrade.
    public var flushedBytes: UInt64

    public init(
        epoch: UpgradeEpoch, lastXID: XID, lastTransno: Transno, openCount: UInt32,
        flushedBytes: UInt64
    ) {
        self.epoch = epoch
        self.lastXID = lastXID
        self.lastTransno = lastTransno
        self.openCount = openCount
        self.flushedBytes = flushedBytes
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u32(openCount)
        epoch.encode(into: &writer)
        writer.u64(lastXID.rawValue)
        writer.u64(lastTransno.rawValue)
        writer.u64(flushedBytes)
        writer.zeros(16)
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let magic = try reader.u32()
        guard magic == Self.magic else { throw .badMagic(magic) }
        openCount = try reader.u32()
        epoch = try UpgradeEpoch(from: &reader)
        lastXID = XID(rawValue: try reader.u64())
        lastTransno = Transno(rawValue: try reader.u64())
        flushedBytes = try reader.u64()
        try reader.reserved(16)
    }
}

/// What completes a waiting admission lock without a grant: everything is on disk.
public struct CommitNotice: Hashable, Sendable {
    static let magic: UInt32 = 0x5A1C_E005
    public static let encodedSize = 40

    public var epoch: UpgradeEpoch
    public var lastCommitted: Transno
    public var next: NID

    public init(epoch: UpgradeEpoch, lastCommitted: Transno, next: NID) {
        self.epoch = epoch
        self.lastCommitted = lastCommitted
        self.next = next
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u32(0)
        epoch.encode(into: &writer)
        writer.u64(lastCommitted.rawValue)
        writer.u64(next.rawValue)
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let magic = try reader.u32()
        guard magic == Self.magic else { throw .badMagic(magic) }
        try reader.reserved(4)
        epoch = try UpgradeEpoch(from: &reader)
        lastCommitted = Transno(rawValue: try reader.u64())
        next = NID(rawValue: try reader.u64())
    }
}

/// A new instance tells a client of the record that it serves: reconnect now.
public struct TargetUp: Equatable, Sendable {
    public var targetName: String
    public var instance: UInt64
    public var nid: NID

    public init(targetName: String, instance: UInt64, nid: NID) {
        self.targetName = targetName
        self.instance = instance
        self.nid = nid
    }

    func encode(into writer: inout WireWriter) {
        writer.u64(instance)
        writer.u64(nid.rawValue)
        writeText(targetName, into: &writer)
    }

    init(from reader: inout WireReader) throws(WireError) {
        instance = try reader.u64()
        nid = NID(rawValue: try reader.u64())
        targetName = try readText(
            from: &reader, limit: ConnectRequest.uuidSize, field: "target name")
    }
}

/// An operator's order to begin an upgrade of the target that receives it.
public struct UpgradeStart: Equatable, Sendable {
    public var scheme: UpgradeScheme
    public var cachePolicy: CachePolicy
    public var deadlinePolicy: DeadlinePolicy
    public var deadlineMs: UInt32
    public var expectedPauseMs: UInt32
    /// After this long without having reached the seal, the target opens its gates again by itself.
    public var expiryMs: UInt32
    public var next: NID
    /// Give the upgrade up again, where that is still possible.
    public var isAbort: Bool

    public init(
        scheme: UpgradeScheme = .drain, cachePolicy: CachePolicy = .flush,
        deadlinePolicy: DeadlinePolicy = .leaveBehind, deadlineMs: UInt32 = 10_000,
        expectedPauseMs: UInt32 = 1_000, expiryMs: UInt32 = 60_000,
        next: NID = NID(rawValue: 0), isAbort: Bool = false
    ) {
        self.scheme = scheme
        self.cachePolicy = cachePolicy
        self.deadlinePolicy = deadlinePolicy
        self.deadlineMs = deadlineMs
        self.expectedPauseMs = expectedPauseMs
        self.expiryMs = expiryMs
        self.next = next
        self.isAbort = isAbort
    }

    func encode(into writer: inout WireWriter) {
        writer.u8(scheme.rawValue)
        writer.u8(cachePolicy.rawValue)
        writer.u8(deadlinePolicy.rawValue)
        writer.u8(isAbort ? 1 : 0)
        writer.u32(deadlineMs)
        writer.u32(expectedPauseMs)
        writer.u32(expiryMs)
        writer.u64(next.rawValue)
    }

    init(from reader: inout WireReader) throws(WireError) {
        let rawScheme = try reader.u8()
        let rawCache = try reader.u8()
        let rawDeadline = try reader.u8()
        let flags = try reader.u8()
        guard let scheme = UpgradeScheme(rawValue: rawScheme),
            let cachePolicy = CachePolicy(rawValue: rawCache),
            let deadlinePolicy = DeadlinePolicy(rawValue: rawDeadline)
        else { throw .badValue(field: "upgrade start", value: UInt64(rawScheme)) }
        guard flags <= 1 else { throw .reservedBitsSet(UInt64(flags)) }
        self.scheme = scheme
        self.cachePolicy = cachePolicy
        self.deadlinePolicy = deadlinePolicy
        isAbort = flags == 1
        deadlineMs = try reader.u32()
        expectedPauseMs = try reader.u32()
        expiryMs = try reader.u32()
        next = NID(rawValue: try reader.u64())
    }
}

/// Where a target's upgrade stands.
public enum UpgradePhase: UInt8, Sendable, CaseIterable {
    case serving = 0
    case announced = 1
    case gathering = 2
    case committing = 3
    case sealed = 4
    case committed = 5
    case stopped = 6
    case aborting = 7
    case recovering = 8
    case standby = 9
    case starting = 10

    public var name: String { "\(self)" }
}

/// A target's account of itself, with every client by name.
public struct UpgradeStatusReply: Equatable, Sendable {
    public struct Client: Equatable, Sendable {
        public var uuid: String
        public var nid: NID
        public var admission: AdmissionState
        /// Counted as prepared, synchronous or absent for the upgrade in hand.
        public var isCountedOut: Bool
        public var isConnected: Bool
        public var version: ProtocolVersion
        /// Nanoseconds from the command to the client's receipt at the target; 0 for none.
        public var receiptNs: UInt64

        public init(
            uuid: String, nid: NID, admission: AdmissionState, isCountedOut: Bool,
            isConnected: Bool, version: ProtocolVersion, receiptNs: UInt64
        ) {
            self.uuid = uuid
            self.nid = nid
            self.admission = admission
            self.isCountedOut = isCountedOut
            self.isConnected = isConnected
            self.version = version
            self.receiptNs = receiptNs
        }
    }

    public var targetName: String
    public var phase: UpgradePhase
    public var epoch: UpgradeEpoch
    public var instance: UInt64
    public var versions: ClosedRange<ProtocolVersion>
    public var lastTransno: Transno
    public var lastCommitted: Transno
    /// Requests replayed and resends answered from saved replies since this instance started.
    public var replayed: UInt64
    public var resent: UInt64
    public var evictions: UInt64
    /// Nanoseconds from the accepted command; 0 where not reached.
    public var preparedNs: UInt64
    public var committedNs: UInt64
    public var clients: [Client]

    public init(
        targetName: String, phase: UpgradePhase, epoch: UpgradeEpoch, instance: UInt64,
        versions: ClosedRange<ProtocolVersion>, lastTransno: Transno, lastCommitted: Transno,
        replayed: UInt64, resent: UInt64, evictions: UInt64, preparedNs: UInt64,
        committedNs: UInt64, clients: [Client]
    ) {
        self.targetName = targetName
        self.phase = phase
        self.epoch = epoch
        self.instance = instance
        self.versions = versions
        self.lastTransno = lastTransno
        self.lastCommitted = lastCommitted
        self.replayed = replayed
        self.resent = resent
        self.evictions = evictions
        self.preparedNs = preparedNs
        self.committedNs = committedNs
        self.clients = clients
    }

    /// What fits into one reply with room to spare; the rest is counted, not listed.
    public static let clientCountMax = 8_000

    func encode(into writer: inout WireWriter) {
        writeText(targetName, into: &writer)
        writer.u8(phase.rawValue)
        epoch.encode(into: &writer)
        writer.u64(instance)
        writer.u16(versions.lowerBound.rawValue)
        writer.u16(versions.upperBound.rawValue)
        writer.u64(lastTransno.rawValue)
        writer.u64(lastCommitted.rawValue)
        writer.u64(replayed)
        writer.u64(resent)
        writer.u64(evictions)
        writer.u64(preparedNs)
        writer.u64(committedNs)
        let listed = clients.prefix(Self.clientCountMax)
        writer.u32(UInt32(listed.count))
        for client in listed {
            writeText(client.uuid, into: &writer)
            writer.u64(client.nid.rawValue)
            writer.u8(client.admission.rawValue)
            writer.u8((client.isCountedOut ? 1 : 0) | (client.isConnected ? 2 : 0))
            writer.u16(client.version.rawValue)
            writer.u64(client.receiptNs)
        }
    }

    init(from reader: inout WireReader) throws(WireError) {
        targetName = try readText(
            from: &reader, limit: ConnectRequest.uuidSize, field: "target name")
        let rawPhase = try reader.u8()
        guard let phase = UpgradePhase(rawValue: rawPhase) else {
            throw .badValue(field: "phase", value: UInt64(rawPhase))
        }
        self.phase = phase
        epoch = try UpgradeEpoch(from: &reader)
        instance = try reader.u64()
        let low = ProtocolVersion(rawValue: try reader.u16())
        let high = ProtocolVersion(rawValue: try reader.u16())
        guard low <= high else { throw .badVersion(UInt32(low.rawValue)) }
        versions = low...high
        lastTransno = Transno(rawValue: try reader.u64())
        lastCommitted = Transno(rawValue: try reader.u64())
        replayed = try reader.u64()
        resent = try reader.u64()
        evictions = try reader.u64()
        preparedNs = try reader.u64()
        committedNs = try reader.u64()
        let count = try reader.u32()
        guard count <= UInt32(Self.clientCountMax) else {
            throw .badLength(
                field: "clients", value: UInt64(count), limit: UInt64(Self.clientCountMax))
        }
        clients = []
        for _ in 0..<count {
            let uuid = try readText(
                from: &reader, limit: ConnectRequest.uuidSize, field: "client uuid")
            let nid = NID(rawValue: try reader.u64())
            let rawAdmission = try reader.u8()
            guard let admission = AdmissionState(rawValue: rawAdmission) else {
                throw .badValue(field: "admission", value: UInt64(rawAdmission))
            }
            let flags = try reader.u8()
            guard flags <= 3 else { throw .reservedBitsSet(UInt64(flags)) }
            let version = ProtocolVersion(rawValue: try reader.u16())
            clients.append(
                Client(
                    uuid: uuid, nid: nid, admission: admission, isCountedOut: flags & 1 != 0,
                    isConnected: flags & 2 != 0, version: version,
                    receiptNs: try reader.u64()))
        }
    }
}
