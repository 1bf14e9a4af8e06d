/// What begins every o2iblnd message: 48 bytes. Source: `struct kib_msg` (o2iblnd-idl.h), in the
/// sender's byte order; only little-endian senders are understood here.
///
/// | offset | size | field              | meaning                                            |
/// |-------:|-----:|--------------------|----------------------------------------------------|
/// |      0 |    4 | magic              | 0x0be91b91                                         |
/// |      4 |    2 | version            | 0x12                                               |
/// |      6 |    1 | `kind`             | below                                              |
/// |      7 |    1 | `credits`          | receive credits that the sender gives back         |
/// |      8 |    4 | `byteCount`        | of the whole message, an immediate payload included |
/// |     12 |    4 | `checksum`         | 0: none                                            |
/// |     16 |    8 | `source`           | NID of the sender                                  |
/// |     24 |    8 | `sourceStamp`      | its incarnation                                    |
/// |     32 |    8 | `destination`      | NID of the receiver                                |
/// |     40 |    8 | `destinationStamp` | its incarnation; 0 in a CONNREQ that does not know |
@frozen
public struct O2IBLNDHeader: Hashable, Sendable, BitwiseCopyable {
    /// IBLND_MSG_*.
    @frozen
    public enum Kind: UInt8, Sendable, BitwiseCopyable, CaseIterable {
        case connectRequest = 0xc0
        case connectAck = 0xc1
        case noop = 0xd0
        case immediate = 0xd1
        case putRequest = 0xd2
        case putNak = 0xd3
        case putAck = 0xd4
        case putDone = 0xd5
        case getRequest = 0xd6
        case getDone = 0xd7

        /// The shortest message of the kind, in bytes.
        public var byteCountMin: Int {
            switch self {
            case .connectRequest, .connectAck: 56
            case .noop: 48
            case .immediate: 120
            case .putRequest: 128
            case .putNak, .putDone, .getDone: 60
            case .putAck: 48 + 16 + O2IBLNDDescriptor.byteCount(fragments: 1)
            case .getRequest: 128 + O2IBLNDDescriptor.byteCount(fragments: 1)
            }
        }
    }

    public var kind: Kind
    public var credits: UInt8
    public var byteCount: UInt32
    public var checksum: UInt32
    public var source: NID
    public var sourceStamp: UInt64
    public var destination: NID
    public var destinationStamp: UInt64

    @inlinable
    public init(
        kind: Kind, credits: UInt8 = 0, byteCount: UInt32, checksum: UInt32 = 0, source: NID,
        sourceStamp: UInt64, destination: NID, destinationStamp: UInt64
    ) {
        self.kind = kind
        self.credits = credits
        self.byteCount = byteCount
        self.checksum = checksum
        self.source = source
        self.sourceStamp = sourceStamp
        self.destination = destination
        self.destinationStamp = destinationStamp
    }

    public static let encodedSize = 48
    /// IBLND_MSG_MAGIC.
    public static let magic: UInt32 = 0x0be9_1b91
    /// IBLND_MSG_VERSION.
    public static let version: UInt16 = 0x12
    /// IBLND_MSG_SIZE: the longest message.
    public static let messageMax = 4096
    /// The longest payload of an IMMEDIATE.
    public static let immediateMax = messageMax - encodedSize - LNetHeader.encodedSize
    /// Where `credits` stands, and where an IMMEDIATE's payload begins.
    public static let creditsOffset = 7
    public static let immediateOffset = encodedSize + LNetHeader.encodedSize

    /// Reads the first 48 bytes, and checks that as many bytes are there as the message says it
    /// has, and at least as many as its kind needs.
    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= 6 else { throw .truncated(need: 6, have: bytes.byteCount) }
        let magic: UInt32 = bytes.littleEndian(at: 0)
        guard magic == Self.magic else { throw .badMagic(magic) }
        let version: UInt16 = bytes.littleEndian(at: 4)
        guard version == Self.version else { throw .badVersion(UInt32(version)) }
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        let type: UInt8 = bytes.littleEndian(at: 6)
        guard let kind = Kind(rawValue: type) else {
            throw .badValue(field: "kib_msg.ibm_type", value: UInt64(type))
        }
        self.kind = kind
        credits = bytes.littleEndian(at: Self.creditsOffset)
        byteCount = bytes.littleEndian(at: 8)
        checksum = bytes.littleEndian(at: 12)
        source = NID(rawValue: bytes.littleEndian(at: 16))
        sourceStamp = bytes.littleEndian(at: 24)
        destination = NID(rawValue: bytes.littleEndian(at: 32))
        destinationStamp = bytes.littleEndian(at: 40)
        guard byteCount <= UInt32(clamping: bytes.byteCount) else {
            throw .badLength(
                field: "kib_msg.ibm_nob", value: UInt64(byteCount),
                limit: UInt64(bytes.byteCount))
        }
        guard Int(byteCount) >= kind.byteCountMin else {
            throw .truncated(need: kind.byteCountMin, have: Int(byteCount))
        }
    }

    public func encode(into writer: inout WireWriter) {
        let words = self.words
        for index in words.indices { writer.u64(words[index]) }
    }

    /// The 48 bytes as six little-endian words.
    @inlinable
    public var words: InlineArray<6, UInt64> {
        [
            UInt64(Self.magic) | UInt64(Self.version) << 32 | UInt64(kind.rawValue) << 48
                | UInt64(credits) << 56,
            UInt64(byteCount) | UInt64(checksum) << 32, source.rawValue, sourceStamp,
            destination.rawValue, destinationStamp,
        ]
    }
}

