public import Primitives
public import WireFormat

/// A route, and what is known of it.
struct RouteEntry: Sendable {
    var route: LNetRoute
    var sequence: UInt32 = 0
}

/// Ways to remote networks, and messages on their way through this node.
extension LNetCore {
    // MARK: By an operator

    /// Adds a route (`route add`). Returns an errno, 0 for done.
    public mutating func addRoute(_ route: LNetRoute, now: Ticks) -> Int32 {
        advance(now)
        guard !isOwn(route.gateway), route.gateway != .any, route.hops != 0 else {
            return LNetErrno.invalid
        }
        guard !interfaces.contains(where: { $0.isUsable && $0.nid.net == route.network })
        else { return LNetErrno.exists }
        guard
            interfaces.contains(where: {
                $0.isUsable && $0.nid.network == route.gateway.network
            })
        else { return LNetErrno.hostUnreachable }
        guard
            !routes.contains(where: {
                $0.route.network == route.network && $0.route.gateway == route.gateway
            })
        else { return LNetErrno.exists }
        guard routes.count < Self.routesMax else { return LNetErrno.noBufferSpace }
        routes.append(RouteEntry(route: route))
        let node = nodeSlot(route.gateway)
        nodes.update(node) { $0.routeCount += 1 }
        timers.insert(.checkGateway(node: node), at: now)
        return 0
    }

    /// Deletes a route (`route del`). Returns an errno, 0 for done.
    public mutating func deleteRoute(network: UInt32, gateway: NID, now: Ticks) -> Int32 {
        advance(now)
        guard
            let place = routes.firstIndex(where: {
                $0.route.network == network && $0.route.gateway == gateway
            })
        else { return LNetErrno.noEntry }
        routes.remove(at: place)
        if let node = node(of: gateway) { nodes.update(node) { $0.routeCount -= 1 } }
        return 0
    }

    static let routesMax = 4096

    /// The routes, in the order of their addition, and whether each is alive.
    public var routeReports: [(route: LNetRoute, isAlive: Bool)] {
        routes.map { ($0.route, isAlive($0.route)) }
    }

    /// Whether messages for the NID's network can go somewhere now.
    func hasRoute(to nid: NID) -> Bool {
        routes.contains { $0.route.network == nid.net && isAlive($0.route) }
    }

    // MARK: Aliveness

    /// A route is alive if its gateway is, routes, and says that its interface on the remote
    /// network is up (`avoid_asym_router_failure`).
    func isAlive(_ route: LNetRoute) -> Bool {
        guard let node = node(of: route.gateway), let known = nodes[node] else { return false }
        if known.checkedAt == .zero, !known.state.contains(.discovered) {
            return !configuration.checkRoutersBeforeUse
        }
        guard known.isReachable else { return false }
        guard known.state.contains(.discovered) else { return true }
        if known.features.contains(.routingDisabled) { return false }
        guard configuration.avoidAsymmetricRouterFailure else { return true }
        let remote = known.interfaces.filter { $0.nid.net == route.network }
        // A gateway on the way to another has no interface there.
        if remote.isEmpty { return (route.hops ?? 1) > 1 || !known.state.contains(.multiRail) }
        return remote.contains { $0.isUp }
    }

    /// The time has come to ask a gateway how it is.
    mutating func checkGateway(_ node: SlotHandle) {
        guard let known = nodes[node], known.routeCount > 0 else { return }
        timers.insert(
            .checkGateway(node: node), at: now + configuration.aliveRouterCheckInterval)
        begin(node, id: nil, timeout: configuration.routerPingTimeout, to: known.primary)
    }

    /// What asking a gateway came to.
    mutating func noteGateway(_ node: SlotHandle, isReachable: Bool) {
        let now = now
        nodes.update(node) {
            $0.isReachable = isReachable
            $0.checkedAt = now
        }
    }

    /// On a router an interface without any traffic for this long is down: others learn of it.
    mutating func watchInterfaces() {
        guard configuration.routing else { return }
        let limit = TickInterval(
            nanoseconds: configuration.aliveRouterCheckInterval.nanoseconds
                + configuration.routerPingTimeout.nanoseconds)
        for index in interfaces.indices where interfaces[index].isUsable {
            // A node that routes from its start has no time yet when it is made.
            if interfaces[index].lastHeard == .zero { interfaces[index].lastHeard = now }
            let isSilent = now - interfaces[index].lastHeard > limit
            guard interfaces[index].isSilent != isSilent else { continue }
            interfaces[index].isSilent = isSilent
            announce()
        }
        timers.insert(.watchInterfaces, at: now + .seconds(1))
    }

