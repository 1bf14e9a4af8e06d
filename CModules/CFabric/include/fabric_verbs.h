/// RDMA verbs and the RDMA connection manager behind opaque handles: libibverbs and librdmacm.
///
/// The rules of CFabric.h hold: 0, a count or a descriptor on success, a negative errno on failure,
/// out-parameters last and written only on success, IPv4 addresses and ports in host byte order.
/// Built without the package trait RDMA every function returns -ENOSYS (those that return nothing
/// do nothing). Handles are the libraries' own pointers: an object is destroyed once, after those
/// that were made from it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

// MARK: Handles

/// An open device: `struct ibv_context`. Owned by librdmacm, valid while an identifier is on it.
typedef struct fabric_device fabric_device;
/// A protection domain: `struct ibv_pd`.
typedef struct fabric_domain fabric_domain;
/// A memory region: `struct ibv_mr`.
typedef struct fabric_region fabric_region;
/// A completion channel: `struct ibv_comp_channel`.
typedef struct fabric_channel fabric_channel;
/// A completion queue: `struct ibv_cq`.
typedef struct fabric_queue fabric_queue;
/// A shared receive queue: `struct ibv_srq`.
typedef struct fabric_receives fabric_receives;
/// A channel of connection events: `struct rdma_event_channel`.
typedef struct fabric_cm fabric_cm;
/// A listener or a connection with its queue pair: `struct rdma_cm_id`.
typedef struct fabric_identifier fabric_identifier;

// MARK: Shared layouts

/// A completion: what is needed of `struct ibv_wc`. `opcode` and `byte_count` mean something only
/// where `status` is 0.
struct fabric_wc {
    uint64_t id;
    uint32_t pair_number;
    uint32_t byte_count;
    uint32_t vendor_error;
    uint8_t status;
    uint8_t opcode;
    uint16_t reserved;
};
_Static_assert(sizeof(struct fabric_wc) == 24, "fabric_wc is 24 bytes");

/// Values of `fabric_wc.status` (IBV_WC_*), asserted in fabric_verbs.c.
#define FABRIC_WC_SUCCESS 0
#define FABRIC_WC_LOCAL_LENGTH 1
#define FABRIC_WC_LOCAL_PROTECTION 4
#define FABRIC_WC_FLUSHED 5
#define FABRIC_WC_REMOTE_INVALID_REQUEST 9
#define FABRIC_WC_REMOTE_ACCESS 10
#define FABRIC_WC_REMOTE_OPERATION 11
#define FABRIC_WC_RETRY_EXCEEDED 12
#define FABRIC_WC_RNR_RETRY_EXCEEDED 13

/// Values of `fabric_wc.opcode` (IBV_WC_*).
#define FABRIC_WC_SENT 0
#define FABRIC_WC_WRITTEN 1
#define FABRIC_WC_RECEIVED 128

/// One work request of a send queue: a SEND, or an RDMA WRITE where FABRIC_SEND_WRITE is set.
struct fabric_send {
    uint64_t id;
    uint64_t local;
    uint32_t byte_count;
    uint32_t local_key;
    uint64_t remote;
    uint32_t remote_key;
    uint32_t flags;
};
_Static_assert(sizeof(struct fabric_send) == 40, "fabric_send is 40 bytes");

/// Bits of `fabric_send.flags`.
#define FABRIC_SEND_SIGNALED 1
#define FABRIC_SEND_INLINE 2
#define FABRIC_SEND_WRITE 4

/// What a device grants.
struct fabric_device_limits {
    uint32_t pair_work_max;
    uint32_t queue_entries_max;
    uint32_t receives_max;
    uint32_t ports;
};
_Static_assert(sizeof(struct fabric_device_limits) == 16, "fabric_device_limits is 16 bytes");

/// What happened to a device by itself: `struct ibv_async_event`.
struct fabric_device_event {
    /// IBV_EVENT_*: below.
    uint32_t kind;
    /// The port, of port events; the queue pair's number, of its events; else 0.
    uint32_t subject;
};
_Static_assert(sizeof(struct fabric_device_event) == 8, "fabric_device_event is 8 bytes");

