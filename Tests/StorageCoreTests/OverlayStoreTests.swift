import Primitives
import Testing

@testable import StorageCore

@Suite struct `The overlay over a committed store` {
    @Test(arguments: UInt64(1)...12)
    func `shows what a naive model shows, through commits and crashes`(seed: UInt64) {
        var workload = Workload(seed: seed)
        let base = MemoryStore()
        var store = OverlayStore(base: base)
        var model = Model()
        var committedModel = Model()
        var taken: [(group: CommitGroup, model: Model)] = []
        for step in 0..<600 {
            let note = "seed \(seed), step \(step)"
            switch workload.random.below(12) {
            case 0...3:
                let transaction = workload.transaction()
                store.apply(transaction)
                model.apply(transaction)
            case 4:
                if let group = store.takeGroup() { taken.append((group, model)) }
            case 5:
                guard !taken.isEmpty else { continue }
                // As many as are there, now and then: commits of several groups are one report.
                let count = 1 + workload.random.below(taken.count)
                for (group, _) in taken.prefix(count) { base.commit(group) }
                store.committed(taken[count - 1].group.id)
                committedModel = taken[count - 1].model
                taken.removeFirst(count)
            case 6 where workload.random.oneIn(6):
                store = OverlayStore(base: base)
                model = committedModel
                taken = []
            default:
                workload.check(store, model, note)
            }
        }
        Workload.checkAll(store, model, "seed \(seed), the end")
        if let group = store.takeGroup() { taken.append((group, model)) }
        for (group, _) in taken {
            base.commit(group)
            store.committed(group.id)
        }
        #expect(store.overlayEntryCount == 0, "nothing is left over once all is committed")
        #expect(store.uncommittedBytes == 0)
        #expect(store.uncommittedTransactions == 0)
        #expect(store.lastCommittedTransno == store.lastAppliedTransno)
        Workload.checkAll(store, model, "seed \(seed), committed")
    }

