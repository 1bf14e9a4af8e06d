#define _GNU_SOURCE
#include "fabric_devices.h"

#include <errno.h>

#ifdef FABRIC_RDMA

#include <infiniband/verbs.h>
#include <linux/netlink.h>
#include <rdma/rdma_netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(FABRIC_TRANSPORT_INFINIBAND == IBV_TRANSPORT_IB, "IBV_TRANSPORT_IB");
_Static_assert(FABRIC_TRANSPORT_IWARP == IBV_TRANSPORT_IWARP, "IBV_TRANSPORT_IWARP");
_Static_assert(FABRIC_LINK_INFINIBAND == IBV_LINK_LAYER_INFINIBAND, "IBV_LINK_LAYER_INFINIBAND");
_Static_assert(FABRIC_LINK_ETHERNET == IBV_LINK_LAYER_ETHERNET, "IBV_LINK_LAYER_ETHERNET");
_Static_assert(FABRIC_PORT_DOWN == IBV_PORT_DOWN, "IBV_PORT_DOWN");
_Static_assert(FABRIC_PORT_INIT == IBV_PORT_INIT, "IBV_PORT_INIT");
_Static_assert(FABRIC_PORT_ARMED == IBV_PORT_ARMED, "IBV_PORT_ARMED");
_Static_assert(FABRIC_PORT_ACTIVE == IBV_PORT_ACTIVE, "IBV_PORT_ACTIVE");
_Static_assert(FABRIC_GID_INFINIBAND == IBV_GID_TYPE_IB, "IBV_GID_TYPE_IB");
_Static_assert(FABRIC_GID_ROCE_V1 == IBV_GID_TYPE_ROCE_V1, "IBV_GID_TYPE_ROCE_V1");
_Static_assert(FABRIC_GID_ROCE_V2 == IBV_GID_TYPE_ROCE_V2, "IBV_GID_TYPE_ROCE_V2");

// What one answer of the kernel holds: its length is a 16-bit number.
#define GIDS_MAX 1024

