import Primitives
import TestSupport
import Testing
import WireFormat

/// What the fuzzer (Tools/fuzz/run) does for hours, in seconds and always alike: every layout cut off
/// at every length, with every byte changed, and with every word a lie.
@Suite struct DamagedVectorTests {
    private static let own = NID(address: 0x0A4E_0002, type: .tcp)
    private static let peer = NID(address: 0x0A4E_0003, type: .tcp)

    /// A layout of LNet's: its bytes, and what reads them. Nil where they are refused, or the size
    /// of what was read when it is written again.
    struct Vector: Sendable, CustomTestStringConvertible {
        var name: String
        var bytes: [UInt8]
        var read: @Sendable ([UInt8]) -> Int?
        var testDescription: String { name }

        init<T>(
            _ name: String, _ value: T,
            _ parse: @escaping @Sendable (RawSpan) throws(WireError) -> T,
            _ write: @escaping @Sendable (T, inout WireWriter) -> Void
        ) {
            self.name = name
            var writer = WireWriter()
            write(value, &writer)
            bytes = writer.bytes
            read = { bytes in
                guard let value = try? RawSpan.over(bytes, parse) else { return nil }
                var writer = WireWriter()
                write(value, &writer)
                return writer.bytes.count
            }
        }
    }

    private static func header(_ length: UInt32, _ body: LNetHeader.Body) -> LNetHeader {
        LNetHeader(
            destination: ProcessID(nid: peer), source: ProcessID(nid: own), payloadLength: length,
            body: body)
    }

    private static let put = header(
        9000,
        .put(
            ack: WireHandle(interfaceCookie: 1, objectCookie: 2), matchBits: 3, hdrData: 4,
            portal: 50, offset: 0))
    private static let get = header(
        0,
        .get(
            returnTo: WireHandle(interfaceCookie: 1, objectCookie: 2),
            matchBits: PingInfo.matchBits, portal: 0, offset: 0, sinkLength: 3960))

    private static func selftest(_ name: String, _ body: SelftestMessage.Body) -> Vector {
        Vector(
            name, SelftestMessage(body), SelftestMessage.init(parsing:), { $0.encode(into: &$1) })
    }

    /// Behind a header that says how long it is.
    private static func o2ib(_ name: String, _ message: O2IBLNDMessage) -> Vector {
        Vector(
            name, message,
            { (span: RawSpan) throws(WireError) in
                try O2IBLNDMessage(parsing: span, header: O2IBLNDHeader(parsing: span))
            },
            { message, writer in
                O2IBLNDHeader(
                    kind: message.kind, byteCount: UInt32(message.encodedSize), source: own,
                    sourceStamp: 1, destination: peer, destinationStamp: 2
                ).encode(into: &writer)
                message.encode(into: &writer)
            })
    }

    static let vectors: [Vector] = {
        let session = SelftestMessage.Session(nid: own, stamp: 0x19c97)
        let descriptor = O2IBLNDDescriptor(
            key: 7,
            fragments: [
                .init(byteCount: 4096, address: 0x1000), .init(byteCount: 904, address: 0x9000),
            ])
        return [
            Vector(
                "acceptor request", AcceptorRequest(nid: peer), AcceptorRequest.init(parsing:),
                { $0.encode(into: &$1) }),
            Vector(
                "hello",
                SockLNDHello(
                    source: ProcessID(nid: own), destination: peer, incarnation: 5, type: .bulkIn),
                SockLNDHello.init(parsing:), { $0.encode(into: &$1) }),
            Vector(
                "socklnd header", SockLNDMessageHeader(kind: .noop, zeroCopyAck: 1),
                SockLNDMessageHeader.init(parsing:), { $0.encode(into: &$1) }),
            Vector("PUT", put, LNetHeader.init(parsing:), { $0.encode(into: &$1) }),
            Vector("GET", get, LNetHeader.init(parsing:), { $0.encode(into: &$1) }),
            Vector(
                "ACK", header(0, .ack(destination: .none, matchBits: 3, mlength: 9)),
                LNetHeader.init(parsing:), { $0.encode(into: &$1) }),
            Vector(
                "REPLY", header(48, .reply(destination: .none)), LNetHeader.init(parsing:),
                { $0.encode(into: &$1) }),
            Vector(
                "ping info", PingInfo(interfaces: [.init(nid: own), .init(nid: peer)]),
                PingInfo.init(parsing:), { $0.encode(into: &$1) }),
            selftest(
                "MKSN", .makeSession(reply: 1, session: session, force: true, name: "name")),
            selftest(
                "MKSN reply", .sessionMade(status: 0, session: session, timeout: 9, name: "name")),
            selftest("RMSN", .removeSession(reply: 1, session: session)),
            selftest(
                "BATCH",
                .batch(
                    reply: 1, session: session, batch: 2, operation: 1, testIndex: 0, argument: 0)),
            selftest("STAT reply", .statisticsTold(status: 0, session: session, .init())),
            selftest(
                "TEST ping",
                .test(
                    reply: 1, bulk: 2, session: session, batch: 3, loop: 4, concurrency: 5,
                    isClient: true, stopsOnError: true, destinations: 6, .ping(size: 0, flags: 0))),
            selftest(
                "TEST brw",
                .test(
                    reply: 1, bulk: 2, session: session, batch: 3, loop: 4, concurrency: 5,
                    isClient: true, stopsOnError: true, destinations: 6,
                    .bulk(isWrite: true, check: 3, length: 4096, offset: 0))),
            selftest("BRW", .bulk(reply: 1, bulk: 2, isWrite: true, length: 4096, check: 3)),
            selftest("PING", .ping(reply: 1, sequence: 2, seconds: 3, fraction: 4)),
            o2ib("CONNREQ", .connectRequest(O2IBLNDParameters(queueDepth: 8))),
            o2ib("NOOP", .noop),
            o2ib("IMMEDIATE", .immediate(get)),
            o2ib("PUT_REQ", .putRequest(put, cookie: 1)),
            o2ib("PUT_ACK", .putAck(sourceCookie: 1, sinkCookie: 2, descriptor)),
            o2ib("PUT_NAK", .putNak(cookie: 1, status: -2)),
            o2ib("GET_REQ", .getRequest(get, cookie: 1, descriptor)),
            o2ib("GET_DONE", .getDone(cookie: 1, status: 5000)),
            Vector(
                "reject",
                O2IBLNDReject(
                    reason: .stale, incarnation: 5, parameters: O2IBLNDParameters(queueDepth: 8)),
                O2IBLNDReject.init(parsing:), { $0.encode(into: &$1) }),
        ]
    }()

