internal import CLMDB
internal import Glibc
internal import StorageCore

/// Changes the format of a store that nobody serves, forward and back, in one transaction.
///
/// A build serves every format from 1 to its own as it finds it, so that the build before can have
/// the store back at any time. Converting is the step that ends that, until it is converted back:
/// what an operator does when an upgrade is final.
public enum StoreConversion {
    private static let batchRows = 4096

    /// Returns the format that the store had.
    ///
    /// Throws what opening throws; `corrupt` where a row or an object does not match its checksum:
    /// a conversion vouches for nothing that it cannot read. A crash in between leaves the format
    /// before.
    @discardableResult
    public static func convert(
        directory: String, to format: UInt32
    ) throws(StoreError) -> UInt32 {
        precondition((1...StoreIdentity.currentFormat).contains(format), "a format of this build")
        let layout = Layout(directory: directory)
        let summary = try StoreCheck.run(directory: directory, readsObjects: true) { _ in }
        guard summary.damageCount == 0 else {
            throw .corrupt(
                path: directory,
                detail: "\(summary.damageCount) findings of `sluice store check`")
        }
        if summary.format == format { return format }
        let lock = try StoreLock.take(directory: directory)
        defer { withExtendedLifetime(lock) {} }
        var options = DiskStore.Options()
        options.mapBytes = 64 << 30
        // Opening does the clean-up that is recorded: its records differ between formats.
        let opened = try OpenedStore(
            directory: directory, name: summary.target, kind: summary.kind, create: false,
            options: options)
        defer {
            opened.committer.closeFiles()
            opened.environment.close()
        }
        do {
            try rewrite(opened, layout, to: format)
        } catch let error as DatabaseError {
            throw StoreError(code: error.code, path: layout.database, call: "converting")
        } catch let error as StoreError {
            throw error
        } catch {
            preconditionFailure("nothing else is thrown: \(error)")
        }
        return summary.format
    }

    /// The protocol version below which no build may have the store of this target any more; nil
    /// where nothing is finalised. Holds the store's lock meanwhile.
    public static func finalizedVersion(directory: String) throws(StoreError) -> UInt16? {
        let summary = try StoreCheck.run(directory: directory, readsObjects: false) { _ in }
        let lock = try StoreLock.take(directory: directory)
        defer { withExtendedLifetime(lock) {} }
        var options = DiskStore.Options()
        options.mapBytes = 64 << 30
        let opened = try OpenedStore(
            directory: directory, name: summary.target, kind: summary.kind, create: false,
            options: options)
        defer {
            opened.committer.closeFiles()
            opened.environment.close()
        }
        do throws(DatabaseError) {
            let transaction = try opened.environment.beginRead()
            let row = try transaction.get(
                opened.tables.service[Int(Table.meta.rawValue)], Array("finalized".utf8))
            guard let bytes = row, bytes.count == 2 else { return nil }
            return UInt16(bytes[0]) | UInt16(bytes[1]) << 8
        } catch {
            throw StoreError(
                code: error.code, path: Layout(directory: directory).database, call: "reading")
        }
    }

    private static func rewrite(
        _ opened: OpenedStore, _ layout: Layout, to format: UInt32
    ) throws {
        var identity = opened.identity
        let transaction = try opened.environment.beginWrite()
        let old = opened.tables
        let new = try StoreTables(opening: transaction, format: format)
        let pairs = zip(
            old.service + [old.files, old.cleanup], new.service + [new.files, new.cleanup])
        for (from, to) in pairs {
            try copy(from, to, transaction)
        }
        let commits = try transaction.get(old.counters, StoreIdentity.commitsKey)
        if let commits { try transaction.put(new.counters, StoreIdentity.commitsKey, commits) }
        if let sums = new.sums {
            try addSums(sums, new, layout, transaction)
        } else if let sums = old.sums {
            try empty(sums, transaction)
        }
        for row in identity.rows { try transaction.delete(new.identity, row.key) }
        identity.format = format
        for row in identity.rows { try transaction.put(new.identity, row.key, row.value) }
        try transaction.commit()
    }

    private static func batch(
        _ table: TableHandle, after last: [UInt8]?, _ transaction: borrowing WriteTransaction
    ) throws(DatabaseError) -> [(key: [UInt8], value: [UInt8])] {
        var rows: [(key: [UInt8], value: [UInt8])] = []
        var isDamaged = false
        try transaction.scan(table, from: last.map { $0 + [0] } ?? []) { key, row in
            guard case .sound(let value) = row else {
                isDamaged = true
                return false
            }
            rows.append((key, value))
            return rows.count < batchRows
        }
        if isDamaged { throw DatabaseError(code: CLMDB_BAD_SEAL) }
        return rows
    }

