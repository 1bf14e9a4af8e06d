#include "CLMDB.h"

#include <errno.h>
#include <lmdb.h>
#include <string.h>

_Static_assert(CLMDB_NOTFOUND == MDB_NOTFOUND, "mirrors lmdb.h");
_Static_assert(CLMDB_CORRUPTED == MDB_CORRUPTED, "mirrors lmdb.h");
_Static_assert(CLMDB_PANIC == MDB_PANIC, "mirrors lmdb.h");
_Static_assert(CLMDB_VERSION_MISMATCH == MDB_VERSION_MISMATCH, "mirrors lmdb.h");
_Static_assert(CLMDB_INVALID == MDB_INVALID, "mirrors lmdb.h");
_Static_assert(CLMDB_MAP_FULL == MDB_MAP_FULL, "mirrors lmdb.h");
_Static_assert(sizeof(MDB_dbi) == sizeof(uint32_t), "a table handle is 32 bits");
_Static_assert(sizeof(clmdb_bytes) == sizeof(MDB_val), "same members, other order");

static MDB_env *env_of(clmdb_env *env) { return (MDB_env *)env; }
static MDB_txn *txn_of(clmdb_txn *txn) { return (MDB_txn *)txn; }
static MDB_cursor *cursor_of(clmdb_cursor *cursor) { return (MDB_cursor *)cursor; }

// LMDB returns errno values as they are and its own below zero.
static int negative(int error) { return error > 0 ? -error : error; }

static MDB_val val(const void *data, size_t size) {
    MDB_val value = {.mv_size = size, .mv_data = (void *)data};
    return value;
}

static clmdb_bytes bytes(MDB_val value) {
    clmdb_bytes result = {.data = value.mv_data, .size = value.mv_size};
    return result;
}

int clmdb_env_open(
    const char *path, uint64_t map_size, uint32_t tables_max, uint32_t file_mode, clmdb_env **out) {
    MDB_env *env = NULL;
    int error = mdb_env_create(&env);
    if (error != 0) return negative(error);
    error = mdb_env_set_maxdbs(env, tables_max);
    if (error == 0) error = mdb_env_set_mapsize(env, map_size);
    if (error == 0) error = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOTLS, file_mode);
    if (error != 0) {
        mdb_env_close(env);
        return negative(error);
    }
    *out = (clmdb_env *)env;
    return 0;
}

void clmdb_env_close(clmdb_env *env) { mdb_env_close(env_of(env)); }

int clmdb_env_info(clmdb_env *env, clmdb_info *out) {
    MDB_envinfo info;
    MDB_stat stat;
    int error = mdb_env_info(env_of(env), &info);
    if (error == 0) error = mdb_env_stat(env_of(env), &stat);
    if (error != 0) return negative(error);
    out->map_size = info.me_mapsize;
    out->page_size = stat.ms_psize;
    out->last_page = info.me_last_pgno;
    out->last_txn = info.me_last_txnid;
    return 0;
}

int clmdb_env_descriptor(clmdb_env *env) {
    mdb_filehandle_t descriptor;
    int error = mdb_env_get_fd(env_of(env), &descriptor);
    return error != 0 ? negative(error) : descriptor;
}

int clmdb_env_set_map_size(clmdb_env *env, uint64_t map_size) {
    return negative(mdb_env_set_mapsize(env_of(env), map_size));
}

static int begin(clmdb_env *env, unsigned flags, clmdb_txn **out) {
    MDB_txn *txn = NULL;
    int error = mdb_txn_begin(env_of(env), NULL, flags, &txn);
    if (error != 0) return negative(error);
    *out = (clmdb_txn *)txn;
    return 0;
}

int clmdb_txn_begin_read(clmdb_env *env, clmdb_txn **out) { return begin(env, MDB_RDONLY, out); }

int clmdb_txn_begin_write(clmdb_env *env, clmdb_txn **out) { return begin(env, 0, out); }

int clmdb_txn_commit(clmdb_txn *txn) { return negative(mdb_txn_commit(txn_of(txn))); }

void clmdb_txn_abort(clmdb_txn *txn) { mdb_txn_abort(txn_of(txn)); }

void clmdb_txn_reset(clmdb_txn *txn) { mdb_txn_reset(txn_of(txn)); }

int clmdb_txn_renew(clmdb_txn *txn) { return negative(mdb_txn_renew(txn_of(txn))); }

int clmdb_table_open(clmdb_txn *txn, const char *name, int create, uint32_t *out) {
    MDB_dbi table;
    int error = mdb_dbi_open(txn_of(txn), name, create ? MDB_CREATE : 0, &table);
    if (error != 0) return negative(error);
    *out = table;
    return 0;
}

int clmdb_table_stat(clmdb_txn *txn, uint32_t table, clmdb_stat *out) {
    MDB_stat stat;
    int error = mdb_stat(txn_of(txn), table, &stat);
    if (error != 0) return negative(error);
    out->entries = stat.ms_entries;
    out->depth = stat.ms_depth;
    out->branch_pages = stat.ms_branch_pages;
    out->leaf_pages = stat.ms_leaf_pages;
    out->overflow_pages = stat.ms_overflow_pages;
    return 0;
}

int clmdb_get(
    clmdb_txn *txn, uint32_t table, const void *key, size_t key_size, clmdb_bytes *value_out) {
    MDB_val wanted = val(key, key_size), value;
    int error = mdb_get(txn_of(txn), table, &wanted, &value);
    if (error == MDB_NOTFOUND) return 0;
    if (error != 0) return negative(error);
    *value_out = bytes(value);
    return 1;
}

