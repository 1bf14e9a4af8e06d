@testable import MetadataCore
import Primitives
import StorageCore
import Testing
import WireFormat

@Suite struct RecordTests {
    private let file = FileID(sequence: 0x2_0000_0400, objectNumber: 0x0102, version: 3)

    @Test func `an inode is stored as it was in the release of its format`() {
        var inode = Inode.regular(
            mode: 0o644,
            layout: FileLayout(
                stripeSize: 0x10_0000,
                stripes: [.init(targetIndex: 3, object: ObjectName(targetIndex: 3, number: 9))]),
            time: Timestamp(seconds: 5, nanoseconds: 6))
        inode.version = 0x77
        let first: [UInt8] = [
            1, 1, 0, 0, 0xA4, 1, 0, 0, 1, 0, 0, 0,
            5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0,
            5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0x10, 0, 1, 0, 0, 0,
            3, 0, 0, 0, 3, 0, 1, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
        ]
        let times: [UInt8] = [
            5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0,
        ]
        let second = [2] + first[1...] + times
        let third = [3] + second[1...] + [0x77, 0, 0, 0, 0, 0, 0, 0]
        #expect(inode.encoded == third)
        #expect(Inode(decoding: third) == inode)
        // The second format has no version.
        var older = inode
        older.version = 0
        #expect(Inode(decoding: second) == older)
        // The first format does not say when a file was read and made.
        older.accessed = .zero
        older.created = .zero
        #expect(Inode(decoding: first) == older)
        for whole in [first, second, third] {
            for length in whole.indices { #expect(Inode(decoding: Array(whole[..<length])) == nil) }
        }
    }

    @Test func `a name is stored as it was in the first release`() {
        let entry = Dirent(type: .directory, file: file)
        let golden: [UInt8] = [1, 2, 0, 4, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0, 3, 0, 0, 0]
        #expect(entry.encoded == golden)
        #expect(Dirent(decoding: golden) == entry)
        for length in golden.indices { #expect(Dirent(decoding: Array(golden[..<length])) == nil) }
        let name: FileName = "ab"
        let key = Keys.entry(file, name)
        #expect(key == [0, 0, 0, 2, 0, 0, 4, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0x61, 0x62])
        #expect(Keys.name(in: key) == name)
        #expect(Keys.file(in: Keys.file(file)) == file)
    }

    @Test func `what a later format added to an inode stays`() throws {
        var bytes = Inode.directory(in: .root, mode: 0o755, time: .zero).encoded
        bytes[0] = 4
        bytes += [7, 8, 9]
        var inode = try #require(Inode(decoding: bytes))
        inode.mode = 0o700
        #expect(inode.encoded[0] == 4)
        #expect(inode.encoded.suffix(3) == [7, 8, 9])
        bytes[0] = 0
        #expect(Inode(decoding: bytes) == nil)
    }

    @Test func `reservations come back as they were, and every shorter prefix is refused`() throws {
        let reservations = (0..<3).map {
            OpenReservation(
                client: $0, file: file, handle: UInt64($0) << 32 | 7, flags: [.read, .create])
        }
        let bytes = OpenReservation.encode(reservations)
        #expect(bytes.count == 4 + 3 * 32)
        #expect(try OpenReservation.decode(bytes) == reservations)
        for length in bytes.indices where length % 32 != 4 {
            #expect(throws: WireError.self) {
                try OpenReservation.decode(Array(bytes[..<length]))
            }
        }
        for index in 0..<4 {
            var bad = bytes
            bad[index] ^= 0x80
            #expect(throws: WireError.self) { try OpenReservation.decode(bad) }
        }
    }

    @Test(arguments: UInt64(1)...8)
    func `the chained table finds what a dictionary finds`(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        var table = ChainedTable<UInt64, Int>()
        var model: [UInt64: Int] = [:]
        for step in 0..<4000 {
            let key = UInt64(generator.below(200))
            switch (table.index(of: key), generator.below(3)) {
            case (nil, 0...1):
                let index = table.insert(key, step)
                #expect(table[index] == step)
                model[key] = step
            case (let index?, 0):
                table[index] += 1
                model[key]! += 1
            case (let index?, 1):
                table.remove(at: index)
                #expect(table.element(at: index) == nil)
                model[key] = nil
            default:
                break
            }
            #expect(table.index(of: key).map { table[$0] } == model[key], "seed \(seed)")
            #expect(table.count == model.count)
        }
    }

    @Test(arguments: UInt64(1)...8)
    func `the open table counts by file and lists by client`(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        var table = OpenTable()
        var model: [UInt64: (file: FileID, client: UInt32, isReserved: Bool)] = [:]
        for _ in 0..<2000 {
            let handle = UInt64(1 + generator.below(60))
            let file = FileID(sequence: 1, objectNumber: UInt32(generator.below(5)))
            let client = UInt32(generator.below(4))
            if let open = model[handle] {
                if open.isReserved, generator.oneIn(2) {
                    table.claim(handle)
                    model[handle]!.isReserved = false
                } else {
                    model[handle] = nil
                    #expect(table.remove(handle) == model.values.count { $0.file == open.file })
                }
            } else {
                let isReserved = generator.oneIn(2)
                table.insert(
                    handle: handle, file: file, client: client, flags: .read,
                    isReserved: isReserved)
                model[handle] = (file, client, isReserved)
            }
            let own = model.filter { $0.value.client == client }
            #expect(table.handles(of: client) == own.keys.sorted())
            #expect(
                table.handles(of: client, reservedOnly: true)
                    == own.filter { $0.value.isReserved }.keys.sorted())
            #expect(table.openCount(file) == model.values.count { $0.file == file })
            #expect(table.open(handle)?.file == model[handle]?.file)
            #expect(table.fileCount == Set(model.values.map(\.file)).count)
        }
        #expect(table.all.map(\.handle) == model.keys.sorted())
    }
}
