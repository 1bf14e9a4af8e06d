import TestSupport
import Testing
import WireFormat

/// Bytes of every released version, as its first build wrote them. They must parse for ever, and
/// this build must write the same. A message that changes gets a new version, not new bytes here.
@Suite struct GoldenTests {
    @Test func `requests are written and read as on the day of their release`() throws {
        for (name, body) in GoldenMessages.requests {
            let golden = try #require(GoldenBytes.requests[name], "no bytes for \(name)")
            for (version, text) in golden.texts {
                let bytes = CompactHex.bytes(text)
                let written = encodedRequest(body, version)
                #expect(written == bytes, "\(name) \(version): \(CompactHex.text(written))")
                let read = try decodedRequest(bytes, version).withoutChecksums
                #expect(
                    read.withoutBulk == body.inVersion(version).withoutBulk)
            }
        }
        #expect(GoldenBytes.requests.count == GoldenMessages.requests.count)
        #expect(Set(GoldenMessages.requests.map(\.body.opcode)).count == 38)
    }

    @Test func `replies are written and read as on the day of their release`() throws {
        for (name, opcode, body) in GoldenMessages.replies {
            let golden = try #require(GoldenBytes.replies[name], "no bytes for \(name)")
            for (version, text) in golden.texts {
                let bytes = CompactHex.bytes(text)
                let written = encodedReply(body, to: opcode, version)
                #expect(written == bytes, "\(name) \(version): \(CompactHex.text(written))")
                let read = try decodedReply(bytes, version).body.withoutChecksums
                #expect(
                    read.withoutBulk == body.inVersion(version).withoutBulk)
            }
        }
        #expect(GoldenBytes.replies.count == GoldenMessages.replies.count)
    }

    @Test func `a reply saved by version 2's first build is restored`() throws {
        let saved = try #require(GoldenBytes.replies["open"]).v2
        let restored = try ReplyBody.restored(CompactHex.bytes(saved))
        let open = try #require(GoldenMessages.replies.first { $0.name == "open" })
        #expect(restored.opcode == .open && restored.body == open.body.inVersion2)
        #expect(open.body.saved(as: .open, status: .ok) == CompactHex.bytes(saved))
    }
}

extension GoldenBytes {
    fileprivate var texts: [(ProtocolVersion, String)] { [(.v1, v1), (.v2, v2), (.v3, v3)] }
}

extension RequestBody {
    /// Without the data that does not travel in the message.
    fileprivate var withoutBulk: RequestBody {
        guard case .objectWrite(var body) = self, body.byteCount > ObjectWriteRequest.inlineMax
        else { return self }
        body.data = []
        return .objectWrite(body)
    }
}

extension ReplyBody {
    /// Without the data that does not travel in the message.
    fileprivate var withoutBulk: ReplyBody {
        guard case .read(var body) = self, body.travelsByBulk else { return self }
        body.data = []
        return .read(body)
    }
}
