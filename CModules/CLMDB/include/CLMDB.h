// LMDB (lmdb.h, Debian liblmdb-dev) behind opaque handles, fixed-width numbers and negative errors.
//
// Every function that returns int gives 0 or a count when it worked and a negative number when not:
// -errno for what the system refused, LMDB's own code (-30799 ... -30780) for the rest. The two
// ranges never meet. Out-parameters are written on success only. No policy and no logging here.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct clmdb_env clmdb_env;
typedef struct clmdb_txn clmdb_txn;
typedef struct clmdb_cursor clmdb_cursor;

// LMDB's codes that a caller decides by; the others are for clmdb_error_text.
#define CLMDB_NOTFOUND (-30798)
#define CLMDB_CORRUPTED (-30796)
#define CLMDB_PANIC (-30795)
#define CLMDB_VERSION_MISMATCH (-30794)
#define CLMDB_INVALID (-30793)
#define CLMDB_MAP_FULL (-30792)
// Ours, beside LMDB's: a row whose checksum is not that of its key and value.
#define CLMDB_BAD_SEAL (-30600)

// What an environment says about itself.
typedef struct clmdb_info {
    uint64_t map_size;     // bytes mapped: the file can grow to this
    uint64_t page_size;    // bytes
    uint64_t last_page;    // number of the highest page in use
    uint64_t last_txn;     // id of the last committed write transaction
} clmdb_info;

// What a table says about itself.
typedef struct clmdb_stat {
    uint64_t entries;
    uint64_t depth;
    uint64_t branch_pages;
    uint64_t leaf_pages;
    uint64_t overflow_pages;
} clmdb_stat;

// Bytes within the map: valid until the transaction that gave them ends, or writes.
typedef struct clmdb_bytes {
    const void *data;
    size_t size;
} clmdb_bytes;

// Opens or creates the one-file environment at `path` (its lock file is `path`-lock). Read
// transactions are not tied to a thread (MDB_NOTLS).
int clmdb_env_open(
    const char *path, uint64_t map_size, uint32_t tables_max, uint32_t file_mode, clmdb_env **out);
// No transaction may be open.
void clmdb_env_close(clmdb_env *env);
int clmdb_env_info(clmdb_env *env, clmdb_info *out);
// The descriptor of the data file; owned by the environment.
int clmdb_env_descriptor(clmdb_env *env);
// Changes the map's size. No transaction of this process may be active: readers are reset.
int clmdb_env_set_map_size(clmdb_env *env, uint64_t map_size);

int clmdb_txn_begin_read(clmdb_env *env, clmdb_txn **out);
// A write transaction belongs to the calling thread. One at a time; waits for the one before.
int clmdb_txn_begin_write(clmdb_env *env, clmdb_txn **out);
// Frees the transaction, whether it worked or not. Durable when it returns 0.
int clmdb_txn_commit(clmdb_txn *txn);
void clmdb_txn_abort(clmdb_txn *txn);
// Lets go of the snapshot of a read transaction and keeps its slot.
void clmdb_txn_reset(clmdb_txn *txn);
// Takes the latest snapshot, after a reset.
int clmdb_txn_renew(clmdb_txn *txn);

// Opens a table within a transaction; the handle is good for the environment once that commits.
int clmdb_table_open(clmdb_txn *txn, const char *name, int create, uint32_t *out);
int clmdb_table_stat(clmdb_txn *txn, uint32_t table, clmdb_stat *out);

// 1 found, 0 not there.
int clmdb_get(
    clmdb_txn *txn, uint32_t table, const void *key, size_t key_size, clmdb_bytes *value_out);
int clmdb_put(
    clmdb_txn *txn, uint32_t table, const void *key, size_t key_size, const void *value,
    size_t value_size);
// Puts a value with its seal behind it: 4 bytes, little-endian, `clmdb_seal` with `seed`.
int clmdb_put_sealed(
    clmdb_txn *txn, uint32_t table, const void *key, size_t key_size, const void *value,
    size_t value_size, uint32_t seed);
// Whether `value` ends with the seal of the rest; then its size becomes that of the rest.
// 0, or CLMDB_BAD_SEAL.
int clmdb_check_seal(const void *key, size_t key_size, clmdb_bytes *value, uint32_t seed);
// 1 deleted, 0 was not there.
int clmdb_del(clmdb_txn *txn, uint32_t table, const void *key, size_t key_size);

int clmdb_cursor_open(clmdb_txn *txn, uint32_t table, clmdb_cursor **out);
// Before the end of its transaction.
void clmdb_cursor_close(clmdb_cursor *cursor);
// Moves to the first entry whose key is not below `key` (an empty key: the first of all).
// 1 there is one, 0 none.
int clmdb_cursor_seek(
    clmdb_cursor *cursor, const void *key, size_t key_size, clmdb_bytes *key_out,
    clmdb_bytes *value_out);
// Moves to the next entry. 1 there is one, 0 none.
int clmdb_cursor_next(clmdb_cursor *cursor, clmdb_bytes *key_out, clmdb_bytes *value_out);

// Reads every entry of the free list and of every table. 0 when all pages are what they should be.
int clmdb_verify(clmdb_env *env);

// Two file calls that a store needs and that Swift's Glibc module does not show.
// Writes back everything of the file system that holds `descriptor` (syncfs).
int clmdb_file_sync_system(int descriptor);
// Makes a range within the file read as zeros and keeps the file's size.
int clmdb_file_zero(int descriptor, uint64_t offset, uint64_t count);

// CRC-32C (RFC 3720) of `data`, continued from `before` (0 at the beginning): with the processor's
// instruction where it has one.
uint32_t clmdb_crc32c(uint32_t before, const void *data, size_t size);
// The same without the instruction.
uint32_t clmdb_crc32c_portable(uint32_t before, const void *data, size_t size);
// 1 where every byte is zero.
int clmdb_is_zero(const void *data, size_t size);
// CRC-32C of the key's length (4 bytes, little-endian), the key and the value, from `seed` on.
uint32_t clmdb_seal(
    uint32_t seed, const void *key, size_t key_size, const void *value, size_t value_size);

// A short English text for any number above. Never NULL.
const char *clmdb_error_text(int error);

#ifdef __cplusplus
}
#endif
