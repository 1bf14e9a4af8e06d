import Primitives
import TestSupport
import Testing
import WireFormat

@Suite struct BatchTests {
    private static let requests: [RequestBody] = [
        .openReplay(
            OpenReplayRequest(file: GoldenMessages.file, handle: 0x5_0000_0001, flags: .read)),
        .enqueue(
            EnqueueRequest(
                request: .enqueue(
                    cookie: 0xC1, flags: [.replay, .blockGranted],
                    descriptor: GoldenMessages.descriptor))),
        .cancel(.cancel(cookie: 0xC5)),
    ]
    private static let answers: [BatchAnswer] = [
        BatchAnswer(opcode: .openReplay, status: .ok, body: .empty),
        BatchAnswer(
            opcode: .ldlmEnqueue, status: .ok,
            body: .enqueue(
                EnqueueReply(
                    reply: LDLMReply(
                        flags: .blockGranted, descriptor: GoldenMessages.descriptor,
                        serverCookie: 0xC5),
                    valueBlock: GoldenMessages.valueBlock))),
        BatchAnswer(opcode: .ldlmCancel, status: .stale, body: .empty),
    ]

    @Test func `a batch is written and read as on the day of its release`() throws {
        let bytes = encodedRequest(.batch(Self.requests), .v3)
        #expect(CompactHex.text(bytes) == Self.goldenRequest)
        #expect(try decodedRequest(bytes, .v3) == .batch(Self.requests))
        let reply = encodedReply(.batch(Self.answers), to: .batch, .v3)
        #expect(CompactHex.text(reply) == Self.goldenReply)
        #expect(try decodedReply(reply, .v3).body == .batch(Self.answers))
    }

    @Test(arguments: [ProtocolVersion.v1, .v2, .v3])
    func `a batch may come in any version, its requests in that version`(
        version: ProtocolVersion
    ) throws {
        let enqueue = RequestBody.enqueue(
            EnqueueRequest(
                request: .replay(
                    cookie: 7,
                    descriptor: LockDescriptor(
                        resource: ResourceID(0x2_0000_0400, 0x33), requestedMode: .pr,
                        grantedMode: .pr, policy: .plain))))
        let bytes = encodedRequest(.batch([enqueue, enqueue]), version)
        guard case .batch(let read) = try decodedRequest(bytes, version) else {
            Issue.record("no batch")
            return
        }
        #expect(read.count == 2)
    }

    @Test func `every message of a batch lies where the offsets say`() throws {
        let bytes = encodedRequest(.batch(Self.requests), .v3)
        // Container 40, header 184: the batch's head is at 224.
        RawSpan.over(bytes) { span in
            #expect(span.littleEndian(at: 224, as: UInt32.self) == 0x5A1C_E00B)
            #expect(span.littleEndian(at: 228, as: UInt32.self) == 3)
            #expect(span.littleEndian(at: 232, as: UInt64.self) == 0)
            // The first message: its container says what it is.
            #expect(span.littleEndian(at: 240 + 8, as: UInt32.self) == LustreMessage.magic)
            #expect(span.littleEndian(at: 240 + 24, as: UInt32.self) == Opcode.openReplay.rawValue)
        }
    }

    @Test(arguments: 1...64 as ClosedRange<UInt64>)
    func `random batches come back as they were`(seed: UInt64) throws {
        var random = RandomMessages(seed: seed)
        var requests: [RequestBody] = []
        for _ in 0..<Int(1 + seed) {
            var request = random.request(kind: [4, 7, 8, 12, 22][Int(random.word() % 5)])
            if !request.mayBeBatched { request = .getattr(random.fileID()) }
            requests.append(request)
        }
        requests = Array(requests.prefix(Batch.countMax))
        let read = try decodedRequest(encodedRequest(.batch(requests), .v3), .v3)
        #expect(read == .batch(requests), "SEED=\(seed)")
    }

    @Test func `every shorter prefix is refused`() {
        for whole in [
            encodedRequest(.batch(Self.requests), .v3),
            encodedReply(.batch(Self.answers), to: .batch, .v3),
        ] {
            for length in 0..<whole.count {
                let bytes = Array(whole[..<length])
                #expect((try? decodedRequest(bytes, .v3)) == nil, "\(length)")
                #expect((try? decodedReply(bytes, .v3)) == nil, "\(length)")
            }
        }
    }

