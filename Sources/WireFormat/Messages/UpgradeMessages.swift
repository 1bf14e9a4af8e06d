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
    /// End at once, unannounced: the next instance recovers by replay.
    case crash = 3

    public var name: String { "\(self)" }
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
    /// What becomes of reads; `wait` only to clients with `Features.readPolicy`.
    public var readPolicy: ReadPolicy
    /// Milliseconds from the sending of this notice.
    public var deadlineMs: UInt32
    public var expectedPauseMs: UInt32
    /// Where the target will come back; `NID(rawValue: 0)` where that is not known.
    public var next: NID

    public init(
        epoch: UpgradeEpoch, scheme: UpgradeScheme, cachePolicy: CachePolicy,
        deadlinePolicy: DeadlinePolicy, isPreflush: Bool, deadlineMs: UInt32,
        expectedPauseMs: UInt32, next: NID, readPolicy: ReadPolicy = .cached
    ) {
        self.epoch = epoch
        self.scheme = scheme
        self.cachePolicy = cachePolicy
        self.deadlinePolicy = deadlinePolicy
        self.isPreflush = isPreflush
        self.readPolicy = readPolicy
        self.deadlineMs = deadlineMs
        self.expectedPauseMs = expectedPauseMs
        self.next = next
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u8(scheme.rawValue)
        writer.u8(cachePolicy.rawValue)
        writer.u8(deadlinePolicy.rawValue)
        writer.u8((isPreflush ? 1 : 0) | readPolicy.rawValue << 1)
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
        guard flags <= 3, let readPolicy = ReadPolicy(rawValue: flags >> 1) else {
            throw .reservedBitsSet(UInt64(flags))
        }
        self.scheme = scheme
        self.cachePolicy = cachePolicy
        self.deadlinePolicy = deadlinePolicy
        self.readPolicy = readPolicy
        isPreflush = flags & 1 == 1
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
