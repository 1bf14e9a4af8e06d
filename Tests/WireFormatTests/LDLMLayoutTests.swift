import Testing
import WireFormat

/// Offsets and sizes with literal numbers: struct ldlm_* and ost_lvb of lustre_idl.h.
@Suite struct LDLMLayoutTests {
    private func encoded(_ body: (inout WireWriter) -> Void) -> [UInt8] {
        var writer = WireWriter()
        body(&writer)
        return writer.bytes
    }

    private func u32(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        RawSpan.over(bytes) { $0.littleEndian(at: offset) }
    }

    private func u64(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
        RawSpan.over(bytes) { $0.littleEndian(at: offset) }
    }

    private static let descriptor = LockDescriptor(
        resource: ResourceID(0x11, 0x22, 0x33, 0x44), requestedMode: .pw, grantedMode: .pr,
        policy: .extent(Extent(start: 0x1000, end: 0x1FFF), group: 7))

    @Test func `a value block that could not be read says so in its blocks, as Lustre's does`() {
        #expect(OSTLVB(error: .ioError).blocks == 0xFFBA_DBAD_7FFF_FFFB)
        #expect(OSTLVB(error: .ioError).error == .ioError)
        #expect(OSTLVB().error == nil)
        var full = OSTLVB()
        full.blocks = .max >> 9
        #expect(full.error == nil)
        // Nonsense in its place is still no value.
        full.blocks = 0xFFBA_DBAD_FFFF_FFFF
        #expect(full.error == .ioError)
    }

    @Test func `mode, type and flag values are Lustre's`() {
        #expect(LockMode.allCases.map(\.rawValue) == [1, 2, 4, 8, 16, 32, 64, 128, 256])
        #expect(LockMode.allCases.map(\.ordinal) == [0, 1, 2, 3, 4, 5, 6, 7, 8])
        #expect(LockType.plain.rawValue == 10)
        #expect(LockType.extent.rawValue == 11)
        #expect(LockType.flock.rawValue == 12)
        #expect(LockType.inodeBits.rawValue == 13)
        #expect(LockFlags.lockChanged.rawValue == 0x1)
        #expect(LockFlags.blockGranted.rawValue == 0x2)
        #expect(LockFlags.blockWait.rawValue == 0x8)
        #expect(LockFlags.speculative.rawValue == 0x10)
        #expect(LockFlags.astSent.rawValue == 0x20)
        #expect(LockFlags.replay.rawValue == 0x100)
        #expect(LockFlags.intentOnly.rawValue == 0x200)
        #expect(LockFlags.hasIntent.rawValue == 0x1000)
        #expect(LockFlags.flockDeadlock.rawValue == 0x8000)
        #expect(LockFlags.discardData.rawValue == 0x10000)
        #expect(LockFlags.noTimeout.rawValue == 0x20000)
        #expect(LockFlags.blockNoWait.rawValue == 0x40000)
        #expect(LockFlags.testLock.rawValue == 0x80000)
        #expect(LockFlags.cancelOnBlock.rawValue == 0x800000)
        #expect(LockFlags.noExpansion.rawValue == 0x2000_0000)
        #expect(LockFlags.denyOnContention.rawValue == 0x4000_0000)
        #expect(LockFlags.astDiscardData.rawValue == 0x8000_0000)
        #expect(LockFlags.allowedInEnqueue.rawValue == 0xE08C_131A)
        #expect(LockFlags.allowedInCallback.rawValue == 0x1_8020)
    }

    /// Rows held, columns asked, both EX PW PR CW CR NL GROUP COS TXN.
    @Test func `the compatibility matrix is Lustre's`() {
        let matrix = [
            "000001000",
            "000011000",
            "001011001",
            "000111000",
            "011111001",
            "111111111",
            "000001100",
            "000001010",
            "001011001",
        ]
        for held in LockMode.allCases {
            let row = Array(matrix[held.ordinal].utf8)
            for asked in LockMode.allCases {
                let expected = row[asked.ordinal] == 49
                #expect(held.isCompatible(with: asked) == expected, "\(held) \(asked)")
                #expect(asked.isCompatible(with: held) == expected, "the matrix is symmetric")
            }
        }
    }

