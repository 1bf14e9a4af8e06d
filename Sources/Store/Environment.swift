internal import CLMDB

/// What LMDB or the system below it refused, as `CLMDB` numbers it.
struct DatabaseError: Error {
    var code: Int32
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

/// Lookup of a key in any transaction, copied out of the map.
private func find(
    _ transaction: OpaquePointer, _ table: UInt32, _ key: [UInt8]
) throws(DatabaseError) -> [UInt8]? {
    var value = unsafe clmdb_bytes()
    let result = unsafe key.withUnsafeBytes { key in
        // SAFETY: LMDB reads `key.count` bytes during the call.
        unsafe clmdb_get(transaction, table, key.baseAddress, key.count, &value)
    }
    if result < 0 { throw DatabaseError(code: result) }
    return result == 1 ? unsafe copy(value) : nil
}

/// SAFETY: the caller's transaction has neither ended nor written since it gave `bytes`.
private func copy(_ bytes: clmdb_bytes) -> [UInt8] {
    unsafe [UInt8](UnsafeRawBufferPointer(start: bytes.data, count: bytes.size))
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

    func get(_ table: UInt32, _ key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        try unsafe find(handle, table, key)
    }

    func scan(
        _ table: UInt32, from: [UInt8], _ visit: ([UInt8], [UInt8]) -> Bool
    ) throws(DatabaseError) {
        var opened: OpaquePointer?
        var result = unsafe clmdb_cursor_open(handle, table, &opened)
        guard result == 0, let cursor = unsafe opened else { throw DatabaseError(code: result) }
        defer { unsafe clmdb_cursor_close(cursor) }
        var key = unsafe clmdb_bytes()
        var value = unsafe clmdb_bytes()
        result = unsafe from.withUnsafeBytes { from in
            // SAFETY: LMDB reads `from.count` bytes during the call.
            unsafe clmdb_cursor_seek(cursor, from.baseAddress, from.count, &key, &value)
        }
        while result == 1 {
            guard unsafe visit(copy(key), copy(value)) else { return }
            result = unsafe clmdb_cursor_next(cursor, &key, &value)
        }
        if result < 0 { throw DatabaseError(code: result) }
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

    func get(_ table: UInt32, _ key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        try unsafe find(handle, table, key)
    }

    func put(_ table: UInt32, _ key: [UInt8], _ value: [UInt8]) throws(DatabaseError) {
        let result = unsafe key.withUnsafeBytes { key in
            unsafe value.withUnsafeBytes { value in
                // SAFETY: LMDB reads both during the call and copies them into its pages.
                unsafe clmdb_put(
                    handle, table, key.baseAddress, key.count, value.baseAddress, value.count)
            }
        }
        if result != 0 { throw DatabaseError(code: result) }
    }

    func delete(_ table: UInt32, _ key: [UInt8]) throws(DatabaseError) {
        let result = unsafe key.withUnsafeBytes { key in
            // SAFETY: LMDB reads `key.count` bytes during the call.
            unsafe clmdb_del(handle, table, key.baseAddress, key.count)
        }
        if result < 0 { throw DatabaseError(code: result) }
    }
}
