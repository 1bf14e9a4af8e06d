import LDLMCore
import WireFormat

/// A granted lock as the clean record keeps it: 72 bytes, little-endian.
///
/// | offset | size | field                    |
/// |-------:|-----:|--------------------------|
/// |      0 |   32 | resource                 |
/// |     32 |    4 | mode                     |
/// |     36 |    4 | 0 plain, 1 extent        |
/// |     40 |   24 | start, end, group        |
/// |     64 |    8 | the owner's export index |
enum ReservationCodec {
    static func encode(_ lock: ReservedLock) -> [UInt8] {
        var writer = WireWriter(capacity: 72)
        lock.resource.encode(into: &writer)
        writer.u32(lock.mode.rawValue)
        writer.u32(lock.policy.type == .extent ? 1 : 0)
        writer.u64(lock.policy.range.start)
        writer.u64(lock.policy.range.end)
        writer.u64(lock.policy.group)
        writer.u64(lock.ownerKey)
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) throws(WireError) -> ReservedLock {
        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> ReservedLock in
            var reader = WireReader(span)
            let resource = try ResourceID.decode(from: &reader)
            let rawMode = try reader.u32()
            guard let mode = LockMode(rawValue: rawMode) else {
                throw .badValue(field: "lock mode", value: UInt64(rawMode))
            }
            let isExtent = try reader.u32() == 1
            let extent = Extent(start: try reader.u64(), end: try reader.u64())
            let group = try reader.u64()
            return ReservedLock(
                resource: resource, mode: mode,
                policy: isExtent ? .extent(extent, group: group) : .plain,
                ownerKey: try reader.u64())
        }
    }
}
