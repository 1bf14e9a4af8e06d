/// What a node answers to an LNet ping: who it is. Source: `struct lnet_ping_info` (lnet-idl.h), in
/// the target's byte order; only little-endian targets are understood here.
///
/// | offset | size | field      | meaning                                                        |
/// |-------:|-----:|------------|----------------------------------------------------------------|
/// |      0 |    4 | magic      | 0x70696e67                                                     |
/// |      4 |    4 | `features` |                                                                |
/// |      8 |    4 | `pid`      | 12345                                                          |
/// |     12 |    4 | count      | entries that follow                                            |
/// |     16 | 16 n | entries    | nid 8 @0, status 4 @8, size 4 @12                              |
///
/// Entry 0 is 0@lo, and its status holds the sequence number of this information; its size is the
/// size of the whole where LARGE_ADDR is set. Then entries of 24 bytes follow, of the NIDs with longer
/// addresses: status 4, and the NID's 20 (`NID.encodeLarge`). Where PRIMARY_LARGE is set too the first
/// of those is the primary NID. What METADATA says of more behind them is not read here.
public struct PingInfo: Equatable, Sendable {
    public var features: Features
    public var pid: UInt32
    /// The status of entry 0: grows with every change of the interfaces.
    public var sequence: UInt32
    /// The interfaces behind 0@lo; the first is the primary NID. Large NIDs go on the wire only with
    /// `Features.largeAddresses`, behind the small ones.
    public var interfaces: [Interface]

    public struct Interface: Equatable, Sendable {
        public var nid: NID
        public var status: UInt32

        public init(nid: NID, status: UInt32 = Interface.up) {
            self.nid = nid
            self.status = status
        }

        /// LNET_NI_STATUS_UP.
        public static let up: UInt32 = 0x15aa_c0de
        /// LNET_NI_STATUS_DOWN.
        public static let down: UInt32 = 0xdead_face
        public var isUp: Bool { status == Self.up }
    }

    /// LNET_PING_FEAT_*; unknown bits are kept and ignored.
    @frozen
    public struct Features: OptionSet, Hashable, Sendable, BitwiseCopyable {
        public var rawValue: UInt32
        @inlinable
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let base = Features(rawValue: 1)
        public static let niStatus = Features(rawValue: 2)
        public static let routingDisabled = Features(rawValue: 4)
        public static let multiRail = Features(rawValue: 8)
        public static let discovery = Features(rawValue: 16)
        public static let largeAddresses = Features(rawValue: 32)
        public static let primaryLarge = Features(rawValue: 64)
        public static let metadata = Features(rawValue: 128)
    }

    public init(
        features: Features = [.niStatus, .routingDisabled], pid: UInt32 = ProcessID.lustrePID,
        sequence: UInt32 = 1, interfaces: [Interface]
    ) {
        self.features = features
        self.pid = pid
        self.sequence = sequence
        self.interfaces = interfaces
    }

    /// LNET_PROTO_PING_MAGIC.
    public static let magic: UInt32 = 0x7069_6e67
    /// LNET_RESERVED_PORTAL.
    public static let portal: UInt32 = 0
    /// LNET_PROTO_PING_MATCHBITS.
    public static let matchBits: UInt64 = 0x8000_0000_0000_0000
    /// What `lctl ping` asks for, so that over o2iblnd the answer always fits one message.
    public static let replyLengthMax = 3960
    /// What discovery asks for at first (LNET_PING_INFO_MIN_SIZE: 16 entries).
    public static let lengthMin = 16 + 16 * 16
    /// The longest that is read: lnet_interfaces_max entries.
    public static let lengthMax = 16 + 24 * interfacesMax
    /// lnet_interfaces_max.
    public static let interfacesMax = 4096

    public var encodedSize: Int {
        let large = features.contains(.largeAddresses) ? largeCount : 0
        return 16 + 16 * (interfaces.count - largeCount + 1) + Self.largeEntrySize * large
    }

