/// What a typed connection carries, seen from its sender: SOCKLND_CONN_* (socklnd.h).
@frozen
public enum SockLNDConnectionType: Int32, Sendable, BitwiseCopyable {
    /// In an answer: refused (lost a race, duplicate, stale incarnation, other version).
    case none = -1
    case any = 0
    case control = 1
    case bulkIn = 2
    case bulkOut = 3

    /// The same connection seen from the other end.
    public var inverted: SockLNDConnectionType {
        switch self {
        case .none, .any, .control: self
        case .bulkIn: .bulkOut
        case .bulkOut: .bulkIn
        }
    }
}

/// The hello that both ends of a socklnd connection exchange, protocols 2 to 4. 56 bytes, and 80 in
/// protocol 4 (`struct ksock_hello_msg`), whose NIDs take 20 bytes (`NID.encodeLarge`) and behind whose
/// fixed part no addresses follow: there the pids stand at 48 and 52, the incarnations at 56 and 64,
/// the type at 72 and the count at 76.
///
/// Source: `struct ksock_hello_msg_nid4` (socklnd-idl.h), in the sender's byte order; only
/// little-endian senders are understood here.
///
/// | offset | size | field                    | meaning                                  |
/// |-------:|-----:|--------------------------|------------------------------------------|
/// |      0 |    4 | magic                    | 0x45726963                               |
/// |      4 |    4 | `version`                | 2 or 3; 4 in the longer form             |
/// |      8 |    8 | source nid               |                                          |
/// |     16 |    8 | destination nid          |                                          |
/// |     24 |    4 | source pid               |                                          |
/// |     28 |    4 | destination pid          | sent as 0                                |
/// |     32 |    8 | `sourceIncarnation`      | one lifetime of the sender's interface   |
/// |     40 |    8 | `destinationIncarnation` | sent as 0                                |
/// |     48 |    4 | `type`                   | from the sender's viewpoint              |
/// |     52 |    4 | `addressCount`           | IPv4 addresses that follow: 0, at most 16 |
@frozen
public struct SockLNDHello: Hashable, Sendable, BitwiseCopyable {
    public var version: UInt32
    public var source: ProcessID
    public var destination: ProcessID
    public var sourceIncarnation: UInt64
    public var destinationIncarnation: UInt64
    public var type: SockLNDConnectionType
    public var addressCount: UInt32

    public init(
        version: UInt32 = SockLNDHello.currentVersion, source: ProcessID, destination: NID,
        incarnation: UInt64, type: SockLNDConnectionType
    ) {
        self.version = version
        self.source = source
        self.destination = ProcessID(nid: destination, pid: 0)
        sourceIncarnation = incarnation
        destinationIncarnation = 0
        self.type = type
        addressCount = 0
    }

    /// The fixed part; `addressCount` addresses of 4 bytes follow.
    public static let encodedSize = 56
    /// In protocol 4.
    public static let largeEncodedSize = 80
    /// LNET_PROTO_MAGIC: protocols 2 and later.
    public static let magic: UInt32 = 0x4572_6963
    /// LNET_PROTO_TCP_MAGIC: protocol 1.
    public static let version1Magic: UInt32 = 0xeebc_0ded
    /// KSOCK_PROTO_V3.
    public static let currentVersion: UInt32 = 3
    /// KSOCK_PROTO_V4: what is spoken over IPv6.
    public static let largeVersion: UInt32 = 4
    /// LNET_INTERFACES_NUM as older nodes had it.
    public static let addressCountMax: UInt32 = 16

    /// Reads the fixed part. Magic and version are judged as soon as they are there.
    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= 4 else { throw .truncated(need: 4, have: bytes.byteCount) }
        let magic: UInt32 = bytes.littleEndian(at: 0)
        if magic == Self.version1Magic { throw .badVersion(1) }
        guard magic == Self.magic else { throw .badMagic(magic) }
        guard bytes.byteCount >= 8 else { throw .truncated(need: 8, have: bytes.byteCount) }
        let version: UInt32 = bytes.littleEndian(at: 4)
        if version == Self.largeVersion {
            self = try Self.large(bytes)
            return
        }
        guard version == 2 || version == 3 else { throw .badVersion(version) }
        self.version = version
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        source = ProcessID(
            nid: NID(rawValue: bytes.littleEndian(at: 8)), pid: bytes.littleEndian(at: 24))
        destination = ProcessID(
            nid: NID(rawValue: bytes.littleEndian(at: 16)), pid: bytes.littleEndian(at: 28))
        sourceIncarnation = bytes.littleEndian(at: 32)
        destinationIncarnation = bytes.littleEndian(at: 40)
        type = try Self.type(bytes.littleEndian(at: 48))
        addressCount = bytes.littleEndian(at: 52)
        guard addressCount <= Self.addressCountMax else {
            throw .badLength(
                field: "kshm_nips", value: UInt64(addressCount),
                limit: UInt64(Self.addressCountMax))
        }
    }

    private static func large(_ bytes: RawSpan) throws(WireError) -> SockLNDHello {
        guard bytes.byteCount >= largeEncodedSize else {
            throw .truncated(need: largeEncodedSize, have: bytes.byteCount)
        }
        var hello = SockLNDHello(
            version: largeVersion,
            source: ProcessID(nid: try NID(large: bytes, at: 8), pid: bytes.littleEndian(at: 48)),
            destination: try NID(large: bytes, at: 28), incarnation: bytes.littleEndian(at: 56),
            type: try type(bytes.littleEndian(at: 72)))
        hello.destination.pid = bytes.littleEndian(at: 52)
        hello.destinationIncarnation = bytes.littleEndian(at: 64)
        let count: UInt32 = bytes.littleEndian(at: 76)
        guard count == 0 else {
            throw .badLength(field: "ksm_nips", value: UInt64(count), limit: 0)
        }
        return hello
    }

    private static func type(_ raw: Int32) throws(WireError) -> SockLNDConnectionType {
        guard let type = SockLNDConnectionType(rawValue: raw) else {
            throw .badValue(field: "kshm_ctype", value: UInt64(UInt32(bitPattern: raw)))
        }
        return type
    }

    /// Writes the fixed part. We never send addresses, so `addressCount` is written as 0.
    public func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u32(version)
        if version == Self.largeVersion {
            source.nid.encodeLarge(into: &writer)
            destination.nid.encodeLarge(into: &writer)
        } else {
            writer.u64(source.nid.rawValue)
            writer.u64(destination.nid.rawValue)
        }
        writer.u32(source.pid)
        writer.u32(destination.pid)
        writer.u64(sourceIncarnation)
        writer.u64(destinationIncarnation)
        writer.write(type.rawValue)
        writer.u32(0)
    }
}