/// Values of `fabric_device_event.kind` that somebody decides by.
#define FABRIC_DEVICE_PAIR_FATAL 1
#define FABRIC_DEVICE_PAIR_REQUEST_ERROR 2
#define FABRIC_DEVICE_PAIR_ACCESS_ERROR 3
#define FABRIC_DEVICE_FATAL 8
#define FABRIC_DEVICE_PORT_ACTIVE 9
#define FABRIC_DEVICE_PORT_ERROR 10

/// What the connection manager tells: RDMA_CM_EVENT_*, same values.
#define FABRIC_CM_ADDRESS_RESOLVED 0
#define FABRIC_CM_ADDRESS_ERROR 1
#define FABRIC_CM_ROUTE_RESOLVED 2
#define FABRIC_CM_ROUTE_ERROR 3
#define FABRIC_CM_CONNECT_REQUEST 4
#define FABRIC_CM_CONNECT_RESPONSE 5
#define FABRIC_CM_CONNECT_ERROR 6
#define FABRIC_CM_UNREACHABLE 7
#define FABRIC_CM_REJECTED 8
#define FABRIC_CM_ESTABLISHED 9
#define FABRIC_CM_DISCONNECTED 10
#define FABRIC_CM_DEVICE_REMOVAL 11
#define FABRIC_CM_TIMEWAIT_EXIT 15

#define FABRIC_CM_PRIVATE_MAX 196

/// An event of the connection manager, copied and acknowledged.
struct fabric_cm_event {
    /// Whom it is about; of a request, the new identifier, which the caller owns from now on.
    fabric_identifier *_Nullable identifier;
    /// The context of `identifier`; of a request, that of the listener.
    uint64_t context;
    uint32_t kind;
    /// 0, a negative errno, or the reason of a reject (28: by the peer's own choice).
    int32_t status;
    uint32_t peer_address;
    uint16_t peer_port;
    uint16_t private_count;
    uint8_t private_data[FABRIC_CM_PRIVATE_MAX];
    uint32_t reserved;
};
_Static_assert(sizeof(struct fabric_cm_event) == 232, "fabric_cm_event is 232 bytes");

// MARK: Devices (fabric_verbs.c)

/// 1 where this build has RDMA, 0 where every function below fails with -ENOSYS.
int fabric_verbs_available(void);

/// The device that an identifier was bound or resolved to; -ENODEV while it has none.
int fabric_identifier_device(fabric_identifier *identifier, fabric_device *_Nullable *_Nonnull device);
/// Writes the device's name, always terminated.
int fabric_device_name(fabric_device *device, char *name, size_t capacity);
int fabric_device_limits(fabric_device *device, struct fabric_device_limits *limits);
/// The descriptor that is readable when `fabric_device_next_event` has something; made
/// non-blocking.
int fabric_device_descriptor(fabric_device *device);
/// Takes an asynchronous event and acknowledges it. Returns 1, or 0 where there is none.
int fabric_device_next_event(fabric_device *device, struct fabric_device_event *event);

/// Says that the caller is about to make objects on the device; -ENOSPC with more than 64 devices.
/// From any thread, as the two below.
int fabric_device_begin_use(fabric_device *device);
/// All objects of one `fabric_device_begin_use` are destroyed.
void fabric_device_end_use(fabric_device *device);
/// The connection manager has told that the device goes away: its descriptors are closed with the
/// end of the last use in this process, which the kernel waits for, and the device is not used
/// again. An identifier must still be on it.
void fabric_device_gone(fabric_device *device);

int fabric_domain_create(fabric_device *device, fabric_domain *_Nullable *_Nonnull domain);
int fabric_domain_destroy(fabric_domain *domain);

/// Registers memory for the device to read and write; with `remote_write` for peers to write as
/// well. Pins it: -ENOMEM where RLIMIT_MEMLOCK is too small.
int fabric_region_register(
    fabric_domain *domain, void *address, size_t byte_count, int remote_write,
    fabric_region *_Nullable *_Nonnull region, uint32_t *local_key, uint32_t *remote_key);
int fabric_region_deregister(fabric_region *region);

int fabric_channel_create(fabric_device *device, fabric_channel *_Nullable *_Nonnull channel);
/// Its descriptor, made non-blocking.
int fabric_channel_descriptor(fabric_channel *channel);
/// Takes one signal and acknowledges it. Returns 1, or 0 where there is none.
int fabric_channel_take(fabric_channel *channel);
int fabric_channel_destroy(fabric_channel *channel);

