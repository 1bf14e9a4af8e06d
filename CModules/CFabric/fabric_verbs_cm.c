#define _GNU_SOURCE
#include "fabric_verbs.h"

#include <errno.h>

#ifdef FABRIC_RDMA

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <string.h>

_Static_assert(FABRIC_CM_ADDRESS_RESOLVED == RDMA_CM_EVENT_ADDR_RESOLVED, "ADDR_RESOLVED");
_Static_assert(FABRIC_CM_ADDRESS_ERROR == RDMA_CM_EVENT_ADDR_ERROR, "ADDR_ERROR");
_Static_assert(FABRIC_CM_ROUTE_RESOLVED == RDMA_CM_EVENT_ROUTE_RESOLVED, "ROUTE_RESOLVED");
_Static_assert(FABRIC_CM_ROUTE_ERROR == RDMA_CM_EVENT_ROUTE_ERROR, "ROUTE_ERROR");
_Static_assert(FABRIC_CM_CONNECT_REQUEST == RDMA_CM_EVENT_CONNECT_REQUEST, "CONNECT_REQUEST");
_Static_assert(FABRIC_CM_CONNECT_RESPONSE == RDMA_CM_EVENT_CONNECT_RESPONSE, "CONNECT_RESPONSE");
_Static_assert(FABRIC_CM_CONNECT_ERROR == RDMA_CM_EVENT_CONNECT_ERROR, "CONNECT_ERROR");
_Static_assert(FABRIC_CM_UNREACHABLE == RDMA_CM_EVENT_UNREACHABLE, "UNREACHABLE");
_Static_assert(FABRIC_CM_REJECTED == RDMA_CM_EVENT_REJECTED, "REJECTED");
_Static_assert(FABRIC_CM_ESTABLISHED == RDMA_CM_EVENT_ESTABLISHED, "ESTABLISHED");
_Static_assert(FABRIC_CM_DISCONNECTED == RDMA_CM_EVENT_DISCONNECTED, "DISCONNECTED");
_Static_assert(FABRIC_CM_DEVICE_REMOVAL == RDMA_CM_EVENT_DEVICE_REMOVAL, "DEVICE_REMOVAL");
_Static_assert(FABRIC_CM_TIMEWAIT_EXIT == RDMA_CM_EVENT_TIMEWAIT_EXIT, "TIMEWAIT_EXIT");

static struct rdma_cm_id *id_of(fabric_identifier *identifier) {
    return (struct rdma_cm_id *)identifier;
}
static struct rdma_event_channel *channel_of(fabric_cm *cm) {
    return (struct rdma_event_channel *)cm;
}

static int result(int value) { return value == 0 ? 0 : -(errno > 0 ? errno : EIO); }

static struct sockaddr_in sockaddr_of(uint32_t address, uint16_t port) {
    struct sockaddr_in name;
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(address);
    name.sin_port = htons(port);
    return name;
}

int fabric_cm_create(fabric_cm **cm) {
    struct rdma_event_channel *channel = rdma_create_event_channel();
    if (!channel) {
        return errno > 0 ? -errno : -EIO;
    }
    *cm = (fabric_cm *)channel;
    return 0;
}

int fabric_cm_descriptor(fabric_cm *cm) {
    int descriptor = channel_of(cm)->fd;
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -errno;
    }
    return descriptor;
}

int fabric_cm_next_event(fabric_cm *cm, struct fabric_cm_event *event) {
    struct rdma_cm_event *taken;
    if (rdma_get_cm_event(channel_of(cm), &taken)) {
        return errno == EAGAIN ? 0 : -errno;
    }
    memset(event, 0, sizeof *event);
    event->identifier = (fabric_identifier *)taken->id;
    // A new identifier starts with the listener's context.
    event->context = (uint64_t)(uintptr_t)taken->id->context;
    event->kind = (uint32_t)taken->event;
    event->status = taken->status;
    struct sockaddr *peer = rdma_get_peer_addr(taken->id);
    if (peer && peer->sa_family == AF_INET) {
        event->peer_address = ntohl(((struct sockaddr_in *)peer)->sin_addr.s_addr);
        event->peer_port = ntohs(((struct sockaddr_in *)peer)->sin_port);
    }
    const void *data = NULL;
    uint8_t count = 0;
    switch (taken->event) {
    case RDMA_CM_EVENT_CONNECT_REQUEST:
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
    case RDMA_CM_EVENT_ESTABLISHED:
    case RDMA_CM_EVENT_REJECTED:
        data = taken->param.conn.private_data;
        count = taken->param.conn.private_data_len;
        break;
    default:
        break;
    }
    if (data && count > 0) {
        event->private_count = count < FABRIC_CM_PRIVATE_MAX ? count : FABRIC_CM_PRIVATE_MAX;
        memcpy(event->private_data, data, event->private_count);
    }
    rdma_ack_cm_event(taken);
    return 1;
}

