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

    public init() { tables = Array(repeating: SortedMap(), count: Table.count) }

    private init(of other: MemoryStore) {
        tables = other.tables
        objects = other.objects
        commitCount = other.commitCount
    }

    /// An independent store with the same contents. Cheap: memory is shared until written.
    public func copy() -> MemoryStore { MemoryStore(of: self) }

    public func read(_ table: Table, _ key: [UInt8]) -> [UInt8]? {
        tables[Int(table.rawValue)].value(TableKey(key))
    }

    public func scan(
        _ table: Table, from: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        let entries = tables[Int(table.rawValue)]
        var position = entries.lowerBound(TableKey(from))
        while !entries.isEnd(position) {
            let entry = entries[position]
            guard visit(entry.key.bytes, entry.value) else { return }
            position = entries.next(position)
        }
    }

    public func readObject(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8] {
        guard let object = objects.value(id), object.length > offset else { return [] }
        var bytes = [UInt8](
            repeating: 0, count: Int(min(UInt64(count), object.length - offset)))
        object.extents.paint(&bytes, offset: offset)
        return bytes
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
                tables[Int(table.rawValue)].set(TableKey(key), value)
            case .delete(let table, let key):
                tables[Int(table.rawValue)].removeIf(TableKey(key)) { _ in true }
            case .writeObject(let id, let offset, let bytes):
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
