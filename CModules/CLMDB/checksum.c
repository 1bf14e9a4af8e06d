#include "CLMDB.h"

#include <pthread.h>
#include <string.h>

// CRC-32C (Castagnoli, RFC 3720 appendix B.4): reflected polynomial 0x82F63B78.
#define POLYNOMIAL 0x82F63B78u

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void) {
    for (uint32_t index = 0; index < 256; index++) {
        uint32_t crc = index;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        tables[0][index] = crc;
    }
    for (int slice = 1; slice < 8; slice++) {
        for (int index = 0; index < 256; index++) {
            uint32_t before = tables[slice - 1][index];
            tables[slice][index] = before >> 8 ^ tables[0][before & 0xFF];
        }
    }
}

// Eight bytes a step ("slicing by 8"), for processors without the instruction.
static uint32_t by_table(uint32_t crc, const unsigned char *data, size_t size) {
    pthread_once(&tables_once, make_tables);
    while (size >= 8) {
        crc ^= (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16
               | (uint32_t)data[3] << 24;
        crc = tables[7][crc & 0xFF] ^ tables[6][crc >> 8 & 0xFF] ^ tables[5][crc >> 16 & 0xFF]
              ^ tables[4][crc >> 24] ^ tables[3][data[4]] ^ tables[2][data[5]]
              ^ tables[1][data[6]] ^ tables[0][data[7]];
        data += 8;
        size -= 8;
    }
    while (size-- > 0) crc = crc >> 8 ^ tables[0][(crc ^ *data++) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_instruction(
    uint32_t crc, const unsigned char *data, size_t size) {
    uint64_t wide = crc;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        wide = __builtin_ia32_crc32di(wide, word);
        data += 8;
        size -= 8;
    }
    crc = (uint32_t)wide;
    while (size-- > 0) crc = __builtin_ia32_crc32qi(crc, *data++);
    return crc;
}
#endif

static uint32_t update(uint32_t crc, const void *data, size_t size) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return by_instruction(crc, data, size);
#endif
    return by_table(crc, data, size);
}

uint32_t clmdb_crc32c(uint32_t before, const void *data, size_t size) {
    return ~update(~before, data, size);
}

uint32_t clmdb_crc32c_portable(uint32_t before, const void *data, size_t size) {
    return ~by_table(~before, data, size);
}

int clmdb_is_zero(const void *data, size_t size) {
    const unsigned char *bytes = data;
    if (size == 0) return 1;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

uint32_t clmdb_seal(
    uint32_t seed, const void *key, size_t key_size, const void *value, size_t value_size) {
    unsigned char length[4] = {
        (unsigned char)key_size, (unsigned char)(key_size >> 8), (unsigned char)(key_size >> 16),
        (unsigned char)(key_size >> 24)};
    uint32_t crc = clmdb_crc32c(seed, length, sizeof length);
    crc = clmdb_crc32c(crc, key, key_size);
    return clmdb_crc32c(crc, value, value_size);
}
