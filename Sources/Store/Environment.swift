internal import CLMDB

/// What LMDB or the system below it refused, as `CLMDB` numbers it.
struct DatabaseError: Error {
    var code: Int32
}

/// A table of an environment: LMDB's number for it, and how its rows are sealed.
struct TableHandle: Sendable, BitwiseCopyable {
    var number: UInt32
    /// Where the checksum of a row begins; nil where rows have none.
    var seed: UInt32?
}

/// An LMDB environment: one file with all tables. Safe to use from several threads.
@safe
final class Environment: @unchecked Sendable {
    // SAFETY: LMDB environments are thread-safe; `close` is called once, after all transactions.
    private let handle: OpaquePointer

    init(path: String, mapSize: UInt64, tablesMax: UInt32) throws(DatabaseError) {
        var opened: OpaquePointer?
        let result = unsafe clmdb_env_open(path, mapSize, tablesMax, 0o600, &opened)
        guard result == 0, let opened = unsafe opened else { throw DatabaseError(code: result) }
        unsafe handle = opened
    }

    func close() { unsafe clmdb_env_close(handle) }

    var descriptor: Int32 { unsafe clmdb_env_descriptor(handle) }

    func info() throws(DatabaseError) -> clmdb_info {
        var info = clmdb_info()
        let result = unsafe clmdb_env_info(handle, &info)
        guard result == 0 else { throw DatabaseError(code: result) }
        return info
    }

    /// Reads every page that is in use.
    func verify() throws(DatabaseError) {
        let result = unsafe clmdb_verify(handle)
        guard result == 0 else { throw DatabaseError(code: result) }
    }

    /// No transaction of this process may be active; a reader that is reset is not.
    func setMapSize(_ size: UInt64) throws(DatabaseError) {
        let result = unsafe clmdb_env_set_map_size(handle, size)
        guard result == 0 else { throw DatabaseError(code: result) }
    }

    func beginRead() throws(DatabaseError) -> ReadTransaction {
        var begun: OpaquePointer?
        let result = unsafe clmdb_txn_begin_read(handle, &begun)
        guard result == 0, let begun = unsafe begun else { throw DatabaseError(code: result) }
        return unsafe ReadTransaction(begun)
    }

    func beginWrite() throws(DatabaseError) -> WriteTransaction {
        var begun: OpaquePointer?
        let result = unsafe clmdb_txn_begin_write(handle, &begun)
        guard result == 0, let begun = unsafe begun else { throw DatabaseError(code: result) }
        return unsafe WriteTransaction(begun)
    }
}

/// Lookup of a key in any transaction, copied out of the map. Throws `CLMDB_BAD_SEAL` for a row
/// that is not what was put.
private func find(
    _ transaction: OpaquePointer, _ table: TableHandle, _ key: [UInt8]
) throws(DatabaseError) -> [UInt8]? {
    var value = unsafe clmdb_bytes()
    let result = unsafe key.withUnsafeBytes { key in
        // SAFETY: LMDB reads `key.count` bytes during the call, and the value stays in the map.
        let found = unsafe clmdb_get(
            transaction, table.number, key.baseAddress, key.count, &value)
        guard found == 1, let seed = table.seed else { return found }
        let refusal = unsafe clmdb_check_seal(key.baseAddress, key.count, &value, seed)
        return refusal == 0 ? found : refusal
    }
    if result < 0 { throw DatabaseError(code: result) }
    return result == 1 ? unsafe copy(value) : nil
}

/// SAFETY: the caller's transaction has neither ended nor written since it gave `bytes`.
private func copy(_ bytes: clmdb_bytes) -> [UInt8] {
    unsafe [UInt8](UnsafeRawBufferPointer(start: bytes.data, count: bytes.size))
}

/// What a scan does about a row.
enum ScannedRow {
    case sound(value: [UInt8])
    /// Its checksum is not that of its key and value.
    case damaged
}

