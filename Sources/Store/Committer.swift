internal import CLMDB
internal import Glibc
internal import StorageCore

/// Where a test may let a commit fail, in the order in which a commit passes them.
package enum CommitStep: CaseIterable, Sendable {
    case writingObjects, syncingObjects, committingDatabase, cleaningUp
}

/// Why a commit did not come to its end.
enum CommitFailure: Error {
    /// The map must grow first; nothing happened.
    case mapFull
    /// Not durable.
    case failed(StoreError)
    /// Durable, but the clean-up behind it is not done.
    case cleanupFailed(StoreError)
}

/// What one commit cost.
struct CommitCosts {
    var objectBytes: UInt64 = 0
    var filesWritten: UInt64 = 0
    var syncNanoseconds: UInt64 = 0
    var databaseNanoseconds: UInt64 = 0
}

/// Makes groups durable. Owned by one thread.
///
/// 1. Object bytes are written to their files: behind their committed ends, or to a new
/// incarnation. 2. They are synced. 3. One LMDB transaction commits the tables, the file records,
/// the checksums and the clean-up work, which holds the bytes that go over committed ones. 4. The
/// clean-up is done: files without a record go, cut-off ranges become holes, bytes are written over.
/// The article `Store` says what a crash leaves at each point.
final class Committer {
    /// Up to here each file is synced alone; above it one syncfs is cheaper.
    private static let singleSyncsMax = 16

    struct Change {
        var extents = ExtentMap()
        /// The smallest size that the object was cut to.
        var limit = UInt64.max

        mutating func cut(to size: UInt64) {
            extents.truncate(to: size)
            limit = min(limit, size)
        }
    }

    let layout: Layout
    private let environment: Environment
    let tables: StoreTables
    let files: ObjectFiles
    private let fault: (@Sendable (CommitStep) -> Int32)?
    /// Committed and not done.
    private var pending: [Cleanup] = []
    /// Done; the next transaction deletes their records, before anything can write there again.
    private var doneKeys: [[UInt8]] = []
    /// Files that clean-up wrote to: on the disk before their records go.
    private var unsynced: [FileID] = []

    init(
        layout: Layout, environment: Environment, tables: StoreTables, descriptorsMax: Int,
        fault: (@Sendable (CommitStep) -> Int32)?
    ) {
        self.layout = layout
        self.environment = environment
        self.tables = tables
        self.fault = fault
        files = ObjectFiles(layout: layout, flags: O_RDWR, capacity: descriptorsMax)
    }

    func closeFiles() { files.closeAll() }

    /// Does the work that the last run had committed and not finished.
    func recover() throws(CommitFailure) {
        try mappingFailures {
            let reader = try environment.beginRead()
            var isDamaged = false
            try reader.scan(tables.cleanup, from: []) { key, row in
                guard case .sound(let value) = row, let cleanup = Cleanup(key: key, value: value)
                else {
                    isDamaged = true
                    return false
                }
                pending.append(cleanup)
                return true
            }
            if isDamaged {
                throw StoreError.corrupt(
                    path: layout.database, detail: "a clean-up record makes no sense")
            }
        }
        try cleanUp()
        if !doneKeys.isEmpty { _ = try commit([]) }
    }

    /// Makes the groups durable, all or none.
    func commit(_ groups: ArraySlice<CommitGroup>) throws(CommitFailure) -> CommitCosts {
        precondition(pending.isEmpty, "the clean-up of one commit ends before the next begins")
        var costs = CommitCosts()
        var cuts: [(file: FileID, size: UInt64)] = []
        try mappingFailures {
            let transaction = try environment.beginWrite()
            // Numbers commits over all runs: a new file's incarnation.
            let row = try transaction.get(tables.counters, StoreIdentity.commitsKey)
            let number = row.map { $0.count == 8 ? bigEndian($0, at: 0) + 1 : 1 } ?? 1
            let cleanups = try writeObjects(
                changes(groups), in: transaction, number: number, cuts: &cuts, costs: &costs)
            let start = monotonicNanoseconds()
            try writeTables(groups, in: transaction)
            for key in doneKeys { try transaction.delete(tables.cleanup, key) }
            for cleanup in cleanups {
                try transaction.put(tables.cleanup, cleanup.key, cleanup.value)
            }
            try transaction.put(tables.counters, StoreIdentity.commitsKey, bigEndian(number))
            try check(.committingDatabase, layout.database)
            try transaction.commit()
            costs.databaseNanoseconds = monotonicNanoseconds() - start
            doneKeys.removeAll()
            unsynced.removeAll()
            pending = cleanups
        }
        for cut in cuts {
            // Only gives the space back: the record's length hides these bytes already, and the
            // next write to the file cuts them off before it.
            try? files.open(cut.file).truncate(to: cut.size)
        }
        try cleanUp()
        return costs
    }

