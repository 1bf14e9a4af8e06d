public import EventLoop
public import Store
public import WireFormat

/// Why a node cannot run: one sentence that names the thing and the way out.
public enum RuntimeError: Error, Sendable {
    /// Another process, or another node of this one, listens there.
    case addressInUse(NID, port: UInt16)
    /// No interface of this machine has the NID's address.
    case notOurAddress(NID)
    /// No RDMA device has the NID's address.
    case noDevice(NID)
    /// Ports below 1024 are for privileged users.
    case privilegedPort(NID, port: UInt16)
    /// The interfaces of a node here are reached over TCP or RDMA.
    case notServable(NID)
    /// File servers and their clients write NIDs of 4 bytes.
    case needsIPv4(NID)
    case store(StoreError)
    /// The server does not start on what it found in its store.
    case startRefused(String)
    /// No target of that name is in the cluster.
    case unknownTarget(String)
    /// The file for a packet capture cannot be made.
    case capture(String, reason: String)
    case system(FabricError)

    /// What a failed `listen` means.
    init(listening error: FabricError, nid: NID, port: UInt16) {
        switch error.errno {
        case 98: self = .addressInUse(nid, port: port)
        case 99: self = .notOurAddress(nid)
        case 19 where nid.type == .o2ib: self = .noDevice(nid)
        case 13, 1: self = .privilegedPort(nid, port: port)
        default: self = .system(error)
        }
    }
}

extension RuntimeError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .addressInUse(let nid, let port):
            "\(nid) port \(port) is in use: stop the node that listens there, or give this one "
                + "another NID or accept port"
        case .notOurAddress(let nid):
            "\(nid) is no address of this machine: add it to an interface, or name one that is"
        case .noDevice(let nid):
            "no RDMA device has the address of \(nid): see sluice fabric, or name a NID on tcp"
        case .privilegedPort(let nid, let port):
            "listening on \(nid) port \(port) is not permitted: choose an accept port above 1023, "
                + "or run with CAP_NET_BIND_SERVICE"
        case .notServable(let nid):
            "\(nid) is on no TCP or RDMA network: name a NID such as 127.0.1.7@tcp or "
                + "192.0.2.7@o2ib"
        case .needsIPv4(let nid):
            "\(nid): file servers and their clients are on IPv4 so far; name a NID such as "
                + "127.0.1.7@tcp (sluice net takes IPv6)"
        case .store(let error): error.description
        case .startRefused(let reason): reason
        case .unknownTarget(let name): "the cluster has no target \(name): name one of its targets"
        case .capture(let path, let reason):
            "\(path) cannot be written: \(reason); name another file for the capture"
        case .system(let error): error.description
        }
    }
}

extension NID {
    /// A node here may have it.
    var isServable: Bool { type == .tcp || type == .o2ib }
}
