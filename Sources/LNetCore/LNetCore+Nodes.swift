public import Primitives
public import WireFormat

/// Remote nodes with all their NIDs.
extension LNetCore {
    /// The node that has this NID, where one is known.
    func node(of nid: NID) -> SlotHandle? { nodeIndex.isEmpty ? nil : nodeIndex[nid] }

    /// The NID that names whoever has this one.
    public func primary(of nid: NID) -> NID {
        node(of: nid).flatMap { nodes[$0]?.primary } ?? nid
    }

    /// The node that has this NID; one with just that is made where none is known.
    mutating func nodeSlot(_ nid: NID) -> SlotHandle {
        if let found = node(of: nid) { return found }
        let node = nodes.insert(PeerNode(primary: nid))
        nodeIndex[nid] = node
        refresh(node)
        return node
    }

    /// How many NIDs of one node are kept: `lnet_interfaces_max` as it was for long.
    static let peerInterfacesMax = 200

    /// A node says which NIDs it has. Those that it no longer names go.
    mutating func merge(_ info: PingInfo, _ node: SlotHandle, from nid: NID) {
        guard var known = nodes[node] else { return }
        known.features = info.features
        known.sequence = info.sequence
        known.state.remove([.multiRail, .noDiscovery, .routerEnabled, .rediscover])
        if !info.features.contains(.discovery) { known.state.insert(.noDiscovery) }
        if !info.features.contains(.routingDisabled) { known.state.insert(.routerEnabled) }
        known.state.insert([.discovered, .nidsUpToDate])
        known.state.remove(.pingFailed)
        let isMultiRail = info.features.contains(.multiRail)
        if isMultiRail { known.state.insert(.multiRail) }
        var told = isMultiRail ? info.interfaces.prefix(Self.peerInterfacesMax) : []
        if !told.contains(where: { $0.nid == nid }) {
            // A peer that is not Multi-Rail is one NID for each way to it.
            let status = info.interfaces.first { $0.nid == nid }?.status ?? PingInfo.Interface.up
            told.insert(PingInfo.Interface(nid: nid, status: status), at: told.startIndex)
        }
        var interfaces: [PeerInterface] = []
        for entry in told {
            guard entry.nid != .loopback, entry.nid != .any, !isOwn(entry.nid),
                !interfaces.contains(where: { $0.nid == entry.nid })
            else { continue }
            if let owner = self.node(of: entry.nid), owner != node {
                guard takeOver(entry.nid, from: owner) else { continue }
            }
            var interface =
                known.index(of: entry.nid).map { known.interfaces[$0] }
                ?? PeerInterface(nid: entry.nid)
            interface.isUp = entry.isUp
            interfaces.append(interface)
        }
        for gone in known.interfaces where !interfaces.contains(where: { $0.nid == gone.nid }) {
            if known.state.contains(.configured), known.state.contains(.lockPrimary),
                gone.nid == known.primary
            {
                interfaces.insert(gone, at: 0)
                continue
            }
            nodeIndex[gone.nid] = nil
            detach(gone.nid)
        }
        for interface in interfaces { nodeIndex[interface.nid] = node }
        known.interfaces = interfaces
        if !known.state.contains(.lockPrimary) {
            known.primary = interfaces.first { $0.nid == told.first?.nid }?.nid ?? nid
            if isMultiRail, let first = info.interfaces.first?.nid, known.index(of: first) != nil {
                known.primary = first
            }
        }
        nodes.update(node) { $0 = known }
        refresh(node)
    }

    /// A NID that one node names belongs to another so far: it moves if that has no other.
    private mutating func takeOver(_ nid: NID, from owner: SlotHandle) -> Bool {
        guard let other = nodes[owner], other.interfaces.count == 1,
            !other.state.contains(.configured), !other.state.contains(.discovering),
            other.routeCount == 0
        else { return false }
        var held = other.held
        nodes.remove(owner)
        nodeIndex[nid] = nil
        detach(nid)
        while let message = held.popFirst() { abandon(message, LNetErrno.stale) }
        return true
    }

    /// The paths to a NID belong to no node any more.
    private mutating func detach(_ nid: NID) {
        for index in interfaces.indices where interfaces[index].nid.network == nid.network {
            if let path = peers.find(ProcessID(nid: nid), on: index) {
                peers.update(path) {
                    $0.node = nil
                    $0.selects = false
                }
            }
        }
        if let path = peers.find(ProcessID(nid: nid), on: -1) {
            peers.update(path) { $0.node = nil }
        }
    }

    /// Tells the paths to a node whether there is anything to choose on each message.
    mutating func refresh(_ node: SlotHandle) {
        guard let known = nodes[node] else { return }
        let isMultiRail = known.state.contains(.multiRail)
        var ways = 0
        for interface in known.interfaces {
            for own in interfaces where own.isUsable && own.nid.network == interface.nid.network {
                ways += 1
            }
        }
        for interface in known.interfaces {
            let process = ProcessID(nid: interface.nid)
            for index in [-1] + Array(interfaces.indices) {
                guard let path = peers.find(process, on: index) else { continue }
                peers.update(path) {
                    $0.node = node
                    $0.selects = index < 0 || (isMultiRail && ways > 1)
                }
            }
        }
    }

