internal import Glibc

/// What a database's pages say that LMDB would not have written.
enum DatabaseFault: Error {
    case damaged(String)
    case unreadable(FileError)

    func at(_ path: String) -> StoreError {
        switch self {
        case .damaged(let detail): .corrupt(path: path, detail: detail)
        case .unreadable(let error): error.at(path)
        }
    }
}

/// A page's bytes, read with bounds: numbers are the machine's own, as LMDB stores them.
struct PageBytes {
    let bytes: [UInt8]

    func u16(_ offset: Int) -> Int { Int(bytes[offset]) | Int(bytes[offset + 1]) << 8 }

    func u32(_ offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
    }

    func u64(_ offset: Int) -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
    }
}

/// LMDB's record of one tree (`MDB_db`, mdb.c): 48 bytes.
struct TreeRecord {
    static let byteCount = 48
    static let noPage = UInt64.max

    var flags: Int
    var depth: Int
    var branchPages: UInt64
    var leafPages: UInt64
    var overflowPages: UInt64
    var entries: UInt64
    var root: UInt64

    init(_ page: PageBytes, at offset: Int) {
        flags = page.u16(offset + 4)
        depth = page.u16(offset + 6)
        branchPages = page.u64(offset + 8)
        leafPages = page.u64(offset + 16)
        overflowPages = page.u64(offset + 24)
        entries = page.u64(offset + 32)
        root = page.u64(offset + 40)
    }
}

/// The two root pages of a database (`MDB_meta`, mdb.c), of which the younger counts.
///
/// LMDB writes them alternately, each within one sector, so that a crash leaves either the old or
/// the new one. It has no checksum for them and believes what they say. A page that it could not
/// have written is therefore refused here, even where the other is sound: that one may be older
/// than what clients were told is on disk.
struct DatabaseRoots {
    struct Root {
        var transaction: UInt64
        var lastPage: UInt64
        var freeList: TreeRecord
        var tables: TreeRecord
    }

    static let magic: UInt32 = 0xBEEF_C0DE
    static let dataVersion: UInt32 = 1
    private static let metaFlag = 0x08
    private static let byteCountMin = 16 + 8 + 16 + 2 * TreeRecord.byteCount + 16

    let pageSize: Int
    let roots: [Root]
    /// The one that counts.
    var current: Root { roots[roots[0].transaction < roots[1].transaction ? 1 : 0] }

    /// Reads and checks both.
    init(_ file: File) throws(DatabaseFault) {
        let head = try Self.read(file, offset: 0, count: 4096)
        guard head.bytes.count >= Self.byteCountMin else {
            throw .damaged("\(head.bytes.count) bytes long, less than a root page")
        }
        guard head.u32(16) == Self.magic else { throw .damaged("it is no LMDB database") }
        guard head.u32(20) == Self.dataVersion else {
            throw .damaged("its LMDB data version is \(head.u32(20)), not \(Self.dataVersion)")
        }
        let size = Int(head.u32(40))
        guard size >= 256, size <= 65536, size & (size - 1) == 0 else {
            throw .damaged("root page 0 gives a page size of \(size)")
        }
        pageSize = size
        var found: [Root] = []
        for number in 0..<2 {
            let page = try Self.read(file, offset: UInt64(number * size), count: size)
            found.append(try Self.root(page, number, size))
        }
        // Of two, one is the commit before the other; equal only in a new or repaired database.
        let (a, b) = (found[0].transaction, found[1].transaction)
        guard a == b || max(a, b) - min(a, b) == 1 else {
            throw .damaged("its root pages are of commits \(a) and \(b), which are not neighbours")
        }
        roots = found
    }

    /// Whether one root page is what LMDB writes; for repair.
    static func isSound(_ page: PageBytes, _ number: Int, pageSize: Int) -> Bool {
        do {
            _ = try root(page, number, pageSize)
            return true
        } catch {
            return false
        }
    }

    static func read(
        _ file: File, offset: UInt64, count: Int
    ) throws(DatabaseFault) -> PageBytes {
        do {
            return PageBytes(bytes: try file.read(offset: offset, count: count))
        } catch {
            throw .unreadable(error)
        }
    }

    private static func root(
        _ page: PageBytes, _ number: Int, _ size: Int
    ) throws(DatabaseFault) -> Root {
        func refuse(_ detail: String) -> DatabaseFault {
            .damaged("root page \(number) \(detail); `sluice store check` says more")
        }
        guard page.bytes.count >= byteCountMin else { throw refuse("is cut off") }
        guard page.u64(0) == UInt64(number), page.u16(10) == metaFlag, page.u32(16) == magic,
            page.u32(20) == dataVersion, Int(page.u32(40)) == size
        else { throw refuse("is torn or overwritten") }
        let root = Root(
            transaction: page.u64(16 + 8 + 16 + 2 * TreeRecord.byteCount + 8),
            lastPage: page.u64(16 + 8 + 16 + 2 * TreeRecord.byteCount),
            freeList: TreeRecord(page, at: 40),
            tables: TreeRecord(page, at: 40 + TreeRecord.byteCount))
        guard root.lastPage >= 1, root.lastPage < UInt64(Int64.max) / UInt64(size) else {
            throw refuse("gives \(root.lastPage) as its last page")
        }
        // The first tree's flags are also those of the database: no subdirectory (0x4000), and
        // integer keys. Another one here (a fixed map, say) would change how it is opened.
        guard [0x4008, 0x0008].contains(root.freeList.flags), root.tables.flags == 0 else {
            throw refuse("has flags that this program does not set")
        }
        for tree in [root.freeList, root.tables] {
            guard tree.root == TreeRecord.noPage || (2...root.lastPage).contains(tree.root),
                tree.depth <= 32, (tree.root == TreeRecord.noPage) == (tree.depth == 0)
            else { throw refuse("names a tree that cannot be") }
        }
        return root
    }
}
