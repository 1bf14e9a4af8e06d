/// The name of an object's bytes within a target.
@frozen
public struct ObjectID: Hashable, Comparable, Sendable, BitwiseCopyable {
    public var sequence: UInt64
    public var number: UInt64

    @inlinable
    public init(sequence: UInt64, number: UInt64) {
        self.sequence = sequence
        self.number = number
    }

    @inlinable
    public static func < (a: ObjectID, b: ObjectID) -> Bool {
        a.sequence != b.sequence ? a.sequence < b.sequence : a.number < b.number
    }

    /// Sequence then number, 8 bytes each, big-endian: keys sort as the ids do.
    public var key: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(16)
        for word in [sequence, number] {
            for shift in stride(from: 56, through: 0, by: -8) {
                bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
            }
        }
        return bytes
    }

    /// Reads what `key` wrote; nil for any other length.
    public init?(key: [UInt8]) {
        guard key.count == 16 else { return nil }
        sequence = key[0..<8].reduce(0) { $0 << 8 | UInt64($1) }
        number = key[8..<16].reduce(0) { $0 << 8 | UInt64($1) }
    }
}

extension ObjectID: CustomStringConvertible {
    /// `0x2a:0x7`, as FIDs are written.
    public var description: String {
        "0x\(String(sequence, radix: 16)):0x\(String(number, radix: 16))"
    }
}
