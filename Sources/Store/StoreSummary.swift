/// What a store holds, as `StoreCheck` found it.
public struct StoreSummary: Sendable, Codable, Equatable {
    public struct TableSummary: Sendable, Codable, Equatable {
        public var name: String
        public var rows: Int
        /// Keys and values.
        public var bytes: Int
    }

    public var directory: String
    public var target: String
    public var kind: String
    public var format: UInt32
    public var features: UInt64
    /// Seconds of the real-time clock.
    public var created: UInt64
    /// LMDB transactions since the store was made.
    public var commits: UInt64
    /// Whether the last server left a clean record, so that the next start needs no recovery.
    public var isClean: Bool
    public var pageBytes: Int
    public var pagesInUse: Int
    public var pages: Int
    public var tables: [TableSummary] = []
    public var objects = 0
    /// Lengths of objects, holes among them.
    public var objectBytes: UInt64 = 0
    /// Work that is committed and perhaps not done; the next start does it.
    public var pendingCleanups = 0
    /// Files that no record names: they only cost space.
    public var strayFiles = 0
    /// What is wrong.
    public var damageCount = 0
}
