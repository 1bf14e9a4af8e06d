internal import StorageCore

/// LMDB's handles of all tables of a store.
struct StoreTables: Sendable {
    /// By `Table.rawValue`.
    var service: [UInt32]
    /// `StoreIdentity` and the count of commits.
    var identity: UInt32
    /// `FileRecord` by object id.
    var files: UInt32
    /// `Cleanup` work that is committed and perhaps not done.
    var cleanup: UInt32

    static let identityName = "store:identity"
    private static let filesName = "store:files"
    private static let cleanupName = "store:cleanup"

    /// Tables of this format, and room for those of later ones.
    static let countMax: UInt32 = 32

    /// Opens every table, creating what is missing.
    init(opening transaction: borrowing WriteTransaction) throws(DatabaseError) {
        service = []
        for table in Table.allCases {
            service.append(try transaction.openTable(Self.name(table)))
        }
        identity = try transaction.openTable(Self.identityName)
        files = try transaction.openTable(Self.filesName)
        cleanup = try transaction.openTable(Self.cleanupName)
    }

    subscript(table: Table) -> UInt32 { service[Int(table.rawValue)] }

    /// Part of the format: a name is never given to anything else.
    private static func name(_ table: Table) -> String {
        switch table {
        case .meta: "meta"
        case .clients: "clients"
        case .replyData: "reply-data"
        case .inodes: "inodes"
        case .dirents: "dirents"
        case .orphans: "orphans"
        case .destroyLog: "destroy-log"
        case .objects: "objects"
        case .audit: "audit"
        case .reservations: "reservations"
        }
    }
}
