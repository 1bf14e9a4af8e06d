/// What an operator wants of a target.
public enum UpgradeAction: UInt8, Sendable, CaseIterable {
    /// Begin an upgrade, or a stop for maintenance.
    case start = 0
    /// Give it up again, where that is still possible.
    case abort = 1
    /// Wait no longer behind the seal: tell the clients and hand over.
    case proceed = 2
    /// No build that does not know the present protocol may have the store from now on.
    case finalize = 3

    public var name: String { "\(self)" }
}

/// What becomes of reads while a gate is shut.
public enum ReadPolicy: UInt8, Sendable, CaseIterable {
    /// Those that a valid cached lock covers go on, within its lease; others wait.
    case cached = 0
    /// All of them wait.
    case wait = 1
}

/// An operator's order to the target that receives it.
///
/// `UpgradeStart` of opcode "upgrade start" is the first 24 bytes, all that builds before opcode
/// "upgrade order" know; the order adds 16.
///
/// | offset | size | field             | unit or meaning                              |
/// |-------:|-----:|-------------------|----------------------------------------------|
/// |      0 |    3 | scheme, cache policy, deadline policy | one byte each            |
/// |      3 |    1 | `action`          | in "upgrade start" 0 or 1 only               |
/// |      4 |    4 | `deadlineMs`      | ms                                           |
/// |      8 |    4 | `expectedPauseMs` | ms                                           |
/// |     12 |    4 | `expiryMs`        | ms                                           |
/// |     16 |    8 | `next`            | NID                                          |
/// |     24 |    4 | `preflushMs`      | ms; order only, as all that follows          |
/// |     28 |    4 | `pauseBudgetMs`   | ms                                           |
/// |     32 |    1 | `readPolicy`      |                                              |
/// |     33 |    1 | `holds`           | 0 or 1                                       |
/// |     34 |    6 | reserved          | zero on send, refused otherwise              |
public struct UpgradeStart: Equatable, Sendable {
    public var scheme: UpgradeScheme
    public var cachePolicy: CachePolicy
    public var deadlinePolicy: DeadlinePolicy
    public var deadlineMs: UInt32
    public var expectedPauseMs: UInt32
    /// After this long without having reached the point of no return, the target opens its gates
    /// again by itself.
    public var expiryMs: UInt32
    public var next: NID
    public var action: UpgradeAction
    /// Clients flush with their gates open for at most this long, before the announcement; 0: not.
    public var preflushMs: UInt32
    /// No gate may stay shut longer than this for an upgrade that can still be given up; 0: any time.
    public var pauseBudgetMs: UInt32
    public var readPolicy: ReadPolicy
    /// Once all is on disk, wait for `proceed` before the clients are told.
    public var holds: Bool

    public init(
        scheme: UpgradeScheme = .drain, cachePolicy: CachePolicy = .flush,
        deadlinePolicy: DeadlinePolicy = .leaveBehind, deadlineMs: UInt32 = 10_000,
        expectedPauseMs: UInt32 = 1_000, expiryMs: UInt32 = 60_000,
        next: NID = NID(rawValue: 0), isAbort: Bool = false, preflushMs: UInt32 = 0,
        pauseBudgetMs: UInt32 = 0, readPolicy: ReadPolicy = .cached, holds: Bool = false
    ) {
        self.scheme = scheme
        self.cachePolicy = cachePolicy
        self.deadlinePolicy = deadlinePolicy
        self.deadlineMs = deadlineMs
        self.expectedPauseMs = expectedPauseMs
        self.expiryMs = expiryMs
        self.next = next
        self.action = isAbort ? .abort : .start
        self.preflushMs = preflushMs
        self.pauseBudgetMs = pauseBudgetMs
        self.readPolicy = readPolicy
        self.holds = holds
    }

    /// An order that needs nothing but its name.
    public init(_ action: UpgradeAction) {
        self.init()
        self.action = action
    }

    public var isAbort: Bool { action == .abort }

    /// Opcode "upgrade start" says all of it: an older build understands.
    public var isPlain: Bool {
        (action == .start || action == .abort) && preflushMs == 0 && pauseBudgetMs == 0
            && readPolicy == .cached && !holds
    }

    /// The part that opcode "upgrade start" carries.
    func encode(into writer: inout WireWriter) {
        writer.u8(scheme.rawValue)
        writer.u8(cachePolicy.rawValue)
        writer.u8(deadlinePolicy.rawValue)
        writer.u8(action.rawValue)
        writer.u32(deadlineMs)
        writer.u32(expectedPauseMs)
        writer.u32(expiryMs)
        writer.u64(next.rawValue)
    }

    func encodeOrder(into writer: inout WireWriter) {
        encode(into: &writer)
        writer.u32(preflushMs)
        writer.u32(pauseBudgetMs)
        writer.u8(readPolicy.rawValue)
        writer.u8(holds ? 1 : 0)
        writer.zeros(6)
    }

    init(from reader: inout WireReader) throws(WireError) {
        try self.init(from: &reader, lastAction: .abort)
    }

    init(order reader: inout WireReader) throws(WireError) {
        try self.init(from: &reader, lastAction: .finalize)
        preflushMs = try reader.u32()
        pauseBudgetMs = try reader.u32()
        let rawReads = try reader.u8()
        guard let reads = ReadPolicy(rawValue: rawReads) else {
            throw .badValue(field: "read policy", value: UInt64(rawReads))
        }
        readPolicy = reads
        let flags = try reader.u8()
        guard flags <= 1 else { throw .reservedBitsSet(UInt64(flags)) }
        holds = flags == 1
        try reader.reserved(6)
    }

    private init(
        from reader: inout WireReader, lastAction: UpgradeAction
    ) throws(WireError) {
        let rawScheme = try reader.u8()
        let rawCache = try reader.u8()
        let rawDeadline = try reader.u8()
        let rawAction = try reader.u8()
        guard let scheme = UpgradeScheme(rawValue: rawScheme),
            let cachePolicy = CachePolicy(rawValue: rawCache),
            let deadlinePolicy = DeadlinePolicy(rawValue: rawDeadline)
        else { throw .badValue(field: "upgrade start", value: UInt64(rawScheme)) }
        guard rawAction <= lastAction.rawValue, let action = UpgradeAction(rawValue: rawAction)
        else { throw .reservedBitsSet(UInt64(rawAction)) }
        self.init(scheme: scheme, cachePolicy: cachePolicy, deadlinePolicy: deadlinePolicy)
        self.action = action
        deadlineMs = try reader.u32()
        expectedPauseMs = try reader.u32()
        expiryMs = try reader.u32()
        next = NID(rawValue: try reader.u64())
    }
}

/// A target's answer to an order.
///
/// | offset | size | field      | unit or meaning                                 |
/// |-------:|-----:|------------|-------------------------------------------------|
/// |      0 |    1 | taken      | 0 or 1                                          |
/// |      1 |    1 | `phase`    |                                                 |
/// |      2 |    6 | reserved   | zero on send, refused otherwise                 |
/// |      8 |   16 | `epoch`    |                                                 |
/// |     24 |  4+n | `sentence` | a count and as many bytes of UTF-8, at most 400 |
public struct UpgradeAnswer: Equatable, Sendable {
    public static let sentenceSizeMax = 400

    public var isTaken: Bool
    public var phase: UpgradePhase
    /// The upgrade in hand, or that was begun; `.none` where there is none.
    public var epoch: UpgradeEpoch
    /// Why not, and what to do instead; empty where the order was taken.
    public var sentence: String

    public init(isTaken: Bool, phase: UpgradePhase, epoch: UpgradeEpoch, sentence: String = "") {
        self.isTaken = isTaken
        self.phase = phase
        self.epoch = epoch
        self.sentence = sentence
    }

    func encode(into writer: inout WireWriter) {
        writer.u8(isTaken ? 1 : 0)
        writer.u8(phase.rawValue)
        writer.zeros(6)
        epoch.encode(into: &writer)
        // Sentences of this package are short and ASCII: what is too long loses its end.
        let bytes = sentence.utf8.prefix(Self.sentenceSizeMax)
        writeText(String(decoding: bytes, as: UTF8.self), into: &writer)
    }

    init(from reader: inout WireReader) throws(WireError) {
        let flags = try reader.u8()
        guard flags <= 1 else { throw .reservedBitsSet(UInt64(flags)) }
        isTaken = flags == 1
        let rawPhase = try reader.u8()
        guard let phase = UpgradePhase(rawValue: rawPhase) else {
            throw .badValue(field: "phase", value: UInt64(rawPhase))
        }
        self.phase = phase
        try reader.reserved(6)
        epoch = try UpgradeEpoch(from: &reader)
        sentence = try readText(
            from: &reader, limit: Self.sentenceSizeMax, field: "upgrade answer")
    }
}
