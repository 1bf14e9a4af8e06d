/// The first bytes on a TCP connection to a node: which of its NIDs is wanted. 16 bytes.
/// Source: `struct lnet_acceptor_connreq` (lnet-idl.h), in the sender's byte order; only
/// little-endian senders are understood here.
///
/// | offset | size | field   | meaning          |
/// |-------:|-----:|---------|------------------|
/// |      0 |    4 | magic   | 0xacce7100       |
/// |      4 |    4 | version | 1                |
/// |      8 |    8 | `nid`   | the node that is meant; 0 in an answer that refuses |
@frozen
public struct AcceptorRequest: Hashable, Sendable, BitwiseCopyable {
    public var nid: NID

    public init(nid: NID) { self.nid = nid }

    public static let encodedSize = 16
    /// LNET_PROTO_ACCEPTOR_MAGIC.
    public static let magic: UInt32 = 0xacce_7100
    /// LNET_PROTO_MAGIC: another LNet protocol; the acceptor answers before it closes.
    public static let protocolMagic: UInt32 = 0x4572_6963
    public static let version: UInt32 = 1

    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= 4 else { throw .truncated(need: 4, have: bytes.byteCount) }
        let magic: UInt32 = bytes.littleEndian(at: 0)
        guard magic == Self.magic else { throw .badMagic(magic) }
        guard bytes.byteCount >= 8 else { throw .truncated(need: 8, have: bytes.byteCount) }
        let version: UInt32 = bytes.littleEndian(at: 4)
        guard version == Self.version else { throw .badVersion(version) }
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        nid = NID(rawValue: bytes.littleEndian(at: 8))
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u32(Self.version)
        writer.u64(nid.rawValue)
    }
}
