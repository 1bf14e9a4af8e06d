/// What precedes every message on a socklnd connection from protocol 2 on: 24 bytes.
/// Source: `struct ksock_msg_hdr` (socklnd-idl.h), in the sender's byte order; little-endian here.
///
/// | offset | size | field             | meaning                                                 |
/// |-------:|-----:|-------------------|---------------------------------------------------------|
/// |      0 |    4 | `kind`            | NOOP 0xc0: nothing follows; LNET 0xc1: an LNet message  |
/// |      4 |    4 | `checksum`        | 0: none                                                 |
/// |      8 |    8 | `zeroCopyRequest` | LNET: acknowledge this; NOOP: first of two or of a range |
/// |     16 |    8 | `zeroCopyAck`     | acknowledges this; 1 in a NOOP is a keepalive           |
@frozen
public struct SockLNDMessageHeader: Hashable, Sendable, BitwiseCopyable {
    @frozen
    public enum Kind: UInt32, Sendable, BitwiseCopyable {
        case noop = 0xc0
        case lnet = 0xc1
    }

    public var kind: Kind
    public var checksum: UInt32
    public var zeroCopyRequest: UInt64
    public var zeroCopyAck: UInt64

    public init(
        kind: Kind, checksum: UInt32 = 0, zeroCopyRequest: UInt64 = 0, zeroCopyAck: UInt64 = 0
    ) {
        self.kind = kind
        self.checksum = checksum
        self.zeroCopyRequest = zeroCopyRequest
        self.zeroCopyAck = zeroCopyAck
    }

    public static let encodedSize = 24
    /// SOCKNAL_KEEPALIVE_PING: the cookie of a NOOP that only says "alive".
    public static let keepaliveCookie: UInt64 = 1

    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        let type: UInt32 = bytes.littleEndian(at: 0)
        guard let kind = Kind(rawValue: type) else {
            throw .badValue(field: "ksock_msg_hdr.ksh_type", value: UInt64(type))
        }
        self.kind = kind
        checksum = bytes.littleEndian(at: 4)
        zeroCopyRequest = bytes.littleEndian(at: 8)
        zeroCopyAck = bytes.littleEndian(at: 16)
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(kind.rawValue)
        writer.u32(checksum)
        writer.u64(zeroCopyRequest)
        writer.u64(zeroCopyAck)
    }
}
