/// One way to send that a machine has, or could have, and whether it would be used.
public struct FabricWay: Sendable, Equatable, Codable {
    public enum Kind: String, Sendable, Codable {
        /// A port of an RDMA device that is there.
        case verbs
        /// A soft device that could be made.
        case soft
        case tcp
    }

    public var kind: Kind
    /// `rxe0 port 1`, `soft-RoCE on eth0`, `tcp on eth0`.
    public var name: String
    /// A node at one of its addresses would use it, with `--fabric auto`.
    public var isUsed: Bool
    /// Why, or why not.
    public var reason: String
    /// NIDs that would be reached by it.
    public var nids: [String]
}

extension FabricSurvey {
    /// Every way to send, the best first.
    public var ways: [FabricWay] {
        let drivers: [Driver] = [.hardware, .rxe, .siw]
        var ways: [FabricWay] = []
        for driver in drivers {
            ways += ports.filter { $0.driver == driver }.map(way(by:))
        }
        if ports.isEmpty {
            ways.append(
                FabricWay(
                    kind: .verbs, name: "RDMA devices", isUsed: false,
                    reason: verbsProblem ?? "there is none", nids: []))
        }
        var interfaces: [String] = []
        for address in addresses where !interfaces.contains(address.interface) {
            interfaces.append(address.interface)
        }
        for interface in interfaces where !isLoopback(interface) {
            let problem = creationProblem(on: interface)
            ways.append(
                FabricWay(
                    kind: .soft, name: "soft-RoCE on \(interface)", isUsed: problem == nil,
                    reason: problem ?? "made when a node at one of its addresses starts",
                    nids: problem == nil ? nids(interface, "o2ib") : []))
        }
        if interfaces.allSatisfy(isLoopback) {
            ways.append(
                FabricWay(
                    kind: .soft, name: "soft-RoCE", isUsed: false,
                    reason: "no interface but the loopback one has an address", nids: []))
        }
        if !ports.contains(where: { $0.driver == .siw }) {
            let reason =
                switch modules["siw"] ?? .missing {
                case .missing: "module siw is not among those of kernel \(kernel)"
                case .available, .loaded:
                    "not made by itself: rdma link add siw0 type siw netdev INTERFACE"
                }
            ways.append(
                FabricWay(
                    kind: .soft, name: "soft iWARP", isUsed: false, reason: reason, nids: []))
        }
        for interface in interfaces { ways.append(way(overTCPOn: interface)) }
        return ways
    }

    private func way(by port: Port) -> FabricWay {
        let own = addresses.filter { $0.device == port.device }
        let usable = own.filter { address in
            port.transport != "RoCE" || port.gids.contains { $0.address == address.address }
        }
        let reason: String?
        if let problem = problem(of: port, at: nil) {
            reason = problem
        } else if own.isEmpty {
            reason = "no address of this machine leads to it: give its interface an IPv4 address"
        } else if let first = own.first, usable.isEmpty {
            reason = problem(of: port, at: first.address) ?? "no matching GID"
        } else {
            reason = nil
        }
        return FabricWay(
            kind: .verbs, name: "\(port.device) port \(port.number)", isUsed: reason == nil,
            reason: reason ?? "\(port.driver.words), port \(port.state)",
            nids: reason == nil ? usable.map { "\($0.address)@o2ib" } : [])
    }

    private func way(overTCPOn interface: String) -> FabricWay {
        let own = addresses.filter { $0.interface == interface }
        let isUp = own.contains(where: \.isUp)
        let hasDevice = own.contains { $0.device != nil }
        let reason =
            if !isUp {
                "\(interface) is down"
            } else if hasDevice {
                "for NIDs on tcp; those on o2ib have its RDMA device"
            } else {
                "for NIDs on tcp"
            }
        return FabricWay(
            kind: .tcp, name: "tcp on \(interface)", isUsed: isUp, reason: reason,
            nids: isUp ? nids(interface, "tcp") : [])
    }

    private func isLoopback(_ interface: String) -> Bool {
        addresses.contains { $0.interface == interface && $0.isLoopback }
    }

    private func nids(_ interface: String, _ network: String) -> [String] {
        addresses.filter { $0.interface == interface }.map { "\($0.address)@\(network)" }
    }
}