    @Test func `what has no place in a batch is refused`() {
        var bytes = encodedRequest(.batch([.getattr(.root)]), .v3)
        #expect(throws: Never.self) { try decodedRequest(bytes, .v3) }
        // lm_opc of the first message, at 240 + 24.
        for opcode: Opcode in [
            .batch, .objectWrite, .mkdir, .mdsConnect, .ping, Opcode(rawValue: 7),
        ] {
            for byte in 0..<4 {
                bytes[240 + 24 + byte] = UInt8(
                    truncatingIfNeeded: opcode.rawValue >> UInt32(8 * byte))
            }
            #expect(throws: WireError.self, "\(opcode.name)") { try decodedRequest(bytes, .v3) }
        }
        for (offset, value) in [(228, 0), (228, 65), (232, 1), (224, 0)] as [(Int, UInt8)] {
            var wrong = encodedRequest(.batch([.getattr(.root)]), .v3)
            wrong[offset] = value
            #expect(throws: WireError.self, "\(offset)") { try decodedRequest(wrong, .v3) }
        }
    }

    @Test(arguments: 1...200 as ClosedRange<UInt64>)
    func `flipped bits never trap`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var bytes = encodedRequest(.batch(Self.requests), .v3)
        var reply = encodedReply(.batch(Self.answers), to: .batch, .v3)
        for _ in 0..<4 {
            bytes[Int(random.next() % UInt64(bytes.count))] ^= 1 << UInt8(random.next() % 8)
            reply[Int(random.next() % UInt64(reply.count))] ^= 1 << UInt8(random.next() % 8)
        }
        _ = try? decodedRequest(bytes, .v3)
        _ = try? decodedReply(reply, .v3)
    }

    private static let goldenRequest =
        "02(7)d30bd00b(20)b8(3)7801(10)6712000003000100e50c(166)0be01c5a03(11)02(7)d3"
        + "0bd00b(12)c20b(10)20(4)04000002(3)11(7)01(3)05(3)01(7)02(7)d30bd00b(12)65(11"
        + ")68(3)0201000001(3)0b(7)0200010001(3)33(23)02(3)04(4)10(6)ff1f(22)c1(15)02(7"
        + ")d30bd00b(12)67(11)68(7)01(83)c5(15)"
    private static let goldenReply =
        "02(7)d30bd00b(20)b8(3)5001(10)6912000003000100e50c(166)0ce01c5a03(11)01(7)d3"
        + "0bd00b(12)c20b(6)04(15)03(7)d30bd00b(12)65(7)04(3)70(3)38(15)02(7)0b(7)02000"
        + "10001(3)33(23)02(3)04(4)10(6)ff1f(22)c5(23)3412(6)d2029649(20)10(7)b168de3a("
        + "12)01(7)d30bd00b(12)67(7)04(7)8cffffff(4)"
}

@Suite struct EarlyReplyChecksumTests {
    @Test func `the checksum is Lustre's CRC-32 without the last complement`() {
        // A body of 184 bytes that is zero but for type, version and opcode.
        var body = PtlRPCBody()
        body.type = .reply
        let ordinary = body.checksum
        body.timeoutSeconds = 30
        #expect(body.checksum != ordinary)
        #expect(ordinary == Self.reference(body: { $0.type = .reply }))
    }

    /// By table, as zlib does it.
    private static func reference(body change: (inout PtlRPCBody) -> Void) -> UInt32 {
        var body = PtlRPCBody()
        change(&body)
        var writer = WireWriter()
        body.encode(into: &writer)
        let table = (0..<256).map { index -> UInt32 in
            (0..<8).reduce(UInt32(index)) { crc, _ in
                crc & 1 == 1 ? 0xEDB8_8320 ^ (crc >> 1) : crc >> 1
            }
        }
        return writer.bytes.reduce(UInt32.max) { table[Int(($0 ^ UInt32($1)) & 0xFF)] ^ ($0 >> 8) }
    }
}