    /// The same rows in the other format.
    private static func copy(
        _ from: TableHandle, _ to: TableHandle, _ transaction: borrowing WriteTransaction
    ) throws(DatabaseError) {
        var last: [UInt8]?
        while true {
            let rows = try batch(from, after: last, transaction)
            guard let end = rows.last else { return }
            for row in rows { try transaction.put(to, row.key, row.value) }
            last = end.key
        }
    }

    private static func empty(
        _ table: TableHandle, _ transaction: borrowing WriteTransaction
    ) throws(DatabaseError) {
        while true {
            let rows = try batch(table, after: nil, transaction)
            if rows.isEmpty { return }
            for row in rows { try transaction.delete(table, row.key) }
        }
    }

    /// Sums of every object's bytes, as they are.
    private static func addSums(
        _ sums: TableHandle, _ tables: StoreTables, _ layout: Layout,
        _ transaction: borrowing WriteTransaction
    ) throws {
        var last: [UInt8]?
        while true {
            let rows = try batch(tables.files, after: last, transaction)
            guard let end = rows.last else { return }
            last = end.key
            for row in rows {
                guard let id = ObjectID(key: row.key), let record = FileRecord(row.value) else {
                    throw StoreError.corrupt(
                        path: layout.database, detail: "a file record makes no sense")
                }
                let path = layout.path(FileID(object: id, incarnation: record.incarnation))
                do throws(FileError) {
                    let file = try File(path, O_RDONLY)
                    defer { file.close() }
                    var offset: UInt64 = 0
                    while offset < record.length {
                        let range = offset..<min(offset + BlockSums.rowByteCount, record.length)
                        let found = BlockSums(of: try file.readPadded(range))
                        if !found.isEmpty {
                            let key = BlockSums.key(
                                id, rowIndex: offset / BlockSums.rowByteCount)
                            do throws(DatabaseError) {
                                try transaction.put(sums, key, found.row)
                            } catch {
                                throw FileError(code: error.code, call: "converting")
                            }
                        }
                        offset = range.upperBound
                    }
                } catch {
                    throw error.at(path)
                }
            }
        }
    }
}

/// Puts a sound root page in a damaged one's place.
public enum StoreRepair {
    /// Returns a sentence that says what was done, or nil where both root pages are sound.
    ///
    /// The store goes back to the commit of the sound page. Where a crash tore the other, nobody
    /// was told of its commit, and clients replay it; where it was damaged later, what clients were
    /// told to forget is lost. Throws `corrupt` where neither is sound.
    public static func repairRoot(directory: String) throws(StoreError) -> String? {
        let layout = Layout(directory: directory)
        if try OpenedStore.fileCall(layout.database, File.kind(of:)) != .file {
            throw .noStore(directory: directory)
        }
        let lock = try StoreLock.take(directory: directory)
        defer { withExtendedLifetime(lock) {} }
        return try OpenedStore.fileCall(layout.database) { path throws(FileError) in
            let file = try File(path, O_RDWR)
            defer { file.close() }
            return Result { () throws(StoreError) in try repair(file, path) }
        }.get()
    }

    private static func repair(_ file: File, _ path: String) throws(StoreError) -> String? {
        do throws(FileError) {
            for size in [4096, 8192, 16384, 32768, 65536] {
                let pages = [
                    PageBytes(bytes: try file.read(offset: 0, count: size)),
                    PageBytes(bytes: try file.read(offset: UInt64(size), count: size)),
                ]
                let sound = (0..<2).filter {
                    DatabaseRoots.isSound(pages[$0], $0, pageSize: size)
                }
                if sound.count == 2 { return nil }
                guard let number = sound.first else { continue }
                var copy = pages[number].bytes
                copy[0] = UInt8(1 - number)
                try file.write(
                    copy, start: 0, count: size, offset: UInt64((1 - number) * size))
                try file.sync()
                let transaction = pages[number].u64(144)
                return "root page \(1 - number) of \(path) was damaged and is now a copy of root "
                    + "page \(number): the store is at LMDB transaction \(transaction)"
            }
        } catch {
            throw error.at(path)
        }
        throw .corrupt(path: path, detail: "neither of its root pages is sound")
    }
}
