internal import CLMDB
internal import StorageCore

/// LMDB's handles of all tables of a store, and how their rows are sealed in its format.
struct StoreTables: Sendable {
    /// By `Table.rawValue`.
    var service: [TableHandle]
    /// `StoreIdentity`: legible to every build, with a checksum row of its own.
    var identity: TableHandle
    /// The same table for the count of commits, which is sealed like any row.
    var counters: TableHandle
    /// `FileRecord` by object id.
    var files: TableHandle
    /// `Cleanup` work that is committed and perhaps not done.
    var cleanup: TableHandle
    /// `BlockSums` by object id and row index; nil in format 1, which has none.
    var sums: TableHandle?

    static let identityName = "store:identity"
    static let filesName = "store:files"
    static let cleanupName = "store:cleanup"
    static let sumsName = "store:sums"

    /// Tables of this format, and room for those of later ones.
    static let countMax: UInt32 = 32

    /// Opens every table, creating what is missing.
    init(
        opening transaction: borrowing WriteTransaction, format: UInt32
    ) throws(DatabaseError) {
        service = []
        for table in Table.allCases {
            service.append(
                Self.handle(Self.name(table), try transaction.openTable(Self.name(table)), format))
        }
        let number = try transaction.openTable(Self.identityName)
        identity = TableHandle(number: number, seed: nil)
        counters = Self.handle(Self.identityName, number, format)
        files = Self.handle(Self.filesName, try transaction.openTable(Self.filesName), format)
        cleanup = Self.handle(
            Self.cleanupName, try transaction.openTable(Self.cleanupName), format)
        sums =
            format >= 2
            ? Self.handle(Self.sumsName, try transaction.openTable(Self.sumsName), format) : nil
    }

    /// Opens every table for as long as the snapshot lives. Throws `CLMDB_NOTFOUND` where one is
    /// missing.
    init(reading reader: ReadTransaction, format: UInt32) throws(DatabaseError) {
        func open(_ name: String) throws(DatabaseError) -> TableHandle {
            guard let number = try reader.openTable(name) else {
                throw DatabaseError(code: CLMDB_NOTFOUND)
            }
            return Self.handle(name, number, format)
        }
        service = []
        for table in Table.allCases { service.append(try open(Self.name(table))) }
        counters = try open(Self.identityName)
        identity = TableHandle(number: counters.number, seed: nil)
        files = try open(Self.filesName)
        cleanup = try open(Self.cleanupName)
        sums = format >= 2 ? try open(Self.sumsName) : nil
    }

    private static func handle(_ name: String, _ number: UInt32, _ format: UInt32) -> TableHandle {
        TableHandle(number: number, seed: seed(name, format))
    }

    /// Where the checksums of a table's rows begin: a row is not taken for one of another table.
    static func seed(_ name: String, _ format: UInt32) -> UInt32? {
        format >= 2 ? Checksum.crc32c(Array(name.utf8)) : nil
    }

    subscript(table: Table) -> TableHandle { service[Int(table.rawValue)] }

    /// Every sealed table but the counters, by name.
    var sealed: [(name: String, handle: TableHandle)] {
        var all = Table.allCases.map { (Self.name($0), self[$0]) }
        all += [(Self.filesName, files), (Self.cleanupName, cleanup)]
        if let sums { all.append((Self.sumsName, sums)) }
        return all
    }

    /// Part of the format: a name is never given to anything else.
    static func name(_ table: Table) -> String {
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
