public import Primitives
public import WireFormat

/// Interfaces that come and go, and settings of the whole node.
extension LNetCore {
    /// Adds an interface (`net add`): the shell is told to listen. Returns an errno, 0 for done.
    public mutating func addInterface(_ nid: NID, now: Ticks) -> Int32 {
        advance(now)
        guard nid.type == .tcp || nid.type == .o2ib else { return LNetErrno.invalid }
        guard !isOwn(nid) else { return LNetErrno.exists }
        guard interfaces.count < Self.interfacesMax else { return LNetErrno.noBufferSpace }
        interfaces.append(NetworkInterface(nid: nid, credits: configuration.credits))
        interfaces[interfaces.count - 1].lastHeard = now
        actions.append(.listen(interface: interfaces.count - 1, nid: nid))
        interfacesChanged()
        return 0
    }

    /// Deletes an interface (`net del`): its connections end, others go on. Returns an errno.
    public mutating func deleteInterface(_ nid: NID, now: Ticks) -> Int32 {
        advance(now)
        guard let index = interfaces.firstIndex(where: { $0.isUsable && $0.nid == nid }) else {
            return LNetErrno.noEntry
        }
        // The node is named by its first.
        guard index != 0 else { return LNetErrno.busy }
        interfaces[index].isRemoved = true
        actions.append(.unlisten(interface: index))
        for handle in peers.handles where peers[handle]?.interface == index {
            loseConnections(handle, LNetErrno.stale, except: nil)
            removeIfIdle(handle)
        }
        interfacesChanged()
        return 0
    }

    /// The shell could not listen on an interface that was added.
    public mutating func listenFailed(_ interface: Int, now: Ticks) {
        advance(now)
        guard interfaces.indices.contains(interface), interface > 0 else { return }
        interfaces[interface].isRemoved = true
        interfacesChanged()
    }

    /// Interfaces that a node may ever have: their numbers are not used again.
    static let interfacesMax = 128

    private mutating func interfacesChanged() {
        for node in nodes.handles { refresh(node) }
        for handle in peers.handles {
            guard let peer = peers[handle], peer.interface < 0, !peer.isSelf else { continue }
            peers.update(handle) { $0.selects = true }
        }
        announce()
    }

    /// Changes what may change while a node runs.
    public mutating func configure(_ change: (inout LNetConfiguration) -> Void, now: Ticks) {
        advance(now)
        var changed = configuration
        change(&changed)
        let old = configuration
        configuration.retryCount = changed.retryCount
        configuration.responseTimeout = changed.responseTimeout
        configuration.lndTimeout = changed.lndTimeout
        configuration.healthSensitivity = changed.healthSensitivity
        configuration.recoveryPingIntervalMax = changed.recoveryPingIntervalMax
        configuration.discovery = changed.discovery
        configuration.dropAsymmetricRoutes = changed.dropAsymmetricRoutes
        configuration.avoidAsymmetricRouterFailure = changed.avoidAsymmetricRouterFailure
        configuration.checkRoutersBeforeUse = changed.checkRoutersBeforeUse
        configuration.aliveRouterCheckInterval = changed.aliveRouterCheckInterval
        configuration.routerPingTimeout = changed.routerPingTimeout
        if old.discovery != changed.discovery { announce() }
    }
}