    @Test(arguments: vectors)
    func `a layout cut off anywhere is refused, and never read beyond its end`(_ vector: Vector) {
        #expect(vector.read(vector.bytes) == vector.bytes.count)
        for count in vector.bytes.indices {
            #expect(vector.read(Array(vector.bytes[..<count])) == nil, "\(count) bytes")
        }
    }

    @Test(arguments: vectors)
    func `a layout with any byte changed, or any word a lie, is never longer than its bytes`(
        _ vector: Vector
    ) {
        func expectBounded(_ bytes: [UInt8], _ place: Int) {
            #expect((vector.read(bytes) ?? 0) <= bytes.count, "byte \(place)")
        }
        for place in vector.bytes.indices {
            for flip: UInt8 in [0x01, 0x10, 0x7f, 0x80, 0xff] {
                var bytes = vector.bytes
                bytes[place] ^= flip
                expectBounded(bytes, place)
            }
            guard place % 4 == 0, place + 4 <= vector.bytes.count else { continue }
            for lie: UInt32 in [0, 1, 4097, 0x10_0001, 0x7fff_ffff, 0x8000_0000, .max] {
                var bytes = vector.bytes
                for index in 0..<4 {
                    bytes[place + index] = UInt8(truncatingIfNeeded: lie >> UInt32(8 * index))
                }
                expectBounded(bytes, place)
            }
        }
    }

    @Test(arguments: GoldenMessages.requests.map(\.name))
    func `a golden request with any byte changed is refused or is no longer`(_ name: String) throws
    {
        let body = try #require(GoldenMessages.requests.first { $0.name == name }).body
        let bytes = encodedRequest(body, .v3)
        for place in bytes.indices {
            for flip: UInt8 in [0x01, 0xff] {
                var wrong = bytes
                wrong[place] ^= flip
                guard let read = try? decodedRequest(wrong, .v3) else { continue }
                let again = encodedRequest(read, .v3).count
                #expect(again <= bytes.count + 8 * LustreMessage.bufferCountMax, "byte \(place)")
            }
        }
    }

    @Test(arguments: GoldenMessages.replies.map(\.name))
    func `a golden reply with any byte changed is refused or is no longer`(_ name: String) throws {
        let reply = try #require(GoldenMessages.replies.first { $0.name == name })
        let bytes = encodedReply(reply.body, to: reply.opcode, .v3)
        for place in bytes.indices {
            for flip: UInt8 in [0x01, 0xff] {
                var wrong = bytes
                wrong[place] ^= flip
                guard let read = try? decodedReply(wrong, .v3) else { continue }
                let again = encodedReply(read.body, to: read.opcode, .v3).count
                #expect(again <= bytes.count + 8 * LustreMessage.bufferCountMax, "byte \(place)")
            }
        }
    }
}
