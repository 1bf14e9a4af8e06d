/// A range of bytes of a file, both ends included: `struct ldlm_extent` without its group id.
@frozen
public struct Extent: Hashable, Sendable, BitwiseCopyable {
    /// First byte.
    public var start: UInt64
    /// Last byte; `UInt64.max` stands for the end of the file, wherever that is (OBD_OBJECT_EOF).
    public var end: UInt64

    @inlinable
    public init(start: UInt64, end: UInt64) {
        self.start = start
        self.end = end
    }

    /// The bytes from `offset` on; where that goes beyond what a file can have, up to its end. One
    /// byte at least, so that a request for none still stands somewhere.
    @inlinable
    public init(offset: UInt64, byteCount: UInt64) {
        let (end, overflow) = offset.addingReportingOverflow(byteCount == 0 ? 0 : byteCount - 1)
        self.init(start: offset, end: overflow ? .max : end)
    }

    /// Every byte that a file can have.
    public static let whole = Extent(start: 0, end: .max)

    /// False for the ranges that end before they start, which only a faulty peer sends.
    @inlinable
    public var isValid: Bool { start <= end }

    @inlinable
    public func overlaps(_ other: Extent) -> Bool { start <= other.end && other.start <= end }

    @inlinable
    public func contains(_ other: Extent) -> Bool { start <= other.start && other.end <= end }
}

/// What kind of resource a lock is on: `enum ldlm_type` (lustre_idl.h).
///
/// A struct, since descriptors that carry no lock (those of a cancel) hold 0 here.
@frozen
public struct LockType: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt32
    @inlinable
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// No lock described.
    public static let none = LockType(rawValue: 0)
    /// LDLM_PLAIN.
    public static let plain = LockType(rawValue: 10)
    /// LDLM_EXTENT.
    public static let extent = LockType(rawValue: 11)
    /// LDLM_FLOCK.
    public static let flock = LockType(rawValue: 12)
    /// LDLM_IBITS.
    public static let inodeBits = LockType(rawValue: 13)
}

/// What of the resource a lock is about: `union ldlm_wire_policy_data`, 32 bytes on the wire.
///
/// | type    | +0    | +8                          | +16   | +24     | +28            |
/// |---------|-------|-----------------------------|-------|---------|----------------|
/// | extent  | start | end                         | group | 0       | 0              |
/// | flock   | start | end                         | owner | 0       | pid u32        |
/// | ibits   | bits  | try bits, or cancelled bits | group | 0       | initiator u32  |
///
/// All of it is zero for a plain lock.
@frozen
public enum LockPolicy: Hashable, Sendable, BitwiseCopyable {
    /// The resource as a whole; also what a descriptor without a lock reads as.
    case plain
    /// A byte range; the group id counts for mode GROUP only.
    case extent(Extent, group: UInt64 = 0)
    /// A POSIX record lock.
    case flock(Extent, owner: UInt64, pid: UInt32)
    /// Aspects of an inode; `other` is the try bits in a request, the cancelled bits in a callback.
    case inodeBits(UInt64, other: UInt64, group: UInt64, initiator: UInt32)

    /// Bytes on the wire.
    public static let encodedSize = 32

    public var type: LockType {
        switch self {
        case .plain: .plain
        case .extent: .extent
        case .flock: .flock
        case .inodeBits: .inodeBits
        }
    }

    /// The byte range: that of an extent, everything for a plain lock.
    @inlinable
    public var range: Extent {
        switch self {
        case .extent(let extent, _), .flock(let extent, _, _): extent
        case .plain, .inodeBits: .whole
        }
    }

    /// The group id, 0 where the type has none.
    @inlinable
    public var group: UInt64 {
        switch self {
        case .extent(_, let group), .inodeBits(_, _, let group, _): group
        case .plain, .flock: 0
        }
    }

    /// Reads the 32 bytes as `type` says. Of a type without a policy they are skipped.
    public static func decode(
        from reader: inout WireReader, type: LockType
    ) throws(WireError) -> LockPolicy {
        let first = try reader.u64()
        let second = try reader.u64()
        let third = try reader.u64()
        _ = try reader.u32()
        let last = try reader.u32()
        switch type {
        case .extent:
            return .extent(Extent(start: first, end: second), group: third)
        case .flock:
            return .flock(Extent(start: first, end: second), owner: third, pid: last)
        case .inodeBits:
            return .inodeBits(first, other: second, group: third, initiator: last)
        default:
            return .plain
        }
    }

    public func encode(into writer: inout WireWriter) {
        switch self {
        case .plain:
            writer.zeros(Self.encodedSize)
        case .extent(let extent, let group):
            Self.put(extent.start, extent.end, group, 0, into: &writer)
        case .flock(let extent, let owner, let pid):
            Self.put(extent.start, extent.end, owner, pid, into: &writer)
        case .inodeBits(let bits, let other, let group, let initiator):
            Self.put(bits, other, group, initiator, into: &writer)
        }
    }

    private static func put(
        _ first: UInt64, _ second: UInt64, _ third: UInt64, _ last: UInt32,
        into writer: inout WireWriter
    ) {
        writer.words([first, second, third, WireWriter.pair(0, last)])
    }
}
