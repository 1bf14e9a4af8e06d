internal import CLMDB
internal import Glibc
internal import StorageCore

/// Reads a store that nobody serves, and says what is in it and what is wrong with it.
///
/// Changes nothing. Costs one read of every page of the database and, with `readsObjects`, of every
/// committed byte of every object.
public struct StoreCheck {
    private let layout: Layout
    private let environment: Environment
    private let reader: ReadTransaction
    private let tables: StoreTables
    private var summary: StoreSummary
    private let report: (String) -> Void

    /// Checks the store in `directory`; `report` gets a line for everything that is wrong.
    ///
    /// Throws what keeps it from being read at all: it is in use, there is none, its root or one of
    /// its pages is damaged, its format is newer. Holds the store's lock meanwhile.
    public static func run(
        directory: String, readsObjects: Bool, report: @escaping (String) -> Void
    ) throws(StoreError) -> StoreSummary {
        let layout = Layout(directory: directory)
        if try OpenedStore.fileCall(layout.database, File.kind(of:)) == .absent,
            try OpenedStore.fileCall(layout.objects, File.kind(of:)) == .absent
        {
            // Not even a lock is left in a directory that is no store's.
            throw .noStore(directory: directory)
        }
        let lock = try StoreLock.take(directory: directory)
        defer { withExtendedLifetime(lock) {} }
        let size = try OpenedStore.databaseSize(layout, create: false)
        let pages = try walk(layout)
        var options = DiskStore.Options()
        options.mapBytes = 0
        let environment = try OpenedStore.database(layout, size: max(size, 1 << 20), options)
        defer { environment.close() }
        var check = try StoreCheck(layout, environment, pages, report)
        try check.rows()
        try check.objects(reads: readsObjects)
        check.strays()
        return check.summary
    }

    private typealias Pages = (size: Int, used: Int, total: Int)

    private static func walk(_ layout: Layout) throws(StoreError) -> Pages {
        let file = try OpenedStore.fileCall(layout.database) { path throws(FileError) in
            try File(path, O_RDONLY)
        }
        defer { file.close() }
        do throws(DatabaseFault) {
            let roots = try DatabaseRoots(file)
            let (used, total) = try PageWalk.check(file)
            return (roots.pageSize, used, total)
        } catch {
            throw error.at(layout.database)
        }
    }

    private init(
        _ layout: Layout, _ environment: Environment, _ pages: Pages,
        _ report: @escaping (String) -> Void
    ) throws(StoreError) {
        self.layout = layout
        self.environment = environment
        self.report = report
        guard let identity = try OpenedStore.identity(layout, environment) else {
            throw .noStore(directory: layout.directory)
        }
        guard identity.format <= StoreIdentity.currentFormat else {
            throw .newerFormat(
                directory: layout.directory, found: identity.format,
                supported: StoreIdentity.currentFormat)
        }
        summary = StoreSummary(
            directory: layout.directory, target: identity.targetName, kind: identity.targetKind,
            format: identity.format, features: identity.features, created: identity.created,
            commits: 0, isClean: false, pageBytes: pages.size, pagesInUse: pages.used,
            pages: pages.total)
        do {
            reader = try environment.beginRead()
            tables = try StoreTables(reading: reader, format: identity.format)
        } catch {
            throw error.code == CLMDB_NOTFOUND
                ? .corrupt(path: layout.database, detail: "one of its tables is missing")
                : StoreError(code: error.code, path: layout.database, call: "a read")
        }
        do {
            let row = try reader.get(tables.counters, StoreIdentity.commitsKey)
            summary.commits = row.map { $0.count == 8 ? bigEndian($0, at: 0) : 0 } ?? 0
        } catch {
            damaged("the count of commits does not match its checksum")
        }
    }

    private mutating func damaged(_ line: String) {
        summary.damageCount += 1
        report(line)
    }

