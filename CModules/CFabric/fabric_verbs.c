#define _GNU_SOURCE
#include "fabric_verbs.h"

#include <errno.h>

#ifdef FABRIC_RDMA

#include <fcntl.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

_Static_assert(FABRIC_WC_SUCCESS == IBV_WC_SUCCESS, "IBV_WC_SUCCESS");
_Static_assert(FABRIC_WC_LOCAL_LENGTH == IBV_WC_LOC_LEN_ERR, "IBV_WC_LOC_LEN_ERR");
_Static_assert(FABRIC_WC_LOCAL_PROTECTION == IBV_WC_LOC_PROT_ERR, "IBV_WC_LOC_PROT_ERR");
_Static_assert(FABRIC_WC_FLUSHED == IBV_WC_WR_FLUSH_ERR, "IBV_WC_WR_FLUSH_ERR");
_Static_assert(FABRIC_WC_REMOTE_INVALID_REQUEST == IBV_WC_REM_INV_REQ_ERR, "IBV_WC_REM_INV_REQ_ERR");
_Static_assert(FABRIC_WC_REMOTE_ACCESS == IBV_WC_REM_ACCESS_ERR, "IBV_WC_REM_ACCESS_ERR");
_Static_assert(FABRIC_WC_REMOTE_OPERATION == IBV_WC_REM_OP_ERR, "IBV_WC_REM_OP_ERR");
_Static_assert(FABRIC_WC_RETRY_EXCEEDED == IBV_WC_RETRY_EXC_ERR, "IBV_WC_RETRY_EXC_ERR");
_Static_assert(FABRIC_WC_RNR_RETRY_EXCEEDED == IBV_WC_RNR_RETRY_EXC_ERR, "IBV_WC_RNR_RETRY_EXC_ERR");
_Static_assert(FABRIC_WC_SENT == IBV_WC_SEND, "IBV_WC_SEND");
_Static_assert(FABRIC_WC_WRITTEN == IBV_WC_RDMA_WRITE, "IBV_WC_RDMA_WRITE");
_Static_assert(FABRIC_WC_RECEIVED == IBV_WC_RECV, "IBV_WC_RECV");
_Static_assert(FABRIC_DEVICE_PAIR_FATAL == IBV_EVENT_QP_FATAL, "IBV_EVENT_QP_FATAL");
_Static_assert(FABRIC_DEVICE_PAIR_REQUEST_ERROR == IBV_EVENT_QP_REQ_ERR, "IBV_EVENT_QP_REQ_ERR");
_Static_assert(FABRIC_DEVICE_PAIR_ACCESS_ERROR == IBV_EVENT_QP_ACCESS_ERR, "IBV_EVENT_QP_ACCESS_ERR");
_Static_assert(FABRIC_DEVICE_FATAL == IBV_EVENT_DEVICE_FATAL, "IBV_EVENT_DEVICE_FATAL");
_Static_assert(FABRIC_DEVICE_PORT_ACTIVE == IBV_EVENT_PORT_ACTIVE, "IBV_EVENT_PORT_ACTIVE");
_Static_assert(FABRIC_DEVICE_PORT_ERROR == IBV_EVENT_PORT_ERR, "IBV_EVENT_PORT_ERR");

#define POLL_MAX 32
#define RECEIVES_MAX 64
#define SENDS_MAX 16

static struct ibv_context *context_of(fabric_device *device) { return (struct ibv_context *)device; }
static struct ibv_pd *pd_of(fabric_domain *domain) { return (struct ibv_pd *)domain; }
static struct ibv_cq *cq_of(fabric_queue *queue) { return (struct ibv_cq *)queue; }
static struct ibv_srq *srq_of(fabric_receives *receives) { return (struct ibv_srq *)receives; }
static struct rdma_cm_id *id_of(fabric_identifier *identifier) {
    return (struct rdma_cm_id *)identifier;
}
static struct ibv_comp_channel *channel_of(fabric_channel *channel) {
    return (struct ibv_comp_channel *)channel;
}

/// verbs return 0 or a positive errno; -1 with errno from some.
static int result(int value) { return value == 0 ? 0 : -(value > 0 ? value : errno); }

/// For constructors, which return NULL and set errno.
static int failure(void) { return errno > 0 ? -errno : -EIO; }

static int unblock(int descriptor) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -errno;
    }
    return descriptor;
}

int fabric_verbs_available(void) { return 1; }

int fabric_identifier_device(fabric_identifier *identifier, fabric_device **device) {
    struct ibv_context *context = id_of(identifier)->verbs;
    if (!context) {
        return -ENODEV;
    }
    *device = (fabric_device *)context;
    return 0;
}

int fabric_device_name(fabric_device *device, char *name, size_t capacity) {
    snprintf(name, capacity, "%s", ibv_get_device_name(context_of(device)->device));
    return 0;
}