/// Visits rows from `from` on in ascending order until `visit` returns false.
private func walk(
    _ transaction: OpaquePointer, _ table: TableHandle, from: [UInt8],
    _ visit: (_ key: [UInt8], _ row: ScannedRow) -> Bool
) throws(DatabaseError) {
    var opened: OpaquePointer?
    var result = unsafe clmdb_cursor_open(transaction, table.number, &opened)
    guard result == 0, let cursor = unsafe opened else { throw DatabaseError(code: result) }
    defer { unsafe clmdb_cursor_close(cursor) }
    var key = unsafe clmdb_bytes()
    var value = unsafe clmdb_bytes()
    result = unsafe from.withUnsafeBytes { from in
        // SAFETY: LMDB reads `from.count` bytes during the call.
        unsafe clmdb_cursor_seek(cursor, from.baseAddress, from.count, &key, &value)
    }
    while result == 1 {
        var isSound = true
        if let seed = table.seed {
            isSound = unsafe clmdb_check_seal(key.data, key.size, &value, seed) == 0
        }
        guard unsafe visit(copy(key), isSound ? .sound(value: copy(value)) : .damaged) else {
            return
        }
        result = unsafe clmdb_cursor_next(cursor, &key, &value)
    }
    if result < 0 { throw DatabaseError(code: result) }
}

/// A snapshot. Used by one thread at a time.
@safe
final class ReadTransaction {
    // SAFETY: valid until `deinit`, which runs before the environment is closed.
    private let handle: OpaquePointer

    init(_ handle: OpaquePointer) { unsafe self.handle = handle }

    deinit { unsafe clmdb_txn_abort(handle) }

    /// Lets go of the snapshot.
    func reset() { unsafe clmdb_txn_reset(handle) }

    /// Takes the latest snapshot, after `reset`.
    func renew() throws(DatabaseError) {
        let result = unsafe clmdb_txn_renew(handle)
        if result != 0 { throw DatabaseError(code: result) }
    }

    /// nil where there is no table of that name.
    func openTable(_ name: String) throws(DatabaseError) -> UInt32? {
        var table: UInt32 = 0
        let result = unsafe clmdb_table_open(handle, name, 0, &table)
        if result == CLMDB_NOTFOUND { return nil }
        if result != 0 { throw DatabaseError(code: result) }
        return table
    }

    func get(_ table: TableHandle, _ key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        try unsafe find(handle, table, key)
    }

    func scan(
        _ table: TableHandle, from: [UInt8], _ visit: (_ key: [UInt8], _ row: ScannedRow) -> Bool
    ) throws(DatabaseError) {
        try unsafe walk(handle, table, from: from, visit)
    }
}

/// The one write transaction; aborted unless committed. Stays on the thread that began it.
@safe
struct WriteTransaction: ~Copyable {
    // SAFETY: valid until commit or deinit, one of which runs exactly once.
    private let handle: OpaquePointer

    init(_ handle: OpaquePointer) { unsafe self.handle = handle }

    deinit { unsafe clmdb_txn_abort(handle) }

    /// Durable when it returns.
    consuming func commit() throws(DatabaseError) {
        let handle = unsafe handle
        discard self
        let result = unsafe clmdb_txn_commit(handle)
        if result != 0 { throw DatabaseError(code: result) }
    }

    func openTable(_ name: String) throws(DatabaseError) -> UInt32 {
        var table: UInt32 = 0
        let result = unsafe clmdb_table_open(handle, name, 1, &table)
        if result != 0 { throw DatabaseError(code: result) }
        return table
    }

    func get(_ table: TableHandle, _ key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        try unsafe find(handle, table, key)
    }

    /// Nothing may be written during the scan.
    func scan(
        _ table: TableHandle, from: [UInt8], _ visit: (_ key: [UInt8], _ row: ScannedRow) -> Bool
    ) throws(DatabaseError) {
        try unsafe walk(handle, table, from: from, visit)
    }

    func put(
        _ table: TableHandle, _ key: [UInt8], _ value: [UInt8]
    ) throws(DatabaseError) {
        let result = unsafe key.withUnsafeBytes { key in
            unsafe value.withUnsafeBytes { value in
                // SAFETY: LMDB reads both during the call and copies them into its pages.
                if let seed = table.seed {
                    unsafe clmdb_put_sealed(
                        handle, table.number, key.baseAddress, key.count, value.baseAddress,
                        value.count, seed)
                } else {
                    unsafe clmdb_put(
                        handle, table.number, key.baseAddress, key.count, value.baseAddress,
                        value.count)
                }
            }
        }
        if result != 0 { throw DatabaseError(code: result) }
    }

    func delete(_ table: TableHandle, _ key: [UInt8]) throws(DatabaseError) {
        let result = unsafe key.withUnsafeBytes { key in
            // SAFETY: LMDB reads `key.count` bytes during the call.
            unsafe clmdb_del(handle, table.number, key.baseAddress, key.count)
        }
        if result < 0 { throw DatabaseError(code: result) }
    }
}
