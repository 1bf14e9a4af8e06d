/// Everything applied and not yet committed, over whichever base: `OverlayStore` without its
/// generic part, so that all of it is compiled here, for every base.
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
    var openGroup = CommitGroup(id: 1)
    /// Taken and not yet committed, oldest first. The operations share memory with the copies
    /// that the shell got.
    var takenGroups: [CommitGroup] = []
    @usableFromInline var lastAppliedTransno: UInt64
    @usableFromInline var lastCommittedTransno: UInt64
    @usableFromInline var lastCommittedGroup: UInt64 = 0
    @usableFromInline var uncommittedBytes = 0
    @usableFromInline var uncommittedTransactions = 0

    @usableFromInline
    init(lastCommittedTransno: UInt64) {
        tables = Array(repeating: SortedMap(), count: Table.count)
        self.lastCommittedTransno = lastCommittedTransno
        lastAppliedTransno = lastCommittedTransno
    }

    @usableFromInline
    var entryCount: Int { tables.reduce(objects.count) { $0 + $1.count } }

    @usableFromInline var hasOpenGroup: Bool { openGroup.transactionCount > 0 }
    @usableFromInline var openGroupBytes: Int { openGroup.byteCount }
    @usableFromInline var takenGroupCount: Int { takenGroups.count }

    @usableFromInline
    func lookup(_ table: Table, _ key: [UInt8]) -> Lookup {
        let index = Int(table.rawValue)
        if tables[index].isEmpty { return .unknown }
        guard let entry = tables[index].value(TableKey(key)) else { return .unknown }
        return entry.bytes.map { .value($0) } ?? .deleted
    }

    /// Rows of the overlay between those that `base` visits.
    @usableFromInline
    func scan(
        _ table: Table, from: [UInt8], over base: some CommittedStore,
        _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        let entries = tables[Int(table.rawValue)]
        guard !entries.isEmpty else {
            base.scan(table, from: from, visit)
            return
        }
        var position = entries.lowerBound(TableKey(from))
        var isStopped = false
        base.scan(table, from: from) { key, value in
            let baseKey = TableKey(key)
            while !entries.isEnd(position) {
                let entry = entries[position]
                if baseKey < entry.key { break }
                position = entries.next(position)
                if let bytes = entry.value.bytes, !visit(entry.key.bytes, bytes) {
                    isStopped = true
                    return false
                }
                if entry.key == baseKey { return true }
            }
            if visit(key, value) { return true }
            isStopped = true
            return false
        }
        while !isStopped, !entries.isEnd(position) {
            let entry = entries[position]
            position = entries.next(position)
            if let bytes = entry.value.bytes { isStopped = !visit(entry.key.bytes, bytes) }
        }
    }

    /// What `base` gives of the first bytes, up to `count`, filled up with what was written since.
    @usableFromInline
    func readObject(
        _ id: ObjectID, offset: UInt64, count: Int, over base: some CommittedStore
    ) -> [UInt8] {
        precondition(count >= 0, "a count is not negative")
        let state = objects.isEmpty ? nil : objects.value(id)
        let baseEnd = state?.baseEnd ?? .max
        let fromBase = baseEnd > offset ? Int(min(UInt64(count), baseEnd - offset)) : 0
        var bytes = fromBase > 0 ? base.readObject(id, offset: offset, count: fromBase) : []
        precondition(bytes.count <= fromBase, "a base gives no more bytes than were asked for")
        if bytes.count < count {
            bytes.append(contentsOf: repeatElement(0, count: count - bytes.count))
        }
        state?.extents.paint(&bytes, offset: offset)
        return bytes
    }

    @usableFromInline
    mutating func apply(_ transaction: Transaction) {
        if transaction.isEmpty, transaction.transno == 0 { return }
        for operation in transaction.operations { apply(operation, group: openGroup.id) }
        openGroup.append(transaction)
        lastAppliedTransno = max(lastAppliedTransno, transaction.transno)
        uncommittedBytes += transaction.byteCount
        uncommittedTransactions += 1
    }

    @usableFromInline
    mutating func takeGroup() -> CommitGroup? {
        guard openGroup.transactionCount > 0 else { return nil }
        let group = openGroup
        takenGroups.append(group)
        openGroup = CommitGroup(id: group.id + 1)
        return group
    }

    @usableFromInline
    mutating func committed(_ groupID: UInt64) {
        precondition(groupID < openGroup.id, "only a group that was taken can be committed")
        var doneCount = 0
        while doneCount < takenGroups.count, takenGroups[doneCount].id <= groupID {
            let group = takenGroups[doneCount]
            drop(group)
            lastCommittedTransno = max(lastCommittedTransno, group.highestTransno)
            lastCommittedGroup = group.id
            uncommittedBytes -= group.byteCount
            uncommittedTransactions -= group.transactionCount
            doneCount += 1
        }
        takenGroups.removeFirst(doneCount)
    }

    private mutating func apply(_ operation: StoreOperation, group: UInt64) {
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
    private mutating func drop(_ group: CommitGroup) {
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
