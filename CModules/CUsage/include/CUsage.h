/// What a thread has used: processor time, context switches, allocations.
///
/// For benchmarks. Linking this into a program puts a counter before malloc and its siblings, one
/// addition per call to a variable of the calling thread; the memory is the C library's as before.
/// Under a sanitizer, which has a malloc of its own, nothing is counted.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

struct usage_sample {
    uint64_t user_ns;
    uint64_t system_ns;
    /// Times that the thread went to sleep (ru_nvcsw).
    uint64_t voluntary_switches;
    /// Times that the processor was taken from it (ru_nivcsw).
    uint64_t involuntary_switches;
    /// Calls of malloc, calloc, realloc and the aligned ones by this thread.
    uint64_t allocations;
};

/// Reads what the calling thread has used since it was started. Returns 0 or a negative errno.
int usage_of_thread(struct usage_sample *sample);

/// Whether allocations are counted in this build.
int usage_counts_allocations(void);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif
