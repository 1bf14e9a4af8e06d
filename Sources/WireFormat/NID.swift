public import Primitives

/// The network identity of one interface of a node: address, network type and network number. Holds
/// both forms, with an address of 4 bytes and with one of 16. 20 bytes.
///
/// `lnet_nid_t` (nid4): bits 55..48 network type, 47..32 network number, 31..0 address in host order.
/// `struct lnet_nid` (nid16) begins with the same 8 bytes in network order, where bits 63..56 are the
/// bytes of the address beyond 4: 12 in a large one.
@frozen
public struct NID: Hashable, Comparable, Sendable, BitwiseCopyable {
    /// The nid4; of a large NID its first 8 bytes, whose last 4 are the beginning of the address.
    public var rawValue: UInt64
    /// The rest of a large NID's address; 0 in a small one.
    @usableFromInline var low: UInt64
    @usableFromInline var middle: UInt32

    /// A small NID.
    @inlinable
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
        low = 0
        middle = 0
    }

    public init(address: UInt32, type: NetworkType, number: UInt16 = 0) {
        self.init(
            rawValue: UInt64(type.rawValue) << 48 | UInt64(number) << 32 | UInt64(address))
    }

    /// A large NID where the address is one of IPv6.
    public init(ip: IPAddress, type: NetworkType, number: UInt16 = 0) {
        self.init(address: ip.v4, type: type, number: number)
        guard !ip.isV4 else { return }
        rawValue = Self.largeMark << 56 | rawValue & ~0xffff_ffff | ip.high >> 32
        middle = UInt32(truncatingIfNeeded: ip.high)
        low = ip.low
    }

    /// nid_size of an address of 16 bytes.
    @usableFromInline static let largeMark: UInt64 = 12

    /// LNET_NID_ANY: matches every node.
    public static let any = NID(rawValue: .max)
    /// 0@lo.
    public static let loopback = NID(address: 0, type: .lo)

    /// The address has 16 bytes.
    @inlinable
    public var isLarge: Bool { rawValue >> 56 == 12 }
    /// IPv4 address in host order: 10.1.2.3 is 0x0a010203. Of a large NID the first 4 bytes.
    public var address: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    /// The address, of either size.
    public var ip: IPAddress {
        isLarge
            ? IPAddress(high: UInt64(address) << 32 | UInt64(middle), low: low)
            : IPAddress(v4: address)
    }
    public var number: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 32) }
    public var type: NetworkType {
        NetworkType(rawValue: UInt8(truncatingIfNeeded: rawValue >> 48))
    }
    /// Size of the address, type and number: two NIDs with equal `network` reach each other without
    /// a router.
    public var network: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
    /// Type and number, as a route names a network, whatever the size of the address.
    public var net: UInt32 { network & 0xff_ffff }

    public static func < (a: NID, b: NID) -> Bool {
        (a.rawValue, a.middle, a.low) < (b.rawValue, b.middle, b.low)
    }

    /// A word that differs where NIDs do, almost always: for tables.
    @inlinable
    public var hashSeed: UInt64 { rawValue ^ low ^ UInt64(middle) << 17 }

    // MARK: 20 bytes

    /// `struct lnet_nid`.
    public static let largeEncodedSize = 20

    /// Reads the 20 bytes of a nid16. Its parts are in network order, and stand so whatever the order
    /// of the message around them. What a small one has behind its address is not looked at.
    ///
    /// | offset | size | field    | meaning                                                     |
    /// |-------:|-----:|----------|-------------------------------------------------------------|
    /// |      0 |    1 | nid_size | bytes of the address beyond 4: 0 or 12                      |
    /// |      1 |    1 | nid_type | LND; 0xff is ANY, and then nothing else counts              |
    /// |      2 |    2 | nid_num  | network number                                              |
    /// |      4 |   16 | nid_addr | the address; of 4 bytes at its beginning                    |
    public init(large bytes: RawSpan, at offset: Int) throws(WireError) {
        guard bytes.byteCount - offset >= Self.largeEncodedSize else {
            throw .truncated(need: offset + Self.largeEncodedSize, have: bytes.byteCount)
        }
        let first: UInt64 = bytes.littleEndian(at: offset)
        self.init(rawValue: first.byteSwapped)
        if type.rawValue == 0xff {
            self = .any
            return
        }
        switch rawValue >> 56 {
        case 0:
            break
        case Self.largeMark:
            let second: UInt32 = bytes.littleEndian(at: offset + 8)
            let third: UInt64 = bytes.littleEndian(at: offset + 12)
            middle = second.byteSwapped
            low = third.byteSwapped
        default:
            throw .badValue(field: "lnet_nid.nid_size", value: rawValue >> 56)
        }
    }

    /// The 20 bytes as five little-endian words, for one append.
    @inlinable
    var largeWords: (UInt32, UInt32, UInt32, UInt32, UInt32) {
        let isAny = self == .any
        let first = rawValue.byteSwapped
        let last = isAny ? .max : low.byteSwapped
        return (
            UInt32(truncatingIfNeeded: first), UInt32(truncatingIfNeeded: first >> 32),
            isAny ? .max : middle.byteSwapped, UInt32(truncatingIfNeeded: last),
            UInt32(truncatingIfNeeded: last >> 32)
        )
    }

    /// Writes the 20 bytes of a nid16.
    public func encodeLarge(into writer: inout WireWriter) {
        let words = largeWords
        writer.u32(words.0)
        writer.u32(words.1)
        writer.u32(words.2)
        writer.u32(words.3)
        writer.u32(words.4)
    }
}

