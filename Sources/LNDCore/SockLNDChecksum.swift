/// The checksum that a socklnd peer may put on a message: CRC-32 with the reflected polynomial
/// 0xEDB88320, seed ~0, no final inversion (`ksocknal_csum`, socklnd.h). We never send one.
public struct SockLNDChecksum: Sendable {
    private static let table: InlineArray<256, UInt32> = {
        var table = InlineArray<256, UInt32>(repeating: 0)
        for index in 0..<256 {
            var crc = UInt32(index)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
            table[index] = crc
        }
        return table
    }()

    public private(set) var value: UInt32 = ~0

    public init() {}

    public mutating func combine(_ byte: UInt8) {
        value = value >> 8 ^ Self.table[Int(UInt8(truncatingIfNeeded: value) ^ byte)]
    }

    public mutating func combine(_ bytes: RawSpan, _ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.byteCount)
        for offset in range {
            // SAFETY: the precondition bounds the load.
            combine(unsafe bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self))
        }
    }
}
