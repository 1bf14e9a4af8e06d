#define _GNU_SOURCE
#include "CFabric.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(FABRIC_READABLE == EPOLLIN, "EPOLLIN");
_Static_assert(FABRIC_WRITABLE == EPOLLOUT, "EPOLLOUT");
_Static_assert(FABRIC_ERROR == EPOLLERR, "EPOLLERR");
_Static_assert(FABRIC_HANGUP == EPOLLHUP, "EPOLLHUP");
_Static_assert(FABRIC_PEER_CLOSED == EPOLLRDHUP, "EPOLLRDHUP");
_Static_assert(FABRIC_EDGE == (uint32_t)EPOLLET, "EPOLLET");

#define BATCH_MAX 256

static int result(int value) { return value < 0 ? -errno : value; }

static int control(int poller, int operation, int descriptor, uint32_t interest, uint64_t token) {
    struct epoll_event event = {.events = interest, .data = {.u64 = token}};
    return result(epoll_ctl(poller, operation, descriptor, &event));
}

int fabric_poller_create(void) { return result(epoll_create1(EPOLL_CLOEXEC)); }

int fabric_poller_add(int poller, int descriptor, uint32_t interest, uint64_t token) {
    return control(poller, EPOLL_CTL_ADD, descriptor, interest, token);
}

int fabric_poller_modify(int poller, int descriptor, uint32_t interest, uint64_t token) {
    return control(poller, EPOLL_CTL_MOD, descriptor, interest, token);
}

int fabric_poller_remove(int poller, int descriptor) {
    return control(poller, EPOLL_CTL_DEL, descriptor, 0, 0);
}

static int wait_ms(int poller, int64_t timeout_ns, struct epoll_event *ready, int capacity) {
    int timeout = -1;
    if (timeout_ns >= 0) {
        int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
        timeout = ms > INT32_MAX ? INT32_MAX : (int)ms;
    }
    return result(epoll_wait(poller, ready, capacity, timeout));
}

static int wait_ns(int poller, int64_t timeout_ns, struct epoll_event *ready, int capacity) {
#ifdef SYS_epoll_pwait2
    struct timespec timeout = {
        .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    long count = syscall(SYS_epoll_pwait2, poller, ready, capacity, &timeout, NULL, (size_t)0);
    if (count >= 0) return (int)count;
    if (errno != ENOSYS && errno != EPERM) return -errno;
#endif
    return wait_ms(poller, timeout_ns, ready, capacity);
}

int fabric_poller_wait(int poller, int64_t timeout_ns, struct fabric_event *events, int capacity) {
    struct epoll_event ready[BATCH_MAX];
    if (capacity > BATCH_MAX) capacity = BATCH_MAX;
    int count = timeout_ns > 0 ? wait_ns(poller, timeout_ns, ready, capacity)
                               : wait_ms(poller, timeout_ns, ready, capacity);
    for (int i = 0; i < count; i++) {
        events[i].token = ready[i].data.u64;
        events[i].readiness = ready[i].events;
        events[i].reserved = 0;
    }
    return count;
}

int fabric_wakeup_create(void) { return result(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

int fabric_wakeup_signal(int wakeup) {
    uint64_t one = 1;
    return write(wakeup, &one, sizeof one) < 0 ? -errno : 0;
}
