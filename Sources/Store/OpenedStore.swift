internal import CLMDB
internal import Glibc
internal import StorageCore

/// A store that passed every check and is recovered, before its threads start.
struct OpenedStore {
    let layout: Layout
    let environment: Environment
    let tables: StoreTables
    let identity: StoreIdentity
    let committer: Committer

    /// Opens what is in `directory`, whose lock the caller holds.
    init(
        directory: String, name: String, kind: String, create: Bool, options: DiskStore.Options
    ) throws(StoreError) {
        let layout = Layout(directory: directory)
        self.layout = layout
        let databaseSize = try Self.databaseSize(layout, create: create)
        if databaseSize > 0 { try Self.checkRoots(layout) }
        let environment = try Self.database(layout, size: databaseSize, options)
        self.environment = environment
        do throws(StoreError) {
            try Self.checkPages(layout, environment)
            let found = try Self.identity(layout, environment)
            if let found {
                try Self.check(found, layout, name: name, kind: kind, options)
                try Self.checkObjectDirectories(layout)
                try Self.verify(layout, environment, options.verification)
                identity = found
            } else {
                // A creation that never came to its end looks the same as none: begin anew.
                guard create else { throw StoreError.noStore(directory: directory) }
                identity = StoreIdentity(
                    format: options.newStoreFormat, features: options.newStoreFeatures, name: name,
                    kind: kind, created: UInt64(time(nil)))
                try Self.makeObjectDirectories(layout)
            }
            tables = try Self.tables(
                layout, environment, identity, isNew: found == nil)
            if found == nil { try Self.fileCall(directory, File.syncDirectory) }
            committer = Committer(
                layout: layout, environment: environment, tables: tables,
                descriptorsMax: options.descriptorsMax, fault: options.fault)
            do throws(CommitFailure) {
                try committer.recover()
            } catch {
                switch error {
                case .failed(let reason), .cleanupFailed(let reason): throw reason
                case .mapFull:
                    throw .system(path: layout.database, call: "recovery", code: CLMDB_MAP_FULL)
                }
            }
        } catch {
            environment.close()
            throw error
        }
    }

    /// The size of the database file, 0 when it is still to be made.
    static func databaseSize(
        _ layout: Layout, create: Bool
    ) throws(StoreError) -> UInt64 {
        let kind = try fileCall(layout.database, File.kind(of:))
        switch kind {
        case .absent:
            // The database is made before the objects' directory: objects without it have lost it.
            if try fileCall(layout.objects, File.kind(of:)) != .absent {
                throw .metadataMissing(path: layout.database)
            }
            if !create { throw .noStore(directory: layout.directory) }
            return 0
        case .file:
            return try fileCall(layout.database) { path throws(FileError) in
                let file = try File(path, O_RDONLY)
                defer { file.close() }
                return try file.size()
            }
        case .directory, .other:
            throw .corrupt(path: layout.database, detail: "not a file")
        }
    }

    static func database(
        _ layout: Layout, size: UInt64, _ options: DiskStore.Options
    ) throws(StoreError) -> Environment {
        do {
            return try Environment(
                path: layout.database, mapSize: max(options.mapBytes, size * 2),
                tablesMax: StoreTables.countMax)
        } catch {
            throw StoreError(code: error.code, path: layout.database, call: "opening")
        }
    }

    /// Refuses a file that was cut short, whose missing pages would stop the process at a touch.
    ///
    /// A sound file can be shorter than its highest page, when that page was taken and given back
    /// within one transaction. So a short file is lengthened with zeros, which LMDB recognises as
    /// no pages of its own, and every page in use is read once.
    static func checkPages(
        _ layout: Layout, _ environment: Environment
    ) throws(StoreError) {
        let info: clmdb_info
        do {
            info = try environment.info()
        } catch {
            throw StoreError(code: error.code, path: layout.database, call: "opening")
        }
        let (needed, overflow) = (info.last_page &+ 1).multipliedReportingOverflow(
            by: info.page_size)
        guard !overflow, needed <= StoreLimits.objectOffsetMax else {
            throw .corrupt(path: layout.database, detail: "its page numbers make no sense")
        }
        let file = File(descriptor: environment.descriptor)
        let size = try fileCall(layout.database) { _ throws(FileError) in try file.size() }
        if size >= needed { return }
        try fileCall(layout.database) { _ throws(FileError) in try file.truncate(to: needed) }
        do {
            try environment.verify()
        } catch {
            // As it was, for whoever looks at it next.
            try? file.truncate(to: size)
            throw .corrupt(
                path: layout.database, detail: "\(size) bytes long instead of \(needed)")
        }
    }