int clmdb_put(
    clmdb_txn *txn, uint32_t table, const void *key, size_t key_size, const void *value,
    size_t value_size) {
    MDB_val wanted = val(key, key_size), stored = val(value, value_size);
    return negative(mdb_put(txn_of(txn), table, &wanted, &stored, 0));
}

int clmdb_put_sealed(
    clmdb_txn *txn, uint32_t table, const void *key, size_t key_size, const void *value,
    size_t value_size, uint32_t seed) {
    MDB_val wanted = val(key, key_size), stored = val(NULL, value_size + 4);
    uint32_t seal = clmdb_seal(seed, key, key_size, value, value_size);
    int error = mdb_put(txn_of(txn), table, &wanted, &stored, MDB_RESERVE);
    if (error != 0) return negative(error);
    unsigned char *place = stored.mv_data;
    if (value_size > 0) memcpy(place, value, value_size);
    for (int index = 0; index < 4; index++) {
        place[value_size + (size_t)index] = (unsigned char)(seal >> 8 * index);
    }
    return 0;
}

int clmdb_check_seal(const void *key, size_t key_size, clmdb_bytes *value, uint32_t seed) {
    if (value->size < 4) return CLMDB_BAD_SEAL;
    size_t size = value->size - 4;
    const unsigned char *place = (const unsigned char *)value->data + size;
    uint32_t seal = (uint32_t)place[0] | (uint32_t)place[1] << 8 | (uint32_t)place[2] << 16
                    | (uint32_t)place[3] << 24;
    if (clmdb_seal(seed, key, key_size, value->data, size) != seal) return CLMDB_BAD_SEAL;
    value->size = size;
    return 0;
}

int clmdb_del(clmdb_txn *txn, uint32_t table, const void *key, size_t key_size) {
    MDB_val wanted = val(key, key_size);
    int error = mdb_del(txn_of(txn), table, &wanted, NULL);
    if (error == MDB_NOTFOUND) return 0;
    return error != 0 ? negative(error) : 1;
}

int clmdb_cursor_open(clmdb_txn *txn, uint32_t table, clmdb_cursor **out) {
    MDB_cursor *cursor = NULL;
    int error = mdb_cursor_open(txn_of(txn), table, &cursor);
    if (error != 0) return negative(error);
    *out = (clmdb_cursor *)cursor;
    return 0;
}

void clmdb_cursor_close(clmdb_cursor *cursor) { mdb_cursor_close(cursor_of(cursor)); }

static int move(
    clmdb_cursor *cursor, MDB_val key, MDB_cursor_op op, clmdb_bytes *key_out,
    clmdb_bytes *value_out) {
    MDB_val value;
    int error = mdb_cursor_get(cursor_of(cursor), &key, &value, op);
    if (error == MDB_NOTFOUND) return 0;
    if (error != 0) return negative(error);
    *key_out = bytes(key);
    *value_out = bytes(value);
    return 1;
}

int clmdb_cursor_seek(
    clmdb_cursor *cursor, const void *key, size_t key_size, clmdb_bytes *key_out,
    clmdb_bytes *value_out) {
    return move(
        cursor, val(key, key_size), key_size == 0 ? MDB_FIRST : MDB_SET_RANGE, key_out, value_out);
}

int clmdb_cursor_next(clmdb_cursor *cursor, clmdb_bytes *key_out, clmdb_bytes *value_out) {
    return move(cursor, val(NULL, 0), MDB_NEXT, key_out, value_out);
}

// Walks one table to its end and compares the count with what its root says.
static int verify_table(MDB_txn *txn, MDB_dbi table) {
    MDB_stat stat;
    MDB_cursor *cursor = NULL;
    int error = mdb_stat(txn, table, &stat);
    if (error == 0) error = mdb_cursor_open(txn, table, &cursor);
    if (error != 0) return error;
    size_t entries = 0;
    MDB_val key, value;
    error = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (error == 0) {
        entries++;
        error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (error != MDB_NOTFOUND) return error;
    return entries == stat.ms_entries ? 0 : MDB_CORRUPTED;
}

int clmdb_verify(clmdb_env *env) {
    // Handles 0 and 1 are the free list and the table of tables (mdb_stat(1) reads them so, too).
    enum { FREE_LIST = 0 };
    MDB_txn *txn = NULL;
    MDB_dbi tables;
    MDB_cursor *cursor = NULL;
    int error = mdb_txn_begin(env_of(env), NULL, MDB_RDONLY, &txn);
    if (error != 0) return negative(error);
    error = verify_table(txn, FREE_LIST);
    if (error == 0) error = mdb_dbi_open(txn, NULL, 0, &tables);
    if (error == 0) error = verify_table(txn, tables);
    if (error == 0) error = mdb_cursor_open(txn, tables, &cursor);
    if (error == 0) {
        MDB_val key, value;
        while ((error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
            char name[64];
            MDB_dbi table;
            if (key.mv_size >= sizeof name) {
                error = MDB_CORRUPTED;
                break;
            }
            memcpy(name, key.mv_data, key.mv_size);
            name[key.mv_size] = 0;
            error = mdb_dbi_open(txn, name, 0, &table);
            if (error == 0) error = verify_table(txn, table);
            if (error != 0) break;
        }
        mdb_cursor_close(cursor);
        if (error == MDB_NOTFOUND) error = 0;
    }
    mdb_txn_abort(txn);
    return negative(error);
}

const char *clmdb_error_text(int error) {
    if (error == CLMDB_BAD_SEAL) return "a row does not match its checksum";
    // mdb_strerror takes errno values positive and LMDB's own negative.
    const char *text = mdb_strerror(error < 0 && error > -4096 ? -error : error);
    return text != NULL ? text : "unknown error";
}
