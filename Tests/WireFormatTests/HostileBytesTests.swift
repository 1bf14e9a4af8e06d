import Primitives
import TestSupport
import Testing
import WireFormat

/// What a faulty or hostile peer may send: refused, or read as something legal; never a trap, and
/// never more memory than the bytes that came account for.
@Suite struct HostileBytesTests {
    private static let versions: [ProtocolVersion] = [.v1, .v2, .v3]

    /// Reads as whatever the header says; what was read must be legal and no bigger than its bytes.
    private func read(_ bytes: [UInt8], _ version: ProtocolVersion, isReply: Bool) {
        if isReply {
            guard let reply = try? decodedReply(bytes, version) else { return }
            let again = encodedReply(
                reply.body, to: reply.opcode, version, status: reply.status,
                trailer: reply.trailer)
            #expect(again.count <= bytes.count + 8 * LustreMessage.bufferCountMax)
            if case .read(let body) = reply.body, body.travelsByBulk { return }
            #expect(
                (try? decodedReply(again, version))?.body.withoutChecksums
                    == reply.body.withoutChecksums)
        } else {
            guard let request = try? decodedRequest(bytes, version) else { return }
            let again = encodedRequest(request, version)
            #expect(again.count <= bytes.count + 8 * LustreMessage.bufferCountMax)
            if case .objectWrite(let body) = request, body.missingBulkBytes > 0 { return }
            #expect(
                (try? decodedRequest(again, version))?.withoutChecksums
                    == request.withoutChecksums)
        }
    }

    @Test(arguments: 0..<RandomMessages.requestKindCount)
    func `every shorter prefix of a request is refused or reads the same`(kind: Int) throws {
        for version in Self.versions {
            for seed in [1, 2] as [UInt64] {
                var messages = RandomMessages(seed: seed << 8 | UInt64(kind))
                let bytes = encodedRequest(messages.request(kind: kind), version)
                let whole = try decodedRequest(bytes, version)
                for count in Self.cuts(bytes.count) {
                    let prefix = Array(bytes[..<count])
                    if let read = try? decodedRequest(prefix, version) {
                        #expect(read == whole)
                        #expect(bytes.count - count < 8, "only the last padding may be missing")
                    }
                }
            }
        }
    }

    @Test(arguments: 0..<RandomMessages.replyKindCount)
    func `every shorter prefix of a reply is refused or reads the same`(kind: Int) throws {
        for version in Self.versions {
            for seed in [1, 2] as [UInt64] {
                var messages = RandomMessages(seed: seed << 8 | UInt64(kind))
                let (opcode, reply) = messages.reply(kind: kind)
                let trailer = ReplyTrailer(epoch: messages.epoch(), admission: .waiting)
                let bytes = encodedReply(
                    reply, to: opcode, version, trailer: kind == 0 ? nil : trailer)
                let whole = try decodedReply(bytes, version)
                for count in Self.cuts(bytes.count) {
                    if let read = try? decodedReply(Array(bytes[..<count]), version) {
                        #expect(read == whole)
                        #expect(bytes.count - count < 8, "only the last padding may be missing")
                    }
                }
            }
        }
    }

    /// Every length of a short message; of a long one the first and last ones and some between.
    private static func cuts(_ count: Int) -> [Int] {
        count <= 1_500
            ? Array(0..<count)
            : Array(0..<700) + Array(stride(from: 700, to: count - 64, by: 61))
                + Array((count - 64)..<count)
    }

    @Test(arguments: 0..<RandomMessages.requestKindCount)
    func `a request with flipped bits is refused or is another legal one`(kind: Int) {
        for version in Self.versions {
            var messages = RandomMessages(seed: UInt64(kind))
            for _ in 0..<6 {
                let bytes = encodedRequest(messages.request(kind: kind), version)
                Self.damaged(bytes, &messages.random) { read($0, version, isReply: false) }
            }
        }
    }

    @Test(arguments: 0..<RandomMessages.replyKindCount)
    func `a reply with flipped bits is refused or is another legal one`(kind: Int) {
        for version in Self.versions {
            var messages = RandomMessages(seed: UInt64(kind))
            for _ in 0..<6 {
                let (opcode, reply) = messages.reply(kind: kind)
                let bytes = encodedReply(reply, to: opcode, version)
                Self.damaged(bytes, &messages.random) { read($0, version, isReply: true) }
            }
        }
    }

    /// Sixty damaged copies: single bits, bytes and words with extreme values.
    private static func damaged(
        _ bytes: [UInt8], _ random: inout SplitMix64, _ body: ([UInt8]) -> Void
    ) {
        for _ in 0..<60 {
            var copy = bytes
            for _ in 0...random.below(3) {
                // Half of the damage goes to the container and the first words of the body.
                let front = min(copy.count, 300)
                let place = random.below(random.oneIn(2) ? front : copy.count)
                switch random.below(4) {
                case 0: copy[place] ^= 1 << UInt8(random.below(8))
                case 1: copy[place] = UInt8(truncatingIfNeeded: random.next())
                case 2: copy[place] = random.oneIn(2) ? 0xFF : 0x7F
                default:
                    let word = place & ~3
                    for index in word..<min(word + 4, copy.count) { copy[index] = 0xFF }
                }
            }
            body(copy)
        }
    }

    @Test func `noise of any length is refused`() {
        var messages = RandomMessages(seed: 5)
        for count in 0..<300 {
            let bytes = messages.bytes(count)
            for version in Self.versions {
                #expect(throws: WireError.self) { try decodedRequest(bytes, version) }
                #expect(throws: WireError.self) { try decodedReply(bytes, version) }
            }
        }
    }

    @Test func `opcodes that are nobody's request are refused`() {
        let bytes = encodedRequest(.getattr(.root), .v2)
        // An opcode stands behind the container of two buffers, 16 bytes into the header.
        let place = 40 + 16
        for number in [
            0, 1, 33, 107, 110, 401, 3000, 3013, 3099, 3107, 3210, 3302, 0xFFFF,
            .max,
        ] as [UInt32] {
            var wrong = bytes
            for index in 0..<4 {
                wrong[place + index] = UInt8(truncatingIfNeeded: number >> UInt32(8 * index))
            }
            #expect(throws: WireError.badValue(field: "pb_opc", value: UInt64(number))) {
                try decodedRequest(wrong, .v2)
            }
        }
    }

    @Test func `a container that lies about its buffers is refused`() throws {
        let name = try #require(FileName("name"))
        let bytes = encodedRequest(.lookup(LookupRequest(parent: .root, path: [name])), .v2)
        func refusal(_ place: Int, _ value: UInt32) -> WireError? {
            var wrong = bytes
            for index in 0..<4 {
                wrong[place + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index))
            }
            do {
                _ = try decodedRequest(wrong, .v2)
                return nil
            } catch {
                return error
            }
        }
        #expect(refusal(0, 2) == nil)
        #expect(refusal(0, 0) == .badLength(field: "lm_bufcount", value: 0, limit: 12))
        #expect(refusal(0, 13) == .badLength(field: "lm_bufcount", value: 13, limit: 12))
        #expect(refusal(0, .max) == .badLength(field: "lm_bufcount", value: 0xFFFF_FFFF, limit: 12))
        #expect(refusal(0, 1) == .unexpected(message: "buffer 1 is missing"))
        #expect(refusal(8, 0x0BD0_0BD0) == .badMagic(0x0BD0_0BD0))
        #expect(refusal(8, 0xD30B_D00B) == .badMagic(0xD30B_D00B), "the other byte order")
        // Buffer 0 longer than everything; buffer 1 longer by one than what is there.
        #expect(refusal(32, .max) == .truncated(need: 40 + 0xFFFF_FFFF, have: bytes.count))
        #expect(refusal(36, 33) == .truncated(need: 257, have: 256))
        // Too short for what the buffer holds, down to nothing.
        for length in 0..<26 as Range<UInt32> { #expect(refusal(36, length) != nil) }
        #expect(refusal(32, 151) != nil)
    }

    @Test func `counts beyond their bounds are refused before anything is read for them`() throws {
        func refused(_ request: RequestBody, at place: Int, _ count: UInt32) throws -> WireError? {
            var bytes = encodedRequest(request, .v2)
            // The first buffer of a body begins behind a container of 40 bytes and the header.
            for index in 0..<4 {
                bytes[224 + place + index] = UInt8(truncatingIfNeeded: count >> UInt32(8 * index))
            }
            do {
                _ = try decodedRequest(bytes, .v2)
                return nil
            } catch {
                return error
            }
        }
        let lookup = RequestBody.lookup(LookupRequest(parent: .root, path: []))
        #expect(
            try refused(lookup, at: 16, 65) == .badLength(field: "path", value: 65, limit: 64))
        #expect(try refused(lookup, at: 16, 64) == .truncated(need: 22, have: 20))
        let destroy = RequestBody.objectDestroy(ObjectDestroyRequest(objects: []))
        #expect(
            try refused(destroy, at: 0, 1025)
                == .badLength(field: "objects", value: 1025, limit: 1024))
        #expect(try refused(destroy, at: 0, 1024) == .truncated(need: 16, have: 8))
        let create = RequestBody.objectCreate(
            ObjectCreateRequest(first: ObjectName(targetIndex: 0, number: 1), count: 1))
        #expect(
            try refused(create, at: 16, 1025)
                == .badLength(field: "objects", value: 1025, limit: 1024))
        let cancel = RequestBody.cancel(.cancel(cookie: 1))
        #expect(
            try refused(cancel, at: 4, 501)
                == .badLength(field: "lock_count", value: 501, limit: 500))
        #expect(try refused(cancel, at: 4, 500) == .truncated(need: 4088, have: 104))
        let read = RequestBody.objectRead(
            ObjectReadRequest(
                object: ObjectName(targetIndex: 0, number: 1), offset: 0, byteCount: 1))
        #expect(
            try refused(read, at: 24, 1_048_577)
                == .badLength(field: "read", value: 1_048_577, limit: 1_048_576))
    }

    @Test func `offsets and sizes beyond what a file can have are refused`() {
        let object = ObjectName(targetIndex: 0, number: 1)
        let past: [RequestBody] = [
            .objectRead(ObjectReadRequest(object: object, offset: 1 << 63, byteCount: 0)),
            .objectRead(ObjectReadRequest(object: object, offset: 1 << 63 - 1, byteCount: 1)),
            .objectWrite(
                ObjectWriteRequest(object: object, offset: .max, time: .zero, data: [1])),
            .objectPunch(ObjectPunchRequest(object: object, size: 1 << 63, time: .zero)),
        ]
        for request in past {
            for version in Self.versions {
                #expect(throws: WireError.self) {
                    try decodedRequest(encodedRequest(request, version), version)
                }
            }
        }
        #expect(throws: WireError.self) {
            let reply = ReplyBody.objectAttributes(ObjectAttributes(size: .max, modified: .zero))
            _ = try decodedReply(encodedReply(reply, to: .objectGetattr, .v2), .v2)
        }
    }

    @Test func `bits that our own layouts reserve are refused`() throws {
        func isRefused(_ bytes: [UInt8], at place: Int, reply: Bool) -> Bool {
            var wrong = bytes
            wrong[place] |= 0x80
            return reply
                ? (try? decodedReply(wrong, .v2)) == nil : (try? decodedRequest(wrong, .v2)) == nil
        }
        let replay = encodedRequest(
            .openReplay(OpenReplayRequest(file: .root, handle: 1, flags: .read)), .v2)
        #expect(isRefused(replay, at: 224 + 24, reply: false), "open flags")
        #expect(isRefused(replay, at: 224 + 28, reply: false), "padding")
        let readdir = encodedReply(
            .readdir(ReaddirReply(entries: [], isEnd: true)), to: .readdir, .v2)
        #expect(isRefused(readdir, at: 224 + 4, reply: true), "end of directory")
        let audit = encodedReply(.audit(AuditReadReply(rows: [], isEnd: true)), to: .auditRead, .v2)
        #expect(isRefused(audit, at: 224 + 4, reply: true), "end of audit")
        let notice = encodedReply(
            .receipt(
                UpgradeReceipt(
                    epoch: .none, lastXID: .zero, lastTransno: .zero, openCount: 0,
                    flushedBytes: 0)), to: .ldlmBlockingAST, .v2)
        #expect(isRefused(notice, at: 224 + 63, reply: true), "end of a receipt")
    }

    @Test func `a uuid without its NUL is refused`() {
        let connect = ConnectRequest(
            targetName: String(repeating: "t", count: 39), clientUUID: "c", clientHandle: 1,
            versions: .v1 ... .v2, features: [])
        var bytes = encodedRequest(.connect(connect, .mds), .v2)
        // Container of six buffers: 56 bytes; then the header, then 40 bytes of target name.
        let last = 56 + 184 + 39
        #expect(bytes[last - 1] == 0x74 && bytes[last] == 0)
        bytes[last] = 0x74
        #expect(throws: WireError.badLength(field: "uuid", value: 40, limit: 39)) {
            try decodedRequest(bytes, .v2)
        }
    }
}