    /// Refuses a database whose root pages are not what LMDB writes, before LMDB believes them.
    static func checkRoots(_ layout: Layout) throws(StoreError) {
        let file = try fileCall(layout.database) { path throws(FileError) in
            try File(path, O_RDONLY)
        }
        defer { file.close() }
        do {
            _ = try DatabaseRoots(file)
        } catch {
            throw error.at(layout.database)
        }
    }

    /// Reads every page where that is wanted. A clean record stands in `reservations`; without one
    /// the last server ended in some other way.
    private static func verify(
        _ layout: Layout, _ environment: Environment, _ wish: DiskStore.Verification
    ) throws(StoreError) {
        if wish == .never { return }
        if wish == .whenUnclean {
            var hasRecord = false
            do throws(DatabaseError) {
                let reader = try environment.beginRead()
                if let table = try reader.openTable(StoreTables.name(.reservations)) {
                    try reader.scan(TableHandle(number: table, seed: nil), from: []) { _, _ in
                        hasRecord = true
                        return false
                    }
                }
            } catch {
                throw StoreError(code: error.code, path: layout.database, call: "a read")
            }
            if hasRecord { return }
        }
        do {
            try PageWalk.check(File(descriptor: environment.descriptor))
        } catch {
            throw error.at(layout.database)
        }
    }

    /// What the database says about itself; nil when it says nothing.
    static func identity(
        _ layout: Layout, _ environment: Environment
    ) throws(StoreError) -> StoreIdentity? {
        do {
            let reader = try environment.beginRead()
            guard let number = try reader.openTable(StoreTables.identityName) else { return nil }
            let table = TableHandle(number: number, seed: nil)
            var failure: DatabaseError?
            let identity = StoreIdentity { key in
                do throws(DatabaseError) {
                    return try reader.get(table, key)
                } catch {
                    failure = error
                    return nil
                }
            }
            if let failure { throw failure }
            guard let identity else {
                throw StoreError.corrupt(
                    path: layout.database, detail: "its identity makes no sense")
            }
            return identity
        } catch let error as DatabaseError {
            throw StoreError(code: error.code, path: layout.database, call: "a read")
        } catch let error as StoreError {
            throw error
        } catch {
            preconditionFailure("nothing else is thrown: \(error)")
        }
    }

    private static func check(
        _ found: StoreIdentity, _ layout: Layout, name: String, kind: String,
        _ options: DiskStore.Options
    ) throws(StoreError) {
        // The format first: what a newer one says of its target may not mean what it means here.
        guard found.format <= options.supportedFormat else {
            throw .newerFormat(
                directory: layout.directory, found: found.format,
                supported: options.supportedFormat)
        }
        let unknown = found.features & ~StoreIdentity.knownFeatures
        guard unknown == 0 else {
            throw .unknownFeatures(directory: layout.directory, bits: unknown)
        }
        guard found.targetName == name, found.targetKind == kind else {
            throw .wrongTarget(
                directory: layout.directory, found: found.targetName,
                foundKind: found.targetKind, wanted: name, wantedKind: kind)
        }
    }

    static func checkObjectDirectories(_ layout: Layout) throws(StoreError) {
        for byte in UInt8.min...UInt8.max {
            let path = layout.objectDirectory(byte)
            guard try fileCall(path, File.kind(of:)) == .directory else {
                // The whole of it is the likelier loss, and the shorter name.
                let whole = try fileCall(layout.objects, File.kind(of:)) == .directory
                throw .objectsMissing(path: whole ? path : layout.objects)
            }
        }
    }

    private static func makeObjectDirectories(_ layout: Layout) throws(StoreError) {
        try fileCall(layout.objects) { path throws(FileError) in
            try File.makeDirectory(path)
            for byte in UInt8.min...UInt8.max {
                try File.makeDirectory(layout.objectDirectory(byte))
            }
            try File.syncDirectory(path)
            try File.syncDirectory(layout.directory)
        }
    }

    /// Opens the tables and, for a new store, writes its identity: with that it exists.
    private static func tables(
        _ layout: Layout, _ environment: Environment, _ identity: StoreIdentity, isNew: Bool
    ) throws(StoreError) -> StoreTables {
        do throws(DatabaseError) {
            let transaction = try environment.beginWrite()
            let tables = try StoreTables(opening: transaction, format: identity.format)
            if isNew {
                for row in identity.rows {
                    try transaction.put(tables.identity, row.key, row.value)
                }
            }
            try transaction.commit()
            return tables
        } catch {
            throw StoreError(code: error.code, path: layout.database, call: "opening")
        }
    }

    static func fileCall<R>(
        _ path: String, _ body: (String) throws(FileError) -> R
    ) throws(StoreError) -> R {
        do {
            return try body(path)
        } catch {
            throw error.at(path)
        }
    }
}
