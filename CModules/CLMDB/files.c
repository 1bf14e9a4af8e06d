#define _GNU_SOURCE
#include "CLMDB.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int clmdb_file_sync_system(int descriptor) { return syncfs(descriptor) == 0 ? 0 : -errno; }

int clmdb_file_zero(int descriptor, uint64_t offset, uint64_t count) {
    if (count == 0) return 0;
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int result;
    do {
        result = fallocate(descriptor, mode, (off_t)offset, (off_t)count);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS) return -errno;
    // A file system that cannot punch holes: write the zeros.
    static const char zeros[65536];
    while (count > 0) {
        size_t part = count < sizeof zeros ? (size_t)count : sizeof zeros;
        ssize_t written = pwrite(descriptor, zeros, part, (off_t)offset);
        if (written < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        offset += (uint64_t)written;
        count -= (uint64_t)written;
    }
    return 0;
}
