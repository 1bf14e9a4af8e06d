/// Everything applied and not yet committed, over whichever base.
///
/// An entry carries the group that wrote it last; when that group is committed the base shows the
/// entry, and it goes. Groups are committed in order.
@usableFromInline
struct Overlay: Sendable {
    struct Value: Sendable {
        /// nil: deleted.
        var bytes: [UInt8]?
        var group: UInt64
    }

    struct ObjectState: Sendable {
        struct Limit: Sendable {
            var group: UInt64
            var size: UInt64
        }

        var extents = ExtentMap()
        /// The smallest size that each group truncated to, ascending by group. The base's bytes
        /// show below all of them. They cannot be folded into one: once the group that truncated
        /// to 50 and wrote up to 200 is committed, a later group's 100 is what counts.
        var limits: [Limit] = []

        /// Where the base's bytes end at the latest.
        var baseEnd: UInt64 { limits.reduce(.max) { min($0, $1.size) } }

        mutating func truncate(to size: UInt64, group: UInt64) {
            extents.truncate(to: size)
            if let last = limits.last, last.group == group {
                limits[limits.count - 1].size = min(last.size, size)
            } else {
                limits.append(Limit(group: group, size: size))
            }
        }

        /// True when nothing is left.
        mutating func drop(through group: UInt64) -> Bool {
            extents.drop(through: group)
            limits.removeAll { $0.group <= group }
            return extents.isEmpty && limits.isEmpty
        }
    }

    /// What the overlay knows of a key.
    @usableFromInline
    enum Lookup {
        case value([UInt8])
        case deleted
        case unknown
    }

    /// By `Table.rawValue`.
    var tables: [SortedMap<TableKey, Value>]
    var objects = SortedMap<ObjectID, ObjectState>()

    init() { tables = Array(repeating: SortedMap(), count: Table.count) }

    var entryCount: Int { tables.reduce(objects.count) { $0 + $1.count } }

    @usableFromInline
    func lookup(_ table: Table, _ key: [UInt8]) -> Lookup {
        let index = Int(table.rawValue)
        if tables[index].isEmpty { return .unknown }
        guard let entry = tables[index].value(TableKey(key)) else { return .unknown }
        return entry.bytes.map { .value($0) } ?? .deleted
    }

    mutating func apply(_ operation: StoreOperation, group: UInt64) {
        switch operation {
        case .put(let table, let key, let value):
            tables[Int(table.rawValue)].set(TableKey(key), Value(bytes: value, group: group))
        case .delete(let table, let key):
            tables[Int(table.rawValue)].set(TableKey(key), Value(bytes: nil, group: group))
        case .writeObject(let id, let offset, let bytes):
            objects.update(id, inserting: ObjectState()) {
                $0.extents.write(bytes, at: offset, group: group)
            }
        case .truncateObject(let id, let size):
            objects.update(id, inserting: ObjectState()) { $0.truncate(to: size, group: group) }
        case .removeObject(let id):
            objects.update(id, inserting: ObjectState()) { $0.truncate(to: 0, group: group) }
        }
    }

    /// Forgets what `group` wrote and nobody wrote over since.
    mutating func drop(_ group: CommitGroup) {
        if group.operations.count * 8 >= entryCount {
            // Most of the overlay goes: one sweep is cheaper than a search per operation.
            for index in tables.indices where !tables[index].isEmpty {
                tables[index].retain { $0.value.group > group.id }
            }
            objects.retain { !$0.value.drop(through: group.id) }
            return
        }
        for operation in group.operations {
            switch operation {
            case .put(let table, let key, _), .delete(let table, let key):
                tables[Int(table.rawValue)].removeIf(TableKey(key)) { $0.group <= group.id }
            case .writeObject(let id, _, _), .truncateObject(let id, _), .removeObject(let id):
                objects.removeIf(id) { $0.drop(through: group.id) }
            }
        }
    }
}