/// What both sides agree on when they connect: the 8 bytes behind the header of CONNREQ and
/// CONNACK, and the last of a reject. Source: `struct kib_connparams`.
///
/// | offset | size | field             | meaning                               |
/// |-------:|-----:|-------------------|---------------------------------------|
/// |      0 |    2 | `queueDepth`      | credits that each side starts with    |
/// |      2 |    2 | `maxFragments`    | fragments of a descriptor, at most    |
/// |      4 |    4 | `maxMessageBytes` | the longest message, at most 4096     |
@frozen
public struct O2IBLNDParameters: Hashable, Sendable, BitwiseCopyable {
    public var queueDepth: UInt16
    public var maxFragments: UInt16
    public var maxMessageBytes: UInt32

    @inlinable
    public init(
        queueDepth: UInt16, maxFragments: UInt16 = UInt16(O2IBLNDDescriptor.fragmentsMax),
        maxMessageBytes: UInt32 = UInt32(O2IBLNDHeader.messageMax)
    ) {
        self.queueDepth = queueDepth
        self.maxFragments = maxFragments
        self.maxMessageBytes = maxMessageBytes
    }

    public static let encodedSize = 8

    /// Reads 8 bytes at `offset`, which the caller has checked to be there.
    public init(parsing bytes: RawSpan, at offset: Int) {
        queueDepth = bytes.littleEndian(at: offset)
        maxFragments = bytes.littleEndian(at: offset + 2)
        maxMessageBytes = bytes.littleEndian(at: offset + 4)
    }

    public func encode(into writer: inout WireWriter) {
        writer.u16(queueDepth)
        writer.u16(maxFragments)
        writer.u32(maxMessageBytes)
    }
}

/// The private data of a CM reject: 24 bytes. Source: `struct kib_rej`.
///
/// | offset | size | field         | meaning                         |
/// |-------:|-----:|---------------|---------------------------------|
/// |      0 |    4 | magic         | 0x0be91b91                      |
/// |      4 |    2 | version       | 0x12                            |
/// |      6 |    1 | `reason`      | IBLND_REJECT_*                  |
/// |      7 |    1 | padding       | zero on send                    |
/// |      8 |    8 | `incarnation` | of the side that rejects        |
/// |     16 |    8 | `parameters`  | what that side could agree to   |
@frozen
public struct O2IBLNDReject: Hashable, Sendable, BitwiseCopyable {
    /// IBLND_REJECT_*.
    @frozen
    public enum Reason: UInt8, Sendable, BitwiseCopyable, CaseIterable {
        case connectionRace = 1
        case noResources = 2
        case fatal = 3
        case incompatible = 4
        case stale = 5
        case fragments = 6
        case queueDepth = 7
        case invalidService = 8
        case early = 9
    }

    public var reason: Reason
    public var incarnation: UInt64
    public var parameters: O2IBLNDParameters

    @inlinable
    public init(reason: Reason, incarnation: UInt64, parameters: O2IBLNDParameters) {
        self.reason = reason
        self.incarnation = incarnation
        self.parameters = parameters
    }

    public static let encodedSize = 24

    /// Reads the first 24 bytes; a version other than ours is read, too, as it says why.
    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        let magic: UInt32 = bytes.littleEndian(at: 0)
        guard magic == O2IBLNDHeader.magic else { throw .badMagic(magic) }
        let why: UInt8 = bytes.littleEndian(at: 6)
        guard let reason = Reason(rawValue: why) else {
            throw .badValue(field: "kib_rej.ibr_why", value: UInt64(why))
        }
        self.reason = reason
        incarnation = bytes.littleEndian(at: 8)
        parameters = O2IBLNDParameters(parsing: bytes, at: 16)
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(O2IBLNDHeader.magic)
        writer.u16(O2IBLNDHeader.version)
        writer.u8(reason.rawValue)
        writer.u8(0)
        writer.u64(incarnation)
        parameters.encode(into: &writer)
    }
}
