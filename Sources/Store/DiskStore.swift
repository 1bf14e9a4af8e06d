internal import CLMDB
internal import Glibc
public import StorageCore

/// A target's store on a disk: LMDB for the tables, files for the bytes of objects.
///
/// One thread owns it, its loop: it reads the snapshot taken by the last `refresh()`, submits
/// groups, and calls `refresh()` for every `CommitEvent`. Commits happen on a thread of their own.
public final class DiskStore: CommittedStore {
    /// When to read every page of the database at the start: time for certainty.
    public enum Verification: Sendable {
        /// Unless the last server left a clean record, whose restart nobody should wait for.
        case whenUnclean
        case always
        case never
    }

    /// What may be chosen about a store. The defaults are for production.
    public struct Options: Sendable {
        /// Address space reserved for the database at first; the file itself grows as it is used.
        public var mapBytes: UInt64 = 64 << 30
        /// Groups that may wait for the disk before `canSubmit` is false.
        public var queueMax = 8
        /// Object files kept open by the loop for reading, and by the commit thread for writing.
        public var descriptorsMax = 512
        /// When every page of the database is read before it is used.
        public var verification = Verification.whenUnclean
        package var supportedFormat = StoreIdentity.currentFormat
        package var newStoreFormat = StoreIdentity.currentFormat
        package var newStoreFeatures: UInt64 = 0
        /// Answers a negative errno where a commit shall fail.
        package var fault: (@Sendable (CommitStep) -> Int32)?

        public init() {}
    }

    /// Whose store it is, its format and its features.
    public let identity: StoreIdentity
    public var directory: String { layout.directory }

    private let layout: Layout
    private let environment: Environment
    private let tables: StoreTables
    private let files: ObjectFiles
    private let commits: CommitThread
    private var lock: StoreLock?
    /// nil once the store is closed.
    private var reader: ReadTransaction?
    private var seenGroup: UInt64 = 0
    private var scanDepth = 0
    private var damage: StoreDamage?
    /// Reads that met damage since the store was opened.
    public private(set) var damageCount: UInt64 = 0

    init(
        _ opened: OpenedStore, lock: StoreLock, options: Options,
        onEvent: @escaping @Sendable (CommitEvent) -> Void
    ) throws(StoreError) {
        identity = opened.identity
        layout = opened.layout
        environment = opened.environment
        tables = opened.tables
        self.lock = lock
        files = ObjectFiles(
            layout: opened.layout, flags: O_RDONLY, capacity: options.descriptorsMax)
        commits = CommitThread(
            committer: opened.committer, heartbeat: lock.heartbeat, queueMax: options.queueMax,
            onEvent: onEvent)
        do {
            reader = try opened.environment.beginRead()
        } catch {
            environment.close()
            throw StoreError(code: error.code, path: opened.layout.database, call: "a read")
        }
        // With a reader there is something to abandon: `deinit` does it when this throws.
        try commits.start()
    }

    deinit {
        if reader != nil { abandon() }
    }

    /// Opens a target's store, or with `create` makes one where there is none.
    ///
    /// Without `lock` takes the store's lock as `claim` says, not waiting for it; a warm standby passes the one
    /// that it waited for. `onEvent` is called on the commit thread, to wake the loop.
    public static func open(
        directory: String, targetName: String, targetKind: String, create: Bool,
        lock: StoreLock? = nil, claim: StoreClaim = StoreClaim(), options: Options = Options(),
        onEvent: @escaping @Sendable (CommitEvent) -> Void
    ) throws(StoreError) -> DiskStore {
        let held: StoreLock
        if let lock {
            precondition(lock.directory == directory, "the lock of this store, not another's")
            held = lock
        } else {
            if create { try makeDirectory(directory) }
            held = try StoreLock.take(directory: directory, for: claim)
        }
        let opened = try OpenedStore(
            directory: directory, name: targetName, kind: targetKind, create: create,
            options: options)
        return try DiskStore(opened, lock: held, options: options, onEvent: onEvent)
    }

    private static func makeDirectory(_ path: String) throws(StoreError) {
        do {
            try File.makeDirectory(path)
        } catch {
            throw error.at(path)
        }
    }

    // MARK: Reading

    public func read(_ table: Table, _ key: [UInt8]) -> [UInt8]? {
        // Such a key can come from a name that a client made up. No row has it.
        guard (1...StoreLimits.keyByteCountMax).contains(key.count) else { return nil }
        do {
            return try snapshot.get(tables[table], key)
        } catch {
            note(error.code == CLMDB_BAD_SEAL ? .row(table, key: key) : damage(table, error))
            return nil
        }
    }

    public func scan(
        _ table: Table, from: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        scanDepth += 1
        defer { scanDepth -= 1 }
        do {
            try snapshot.scan(tables[table], from: from) { key, row in
                switch row {
                case .sound(let value):
                    return visit(key, value)
                case .damaged:
                    note(.row(table, key: key))
                    return true
                }
            }
        } catch {
            note(damage(table, error))
        }
    }

    public func readObject(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8] {
        guard count > 0 else { return [] }
        do {
            let view = ObjectView(reader: snapshot, tables: tables)
            guard let record = try view.record(id), record.length > offset else { return [] }
            let wanted = Int(min(UInt64(count), record.length - offset))
            let range = ObjectView.blocks(around: offset, count: wanted, length: record.length)
            let file = FileID(object: id, incarnation: record.incarnation)
            if let bytes = try? files.open(file).readPadded(range),
                view.firstDamage(id, bytes, offset: range.lowerBound) == nil
            {
                return Self.part(bytes, of: range, offset, wanted)
            }
        } catch {
            // The second look says what it is.
        }
        return readAgain(id, offset: offset, count: count)
    }

