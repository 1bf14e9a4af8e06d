/// The answer to an enqueue or a convert: `struct ldlm_reply`, 112 bytes.
///
/// | offset | size | field           |
/// |-------:|-----:|-----------------|
/// |      0 |    4 | flags           |
/// |      4 |    4 | zero            |
/// |      8 |   80 | descriptor      |
/// |     88 |    8 | server's cookie |
/// |     96 |    8 | policy result 1 |
/// |    104 |    8 | policy result 2 |
@frozen
public struct LDLMReply: Hashable, Sendable, BitwiseCopyable {
    public var flags: LockFlags
    public var descriptor: LockDescriptor
    public var serverCookie: UInt64
    /// Meaning depends on the intent; in intents of a metadata server its status.
    public var policyResult1: UInt64
    public var policyResult2: UInt64

    public init(
        flags: LockFlags, descriptor: LockDescriptor, serverCookie: UInt64,
        policyResult1: UInt64 = 0, policyResult2: UInt64 = 0
    ) {
        self.flags = flags
        self.descriptor = descriptor
        self.serverCookie = serverCookie
        self.policyResult1 = policyResult1
        self.policyResult2 = policyResult2
    }

    /// Bytes on the wire.
    public static let encodedSize = 112

    public static func decode(from reader: inout WireReader) throws(WireError) -> LDLMReply {
        let flags = LockFlags(rawValue: try reader.u32())
        _ = try reader.u32()
        return LDLMReply(
            flags: flags, descriptor: try .decode(from: &reader), serverCookie: try reader.u64(),
            policyResult1: try reader.u64(), policyResult2: try reader.u64())
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(flags.rawValue)
        writer.u32(0)
        descriptor.encode(into: &writer)
        writer.words([serverCookie, policyResult1, policyResult2])
    }
}
