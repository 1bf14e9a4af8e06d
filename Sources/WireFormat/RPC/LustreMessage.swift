/// The container of every RPC: a fixed part, the lengths of the buffers, then the buffers.
///
/// `struct lustre_msg_v2` (lustre_idl.h), little-endian:
///
/// | offset | size | field       | meaning                                              |
/// |-------:|-----:|-------------|------------------------------------------------------|
/// |      0 |    4 | bufferCount | number of buffers; buffer 0 is always `ptlrpc_body`  |
/// |      4 |    4 | flavour     | 0, the null security policy                          |
/// |      8 |    4 | magic       | 0x0BD00BD3                                           |
/// |     12 |    4 | replySize   | bytes the client set aside for the reply             |
/// |     16 |    4 | checksum    | of early replies (`PtlRPCBody.checksum`); else 0     |
/// |     20 |    4 | flags       | MSGHDR_AT_SUPPORT 1                                  |
/// |     24 |    4 | opcode      | inside batches only; else 0                          |
/// |     28 |    4 | padding     | 0                                                    |
/// |     32 |  4*n | lengths     | then zeros up to a multiple of 8                     |
///
/// This is the layout alone (where each buffer lies); the bytes stay where they are.
public struct LustreMessage: Sendable {
    public static let magic: UInt32 = 0x0BD0_0BD3
    /// More than any message of ours or of Lustre's file operations needs; more is refused.
    public static let bufferCountMax = 12
    public static let fixedSize = 32

    /// lm_flags: the sender understands early replies, and takes the real one behind the room
    /// for an early one (MSGHDR_AT_SUPPORT).
    public static let adaptiveTimeouts: UInt32 = 1

    public let bufferCount: Int
    public let checksum: UInt32
    public let flags: UInt32
    /// Inside batches: what the message asks for.
    public let opcode: Opcode
    /// Where the next message of a batch begins: behind the last buffer, padded to 8.
    public let paddedByteCount: Int
    private var offsets = InlineArray<12, Int32>(repeating: 0)
    private var lengths = InlineArray<12, Int32>(repeating: 0)

    /// Finds the buffers. Every length is checked against the bytes that are there.
    public init(parsing bytes: RawSpan) throws(WireError) {
        var reader = WireReader(bytes)
        let count = try reader.u32()
        _ = try reader.u32()
        let magic = try reader.u32()
        guard magic == Self.magic else { throw .badMagic(magic) }
        try reader.skip(4)
        checksum = try reader.u32()
        flags = try reader.u32()
        opcode = Opcode(rawValue: try reader.u32())
        try reader.skip(4)
        guard count >= 1, count <= Self.bufferCountMax else {
            throw .badLength(
                field: "lm_bufcount", value: UInt64(count), limit: UInt64(Self.bufferCountMax))
        }
        bufferCount = Int(count)
        var offset = Self.headerSize(bufferCount: bufferCount)
        for index in 0..<bufferCount {
            let length = try reader.u32()
            guard length <= UInt32(bytes.byteCount), offset + Int(length) <= bytes.byteCount else {
                throw .truncated(need: offset + Int(length), have: bytes.byteCount)
            }
            offsets[index] = Int32(offset)
            lengths[index] = Int32(length)
            offset += (Int(length) + 7) & ~7
        }
        paddedByteCount = offset
    }

    /// Header with `bufferCount` lengths, rounded up to 8.
    public static func headerSize(bufferCount: Int) -> Int { (32 + 4 * bufferCount + 7) & ~7 }

    /// Length of a buffer; 0 where the message has none at this place.
    public func length(_ index: Int) -> Int {
        index < bufferCount ? Int(lengths[index]) : 0
    }

    /// A reader over one buffer of `bytes`, the same bytes that were parsed.
    @_lifetime(copy bytes)
    public func reader(_ index: Int, in bytes: RawSpan) throws(WireError) -> WireReader {
        guard index < bufferCount else {
            throw .unexpected(message: "buffer \(index) is missing")
        }
        let start = Int(offsets[index])
        return WireReader(bytes.extracting(start..<(start + Int(lengths[index]))))
    }
}

/// Writes a `lustre_msg_v2` buffer by buffer into a writer that is used again and again.
public struct LustreMessageEncoder {
    private let start: Int
    private let bufferCount: Int
    private var next = 0

    /// Writes the fixed part for `bufferCount` buffers.
    public init(
        bufferCount: Int, replySize: Int = 0, checksum: UInt32 = 0, flags: UInt32 = 0,
        opcode: Opcode? = nil, into writer: inout WireWriter
    ) {
        precondition(bufferCount >= 1 && bufferCount <= LustreMessage.bufferCountMax)
        start = writer.count
        self.bufferCount = bufferCount
        writer.words([
            WireWriter.pair(UInt32(bufferCount), 0),
            WireWriter.pair(LustreMessage.magic, UInt32(replySize)),
            WireWriter.pair(checksum, flags), UInt64(opcode?.rawValue ?? 0),
        ])
        writer.zeros(
            LustreMessage.headerSize(bufferCount: bufferCount) - LustreMessage.fixedSize)
    }

    /// Appends the next buffer: what `body` writes, padded to 8. Traps past the announced count.
    public mutating func buffer(into writer: inout WireWriter, _ body: (inout WireWriter) -> Void) {
        precondition(next < bufferCount, "more buffers than announced")
        let from = writer.count
        body(&writer)
        writer.patch(UInt32(writer.count - from), at: start + 32 + 4 * next)
        writer.pad(to: 8, from: start)
        next += 1
    }
}