int fabric_cm_destroy(fabric_cm *cm) {
    rdma_destroy_event_channel(channel_of(cm));
    return 0;
}

int fabric_identifier_create(fabric_cm *cm, uint64_t context, fabric_identifier **identifier) {
    struct rdma_cm_id *id;
    if (rdma_create_id(channel_of(cm), &id, (void *)(uintptr_t)context, RDMA_PS_TCP)) {
        return -errno;
    }
    *identifier = (fabric_identifier *)id;
    return 0;
}

void fabric_identifier_set_context(fabric_identifier *identifier, uint64_t context) {
    id_of(identifier)->context = (void *)(uintptr_t)context;
}

int fabric_identifier_bind(fabric_identifier *identifier, uint32_t address, uint16_t port) {
    struct sockaddr_in name = sockaddr_of(address, port);
    return result(rdma_bind_addr(id_of(identifier), (struct sockaddr *)&name));
}

int fabric_identifier_listen(fabric_identifier *identifier, int backlog) {
    return result(rdma_listen(id_of(identifier), backlog));
}

int fabric_identifier_port(fabric_identifier *identifier) {
    return ntohs(rdma_get_src_port(id_of(identifier)));
}

int fabric_identifier_resolve_address(
    fabric_identifier *identifier, uint32_t from, uint32_t to, uint16_t port, int timeout_ms) {
    struct sockaddr_in source = sockaddr_of(from, 0);
    struct sockaddr_in target = sockaddr_of(to, port);
    return result(rdma_resolve_addr(
        id_of(identifier), from ? (struct sockaddr *)&source : NULL, (struct sockaddr *)&target,
        timeout_ms));
}

int fabric_identifier_resolve_route(fabric_identifier *identifier, int timeout_ms) {
    return result(rdma_resolve_route(id_of(identifier), timeout_ms));
}

int fabric_identifier_connect(
    fabric_identifier *identifier, const void *private_data, uint8_t private_count,
    uint8_t retry_count, uint8_t rnr_retry_count) {
    struct rdma_conn_param parameters = {
        .private_data = private_data,
        .private_data_len = private_count,
        .flow_control = 1,
        .retry_count = retry_count,
        .rnr_retry_count = rnr_retry_count,
    };
    return result(rdma_connect(id_of(identifier), &parameters));
}

int fabric_identifier_accept(
    fabric_identifier *identifier, const void *private_data, uint8_t private_count,
    uint8_t rnr_retry_count) {
    struct rdma_conn_param parameters = {
        .private_data = private_data,
        .private_data_len = private_count,
        .flow_control = 1,
        .rnr_retry_count = rnr_retry_count,
    };
    return result(rdma_accept(id_of(identifier), &parameters));
}

int fabric_identifier_reject(
    fabric_identifier *identifier, const void *private_data, uint8_t private_count) {
    return result(rdma_reject(id_of(identifier), private_data, private_count));
}

int fabric_identifier_disconnect(fabric_identifier *identifier) {
    return result(rdma_disconnect(id_of(identifier)));
}

int fabric_identifier_destroy(fabric_identifier *identifier) {
    return result(rdma_destroy_id(id_of(identifier)));
}

#else

#define ABSENT(name, ...) \
    int name(__VA_ARGS__) { return -ENOSYS; }
#pragma clang diagnostic ignored "-Wunused-parameter"

ABSENT(fabric_cm_create, fabric_cm **c)
ABSENT(fabric_cm_descriptor, fabric_cm *c)
ABSENT(fabric_cm_next_event, fabric_cm *c, struct fabric_cm_event *e)
ABSENT(fabric_cm_destroy, fabric_cm *c)
ABSENT(fabric_identifier_create, fabric_cm *c, uint64_t x, fabric_identifier **i)
ABSENT(fabric_identifier_bind, fabric_identifier *i, uint32_t a, uint16_t p)
ABSENT(fabric_identifier_listen, fabric_identifier *i, int b)
ABSENT(fabric_identifier_port, fabric_identifier *i)
ABSENT(fabric_identifier_resolve_address, fabric_identifier *i, uint32_t f, uint32_t t, uint16_t p,
    int m)
ABSENT(fabric_identifier_resolve_route, fabric_identifier *i, int m)
ABSENT(fabric_identifier_connect, fabric_identifier *i, const void *d, uint8_t n, uint8_t r,
    uint8_t q)
ABSENT(fabric_identifier_accept, fabric_identifier *i, const void *d, uint8_t n, uint8_t q)
ABSENT(fabric_identifier_reject, fabric_identifier *i, const void *d, uint8_t n)
ABSENT(fabric_identifier_disconnect, fabric_identifier *i)
ABSENT(fabric_identifier_destroy, fabric_identifier *i)
void fabric_identifier_set_context(fabric_identifier *i, uint64_t x) {}

#endif
