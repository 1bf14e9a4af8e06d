/// Sockets, readiness, wake-ups, threads and clocks: flat, and free of policy.
///
/// Every function returns 0, a count or a descriptor on success and a negative errno on failure,
/// unless its comment says otherwise. Out-parameters come last and are written only on success.
/// IPv4 addresses and ports are in host byte order. Nothing here retries, logs, allocates per call
/// or keeps state.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fabric_devices.h"
#include "fabric_verbs.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

// MARK: Shared layouts

/// An address and a TCP port, in host byte order. One of IPv4 stands in `address`, and mapped
/// (::ffff:a.b.c.d) in `high` and `low`; of one of IPv6 `address` is 0.
struct fabric_endpoint {
    uint64_t high;
    uint64_t low;
    uint32_t address;
    uint16_t port;
    uint16_t reserved;
};
_Static_assert(sizeof(struct fabric_endpoint) == 24, "fabric_endpoint is 24 bytes");

/// A run of bytes to send; laid out as `struct iovec`.
struct fabric_slice {
    const void *_Nullable base;
    size_t length;
};
_Static_assert(sizeof(struct fabric_slice) == 2 * sizeof(void *), "fabric_slice is an iovec");

/// One ready descriptor. `struct epoll_event` is packed on x86-64 only; this one is the same
/// everywhere.
struct fabric_event {
    uint64_t token;
    uint32_t readiness;
    uint32_t reserved;
};
_Static_assert(sizeof(struct fabric_event) == 16, "fabric_event is 16 bytes");

/// Bits of interest and readiness: the values of EPOLLIN and its siblings, asserted in poller.c.
#define FABRIC_READABLE UINT32_C(0x001)
#define FABRIC_WRITABLE UINT32_C(0x004)
#define FABRIC_ERROR UINT32_C(0x008)
#define FABRIC_HANGUP UINT32_C(0x010)
#define FABRIC_PEER_CLOSED UINT32_C(0x2000)
#define FABRIC_EDGE UINT32_C(0x80000000)

// MARK: TCP sockets (socket.c)

/// A new non-blocking, close-on-exec IPv4 TCP socket. Returns its descriptor.
int fabric_socket_create(void);

/// A new non-blocking, close-on-exec TCP socket for IPv6 only. Returns its descriptor.
int fabric_socket_create_v6(void);

/// As their namesakes for IPv4. The address is its two halves, each in host byte order.
int fabric_socket_bind_v6(int socket, uint64_t high, uint64_t low, uint16_t port);
int fabric_socket_bind_privileged_v6(int socket, uint64_t high, uint64_t low, uint16_t first_port);
int fabric_socket_connect_v6(int socket, uint64_t high, uint64_t low, uint16_t port);

/// Binds to `address` and `port`; port 0 lets the kernel choose.
int fabric_socket_bind(int socket, uint32_t address, uint16_t port);

/// Binds to the first free privileged port of `address`, from `first_port` down to 512.
///
/// Ports refused with EADDRINUSE or EADDRNOTAVAIL are passed over. Returns the port, -EADDRINUSE
/// when none is left, or the errno that ended the walk (-EACCES without CAP_NET_BIND_SERVICE).
int fabric_socket_bind_privileged(int socket, uint32_t address, uint16_t first_port);

/// Starts to connect. Returns 0 when connected at once, -EINPROGRESS while under way.
int fabric_socket_connect(int socket, uint32_t address, uint16_t port);

/// Takes the pending error of a socket (SO_ERROR). Returns 0 when there is none, else -errno.
int fabric_socket_take_error(int socket);

int fabric_socket_listen(int socket, int backlog);

/// Accepts one connection, non-blocking and close-on-exec. Returns its descriptor.
int fabric_socket_accept(int socket, struct fabric_endpoint *peer);

/// Receives up to `capacity` bytes. Returns the count; 0 is the end of the stream.
ptrdiff_t fabric_socket_receive(int socket, void *buffer, size_t capacity);

/// Sends without raising SIGPIPE. Returns how many bytes the kernel took.
ptrdiff_t fabric_socket_send(int socket, const void *_Nullable bytes, size_t length);

/// Sends `count` slices in order in one call, without raising SIGPIPE. Returns how many bytes were
/// taken.
ptrdiff_t fabric_socket_send_slices(int socket, const struct fabric_slice *slices, size_t count);

/// SO_REUSEADDR: lets a server bind while connections of its predecessor linger.
int fabric_socket_set_reuse_address(int socket, int enabled);