    @Test func `a mode covers another only if it excludes all that the other excludes`() {
        for mode in LockMode.allCases {
            #expect(mode.covers(mode))
            for other in LockMode.allCases where mode.covers(other) {
                #expect(mode.compatibleMask & ~other.compatibleMask == 0, "\(mode) \(other)")
            }
        }
        #expect(!LockMode.pr.covers(.cw))
        #expect(!LockMode.cw.covers(.pr))
        #expect(LockMode.ex.covers(.pr))
        #expect(!LockMode.ex.covers(.group))
    }

    @Test func `a lock descriptor is 80 bytes`() throws {
        let bytes = encoded { Self.descriptor.encode(into: &$0) }
        #expect(bytes.count == 80)
        #expect(u32(bytes, 0) == 11)
        #expect(u32(bytes, 4) == 0)
        #expect([8, 16, 24, 32].map { u64(bytes, $0) } == [0x11, 0x22, 0x33, 0x44])
        #expect(u32(bytes, 40) == 2)
        #expect(u32(bytes, 44) == 4)
        #expect(u64(bytes, 48) == 0x1000)
        #expect(u64(bytes, 56) == 0x1FFF)
        #expect(u64(bytes, 64) == 7)
        #expect(u64(bytes, 72) == 0)
    }

    @Test func `policies keep what they say`() throws {
        let policies: [LockPolicy] = [
            .plain, .extent(.whole, group: 3), .flock(.whole, owner: 9, pid: 8),
            .inodeBits(0x15, other: 0x40, group: 2, initiator: 6),
        ]
        for policy in policies {
            let bytes = encoded { policy.encode(into: &$0) }
            #expect(bytes.count == 32)
            let back = try RawSpan.over(bytes) { (span) throws(WireError) in
                var reader = WireReader(span)
                return try LockPolicy.decode(from: &reader, type: policy.type)
            }
            #expect(back == policy)
        }
        #expect(u32(encoded { policies[2].encode(into: &$0) }, 28) == 8)
        #expect(u32(encoded { policies[3].encode(into: &$0) }, 28) == 6)
    }

    @Test(arguments: [0, 1, 2, 5]) func `a request is 88 bytes and 8 a handle, two at least`(
        cancelCount: Int
    ) throws {
        let cookies = (0..<cancelCount).map { UInt64(0x100 + $0) }
        let request = LDLMRequest.enqueue(
            cookie: 0xC0, flags: [.noExpansion], descriptor: Self.descriptor, cancelling: cookies)
        let bytes = encoded { request.encode(into: &$0) }
        #expect(bytes.count == [0: 104, 1: 104, 2: 112, 5: 136][cancelCount])
        #expect(bytes.count == request.encodedSize)
        #expect(u32(bytes, 0) == 0x2000_0000)
        #expect(u32(bytes, 4) == UInt32(1 + cancelCount))
        #expect(u32(bytes, 8) == 11)
        #expect(u64(bytes, 88) == 0xC0)
        #expect(u64(bytes, 96) == (cookies.first ?? 0))
        let back = try decodeRequest(bytes)
        #expect(back == request)
        var seen: [UInt64] = []
        back.forEachEarlyCancel { seen.append($0) }
        #expect(seen == cookies)
        for length in 0..<bytes.count {
            #expect(throws: WireError.self) { try decodeRequest([UInt8](bytes[..<length])) }
        }
    }

    @Test func `a cancel names server cookies from the first handle on`() throws {
        for count in [1, 2, 3, 500] {
            let cookies = (0..<count).map { UInt64($0 + 1) }
            let request = LDLMRequest.cancel(cookies: cookies)
            let back = try decodeRequest(encoded { request.encode(into: &$0) })
            var seen: [UInt64] = []
            back.forEachCancel { seen.append($0) }
            #expect(seen == cookies)
        }
        let one = encoded { LDLMRequest.cancel(cookie: 5).encode(into: &$0) }
        #expect(one.count == 104)
        #expect(u64(one, 88) == 5)
        #expect(one[8..<88].allSatisfy { $0 == 0 })
    }

