import CLMDB
import Foundation
import Primitives
import StorageCore
import Store
import Testing

@Suite struct `A damaged store` {
    static let object = ObjectID(sequence: 3, number: 9)

    /// A store with rows in several tables and objects over several blocks.
    private func fill(_ scratch: Scratch, format: UInt32 = 2) throws {
        var options = DiskStore.Options()
        options.newStoreFormat = format
        var store = OverlayStore(base: try scratch.open(options: options))
        for number in UInt8(0)..<120 {
            var transaction = Transaction(transno: UInt64(number) + 1)
            transaction.put(
                .inodes, key: [number, 1], value: [UInt8](repeating: number, count: 90))
            transaction.put(.dirents, key: [number], value: [number, 2])
            store.apply(transaction)
        }
        var transaction = Transaction(transno: 200)
        transaction.put(.meta, key: [9], value: [UInt8](repeating: 7, count: 9000))
        transaction.writeObject(
            Self.object, offset: 0, bytes: (0..<20_000).map { UInt8(truncatingIfNeeded: $0 * 7) })
        transaction.writeObject(
            ObjectID(sequence: 3, number: 10), offset: 3 << 20, bytes: [1, 2, 3])
        store.apply(transaction)
        try commitAll(&store)
        try store.base.close()
    }

    private func database(_ scratch: Scratch) -> URL {
        URL(fileURLWithPath: scratch.path + "/store.mdb")
    }

    private func objectFile(_ scratch: Scratch) throws -> String {
        let name = try #require(scratch.objectFiles.first { $0.contains("3-9.") })
        return scratch.path + "/objects/" + name
    }

    private func flip(_ path: String, at offset: Int) throws {
        var data = try Data(contentsOf: URL(fileURLWithPath: path))
        data[offset] ^= 0x10
        try data.write(to: URL(fileURLWithPath: path))
    }

    @Test func `a checksum is the published one, with the instruction and without`() {
        // RFC 3720, appendix B.4.
        let vectors: [([UInt8], UInt32)] = [
            ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
            ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
            ((0..<32).map { UInt8($0) }, 0x46DD_794E),
            ((0..<32).map { UInt8(31 - $0) }, 0x113F_DB5C),
            (Array("123456789".utf8), 0xE306_9283),
        ]
        for (bytes, wanted) in vectors {
            #expect(unsafe clmdb_crc32c(0, bytes, bytes.count) == wanted)
            #expect(unsafe clmdb_crc32c_portable(0, bytes, bytes.count) == wanted)
        }
        var random = SplitMix64(seed: 5)
        for count in 0..<70 {
            let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            let cut = random.below(count + 1)
            let (head, tail) = (Array(bytes[..<cut]), Array(bytes[cut...]))
            let joined = unsafe clmdb_crc32c(
                clmdb_crc32c_portable(0, head, head.count), tail, tail.count)
            #expect(unsafe joined == clmdb_crc32c(0, bytes, count), "\(count) bytes, cut at \(cut)")
        }
    }

    @Test func `is checked whole when nothing is wrong with it`() throws {
        let scratch = Scratch()
        try fill(scratch)
        #expect(try scratch.findings() == [])
        let summary = try StoreCheck.run(directory: scratch.path, readsObjects: true) { _ in }
        #expect(summary.target == "T0001" && summary.format == 2 && summary.objects == 2)
        #expect(summary.objectBytes == 20_000 + 3 << 20 + 3)
        #expect(summary.tables.first { $0.name == "inodes" }?.rows == 120)
        #expect(summary.strayFiles == 0 && summary.pagesInUse < summary.pages)
    }

    /// A bit flipped anywhere in the database: refused at the start, found by the check, or
    /// refused by the read. Never a wrong answer.
    @Test(arguments: UInt64(1)...4)
    func `never gives a wrong answer, whatever bit of its database is flipped`(
        seed: UInt64
    ) throws {
        let scratch = Scratch()
        try fill(scratch)
        let sound = try Data(contentsOf: database(scratch))
        var random = SplitMix64(seed: seed)
        var refused = 0
        var met = 0
        for _ in 0..<120 {
            let bit = random.below(sound.count * 8)
            var data = sound
            data[bit / 8] ^= 1 << UInt8(bit % 8)
            try data.write(to: database(scratch))
            let note = "seed \(seed), bit \(bit % 8) of byte \(bit / 8)"
            let store: DiskStore
            do throws(StoreError) {
                store = try scratch.open(create: false)
            } catch {
                refused += 1
                continue
            }
            var seen = 0
            store.scan(.inodes, from: []) { key, value in
                #expect(value == [UInt8](repeating: key[0], count: 90), "\(note)")
                seen += 1
                return true
            }
            let big = store.read(.meta, [9])
            #expect(big == nil || big == [UInt8](repeating: 7, count: 9000), "\(note)")
            let bytes = store.readObject(Self.object, offset: 5000, count: 100)
            let isWhole = bytes == (5000..<5100).map { UInt8(truncatingIfNeeded: $0 * 7) }
            if seen == 120, big != nil, isWhole {
                #expect(store.takeDamage() == nil, "\(note)")
            } else {
                met += 1
                #expect(store.takeDamage() != nil, "\(note): \(seen) rows")
                #expect(store.takeDamage() == nil, "told once")
            }
            store.abandon()
        }
        #expect(refused > 0 && met > 0, "seed \(seed): \(refused) refused, \(met) met")
    }

