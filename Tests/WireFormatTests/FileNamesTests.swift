import Primitives
import TestSupport
import Testing
import WireFormat

/// What files, objects, times and names are called in each version.
@Suite struct FileNamesTests {
    private func bytes(_ write: (inout WireWriter) -> Void) -> [UInt8] {
        var writer = WireWriter()
        write(&writer)
        return writer.bytes
    }

    private func fileID(_ bytes: [UInt8], _ version: ProtocolVersion) throws(WireError) -> FileID {
        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> FileID in
            var reader = WireReader(span)
            return try FileID(from: &reader, version)
        }
    }

    @Test func `file ids keep their golden bytes in both versions`() throws {
        let golden: [(FileID, v1: String, v2: String)] = [
            (.none, "(16)", "(16)"),
            (.root, "01000000 07000000 45c8919e (4)", "07000000 02000000 01000000 (4)"),
            (
                FileID(sequence: 0x2_0000_0400, objectNumber: 1),
                "01000000 00040000 3b0e6486 (4)", "00040000 02000000 01000000 (4)"
            ),
            (
                FileID(sequence: 0x2_0010_0400, objectNumber: .max),
                "ffffffff 00041000 09e48f99 (4)", "00041000 02000000 ffffffff (4)"
            ),
        ]
        for (file, v1, v2) in golden {
            #expect(bytes { file.encode(into: &$0, .v1) } == CompactHex.bytes(v1))
            #expect(bytes { file.encode(into: &$0, .v2) } == CompactHex.bytes(v2))
            #expect(try fileID(CompactHex.bytes(v1), .v1) == file)
            #expect(try fileID(CompactHex.bytes(v2), .v2) == file)
        }
        #expect(FileID.root.description == "[0x200000007:0x1:0x0]")
        #expect(FileID.encodedSize == 16)
    }

    @Test func `version 1 gives every id that a server allocates a name of its own`() throws {
        var random = SplitMix64(seed: 11)
        var inodes: [UInt64: FileID] = [:]
        for round in 0..<3_000 {
            // Neighbours as well as distant ones.
            let file = FileID(
                sequence: FileID.sequenceBase + 0x400 + UInt64(round % 64) << 20
                    + (round < 1_500 ? 0 : UInt64(random.below(1 << 20))),
                objectNumber: round < 1_500
                    ? UInt32(round / 64) : UInt32(truncatingIfNeeded: random.next()))
            let encoded = bytes { file.encode(into: &$0, .v1) }
            #expect(try fileID(encoded, .v1) == file)
            let inode = RawSpan.over(encoded) { $0.littleEndian(at: 0, as: UInt64.self) }
            #expect(inodes[inode] == nil || inodes[inode] == file)
            inodes[inode] = file
        }
    }

    @Test func `a wrong generation is refused, whichever bit is wrong`() {
        let encoded = bytes { FileID.root.encode(into: &$0, .v1) }
        for bit in 0..<32 {
            var wrong = encoded
            wrong[8 + bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: WireError.self) { try fileID(wrong, .v1) }
        }
        for bit in 0..<64 {
            var wrong = encoded
            wrong[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: WireError.self, "another inode under this generation") {
                try fileID(wrong, .v1)
            }
        }
    }

    @Test func `version 1 refuses what it reserves, also behind the name of no file`() {
        #expect(throws: WireError.reservedBitsSet(1)) {
            try fileID([UInt8](repeating: 0, count: 12) + [1, 0, 0, 0], .v1)
        }
        var root = bytes { FileID.root.encode(into: &$0, .v1) }
        root[15] = 0x80
        #expect(throws: WireError.reservedBitsSet(0x8000_0000)) { try fileID(root, .v1) }
    }

    @Test func `an id beyond version 1's numbers is refused by the one who reads it`() {
        let beyond = FileID(sequence: FileID.sequenceBase + 1 << 32, objectNumber: 5)
        #expect(throws: WireError.self) {
            try fileID(bytes { beyond.encode(into: &$0, .v1) }, .v1)
        }
    }

    @Test func `the name of a file in one version never means that file in the other`() {
        var messages = RandomMessages(seed: 3)
        for _ in 0..<1_000 {
            let file = messages.fileID()
            if file == .none { continue }
            let first = bytes { file.encode(into: &$0, .v1) }
            #expect((try? fileID(first, .v2)) != file)
            let second = bytes { file.encode(into: &$0, .v2) }
            #expect((try? fileID(second, .v1)) == nil)
        }
    }

    @Test func `objects are named number first in version 1, sequence first in version 2`() throws {
        let object = ObjectName(targetIndex: 3, number: 0x1122)
        #expect(object.sequence == 0x1_0001_0003)
        let v1 = bytes { object.encode(into: &$0, .v1) }
        let v2 = bytes { object.encode(into: &$0, .v2) }
        #expect(v1 == CompactHex.bytes("2211(6) 03000100 01000000"))
        #expect(v2 == CompactHex.bytes("03000100 01000000 2211(6)"))
        for (version, encoded) in [(ProtocolVersion.v1, v1), (.v2, v2)] {
            try RawSpan.over(encoded) { (span: RawSpan) throws(WireError) in
                var reader = WireReader(span)
                let read = try ObjectName(from: &reader, version)
                #expect(read == object)
            }
        }
        #expect(object.description == "0x100010003:0x1122")
    }

    @Test func `times carry whole seconds in version 1 and nanoseconds in version 2`() throws {
        let time = Timestamp(seconds: -2, nanoseconds: 999_999_999)
        let v1 = bytes { time.encode(into: &$0, .v1) }
        let v2 = bytes { time.encode(into: &$0, .v2) }
        #expect(v1 == CompactHex.bytes("feffffff ffffffff"))
        #expect(v2 == CompactHex.bytes("feffffff ffffffff ffc99a3b"))
        try RawSpan.over(v1) { (span: RawSpan) throws(WireError) in
            var reader = WireReader(span)
            let read = try Timestamp(from: &reader, .v1)
            #expect(read == Timestamp(seconds: -2))
        }
        try RawSpan.over(v2) { (span: RawSpan) throws(WireError) in
            var reader = WireReader(span)
            let read = try Timestamp(from: &reader, .v2)
            #expect(read == time)
        }
        let second = CompactHex.bytes("(8) 00ca9a3b")
        #expect(throws: WireError.badValue(field: "nanoseconds", value: 1_000_000_000)) {
            try RawSpan.over(second) { (span: RawSpan) throws(WireError) in
                var reader = WireReader(span)
                _ = try Timestamp(from: &reader, .v2)
            }
        }
        #expect(Timestamp(seconds: 1) < Timestamp(seconds: 1, nanoseconds: 1))
    }
}

