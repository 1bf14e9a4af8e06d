#define _GNU_SOURCE
#include "CFabric.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(pthread_t) <= sizeof(uint64_t), "a thread fits its handle");

struct start {
    fabric_thread_body body;
    void *context;
    char name[16];
};

static void *enter(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    pthread_setname_np(pthread_self(), start.name);
    start.body(start.context);
    return NULL;
}

int fabric_thread_create(
    const char *name, fabric_thread_body body, void *context, uint64_t *thread) {
    struct start *start = calloc(1, sizeof *start);
    if (start == NULL) return -ENOMEM;
    start->body = body;
    start->context = context;
    strncpy(start->name, name, sizeof start->name - 1);
    pthread_t handle;
    int error = pthread_create(&handle, NULL, enter, start);
    if (error != 0) {
        free(start);
        return -error;
    }
    *thread = (uint64_t)handle;
    return 0;
}

int fabric_thread_join(uint64_t thread) { return -pthread_join((pthread_t)thread, NULL); }

int fabric_thread_pin(int cpu) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) return -EINVAL;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return -pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

int fabric_thread_cpu_count(void) {
    cpu_set_t set;
    int error = pthread_getaffinity_np(pthread_self(), sizeof set, &set);
    return error != 0 ? -error : CPU_COUNT(&set);
}