    @Test func `a group counts what it holds until it is committed`() throws {
        let base = MemoryStore()
        var store = OverlayStore(base: base, lastCommittedTransno: 40)
        #expect(store.lastAppliedTransno == 40)
        #expect(store.takeGroup() == nil)
        var transaction = Transaction(transno: 41)
        transaction.put(.meta, key: [1], value: [2, 3])
        store.apply(transaction)
        store.apply(Transaction(transno: 42))
        store.apply(Transaction())
        #expect(
            store.uncommittedTransactions == 2, "an update without writes is one, nothing is none")
        let group = try taken(from: &store)
        #expect(group.id == 1 && group.highestTransno == 42 && group.transactionCount == 2)
        #expect(store.uncommittedBytes == transaction.byteCount)
        #expect(store.takeGroup() == nil)
        base.commit(group)
        store.committed(1)
        store.committed(1)
        #expect(store.lastCommittedTransno == 42 && store.uncommittedBytes == 0)
    }

    @Test func `bytes cut off stay hidden while later groups write`() throws {
        let id = ObjectID(sequence: 1, number: 1)
        let base = MemoryStore()
        var store = OverlayStore(base: base)
        func commitNext() throws {
            let group = try taken(from: &store)
            base.commit(group)
            store.committed(group.id)
        }
        var first = Transaction(transno: 1)
        first.writeObject(id, offset: 0, bytes: [UInt8](repeating: 7, count: 100))
        store.apply(first)
        try commitNext()
        var cut = Transaction(transno: 2)
        cut.truncateObject(id, to: 10)
        store.apply(cut)
        let cutGroup = try taken(from: &store)
        var later = Transaction(transno: 3)
        later.writeObject(id, offset: 50, bytes: [9])
        store.apply(later)
        let wanted = [UInt8](repeating: 7, count: 10) + [UInt8](repeating: 0, count: 40) + [9]
        #expect(store.readObject(id, offset: 0, count: 51) == wanted)
        base.commit(cutGroup)
        store.committed(cutGroup.id)
        #expect(store.readObject(id, offset: 0, count: 51) == wanted)
        try commitNext()
        #expect(store.readObject(id, offset: 0, count: 51) == wanted)
        #expect(store.readObject(id, offset: 60, count: 3) == [0, 0, 0])
    }

    @Test func `a directory is read in order out of a large overlay`() {
        var store = OverlayStore(base: MemoryStore())
        let directories = 40
        let names = 500
        var random = SplitMix64(seed: 5)
        for _ in 0..<(directories * names) {
            var transaction = Transaction(transno: 1)
            let directory = UInt8(random.below(directories))
            let name = random.below(names)
            transaction.put(
                .dirents, key: [directory, UInt8(name >> 8), UInt8(name & 255)], value: [1])
            store.apply(transaction)
        }
        var seen: [[UInt8]] = []
        store.scan(.dirents, prefix: [17]) { key, _ in
            seen.append(key)
            return true
        }
        #expect(seen.count > names / 2)
        #expect(zip(seen, seen.dropFirst()).allSatisfy { $0.lexicographicallyPrecedes($1) })
        var rest: [[UInt8]] = []
        store.scan(.dirents, prefix: [17], after: seen[100]) { key, _ in
            rest.append(key)
            return true
        }
        #expect(rest == Array(seen[101...]))
    }

    @Test func `equal contents have equal digests, however they were written`() {
        let id = ObjectID(sequence: 3, number: 4)
        func store(_ pieces: [[UInt8]]) -> MemoryStore {
            let base = MemoryStore()
            var offset: UInt64 = 0
            for (index, piece) in pieces.enumerated() {
                var transaction = Transaction()
                transaction.writeObject(id, offset: offset, bytes: piece)
                transaction.put(.inodes, key: [9], value: [8])
                var group = CommitGroup(id: UInt64(index + 1))
                group.append(transaction)
                base.commit(group)
                offset += UInt64(piece.count)
            }
            return base
        }
        let whole = store([[1, 2, 0, 3]])
        #expect(whole.digest == store([[1], [2, 0], [3]]).digest)
        #expect(whole.digest != store([[1, 2, 3]]).digest)
        let copy = whole.copy()
        var group = CommitGroup(id: 9)
        var transaction = Transaction()
        transaction.delete(.inodes, key: [9])
        group.append(transaction)
        copy.commit(group)
        #expect(whole.read(.inodes, [9]) == [8] && copy.read(.inodes, [9]) == nil)
    }

    @Test func `tables are numbered without gaps`() {
        #expect(Table.allCases.map { Int($0.rawValue) } == Array(0..<Table.count))
    }

    @Test func `an object id and its key stand for each other and sort alike`() {
        let a = ObjectID(sequence: 1, number: 0x0102_0304_0506_0708)
        #expect(a.key == [0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8])
        #expect(ObjectID(key: a.key) == a)
        #expect(ObjectID(key: [1, 2]) == nil)
        let b = ObjectID(sequence: 2, number: 0)
        #expect(a < b && a.key.lexicographicallyPrecedes(b.key))
    }
}

@Suite struct `A sorted map` {
    @Test(arguments: UInt64(1)...3)
    func `holds what a dictionary holds, in order`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var map = SortedMap<Int, Int>()
        var wanted: [Int: Int] = [:]
        for step in 0..<12_000 {
            let key = random.oneIn(3) ? step : random.below(4_000)
            if random.oneIn(4) {
                let removed = map.removeIf(key) { _ in true }
                #expect((removed == true) == (wanted.removeValue(forKey: key) != nil))
            } else {
                map.set(key, step)
                wanted[key] = step
            }
        }
        map.retain { $0.key % 7 != 0 }
        wanted = wanted.filter { $0.key % 7 != 0 }
        var seen: [Int] = []
        var position = map.startPosition
        while !map.isEnd(position) {
            seen.append(map[position].key)
            #expect(map[position].value == wanted[map[position].key])
            position = map.next(position)
        }
        #expect(seen == wanted.keys.sorted(), "seed \(seed)")
        #expect(map.count == wanted.count)
        for key in stride(from: -1, to: 4_001, by: 13) {
            let found = map.lowerBound(key)
            let next = map.isEnd(found) ? nil : map[found].key
            #expect(next == seen.first { $0 >= key })
        }
    }
}

/// The next group, which must be there.
private func taken(from store: inout OverlayStore<MemoryStore>) throws -> CommitGroup {
    let group = store.takeGroup()
    return try #require(group)
}
