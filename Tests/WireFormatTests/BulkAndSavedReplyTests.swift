import Primitives
import TestSupport
import Testing
import WireFormat

@Suite struct BulkTests {
    private let object = ObjectName(targetIndex: 1, number: 2)

    private func write(_ data: [UInt8]) -> ObjectWriteRequest {
        ObjectWriteRequest(object: object, offset: 10, time: .zero, data: data)
    }

    @Test(arguments: [ProtocolVersion.v1, .v2])
    func `up to 16 KiB are written within the message, more by bulk`(
        version: ProtocolVersion
    ) throws {
        var messages = RandomMessages(seed: 1)
        let small = RequestBody.objectWrite(write(messages.bytes(16_384)))
        #expect(small.bulkSource == nil)
        #expect(encodedRequest(small, version).count > 16_384)

        let data = messages.bytes(16_385)
        let large = RequestBody.objectWrite(write(data))
        #expect(large.bulkSource == data)
        let bytes = encodedRequest(large, version)
        #expect(bytes.count < 400)
        guard case .objectWrite(var read) = try decodedRequest(bytes, version) else {
            Issue.record("another request")
            return
        }
        #expect(read.data.isEmpty && read.missingBulkBytes == 16_385)
        let takesShort = read.attachBulk(Array(data.dropLast()))
        #expect(!takesShort)
        var wrong = data
        wrong[7] ^= 1
        // Version 1 has no checksum: it cannot tell.
        let takesWrong = read.attachBulk(wrong)
        #expect(takesWrong == (version == .v1))
        let takesRight = read.attachBulk(data)
        #expect(takesRight)
        #expect(read.missingBulkBytes == 0 && read.data == data)
    }

    @Test func `a wrong checksum within a message is refused in version 2`() throws {
        let bytes = encodedRequest(.objectWrite(write([1, 2, 3])), .v2)
        // Container of three buffers and header: 232 bytes; the checksum stands 28 bytes behind.
        var wrong = bytes
        wrong[232 + 28] ^= 1
        #expect(throws: WireError.self) { try decodedRequest(wrong, .v2) }
        wrong = bytes
        wrong[232 + 28] = 0
        wrong[232 + 29] = 0
        wrong[232 + 30] = 0
        wrong[232 + 31] = 0
        #expect(throws: Never.self) { try decodedRequest(wrong, .v2) }
    }

    @Test(arguments: [ProtocolVersion.v1, .v2])
    func `up to 16 KiB are read within the reply, more by bulk`(version: ProtocolVersion) throws {
        var messages = RandomMessages(seed: 2)
        #expect(
            RequestBody.objectRead(ObjectReadRequest(object: object, offset: 0, byteCount: 16_384))
                .bulkSinkByteCount == 0)
        #expect(
            RequestBody.objectRead(ObjectReadRequest(object: object, offset: 0, byteCount: 16_385))
                .bulkSinkByteCount == 16_385)
        #expect(ReplyBody.read(ObjectReadReply(data: messages.bytes(16_384))).bulkData == nil)
        let data = messages.bytes(20_000)
        let reply = ReplyBody.read(ObjectReadReply(data: data))
        #expect(reply.bulkData == data)
        let bytes = encodedReply(reply, to: .objectRead, version)
        guard case .read(var read) = try decodedReply(bytes, version).body else {
            Issue.record("another reply")
            return
        }
        #expect(read.travelsByBulk && read.byteCount == 20_000 && read.data.isEmpty)
        let takesShort = read.attachBulk(Array(data.dropLast()))
        #expect(!takesShort)
        var wrong = data
        wrong[0] ^= 1
        let takesWrong = read.attachBulk(wrong)
        #expect(takesWrong == (version == .v1))
        // The sink may be longer than what came: the object may end before what was asked for.
        let takesLonger = read.attachBulk(data + [0, 0, 0])
        #expect(takesLonger)
        #expect(read.data == data)
    }
}

@Suite struct SavedReplyTests {
    @Test func `a saved reply is restored with all that version 2 says`() throws {
        for kind in [0, 4, 5, 8] {
            for seed in 0..<20 as Range<UInt64> {
                var messages = RandomMessages(seed: seed)
                let (opcode, reply) = messages.reply(kind: kind)
                let restored = try ReplyBody.restored(reply.saved(as: opcode, status: .ok))
                #expect(restored.opcode == opcode)
                #expect(restored.status == .ok)
                #expect(restored.body == reply.inVersion2)
            }
        }
    }

    @Test func `a saved refusal is restored as a refusal`() throws {
        let restored = try ReplyBody.restored(ReplyBody.empty.saved(as: .mkdir, status: .exists))
        #expect(restored.opcode == .mkdir && restored.status == .exists)
        #expect(restored.body == .empty)
    }

    @Test func `a damaged saved reply is refused`() {
        var messages = RandomMessages(seed: 1)
        let bytes = messages.reply(kind: 5).body.saved(as: .open, status: .ok)
        for count in stride(from: 0, to: bytes.count - 8, by: 7) {
            #expect(throws: WireError.self) {
                try ReplyBody.restored(Array(bytes[..<count]))
            }
        }
    }
}

@Suite struct ReplyTrailerTests {
    private let trailer = ReplyTrailer(
        epoch: UpgradeEpoch(instance: 3, counter: 9), admission: .revoking)

    @Test(arguments: 0..<RandomMessages.replyKindCount)
    func `a trailer travels behind every reply of a target and changes none`(kind: Int) throws {
        for version in [ProtocolVersion.v1, .v2] {
            var messages = RandomMessages(seed: UInt64(kind))
            var (opcode, reply) = messages.reply(kind: kind)
            // Blocking ASTs are answered by clients, which have no trailer to send.
            if kind == 0 { opcode = .close }
            let bytes = encodedReply(reply, to: opcode, version, trailer: trailer)
            let read = try decodedReply(bytes, version)
            #expect(read.trailer == trailer)
            let plain = try decodedReply(encodedReply(reply, to: opcode, version), version)
            #expect(read.body == plain.body)
        }
    }

    @Test func `a trailer keeps its golden bytes`() {
        let bytes = encodedReply(.empty, to: .close, .v2, trailer: trailer)
        #expect(Array(bytes.suffix(24)) == CompactHex.bytes("06e01c5a 02(3) 03(7) 09(7)"))
    }

    @Test func `a refusal carries the trailer too`() throws {
        let bytes = encodedReply(
            .empty, to: .readdir, .v2, status: .notDirectory, trailer: trailer)
        let read = try decodedReply(bytes, .v2)
        #expect(read.status == .notDirectory && read.body == .empty && read.trailer == trailer)
    }

    @Test func `what is no trailer is none, and spoils nothing`() throws {
        let good = encodedReply(.upgradeStarted(.none), to: .upgradeStart, .v2, trailer: trailer)
        // Three buffers: container 48, header 184, epoch 16; then 24 bytes of trailer.
        let start = 48 + 184 + 16
        #expect(good.count == start + 24)
        for (place, value) in [(0, 0), (4, 5), (5, 1), (7, 1)] as [(Int, UInt8)] {
            var wrong = good
            wrong[start + place] = value
            let read = try decodedReply(wrong, .v2)
            #expect(read.trailer == nil && read.body == .upgradeStarted(.none))
        }
    }
}
