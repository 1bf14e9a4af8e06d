/// What services read and write: the last commit with everything applied since laid over it.
///
/// A transaction is visible as soon as it is applied and joins the open group. The shell takes
/// groups to commit them (`takeGroup`) and reports when the base shows them (`committed`). What
/// was not committed is lost with the value: that is what a crash does, and what replay is for.
public struct OverlayStore<Base: CommittedStore> {
    public let base: Base
    @usableFromInline var overlay = Overlay()
    private var openGroup = CommitGroup(id: 1)
    /// Taken and not yet committed, oldest first. The operations share memory with the copies
    /// that the shell got.
    private var takenGroups: [CommitGroup] = []
    public private(set) var lastAppliedTransno: UInt64
    public private(set) var lastCommittedTransno: UInt64
    /// The highest group that is committed; 0 before the first.
    public private(set) var lastCommittedGroup: UInt64 = 0
    /// What is applied and not committed, by `StoreOperation.byteCount`.
    public private(set) var uncommittedBytes = 0
    public private(set) var uncommittedTransactions = 0

    /// An empty overlay. `lastCommittedTransno` is what the service found in `base`.
    public init(base: Base, lastCommittedTransno: UInt64 = 0) {
        self.base = base
        self.lastCommittedTransno = lastCommittedTransno
        lastAppliedTransno = lastCommittedTransno
    }

    /// True when a `takeGroup` would return one.
    public var hasOpenGroup: Bool { openGroup.transactionCount > 0 }
    /// Bytes in the open group: the part of `uncommittedBytes` that nobody commits yet.
    public var openGroupBytes: Int { openGroup.byteCount }
    /// Groups taken and not yet committed.
    public var takenGroupCount: Int { takenGroups.count }
    /// Keys and objects that the overlay holds.
    public var overlayEntryCount: Int { overlay.entryCount }

    /// The value of a key, or nil.
    @inlinable
    public func read(_ table: Table, _ key: [UInt8]) -> [UInt8]? {
        switch overlay.lookup(table, key) {
        case .value(let bytes): return bytes
        case .deleted: return nil
        case .unknown: return base.read(table, key)
        }
    }

    /// Visits keys not below `from` in ascending order until `visit` returns false.
    public func scan(
        _ table: Table, from: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        let entries = overlay.tables[Int(table.rawValue)]
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

    /// Visits keys that begin with `prefix`, in ascending order, until `visit` returns false.
    /// With `after`, begins behind that key: how a directory read goes on.
    public func scan(
        _ table: Table, prefix: [UInt8], after: [UInt8]? = nil,
        _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        // The successor of a key in memcmp order is the key with a zero byte behind it.
        scan(table, from: after.map { $0 + [0] } ?? prefix) { key, value in
            key.starts(with: prefix) && visit(key, value)
        }
    }

    /// The object's bytes: exactly `count`, zeros in holes and where it has ended.
    public func readObject(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8] {
        precondition(count >= 0, "a count is not negative")
        guard let state = overlay.objects.value(id) else {
            return padded(base.readObject(id, offset: offset, count: count), to: count)
        }
        let baseEnd = state.baseEnd
        let fromBase = baseEnd > offset ? Int(min(UInt64(count), baseEnd - offset)) : 0
        var bytes = padded(
            fromBase > 0 ? base.readObject(id, offset: offset, count: fromBase) : [], to: count)
        state.extents.paint(&bytes, offset: offset)
        return bytes
    }

    private func padded(_ bytes: [UInt8], to count: Int) -> [UInt8] {
        precondition(bytes.count <= count, "a base gives no more bytes than were asked for")
        if bytes.count == count { return bytes }
        var bytes = bytes
        bytes.append(contentsOf: repeatElement(0, count: count - bytes.count))
        return bytes
    }

    /// Makes the writes visible and adds them to the open group. A transaction with neither
    /// writes nor a transno is nothing.
    public mutating func apply(_ transaction: Transaction) {
        if transaction.isEmpty, transaction.transno == 0 { return }
        for operation in transaction.operations {
            overlay.apply(operation, group: openGroup.id)
        }
        openGroup.append(transaction)
        lastAppliedTransno = max(lastAppliedTransno, transaction.transno)
        uncommittedBytes += transaction.byteCount
        uncommittedTransactions += 1
    }

    /// Everything applied since the last take, or nil. Ids ascend by one.
    public mutating func takeGroup() -> CommitGroup? {
        guard hasOpenGroup else { return nil }
        let group = openGroup
        takenGroups.append(group)
        openGroup = CommitGroup(id: group.id + 1)
        return group
    }

    /// The base now shows every group up to and with `groupID`. Repeating an id does nothing.
    public mutating func committed(_ groupID: UInt64) {
        precondition(groupID < openGroup.id, "only a group that was taken can be committed")
        var doneCount = 0
        while doneCount < takenGroups.count, takenGroups[doneCount].id <= groupID {
            let group = takenGroups[doneCount]
            overlay.drop(group)
            lastCommittedTransno = max(lastCommittedTransno, group.highestTransno)
            lastCommittedGroup = group.id
            uncommittedBytes -= group.byteCount
            uncommittedTransactions -= group.transactionCount
            doneCount += 1
        }
        takenGroups.removeFirst(doneCount)
    }
}

extension OverlayStore: Sendable where Base: Sendable {}