    @Test func `a count that the bytes do not back is refused`() {
        var bytes = encoded { LDLMRequest.cancel(cookie: 5).encode(into: &$0) }
        for value in [UInt8(3), 100, 255] {
            bytes[4] = value
            #expect(throws: WireError.self) { try decodeRequest(bytes) }
        }
        bytes[7] = 255
        #expect(throws: WireError.self) { try decodeRequest(bytes) }
    }

    @Test func `unknown types and modes are refused`() {
        let good = encoded { Self.descriptor.encode(into: &$0) }
        for (offset, value) in [(0, UInt8(14)), (0, 1), (40, 3), (45, 2)] {
            var bytes = good
            bytes[offset] = value
            #expect(throws: WireError.self) {
                try RawSpan.over(bytes) { (span) throws(WireError) in
                    var reader = WireReader(span)
                    _ = try LockDescriptor.decode(from: &reader)
                }
            }
        }
    }

    @Test func `a reply is 112 bytes`() throws {
        let reply = LDLMReply(
            flags: .blockGranted, descriptor: Self.descriptor, serverCookie: 0x5E,
            policyResult1: 0xA1, policyResult2: 0xA2)
        let bytes = encoded { reply.encode(into: &$0) }
        #expect(bytes.count == 112)
        #expect(u32(bytes, 0) == 2)
        #expect(u32(bytes, 8) == 11)
        #expect(u64(bytes, 88) == 0x5E)
        #expect(u64(bytes, 96) == 0xA1)
        #expect(u64(bytes, 104) == 0xA2)
        let decode = { (bytes: [UInt8]) throws(WireError) -> LDLMReply in
            try RawSpan.over(bytes) { (span) throws(WireError) in
                var reader = WireReader(span)
                return try LDLMReply.decode(from: &reader)
            }
        }
        #expect(try decode(bytes) == reply)
        for length in 0..<112 {
            #expect(throws: WireError.self) { try decode([UInt8](bytes[..<length])) }
        }
    }

    @Test func `a value block is 56 bytes`() throws {
        var lvb = OSTLVB()
        lvb.size = 1
        lvb.mtime = -2
        lvb.atime = 3
        lvb.ctime = 4
        lvb.blocks = 5
        lvb.mtimeNanoseconds = 6
        lvb.atimeNanoseconds = 7
        lvb.ctimeNanoseconds = 8
        let bytes = encoded { lvb.encode(into: &$0) }
        #expect(bytes.count == 56)
        #expect(u64(bytes, 0) == 1)
        #expect(u64(bytes, 8) == UInt64(bitPattern: -2))
        #expect([16, 24, 32].map { u64(bytes, $0) } == [3, 4, 5])
        #expect([40, 44, 48, 52].map { u32(bytes, $0) } == [6, 7, 8, 0])
        let decode = { (bytes: [UInt8]) throws(WireError) -> OSTLVB in
            try RawSpan.over(bytes) { (span) throws(WireError) in
                var reader = WireReader(span)
                return try OSTLVB.decode(from: &reader)
            }
        }
        #expect(try decode(bytes) == lvb)
        for length in 0..<56 {
            #expect(throws: WireError.self) { try decode([UInt8](bytes[..<length])) }
        }
    }

    @Test func `an admission resource has a name of its own`() {
        let id = ResourceID.admission(5)
        #expect(id == ResourceID(0, 5, 0, 0x534C_5549_4345_4144))
        #expect(id.isAdmission)
        #expect(!ResourceID(1, 5, 0, 0x534C_5549_4345_4144).isAdmission)
        #expect(!ResourceID(0).isAdmission)
    }

    private func decodeRequest(_ bytes: [UInt8]) throws(WireError) -> LDLMRequest {
        try RawSpan.over(bytes) { (span) throws(WireError) in
            var reader = WireReader(span)
            return try LDLMRequest.decode(from: &reader)
        }
    }
}