int fabric_device_limits(fabric_device *device, struct fabric_device_limits *limits) {
    struct ibv_device_attr attributes;
    int status = ibv_query_device(context_of(device), &attributes);
    if (status) {
        return result(status);
    }
    limits->pair_work_max = (uint32_t)attributes.max_qp_wr;
    limits->queue_entries_max = (uint32_t)attributes.max_cqe;
    limits->receives_max = (uint32_t)attributes.max_srq_wr;
    limits->ports = attributes.phys_port_cnt;
    return 0;
}

int fabric_device_descriptor(fabric_device *device) { return unblock(context_of(device)->async_fd); }

int fabric_device_next_event(fabric_device *device, struct fabric_device_event *event) {
    struct ibv_async_event taken;
    if (ibv_get_async_event(context_of(device), &taken)) {
        return errno == EAGAIN ? 0 : failure();
    }
    event->kind = (uint32_t)taken.event_type;
    switch (taken.event_type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
        event->subject = taken.element.qp->qp_num;
        break;
    case IBV_EVENT_PORT_ACTIVE:
    case IBV_EVENT_PORT_ERR:
    case IBV_EVENT_LID_CHANGE:
    case IBV_EVENT_PKEY_CHANGE:
    case IBV_EVENT_SM_CHANGE:
    case IBV_EVENT_CLIENT_REREGISTER:
    case IBV_EVENT_GID_CHANGE:
        event->subject = (uint32_t)taken.element.port_num;
        break;
    default:
        event->subject = 0;
        break;
    }
    ibv_ack_async_event(&taken);
    return 1;
}

// librdmacm keeps a device's context open for the whole process, and closes that of a device which
// went away only when it meets a new one. Until then the kernel waits in the device's removal, for
// ever where the driver cannot take objects from their owners (soft-RoCE). So the descriptors behind
// the context are let go of here, as soon as nobody has objects on them; the library later closes
// what stands in their places.

struct user_count {
    struct ibv_context *context;
    int users;
    int is_gone;
};
static pthread_mutex_t users_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct user_count user_counts[64];

static void let_go(struct user_count *entry) {
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing >= 0) {
        dup3(nothing, entry->context->cmd_fd, O_CLOEXEC);
        dup3(nothing, entry->context->async_fd, O_CLOEXEC);
        close(nothing);
    }
    *entry = (struct user_count){0};
}

/// The entry of a context, or one that is free; NULL where none is.
static struct user_count *find_users(struct ibv_context *context) {
    struct user_count *vacant = NULL;
    for (size_t index = 0; index < sizeof user_counts / sizeof *user_counts; index++) {
        if (user_counts[index].context == context) {
            return &user_counts[index];
        }
        if (!vacant && !user_counts[index].context) {
            vacant = &user_counts[index];
        }
    }
    return vacant;
}

int fabric_device_begin_use(fabric_device *device) {
    pthread_mutex_lock(&users_mutex);
    struct user_count *entry = find_users(context_of(device));
    if (entry) {
        entry->context = context_of(device);
        entry->users += 1;
    }
    pthread_mutex_unlock(&users_mutex);
    return entry ? 0 : -ENOSPC;
}

void fabric_device_end_use(fabric_device *device) {
    pthread_mutex_lock(&users_mutex);
    struct user_count *entry = find_users(context_of(device));
    if (entry && entry->users > 0) {
        entry->users -= 1;
        if (entry->users == 0 && entry->is_gone) {
            let_go(entry);
        } else if (entry->users == 0) {
            *entry = (struct user_count){0};
        }
    }
    pthread_mutex_unlock(&users_mutex);
}

void fabric_device_gone(fabric_device *device) {
    pthread_mutex_lock(&users_mutex);
    struct user_count *entry = find_users(context_of(device));
    if (entry) {
        entry->context = context_of(device);
        entry->is_gone = 1;
        if (entry->users == 0) {
            let_go(entry);
        }
    }
    pthread_mutex_unlock(&users_mutex);
}

int fabric_domain_create(fabric_device *device, fabric_domain **domain) {
    struct ibv_pd *pd = ibv_alloc_pd(context_of(device));
    if (!pd) {
        return failure();
    }
    *domain = (fabric_domain *)pd;
    return 0;
}

int fabric_domain_destroy(fabric_domain *domain) { return result(ibv_dealloc_pd(pd_of(domain))); }

int fabric_region_register(
    fabric_domain *domain, void *address, size_t byte_count, int remote_write,
    fabric_region **region, uint32_t *local_key, uint32_t *remote_key) {
    int access = IBV_ACCESS_LOCAL_WRITE | (remote_write ? IBV_ACCESS_REMOTE_WRITE : 0);
    struct ibv_mr *mr = ibv_reg_mr(pd_of(domain), address, byte_count, access);
    if (!mr) {
        return failure();
    }
    *region = (fabric_region *)mr;
    *local_key = mr->lkey;
    *remote_key = mr->rkey;
    return 0;
}

