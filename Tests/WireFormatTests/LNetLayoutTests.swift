import Testing
import WireFormat

func hex(_ text: String) -> [UInt8] {
    var bytes: [UInt8] = []
    var high: UInt8?
    for character in text.utf8 {
        let digit: UInt8
        switch character {
        case 48...57: digit = character - 48
        case 97...102: digit = character - 87
        default: continue
        }
        if let first = high {
            bytes.append(first << 4 | digit)
            high = nil
        } else {
            high = digit
        }
    }
    return bytes
}

private func encoded(_ body: (inout WireWriter) -> Void) -> [UInt8] {
    var writer = WireWriter()
    body(&writer)
    return writer.bytes
}

private let initiator = ProcessID(nid: NID(address: 0x0A4E_0002, type: .tcp))
private let target = ProcessID(nid: NID(address: 0x0A4E_0003, type: .tcp))

/// Bytes from captures of two Lustre 2.17.0 nodes, 10.78.0.2 and 10.78.0.3 over TCP.
@Suite struct `LNet golden bytes` {
    @Test func `acceptor request`() throws {
        let golden = hex("0071ceac 01000000 03004e0a00000200")
        #expect(encoded { AcceptorRequest(nid: target.nid).encode(into: &$0) } == golden)
        #expect(try RawSpan.over(golden) { try AcceptorRequest(parsing: $0) }.nid == target.nid)
    }

    @Test func `hello of both sides`() throws {
        let asked = hex(
            """
            63697245 03000000 02004e0a00000200 03004e0a00000200 39300000 00000000
            d334319f328dea18 0000000000000000 02000000 00000000
            """)
        let hello = try RawSpan.over(asked) { try SockLNDHello(parsing: $0) }
        #expect(hello.version == 3)
        #expect(hello.source == initiator)
        #expect(hello.destination == ProcessID(nid: target.nid, pid: 0))
        #expect(hello.sourceIncarnation == 0x18ea_8d32_9f31_34d3)
        #expect(hello.type == .bulkIn)
        #expect(hello.addressCount == 0)
        #expect(encoded { hello.encode(into: &$0) } == asked)
        let answered = hex(
            """
            63697245 03000000 03004e0a00000200 02004e0a00000200 39300000 00000000
            84cd17bf328dea18 0000000000000000 03000000 00000000
            """)
        let answer = SockLNDHello(
            source: target, destination: initiator.nid, incarnation: 0x18ea_8d32_bf17_cd84,
            type: hello.type.inverted)
        #expect(encoded { answer.encode(into: &$0) } == answered)
    }

    static let get = hex(
        """
        c1000000 00000000 0000000000000000 0000000000000000
        03004e0a00000200 02004e0a00000200 39300000 39300000 02000000 00000000
        cf4936501f8dea18 151c000000000000 0000000000000080 00000000 00000000 780f0000 00000000
        """)
    static let reply = hex(
        """
        c1000000 00000000 0000000000000000 0000000000000000
        02004e0a00000200 03004e0a00000200 39300000 39300000 03000000 30000000
        cf4936501f8dea18 151c000000000000 0000000000000000 0000000000000000 0000000000000000
        676e6970 1e000000 39300000 02000000
        0000000000000900 04000000 00000000 03004e0a00000200 dec0aa15 00000000
        """)
    static let put = hex(
        """
        c1000000 00000000 0000000000000000 0000000000000000
        03004e0a00000200 02004e0a00000200 39300000 39300000 01000000 30000000
        cf4936501f8dea18 291c000000000000 0000000000000080 0000000000000000 00000000 00000000
        """)
    static let ack = hex(
        """
        c1000000 00000000 0000000000000000 0000000000000000
        02004e0a00000200 03004e0a00000200 39300000 39300000 00000000 00000000
        cf4936501f8dea18 291c000000000000 0000000000000080 30000000 0000000000000000 00000000
        """)
    private static let handle = WireHandle(
        interfaceCookie: 0x18ea_8d1f_5036_49cf, objectCookie: 0x1c15)
    private static let pushHandle = WireHandle(
        interfaceCookie: 0x18ea_8d1f_5036_49cf, objectCookie: 0x1c29)

