import TestSupport
import Testing
import WireFormat

private func encoded(_ body: (inout WireWriter) -> Void) -> [UInt8] {
    var writer = WireWriter()
    body(&writer)
    return writer.bytes
}

private let active = NID(address: 0x0A4E_0002, type: .o2ib)
private let passive = NID(address: 0x0A4E_0003, type: .o2ib)
private let activeStamp: UInt64 = 0x0006_60e8_d938_7cb1
private let passiveStamp: UInt64 = 0x0006_60e8_d94e_95d2
private let lnet = LNetHeader(
    destination: ProcessID(nid: passive), source: ProcessID(nid: active), payloadLength: 70_000,
    body: .put(
        ack: WireHandle(interfaceCookie: 1, objectCookie: 2), matchBits: 3, hdrData: 4, portal: 5,
        offset: 6))

private func header(
    _ kind: O2IBLNDHeader.Kind, _ byteCount: UInt32, credits: UInt8 = 0
) -> O2IBLNDHeader {
    O2IBLNDHeader(
        kind: kind, credits: credits, byteCount: byteCount, source: active,
        sourceStamp: activeStamp, destination: passive, destinationStamp: passiveStamp)
}

/// Bytes from a capture of two Lustre 2.17.0 nodes, 10.78.0.2 and 10.78.0.3 over o2ib.
@Suite struct `o2iblnd golden bytes` {
    @Test func `CONNREQ and CONNACK`() throws {
        let asked = hex(
            """
            911be90b 1200 c0 00 38000000 00000000 02004e0a00000500 b17c38d9e8600600
            03004e0a00000500 0000000000000000 0800 0101 00100000
            """)
        let request = try RawSpan.over(asked) { try O2IBLNDHeader(parsing: $0) }
        #expect(request.kind == .connectRequest)
        #expect(request.source == active)
        #expect(request.destination == passive)
        #expect(request.sourceStamp == activeStamp)
        #expect(request.destinationStamp == 0)
        let message = try RawSpan.over(asked) { try O2IBLNDMessage(parsing: $0, header: request) }
        #expect(message == .connectRequest(O2IBLNDParameters(queueDepth: 8)))
        let again = encoded {
            request.encode(into: &$0)
            message.encode(into: &$0)
        }
        #expect(again == asked)

        // The connection manager pads the answer with zeros.
        let answered =
            hex(
                """
                911be90b 1200 c1 00 38000000 00000000 03004e0a00000500 d2954ed9e8600600
                02004e0a00000500 b17c38d9e8600600 0800 0101 00100000
                """) + [UInt8](repeating: 0, count: 140)
        let ack = try RawSpan.over(answered) { try O2IBLNDHeader(parsing: $0) }
        #expect(ack.kind == .connectAck)
        #expect(ack.sourceStamp == passiveStamp)
        #expect(ack.destinationStamp == activeStamp)
        #expect(
            try RawSpan.over(answered) { try O2IBLNDMessage(parsing: $0, header: ack) }
                == .connectAck(O2IBLNDParameters(queueDepth: 8)))
    }

    @Test func `IMMEDIATE with a GET, and with a REPLY that gives a credit back`() throws {
        let asked = hex(
            """
            911be90b 1200 d1 00 78000000 00000000 02004e0a00000500 b17c38d9e8600600
            03004e0a00000500 d2954ed9e8600600
            03004e0a00000500 02004e0a00000500 39300000 39300000 02000000 00000000
            30f7655f868dea18 191c000000000000 0000000000000080 00000000 00000000 780f0000 00000000
            """)
        let get = try RawSpan.over(asked) { try O2IBLNDHeader(parsing: $0) }
        let message = try RawSpan.over(asked) { try O2IBLNDMessage(parsing: $0, header: get) }
        guard case .immediate(let lnet) = message,
            case .get(_, PingInfo.matchBits, 0, 0, 3960) = lnet.body
        else {
            Issue.record("\(message)")
            return
        }
        #expect(
            encoded {
                get.encode(into: &$0)
                message.encode(into: &$0)
            } == asked)

        let answered = hex(
            """
            911be90b 1200 d1 01 a8000000 00000000 03004e0a00000500 d2954ed9e8600600
            02004e0a00000500 b17c38d9e8600600
            02004e0a00000500 03004e0a00000500 39300000 39300000 03000000 30000000
            30f7655f868dea18 191c000000000000 0000000000000000 00000000 00000000 00000000 00000000
            676e6970 1e000000 39300000 02000000 0000000000000900 04000000 00000000
            03004e0a00000500 dec0aa15 00000000
            """)
        let reply = try RawSpan.over(answered) { try O2IBLNDHeader(parsing: $0) }
        #expect(reply.credits == 1)
        #expect(reply.byteCount == 168)
        let info = try RawSpan.over(answered) {
            try PingInfo(parsing: $0.extracting(O2IBLNDHeader.immediateOffset..<168))
        }
        #expect(info.interfaces.map(\.nid) == [passive])
    }

    @Test(arguments: [
        (O2IBLNDMessage.noop, 48, ""),
        (.putRequest(lnet, cookie: 0x1122), 128, "2211000000000000"),
        (.putNak(cookie: 0x33, status: -2), 60, "3300000000000000 feffffff"),
        (.putDone(cookie: 0x44, status: 70_000), 60, "4400000000000000 70110100"),
        (.getDone(cookie: 0x55, status: -61), 60, "5500000000000000 c3ffffff"),
        (
            .putAck(
                sourceCookie: 6, sinkCookie: 7,
                O2IBLNDDescriptor(
                    key: 0x99, fragments: [.init(byteCount: 70_000, address: 0x7f00_1234_5678)])),
            84, "0600000000000000 0700000000000000 99000000 01000000 70110100 78563412007f0000"
        ),
    ])
    func `every other body in its place`(
        _ message: O2IBLNDMessage, _ size: Int, _ tail: String
    ) throws {
        let header = header(message.kind, UInt32(size), credits: 3)
        let bytes = encoded {
            header.encode(into: &$0)
            message.encode(into: &$0)
        }
        #expect(bytes.count == size)
        #expect(message.encodedSize == size)
        #expect(bytes[6] == message.kind.rawValue)
        #expect(bytes[7] == 3)
        let expected = hex(tail)
        #expect(Array(bytes.suffix(expected.count)) == expected)
        let parsed = try RawSpan.over(bytes) { span throws(WireError) in
            try O2IBLNDMessage(parsing: span, header: try O2IBLNDHeader(parsing: span))
        }
        #expect(parsed == message)
    }

    @Test func `GET_REQ carries the sink behind its cookie`() throws {
        let message = O2IBLNDMessage.getRequest(
            LNetHeader(
                destination: ProcessID(nid: passive), source: ProcessID(nid: active),
                payloadLength: 0,
                body: .get(
                    returnTo: .none, matchBits: 1, portal: 2, offset: 3, sinkLength: 1 << 20)),
            cookie: 0xabcd,
            O2IBLNDDescriptor(
                key: 5,
                fragments: [
                    .init(byteCount: 4096, address: 0x1000),
                    .init(byteCount: 4096, address: 0x9000),
                ]))
        #expect(message.encodedSize == 160)
        let bytes = encoded {
            header(.getRequest, 160).encode(into: &$0)
            message.encode(into: &$0)
        }
        #expect(
            Array(bytes[120...])
                == hex(
                    """
                    cdab000000000000 05000000 02000000 00100000 0010000000000000
                    00100000 0090000000000000
                    """))
    }

    @Test func `a reject says why, and what would do`() throws {
        let reject = O2IBLNDReject(
            reason: .queueDepth, incarnation: 0x1122_3344,
            parameters: O2IBLNDParameters(queueDepth: 8))
        let bytes = encoded { reject.encode(into: &$0) }
        #expect(
            bytes == hex("911be90b 1200 07 00 4433221100000000 0800 0101 00100000"))
        #expect(try RawSpan.over(bytes) { try O2IBLNDReject(parsing: $0) } == reject)
        #expect(O2IBLNDReject.Reason.allCases.map(\.rawValue) == Array(1...9))
    }
}

