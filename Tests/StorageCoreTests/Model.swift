import Primitives
import StorageCore
import Testing

/// What a store should hold, the naive way: dictionaries, and every byte of every object.
struct Model: Equatable {
    var tables: [Table: [[UInt8]: [UInt8]]] = [:]
    var objects: [ObjectID: [UInt8]] = [:]

    mutating func apply(_ transaction: Transaction) {
        for operation in transaction.operations {
            switch operation {
            case .put(let table, let key, let value): tables[table, default: [:]][key] = value
            case .delete(let table, let key): tables[table, default: [:]][key] = nil
            case .writeObject(let id, let offset, let bytes):
                var object = objects[id] ?? []
                let end = Int(offset) + bytes.count
                if object.count < end {
                    object += [UInt8](repeating: 0, count: end - object.count)
                }
                object.replaceSubrange(Int(offset)..<end, with: bytes)
                objects[id] = object
            case .truncateObject(let id, let size):
                if let object = objects[id], UInt64(object.count) > size {
                    objects[id] = Array(object[..<Int(size)])
                }
            case .removeObject(let id): objects[id] = nil
            }
        }
    }

    func rows(_ table: Table, from: [UInt8]) -> [([UInt8], [UInt8])] {
        (tables[table] ?? [:]).filter { !$0.key.lexicographicallyPrecedes(from) }
            .sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { ($0.key, $0.value) }
    }

    func bytes(_ id: ObjectID, offset: Int, count: Int) -> [UInt8] {
        let object = objects[id] ?? []
        return (offset..<(offset + count)).map { $0 < object.count ? object[$0] : 0 }
    }
}

/// Random transactions over few keys and few objects, so that they meet often.
struct Workload {
    var random: SplitMix64
    var transno: UInt64 = 0

    static let tables: [Table] = [.meta, .inodes, .dirents]
    static let transnoKey = Array("transno".utf8)
    static let objectSpan = 600

    init(seed: UInt64) { random = SplitMix64(seed: seed) }

    /// Keys that are prefixes of each other, hold zeros, and go beyond 16 bytes.
    mutating func key() -> [UInt8] {
        let lengths = [1, 2, 7, 8, 9, 15, 16, 17, 18, 24]
        let length = lengths[random.below(lengths.count)]
        return (0..<length).map { position in
            position + 2 < length ? 0 : [0, 1, 255][random.below(3)]
        }
    }

    mutating func bytes(_ countMax: Int) -> [UInt8] {
        (0..<(1 + random.below(countMax))).map { _ in UInt8(1 + random.below(255)) }
    }

    mutating func object() -> ObjectID {
        ObjectID(sequence: UInt64(random.below(2)), number: UInt64(random.below(2)))
    }

    mutating func table() -> Table { Self.tables[random.below(Self.tables.count)] }

    mutating func transaction() -> Transaction {
        transno += 1
        var transaction = Transaction(transno: transno)
        for _ in 0..<random.below(6) {
            switch random.below(11) {
            case 0...2: transaction.put(table(), key: key(), value: bytes(20))
            case 3...4: transaction.delete(table(), key: key())
            case 5...7:
                let bytes = bytes(120)
                let offset = random.below(Self.objectSpan - bytes.count)
                transaction.writeObject(object(), offset: UInt64(offset), bytes: bytes)
            case 8...9:
                let size = random.oneIn(3) ? 0 : random.below(Self.objectSpan)
                transaction.truncateObject(object(), to: UInt64(size))
            default: transaction.removeObject(object())
            }
        }
        // As a service would: so that a store knows what it holds.
        transaction.put(
            .audit, key: Self.transnoKey,
            value: (0..<8).map {
                UInt8(truncatingIfNeeded: transno >> UInt64(56 - 8 * $0))
            })
        return transaction
    }

    /// One read of a random kind, compared with the model.
    mutating func check<Base: CommittedStore>(
        _ store: OverlayStore<Base>, _ model: Model, _ note: String
    ) {
        let table = table()
        switch random.below(5) {
        case 0:
            let key = key()
            #expect(store.read(table, key) == model.tables[table]?[key], "\(note)")
        case 1:
            let from = random.oneIn(2) ? [] : key()
            let stop = 1 + random.below(8)
            var seen: [([UInt8], [UInt8])] = []
            store.scan(table, from: from) { key, value in
                seen.append((key, value))
                return seen.count < stop
            }
            let wanted = model.rows(table, from: from).prefix(stop)
            #expect(seen.map(\.0) == wanted.map(\.0), "keys, \(note)")
            #expect(seen.map(\.1) == wanted.map(\.1), "values, \(note)")
        case 2:
            let prefix = Array(key().prefix(1 + random.below(3)))
            let after = random.oneIn(2) ? nil : prefix + key()
            var seen: [[UInt8]] = []
            store.scan(table, prefix: prefix, after: after) { key, _ in
                seen.append(key)
                return true
            }
            let wanted = model.rows(table, from: prefix).map(\.0).filter {
                $0.starts(with: prefix) && (after == nil || after!.lexicographicallyPrecedes($0))
            }
            #expect(seen == wanted, "prefix \(prefix) after \(after ?? []), \(note)")
        default:
            let id = object()
            let offset = random.below(Self.objectSpan + 50)
            let count = random.below(Self.objectSpan)
            // Compared first: the bytes themselves would fill the screen.
            let isSame =
                store.readObject(id, offset: UInt64(offset), count: count)
                == model.bytes(id, offset: offset, count: count)
            #expect(isSame, "\(count) bytes of \(id) at \(offset), \(note)")
        }
    }

    /// Everything, compared.
    static func checkAll<Base: CommittedStore>(
        _ store: OverlayStore<Base>, _ model: Model, _ note: String
    ) {
        for table in tables {
            var seen: [([UInt8], [UInt8])] = []
            store.scan(table, from: []) { key, value in
                seen.append((key, value))
                return true
            }
            let wanted = model.rows(table, from: [])
            #expect(seen.map(\.0) == wanted.map(\.0), "keys of \(table), \(note)")
            #expect(seen.map(\.1) == wanted.map(\.1), "values of \(table), \(note)")
        }
        for sequence in 0..<UInt64(2) {
            for number in 0..<UInt64(2) {
                let id = ObjectID(sequence: sequence, number: number)
                let isSame =
                    store.readObject(id, offset: 0, count: objectSpan + 10)
                    == model.bytes(id, offset: 0, count: objectSpan + 10)
                #expect(isSame, "\(id), \(note)")
            }
        }
    }
}