    @Test func `GET, REPLY, PUT and ACK`() throws {
        let expected: [([UInt8], LNetHeader)] = [
            (
                Self.get,
                LNetHeader(
                    destination: target, source: initiator, payloadLength: 0,
                    body: .get(
                        returnTo: Self.handle, matchBits: PingInfo.matchBits, portal: 0,
                        offset: 0, sinkLength: 3960))
            ),
            (
                Self.reply,
                LNetHeader(
                    destination: initiator, source: target, payloadLength: 48,
                    body: .reply(destination: Self.handle))
            ),
            (
                Self.put,
                LNetHeader(
                    destination: target, source: initiator, payloadLength: 48,
                    body: .put(
                        ack: Self.pushHandle, matchBits: PingInfo.matchBits, hdrData: 0,
                        portal: 0, offset: 0))
            ),
            (
                Self.ack,
                LNetHeader(
                    destination: initiator, source: target, payloadLength: 0,
                    body: .ack(
                        destination: Self.pushHandle, matchBits: PingInfo.matchBits, mlength: 48))
            ),
        ]
        for (bytes, header) in expected {
            let frame = Array(bytes[..<24])
            let framing = try RawSpan.over(frame) { try SockLNDMessageHeader(parsing: $0) }
            #expect(framing == SockLNDMessageHeader(kind: .lnet))
            #expect(encoded { framing.encode(into: &$0) } == frame)
            let message = Array(bytes[24..<96])
            #expect(try RawSpan.over(message) { try LNetHeader(parsing: $0) } == header)
            #expect(encoded { header.encode(into: &$0) } == message)
        }
    }

    @Test func `ping info`() throws {
        let bytes = Array(Self.reply[96...])
        let info = try RawSpan.over(bytes) { try PingInfo(parsing: $0) }
        #expect(
            info
                == PingInfo(
                    features: [.niStatus, .routingDisabled, .multiRail, .discovery],
                    sequence: 4, interfaces: [.init(nid: target.nid)]))
        #expect(info.interfaces[0].isUp)
        #expect(encoded { info.encode(into: &$0) } == bytes)
    }
}

@Suite struct `LNet layouts` {
    @Test func `numbers are frozen`() {
        #expect(LNetHeader.encodedSize == 72)
        #expect(LNetHeader.payloadMax == 1_048_576)
        #expect(SockLNDMessageHeader.encodedSize == 24)
        #expect(SockLNDHello.encodedSize == 56)
        #expect(AcceptorRequest.encodedSize == 16)
        #expect(WireHandle.encodedSize == 16)
        #expect(SockLNDMessageHeader.Kind.noop.rawValue == 0xc0)
        #expect(SockLNDMessageHeader.Kind.lnet.rawValue == 0xc1)
        #expect(SockLNDMessageHeader.keepaliveCookie == 1)
        #expect(SockLNDConnectionType.none.rawValue == -1)
        #expect(SockLNDConnectionType.control.rawValue == 1)
        #expect(SockLNDConnectionType.bulkIn.rawValue == 2)
        #expect(SockLNDConnectionType.bulkOut.rawValue == 3)
        #expect(ProcessID.lustrePID == 12345)
        #expect(ProcessID.userFlag == 0x8000_0000)
        #expect(WireHandle.none.objectCookie == 0xffff_ffff_ffff_ffff)
        #expect(PingInfo.Interface.up == 0x15aa_c0de)
        #expect(PingInfo.Interface.down == 0xdead_face)
        #expect(PingInfo.matchBits == 0x8000_0000_0000_0000)
        #expect(AcceptorRequest.magic == 0xacce_7100)
        #expect(SockLNDHello.magic == 0x4572_6963)
    }

    @Test func `every field of every type stands at its offset`() {
        let handle = WireHandle(
            interfaceCookie: 0x0807_0605_0403_0201, objectCookie: 0x100f_0e0d_0c0b_0a09)
        func words(_ body: LNetHeader.Body, _ length: UInt32) -> [UInt8] {
            encoded {
                LNetHeader(
                    destination: ProcessID(nid: NID(rawValue: 0xA1), pid: 0xA2),
                    source: ProcessID(nid: NID(rawValue: 0xA3), pid: 0xA4),
                    payloadLength: length, body: body
                ).encode(into: &$0)
            }
        }
        let put = words(
            .put(ack: handle, matchBits: 0xB1, hdrData: 0xB2, portal: 0xB3, offset: 0xB4), 0xA5)
        #expect(put.count == 72)
        #expect(put[0] == 0xA1 && put[8] == 0xA3 && put[16] == 0xA2 && put[20] == 0xA4)
        #expect(put[24] == 1 && put[28] == 0xA5)
        #expect(Array(put[32..<48]) == Array(1...16))
        #expect(put[48] == 0xB1 && put[56] == 0xB2 && put[64] == 0xB3 && put[68] == 0xB4)
        let get = words(
            .get(returnTo: handle, matchBits: 0xB1, portal: 0xB2, offset: 0xB3, sinkLength: 0xB4),
            0)
        #expect(get[24] == 2 && get[48] == 0xB1 && get[56] == 0xB2)
        #expect(get[60] == 0xB3 && get[64] == 0xB4)
        let ack = words(.ack(destination: handle, matchBits: 0xB1, mlength: 0xB2), 0)
        #expect(ack[24] == 0 && ack[48] == 0xB1 && ack[56] == 0xB2)
        let reply = words(.reply(destination: handle), 7)
        #expect(reply[24] == 3 && Array(reply[32..<48]) == Array(1...16))
        #expect(Array(reply[48...]) == [UInt8](repeating: 0, count: 24))
    }

