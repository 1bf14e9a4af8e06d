/// The name of what is locked: `struct ldlm_res_id`, four 64-bit words, 32 bytes on the wire.
@frozen
public struct ResourceID: Hashable, Sendable, BitwiseCopyable {
    public var name0: UInt64
    public var name1: UInt64
    public var name2: UInt64
    public var name3: UInt64

    @inlinable
    public init(
        _ name0: UInt64, _ name1: UInt64 = 0, _ name2: UInt64 = 0, _ name3: UInt64 = 0
    ) {
        self.name0 = name0
        self.name1 = name1
        self.name2 = name2
        self.name3 = name3
    }

    /// Bytes on the wire.
    public static let encodedSize = 32

    /// "SLUICEAD" as a number: marks the reserved kind, which no file and no object can have.
    public static let admissionMagic: UInt64 = 0x534C_5549_4345_4144

    /// The admission resource of a target: the lock whose revocation announces an upgrade.
    ///
    /// The first word is 0, which no FID sequence and no inode number is; the last is the magic.
    @inlinable
    public static func admission(_ target: UInt64) -> ResourceID {
        ResourceID(0, target, 0, admissionMagic)
    }

    /// Whether this names an admission resource: never in a timer, an LRU or an early cancel.
    @inlinable
    public var isAdmission: Bool { name0 == 0 && name3 == Self.admissionMagic }

    @inlinable
    public static func == (a: ResourceID, b: ResourceID) -> Bool {
        a.name0 == b.name0 && a.name1 == b.name1 && a.name2 == b.name2 && a.name3 == b.name3
    }

    public init(from reader: inout WireReader) throws(WireError) {
        name0 = try reader.u64()
        name1 = try reader.u64()
        name2 = try reader.u64()
        name3 = try reader.u64()
    }

    /// Reads the 32 bytes of a name.
    public static func decode(from reader: inout WireReader) throws(WireError) -> ResourceID {
        try ResourceID(from: &reader)
    }

    public func encode(into writer: inout WireWriter) {
        writer.words([name0, name1, name2, name3])
    }
}
