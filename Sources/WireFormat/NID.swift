/// The network identity of one interface of a node: address, network type and network number.
///
/// `lnet_nid_t` (nid4): bits 55..48 network type, 47..32 network number, 31..0 address in host order.
@frozen
public struct NID: Hashable, Comparable, Sendable, BitwiseCopyable {
    public var rawValue: UInt64

    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public init(address: UInt32, type: NetworkType, number: UInt16 = 0) {
        rawValue = UInt64(type.rawValue) << 48 | UInt64(number) << 32 | UInt64(address)
    }

    /// LNET_NID_ANY: matches every node.
    public static let any = NID(rawValue: .max)
    /// 0@lo.
    public static let loopback = NID(address: 0, type: .lo)

    /// IPv4 address in host order: 10.1.2.3 is 0x0a010203.
    public var address: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    public var number: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 32) }
    public var type: NetworkType {
        NetworkType(rawValue: UInt8(truncatingIfNeeded: rawValue >> 48))
    }
    /// Type and number: two NIDs with equal `network` reach each other without a router.
    public var network: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }

    public static func < (a: NID, b: NID) -> Bool { a.rawValue < b.rawValue }
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
    /// `127.0.1.7@tcp`, `10.0.0.1@o2ib2`, `0@lo`, `<?>` for any.
    public var description: String {
        if self == .any { return "<?>" }
        if self == .loopback { return "0@lo" }
        let a = address
        let dotted = "\(a >> 24).\(a >> 16 & 255).\(a >> 8 & 255).\(a & 255)"
        return "\(dotted)@\(networkName)"
    }

    /// Reads `ADDRESS@NETWORK`; without `@` the network is tcp. Nil for anything else.
    public init?(_ text: String) {
        if text == "0@lo" {
            self = .loopback
            return
        }
        let halves = text.split(separator: "@", omittingEmptySubsequences: false)
        guard halves.count == 1 || halves.count == 2 else { return nil }
        let octets = halves[0].split(separator: ".", omittingEmptySubsequences: false)
        guard octets.count == 4 else { return nil }
        var address: UInt32 = 0
        for octet in octets {
            guard !octet.isEmpty, octet.utf8.allSatisfy({ (48...57).contains($0) }),
                let value = UInt8(octet)
            else { return nil }
            address = address << 8 | UInt32(value)
        }
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
        self.init(address: address, type: type, number: number)
    }
}