    /// Does the pending clean-up, as far as it goes.
    func cleanUp() throws(CommitFailure) {
        while let cleanup = pending.last {
            let path = layout.path(cleanup.file)
            do {
                try check(.cleaningUp, path)
                switch cleanup.work {
                case .remove:
                    files.forget(cleanup.file)
                    try fileCall(path) { () throws(FileError) in try File.remove(path) }
                case .zero(let ranges):
                    try fileCall(path) { () throws(FileError) in
                        let file = try files.openOrMake(cleanup.file)
                        for range in ranges {
                            try file.zero(
                                offset: range.lowerBound,
                                count: range.upperBound - range.lowerBound)
                        }
                        try file.syncData()
                    }
                case .write(_, let pieces):
                    try fileCall(path) { () throws(FileError) in
                        let file = try files.openOrMake(cleanup.file)
                        for piece in pieces {
                            try file.write(
                                piece.bytes, start: 0, count: piece.bytes.count,
                                offset: piece.offset)
                        }
                    }
                    if unsynced.last != cleanup.file { unsynced.append(cleanup.file) }
                }
            } catch {
                throw .cleanupFailed(error)
            }
            pending.removeLast()
            doneKeys.append(cleanup.key)
        }
    }

    /// The net effect of the groups on each object.
    private func changes(_ groups: ArraySlice<CommitGroup>) -> SortedMap<ObjectID, Change> {
        var changes = SortedMap<ObjectID, Change>()
        for group in groups {
            for operation in group.operations {
                switch operation {
                case .put, .delete:
                    break
                case .writeObject(let id, let offset, let bytes):
                    changes.update(id, inserting: Change()) {
                        $0.extents.write(bytes, at: offset, group: 0)
                    }
                case .truncateObject(let id, let size):
                    changes.update(id, inserting: Change()) { $0.cut(to: size) }
                case .removeObject(let id):
                    changes.update(id, inserting: Change()) { $0.cut(to: 0) }
                }
            }
        }
        return changes
    }

    private func writeTables(
        _ groups: ArraySlice<CommitGroup>, in transaction: borrowing WriteTransaction
    ) throws(DatabaseError) {
        for group in groups {
            for operation in group.operations {
                switch operation {
                case .put(let table, let key, let value):
                    try transaction.put(tables[table], key, value)
                case .delete(let table, let key):
                    try transaction.delete(tables[table], key)
                case .writeObject, .truncateObject, .removeObject:
                    break
                }
            }
        }
    }

    /// Writes and syncs object bytes and puts the records that will name them. Nothing that a
    /// committed record names is cut off, emptied, removed or (from format 2 on) written over here.
    private func writeObjects(
        _ changes: SortedMap<ObjectID, Change>, in transaction: borrowing WriteTransaction,
        number: UInt64, cuts: inout [(file: FileID, size: UInt64)], costs: inout CommitCosts
    ) throws -> [Cleanup] {
        var cleanups: [Cleanup] = []
        var written = unsynced
        var directories: [String] = []
        var position = changes.startPosition
        while !changes.isEnd(position) {
            let (id, change) = (changes[position].key, changes[position].value)
            position = changes.next(position)
            let row = try transaction.get(tables.files, id.key)
            let old = try row.map { bytes throws(StoreError) in
                guard let record = FileRecord(bytes) else {
                    throw .corrupt(
                        path: layout.database, detail: "the file record of \(id) makes no sense")
                }
                return record
            }
            guard let old, change.limit > 0 else {
                // New, emptied or removed: new bytes go to a file of their own.
                if let old {
                    cleanups.append(
                        Cleanup(
                            file: FileID(object: id, incarnation: old.incarnation), work: .remove))
                    try dropSums(id, in: transaction)
                }
                guard !change.extents.isEmpty else {
                    if old != nil { try transaction.delete(tables.files, id.key) }
                    continue
                }
                let file = FileID(object: id, incarnation: number)
                try write(change.extents.extents, to: file, endingAt: nil, &costs)
                written.append(file)
                directories.append(layout.objectDirectory(of: file))
                let record = FileRecord(incarnation: number, length: change.extents.end)
                try transaction.put(tables.files, id.key, record.bytes)
                try putSums(id, change.extents, length: record.length, in: transaction)
                continue
            }
            let file = FileID(object: id, incarnation: old.incarnation)
            let kept = min(old.length, change.limit)
            let length = max(kept, change.extents.end)
            if !change.extents.isEmpty {
                let (direct, over) = split(change.extents, at: old.length)
                if !direct.isEmpty {
                    try write(direct, to: file, endingAt: old.length, &costs)
                    written.append(file)
                }
                cleanups += Self.rewrites(over, of: file)
                let holes = change.extents.holes(in: kept..<min(old.length, length))
                if !holes.isEmpty { cleanups.append(Cleanup(file: file, work: .zero(holes))) }
            }
            try changeSums(id, change, from: old, kept: kept, length: length, in: transaction)
            if length < old.length { cuts.append((file, length)) }
            if length != old.length {
                let record = FileRecord(incarnation: old.incarnation, length: length)
                try transaction.put(tables.files, id.key, record.bytes)
            }
        }
        try sync(written, directories, &costs)
        return cleanups
    }