    private static func part(
        _ bytes: [UInt8], of range: Range<UInt64>, _ offset: UInt64, _ count: Int
    ) -> [UInt8] {
        if range.lowerBound == offset, bytes.count == count { return bytes }
        let start = Int(offset - range.lowerBound)
        return Array(bytes[start..<min(start + count, bytes.count)])
    }

    /// The second look at bytes that are not what the loop's snapshot says: the commit thread may
    /// be a commit or two ahead of it in the files. Sums, length and the work that is recorded and
    /// perhaps not done are taken from the latest commit; where that does not fit either, and no
    /// commit came in between, the object is damaged. What the overlay holds is laid over the
    /// result, so that the later bytes never show.
    private func readAgain(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8] {
        var verdict = StoreDamage.object(id, offset: offset)
        var wanted = count
        for _ in 0..<64 {
            do {
                let before = try environment.info().last_txn
                let view = ObjectView(reader: try environment.beginRead(), tables: tables)
                guard let record = try view.record(id), record.length > offset else { return [] }
                wanted = Int(min(UInt64(count), record.length - offset))
                let range = ObjectView.blocks(
                    around: offset, count: wanted, length: record.length)
                let file = FileID(object: id, incarnation: record.incarnation)
                do {
                    var bytes = try files.open(file).readPadded(range)
                    for cleanup in try view.pending(file) {
                        cleanup.paint(&bytes, offset: range.lowerBound)
                    }
                    guard let damaged = view.firstDamage(id, bytes, offset: range.lowerBound)
                    else { return Self.part(bytes, of: range, offset, wanted) }
                    verdict = .object(id, offset: damaged)
                } catch let error as FileError {
                    verdict =
                        error.code == -ENOENT
                        ? .object(id, offset: range.lowerBound)
                        : .unreadable(id, offset: range.lowerBound, code: error.code)
                }
                if try environment.info().last_txn == before { break }
            } catch {
                break
            }
        }
        note(verdict)
        return [UInt8](repeating: 0, count: min(wanted, count))
    }

    // MARK: Damage

    public func takeDamage() -> StoreDamage? {
        defer { damage = nil }
        return damage
    }

    private func note(_ damage: StoreDamage) {
        damageCount += 1
        if self.damage == nil { self.damage = damage }
    }

    private func damage(_ table: Table, _ error: DatabaseError) -> StoreDamage {
        .table(table, detail: StoreError.text(error.code))
    }

    private var snapshot: ReadTransaction {
        guard let reader else { preconditionFailure("the store is closed") }
        return reader
    }

    /// Without a snapshot there is nothing to serve. The partner, or a restart, tries again.
    private func failStop(_ error: StoreError) -> Never {
        fatalError("\(error)")
    }

    // MARK: Committing

    /// False when the queue is full: leave the group in the overlay, where it grows.
    public var canSubmit: Bool { commits.canSubmit }

    /// Hands a group to the commit thread. Ask `canSubmit` before the group is taken.
    public func submit(_ group: CommitGroup) { commits.submit(group) }

    /// Takes the latest snapshot and returns the last group in it: the overlay's `committed` is
    /// next. Grows the database when a commit waits for that. Not within a scan.
    @discardableResult
    public func refresh() -> UInt64 {
        precondition(scanDepth == 0, "a snapshot stays while it is scanned")
        let reader = snapshot
        let status = commits.status
        if status.needsGrowth { grow() }
        if status.committedThrough != seenGroup {
            seenGroup = status.committedThrough
            reader.reset()
            renew(reader)
        }
        return seenGroup
    }

    /// Why nothing is committed at present; nil as long as all is well.
    public var failure: StoreError? { commits.status.failure }

    /// Tries once more after a failed commit, from where it failed.
    public func retryCommit() { commits.retry() }

    public var statistics: StoreStatistics { commits.statistics }

    /// Waits on the calling thread until everything submitted is durable, then refreshes.
    /// Throws what keeps a commit from succeeding; what was not committed is still kept.
    @discardableResult
    public func waitUntilCommitted() throws(StoreError) -> UInt64 {
        while true {
            commits.waitWhileCommitting()
            let status = commits.status
            let group = refresh()
            if status.needsGrowth { continue }
            if let failure = status.failure { throw failure }
            return group
        }
    }

    private func renew(_ reader: ReadTransaction) {
        do {
            try reader.renew()
        } catch {
            failStop(StoreError(code: error.code, path: layout.database, call: "a read"))
        }
    }

    /// Doubles the map. The commit thread waits meanwhile, and the snapshot is let go of: LMDB
    /// moves the map only while no transaction looks at it.
    private func grow() {
        let reader = snapshot
        reader.reset()
        var failure: StoreError?
        do {
            try environment.setMapSize(try environment.info().map_size * 2)
        } catch {
            failure = StoreError(code: error.code, path: layout.database, call: "growing")
        }
        renew(reader)
        commits.growthDone(failure)
    }

    // MARK: The end

    /// Waits until everything submitted is durable, closes the store and releases its lock.
    ///
    /// When a commit fails the store is closed all the same and the error is thrown: the groups
    /// that were not durable are then for recovery.
    public func close() throws(StoreError) {
        let failure: StoreError?
        do throws(StoreError) {
            try waitUntilCommitted()
            failure = nil
        } catch {
            failure = error
        }
        abandon()
        if let failure { throw failure }
    }

    /// Closes without waiting for what is queued, as a crash would. A commit that is under way
    /// comes to its end first.
    public func abandon() {
        guard reader != nil else { return }
        commits.finish()
        reader = nil
        files.closeAll()
        environment.close()
        lock = nil
    }
}