int fabric_queue_create(
    fabric_device *device, int entries, fabric_channel *channel,
    fabric_queue *_Nullable *_Nonnull queue);
/// Takes up to `capacity` completions. Returns how many.
int fabric_queue_poll(fabric_queue *queue, struct fabric_wc *completions, int capacity);
/// Asks for a signal on the channel with the next completion.
int fabric_queue_arm(fabric_queue *queue);
int fabric_queue_destroy(fabric_queue *queue);

int fabric_receives_create(
    fabric_domain *domain, uint32_t entries, fabric_receives *_Nullable *_Nonnull receives);
/// Posts `count` buffers (at most 64) of `byte_count` bytes each; the i-th has `ids[i]`.
int fabric_receives_post(
    fabric_receives *receives, const uint64_t *ids, const uint64_t *addresses, int count,
    uint32_t byte_count, uint32_t local_key);
int fabric_receives_destroy(fabric_receives *receives);

// MARK: Queue pairs (fabric_verbs.c)

/// Makes the RC queue pair of a bound identifier; both queues complete into `queue`.
///
/// `inline_max` is what is wanted, and what was granted afterwards.
int fabric_pair_create(
    fabric_identifier *identifier, fabric_domain *domain, fabric_queue *queue,
    fabric_receives *receives, uint32_t send_entries, uint32_t *inline_max, uint32_t *number);
/// Posts `count` requests (at most 16) in order, with one doorbell. Returns how many were taken,
/// or why not even the first was.
int fabric_pair_post(fabric_identifier *identifier, const struct fabric_send *sends, int count);
/// Moves the queue pair to the error state: everything under way is flushed.
int fabric_pair_fail(fabric_identifier *identifier);
/// Destroys the queue pair. From then on no memory of it is touched by the device.
int fabric_pair_destroy(fabric_identifier *identifier);

// MARK: Connections (fabric_verbs_cm.c)

int fabric_cm_create(fabric_cm *_Nullable *_Nonnull cm);
/// Its descriptor, made non-blocking.
int fabric_cm_descriptor(fabric_cm *cm);
/// Takes an event, copies it and acknowledges it. Returns 1, or 0 where there is none.
int fabric_cm_next_event(fabric_cm *cm, struct fabric_cm_event *event);
/// Every identifier on it must be destroyed before.
int fabric_cm_destroy(fabric_cm *cm);

/// A new identifier for a reliable connection (RDMA_PS_TCP).
int fabric_identifier_create(
    fabric_cm *cm, uint64_t context, fabric_identifier *_Nullable *_Nonnull identifier);
void fabric_identifier_set_context(fabric_identifier *identifier, uint64_t context);
/// Binds to `address` and `port`; port 0 lets the library choose.
int fabric_identifier_bind(fabric_identifier *identifier, uint32_t address, uint16_t port);
int fabric_identifier_listen(fabric_identifier *identifier, int backlog);
/// The port that an identifier is bound to.
int fabric_identifier_port(fabric_identifier *identifier);
/// Finds the device and neighbour that lead to `to`; `from` 0 leaves the source to the routing
/// table. Told by FABRIC_CM_ADDRESS_RESOLVED.
int fabric_identifier_resolve_address(
    fabric_identifier *identifier, uint32_t from, uint32_t to, uint16_t port, int timeout_ms);
/// Told by FABRIC_CM_ROUTE_RESOLVED.
int fabric_identifier_resolve_route(fabric_identifier *identifier, int timeout_ms);
/// Asks the peer to connect, with up to 56 bytes of private data.
int fabric_identifier_connect(
    fabric_identifier *identifier, const void *private_data, uint8_t private_count,
    uint8_t retry_count, uint8_t rnr_retry_count);
/// Accepts a request, with up to 196 bytes of private data.
int fabric_identifier_accept(
    fabric_identifier *identifier, const void *private_data, uint8_t private_count,
    uint8_t rnr_retry_count);
/// Rejects a request, with up to 148 bytes of private data.
int fabric_identifier_reject(
    fabric_identifier *identifier, const void *private_data, uint8_t private_count);
int fabric_identifier_disconnect(fabric_identifier *identifier);
/// Its queue pair must be destroyed before.
int fabric_identifier_destroy(fabric_identifier *identifier);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif
