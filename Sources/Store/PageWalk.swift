/// Reads every page of an LMDB database that is in use and checks what its readers rely on, without
/// LMDB, which trusts pages and ends the process where they lead astray.
///
/// Layouts of LMDB 0.9 (`MDB_page`, `MDB_node`, mdb.c), numbers in the machine's order:
///
/// ```
/// page  | number 8 | pad 2 | flags 2 | lower 2, upper 2 (overflow: pages 4) | node offsets 2 each
/// node  | low 2 | high 2 | flags 2 | key size 2 | key | value
///         leaf: value size = low + high << 16;  branch: page = low + high << 16 + flags << 32
/// ```
///
/// Checked: page numbers and kinds, bounds of every node, ascending keys within their parents'
/// bounds, depth, the counts in each tree's record, and that no page has two owners. What it does
/// not see is a bit flipped within a value: that is what the rows' own checksums are for.
struct PageWalk {
    private static let headerBytes = 16
    private static let nodeHeaderBytes = 8
    private static let branch = 0x01
    private static let leaf = 0x02
    private static let overflow = 0x04
    private static let fixedLeaf = 0x20
    /// Flags that only mean something in memory: dirty, loose, keep.
    private static let memoryFlags = 0x10 | 0x4000 | 0x8000
    private static let bigValue = 0x01
    private static let subTree = 0x02
    private static let duplicates = 0x04
    /// Keys are the machine's integers (the free list's).
    private static let integerKeys = 0x08

    private let file: File
    private let pageSize: Int
    private let lastPage: UInt64
    private var isOwned: [Bool]
    private var counts = (branch: UInt64(0), leaf: UInt64(0), overflow: UInt64(0), rows: UInt64(0))
    /// Trees of the tables, found in the main one.
    private var tables: [(name: String, record: TreeRecord)] = []
    private var isMain = false
    private var free: [UInt64] = []

    /// Pages that the walk read.
    private(set) var pageCount = 0

    private init(_ file: File, _ roots: DatabaseRoots) {
        self.file = file
        pageSize = roots.pageSize
        lastPage = roots.current.lastPage
        isOwned = Array(repeating: false, count: Int(lastPage) + 1)
    }

    /// Returns how many pages are in use, and how many there are.
    @discardableResult
    static func check(_ file: File) throws(DatabaseFault) -> (used: Int, total: Int) {
        let roots = try DatabaseRoots(file)
        let size: UInt64
        do {
            size = try file.size()
        } catch {
            throw .unreadable(error)
        }
        // The pages' owners are noted in memory: a page number out of a flipped bit must not ask
        // for all of it.
        guard roots.current.lastPage <= size / UInt64(roots.pageSize) + 1 << 20 else {
            throw .damaged(
                "\(size) bytes long, and its last page would be \(roots.current.lastPage)")
        }
        var walk = PageWalk(file, roots)
        try walk.tree(roots.current.freeList, "the free list")
        walk.isMain = true
        try walk.tree(roots.current.tables, "the list of tables")
        walk.isMain = false
        for table in walk.tables { try walk.tree(table.record, "table \(table.name)") }
        for page in walk.free {
            guard page >= 2, page <= roots.current.lastPage else {
                throw .damaged("the free list names page \(page), which does not exist")
            }
            guard !walk.isOwned[Int(page)] else {
                throw .damaged("page \(page) is in use and on the free list")
            }
        }
        return (walk.pageCount, Int(roots.current.lastPage) + 1)
    }

    private mutating func tree(_ record: TreeRecord, _ name: String) throws(DatabaseFault) {
        counts = (0, 0, 0, 0)
        if record.root != TreeRecord.noPage {
            try visit(record.root, record, name, depth: 1, above: nil, below: nil)
        }
        guard counts.branch == record.branchPages, counts.leaf == record.leafPages,
            counts.overflow == record.overflowPages, counts.rows == record.entries
        else {
            throw .damaged(
                "\(name) has \(counts.rows) rows on \(counts.leaf) pages instead of "
                    + "\(record.entries) on \(record.leafPages)")
        }
    }

    private mutating func take(_ number: UInt64, _ name: String) throws(DatabaseFault) {
        guard number >= 2, number <= lastPage else {
            throw .damaged("\(name) leads to page \(number), which does not exist")
        }
        guard !isOwned[Int(number)] else {
            throw .damaged("\(name) leads to page \(number), which stands elsewhere too")
        }
        isOwned[Int(number)] = true
        pageCount += 1
    }

    private func read(_ number: UInt64, _ name: String) throws(DatabaseFault) -> PageBytes {
        let page = try DatabaseRoots.read(
            file, offset: number * UInt64(pageSize), count: pageSize)
        guard page.bytes.count == pageSize else {
            throw .damaged("page \(number) of \(name) is cut off")
        }
        guard page.u64(0) == number else {
            throw .damaged("page \(number) of \(name) says that it is page \(page.u64(0))")
        }
        return page
    }

