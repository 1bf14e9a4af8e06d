public import StorageCore

/// Any committed store behind one concrete type, so that nodes are not generic over their disk.
public final class StoreBox: CommittedStore {
    private let base: any CommittedStore

    public init(_ base: any CommittedStore) { self.base = base }

    public func read(_ table: Table, _ key: [UInt8]) -> [UInt8]? { base.read(table, key) }

    public func scan(
        _ table: Table, from: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        base.scan(table, from: from, visit)
    }

    public func readObject(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8] {
        base.readObject(id, offset: offset, count: count)
    }

    public func takeDamage() -> StoreDamage? { base.takeDamage() }
}
