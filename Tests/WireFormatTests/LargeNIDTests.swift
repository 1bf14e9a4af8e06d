import Primitives
import Testing
import WireFormat

/// Layouts with NIDs of 20 bytes: `struct lnet_nid`, `struct lnet_hdr`, `struct ksock_hello_msg` and the
/// acceptor's version 2, byte by byte after facts/lnet-wire.md.
@Suite struct `large NIDs` {
    private let a = NID("2001:db8::a@tcp")!
    private let b = NID("2001:db8::b@tcp7")!
    /// nid_size 12, nid_type 2, nid_num 0, and the address in network order.
    private let aBytes: [UInt8] = [
        12, 2, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a,
    ]
    private let bBytes: [UInt8] = [
        12, 2, 0, 7, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b,
    ]

    private func written(_ body: (inout WireWriter) -> Void) -> [UInt8] {
        var writer = WireWriter(capacity: 128)
        body(&writer)
        return writer.bytes
    }

    @Test func `are written as lnetctl writes them`() {
        #expect(a.description == "2001:db8::a@tcp")
        #expect(b.description == "2001:db8::b@tcp7")
        #expect(a.isLarge && a.type == .tcp && b.number == 7)
        #expect(NID("2001:db8::a") == a)
        #expect(NID("2001:db8::a@o2ib") == nil, "o2iblnd has small NIDs only")
        #expect(a.net == NID("10.0.0.1@tcp")?.net)
        #expect(a.network != NID("10.0.0.1@tcp")?.network, "no socket leads from one to the other")
        #expect(NID("::ffff:10.0.0.1@tcp") == NID("10.0.0.1@tcp"))
    }

    @Test func `have twenty bytes in network order`() throws {
        for (nid, bytes) in [(a, aBytes), (b, bBytes)] {
            #expect(written { nid.encodeLarge(into: &$0) } == bytes)
            #expect(try RawSpan.over(bytes) { try NID(large: $0, at: 0) } == nid)
        }
        let small: [UInt8] = [0, 2, 0, 1, 10, 1, 2, 3] + Array(repeating: 0, count: 12)
        let nid = NID("10.1.2.3@tcp1")!
        #expect(written { nid.encodeLarge(into: &$0) } == small)
        #expect(try RawSpan.over(small) { try NID(large: $0, at: 0) } == nid)
        let any = [UInt8](repeating: 0xff, count: 20)
        #expect(written { NID.any.encodeLarge(into: &$0) } == any)
        #expect(try RawSpan.over(any) { try NID(large: $0, at: 0) } == .any)
    }