    @Test func `every shorter prefix is refused`() {
        func refuses(_ bytes: [UInt8], _ parse: (RawSpan) throws -> Void) {
            for length in 0..<bytes.count {
                #expect(throws: WireError.self) {
                    try RawSpan.over(Array(bytes[..<length])) { try parse($0) }
                }
            }
        }
        refuses(encoded { AcceptorRequest(nid: target.nid).encode(into: &$0) }) {
            _ = try AcceptorRequest(parsing: $0)
        }
        refuses(
            encoded {
                SockLNDHello(
                    source: initiator, destination: target.nid, incarnation: 1, type: .control
                ).encode(into: &$0)
            }
        ) { _ = try SockLNDHello(parsing: $0) }
        refuses(Array(`LNet golden bytes`.get[..<24])) { _ = try SockLNDMessageHeader(parsing: $0) }
        for message in [
            `LNet golden bytes`.get, `LNet golden bytes`.put, `LNet golden bytes`.ack,
        ] {
            refuses(Array(message[24...])) { _ = try LNetHeader(parsing: $0) }
        }
        refuses(Array(`LNet golden bytes`.reply[96...])) { _ = try PingInfo(parsing: $0) }
    }

    @Test func `lying lengths, counts, types and magics are refused`() {
        func header(_ type: UInt8, _ length: UInt32) -> [UInt8] {
            var writer = WireWriter()
            writer.zeros(24)
            writer.u32(UInt32(type))
            writer.u32(length)
            writer.zeros(40)
            return writer.bytes
        }
        func error(_ bytes: [UInt8]) -> WireError? {
            RawSpan.over(bytes) { span in
                do throws(WireError) {
                    _ = try LNetHeader(parsing: span)
                    return nil
                } catch { return error }
            }
        }
        func tooLong(_ value: UInt64, _ limit: UInt64) -> WireError {
            .badLength(field: "lnet_hdr.payload_length", value: value, limit: limit)
        }
        #expect(error(header(0, 1)) == tooLong(1, 0))
        #expect(error(header(2, 1)) == tooLong(1, 0))
        #expect(error(header(1, 1 << 20)) == nil)
        #expect(error(header(1, 1 << 20 + 1)) == tooLong(1 << 20 + 1, 1 << 20))
        #expect(error(header(3, .max)) == tooLong(UInt64(UInt32.max), 1 << 20))
        for type: UInt8 in [4, 5, 255] {
            #expect(
                error(header(type, 0)) == .badValue(field: "lnet_hdr.type", value: UInt64(type)))
        }
        var hello = encoded {
            SockLNDHello(
                source: initiator, destination: target.nid, incarnation: 1, type: .control
            ).encode(into: &$0)
        }
        func helloError(at offset: Int, _ value: UInt8) -> WireError? {
            var changed = hello
            changed[offset] = value
            return RawSpan.over(changed) { span in
                do throws(WireError) {
                    _ = try SockLNDHello(parsing: span)
                    return nil
                } catch { return error }
            }
        }
        #expect(helloError(at: 52, 16) == nil)
        #expect(helloError(at: 52, 17) == .badLength(field: "kshm_nips", value: 17, limit: 16))
        #expect(helloError(at: 48, 4) == .badValue(field: "kshm_ctype", value: 4))
        #expect(helloError(at: 4, 5) == .badVersion(5))
        #expect(helloError(at: 4, 2) == nil)
        #expect(helloError(at: 0, 0) == .badMagic(0x4572_6900))
        hello.replaceSubrange(0..<4, with: [0xed, 0x0d, 0xbc, 0xee])
        #expect(helloError(at: 8, 0) == .badVersion(1))

        var ping = Array(`LNet golden bytes`.reply[96...])
        ping[12] = 3
        #expect(throws: WireError.truncated(need: 64, have: 48)) {
            try RawSpan.over(ping) { _ = try PingInfo(parsing: $0) }
        }
        ping[15] = 0xff
        #expect(throws: WireError.self) {
            try RawSpan.over(ping) { _ = try PingInfo(parsing: $0) }
        }
    }
}
