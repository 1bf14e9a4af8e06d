/// An address of the internet protocol, version 4 or 6, in host byte order.
///
/// One of version 4 is kept as its mapped form `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2), so that one
/// comparison serves both. 16 bytes.
@frozen
public struct IPAddress: Hashable, Sendable, BitwiseCopyable {
    /// The first and the last 64 bits.
    public var high: UInt64
    public var low: UInt64

    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// 10.1.2.3 is 0x0a010203.
    @inlinable
    public init(v4 address: UInt32) {
        high = 0
        low = 0xffff_0000_0000 | UInt64(address)
    }

    @inlinable
    public var isV4: Bool { high == 0 && low >> 32 == 0xffff }

    /// The last 32 bits: the whole address where it is one of version 4.
    @inlinable
    public var v4: UInt32 { UInt32(truncatingIfNeeded: low) }

    /// 0.0.0.0 or `::`: every address of its version.
    @inlinable
    public var isAny: Bool { high == 0 && (low == 0 || low == 0xffff_0000_0000) }

    /// The eight groups of 16 bits.
    private var groups: [UInt16] {
        (0..<8).map { UInt16(truncatingIfNeeded: ($0 < 4 ? high : low) >> (48 - 16 * ($0 & 3))) }
    }
}

extension IPAddress: CustomStringConvertible {
    /// `10.1.2.3`, `2001:db8::7`: as RFC 5952 wants it.
    public var description: String {
        if isV4 {
            return "\(v4 >> 24).\(v4 >> 16 & 255).\(v4 >> 8 & 255).\(v4 & 255)"
        }
        let groups = groups
        var (start, length) = (0, 0)
        var index = 0
        while index < 8 {
            var end = index
            while end < 8, groups[end] == 0 { end += 1 }
            if end - index > length { (start, length) = (index, end - index) }
            index = end + 1
        }
        func text(_ range: Range<Int>) -> String {
            groups[range].map { String($0, radix: 16) }.joined(separator: ":")
        }
        guard length > 1 else { return text(0..<8) }
        return text(0..<start) + "::" + text((start + length)..<8)
    }

    /// Reads `10.1.2.3`, `2001:db8::7` or `::ffff:10.1.2.3`. Nil for anything else, a zone among it.
    public init?(_ text: some StringProtocol) {
        if !text.contains(":") {
            guard let address = Self.v4(text) else { return nil }
            self.init(v4: address)
            return
        }
        guard !text.hasPrefix(":") || text.hasPrefix("::"),
            !text.hasSuffix(":") || text.hasSuffix("::")
        else { return nil }
        var halves: [[UInt16]] = [[]]
        var parts = text.split(separator: ":", omittingEmptySubsequences: false)[...]
        // A `::` at either end leaves two empty parts there, one in the middle leaves one.
        if parts.count >= 3, parts.first == "", parts[1] == "" { parts.removeFirst() }
        if parts.count >= 2, parts.last == "", parts[parts.endIndex - 2] == "" {
            parts.removeLast()
        }
        for (index, part) in parts.enumerated() {
            if part.isEmpty {
                guard halves.count == 1 else { return nil }
                halves.append([])
            } else if index == parts.count - 1, part.contains(".") {
                guard let address = Self.v4(part) else { return nil }
                halves[halves.count - 1] += [
                    UInt16(address >> 16), UInt16(truncatingIfNeeded: address),
                ]
            } else {
                guard part.utf8.count <= 4, part.utf8.allSatisfy(Self.isHexadecimal),
                    let group = UInt16(part, radix: 16)
                else { return nil }
                halves[halves.count - 1].append(group)
            }
        }
        let count = halves.reduce(0) { $0 + $1.count }
        guard halves.count == 1 ? count == 8 : count < 8 else { return nil }
        var groups = halves[0]
        if halves.count == 2 {
            groups += Array(repeating: 0, count: 8 - count) + halves[1]
        }
        self.init(
            high: groups[0..<4].reduce(0) { $0 << 16 | UInt64($1) },
            low: groups[4..<8].reduce(0) { $0 << 16 | UInt64($1) })
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...70).contains(byte) || (97...102).contains(byte)
    }

    private static func v4(_ text: some StringProtocol) -> UInt32? {
        let octets = text.split(separator: ".", omittingEmptySubsequences: false)
        guard octets.count == 4 else { return nil }
        var address: UInt32 = 0
        for octet in octets {
            guard !octet.isEmpty, octet.utf8.allSatisfy({ (48...57).contains($0) }),
                let value = UInt8(octet)
            else { return nil }
            address = address << 8 | UInt32(value)
        }
        return address
    }
}
