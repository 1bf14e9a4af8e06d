internal import Primitives

/// The identity of a file or directory, the same in every protocol version and in the store.
///
/// `struct lu_fid` (lustre_user.h): sequence, object number, version. Version 1 of the protocol
/// names files by inode number and generation; the codec maps those names onto FIDs and back:
/// the inode number holds the sequence above its base and the object number, the generation is a
/// digest of both, so that a number that was never given out is recognised as stale.
@frozen
public struct FileID: Hashable, Comparable, Sendable, BitwiseCopyable {
    public var sequence: UInt64
    public var objectNumber: UInt32
    public var version: UInt32

    public init(sequence: UInt64, objectNumber: UInt32, version: UInt32 = 0) {
        self.sequence = sequence
        self.objectNumber = objectNumber
        self.version = version
    }

    public static let encodedSize = 16
    /// FID_SEQ_START: the sequences below are for identities of other kinds.
    public static let sequenceBase: UInt64 = 0x2_0000_0000
    /// Names no file.
    public static let none = FileID(sequence: 0, objectNumber: 0)
    /// The root directory, as Lustre numbers it.
    public static let root = FileID(sequence: 0x2_0000_0007, objectNumber: 1)

    public static func < (a: FileID, b: FileID) -> Bool {
        (a.sequence, a.objectNumber, a.version) < (b.sequence, b.objectNumber, b.version)
    }

    var generation: UInt32 {
        var hash = StableHash()
        hash.combine(sequence)
        hash.combine(UInt64(objectNumber))
        return UInt32(truncatingIfNeeded: hash.value) | 1
    }

    /// | version | offset 0, 8 bytes                  | offset 8, 4 bytes | offset 12, 4 bytes |
    /// |---------|------------------------------------|-------------------|--------------------|
    /// | 1       | inode number                       | generation        | 0                  |
    /// | 2       | sequence                           | object number     | version            |
    public func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        if self == .none {
            writer.zeros(16)
        } else if version < .v2 {
            writer.u64((sequence &- Self.sequenceBase) << 32 | UInt64(objectNumber))
            writer.u32(generation)
            writer.u32(0)
        } else {
            writer.u64(sequence)
            writer.u32(objectNumber)
            writer.u32(self.version)
        }
    }

    public init(
        from reader: inout WireReader, _ protocolVersion: ProtocolVersion
    ) throws(WireError) {
        let first = try reader.u64()
        let second = try reader.u32()
        let third = try reader.u32()
        if protocolVersion < .v2, third != 0 { throw .reservedBitsSet(UInt64(third)) }
        if protocolVersion < .v2, first != 0 || second != 0 {
            sequence = Self.sequenceBase &+ (first >> 32)
            objectNumber = UInt32(truncatingIfNeeded: first)
            version = 0
            guard generation == second else {
                throw .badValue(field: "generation", value: UInt64(second))
            }
        } else {
            sequence = first
            objectNumber = second
            version = third
        }
    }
}

extension FileID: CustomStringConvertible {
    public var description: String {
        "[0x\(String(sequence, radix: 16)):0x\(String(objectNumber, radix: 16)):0x\(String(version, radix: 16))]"
    }
}

/// The identity of a data object on an object server.
///
/// `struct ost_id`: version 1 writes the number first, later versions the sequence first.
@frozen
public struct ObjectName: Hashable, Comparable, Sendable, BitwiseCopyable {
    /// Which target's objects: 0x1_0001_0000 plus the target's index (IDIF).
    public var sequence: UInt64
    public var number: UInt64

    public init(sequence: UInt64, number: UInt64) {
        self.sequence = sequence
        self.number = number
    }

    public static let encodedSize = 16

    public init(targetIndex: UInt32, number: UInt64) {
        self.init(sequence: 0x1_0001_0000 + UInt64(targetIndex), number: number)
    }

    public static func < (a: ObjectName, b: ObjectName) -> Bool {
        (a.sequence, a.number) < (b.sequence, b.number)
    }

    public func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u64(version < .v2 ? number : sequence)
        writer.u64(version < .v2 ? sequence : number)
    }

    public init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        let first = try reader.u64()
        let second = try reader.u64()
        sequence = version < .v2 ? second : first
        number = version < .v2 ? first : second
    }
}

extension ObjectName: CustomStringConvertible {
    public var description: String {
        "0x\(String(sequence, radix: 16)):0x\(String(number, radix: 16))"
    }
}