/// IP_BIND_ADDRESS_NO_PORT: binding to an address leaves the port to connect, which may then share
/// it between connections to different peers.
int fabric_socket_set_bind_without_port(int socket, int enabled);

/// TCP_NODELAY. An accepted socket inherits it from its listener.
int fabric_socket_set_no_delay(int socket, int enabled);

/// SO_KEEPALIVE with its three parameters. An accepted socket inherits them from its listener.
int fabric_socket_set_keepalive(int socket, int idle_s, int interval_s, int probe_count);

/// SO_SNDBUF in bytes; the kernel doubles it for its own bookkeeping.
int fabric_socket_set_send_buffer(int socket, int bytes);

/// SO_RCVBUF in bytes; the kernel doubles it for its own bookkeeping.
int fabric_socket_set_receive_buffer(int socket, int bytes);

/// SO_LINGER of zero: closing sends RST and throws away what is unsent.
int fabric_socket_set_reset_on_close(int socket);

int fabric_socket_local_endpoint(int socket, struct fabric_endpoint *endpoint);
int fabric_socket_peer_endpoint(int socket, struct fabric_endpoint *endpoint);

/// Ends sending; the peer reads the end of the stream.
int fabric_socket_shutdown_send(int socket);

/// Closes any descriptor. It is gone even when an error is returned.
int fabric_descriptor_close(int descriptor);

// MARK: Sockets between processes of one machine (local_socket.c)

/// A listening, blocking, close-on-exec Unix stream socket at `path`, whose file only its owner may
/// use. Returns its descriptor; -EADDRINUSE where the file is there already.
int fabric_local_listen(const char *path, int backlog);

/// A blocking connection to the socket at `path`. Returns its descriptor.
int fabric_local_connect(const char *path);

/// Waits for a connection. Returns its descriptor.
int fabric_local_accept(int socket);

/// SO_RCVTIMEO and SO_SNDTIMEO: a call that waits longer returns -EAGAIN.
int fabric_local_set_timeout(int socket, int timeout_ms);

/// Ends both directions; whoever waits in `fabric_local_accept` returns with an error.
int fabric_local_shutdown(int socket);

/// Removes the socket's file; -EEXIST where `path` is something else.
int fabric_local_remove(const char *path);

// MARK: Readiness and wake-up (poller.c)

/// A new epoll set, close-on-exec. Returns its descriptor.
int fabric_poller_create(void);
int fabric_poller_add(int poller, int descriptor, uint32_t interest, uint64_t token);
int fabric_poller_modify(int poller, int descriptor, uint32_t interest, uint64_t token);
int fabric_poller_remove(int poller, int descriptor);

/// Waits until a descriptor is ready or `timeout_ns` have passed; negative waits without end.
///
/// Fills at most `capacity` events (and at most 256) and returns how many. Needs epoll_pwait2
/// (Linux 5.11) to wait for less than a millisecond; without it waits are rounded up to whole
/// milliseconds.
int fabric_poller_wait(int poller, int64_t timeout_ns, struct fabric_event *events, int capacity);

/// A new non-blocking, close-on-exec eventfd. Returns its descriptor.
int fabric_wakeup_create(void);
int fabric_wakeup_signal(int wakeup);

// MARK: Threads (thread.c)

/// Runs on the new thread; must not belong to an actor.
typedef void (*fabric_thread_body)(void *_Nullable context);

/// Starts a thread named by the first 15 bytes of `name`. It must be joined once.
int fabric_thread_create(
    const char *name, fabric_thread_body body, void *_Nullable context, uint64_t *thread);
int fabric_thread_join(uint64_t thread);

/// Pins the calling thread to one processor.
int fabric_thread_pin(int cpu);

/// How many processors the calling thread may run on.
int fabric_thread_cpu_count(void);

// MARK: Clocks and limits (host.c)

/// CLOCK_MONOTONIC in nanoseconds. Cannot fail.
uint64_t fabric_clock_monotonic_ns(void);
/// CLOCK_REALTIME in nanoseconds since 1970. Cannot fail.
uint64_t fabric_clock_realtime_ns(void);

/// Raises the limit on open descriptors (RLIMIT_NOFILE) to its hard limit and returns it through
/// `limit`.
int fabric_process_raise_descriptor_limit(uint64_t *limit);

/// Writes the text for a positive errno, always terminated.
void fabric_error_text(int error, char *buffer, size_t capacity);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif
