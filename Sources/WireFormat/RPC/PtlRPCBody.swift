/// The header of every request and reply: who, what, and what recovery needs to know.
///
/// `struct ptlrpc_body_v3` (lustre_idl.h), little-endian, 184 bytes:
///
/// | offset | size | field         |   | offset | size | field           |
/// |-------:|-----:|---------------|---|-------:|-----:|-----------------|
/// |      0 |    8 | handle        |   |     60 |    4 | operationFlags  |
/// |      8 |    4 | type          |   |     64 |    4 | connectionCount |
/// |     12 |    4 | version       |   |     68 |    4 | timeout, s      |
/// |     16 |    4 | opcode        |   |     72 |    4 | serviceTime, s  |
/// |     20 |    4 | status        |   |     76 |    4 | lockLimit       |
/// |     24 |    8 | lastXID       |   |     80 |    8 | lockVolume      |
/// |     32 |    2 | tag           |   |     88 |   32 | preVersions     |
/// |     34 |    6 | padding, projid |  |   120 |    8 | matchBits       |
/// |     40 |    8 | lastCommitted |   |    128 |   24 | padding, uid, gid |
/// |     48 |    8 | transno       |   |    152 |   32 | jobid           |
/// |     56 |    4 | flags         |   |        |      |                 |
public struct PtlRPCBody: Equatable, Sendable {
    public static let encodedSize = 184
    /// v2 of the body has no job id.
    public static let encodedSizeMin = 152

    /// The server's export cookie; 0 before the first connect.
    public var handle: UInt64 = 0
    public var type: MessageType = .request
    public var opcode: Opcode = .ping
    /// Zero or a negative errno, in replies.
    public var status: Status = .ok
    /// Every XID up to this one has been answered.
    public var lastXID: XID = .zero
    /// Slot of a modifying request, 1...; 0 where the request modifies nothing.
    public var tag: UInt16 = 0
    /// In replies. In a replay, where Lustre has nothing: the client's replay before this one, so
    /// that one that was lost on the way is not taken for one that nobody has. Zero for the first.
    public var lastCommitted: Transno = .zero
    public var transno: Transno = .zero
    public var flags: MessageFlags = []
    public var operationFlags: ConnectFlags = []
    /// How often this client has connected: older connections are outdated by newer ones.
    public var connectionCount: UInt32 = 0
    public var timeoutSeconds: UInt32 = 0
    public var serviceSeconds: UInt32 = 0
    public var lockLimit: UInt32 = 0
    public var lockVolume: UInt64 = 0
    /// Of an update: the versions of the objects that it found (version-based recovery).
    public var preVersions = PreVersions()
    /// Match bits of the bulk transfer.
    public var matchBits: UInt64 = 0

    public init() {}

    public static func == (a: PtlRPCBody, b: PtlRPCBody) -> Bool {
        var x = WireWriter()
        var y = WireWriter()
        a.encode(into: &x)
        b.encode(into: &y)
        return x.bytes == y.bytes
    }

    public init(from reader: inout WireReader) throws(WireError) {
        guard reader.remaining >= Self.encodedSizeMin else {
            throw .truncated(need: Self.encodedSizeMin, have: reader.remaining)
        }
        handle = try reader.u64()
        let rawType = try reader.u32()
        guard let type = MessageType(rawValue: rawType) else {
            throw .badValue(field: "pb_type", value: UInt64(rawType))
        }
        self.type = type
        let version = try reader.u32()
        guard version & 0xFFFF == 3 else { throw .badVersion(version) }
        opcode = Opcode(rawValue: try reader.u32())
        status = Status(rawValue: Int32(bitPattern: try reader.u32()))
        lastXID = XID(rawValue: try reader.u64())
        tag = try reader.u16()
        try reader.skip(6)
        lastCommitted = Transno(rawValue: try reader.u64())
        transno = Transno(rawValue: try reader.u64())
        flags = MessageFlags(rawValue: try reader.u32())
        operationFlags = ConnectFlags(rawValue: try reader.u32())
        connectionCount = try reader.u32()
        timeoutSeconds = try reader.u32()
        serviceSeconds = try reader.u32()
        lockLimit = try reader.u32()
        lockVolume = try reader.u64()
        for index in 0..<4 { preVersions[index] = try reader.u64() }
        matchBits = try reader.u64()
        try reader.skip(24)
    }

    public func encode(into writer: inout WireWriter) {
        var words = InlineArray<23, UInt64>(repeating: 0)
        words[0] = handle
        words[1] = WireWriter.pair(type.rawValue, opcode.family | 3)
        words[2] = WireWriter.pair(opcode.rawValue, UInt32(bitPattern: status.rawValue))
        words[3] = lastXID.rawValue
        words[4] = UInt64(tag)
        words[5] = lastCommitted.rawValue
        words[6] = transno.rawValue
        words[7] = WireWriter.pair(flags.rawValue, operationFlags.rawValue)
        words[8] = WireWriter.pair(connectionCount, timeoutSeconds)
        words[9] = WireWriter.pair(serviceSeconds, lockLimit)
        words[10] = lockVolume
        for index in 0..<4 { words[11 + index] = preVersions[index] }
        words[15] = matchBits
        // Behind it paddings, and the job's name, which nobody has.
        writer.words(words)
    }

    /// lm_cksum of an early reply under the null security policy: CRC-32 (polynomial 0xEDB88320,
    /// reflected) over these 184 bytes, begun with all ones, without the final complement. A bit
    /// at a time: early replies are rare.
    public var checksum: UInt32 {
        var writer = WireWriter(capacity: Self.encodedSize)
        encode(into: &writer)
        var crc = UInt32.max
        for byte in writer.bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 0 ? 0 : 0xEDB8_8320) }
        }
        return crc
    }
}

/// pb_pre_versions: the versions of up to four objects before an update, in the operation's order.
///
/// A server tells them with the reply and keeps nothing; the client gives them back in the replay,
/// which is executed only where the objects are again what they were.
public struct PreVersions: Equatable, Sendable, BitwiseCopyable {
    /// How many objects an update can name.
    public static let count = 4

    private var words = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))

    public init() {}

    /// At most four; the rest are not told.
    public init(_ versions: [ObjectVersion]) {
        for (index, version) in versions.prefix(Self.count).enumerated() {
            self[index] = version.rawValue
        }
    }

    /// Nothing is said of any object: the sender does not take part.
    public var isEmpty: Bool { self == PreVersions() }

    public subscript(index: Int) -> UInt64 {
        get {
            switch index {
            case 0: words.0
            case 1: words.1
            case 2: words.2
            case 3: words.3
            default: preconditionFailure("an update names at most four objects")
            }
        }
        set {
            switch index {
            case 0: words.0 = newValue
            case 1: words.1 = newValue
            case 2: words.2 = newValue
            case 3: words.3 = newValue
            default: preconditionFailure("an update names at most four objects")
            }
        }
    }

    public static func == (a: PreVersions, b: PreVersions) -> Bool { a.words == b.words }
}

/// What an object was when an update found it, as pb_pre_versions tells it.
@frozen
public struct ObjectVersion: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt64
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// Nothing is said: never compared.
    public static let untold = ObjectVersion(rawValue: 0)
    /// There was none (ENOENT_VERSION).
    public static let absent = ObjectVersion(rawValue: 1)
    /// Changed last by this update; zero for an object from before versions were kept. Moved up by
    /// two, so that the first transnos are not taken for the marks above.
    @inlinable
    public init(_ transno: UInt64) { rawValue = transno &+ 2 }
}

/// pb_type.
public enum MessageType: UInt32, Sendable {
    case request = 4711
    /// The request was not processed.
    case error = 4712
    case reply = 4713
}

/// pb_flags (MSG_*).
public struct MessageFlags: OptionSet, Sendable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// The same XID was sent before.
    public static let resent = MessageFlags(rawValue: 0x2)
    /// Executed before the server restarted, not yet committed then.
    public static let replay = MessageFlags(rawValue: 0x4)
    /// This client has replayed all its requests.
    public static let requestReplayDone = MessageFlags(rawValue: 0x40)
    /// This client has replayed all its locks.
    public static let lockReplayDone = MessageFlags(rawValue: 0x80)
}

/// pb_op_flags of connect (MSG_CONNECT_*).
public struct ConnectFlags: OptionSet, Sendable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let recovering = ConnectFlags(rawValue: 0x1)
    public static let reconnect = ConnectFlags(rawValue: 0x2)
    public static let replayable = ConnectFlags(rawValue: 0x4)
    public static let initial = ConnectFlags(rawValue: 0x20)
    public static let nextVersion = ConnectFlags(rawValue: 0x80)
    public static let transno = ConnectFlags(rawValue: 0x100)
}

/// A request's number, unique for its client: the low 7 bits stay free for the match bits of bulk.
@frozen
public struct XID: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
    public var rawValue: UInt64
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = XID(rawValue: 0)
    /// From one XID to the next (PTLRPC_BULK_OPS_COUNT).
    public static let step: UInt64 = 128
    @inlinable
    public static func < (a: XID, b: XID) -> Bool { a.rawValue < b.rawValue }
}

/// The number of an update at its target, in the order of execution; 0 where nothing was changed.
@frozen
public struct Transno: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
    public var rawValue: UInt64
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = Transno(rawValue: 0)
    @inlinable
    public static func < (a: Transno, b: Transno) -> Bool { a.rawValue < b.rawValue }
}

/// pb_status: 0, a negative errno in Linux x86 numbers, or a lock manager code above 300.
@frozen
public struct Status: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: Int32
    @inlinable
    public init(rawValue: Int32) { self.rawValue = rawValue }
    public static let ok = Status(rawValue: 0)
    public static let noEntry = Status(rawValue: -2)
    public static let ioError = Status(rawValue: -5)
    public static let badHandle = Status(rawValue: -9)
    public static let tryAgain = Status(rawValue: -11)
    public static let access = Status(rawValue: -13)
    public static let busy = Status(rawValue: -16)
    public static let exists = Status(rawValue: -17)
    public static let noDevice = Status(rawValue: -19)
    public static let notDirectory = Status(rawValue: -20)
    public static let isDirectory = Status(rawValue: -21)
    public static let invalid = Status(rawValue: -22)
    public static let tooBig = Status(rawValue: -27)
    public static let noSpace = Status(rawValue: -28)
    public static let nameTooLong = Status(rawValue: -36)
    public static let notEmpty = Status(rawValue: -39)
    public static let protocolError = Status(rawValue: -71)
    public static let overflow = Status(rawValue: -75)
    public static let illegalName = Status(rawValue: -84)
    public static let notSupported = Status(rawValue: -95)
    public static let shutdown = Status(rawValue: -108)
    public static let notConnected = Status(rawValue: -107)
    public static let timedOut = Status(rawValue: -110)
    public static let hostUnreachable = Status(rawValue: -113)
    public static let already = Status(rawValue: -114)
    public static let inProgress = Status(rawValue: -115)
    public static let stale = Status(rawValue: -116)
    public static let cancelled = Status(rawValue: -125)

    public var isError: Bool { rawValue < 0 }
}

extension Status: CustomStringConvertible {
    /// What an operator reads: the errno's usual sentence.
    public var description: String {
        switch self {
        case .ok: "success"
        case .noEntry: "no such file or directory"
        case .ioError: "input/output error"
        case .badHandle: "bad file handle"
        case .tryAgain: "try again"
        case .access: "permission denied"
        case .busy: "busy"
        case .exists: "file exists"
        case .noDevice: "no such target on this server"
        case .notDirectory: "not a directory"
        case .isDirectory: "is a directory"
        case .invalid: "invalid argument"
        case .tooBig: "file too large"
        case .noSpace: "no space left on device"
        case .nameTooLong: "file name too long"
        case .notEmpty: "directory not empty"
        case .protocolError: "protocol error"
        case .overflow: "value too large"
        case .illegalName: "name is not valid UTF-8"
        case .notSupported: "operation not supported"
        case .shutdown: "shut down"
        case .notConnected: "not connected"
        case .timedOut: "timed out"
        case .hostUnreachable: "no route to host"
        case .already: "already in progress"
        case .inProgress: "in progress"
        case .stale: "stale file handle"
        case .cancelled: "operation cancelled"
        default: "error \(rawValue)"
        }
    }
}