@Suite struct `o2iblnd bytes of a hostile peer` {
    private let request: [UInt8] = encoded {
        header(.getRequest, 148).encode(into: &$0)
        O2IBLNDMessage.getRequest(
            LNetHeader(
                destination: ProcessID(nid: passive), source: ProcessID(nid: active),
                payloadLength: 0,
                body: .get(returnTo: .none, matchBits: 1, portal: 2, offset: 3, sinkLength: 4)),
            cookie: 1,
            O2IBLNDDescriptor(key: 5, fragments: [.init(byteCount: 4, address: 0x1000)])
        ).encode(into: &$0)
    }

    private func parse(_ bytes: [UInt8]) -> O2IBLNDMessage? {
        try? RawSpan.over(bytes) { span throws(WireError) in
            try O2IBLNDMessage(parsing: span, header: try O2IBLNDHeader(parsing: span))
        }
    }

    @Test(arguments: 0..<148) func `every shorter prefix is refused`(length: Int) {
        #expect(parse(request) != nil)
        #expect(parse(Array(request.prefix(length))) == nil)
    }

    @Test(arguments: [0, 258, 257, .max] as [UInt32])
    func `a count of fragments that is not there`(count: UInt32) {
        var bytes = request
        for index in 0..<4 { bytes[132 + index] = UInt8(truncatingIfNeeded: count >> (8 * index)) }
        #expect(parse(bytes) == nil)
    }

    @Test func `a fragment without bytes, with too many, or around the end of the address space`() {
        for (place, value) in [(136, [0, 0, 0, 0]), (136, [1, 0, 16, 0])] as [(Int, [UInt8])] {
            var bytes = request
            bytes.replaceSubrange(place..<(place + 4), with: value)
            #expect(parse(bytes) == nil)
        }
        var bytes = request
        bytes.replaceSubrange(140..<148, with: [UInt8](repeating: 0xff, count: 8))
        #expect(parse(bytes) == nil)
    }

    @Test(arguments: 0..<256) func `a kind is one of ten`(kind: Int) {
        var bytes = request
        bytes[6] = UInt8(kind)
        let known = O2IBLNDHeader.Kind(rawValue: UInt8(kind)) != nil
        #expect(known == [192, 193, 208, 209, 210, 211, 212, 213, 214, 215].contains(kind))
        if !known { #expect(parse(bytes) == nil) }
    }

    @Test(arguments: [1, 2, 3, 4, 5] as [UInt64])
    func `random bytes never trap`(seed: UInt64) {
        var state = seed
        for _ in 0..<4000 {
            var bytes = request
            for _ in 0..<6 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                bytes[Int(state >> 33) % bytes.count] = UInt8(truncatingIfNeeded: state >> 24)
            }
            bytes.removeLast(Int(state >> 40) % 40)
            _ = parse(bytes)
        }
    }
}
