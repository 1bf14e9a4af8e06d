/// The first bytes on a TCP connection to a node: which of its NIDs is wanted. 16 bytes in version 1,
/// for a small NID; 28 in version 2, for a large one.
/// Source: `struct lnet_acceptor_connreq` (lnet-idl.h), in the sender's byte order; only
/// little-endian senders are understood here.
///
/// | offset | size | field   | meaning          |
/// |-------:|-----:|---------|------------------|
/// |      0 |    4 | magic   | 0xacce7100       |
/// |      4 |    4 | version | 1 or 2           |
/// |      8 | 8, 20 | `nid`  | the node that is meant; 0 in an answer that refuses; `struct lnet_nid` in version 2 |
@frozen
public struct AcceptorRequest: Hashable, Sendable, BitwiseCopyable {
    public var nid: NID

    public init(nid: NID) { self.nid = nid }

    public static let encodedSize = 16
    /// LNET_PROTO_ACCEPTOR_MAGIC.
    public static let magic: UInt32 = 0xacce_7100
    /// LNET_PROTO_MAGIC: another LNet protocol; the acceptor answers before it closes.
    public static let protocolMagic: UInt32 = 0x4572_6963
    /// Of the request for a small NID, and for a large one.
    public static let version: UInt32 = 1
    public static let largeVersion: UInt32 = 2
    public static let largeEncodedSize = 28

    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= 4 else { throw .truncated(need: 4, have: bytes.byteCount) }
        let magic: UInt32 = bytes.littleEndian(at: 0)
        guard magic == Self.magic else { throw .badMagic(magic) }
        guard bytes.byteCount >= 8 else { throw .truncated(need: 8, have: bytes.byteCount) }
        let version: UInt32 = bytes.littleEndian(at: 4)
        guard version == Self.version || version == Self.largeVersion else {
            throw .badVersion(version)
        }
        if version == Self.largeVersion {
            nid = try NID(large: bytes, at: 8)
            return
        }
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        nid = NID(rawValue: bytes.littleEndian(at: 8))
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u32(nid.isLarge ? Self.largeVersion : Self.version)
        if nid.isLarge {
            nid.encodeLarge(into: &writer)
        } else {
            writer.u64(nid.rawValue)
        }
    }
}