@Suite struct FileNameTests {
    private func decoded(_ bytes: [UInt8]) throws(WireError) -> FileName {
        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> FileName in
            var reader = WireReader(span)
            return try FileName(from: &reader)
        }
    }

    @Test(arguments: ["", ".", "..", "a/b", "/", "a\0", "\0"])
    func `some texts are no names`(text: String) { #expect(FileName(text) == nil) }

    @Test(arguments: ["a", "...", " ", "-", "a.b", ".a", "水", "a\nb", "\u{7F}"])
    func `others are`(text: String) throws {
        let name = try #require(FileName(text))
        var writer = WireWriter()
        name.encode(into: &writer)
        #expect(writer.bytes == [UInt8(text.utf8.count), 0] + Array(text.utf8))
        #expect(try decoded(writer.bytes) == name)
    }

    @Test func `255 bytes are a name, 256 are not`() {
        let longest = String(repeating: "x", count: 255)
        #expect(FileName(longest) != nil)
        #expect(FileName(longest + "x") == nil)
        // Bytes count, not letters.
        #expect(FileName(String(repeating: "é", count: 128)) == nil)
        #expect(throws: WireError.badLength(field: "name", value: 256, limit: 255)) {
            try decoded([0, 1] + [UInt8](repeating: 0x78, count: 256))
        }
    }

    @Test func `bytes that are no name are refused`() {
        #expect(throws: WireError.badValue(field: "name", value: 0)) { try decoded([0, 0]) }
        #expect(throws: WireError.badValue(field: "name", value: 1)) { try decoded([1, 0, 0x2E]) }
        #expect(throws: WireError.badValue(field: "name", value: 1)) { try decoded([1, 0, 0x2F]) }
        #expect(throws: WireError.badValue(field: "name", value: 2)) {
            try decoded([2, 0, 0xC3, 0x28])
        }
        #expect(throws: WireError.badValue(field: "name", value: 2), "NUL, spelt too long") {
            try decoded([2, 0, 0xC0, 0x80])
        }
        #expect(throws: WireError.truncated(need: 5, have: 4)) { try decoded([3, 0, 0x61, 0x62]) }
    }

    @Test func `two spellings of one letter are two names`() throws {
        let composed = try #require(FileName("\u{E9}"))
        let decomposed = try #require(FileName("e\u{301}"))
        #expect(composed.text == decomposed.text, "Swift's strings are equal")
        #expect(composed != decomposed)
        #expect(Set([composed, decomposed]).count == 2)
        #expect(try #require(FileName("\u{E9}")) == composed)
    }
}
