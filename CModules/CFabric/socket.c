#define _GNU_SOURCE
#include "CFabric.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(struct fabric_slice) == sizeof(struct iovec), "slice is an iovec");
_Static_assert(offsetof(struct fabric_slice, base) == offsetof(struct iovec, iov_base), "base");
_Static_assert(offsetof(struct fabric_slice, length) == offsetof(struct iovec, iov_len), "length");

// Lustre's acceptor takes source ports below 1024, and its client never goes below 512.
#define LOWEST_PRIVILEGED_PORT 512

static int result(int value) { return value < 0 ? -errno : value; }

static struct sockaddr_in sockaddr_of(uint32_t address, uint16_t port) {
    struct sockaddr_in name;
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(address);
    name.sin_port = htons(port);
    return name;
}

static struct sockaddr_in6 sockaddr_of_v6(uint64_t high, uint64_t low, uint16_t port) {
    struct sockaddr_in6 name;
    memset(&name, 0, sizeof name);
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(port);
    for (int i = 0; i < 8; i++) {
        name.sin6_addr.s6_addr[i] = (uint8_t)(high >> (56 - 8 * i));
        name.sin6_addr.s6_addr[8 + i] = (uint8_t)(low >> (56 - 8 * i));
    }
    return name;
}

static struct fabric_endpoint endpoint_of(const struct sockaddr_storage *name) {
    struct fabric_endpoint endpoint = {.high = 0, .low = 0, .address = 0, .port = 0, .reserved = 0};
    if (name->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)name;
        for (int i = 0; i < 8; i++) {
            endpoint.high = endpoint.high << 8 | six->sin6_addr.s6_addr[i];
            endpoint.low = endpoint.low << 8 | six->sin6_addr.s6_addr[8 + i];
        }
        endpoint.port = ntohs(six->sin6_port);
    } else {
        const struct sockaddr_in *four = (const struct sockaddr_in *)name;
        endpoint.address = ntohl(four->sin_addr.s_addr);
        endpoint.low = UINT64_C(0xffff00000000) | endpoint.address;
        endpoint.port = ntohs(four->sin_port);
    }
    return endpoint;
}

static int set_option(int socket, int level, int option, int value) {
    return result(setsockopt(socket, level, option, &value, sizeof value));
}

int fabric_socket_create(void) {
    return result(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}

int fabric_socket_create_v6(void) {
    int descriptor = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (descriptor < 0) return -errno;
    int status = set_option(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (status == 0) return descriptor;
    close(descriptor);
    return status;
}

int fabric_socket_bind(int socket, uint32_t address, uint16_t port) {
    struct sockaddr_in name = sockaddr_of(address, port);
    return result(bind(socket, (const struct sockaddr *)&name, sizeof name));
}

int fabric_socket_bind_privileged(int socket, uint32_t address, uint16_t first_port) {
    for (int port = first_port; port >= LOWEST_PRIVILEGED_PORT; port--) {
        int status = fabric_socket_bind(socket, address, (uint16_t)port);
        if (status == 0) return port;
        if (status != -EADDRINUSE && status != -EADDRNOTAVAIL) return status;
    }
    return -EADDRINUSE;
}

int fabric_socket_bind_v6(int socket, uint64_t high, uint64_t low, uint16_t port) {
    struct sockaddr_in6 name = sockaddr_of_v6(high, low, port);
    return result(bind(socket, (const struct sockaddr *)&name, sizeof name));
}

int fabric_socket_bind_privileged_v6(int socket, uint64_t high, uint64_t low, uint16_t first_port) {
    for (int port = first_port; port >= LOWEST_PRIVILEGED_PORT; port--) {
        int status = fabric_socket_bind_v6(socket, high, low, (uint16_t)port);
        if (status == 0) return port;
        if (status != -EADDRINUSE && status != -EADDRNOTAVAIL) return status;
    }
    return -EADDRINUSE;
}

int fabric_socket_connect_v6(int socket, uint64_t high, uint64_t low, uint16_t port) {
    struct sockaddr_in6 name = sockaddr_of_v6(high, low, port);
    return result(connect(socket, (const struct sockaddr *)&name, sizeof name));
}

int fabric_socket_connect(int socket, uint32_t address, uint16_t port) {
    struct sockaddr_in name = sockaddr_of(address, port);
    return result(connect(socket, (const struct sockaddr *)&name, sizeof name));
}

int fabric_socket_take_error(int socket) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) < 0) return -errno;
    return -error;
}

int fabric_socket_listen(int socket, int backlog) { return result(listen(socket, backlog)); }

int fabric_socket_accept(int socket, struct fabric_endpoint *peer) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    int accepted =
        accept4(socket, (struct sockaddr *)&name, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted < 0) return -errno;
    *peer = endpoint_of(&name);
    return accepted;
}

ptrdiff_t fabric_socket_receive(int socket, void *buffer, size_t capacity) {
    ssize_t count = recv(socket, buffer, capacity, 0);
    return count < 0 ? -errno : count;
}

ptrdiff_t fabric_socket_send(int socket, const void *bytes, size_t length) {
    ssize_t count = send(socket, bytes, length, MSG_NOSIGNAL);
    return count < 0 ? -errno : count;
}

ptrdiff_t fabric_socket_send_slices(int socket, const struct fabric_slice *slices, size_t count) {
    struct msghdr message;
    memset(&message, 0, sizeof message);
    // sendmsg only reads what its iovecs point to; the cast drops const for its signature alone.
    message.msg_iov = (struct iovec *)(uintptr_t)slices;
    message.msg_iovlen = count;
    ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

int fabric_socket_set_reuse_address(int socket, int enabled) {
    return set_option(socket, SOL_SOCKET, SO_REUSEADDR, enabled);
}

int fabric_socket_set_bind_without_port(int socket, int enabled) {
    return set_option(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, enabled);
}

int fabric_socket_set_no_delay(int socket, int enabled) {
    return set_option(socket, IPPROTO_TCP, TCP_NODELAY, enabled);
}

int fabric_socket_set_keepalive(int socket, int idle_s, int interval_s, int probe_count) {
    int status = set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (status == 0) status = set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
    if (status == 0) status = set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
    if (status == 0) status = set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, probe_count);
    return status;
}

int fabric_socket_set_send_buffer(int socket, int bytes) {
    return set_option(socket, SOL_SOCKET, SO_SNDBUF, bytes);
}

int fabric_socket_set_receive_buffer(int socket, int bytes) {
    return set_option(socket, SOL_SOCKET, SO_RCVBUF, bytes);
}

int fabric_socket_set_reset_on_close(int socket) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    return result(setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
}

int fabric_socket_local_endpoint(int socket, struct fabric_endpoint *endpoint) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    if (getsockname(socket, (struct sockaddr *)&name, &length) < 0) return -errno;
    *endpoint = endpoint_of(&name);
    return 0;
}

int fabric_socket_peer_endpoint(int socket, struct fabric_endpoint *endpoint) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    if (getpeername(socket, (struct sockaddr *)&name, &length) < 0) return -errno;
    *endpoint = endpoint_of(&name);
    return 0;
}

int fabric_socket_shutdown_send(int socket) { return result(shutdown(socket, SHUT_WR)); }

int fabric_descriptor_close(int descriptor) { return result(close(descriptor)); }
