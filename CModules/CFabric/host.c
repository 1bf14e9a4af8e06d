#define _GNU_SOURCE
#include "CFabric.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static uint64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t fabric_clock_monotonic_ns(void) { return read_clock(CLOCK_MONOTONIC); }

uint64_t fabric_clock_realtime_ns(void) { return read_clock(CLOCK_REALTIME); }

int fabric_process_raise_descriptor_limit(uint64_t *limit) {
    struct rlimit bounds;
    if (getrlimit(RLIMIT_NOFILE, &bounds) < 0) return -errno;
    bounds.rlim_cur = bounds.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &bounds) < 0) return -errno;
    *limit = (uint64_t)bounds.rlim_cur;
    return 0;
}

void fabric_error_text(int error, char *buffer, size_t capacity) {
    if (capacity == 0) return;
    // The GNU strerror_r may return a static text instead of filling the buffer.
    char text[128];
    snprintf(buffer, capacity, "%s", strerror_r(error, text, sizeof text));
}
