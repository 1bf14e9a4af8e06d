import ClientCore
import LNetCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import StorageCore
import WireFormat

/// Steps of upgrades, one at a time.
extension Scenario {
    /// Where a target comes back when it moves to its partner, or from there.
    func nextNID(_ place: Int) -> NID {
        let isHome = simulator.server(servers[place])?.configuration.lnet.nid == Self.nid(place)
        return Self.nid(place, partner: isHome)
    }

    /// A standby of the target on its other NID. Gives its node.
    @discardableResult
    func standBy(
        _ place: Int, versions: ClosedRange<ProtocolVersion> = Scenario.every
    ) throws -> Int {
        let isPartner = nextNID(place) == Self.nid(place, partner: true)
        return try simulator.addServer(
            configuration(place, versions: versions, partner: isPartner), store: stores[place],
            isStandby: true)
    }

    func phase(_ place: Int) -> UpgradePhase? { simulator.server(servers[place])?.phase }

    func awaitPhase(
        _ place: Int, _ phase: UpgradePhase, within limit: TickInterval = .seconds(60)
    ) throws {
        let isThere = simulator.run(until: simulator.now + limit) { self.phase(place) == phase }
        guard isThere else {
            throw Stuck(
                description: "\(names[place]) is \(self.phase(place)?.name ?? "gone") and not "
                    + "\(phase.name): \(lastLog(servers[place])); \(state(clients[0]))")
        }
    }

    /// Runs on to the end of an upgrade that was ordered, and lets the standby have the store.
    func takeOver(_ place: Int, _ standby: Int) throws {
        try awaitPhase(place, .stopped)
        simulator.stop(servers[place])
        try simulator.activate(standby)
        servers[place] = standby
    }

    /// The order that most scenarios give.
    func announce(_ place: Int, _ change: (inout UpgradeStart) -> Void = { _ in }) {
        var order = UpgradeStart(deadlineMs: 20_000, expiryMs: 60_000, next: nextNID(place))
        change(&order)
        self.order(servers[place], order)
    }

    func isGateOpen(_ client: Int, _ target: Int) -> Bool {
        simulator.client(clients[client])?.core.isGateOpen(target) ?? false
    }

    func summary(_ client: Int, _ target: Int) -> ImportSummary {
        simulator.client(clients[client])!.core.summary(target)
    }

    /// What a client stamped at a target, with the times.
    func stamps(_ client: Int, _ target: Int) -> [(stamp: UpgradeStamp, at: Ticks)] {
        clientEvents.compactMap { entry in
            guard entry.client == clients[client],
                case .stamp(target, let stamp, _, let at) = entry.event
            else { return nil }
            return (stamp, at)
        }
    }

    func has(_ client: Int, _ target: Int, _ stamp: UpgradeStamp) -> Bool {
        stamps(client, target).contains { $0.stamp == stamp }
    }

    /// Submits and runs until the operation has ended, or for so long.
    func isDone(_ client: Int, _ cookie: UInt64, within limit: TickInterval) -> Bool {
        simulator.run(until: simulator.now + limit) {
            self.result(self.clients[client], cookie) != nil
        }
    }

    func status(_ place: Int) -> UpgradeStatusReply {
        simulator.server(servers[place])!.statusReply(now: simulator.now)
    }

    /// The clean record stands in the store.
    func hasRecord(_ place: Int) -> Bool {
        var count = 0
        stores[place].scan(.reservations, from: []) { _, _ in
            count += 1
            return true
        }
        return count > 0
    }

    /// An order by an administrator's request, and its answer.
    func ask(_ admin: Int, _ place: Int, _ order: UpgradeStart) throws -> UpgradeAnswer {
        let result = try perform(admin, .raw(target: place, .upgradeOrder(order)))
        guard case .reply(.upgradeAnswer(let answer)) = result else {
            throw Stuck(description: "an order gave \(result)")
        }
        return answer
    }

    /// A client that asks and orders.
    func addAdministrator() -> Int {
        let before = configureClient
        configureClient = { $0.isObserver = true }
        defer { configureClient = before }
        let admin = addClient(800 + clients.count)
        clients.removeLast()
        settle(.seconds(1))
        return admin
    }
}
