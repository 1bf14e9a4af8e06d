internal import WireFormat

/// The precreated objects of one object target: numbers in ascending order, each handed out once.
///
/// ```
///   handed out    ready     asked for or not yet    not set aside
/// ------------|-----------|------------------------|--------------->
///          position   available                 reserved
/// ```
struct ObjectPool: Sendable {
    var targetIndex: UInt32
    /// Objects are chosen here.
    var isUsable = true
    /// The target is among those of this file system now.
    var isConfigured = false
    /// The next number to hand out.
    var position: UInt64 = 1
    /// Numbers below are known to exist on the object server, committed there.
    var available: UInt64 = 1
    /// Numbers below were set aside. Those that are committed as set aside may be asked for: so
    /// no crash makes two instances ask for one number, and hand it out twice.
    var reserved: UInt64 = 1
    /// How much of `reserved` was seen committed.
    var reservedCommitted: UInt64 = 1
    /// A request for objects is on its way.
    var isAsking = false

    static let format: UInt8 = 1
    /// Numbers that a replay may name.
    static let numberMax: UInt64 = 1 << 48

    init(targetIndex: UInt32) { self.targetIndex = targetIndex }

    var isReady: Bool { isConfigured && isUsable && position < available }
    var readyCount: UInt64 { available - position }

    /// Table `meta`: a format byte, then position, available, reserved (8 each), little-endian.
    var encoded: [UInt8] {
        var writer = WireWriter(capacity: 25)
        writer.u8(Self.format)
        writer.u64(position)
        writer.u64(available)
        writer.u64(reserved)
        return writer.bytes
    }

    /// Nil where the bytes are no such record.
    init?(targetIndex: UInt32, decoding bytes: [UInt8]) {
        let words = try? RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> [UInt64] in
            var reader = WireReader(span)
            guard try reader.u8() >= Self.format else { return [] }
            return [try reader.u64(), try reader.u64(), try reader.u64()]
        }
        guard let words, words.count == 3, 0 < words[0], words[0] <= words[1],
            words[1] <= words[2]
        else { return nil }
        self.targetIndex = targetIndex
        position = words[0]
        available = words[1]
        reserved = words[2]
    }
}
