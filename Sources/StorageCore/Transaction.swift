/// One write of a transaction.
public enum StoreOperation: Sendable, Equatable {
    case put(Table, key: [UInt8], value: [UInt8])
    case delete(Table, key: [UInt8])
    case writeObject(ObjectID, offset: UInt64, bytes: [UInt8])
    /// Bytes from `size` on read as zeros until they are written again. Never lengthens anything.
    case truncateObject(ObjectID, size: UInt64)
    case removeObject(ObjectID)

    /// What the operation is counted with against the bound on uncommitted work.
    @inlinable
    public var byteCount: Int {
        // The operation itself, its place in an index, and the headers of its arrays.
        let overhead = 128
        switch self {
        case .put(_, let key, let value): return overhead + key.count + value.count
        case .delete(_, let key): return overhead + key.count
        case .writeObject(_, _, let bytes): return overhead + bytes.count
        case .truncateObject, .removeObject: return overhead
        }
    }
}

/// The writes of one update: built by a service, applied at once, committed later with others.
///
/// Either all of it is in a committed store or nothing. Object bytes are the exception that local
/// file systems make too: after a crash, bytes that an uncommitted transaction wrote over existing
/// ones may show; bytes behind the committed end never do.
public struct Transaction: Sendable {
    /// The number of the update in its target's order; 0 for writes that no client waits for.
    public var transno: UInt64
    public private(set) var operations: [StoreOperation] = []
    /// The sum over `operations`.
    public private(set) var byteCount = 0

    public init(transno: UInt64 = 0) { self.transno = transno }

    public var isEmpty: Bool { operations.isEmpty }

    /// Sets the value of a key. Keys have 1 to 511 bytes.
    public mutating func put(_ table: Table, key: [UInt8], value: [UInt8]) {
        Self.check(key)
        add(.put(table, key: key, value: value))
    }

    /// Removes a key; nothing happens when it is not there.
    public mutating func delete(_ table: Table, key: [UInt8]) {
        Self.check(key)
        add(.delete(table, key: key))
    }

    /// Writes bytes of an object, which comes into being with its first write.
    public mutating func writeObject(_ id: ObjectID, offset: UInt64, bytes: [UInt8]) {
        precondition(
            offset <= StoreLimits.objectOffsetMax
                && UInt64(bytes.count) <= StoreLimits.objectOffsetMax - offset,
            "an object write ends within the range of off_t")
        if bytes.isEmpty { return }
        add(.writeObject(id, offset: offset, bytes: bytes))
    }

    /// Forgets the object's bytes from `size` on.
    public mutating func truncateObject(_ id: ObjectID, to size: UInt64) {
        add(.truncateObject(id, size: size))
    }

    /// Forgets all of the object's bytes; its row in table `objects` is the service's to delete.
    public mutating func removeObject(_ id: ObjectID) { add(.removeObject(id)) }

    private mutating func add(_ operation: StoreOperation) {
        byteCount += operation.byteCount
        operations.append(operation)
    }

    private static func check(_ key: [UInt8]) {
        precondition(
            !key.isEmpty && key.count <= StoreLimits.keyByteCountMax,
            "a key has 1 to 511 bytes")
    }
}