    /// The extents that may go to the file before the commit, and those that go over committed
    /// bytes and must not. Format 1 has no records for the latter and writes them in place.
    private func split(
        _ extents: ExtentMap, at end: UInt64
    ) -> (direct: [ExtentMap.Extent], over: [ExtentMap.Extent]) {
        guard tables.sums != nil else { return (extents.extents, []) }
        var direct: [ExtentMap.Extent] = []
        var over: [ExtentMap.Extent] = []
        for extent in extents.extents {
            if extent.offset >= end {
                direct.append(extent)
            } else if extent.end <= end {
                over.append(extent)
            } else {
                let cut = Int(end - extent.offset)
                var (below, behind) = (extent, extent)
                below.count = cut
                behind.offset = end
                behind.start += cut
                behind.count -= cut
                over.append(below)
                direct.append(behind)
            }
        }
        return (direct, over)
    }

    /// Records of bytes that go over committed ones, none larger than `pieceBytesMax`.
    private static func rewrites(_ extents: [ExtentMap.Extent], of file: FileID) -> [Cleanup] {
        var cleanups: [Cleanup] = []
        var pieces: [Cleanup.Piece] = []
        var byteCount = 0
        func flush() {
            guard !pieces.isEmpty else { return }
            cleanups.append(
                Cleanup(file: file, work: .write(part: UInt64(cleanups.count), pieces)))
            pieces = []
            byteCount = 0
        }
        for extent in extents {
            var done = 0
            while done < extent.count {
                let count = min(extent.count - done, Cleanup.pieceBytesMax - byteCount)
                let start = extent.start + done
                pieces.append(
                    Cleanup.Piece(
                        offset: extent.offset + UInt64(done),
                        bytes: Array(extent.bytes[start..<(start + count)])))
                done += count
                byteCount += count
                if byteCount == Cleanup.pieceBytesMax { flush() }
            }
        }
        flush()
        return cleanups
    }

    /// Writes extents to a file: a new one, or one whose record ends at `recordEnd`.
    private func write(
        _ extents: [ExtentMap.Extent], to id: FileID, endingAt recordEnd: UInt64?,
        _ costs: inout CommitCosts
    ) throws(StoreError) {
        let path = layout.path(id)
        try check(.writingObjects, path)
        let bytes = try fileCall(path) { () throws(FileError) -> UInt64 in
            let file: File
            if let recordEnd {
                file = tables.sums == nil ? try files.open(id) : try files.openOrMake(id)
                let size = try file.size()
                if tables.sums == nil, size < recordEnd {
                    throw FileError(code: -EIO, call: "a record longer than the file: write")
                }
                // What a commit that never came about left behind the end must not come to light
                // between the end and what is written now. A file that lost its end gets zeros,
                // which its checksums go on to refuse.
                if size != recordEnd { try file.truncate(to: recordEnd) }
            } else {
                // A commit of this number that never came about may have left a file.
                file = try files.open(id, alsoFlags: O_CREAT | O_TRUNC)
            }
            var count: UInt64 = 0
            for extent in extents {
                try file.write(
                    extent.bytes, start: extent.start, count: extent.count, offset: extent.offset)
                count += UInt64(extent.count)
            }
            return count
        }
        costs.objectBytes += bytes
        costs.filesWritten += 1
    }

    private func sync(
        _ written: [FileID], _ directories: [String], _ costs: inout CommitCosts
    ) throws(StoreError) {
        guard !written.isEmpty else { return }
        try check(.syncingObjects, layout.objects)
        let start = monotonicNanoseconds()
        if written.count <= Self.singleSyncsMax {
            for id in written {
                try fileCall(layout.path(id)) { () throws(FileError) in
                    try files.open(id).syncData()
                }
            }
            // New entries; sorted, so that a directory is synced once.
            var last = ""
            for directory in directories.sorted() where directory != last {
                last = directory
                try fileCall(directory) { () throws(FileError) in
                    try File.syncDirectory(directory)
                }
            }
        } else {
            try fileCall(layout.objects) { () throws(FileError) in
                let directory = try File(layout.objects, O_RDONLY | O_DIRECTORY)
                defer { directory.close() }
                try directory.syncFileSystem()
            }
        }
        costs.syncNanoseconds += monotonicNanoseconds() - start
    }

    private func check(_ step: CommitStep, _ path: String) throws(StoreError) {
        guard let code = fault?(step), code != 0 else { return }
        throw StoreError(code: code, path: path, call: "\(step)")
    }

    func fileCall<R>(
        _ path: String, _ body: () throws(FileError) -> R
    ) throws(StoreError) -> R {
        do {
            return try body()
        } catch {
            throw error.at(path)
        }
    }

    private func mappingFailures(_ body: () throws -> Void) throws(CommitFailure) {
        do {
            try body()
        } catch let error as DatabaseError {
            if error.code == CLMDB_MAP_FULL { throw .mapFull }
            throw .failed(StoreError(code: error.code, path: layout.database, call: "a commit"))
        } catch let error as StoreError {
            throw .failed(error)
        } catch {
            preconditionFailure("a commit throws nothing else: \(error)")
        }
    }
}