    private var largeCount: Int { interfaces.reduce(0) { $0 + ($1.nid.isLarge ? 1 : 0) } }
    private static let largeEntrySize = 4 + NID.largeEncodedSize

    /// Reads what `lnet_ping` accepts: the right magic, NI_STATUS, 0@lo first, all entries there.
    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= 32 else { throw .truncated(need: 32, have: bytes.byteCount) }
        let magic: UInt32 = bytes.littleEndian(at: 0)
        guard magic == Self.magic else { throw .badMagic(magic) }
        features = Features(rawValue: bytes.littleEndian(at: 4))
        guard features.contains(.niStatus) else {
            throw .badValue(field: "pi_features", value: UInt64(features.rawValue))
        }
        pid = bytes.littleEndian(at: 8)
        let count: UInt32 = bytes.littleEndian(at: 12)
        guard count >= 1, count <= Self.interfacesMax else {
            throw .badLength(
                field: "pi_nnis", value: UInt64(count), limit: UInt64(Self.interfacesMax))
        }
        let size = 16 + 16 * Int(count)
        guard bytes.byteCount >= size else {
            throw .truncated(need: size, have: bytes.byteCount)
        }
        let first: UInt64 = bytes.littleEndian(at: 16)
        guard NID(rawValue: first) == .loopback else {
            throw .badValue(field: "pi_ni[0].ns_nid", value: first)
        }
        sequence = bytes.littleEndian(at: 24)
        interfaces = []
        interfaces.reserveCapacity(Int(count) - 1)
        for offset in stride(from: 32, to: size, by: 16) {
            interfaces.append(
                Interface(
                    nid: NID(rawValue: bytes.littleEndian(at: offset)),
                    status: bytes.littleEndian(at: offset + 8)))
        }
        if features.contains(.largeAddresses) { try readLarge(bytes, behind: size) }
    }

    private mutating func readLarge(_ bytes: RawSpan, behind start: Int) throws(WireError) {
        let told: UInt32 = bytes.littleEndian(at: 28)
        let size = Int(told & ~3)
        guard size >= start, size <= Self.lengthMax else {
            throw .badLength(
                field: "pi_ni[0].ns_msg_size", value: UInt64(told), limit: UInt64(Self.lengthMax))
        }
        guard bytes.byteCount >= size else { throw .truncated(need: size, have: bytes.byteCount) }
        var large: [Interface] = []
        var offset = start
        while size - offset >= Self.largeEntrySize, large.count < Self.interfacesMax {
            let nid: NID
            do throws(WireError) {
                nid = try NID(large: bytes, at: offset + 4)
            } catch {
                // What METADATA announces begins here.
                guard features.contains(.metadata) else { throw error }
                break
            }
            guard nid.isLarge else {
                guard features.contains(.metadata) else {
                    throw .badValue(field: "ns_nid.nid_size", value: nid.rawValue >> 56)
                }
                break
            }
            large.append(Interface(nid: nid, status: bytes.littleEndian(at: offset)))
            offset += Self.largeEntrySize
        }
        interfaces =
            features.contains(.primaryLarge) ? large + interfaces : interfaces + large
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u32(features.rawValue)
        writer.u32(pid)
        writer.u32(UInt32(interfaces.count - largeCount + 1))
        writer.u64(NID.loopback.rawValue)
        writer.u32(sequence)
        writer.u32(features.contains(.largeAddresses) ? UInt32(encodedSize) : 0)
        for interface in interfaces where !interface.nid.isLarge {
            writer.u64(interface.nid.rawValue)
            writer.u32(interface.status)
            writer.u32(0)
        }
        guard features.contains(.largeAddresses) else { return }
        for interface in interfaces where interface.nid.isLarge {
            writer.u32(interface.status)
            interface.nid.encodeLarge(into: &writer)
        }
    }
}
