import LDLMCore
import WireFormat

/// A granted lock as the clean record keeps it: 72 bytes, a record lock 80, little-endian.
///
/// | offset | size | field                                                     |
/// |-------:|-----:|-----------------------------------------------------------|
/// |      0 |   32 | resource                                                  |
/// |     32 |    4 | mode                                                      |
/// |     36 |    4 | 0 plain, 1 extent, 2 inode bits, 3 record lock            |
/// |     40 |   24 | start, end, group; bits, 0, group; start, end, its owner  |
/// |     64 |    8 | the owner's export index                                  |
/// |     72 |    8 | of a record lock: its process, and zero                   |
enum ReservationCodec {
    static func encode(_ lock: ReservedLock) -> [UInt8] {
        var writer = WireWriter(capacity: 80)
        lock.resource.encode(into: &writer)
        writer.u32(lock.mode.rawValue)
        switch lock.policy {
        case .plain:
            put(0, 0, .max, 0, into: &writer)
        case .extent(let extent, let group):
            put(1, extent.start, extent.end, group, into: &writer)
        case .inodeBits(let bits, _, let group, _):
            put(2, bits, 0, group, into: &writer)
        case .flock(let extent, let owner, _):
            put(3, extent.start, extent.end, owner, into: &writer)
        }
        writer.u64(lock.ownerKey)
        if case .flock(_, _, let process) = lock.policy {
            writer.u32(process)
            writer.u32(0)
        }
        return writer.bytes
    }

    private static func put(
        _ kind: UInt32, _ first: UInt64, _ second: UInt64, _ third: UInt64,
        into writer: inout WireWriter
    ) {
        writer.u32(kind)
        writer.u64(first)
        writer.u64(second)
        writer.u64(third)
    }

    static func decode(_ bytes: [UInt8]) throws(WireError) -> ReservedLock {
        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> ReservedLock in
            var reader = WireReader(span)
            let resource = try ResourceID.decode(from: &reader)
            let rawMode = try reader.u32()
            guard let mode = LockMode(rawValue: rawMode) else {
                throw .badValue(field: "lock mode", value: UInt64(rawMode))
            }
            let kind = try reader.u32()
            let extent = Extent(start: try reader.u64(), end: try reader.u64())
            let third = try reader.u64()
            let ownerKey = try reader.u64()
            let policy: LockPolicy
            switch kind {
            case 0: policy = .plain
            case 1: policy = .extent(extent, group: third)
            case 2: policy = .inodeBits(extent.start, other: 0, group: third, initiator: 0)
            case 3: policy = .flock(extent, owner: third, pid: try reader.u32())
            default: throw .badValue(field: "lock kind", value: UInt64(kind))
            }
            return ReservedLock(
                resource: resource, mode: mode, policy: policy, ownerKey: ownerKey)
        }
    }
}
