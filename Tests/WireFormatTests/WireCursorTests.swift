import Primitives
import Testing
import WireFormat

@Suite struct WireCursorTests {
    /// What reading past the end of five bytes says.
    private func refusal(
        _ read: (inout WireReader) throws(WireError) -> Void
    ) -> WireError? {
        do {
            try RawSpan.over([1, 2, 3, 4, 5]) { (span: RawSpan) throws(WireError) in
                var reader = WireReader(span)
                _ = try reader.u8()
                try read(&reader)
            }
            return nil
        } catch {
            return error
        }
    }

    @Test func `no read goes past the end, whatever is asked for`() {
        #expect(refusal { (r) throws(WireError) in _ = try r.u32() } == nil)
        #expect(
            refusal { (r) throws(WireError) in _ = try r.u64() } == .truncated(need: 9, have: 5))
        #expect(refusal { (r) throws(WireError) in try r.skip(4) } == nil)
        #expect(refusal { (r) throws(WireError) in try r.skip(5) } == .truncated(need: 6, have: 5))
        #expect(refusal { (r) throws(WireError) in try r.skip(-1) } == .truncated(need: 1, have: 5))
        #expect(
            refusal { (r) throws(WireError) in _ = try r.bytes(5) } == .truncated(need: 6, have: 5))
        #expect(
            refusal { (r) throws(WireError) in _ = try r.bytes(-7) }
                == .truncated(need: 1, have: 5))
        #expect(
            refusal { (r) throws(WireError) in _ = try r.view(5) } == .truncated(need: 6, have: 5))
        #expect(
            refusal { (r) throws(WireError) in _ = try r.view(-1) } == .truncated(need: 1, have: 5))
        #expect(refusal { (r) throws(WireError) in try r.reserved(1) } == .reservedBitsSet(2))
    }

    @Test func `what was not read stays to be read`() throws {
        try RawSpan.over([1, 2, 3]) { (span: RawSpan) throws(WireError) in
            var reader = WireReader(span)
            #expect((try? reader.u32()) == nil)
            #expect(reader.offset == 0 && reader.remaining == 3)
            let all = try reader.bytes(3)
            #expect(all == [1, 2, 3] && reader.remaining == 0)
            let none = try reader.bytes(0)
            #expect(none.isEmpty)
        }
    }

    @Test func `numbers are written with the lowest byte first`() {
        var writer = WireWriter()
        writer.u8(1)
        writer.u16(0x0302)
        writer.u32(0x0706_0504)
        writer.u64(0x0F0E_0D0C_0B0A_0908)
        writer.write(-1 as Int16)
        #expect(writer.bytes == Array(1...15) + [255, 255])
    }

    @Test func `padding counts from where the message began`() {
        var writer = WireWriter()
        writer.zeros(3)
        writer.u8(9)
        writer.pad(to: 8, from: 3)
        #expect(writer.count == 11)
        writer.pad(to: 8, from: 3)
        #expect(writer.count == 11, "what is aligned already needs none")
        writer.patch(0x0807 as UInt16, at: 4)
        #expect(writer.bytes == [0, 0, 0, 9, 7, 8, 0, 0, 0, 0, 0])
        writer.removeAll()
        #expect(writer.count == 0)
    }
}