    private mutating func rows() throws(StoreError) {
        for (name, handle) in tables.sealed {
            var found = StoreSummary.TableSummary(name: name, rows: 0, bytes: 0)
            var lines: [String] = []
            do {
                try reader.scan(handle, from: []) { key, row in
                    found.rows += 1
                    switch row {
                    case .sound(let value): found.bytes += key.count + value.count
                    case .damaged:
                        let hex = key.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
                        lines.append(
                            "\(name): row 0x\(hex.joined()) does not match its checksum")
                    }
                    return true
                }
            } catch {
                lines.append("\(name): cannot be read to its end: \(StoreError.text(error.code))")
            }
            for line in lines { damaged(line) }
            summary.tables.append(found)
            if name == StoreTables.name(.reservations) { summary.isClean = found.rows > 0 }
            if name == StoreTables.cleanupName { summary.pendingCleanups = found.rows }
        }
    }

    private mutating func objects(reads: Bool) throws(StoreError) {
        var records: [(ObjectID, FileRecord)] = []
        var lines: [String] = []
        do {
            try reader.scan(tables.files, from: []) { key, row in
                guard case .sound(let value) = row else { return true }
                if let id = ObjectID(key: key), let record = FileRecord(value) {
                    records.append((id, record))
                } else {
                    lines.append("store:files: a record makes no sense")
                }
                return true
            }
        } catch {
            throw StoreError(code: error.code, path: layout.database, call: "a read")
        }
        for line in lines { damaged(line) }
        for (id, record) in records {
            summary.objects += 1
            summary.objectBytes += record.length
            object(id, record, reads: reads)
        }
        try orphanedSums()
    }

    private mutating func object(_ id: ObjectID, _ record: FileRecord, reads: Bool) {
        let fileID = FileID(object: id, incarnation: record.incarnation)
        let path = layout.path(fileID)
        do {
            let file = try File(path, O_RDONLY)
            defer { file.close() }
            let size = try file.size()
            if size < record.length {
                damaged("\(path): \(size) bytes long, and \(record.length) are committed")
            }
            guard reads else { return }
            let view = ObjectView(reader: reader, tables: tables)
            let pending = try view.pending(fileID)
            var offset: UInt64 = 0
            while offset < min(record.length, size) {
                let range = offset..<min(offset + BlockSums.rowByteCount, record.length)
                var bytes = try file.readPadded(range)
                for cleanup in pending { cleanup.paint(&bytes, offset: offset) }
                if let bad = view.firstDamage(id, bytes, offset: offset) {
                    damaged("\(path): does not match its checksum at byte \(bad)")
                    return
                }
                offset = range.upperBound
            }
        } catch let error as FileError {
            damaged(
                error.code == -ENOENT
                    ? "\(path): missing, and \(record.length) bytes of it are committed"
                    : "\(error.at(path))")
        } catch {
            damaged("\(path): its records cannot be read")
        }
    }

    /// Checksums of objects that do not exist.
    private mutating func orphanedSums() throws(StoreError) {
        guard let sums = tables.sums else { return }
        var last: ObjectID?
        var orphans: [ObjectID] = []
        do {
            let (reader, files) = (reader, tables.files)
            try reader.scan(sums, from: []) { key, _ in
                guard key.count == 24, let id = ObjectID(key: Array(key[..<16])), id != last else {
                    return true
                }
                last = id
                if let found = try? reader.get(files, id.key), !found.isEmpty { return true }
                orphans.append(id)
                return true
            }
        } catch {
            throw StoreError(code: error.code, path: layout.database, call: "a read")
        }
        for id in orphans { damaged("store:sums: checksums of object \(id), which has no record") }
    }

    /// Files that no record names, and directories that are gone.
    private mutating func strays() {
        for byte in UInt8.min...UInt8.max {
            let directory = layout.objectDirectory(byte)
            guard let names = try? File.entries(of: directory) else {
                damaged("\(directory): missing or unreadable")
                continue
            }
            for name in names where !isNamed(name) { summary.strayFiles += 1 }
        }
    }

    private func isNamed(_ name: String) -> Bool {
        let parts = name.split(whereSeparator: { $0 == "-" || $0 == "." })
        guard parts.count == 3, let sequence = UInt64(parts[0], radix: 16),
            let number = UInt64(parts[1], radix: 16),
            let incarnation = UInt64(parts[2], radix: 16)
        else { return false }
        let id = ObjectID(sequence: sequence, number: number)
        guard let row = try? reader.get(tables.files, id.key) else { return false }
        return FileRecord(row)?.incarnation == incarnation
    }
}