int fabric_region_deregister(fabric_region *region) {
    return result(ibv_dereg_mr((struct ibv_mr *)region));
}

int fabric_channel_create(fabric_device *device, fabric_channel **channel) {
    struct ibv_comp_channel *made = ibv_create_comp_channel(context_of(device));
    if (!made) {
        return failure();
    }
    *channel = (fabric_channel *)made;
    return 0;
}

int fabric_channel_descriptor(fabric_channel *channel) { return unblock(channel_of(channel)->fd); }

int fabric_channel_take(fabric_channel *channel) {
    struct ibv_cq *cq;
    void *context;
    if (ibv_get_cq_event(channel_of(channel), &cq, &context)) {
        return errno == EAGAIN ? 0 : failure();
    }
    ibv_ack_cq_events(cq, 1);
    return 1;
}

int fabric_channel_destroy(fabric_channel *channel) {
    return result(ibv_destroy_comp_channel(channel_of(channel)));
}

int fabric_queue_create(
    fabric_device *device, int entries, fabric_channel *channel, fabric_queue **queue) {
    struct ibv_cq *cq = ibv_create_cq(context_of(device), entries, NULL, channel_of(channel), 0);
    if (!cq) {
        return failure();
    }
    *queue = (fabric_queue *)cq;
    return 0;
}

int fabric_queue_poll(fabric_queue *queue, struct fabric_wc *completions, int capacity) {
    struct ibv_wc batch[POLL_MAX];
    int count = ibv_poll_cq(cq_of(queue), capacity < POLL_MAX ? capacity : POLL_MAX, batch);
    if (count < 0) {
        return -EIO;
    }
    for (int index = 0; index < count; index++) {
        completions[index] = (struct fabric_wc){
            .id = batch[index].wr_id,
            .pair_number = batch[index].qp_num,
            .byte_count = batch[index].byte_len,
            .vendor_error = batch[index].vendor_err,
            .status = (uint8_t)batch[index].status,
            .opcode = (uint8_t)batch[index].opcode,
        };
    }
    return count;
}

int fabric_queue_arm(fabric_queue *queue) { return result(ibv_req_notify_cq(cq_of(queue), 0)); }

int fabric_queue_destroy(fabric_queue *queue) { return result(ibv_destroy_cq(cq_of(queue))); }

int fabric_receives_create(fabric_domain *domain, uint32_t entries, fabric_receives **receives) {
    struct ibv_srq_init_attr attributes = {.attr = {.max_wr = entries, .max_sge = 1}};
    struct ibv_srq *srq = ibv_create_srq(pd_of(domain), &attributes);
    if (!srq) {
        return failure();
    }
    *receives = (fabric_receives *)srq;
    return 0;
}

int fabric_receives_post(
    fabric_receives *receives, const uint64_t *ids, const uint64_t *addresses, int count,
    uint32_t byte_count, uint32_t local_key) {
    struct ibv_sge pieces[RECEIVES_MAX];
    struct ibv_recv_wr requests[RECEIVES_MAX];
    if (count < 1 || count > RECEIVES_MAX) {
        return -EINVAL;
    }
    for (int index = 0; index < count; index++) {
        pieces[index] = (struct ibv_sge){
            .addr = addresses[index], .length = byte_count, .lkey = local_key};
        requests[index] = (struct ibv_recv_wr){
            .wr_id = ids[index],
            .next = index + 1 < count ? &requests[index + 1] : NULL,
            .sg_list = &pieces[index],
            .num_sge = 1,
        };
    }
    struct ibv_recv_wr *refused;
    return result(ibv_post_srq_recv(srq_of(receives), requests, &refused));
}

int fabric_receives_destroy(fabric_receives *receives) {
    return result(ibv_destroy_srq(srq_of(receives)));
}

int fabric_pair_create(
    fabric_identifier *identifier, fabric_domain *domain, fabric_queue *queue,
    fabric_receives *receives, uint32_t send_entries, uint32_t *inline_max, uint32_t *number) {
    struct ibv_qp_init_attr attributes = {
        .send_cq = cq_of(queue),
        .recv_cq = cq_of(queue),
        .srq = srq_of(receives),
        .cap = {.max_send_wr = send_entries, .max_send_sge = 1, .max_inline_data = *inline_max},
        .qp_type = IBV_QPT_RC,
    };
    if (rdma_create_qp(id_of(identifier), pd_of(domain), &attributes)) {
        return failure();
    }
    *inline_max = attributes.cap.max_inline_data;
    *number = id_of(identifier)->qp->qp_num;
    return 0;
}

