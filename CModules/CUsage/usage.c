#define _GNU_SOURCE
#include "CUsage.h"

#include <errno.h>
#include <stddef.h>
#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS 0
#endif
#endif
#if !defined(COUNTS) && defined(__GLIBC__)
#define COUNTS 1
#endif
#ifndef COUNTS
#define COUNTS 0
#endif

static __thread uint64_t allocations;

#if COUNTS
// The C library's own, by the names that it exports for exactly this.
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    allocations++;
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
    allocations++;
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    allocations++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
        return EINVAL;
    allocations++;
    void *found = __libc_memalign(alignment, size);
    if (found == NULL) return ENOMEM;
    *memory = found;
    return 0;
}
#endif

static uint64_t nanoseconds(struct timeval time) {
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_usec * UINT64_C(1000);
}

int usage_of_thread(struct usage_sample *sample) {
    struct rusage usage;
    if (getrusage(RUSAGE_THREAD, &usage) < 0) return -errno;
    sample->user_ns = nanoseconds(usage.ru_utime);
    sample->system_ns = nanoseconds(usage.ru_stime);
    sample->voluntary_switches = (uint64_t)usage.ru_nvcsw;
    sample->involuntary_switches = (uint64_t)usage.ru_nivcsw;
    sample->allocations = allocations;
    return 0;
}

int usage_counts_allocations(void) { return COUNTS; }
