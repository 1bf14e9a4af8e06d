/// The value block of an object's lock, its size and times: `struct ost_lvb`, 56 bytes.
///
/// A server that cannot read the value says so in `blocks`, as Lustre does.
///
/// | offset | size | field                              |
/// |-------:|-----:|------------------------------------|
/// |      0 |    8 | size, bytes                        |
/// |      8 |    8 | mtime, seconds                     |
/// |     16 |    8 | atime, seconds                     |
/// |     24 |    8 | ctime, seconds                     |
/// |     32 |    8 | blocks of 512 bytes                |
/// |     40 |   12 | mtime, atime, ctime, nanoseconds   |
/// |     52 |    4 | zero                               |
@frozen
public struct OSTLVB: Hashable, Sendable, BitwiseCopyable {
    public var size: UInt64 = 0
    public var mtime: Int64 = 0
    public var atime: Int64 = 0
    public var ctime: Int64 = 0
    public var blocks: UInt64 = 0
    public var mtimeNanoseconds: UInt32 = 0
    public var atimeNanoseconds: UInt32 = 0
    public var ctimeNanoseconds: UInt32 = 0

    public init() {}

    /// What stands in `blocks` where the server could not read the value: OST_LVB_ERR_INIT, and a
    /// negative errno added to it.
    private static let errorBase: UInt64 = 0xFFBA_DBAD_8000_0000

    /// A value that could not be read.
    public init(error: Status) {
        blocks = Self.errorBase &+ UInt64(bitPattern: Int64(error.rawValue))
    }

    /// Why there is no value; nil where there is one.
    public var error: Status? {
        guard blocks >> 32 == Self.errorBase >> 32 else { return nil }
        let status = Status(
            rawValue: Int32(truncatingIfNeeded: Int64(bitPattern: blocks &- Self.errorBase)))
        return status.isError ? status : .ioError
    }

    /// Bytes on the wire.
    public static let encodedSize = 56

    public static func decode(from reader: inout WireReader) throws(WireError) -> OSTLVB {
        var lvb = OSTLVB()
        lvb.size = try reader.u64()
        lvb.mtime = try reader.read()
        lvb.atime = try reader.read()
        lvb.ctime = try reader.read()
        lvb.blocks = try reader.u64()
        lvb.mtimeNanoseconds = try reader.u32()
        lvb.atimeNanoseconds = try reader.u32()
        lvb.ctimeNanoseconds = try reader.u32()
        _ = try reader.u32()
        return lvb
    }

    public func encode(into writer: inout WireWriter) {
        writer.u64(size)
        writer.write(mtime)
        writer.write(atime)
        writer.write(ctime)
        writer.u64(blocks)
        writer.u32(mtimeNanoseconds)
        writer.u32(atimeNanoseconds)
        writer.u32(ctimeNanoseconds)
        writer.u32(0)
    }
}
