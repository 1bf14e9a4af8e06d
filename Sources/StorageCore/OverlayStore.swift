/// What services read and write: the last commit with everything applied since laid over it.
///
/// A transaction is visible as soon as it is applied and joins the open group. The shell takes
/// groups to commit them (`takeGroup`) and reports when the base shows them (`committed`). What
/// was not committed is lost with the value: that is what a crash does, and what replay is for.
public struct OverlayStore<Base: CommittedStore> {
    public let base: Base
    @usableFromInline var overlay: Overlay

    /// An empty overlay. `lastCommittedTransno` is what the service found in `base`.
    @inlinable
    public init(base: Base, lastCommittedTransno: UInt64 = 0) {
        self.base = base
        overlay = Overlay(lastCommittedTransno: lastCommittedTransno)
    }

    // MARK: How much is where

    /// The highest transno applied; what `init` was given before the first.
    @inlinable
    public var lastAppliedTransno: UInt64 { overlay.lastAppliedTransno }
    /// The highest transno in a committed group; what `init` was given before the first.
    @inlinable
    public var lastCommittedTransno: UInt64 { overlay.lastCommittedTransno }
    /// The highest group that is committed; 0 before the first.
    @inlinable
    public var lastCommittedGroup: UInt64 { overlay.lastCommittedGroup }
    /// What is applied and not committed, by `StoreOperation.byteCount`.
    @inlinable
    public var uncommittedBytes: Int { overlay.uncommittedBytes }
    /// Transactions applied and not committed.
    @inlinable
    public var uncommittedTransactions: Int { overlay.uncommittedTransactions }
    /// True when a `takeGroup` would return one.
    @inlinable
    public var hasOpenGroup: Bool { overlay.hasOpenGroup }
    /// Bytes in the open group: the part of `uncommittedBytes` that nobody commits yet.
    @inlinable
    public var openGroupBytes: Int { overlay.openGroupBytes }
    /// Groups taken and not yet committed.
    @inlinable
    public var takenGroupCount: Int { overlay.takenGroupCount }
    /// Keys and objects that the overlay holds.
    @inlinable
    public var overlayEntryCount: Int { overlay.entryCount }

    // MARK: Reading

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
    @inlinable
    public func scan(
        _ table: Table, from: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        overlay.scan(table, from: from, over: base, visit)
    }

    /// Visits keys that begin with `prefix`, in ascending order, until `visit` returns false.
    /// With `after`, begins behind that key: how a directory read goes on.
    @inlinable
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
    @inlinable
    public func readObject(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8] {
        overlay.readObject(id, offset: offset, count: count, over: base)
    }

    // MARK: Writing

    /// Makes the writes visible and adds them to the open group. A transaction with neither
    /// writes nor a transno is nothing.
    @inlinable
    public mutating func apply(_ transaction: Transaction) { overlay.apply(transaction) }

    /// Everything applied since the last take, or nil. Ids ascend by one from 1.
    @inlinable
    public mutating func takeGroup() -> CommitGroup? { overlay.takeGroup() }

    /// The base now shows every group up to and with `groupID`. Repeating an id does nothing.
    @inlinable
    public mutating func committed(_ groupID: UInt64) { overlay.committed(groupID) }
}

extension OverlayStore: Sendable where Base: Sendable {}