    @Test func `a torn root page is refused and mended only when asked for`() throws {
        let scratch = Scratch()
        try fill(scratch)
        let sound = try Data(contentsOf: database(scratch))
        for page in 0..<2 {
            // A number of pages that is too high (at 136) only costs room: it is not refused.
            for offset in [10, 16, 20, 40, 44, 46, 82, 92, 134, 144, 150]
            where !(page == 0 && offset == 40) {
                var data = sound
                data[page * 4096 + offset] ^= 0x40
                try data.write(to: database(scratch))
                guard case .corrupt(_, let detail)? = scratch.refusal() else {
                    Issue.record("byte \(offset) of root page \(page) was believed")
                    continue
                }
                #expect(!detail.isEmpty)
                #expect(throws: StoreError.self) { try scratch.findings() }
            }
        }
        // Torn in its first half: the other is a commit of its own, and known to be sound.
        var data = sound
        data.replaceSubrange(4096..<4160, with: Data(count: 64))
        try data.write(to: database(scratch))
        let done = try StoreRepair.repairRoot(directory: scratch.path)
        #expect(done?.contains("root page 1") == true, "\(done ?? "nothing")")
        #expect(try StoreRepair.repairRoot(directory: scratch.path) == nil)
        #expect(try scratch.findings() == [])
        var store = OverlayStore(base: try scratch.open(create: false))
        store.apply(put([77], [1], transno: 300))
        try commitAll(&store)
        store.apply(put([78], [1], transno: 301))
        try commitAll(&store)
        try store.base.close()
        #expect(try scratch.findings() == [])
    }

