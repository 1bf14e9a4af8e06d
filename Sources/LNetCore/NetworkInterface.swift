import LNDCore
import Primitives
public import WireFormat

/// One of the node's own interfaces: its NID and what may be under way on it.
struct NetworkInterface: Sendable {
    let nid: NID
    var credits: Int
    /// Peers with messages that wait for these credits, in order.
    var waiters = Outbox<SlotHandle>()
    var traffic = LNetTraffic()
}

extension LNetCore {
    func isOwn(_ nid: NID) -> Bool { interfaces.contains { $0.nid == nid } }

    /// Whether one of our interfaces is on the NID's network.
    public func isReachable(_ nid: NID) -> Bool {
        nid == .loopback || interfaces.contains { $0.nid.network == nid.network }
    }

    func identity(of nid: NID) -> SockLNDIdentity {
        SockLNDIdentity(
            process: ProcessID(nid: nid), incarnation: configuration.incarnation)
    }

    /// Who we are towards a peer: the interface on its network.
    mutating func source(to peer: SlotHandle) -> ProcessID {
        let interface = peers.update(peer) { $0.interface } ?? -1
        return ProcessID(nid: interface >= 0 ? interfaces[interface].nid : nid)
    }
}