    // MARK: Forwarding

    /// What becomes of a message that is for another network.
    enum Passage {
        /// Nobody here passes it on.
        case drop
        /// No buffer, or the peer has taken its share: nothing is read from it until there is.
        case wait
        case forward(Receiving)
    }

    /// Whether a message goes through here, and with which buffer.
    mutating func passage(
        _ header: LNetHeader, _ source: ProcessID, _ peer: SlotHandle, canWait: Bool
    ) -> Passage {
        guard configuration.routing else { return .drop }
        let target = header.destination.nid
        var way: Way?
        if let own = interfaces.firstIndex(where: {
            $0.isUsable && $0.nid.network == target.network
        }) {
            let process = header.destination
            way = Way(path: peerSlot(process, on: own), destination: process, source: target)
        } else {
            way = routed(header.destination)
        }
        guard let way, way.path != peer else { return .drop }
        // Large NIDs find no room in the header of a hop that has small ones.
        let isLarge = header.source.nid.isLarge || target.isLarge
        guard !isLarge || peers.update(way.path, { $0.process.nid.isLarge }) == true else {
            return .drop
        }
        let size = RouterPools.Size(payloadLength: Int(header.payloadLength))
        let share = peers.update(peer) { $0.routerCredits } ?? 0
        if canWait, share <= 0 { return .wait }
        guard pools.take(size) else {
            if canWait { return .wait }
            // Over RDMA small messages wait in memory instead, within the bound of lazy portals.
            guard routedInExcess < configuration.lazyMessagesMax, size != .large else {
                return .drop
            }
            routedInExcess += 1
            return .forward(
                Receiving(
                    header: header, source: source, peer: peer,
                    target: .forward(path: way.path, pool: nil),
                    accepted: Int(header.payloadLength), via: peer))
        }
        peers.update(peer) {
            $0.routerCredits -= 1
            $0.routerCreditsMin = min($0.routerCreditsMin, $0.routerCredits)
        }
        return .forward(
            Receiving(
                header: header, source: source, peer: peer,
                target: .forward(path: way.path, pool: size),
                accepted: Int(header.payloadLength), via: peer))
    }

    private mutating func routed(_ process: ProcessID) -> Way? {
        way(to: peerSlot(process, on: -1))
    }

    /// A message that goes through is all there.
    mutating func pass(_ receiving: Receiving, _ payload: [UInt8], _ range: Range<Int>) {
        guard case .forward(let path, let pool) = receiving.target else { return }
        if pool == nil { routedInExcess -= 1 }
        counters.routed &+= 1
        counters.routeLength &+= UInt64(receiving.header.payloadLength)
        var message = WaitingMessage(header: receiving.header, payload: payload, range: range)
        message.pool = pool
        message.sender = receiving.via
        if !transmit(message, to: path) {
            counters.count(.notSent, length: receiving.header.payloadLength)
            if let pool { release(pool, receiving.via) }
        }
    }

    /// A buffer of a router is free, and its sender may send one more: connections that wait are
    /// read on.
    mutating func release(_ size: RouterPools.Size, _ sender: SlotHandle?) {
        pools.give(size)
        if let sender { peers.update(sender) { $0.routerCredits += 1 } }
        for _ in 0..<stalled.count {
            guard let link = stalled.popFirst() else { return }
            if !unstall(link) { stalled.append(link) }
        }
    }

    /// Resizes the router's buffers (`set tiny_buffers` and its siblings); nil leaves one alone.
    public mutating func setRouterBuffers(tiny: Int?, small: Int?, large: Int?) {
        if let tiny { pools.resize(.tiny, to: tiny) }
        if let small { pools.resize(.small, to: small) }
        if let large { pools.resize(.large, to: large) }
    }

    /// `routing show`: total, free and the fewest free, of tiny, small and large buffers.
    public var routerBufferReports: [(total: Int, free: Int, freeMin: Int)] {
        (0..<3).map { (pools.total[$0], pools.free[$0], pools.freeMin[$0]) }
    }

    /// Makes the node a router, or no longer (`set routing`). Peers are told.
    public mutating func setRouting(_ isOn: Bool, now: Ticks) {
        advance(now)
        guard configuration.routing != isOn else { return }
        configuration.routing = isOn
        if isOn { startRouting() }
        announce()
    }

    mutating func startRouting() {
        for index in interfaces.indices { interfaces[index].lastHeard = now }
        timers.insert(.watchInterfaces, at: now + .seconds(1))
    }
}