    @Test func `of a size that is none are refused, and cut ones`() {
        var bytes = aBytes
        for size in [1, 4, 8, 11, 13, 16, 255] as [UInt8] {
            bytes[0] = size
            #expect(throws: WireError.self) {
                try RawSpan.over(bytes) { _ = try NID(large: $0, at: 0) }
            }
        }
        for count in 0..<20 {
            #expect(throws: WireError.truncated(need: 20, have: count)) {
                try RawSpan.over(Array(aBytes[..<count])) { _ = try NID(large: $0, at: 0) }
            }
        }
    }

    @Test func `are asked for with version 2 of the acceptor's request`() throws {
        let bytes: [UInt8] = [0x00, 0x71, 0xce, 0xac, 2, 0, 0, 0] + aBytes
        #expect(bytes.count == AcceptorRequest.largeEncodedSize)
        #expect(written { AcceptorRequest(nid: a).encode(into: &$0) } == bytes)
        #expect(try RawSpan.over(bytes) { try AcceptorRequest(parsing: $0) }.nid == a)
        for count in 0..<28 {
            #expect(throws: WireError.self) {
                try RawSpan.over(Array(bytes[..<count])) { _ = try AcceptorRequest(parsing: $0) }
            }
        }
    }

    @Test func `are said in the hello of protocol 4`() throws {
        let hello = SockLNDHello(
            version: 4, source: ProcessID(nid: a), destination: b,
            incarnation: 0x0102_0304_0506_0708, type: .bulkIn)
        let bytes: [UInt8] =
            [0x63, 0x69, 0x72, 0x45, 4, 0, 0, 0] + aBytes + bBytes
            + [0x39, 0x30, 0, 0, 0, 0, 0, 0] + [8, 7, 6, 5, 4, 3, 2, 1]
            + Array(repeating: 0, count: 8) + [2, 0, 0, 0, 0, 0, 0, 0]
        #expect(bytes.count == SockLNDHello.largeEncodedSize)
        #expect(written { hello.encode(into: &$0) } == bytes)
        #expect(try RawSpan.over(bytes) { try SockLNDHello(parsing: $0) } == hello)
        var addressed = bytes
        addressed[76] = 1
        #expect(throws: WireError.badLength(field: "ksm_nips", value: 1, limit: 0)) {
            try RawSpan.over(addressed) { _ = try SockLNDHello(parsing: $0) }
        }
        for count in 0..<80 {
            #expect(throws: WireError.self) {
                try RawSpan.over(Array(bytes[..<count])) { _ = try SockLNDHello(parsing: $0) }
            }
        }
    }

    @Test func `stand in a header of ninety-six bytes`() throws {
        let header = LNetHeader(
            destination: ProcessID(nid: b), source: ProcessID(nid: a), payloadLength: 5,
            body: .put(
                ack: WireHandle(interfaceCookie: 0x11, objectCookie: 0x22), matchBits: 0x33,
                hdrData: 0x44, portal: 0x55, offset: 0x66))
        func word(_ value: UInt8) -> [UInt8] { [value, 0, 0, 0, 0, 0, 0, 0] }
        let bytes: [UInt8] =
            bBytes + aBytes + [0x39, 0x30, 0, 0, 0x39, 0x30, 0, 0] + [1, 0, 0, 0, 5, 0, 0, 0]
            + word(0x11) + word(0x22) + word(0x33) + word(0x44) + [0x55, 0, 0, 0, 0x66, 0, 0, 0]
        #expect(bytes.count == LNetHeader.largeEncodedSize)
        #expect(written { header.encodeLarge(into: &$0) } == bytes)
        #expect(try RawSpan.over(bytes) { try LNetHeader(parsingLarge: $0) } == header)
        for count in 0..<96 {
            #expect(throws: WireError.self) {
                try RawSpan.over(Array(bytes[..<count])) { _ = try LNetHeader(parsingLarge: $0) }
            }
        }
    }

    @Test func `are told in a ping behind the small ones`() throws {
        let small = NID("10.1.2.3@tcp")!
        let features: PingInfo.Features = [
            .niStatus, .routingDisabled, .multiRail, .discovery, .largeAddresses, .primaryLarge,
        ]
        #expect(features.rawValue == 0x7e, "as 2.17 tells it")
        let info = PingInfo(
            features: features, sequence: 9,
            interfaces: [.init(nid: a), .init(nid: small, status: PingInfo.Interface.down)])
        let bytes: [UInt8] =
            [0x67, 0x6e, 0x69, 0x70, 0x7e, 0, 0, 0, 0x39, 0x30, 0, 0, 2, 0, 0, 0]
            + [0, 0, 0, 0, 0, 0, 9, 0, 9, 0, 0, 0, 72, 0, 0, 0]
            + [3, 2, 1, 10, 0, 0, 2, 0, 0xce, 0xfa, 0xad, 0xde, 0, 0, 0, 0]
            + [0xde, 0xc0, 0xaa, 0x15] + aBytes
        #expect(info.encodedSize == 72 && bytes.count == 72)
        #expect(written { info.encode(into: &$0) } == bytes)
        #expect(try RawSpan.over(bytes) { try PingInfo(parsing: $0) } == info)
        for count in 0..<72 {
            #expect(throws: WireError.self) {
                try RawSpan.over(Array(bytes[..<count])) { _ = try PingInfo(parsing: $0) }
            }
        }
        var lying = bytes
        (lying[28], lying[31]) = (16, 0)
        #expect(throws: WireError.self) {
            try RawSpan.over(lying) { _ = try PingInfo(parsing: $0) }
        }
        lying[31] = 0x7f
        #expect(throws: WireError.self) {
            try RawSpan.over(lying) { _ = try PingInfo(parsing: $0) }
        }
    }
}
