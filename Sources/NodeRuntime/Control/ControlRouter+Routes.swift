import LNetCore
import Primitives
import WireFormat

/// `route` and `routing`.
extension ControlRouter {
    mutating func addRouteVerbs(_ network: NetworkAccess) {
        on("route", "show") { request in
            let verbose = request.arguments["verbose"] != nil
            let routes = try Self.routes(network, verbose: verbose)
            return try NetworkDocument(route: routes).text()
        }
        on("route", "add") { request in
            let gateways = try Self.nids(request.required("gateway"))
            let net = try Self.network(request.required("net"))
            let hops = try request.number("hop", in: 1...255)
            let priority = try request.number("priority", in: 0...Int(Int32.max)) ?? 0
            let sensitivity = try request.number("health_sensitivity", in: 1...255) ?? 1
            for gateway in gateways {
                try Self.addRoute(
                    network,
                    LNetRoute(
                        network: net, gateway: gateway, hops: hops.map { UInt8($0) },
                        priority: UInt32(priority), healthSensitivity: UInt32(sensitivity)))
            }
            return ""
        }
        on("route", "del") { request in
            let gateways = try Self.nids(request.required("gateway"))
            let net = try Self.network(request.required("net"))
            for gateway in gateways {
                let errno = try network.change {
                    $0.deleteRoute(network: net, gateway: gateway, now: $1)
                }
                try Self.check(errno, "route del", gateway) { _ in
                    "there is no route to \(NID.networkName(net)) through \(gateway)"
                }
            }
            return ""
        }
        on("routing", "show") { _ in
            let (isOn, buffers) = try network.with { lnet, _ in
                (lnet.configuration.routing, lnet.routerBufferReports)
            }
            return try NetworkDocument(routing: RoutingReport(isOn, buffers)).text()
        }
    }

    static func addRoute(
        _ network: NetworkAccess, _ route: LNetRoute
    ) throws(ControlError) {
        let name = NID.networkName(route.network)
        let errno = try network.change { $0.addRoute(route, now: $1) }
        try check(errno, "route add", route.gateway) {
            switch $0 {
            case 17: "\(name) is this node's own network, or that route is there already"
            case 22: "\(route.gateway) is this node itself: a gateway is another"
            case 113: "\(route.gateway) is on none of this node's networks"
            default: nil
            }
        }
    }

    static func routes(
        _ network: NetworkAccess, verbose: Bool
    ) throws(ControlError) -> [RouteReport] {
        try network.with { lnet, _ in
            lnet.routeReports.map { RouteReport($0.route, $0.isAlive, verbose: verbose) }
        }
    }

    /// `tcp1`, `o2ib`.
    static func network(_ text: String) throws(ControlError) -> UInt32 {
        guard let network = NID.network(named: text) else {
            throw ControlError("\(text) is no network such as tcp1 or o2ib", errno: 22)
        }
        return network
    }
}
