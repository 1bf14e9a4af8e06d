/// Transactions that become durable together, in the order in which they were applied.
public struct CommitGroup: Sendable {
    /// Ascends from 1 within one run of a server.
    public let id: UInt64
    /// The highest transno in the group; 0 when none of its transactions has one.
    public internal(set) var highestTransno: UInt64 = 0
    public internal(set) var transactionCount = 0
    public internal(set) var operations: [StoreOperation] = []
    /// The sum over `operations`.
    public internal(set) var byteCount = 0

    public init(id: UInt64) { self.id = id }

    /// Adds one transaction's writes behind those already there.
    public mutating func append(_ transaction: Transaction) {
        highestTransno = max(highestTransno, transaction.transno)
        transactionCount += 1
        operations.append(contentsOf: transaction.operations)
        byteCount += transaction.byteCount
    }
}