static uint32_t mtu_bytes(enum ibv_mtu mtu) {
    return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

/// Fills in what the device says of itself; returns how many ports it has, at least 1.
static int describe(struct ibv_device *device, struct fabric_port *ports, int capacity) {
    memset(ports, 0, sizeof *ports);
    snprintf(ports->device, sizeof ports->device, "%s", ibv_get_device_name(device));
    ports->transport = (uint8_t)device->transport_type;
    struct ibv_context *context = ibv_open_device(device);
    if (!context) {
        ports->error = errno > 0 ? -errno : -EIO;
        return 1;
    }
    struct ibv_device_attr limits;
    int status = ibv_query_device(context, &limits);
    int count = status ? 0 : limits.phys_port_cnt;
    if (count > capacity) {
        count = capacity;
    }
    for (int index = 0; index < count; index++) {
        struct fabric_port *port = &ports[index];
        if (index > 0) {
            *port = ports[0];
        }
        port->error = 0;
        port->number = (uint8_t)(index + 1);
        port->vendor = limits.vendor_id;
        port->pairs_max = (uint32_t)limits.max_qp;
        port->regions_max = (uint32_t)limits.max_mr;
        port->receives_max = (uint32_t)limits.max_srq_wr;
        struct ibv_port_attr attributes;
        status = ibv_query_port(context, port->number, &attributes);
        if (status) {
            port->error = -status;
            continue;
        }
        port->mtu_active = mtu_bytes(attributes.active_mtu);
        port->mtu_max = mtu_bytes(attributes.max_mtu);
        port->message_bytes_max = attributes.max_msg_sz;
        port->link_layer = attributes.link_layer;
        port->state = (uint8_t)attributes.state;
    }
    if (count == 0) {
        ports->error = status > 0 ? -status : -ENODEV;
    }
    ibv_close_device(context);
    return count > 0 ? count : 1;
}

int fabric_ports_list(struct fabric_port *ports, int capacity) {
    int found = 0;
    struct ibv_device **devices = ibv_get_device_list(&found);
    if (!devices) {
        return errno > 0 ? -errno : -EIO;
    }
    int count = 0;
    for (int index = 0; index < found && count < capacity; index++) {
        count += describe(devices[index], &ports[count], capacity - count);
    }
    ibv_free_device_list(devices);
    return count;
}

int fabric_port_gids(const char *device, uint32_t port, struct fabric_gid *gids, int capacity) {
    struct ibv_device **devices = ibv_get_device_list(NULL);
    if (!devices) {
        return errno > 0 ? -errno : -EIO;
    }
    int result = -ENODEV;
    for (int index = 0; devices[index]; index++) {
        if (strcmp(ibv_get_device_name(devices[index]), device) != 0) {
            continue;
        }
        struct ibv_context *context = ibv_open_device(devices[index]);
        if (!context) {
            result = errno > 0 ? -errno : -EIO;
            break;
        }
        static _Thread_local struct ibv_gid_entry entries[GIDS_MAX];
        ssize_t count = ibv_query_gid_table(context, entries, GIDS_MAX, 0);
        result = count < 0 ? (int)count : 0;
        for (ssize_t place = 0; place < count && result < capacity; place++) {
            if (entries[place].port_num != port) {
                continue;
            }
            struct fabric_gid *gid = &gids[result];
            memcpy(gid->raw, entries[place].gid.raw, sizeof gid->raw);
            gid->index = entries[place].gid_index;
            gid->type = entries[place].gid_type;
            gid->interface = entries[place].ndev_ifindex;
            gid->reserved = 0;
            result += 1;
        }
        ibv_close_device(context);
        break;
    }
    ibv_free_device_list(devices);
    return result;
}

/// Appends an attribute that is a text with its final zero. Returns 0 where it does not fit.
static int put_text(char *message, size_t capacity, uint16_t type, const char *text) {
    struct nlmsghdr *header = (struct nlmsghdr *)message;
    size_t length = NLA_HDRLEN + strlen(text) + 1;
    size_t start = NLMSG_ALIGN(header->nlmsg_len);
    if (start + NLA_ALIGN(length) > capacity) {
        return 0;
    }
    struct nlattr *attribute = (struct nlattr *)(message + start);
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)length;
    memcpy(message + start + NLA_HDRLEN, text, strlen(text) + 1);
    header->nlmsg_len = (uint32_t)(start + NLA_ALIGN(length));
    return 1;
}

int fabric_link_create(const char *name, const char *type, const char *interface) {
    char message[512] __attribute__((aligned(8))) = {0};
    struct nlmsghdr *header = (struct nlmsghdr *)message;
    header->nlmsg_len = NLMSG_HDRLEN;
    header->nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_NEWLINK);
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    header->nlmsg_seq = 1;
    if (!put_text(message, sizeof message, RDMA_NLDEV_ATTR_DEV_NAME, name)
        || !put_text(message, sizeof message, RDMA_NLDEV_ATTR_LINK_TYPE, type)
        || !put_text(message, sizeof message, RDMA_NLDEV_ATTR_NDEV_NAME, interface)) {
        return -ENAMETOOLONG;
    }
    int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);
    if (descriptor < 0) {
        return -errno;
    }
    // The kernel answers within the request, but for a module that it loads first.
    struct timeval patience = {.tv_sec = 10};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int result = 0;
    if (sendto(descriptor, message, header->nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0) {
        result = -errno;
    } else {
        char answer[1024] __attribute__((aligned(8)));
        ssize_t length = recv(descriptor, answer, sizeof answer, 0);
        const struct nlmsghdr *told = (const struct nlmsghdr *)answer;
        if (length < 0) {
            result = -errno;
        } else if ((size_t)length < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || told->nlmsg_type != NLMSG_ERROR) {
            result = -EBADMSG;
        } else {
            result = ((const struct nlmsgerr *)NLMSG_DATA(told))->error;
        }
    }
    close(descriptor);
    return result;
}

#else

#pragma clang diagnostic ignored "-Wunused-parameter"

int fabric_ports_list(struct fabric_port *ports, int capacity) { return -ENOSYS; }
int fabric_port_gids(const char *device, uint32_t port, struct fabric_gid *gids, int capacity) {
    return -ENOSYS;
}
int fabric_link_create(const char *name, const char *type, const char *interface) {
    return -ENOSYS;
}

#endif