    private mutating func visit(
        _ number: UInt64, _ record: TreeRecord, _ name: String, depth: Int, above: [UInt8]?,
        below: [UInt8]?
    ) throws(DatabaseFault) {
        try take(number, name)
        let page = try read(number, name)
        let flags = page.u16(10) & ~Self.memoryFlags
        func refuse(_ detail: String) -> DatabaseFault {
            .damaged("page \(number) of \(name) \(detail)")
        }
        guard flags == (depth == record.depth ? Self.leaf : Self.branch) else {
            throw refuse("is of kind \(flags) at depth \(depth) of \(record.depth)")
        }
        let (lower, upper) = (page.u16(12), page.u16(14))
        guard lower >= Self.headerBytes, lower % 2 == 0, lower <= upper, upper <= pageSize else {
            throw refuse("has no bounds")
        }
        let nodeCount = (lower - Self.headerBytes) / 2
        if flags == Self.branch { counts.branch += 1 } else { counts.leaf += 1 }
        guard nodeCount > (flags == Self.branch ? 1 : 0) else { throw refuse("is empty") }
        var before = above
        var children: [(page: UInt64, key: [UInt8])] = []
        for index in 0..<nodeCount {
            let node = page.u16(Self.headerBytes + 2 * index)
            guard node >= upper, node + Self.nodeHeaderBytes <= pageSize else {
                throw refuse("has a node outside of it")
            }
            let keySize = page.u16(node + 6)
            let keyEnd = node + Self.nodeHeaderBytes + keySize
            guard keyEnd <= pageSize else { throw refuse("has a key that does not end") }
            let key = Array(page.bytes[(node + Self.nodeHeaderBytes)..<keyEnd])
            let isFirstBranch = flags == Self.branch && index == 0
            if !isFirstBranch {
                if let before, !precedes(before, key, record, orEqual: index == 0) {
                    throw refuse("has keys out of order")
                }
                if let below, !precedes(key, below, record, orEqual: false) {
                    throw refuse("has a key that belongs behind it")
                }
                before = key
            }
            if flags == Self.branch {
                let child =
                    UInt64(page.u16(node)) | UInt64(page.u16(node + 2)) << 16
                    | UInt64(page.u16(node + 4)) << 32
                children.append((child, key))
            } else {
                try value(page, node, keyEnd, key, name, refuse)
            }
        }
        for (index, child) in children.enumerated() {
            try visit(
                child.page, record, name, depth: depth + 1,
                above: index == 0 ? above : child.key,
                below: index + 1 < children.count ? children[index + 1].key : below)
        }
    }

    private func precedes(
        _ a: [UInt8], _ b: [UInt8], _ record: TreeRecord, orEqual: Bool
    ) -> Bool {
        if orEqual, a == b { return true }
        if record.flags & Self.integerKeys != 0, a.count == 8, b.count == 8 {
            return PageBytes(bytes: a).u64(0) < PageBytes(bytes: b).u64(0)
        }
        return a.lexicographicallyPrecedes(b)
    }

    private mutating func value(
        _ page: PageBytes, _ node: Int, _ start: Int, _ key: [UInt8], _ name: String,
        _ refuse: (String) -> DatabaseFault
    ) throws(DatabaseFault) {
        counts.rows += 1
        let size = page.u16(node) | page.u16(node + 2) << 16
        let flags = page.u16(node + 4)
        guard flags & Self.duplicates == 0 else { throw refuse("has a kind of row nobody wrote") }
        let bytes: [UInt8]
        if flags & Self.bigValue != 0 {
            guard start + 8 <= pageSize else { throw refuse("has a value that does not end") }
            bytes = try big(page.u64(start), size, name)
        } else {
            guard start + size <= pageSize else { throw refuse("has a value that does not end") }
            bytes = Array(page.bytes[start..<(start + size)])
        }
        if flags & Self.subTree != 0 {
            guard isMain, bytes.count == TreeRecord.byteCount else {
                throw refuse("has a table that makes no sense")
            }
            tables.append(
                (String(decoding: key, as: UTF8.self), TreeRecord(PageBytes(bytes: bytes), at: 0)))
        } else if name == "the free list" {
            // Count, then page numbers (`MDB_IDL`).
            guard bytes.count >= 8, bytes.count % 8 == 0 else { throw refuse("is misshapen") }
            let list = PageBytes(bytes: bytes)
            guard list.u64(0) <= UInt64(bytes.count / 8 - 1) else { throw refuse("is misshapen") }
            for index in 0..<Int(list.u64(0)) { free.append(list.u64(8 + 8 * index)) }
        }
    }

    /// A value on pages of its own.
    private mutating func big(
        _ number: UInt64, _ size: Int, _ name: String
    ) throws(DatabaseFault) -> [UInt8] {
        try take(number, name)
        let page = try read(number, name)
        let needed = (Self.headerBytes + size + pageSize - 1) / pageSize
        guard page.u16(10) & ~Self.memoryFlags == Self.overflow,
            UInt64(page.u32(12)) == UInt64(needed)
        else {
            throw .damaged("page \(number) of \(name) should hold a value of \(size) bytes")
        }
        counts.overflow += UInt64(needed)
        for offset in 1..<max(needed, 1) { try take(number + UInt64(offset), name) }
        let run = try DatabaseRoots.read(
            file, offset: number * UInt64(pageSize) + UInt64(Self.headerBytes), count: size)
        guard run.bytes.count == size else {
            throw .damaged("page \(number) of \(name) is cut off")
        }
        return run.bytes
    }
}
