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
    var health = Health()
    /// For taking turns.
    var sequence: UInt32 = 0
    /// Deleted; its place is not used again.
    var isRemoved = false
    /// A router has heard nothing on it for long.
    var isSilent = false
    var lastHeard = Ticks.zero
    /// Whose message came in last: whom a recovery ping goes to.
    var lastPeer: SlotHandle?

    init(nid: NID, credits: Int) {
        self.nid = nid
        self.credits = credits
    }

    var isUsable: Bool { !isRemoved }
    /// What others are told.
    var isUp: Bool { !health.isDown && !isSilent }
}

extension LNetCore {
    func isOwn(_ nid: NID) -> Bool { interfaces.contains { $0.nid == nid && $0.isUsable } }

    /// The place of an interface of ours; -1 where it is none.
    func interfaceIndex(of nid: NID) -> Int {
        interfaces.firstIndex { $0.nid == nid && $0.isUsable } ?? -1
    }

    /// Whether one of our interfaces is on the NID's network, or a route leads there.
    public func isReachable(_ nid: NID) -> Bool {
        nid == .loopback
            || interfaces.contains { $0.isUsable && $0.nid.network == nid.network }
            || hasRoute(to: nid)
    }

    func identity(of nid: NID) -> SockLNDIdentity {
        SockLNDIdentity(
            process: ProcessID(nid: nid), incarnation: configuration.incarnation)
    }
}
