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
///
/// In its 16-byte-address form (`struct lnet_hdr`, on connections of socklnd's protocol 4) it has 96
/// bytes: both NIDs take 20 (`NID.encodeLarge`), and everything behind them stands 24 bytes later.
///
/// | offset | size | field           |
/// |-------:|-----:|-----------------|
/// |      0 |   20 | `destination`   |
/// |     20 |   20 | `source`        |
/// |     40 |    4 | destination pid |
/// |     44 |    4 | source pid      |
/// |     48 |    4 | type            |
/// |     52 |    4 | `payloadLength` |
/// |     56 |   40 | `body`          |
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
    /// With NIDs of 20 bytes.
    public static let largeEncodedSize = 96
    /// LNET_MTU: the longest payload of a PUT or REPLY.
    public static let payloadMax = 1 << 20

    /// Reads the first 72 bytes. Refuses unknown types and payload lengths that the type forbids.
    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        try self.init(
            to: NID(rawValue: bytes.littleEndian(at: 0)),
            from: NID(rawValue: bytes.littleEndian(at: 8)), rest: bytes.extracting(16..<72))
    }

    /// Reads the first 96 bytes, with NIDs of 20 bytes. Refuses what the other form refuses.
    public init(parsingLarge bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= Self.largeEncodedSize else {
            throw .truncated(need: Self.largeEncodedSize, have: bytes.byteCount)
        }
        try self.init(
            to: NID(large: bytes, at: 0), from: NID(large: bytes, at: 20),
            rest: bytes.extracting(40..<96))
    }

    /// - Parameter bytes: the 56 bytes behind the NIDs, alike in both forms.
    @inline(__always)
    private init(to: NID, from: NID, rest bytes: RawSpan) throws(WireError) {
        destination = ProcessID(nid: to, pid: bytes.littleEndian(at: 0))
        source = ProcessID(nid: from, pid: bytes.littleEndian(at: 4))
        payloadLength = bytes.littleEndian(at: 12)
        let handle = WireHandle(
            interfaceCookie: bytes.littleEndian(at: 16), objectCookie: bytes.littleEndian(at: 24))
        let type: UInt32 = bytes.littleEndian(at: 8)
        var limit = 0
        switch type {
        case 0:
            body = .ack(
                destination: handle, matchBits: bytes.littleEndian(at: 32),
                mlength: bytes.littleEndian(at: 40))
        case 1:
            body = .put(
                ack: handle, matchBits: bytes.littleEndian(at: 32),
                hdrData: bytes.littleEndian(at: 40), portal: bytes.littleEndian(at: 48),
                offset: bytes.littleEndian(at: 52))
            limit = Self.payloadMax
        case 2:
            body = .get(
                returnTo: handle, matchBits: bytes.littleEndian(at: 32),
                portal: bytes.littleEndian(at: 40), offset: bytes.littleEndian(at: 44),
                sinkLength: bytes.littleEndian(at: 48))
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

    /// The 96 bytes of the form with NIDs of 20 bytes, as twelve little-endian words.
    @inlinable
    public var largeWords: InlineArray<12, UInt64> {
        let small = words
        let (to, from) = (destination.nid.largeWords, source.nid.largeWords)
        var words = InlineArray<12, UInt64>(repeating: 0)
        words[0] = Self.pair(to.0, to.1)
        words[1] = Self.pair(to.2, to.3)
        words[2] = Self.pair(to.4, from.0)
        words[3] = Self.pair(from.1, from.2)
        words[4] = Self.pair(from.3, from.4)
        for index in 2..<9 { words[index + 3] = small[index] }
        return words
    }

    @inlinable
    static func pair(_ low: UInt32, _ high: UInt32) -> UInt64 {
        UInt64(high) << 32 | UInt64(low)
    }

    public func encode(into writer: inout WireWriter) {
        writer.words(words)
    }

    /// Writes the 96 bytes of the form with NIDs of 20 bytes.
    public func encodeLarge(into writer: inout WireWriter) {
        writer.words(largeWords)
    }
}
