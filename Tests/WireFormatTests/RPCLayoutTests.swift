import Primitives
import Testing
import WireFormat

/// Every offset, size and number of the RPC layer, written out: a change of any of them breaks
/// peers, and must break a test first.
@Suite struct RPCLayoutTests {
    private func u16(_ bytes: [UInt8], _ offset: Int) -> UInt16 {
        RawSpan.over(bytes) { $0.littleEndian(at: offset) }
    }
    private func u32(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        RawSpan.over(bytes) { $0.littleEndian(at: offset) }
    }
    private func u64(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
        RawSpan.over(bytes) { $0.littleEndian(at: offset) }
    }

    @Test func `lustre_msg_v2 has its fields at Lustre's offsets`() throws {
        var writer = WireWriter()
        // A message need not begin where the writer's bytes begin.
        writer.zeros(8)
        var encoder = LustreMessageEncoder(bufferCount: 3, replySize: 0x1234, into: &writer)
        encoder.buffer(into: &writer) { $0.u8(0xAA) }
        encoder.buffer(into: &writer) { _ in }
        encoder.buffer(into: &writer) { $0.u64(0xBB) }
        let bytes = Array(writer.bytes.dropFirst(8))
        #expect(u32(bytes, 0) == 3)
        #expect(u32(bytes, 4) == 0)
        #expect(u32(bytes, 8) == 0x0BD0_0BD3)
        #expect(u32(bytes, 12) == 0x1234)
        #expect(bytes[16..<32].allSatisfy { $0 == 0 })
        #expect(u32(bytes, 32) == 1)
        #expect(u32(bytes, 36) == 0)
        #expect(u32(bytes, 40) == 8)
        #expect(u32(bytes, 44) == 0, "the lengths end at a multiple of 8")
        #expect(bytes[48] == 0xAA)
        #expect(bytes[49..<56].allSatisfy { $0 == 0 }, "a buffer ends at a multiple of 8")
        #expect(bytes[56] == 0xBB)
        #expect(bytes.count == 64)
        #expect(LustreMessage.magic == 0x0BD0_0BD3)
        #expect((1...4).map { LustreMessage.headerSize(bufferCount: $0) } == [40, 40, 48, 48])
        #expect(LustreMessage.bufferCountMax == 12)

        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) in
            let message = try LustreMessage(parsing: span)
            #expect(message.bufferCount == 3)
            #expect((0..<5).map { message.length($0) } == [1, 0, 8, 0, 0])
            var last = try message.reader(2, in: span)
            let value = try last.u64()
            #expect(value == 0xBB)
        }
    }

    @Test func `ptlrpc_body v3 has its fields at Lustre's offsets`() throws {
        var body = PtlRPCBody()
        body.handle = 0x0101_0101_0101_0101
        body.type = .reply
        body.opcode = .mdsConnect
        body.status = .noEntry
        body.lastXID = XID(rawValue: 0x0202_0202_0202_0202)
        body.tag = 0x0303
        body.lastCommitted = Transno(rawValue: 0x0404_0404_0404_0404)
        body.transno = Transno(rawValue: 0x0505_0505_0505_0505)
        body.flags = MessageFlags(rawValue: 0x0606_0606)
        body.operationFlags = ConnectFlags(rawValue: 0x0707_0707)
        body.connectionCount = 0x0808_0808
        body.timeoutSeconds = 0x0909_0909
        body.serviceSeconds = 0x0A0A_0A0A
        body.lockLimit = 0x0B0B_0B0B
        body.lockVolume = 0x0C0C_0C0C_0C0C_0C0C
        for index in 0..<4 { body.preVersions[index] = UInt64(0xD0 + index) }
        body.matchBits = 0x0E0E_0E0E_0E0E_0E0E
        var writer = WireWriter()
        body.encode(into: &writer)
        let bytes = writer.bytes
        #expect(bytes.count == 184 && PtlRPCBody.encodedSize == 184)
        #expect(PtlRPCBody.encodedSizeMin == 152)
        #expect(u64(bytes, 0) == body.handle)
        #expect(u32(bytes, 8) == 4713)
        #expect(u32(bytes, 12) == 0x20003)
        #expect(u32(bytes, 16) == 38)
        #expect(u32(bytes, 20) == 0xFFFF_FFFE)
        #expect(u64(bytes, 24) == 0x0202_0202_0202_0202)
        #expect(u16(bytes, 32) == 0x0303)
        #expect(bytes[34..<40].allSatisfy { $0 == 0 })
        #expect(u64(bytes, 40) == 0x0404_0404_0404_0404)
        #expect(u64(bytes, 48) == 0x0505_0505_0505_0505)
        #expect(u32(bytes, 56) == 0x0606_0606)
        #expect(u32(bytes, 60) == 0x0707_0707)
        #expect(u32(bytes, 64) == 0x0808_0808)
        #expect(u32(bytes, 68) == 0x0909_0909)
        #expect(u32(bytes, 72) == 0x0A0A_0A0A)
        #expect(u32(bytes, 76) == 0x0B0B_0B0B)
        #expect(u64(bytes, 80) == 0x0C0C_0C0C_0C0C_0C0C)
        #expect((0..<4).map { u64(bytes, 88 + 8 * $0) } == [0xD0, 0xD1, 0xD2, 0xD3])
        #expect(u64(bytes, 120) == 0x0E0E_0E0E_0E0E_0E0E)
        #expect(bytes[128..<184].allSatisfy { $0 == 0 })

        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) in
            var reader = WireReader(span)
            let read = try PtlRPCBody(from: &reader)
            #expect(read == body)
        }
        // v2 of the body ends before the job id; paddings of a newer peer are its own affair.
        var short = Array(bytes.prefix(152))
        for index in 128..<152 { short[index] = 0xFF }
        try RawSpan.over(short) { (span: RawSpan) throws(WireError) in
            var reader = WireReader(span)
            let read = try PtlRPCBody(from: &reader)
            #expect(read == body)
        }
    }

    @Test func `a header that is short, of another version or of no known type is refused`() {
        var writer = WireWriter()
        PtlRPCBody().encode(into: &writer)
        func refusal(_ change: (inout [UInt8]) -> Void) -> WireError? {
            var bytes = writer.bytes
            change(&bytes)
            do {
                try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) in
                    var reader = WireReader(span)
                    _ = try PtlRPCBody(from: &reader)
                }
                return nil
            } catch {
                return error
            }
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0.removeLast(33) } == .truncated(need: 152, have: 151))
        #expect(refusal { $0[12] = 2 } == .badVersion(0x10002))
        #expect(refusal { $0[8] = 0x6A } == .badValue(field: "pb_type", value: 4714))
    }

    @Test func `obd_connect_data has its fields at Lustre's offsets`() throws {
        var data = ObdConnectData()
        data.flags = 0x0101_0101_0101_0101
        data.version = 0x0202_0202
        data.index = 0x0303_0303
        data.bulkSize = 0x0404_0404
        data.transno = 0x0505_0505_0505_0505
        data.instance = 0x0606_0606
        data.modifyingRequestsMax = 0x0707
        data.flags2 = 0x0808_0808_0808_0808
        var writer = WireWriter()
        data.encode(into: &writer)
        let bytes = writer.bytes
        #expect(bytes.count == 192 && ObdConnectData.encodedSize == 192)
        #expect(u64(bytes, 0) == 0x0101_0101_0101_0101)
        #expect(u32(bytes, 8) == 0x0202_0202)
        #expect(u32(bytes, 16) == 0x0303_0303)
        #expect(u32(bytes, 20) == 0x0404_0404)
        #expect(u64(bytes, 40) == 0x0505_0505_0505_0505)
        #expect(u32(bytes, 60) == 0x0606_0606)
        #expect(u16(bytes, 72) == 0x0707)
        #expect(u64(bytes, 80) == 0x0808_0808_0808_0808)
        #expect(bytes[88...].allSatisfy { $0 == 0 })
        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) in
            var reader = WireReader(span)
            let read = try ObdConnectData(from: &reader)
            #expect(read == data)
        }
    }
}
