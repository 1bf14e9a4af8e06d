import Primitives

/// A committed store in memory: for tests and the simulator.
///
/// A crash is a new overlay over the same store, or over a `copy()` taken at some commit: what was
/// not committed is lost.
public final class MemoryStore: CommittedStore {
    private struct Object {
        var extents = ExtentMap()
        var length: UInt64 = 0
    }

    private var tables: [SortedMap<TableKey, [UInt8]>]
    private var objects = SortedMap<ObjectID, Object>()
    /// Groups committed so far.
    public private(set) var commitCount = 0
    // Looked up and never iterated. A damaged thing heals when it is written anew.
    private var damagedRows: [Set<[UInt8]>] = Array(repeating: [], count: Table.count)
    private var damagedBlocks: [ObjectID: Set<UInt64>] = [:]
    private var damage: StoreDamage?
    /// Objects are damaged by the block, as a `DiskStore` has a checksum for each.
    public static let blockByteCount: UInt64 = 4096

    public init() { tables = Array(repeating: SortedMap(), count: Table.count) }

    private init(of other: MemoryStore) {
        tables = other.tables
        objects = other.objects
        commitCount = other.commitCount
        damagedRows = other.damagedRows
        damagedBlocks = other.damagedBlocks
    }

    /// An independent store with the same contents. Cheap: memory is shared until written.
    public func copy() -> MemoryStore { MemoryStore(of: self) }

    public func read(_ table: Table, _ key: [UInt8]) -> [UInt8]? {
        if damagedRows[Int(table.rawValue)].contains(key) {
            note(.row(table, key: key))
            return nil
        }
        return tables[Int(table.rawValue)].value(TableKey(key))
    }

    public func scan(
        _ table: Table, from: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        let entries = tables[Int(table.rawValue)]
        var position = entries.lowerBound(TableKey(from))
        while !entries.isEnd(position) {
            let entry = entries[position]
            position = entries.next(position)
            if damagedRows[Int(table.rawValue)].contains(entry.key.bytes) {
                note(.row(table, key: entry.key.bytes))
                continue
            }
            guard visit(entry.key.bytes, entry.value) else { return }
        }
    }

    public func readObject(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8] {
        guard let object = objects.value(id), object.length > offset else { return [] }
        var bytes = [UInt8](
            repeating: 0, count: Int(min(UInt64(count), object.length - offset)))
        object.extents.paint(&bytes, offset: offset)
        if let blocks = damagedBlocks[id], !bytes.isEmpty {
            let last = (offset + UInt64(bytes.count) - 1) / Self.blockByteCount
            for block in offset / Self.blockByteCount...last where blocks.contains(block) {
                note(.object(id, offset: block * Self.blockByteCount))
                return [UInt8](repeating: 0, count: bytes.count)
            }
        }
        return bytes
    }

    // MARK: Damage

    public func takeDamage() -> StoreDamage? {
        defer { damage = nil }
        return damage
    }

    private func note(_ damage: StoreDamage) { if self.damage == nil { self.damage = damage } }

    /// Makes a row unreadable, as a flipped bit makes one of a `DiskStore`. False where there is
    /// no such row.
    @discardableResult
    public func damageRow(_ table: Table, _ key: [UInt8]) -> Bool {
        guard tables[Int(table.rawValue)].value(TableKey(key)) != nil else { return false }
        damagedRows[Int(table.rawValue)].insert(key)
        return true
    }

    /// Makes the block that holds `offset` unreadable. False where the object does not reach it.
    @discardableResult
    public func damageObject(_ id: ObjectID, at offset: UInt64) -> Bool {
        guard let object = objects.value(id), object.length > offset else { return false }
        damagedBlocks[id, default: []].insert(offset / Self.blockByteCount)
        return true
    }

    private func healBlocks(of id: ObjectID, _ offset: UInt64, _ count: Int) {
        guard !damagedBlocks.isEmpty, damagedBlocks[id] != nil else { return }
        // Only blocks that are written whole: of others the rest is still wrong.
        let first = (offset + Self.blockByteCount - 1) / Self.blockByteCount
        let end = (offset + UInt64(count)) / Self.blockByteCount
        if first < end { for block in first..<end { damagedBlocks[id]?.remove(block) } }
    }

    /// The number of committed rows of a table.
    public func rowCount(_ table: Table) -> Int { tables[Int(table.rawValue)].count }

    /// Objects that have, or had, bytes.
    public var objectCount: Int { objects.count }

    /// Commits a group. Groups come in order; a new run over the same store begins at 1 again.
    public func commit(_ group: CommitGroup) {
        commitCount += 1
        for operation in group.operations {
            switch operation {
            case .put(let table, let key, let value):
                damagedRows[Int(table.rawValue)].remove(key)
                tables[Int(table.rawValue)].set(TableKey(key), value)
            case .delete(let table, let key):
                damagedRows[Int(table.rawValue)].remove(key)
                tables[Int(table.rawValue)].removeIf(TableKey(key)) { _ in true }
            case .writeObject(let id, let offset, let bytes):
                healBlocks(of: id, offset, bytes.count)
                objects.update(id, inserting: Object()) {
                    $0.extents.write(bytes, at: offset, group: 0)
                    $0.length = max($0.length, $0.extents.end)
                }
            case .truncateObject(let id, let size):
                objects.removeIf(id) {
                    $0.extents.truncate(to: size)
                    $0.length = min($0.length, size)
                    return false
                }
            case .removeObject(let id):
                damagedBlocks[id] = nil
                objects.removeIf(id) { _ in true }
            }
        }
    }

    /// A hash of all contents: equal stores have equal digests in every process.
    public var digest: UInt64 {
        var hash = StableHash()
        for table in Table.allCases {
            hash.combine(table.rawValue)
            scan(table, from: []) { key, value in
                hash.combine(UInt64(key.count))
                hash.combine(key)
                hash.combine(UInt64(value.count))
                hash.combine(value)
                return true
            }
        }
        var position = objects.startPosition
        while !objects.isEnd(position) {
            let entry = objects[position]
            hash.combine(entry.key.sequence)
            hash.combine(entry.key.number)
            hash.combine(entry.value.length)
            // By content, not by the pieces in which it was written: zeros are skipped.
            for extent in entry.value.extents.extents {
                for index in 0..<extent.count where extent.bytes[extent.start + index] != 0 {
                    hash.combine(extent.offset + UInt64(index))
                    hash.combine(extent.bytes[extent.start + index])
                }
            }
            position = objects.next(position)
        }
        return hash.value
    }
}