/// LND types as they stand in a NID (lnet-types.h). Retired numbers are never used again.
@frozen
public struct NetworkType: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// SOCKLND.
    public static let tcp = NetworkType(rawValue: 2)
    /// O2IBLND.
    public static let o2ib = NetworkType(rawValue: 5)
    /// LOLND.
    public static let lo = NetworkType(rawValue: 9)

    public var name: String? {
        switch self {
        case .tcp: "tcp"
        case .o2ib: "o2ib"
        case .lo: "lo"
        default: nil
        }
    }
}

extension NID {
    /// `tcp`, `o2ib2`; the number 0 is left out.
    public var networkName: String {
        guard let name = type.name else { return "<\(type.rawValue):\(number)>" }
        return number == 0 || type == .lo ? name : "\(name)\(number)"
    }
}

extension NID {
    /// As `networkName`, of a network by its type and number.
    public static func networkName(_ network: UInt32) -> String {
        NID(rawValue: UInt64(network) << 32).networkName
    }

    /// Type and number of `tcp`, `tcp3` or `o2ib`; nil for anything else.
    public static func network(named text: String) -> UInt32? {
        NID("0.0.0.0@\(text)")?.network
    }
}

extension NID: CustomStringConvertible {
    /// `127.0.1.7@tcp`, `10.0.0.1@o2ib2`, `2001:db8::7@tcp`, `0@lo`, `<?>` for any.
    public var description: String {
        if self == .any { return "<?>" }
        if self == .loopback { return "0@lo" }
        return "\(ip)@\(networkName)"
    }

    /// Reads `ADDRESS@NETWORK`; without `@` the network is tcp. An address of IPv6 is for tcp only.
    /// Nil for anything else.
    public init?(_ text: String) {
        if text == "0@lo" {
            self = .loopback
            return
        }
        let halves = text.split(separator: "@", omittingEmptySubsequences: false)
        guard halves.count == 1 || halves.count == 2 else { return nil }
        guard let ip = IPAddress(halves[0]) else { return nil }
        var type = NetworkType.tcp
        var number: UInt16 = 0
        if halves.count == 2 {
            let network = halves[1]
            guard
                let found = [NetworkType.tcp, .o2ib].first(where: {
                    network.hasPrefix($0.name ?? "?")
                }), let name = found.name
            else { return nil }
            let digits = network.dropFirst(name.count)
            if !digits.isEmpty {
                guard digits.utf8.allSatisfy({ (48...57).contains($0) }),
                    let value = UInt16(digits)
                else { return nil }
                number = value
            }
            type = found
        }
        guard ip.isV4 || type == .tcp else { return nil }
        self.init(ip: ip, type: type, number: number)
    }
}
