/// The header of every LNet message in its 4-byte-address form. Little-endian, 72 bytes.
/// Source: `struct lnet_hdr_nid4` (lnet-idl.h).
///
/// | offset | size | field           | meaning                               |
/// |-------:|-----:|-----------------|---------------------------------------|
/// |      0 |    8 | `destination`   | dest_nid                              |
/// |      8 |    8 | `source`        | src_nid                               |
/// |     16 |    4 | destination pid | dest_pid                              |
/// |     20 |    4 | source pid      | src_pid                               |
/// |     24 |    4 | type            | ACK 0, PUT 1, GET 2, REPLY 3          |
/// |     28 |    4 | `payloadLength` | bytes that follow; 0 for ACK and GET  |
/// |     32 |   40 | `body`          | by type; zero where a type is shorter |
///
/// Body, offsets relative to 32:
///
/// | type  | fields                                                                              |
/// |-------|-------------------------------------------------------------------------------------|
/// | ACK   | dst_wmd 16 @0, match_bits 8 @16, mlength 4 @24                                      |
/// | PUT   | ack_wmd 16 @0, match_bits 8 @16, hdr_data 8 @24, ptl_index 4 @32, offset 4 @36      |
/// | GET   | return_wmd 16 @0, match_bits 8 @16, ptl_index 4 @24, src_offset 4 @28, sink_length 4 @32 |
/// | REPLY | dst_wmd 16 @0                                                                       |
@frozen
public struct LNetHeader: Hashable, Sendable, BitwiseCopyable {
    public var destination: ProcessID
    public var source: ProcessID
    public var payloadLength: UInt32
    public var body: Body

    /// What the message is, with the fields that only this type has.
    @frozen
    public enum Body: Hashable, Sendable, BitwiseCopyable {
        case ack(destination: WireHandle, matchBits: UInt64, mlength: UInt32)
        case put(
            ack: WireHandle, matchBits: UInt64, hdrData: UInt64, portal: UInt32, offset: UInt32)
        case get(
            returnTo: WireHandle, matchBits: UInt64, portal: UInt32, offset: UInt32,
            sinkLength: UInt32)
        case reply(destination: WireHandle)
    }

    @inlinable
    public init(
        destination: ProcessID, source: ProcessID, payloadLength: UInt32, body: Body
    ) {
        self.destination = destination
        self.source = source
        self.payloadLength = payloadLength
        self.body = body
    }

    public static let encodedSize = 72
    /// LNET_MTU: the longest payload of a PUT or REPLY.
    public static let payloadMax = 1 << 20

    /// Reads the first 72 bytes. Refuses unknown types and payload lengths that the type forbids.
    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        destination = ProcessID(
            nid: NID(rawValue: bytes.littleEndian(at: 0)), pid: bytes.littleEndian(at: 16))
        source = ProcessID(
            nid: NID(rawValue: bytes.littleEndian(at: 8)), pid: bytes.littleEndian(at: 20))
        payloadLength = bytes.littleEndian(at: 28)
        let handle = WireHandle(
            interfaceCookie: bytes.littleEndian(at: 32), objectCookie: bytes.littleEndian(at: 40))
        let type: UInt32 = bytes.littleEndian(at: 24)
        var limit = 0
        switch type {
        case 0:
            body = .ack(
                destination: handle, matchBits: bytes.littleEndian(at: 48),
                mlength: bytes.littleEndian(at: 56))
        case 1:
            body = .put(
                ack: handle, matchBits: bytes.littleEndian(at: 48),
                hdrData: bytes.littleEndian(at: 56), portal: bytes.littleEndian(at: 64),
                offset: bytes.littleEndian(at: 68))
            limit = Self.payloadMax
        case 2:
            body = .get(
                returnTo: handle, matchBits: bytes.littleEndian(at: 48),
                portal: bytes.littleEndian(at: 56), offset: bytes.littleEndian(at: 60),
                sinkLength: bytes.littleEndian(at: 64))
        case 3:
            body = .reply(destination: handle)
            limit = Self.payloadMax
        default:
            throw .badValue(field: "lnet_hdr.type", value: UInt64(type))
        }
        guard payloadLength <= limit else {
            throw .badLength(
                field: "lnet_hdr.payload_length", value: UInt64(payloadLength),
                limit: UInt64(limit))
        }
    }

    /// The 72 bytes as nine little-endian words: one append instead of twenty.
    @inlinable
    public var words: InlineArray<9, UInt64> {
        var words = InlineArray<9, UInt64>(repeating: 0)
        words[0] = destination.nid.rawValue
        words[1] = source.nid.rawValue
        words[2] = Self.pair(destination.pid, source.pid)
        switch body {
        case .ack(let handle, let matchBits, let mlength):
            words[3] = Self.pair(0, payloadLength)
            words[4] = handle.interfaceCookie
            words[5] = handle.objectCookie
            words[6] = matchBits
            words[7] = UInt64(mlength)
        case .put(let handle, let matchBits, let hdrData, let portal, let offset):
            words[3] = Self.pair(1, payloadLength)
            words[4] = handle.interfaceCookie
            words[5] = handle.objectCookie
            words[6] = matchBits
            words[7] = hdrData
            words[8] = Self.pair(portal, offset)
        case .get(let handle, let matchBits, let portal, let offset, let sinkLength):
            words[3] = Self.pair(2, payloadLength)
            words[4] = handle.interfaceCookie
            words[5] = handle.objectCookie
            words[6] = matchBits
            words[7] = Self.pair(portal, offset)
            words[8] = UInt64(sinkLength)
        case .reply(let handle):
            words[3] = Self.pair(3, payloadLength)
            words[4] = handle.interfaceCookie
            words[5] = handle.objectCookie
        }
        return words
    }

    @inlinable
    static func pair(_ low: UInt32, _ high: UInt32) -> UInt64 {
        UInt64(high) << 32 | UInt64(low)
    }

    public func encode(into writer: inout WireWriter) {
        writer.words(words)
    }
}