    @Test(arguments: [0, 4095, 4096, 12_288, 19_999])
    func `a flipped bit in an object's bytes is refused where it stands`(offset: Int) throws {
        let scratch = Scratch()
        try fill(scratch)
        try flip(try objectFile(scratch), at: offset)
        let block = offset / 4096 * 4096
        let store = try scratch.open(create: false)
        #expect(
            store.readObject(Self.object, offset: UInt64(offset), count: 1) == [0],
            "zeros where there is no answer")
        #expect(store.takeDamage() == .object(Self.object, offset: UInt64(block)))
        let elsewhere = block == 0 ? 8192 : 0
        #expect(
            store.readObject(Self.object, offset: UInt64(elsewhere), count: 50)
                == (elsewhere..<(elsewhere + 50)).map { UInt8(truncatingIfNeeded: $0 * 7) })
        #expect(store.takeDamage() == nil, "other blocks are served")
        try store.close()
        let findings = try scratch.findings()
        #expect(findings.count == 1 && findings[0].hasSuffix("at byte \(block)"), "\(findings)")
    }

    @Test func `an object file that is shorter than its record, or gone, is refused`() throws {
        let scratch = Scratch()
        try fill(scratch)
        let path = try objectFile(scratch)
        #expect(unsafe truncate(path, 9000) == 0)
        var store = try scratch.open(create: false)
        #expect(store.readObject(Self.object, offset: 0, count: 4).count == 4)
        #expect(store.takeDamage() == nil)
        _ = store.readObject(Self.object, offset: 8190, count: 4)
        #expect(store.takeDamage() == .object(Self.object, offset: 8192))
        try store.close()
        #expect(try scratch.findings().first?.contains("9000 bytes long, and 20000") == true)
        try FileManager.default.removeItem(atPath: path)
        store = try scratch.open(create: false)
        _ = store.readObject(Self.object, offset: 0, count: 4)
        #expect(store.takeDamage() == .object(Self.object, offset: 0))
        try store.close()
        #expect(try scratch.findings().first?.contains("missing, and 20000") == true)
    }

    @Test func `writing a part of a damaged block does not vouch for the rest`() throws {
        let scratch = Scratch()
        try fill(scratch)
        try flip(try objectFile(scratch), at: 5000)
        var store = OverlayStore(base: try scratch.open(create: false))
        func write(_ offset: UInt64, _ bytes: [UInt8]) throws {
            var transaction = Transaction(transno: store.lastAppliedTransno + 1)
            transaction.writeObject(Self.object, offset: offset, bytes: bytes)
            store.apply(transaction)
            try commitAll(&store)
        }
        try write(4500, [1, 2, 3])
        _ = store.readObject(Self.object, offset: 4500, count: 1)
        #expect(store.base.takeDamage() == .object(Self.object, offset: 4096))
        try write(4096, [UInt8](repeating: 6, count: 4096))
        #expect(store.readObject(Self.object, offset: 5000, count: 2) == [6, 6])
        #expect(store.base.takeDamage() == nil, "all of it is new")
        try store.base.close()
        #expect(try scratch.findings() == [])
    }

    @Test func `strange lock files do no harm`() throws {
        let scratch = Scratch()
        try fill(scratch)
        let garbage = Data((0..<9000).map { UInt8(truncatingIfNeeded: $0 &* 13) })
        for name in ["lock", "store.mdb-lock"] {
            try garbage.write(to: URL(fileURLWithPath: scratch.path + "/" + name))
            #expect(scratch.refusal() == nil, "\(name)")
        }
        #expect(try scratch.findings() == [])
        try FileManager.default.removeItem(atPath: scratch.path + "/lock")
        try FileManager.default.createDirectory(
            atPath: scratch.path + "/lock", withIntermediateDirectories: false)
        #expect(scratch.refusal()?.description.contains("/lock") == true)
    }

    @Test func `what cannot be checked says why`() throws {
        let scratch = Scratch()
        #expect(throws: StoreError.noStore(directory: scratch.path)) { try scratch.findings() }
        try fill(scratch)
        let store = try scratch.open(create: false)
        #expect(throws: StoreError.inUse(directory: scratch.path, holder: getpid())) {
            try scratch.findings()
        }
        try store.close()
        try flip(try objectFile(scratch), at: 1)
        #expect(throws: StoreError.self) {
            try StoreConversion.convert(directory: scratch.path, to: 1)
        }
    }

    @Test func `a store of format 1 is served as it is, for the build before`() throws {
        let scratch = Scratch()
        try fill(scratch, format: 1)
        var store = OverlayStore(base: try scratch.open(create: false))
        #expect(store.base.identity.format == 1)
        store.apply(put([50], [51], transno: 900))
        try commitAll(&store)
        try store.base.close()
        var old = DiskStore.Options()
        old.supportedFormat = 1
        #expect(scratch.refusal(options: old) == nil, "the build before has it back")
        #expect(try StoreConversion.convert(directory: scratch.path, to: 2) == 1)
        #expect(
            scratch.refusal(options: old)
                == .newerFormat(directory: scratch.path, found: 2, supported: 1))
        try StoreConversion.convert(directory: scratch.path, to: 1)
        #expect(scratch.refusal(options: old) == nil)
    }
}

@Suite struct `A store in memory` {
    @Test func `is damaged like one on a disk`() {
        let base = MemoryStore()
        var store = OverlayStore(base: base)
        var transaction = Transaction(transno: 1)
        transaction.put(.inodes, key: [1], value: [2])
        transaction.put(.inodes, key: [3], value: [4])
        transaction.writeObject(
            ObjectID(sequence: 1, number: 1), offset: 0, bytes: [UInt8](repeating: 5, count: 9000))
        store.apply(transaction)
        if let group = store.takeGroup() {
            base.commit(group)
            store.committed(group.id)
        }
        #expect(!base.damageRow(.inodes, [9]) && base.damageRow(.inodes, [1]))
        #expect(store.read(.inodes, [1]) == nil && store.read(.inodes, [3]) == [4])
        #expect(base.takeDamage() == .row(.inodes, key: [1]))
        var seen: [[UInt8]] = []
        store.scan(.inodes, from: []) { key, _ in
            seen.append(key)
            return true
        }
        #expect(seen == [[3]] && base.takeDamage() == .row(.inodes, key: [1]))
        let id = ObjectID(sequence: 1, number: 1)
        #expect(!base.damageObject(id, at: 9000) && base.damageObject(id, at: 5000))
        #expect(store.readObject(id, offset: 0, count: 4096).first == 5)
        #expect(base.takeDamage() == nil)
        #expect(store.readObject(id, offset: 4000, count: 200).first == 0)
        #expect(base.takeDamage() == .object(id, offset: 4096))
    }
}