    // MARK: By an operator

    /// Adds a peer with its NIDs (`peer add`), or NIDs to one. Returns an errno, 0 for done.
    public mutating func addPeer(
        primary: NID, nids: [NID], isMultiRail: Bool = true, locksPrimary: Bool = false,
        now: Ticks
    ) -> Int32 {
        advance(now)
        let all = [primary] + nids.filter { $0 != primary }
        guard !all.contains(where: { isOwn($0) || $0 == .any || $0 == .loopback }) else {
            return LNetErrno.invalid
        }
        guard isMultiRail || all.count == 1 else { return LNetErrno.invalid }
        let target = node(of: primary)
        if let target, nodes[target]?.primary != primary { return LNetErrno.exists }
        for nid in all {
            if let owner = node(of: nid), owner != target {
                guard let other = nodes[owner], other.interfaces.count == 1,
                    !other.state.contains(.configured)
                else { return LNetErrno.exists }
            }
        }
        guard all.count <= Self.peerInterfacesMax else { return LNetErrno.noBufferSpace }
        let node = nodeSlot(primary)
        for nid in all where self.node(of: nid) != node {
            if let owner = self.node(of: nid), !takeOver(nid, from: owner) {
                return LNetErrno.busy
            }
            nodeIndex[nid] = node
            nodes.update(node) { $0.interfaces.append(PeerInterface(nid: nid)) }
        }
        nodes.update(node) {
            $0.state.insert(.configured)
            if isMultiRail { $0.state.insert(.multiRail) }
            if locksPrimary { $0.state.insert(.lockPrimary) }
        }
        refresh(node)
        return 0
    }

    /// Deletes a peer (`peer del`), or some of its NIDs. Connections to them end; messages that
    /// wait fail. Returns an errno, 0 for done.
    public mutating func deletePeer(primary: NID, nids: [NID] = [], now: Ticks) -> Int32 {
        advance(now)
        let single = peers.handles.compactMap { peers[$0] }.contains {
            $0.process.nid == primary && !$0.isSelf
        }
        guard let node = node(of: primary), let known = nodes[node] else {
            guard single else { return LNetErrno.noEntry }
            endPaths(to: primary)
            return 0
        }
        guard known.primary == primary else { return LNetErrno.invalid }
        guard nids.allSatisfy({ known.index(of: $0) != nil }) else { return LNetErrno.noEntry }
        let takesAll = nids.isEmpty || nids.contains(primary)
        if takesAll, known.routeCount > 0 { return LNetErrno.busy }
        let gone = takesAll ? known.interfaces.map(\.nid) : nids
        if takesAll {
            endDiscovery(node, LNetErrno.stale)
            nodes.remove(node)
        } else {
            nodes.update(node) { $0.interfaces.removeAll { gone.contains($0.nid) } }
        }
        for nid in gone {
            nodeIndex[nid] = nil
            detach(nid)
            endPaths(to: nid)
        }
        if !takesAll { refresh(node) }
        return 0
    }

    /// Ends the connections to a NID and forgets its credits and counters, where nobody holds it.
    private mutating func endPaths(to nid: NID) {
        for handle in peers.handles where peers[handle]?.process.nid == nid {
            guard peers[handle]?.isSelf == false else { continue }
            loseConnections(handle, LNetErrno.stale, except: nil)
            removeIfIdle(handle)
        }
    }

    /// Sets the health of a peer's NID (`peer set --health`); all of them where it is nil.
    public mutating func setPeerHealth(_ nid: NID?, _ value: Int, now: Ticks) -> Int32 {
        advance(now)
        var found = false
        for node in nodes.handles {
            guard let known = nodes[node] else { continue }
            for index in known.interfaces.indices
            where nid == nil || known.interfaces[index].nid == nid {
                found = true
                nodes.update(node) { $0.interfaces[index].health.set(value) }
                if value < Health.max {
                    hasUnwell = true
                    recover(peer: known.interfaces[index].nid)
                }
            }
        }
        return found ? 0 : LNetErrno.noEntry
    }

    /// Sets the health of one of our interfaces (`net set --health`); all of them where it is nil.
    public mutating func setHealth(_ nid: NID?, _ value: Int, now: Ticks) -> Int32 {
        advance(now)
        var found = false
        for index in interfaces.indices
        where interfaces[index].isUsable && (nid == nil || interfaces[index].nid == nid) {
            found = true
            let wasUp = interfaces[index].isUp
            interfaces[index].health.set(value)
            if interfaces[index].isUp != wasUp { announce() }
            if value < Health.max {
                hasUnwell = true
                recover(interface: index)
            }
        }
        return found ? 0 : LNetErrno.noEntry
    }
}
