import Primitives
import TestSupport
import Testing
import WireFormat

@Suite struct RoundTripTests {
    static let seeds: Range<UInt64> = 0..<6

    @Test(arguments: 0..<RandomMessages.requestKindCount)
    func `every request says in version 3 all that it says, in version 2 all but what is newer`(
        kind: Int
    ) throws {
        for seed in Self.seeds {
            var messages = RandomMessages(seed: seed << 8 | UInt64(kind))
            for _ in 0..<8 {
                let request = messages.request(kind: kind)
                for version in [ProtocolVersion.v2, .v3] {
                    let read = try decodedRequest(encodedRequest(request, version), version)
                    #expect(
                        read.withoutChecksums == request.inVersion(version).withoutChecksums)
                }
            }
        }
    }

    @Test(arguments: 0..<RandomMessages.requestKindCount)
    func `a request loses in version 1 what version 1 cannot say, and nothing else`(
        kind: Int
    ) throws {
        for seed in Self.seeds {
            var messages = RandomMessages(seed: seed << 8 | UInt64(kind))
            for _ in 0..<8 {
                let request = messages.request(kind: kind)
                let read = try decodedRequest(encodedRequest(request, .v1), .v1)
                #expect(read == request.inVersion1)
                // What came through version 1 once comes through it again unchanged.
                #expect(try decodedRequest(encodedRequest(read, .v1), .v1) == read)
            }
        }
    }

    @Test(arguments: 0..<RandomMessages.replyKindCount)
    func `every reply says in version 3 all that it says, in version 2 all but what is newer`(
        kind: Int
    ) throws {
        for seed in Self.seeds {
            var messages = RandomMessages(seed: seed << 8 | UInt64(kind))
            for _ in 0..<8 {
                let (opcode, reply) = messages.reply(kind: kind)
                for version in [ProtocolVersion.v2, .v3] {
                    let read = try decodedReply(
                        encodedReply(reply, to: opcode, version), version)
                    #expect(
                        read.body.withoutChecksums == reply.inVersion(version).withoutChecksums)
                    #expect(read.opcode == opcode && read.status == .ok && read.trailer == nil)
                }
            }
        }
    }

    @Test(arguments: 0..<RandomMessages.replyKindCount)
    func `a reply loses in version 1 what version 1 cannot say, and nothing else`(
        kind: Int
    ) throws {
        for seed in Self.seeds {
            var messages = RandomMessages(seed: seed << 8 | UInt64(kind))
            for _ in 0..<8 {
                let (opcode, reply) = messages.reply(kind: kind)
                let read = try decodedReply(encodedReply(reply, to: opcode, .v1), .v1)
                #expect(read.body == reply.inVersion1)
            }
        }
    }

    @Test func `the kinds of the generator are all cases there are`() {
        var messages = RandomMessages(seed: 1)
        var opcodes: Set<Opcode> = []
        for kind in 0..<RandomMessages.requestKindCount {
            for _ in 0..<20 { opcodes.insert(messages.request(kind: kind).opcode) }
        }
        // 38 cases; connect, disconnect, statfs and sync have an opcode for each kind of target.
        #expect(opcodes.count == 42)
    }

    @Test(arguments: 0..<RandomMessages.requestKindCount)
    func `bytes of one version never read as the same request in the other`(kind: Int) throws {
        var messages = RandomMessages(seed: UInt64(kind))
        messages.namesNoFile = false
        for _ in 0..<40 {
            let request = messages.request(kind: kind)
            let v1 = encodedRequest(request, .v1)
            let v2 = encodedRequest(request, .v2)
            if v1 == v2 { continue }
            if let crossed = try? decodedRequest(v1, .v2) {
                #expect(crossed.withoutChecksums != request.inVersion2)
            }
            if let crossed = try? decodedRequest(v2, .v1) { #expect(crossed != request.inVersion1) }
            let v3 = encodedRequest(request, .v3)
            if v3 != v2, let crossed = try? decodedRequest(v2, .v3) {
                #expect(crossed.withoutChecksums != request)
            }
        }
    }

    @Test func `a version 1 FID has no version part`() throws {
        let file = FileID(sequence: FileID.sequenceBase + 0x400, objectNumber: 9, version: 3)
        let read = try decodedRequest(encodedRequest(.getattr(file), .v1), .v1)
        #expect(
            read == .getattr(FileID(sequence: FileID.sequenceBase + 0x400, objectNumber: 9)))
        #expect(try decodedRequest(encodedRequest(.getattr(file), .v2), .v2) == .getattr(file))
    }

    @Test func `the header is the caller's but for opcode and type`() throws {
        var header = PtlRPCBody()
        header.type = .reply
        header.opcode = .rename
        header.handle = 77
        header.tag = 3
        let bytes = encodedRequest(.ping, .v2, header: header)
        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) in
            let message = try LustreMessage(parsing: span)
            var reader = try message.reader(0, in: span)
            let read = try PtlRPCBody(from: &reader)
            header.type = .request
            header.opcode = .ping
            #expect(read == header)
        }
    }

    @Test func `a message may begin anywhere in a writer that is used again`() throws {
        var writer = WireWriter()
        var messages = RandomMessages(seed: 12)
        for kind in 0..<RandomMessages.requestKindCount {
            let request = messages.request(kind: kind)
            writer.removeAll()
            writer.zeros(8)
            request.encode(header: PtlRPCBody(), version: .v2, into: &writer)
            #expect(Array(writer.bytes.dropFirst(8)) == encodedRequest(request, .v2))
        }
    }

    @Test func `a long name of a target or client is cut at a whole letter`() throws {
        let long = String(repeating: "x", count: 38) + "é"
        let connect = ConnectRequest(
            targetName: long, clientUUID: long + long, clientHandle: 1, versions: .v1 ... .v2,
            features: [])
        guard
            case .connect(let read, .mds) = try decodedRequest(
                encodedRequest(.connect(connect, .mds), .v2), .v2)
        else {
            Issue.record("another request")
            return
        }
        #expect(read.targetName == String(repeating: "x", count: 38))
        #expect(read.clientUUID == String(repeating: "x", count: 38))
    }
}