int fabric_pair_post(fabric_identifier *identifier, const struct fabric_send *sends, int count) {
    struct ibv_sge pieces[SENDS_MAX];
    struct ibv_send_wr requests[SENDS_MAX];
    struct ibv_qp *qp = id_of(identifier)->qp;
    if (!qp) {
        return -ENOTCONN;
    }
    if (count < 1 || count > SENDS_MAX) {
        return -EINVAL;
    }
    for (int index = 0; index < count; index++) {
        const struct fabric_send *send = &sends[index];
        pieces[index] = (struct ibv_sge){
            .addr = send->local, .length = send->byte_count, .lkey = send->local_key};
        struct ibv_send_wr *request = &requests[index];
        // The unions behind are read only by opcodes that are not used here.
        request->wr_id = send->id;
        request->next = index + 1 < count ? &requests[index + 1] : NULL;
        request->sg_list = &pieces[index];
        request->num_sge = send->byte_count ? 1 : 0;
        request->send_flags = (send->flags & FABRIC_SEND_SIGNALED ? IBV_SEND_SIGNALED : 0)
            | (send->flags & FABRIC_SEND_INLINE ? IBV_SEND_INLINE : 0);
        if (send->flags & FABRIC_SEND_WRITE) {
            request->opcode = IBV_WR_RDMA_WRITE;
            request->wr.rdma.remote_addr = send->remote;
            request->wr.rdma.rkey = send->remote_key;
        } else {
            request->opcode = IBV_WR_SEND;
        }
    }
    struct ibv_send_wr *refused = NULL;
    int status = ibv_post_send(qp, requests, &refused);
    if (status == 0) {
        return count;
    }
    int taken = refused ? (int)(refused - requests) : 0;
    return taken > 0 ? taken : result(status);
}

int fabric_pair_fail(fabric_identifier *identifier) {
    struct ibv_qp *qp = id_of(identifier)->qp;
    if (!qp) {
        return -ENOTCONN;
    }
    struct ibv_qp_attr attributes = {.qp_state = IBV_QPS_ERR};
    return result(ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
}

int fabric_pair_destroy(fabric_identifier *identifier) {
    if (id_of(identifier)->qp) {
        rdma_destroy_qp(id_of(identifier));
    }
    return 0;
}

#else

int fabric_verbs_available(void) { return 0; }

// One line each: the signatures of the header, and nothing behind them.
#define ABSENT(name, ...) \
    int name(__VA_ARGS__) { return -ENOSYS; }
#pragma clang diagnostic ignored "-Wunused-parameter"

ABSENT(fabric_identifier_device, fabric_identifier *i, fabric_device **d)
ABSENT(fabric_device_name, fabric_device *d, char *n, size_t c)
ABSENT(fabric_device_limits, fabric_device *d, struct fabric_device_limits *l)
ABSENT(fabric_device_descriptor, fabric_device *d)
ABSENT(fabric_device_next_event, fabric_device *d, struct fabric_device_event *e)
ABSENT(fabric_device_begin_use, fabric_device *d)
void fabric_device_end_use(fabric_device *d) {}
void fabric_device_gone(fabric_device *d) {}
ABSENT(fabric_domain_create, fabric_device *d, fabric_domain **o)
ABSENT(fabric_domain_destroy, fabric_domain *d)
ABSENT(fabric_region_register, fabric_domain *d, void *a, size_t n, int w, fabric_region **r,
    uint32_t *l, uint32_t *k)
ABSENT(fabric_region_deregister, fabric_region *r)
ABSENT(fabric_channel_create, fabric_device *d, fabric_channel **c)
ABSENT(fabric_channel_descriptor, fabric_channel *c)
ABSENT(fabric_channel_take, fabric_channel *c)
ABSENT(fabric_channel_destroy, fabric_channel *c)
ABSENT(fabric_queue_create, fabric_device *d, int n, fabric_channel *c, fabric_queue **q)
ABSENT(fabric_queue_poll, fabric_queue *q, struct fabric_wc *w, int n)
ABSENT(fabric_queue_arm, fabric_queue *q)
ABSENT(fabric_queue_destroy, fabric_queue *q)
ABSENT(fabric_receives_create, fabric_domain *d, uint32_t n, fabric_receives **r)
ABSENT(fabric_receives_post, fabric_receives *r, const uint64_t *i, const uint64_t *a, int n,
    uint32_t b, uint32_t k)
ABSENT(fabric_receives_destroy, fabric_receives *r)
ABSENT(fabric_pair_create, fabric_identifier *i, fabric_domain *d, fabric_queue *q,
    fabric_receives *r, uint32_t n, uint32_t *m, uint32_t *u)
ABSENT(fabric_pair_post, fabric_identifier *i, const struct fabric_send *s, int n)
ABSENT(fabric_pair_fail, fabric_identifier *i)
ABSENT(fabric_pair_destroy, fabric_identifier *i)

#endif
