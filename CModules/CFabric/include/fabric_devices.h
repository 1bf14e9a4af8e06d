/// What RDMA a machine has, and making more of it: devices, ports, GIDs, soft links.
///
/// The rules of CFabric.h hold. Built without the package trait RDMA every function returns
/// -ENOSYS.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// One port of one device: what is needed of `struct ibv_device_attr` and `struct ibv_port_attr`.
struct fabric_port {
    char device[64];
    /// 0, or why the device could not be opened or asked: a negative errno. Then only `device`,
    /// `transport` and `vendor` 0 mean something.
    int32_t error;
    /// The vendor's IEEE number.
    uint32_t vendor;
    /// Bytes.
    uint32_t mtu_active;
    uint32_t mtu_max;
    uint32_t message_bytes_max;
    uint32_t pairs_max;
    uint32_t regions_max;
    uint32_t receives_max;
    uint8_t number;
    /// IBV_TRANSPORT_*: below.
    uint8_t transport;
    /// IBV_LINK_LAYER_*: below.
    uint8_t link_layer;
    /// IBV_PORT_*: below.
    uint8_t state;
    uint32_t reserved;
};
_Static_assert(sizeof(struct fabric_port) == 104, "fabric_port is 104 bytes");

/// Asserted in fabric_devices.c.
#define FABRIC_TRANSPORT_INFINIBAND 0
#define FABRIC_TRANSPORT_IWARP 1
#define FABRIC_LINK_INFINIBAND 1
#define FABRIC_LINK_ETHERNET 2
#define FABRIC_PORT_DOWN 1
#define FABRIC_PORT_INIT 2
#define FABRIC_PORT_ARMED 3
#define FABRIC_PORT_ACTIVE 4

/// An entry of a port's GID table: `struct ibv_gid_entry`.
struct fabric_gid {
    uint8_t raw[16];
    uint32_t index;
    /// IBV_GID_TYPE_*: below.
    uint32_t type;
    /// The index of the network interface behind it; 0 for none.
    uint32_t interface;
    uint32_t reserved;
};
_Static_assert(sizeof(struct fabric_gid) == 32, "fabric_gid is 32 bytes");

#define FABRIC_GID_INFINIBAND 0
#define FABRIC_GID_ROCE_V1 1
#define FABRIC_GID_ROCE_V2 2

/// Fills in the ports of all devices, at most `capacity`. Returns how many; -ENOSYS where the
/// kernel has no verbs.
int fabric_ports_list(struct fabric_port *ports, int capacity);

/// Fills in the valid GIDs of a port, at most `capacity`. Returns how many.
int fabric_port_gids(const char *device, uint32_t port, struct fabric_gid *gids, int capacity);

/// Makes the soft device `name` of `type` ("rxe", "siw") on a network interface, by netlink, as
/// `rdma link add` does; the kernel loads the module where it may.
///
/// -EPROTONOSUPPORT: no ib_core. -EPERM: no CAP_NET_ADMIN. -EINVAL: no such type. -EEXIST: the
/// name, or one on that interface, is there.
int fabric_link_create(const char *name, const char *type, const char *interface);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif
