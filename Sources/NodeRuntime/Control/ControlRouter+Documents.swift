import LNetCore
import Primitives
import WireFormat
import Yams

/// `export` and `import`: the whole of what an operator has set, as one document of lnetctl's.
extension ControlRouter {
    mutating func addDocumentVerbs(_ network: NetworkAccess) {
        on("net", "export") { request in
            try Self.export(network, isBackup: request.arguments["backup"] != nil).text()
        }
        on("net", "import") { request in
            let document: NetworkDocument
            do {
                document = try YAMLDecoder().decode(NetworkDocument.self, from: request.body)
            } catch {
                throw ControlError("the file cannot be read: \(Self.explain(error))", errno: 22)
            }
            if request.arguments["show"] != nil {
                // What is there now of what the file names.
                return try Self.export(network, isBackup: false).text()
            }
            if request.arguments["del"] != nil {
                try Self.remove(document, network)
            } else {
                try Self.apply(document, network)
            }
            return ""
        }
    }

    private static func explain(_ error: any Error) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        switch error {
        case .dataCorrupted(let context), .keyNotFound(_, let context),
            .typeMismatch(_, let context), .valueNotFound(_, let context):
            let path = context.codingPath.map(\.stringValue).joined(separator: " > ")
            return path.isEmpty ? context.debugDescription : "\(path): \(context.debugDescription)"
        @unknown default: return "\(error)"
        }
    }

    static func export(
        _ network: NetworkAccess, isBackup: Bool
    ) throws(ControlError) -> NetworkDocument {
        var document = NetworkDocument()
        document.net = try nets(network, verbose: true)
        document.route = try routes(network, verbose: !isBackup)
        document.peer = try peers(network, verbose: !isBackup)
        let (configuration, buffers) = try network.with { lnet, _ in
            (lnet.configuration, lnet.routerBufferReports)
        }
        document.routing = RoutingReport(configuration.routing, buffers)
        document.global = GlobalReport(configuration)
        if isBackup { document.removeStatistics() }
        return document
    }

    private static func apply(
        _ document: NetworkDocument, _ network: NetworkAccess
    ) throws(ControlError) {
        for net in document.net ?? [] where net.type != "lo" {
            for interface in net.interfaces {
                guard let text = interface.nid else {
                    throw ControlError(
                        "net \(net.type): an interface here is named by its nid", errno: 22)
                }
                let nid = try nid(text)
                let isThere = try network.with { lnet, _ in lnet.nids.contains(nid) }
                if isThere { continue }
                let errno = try network.change { $0.addInterface(nid, now: $1) }
                try check(errno, "net add", nid) { _ in nil }
                guard try network.with({ lnet, _ in lnet.nids.contains(nid) }) else {
                    throw ControlError("\(nid) cannot be listened on", errno: 99)
                }
            }
        }
        for peer in document.peer ?? [] {
            let primary = try nid(peer.primary)
            let isMultiRail = peer.isMultiRail?.value ?? true
            var nids: [NID] = []
            for interface in peer.interfaces ?? [] { nids.append(try nid(interface.nid)) }
            try addPeer(
                network, primary, nids.filter { $0 != primary }, isMultiRail: isMultiRail,
                locksPrimary: false)
        }
        for route in document.route ?? [] {
            let entry = try route.route()
            let isThere = try network.with { lnet, _ in
                lnet.routeReports.contains {
                    $0.route.network == entry.network && $0.route.gateway == entry.gateway
                }
            }
            if !isThere { try addRoute(network, entry) }
        }
        if let enabled = document.routing?.enable { try set(network, "routing", enabled) }
        for (name, value) in document.routing?.buffers?.settings ?? [] {
            try set(network, name, value)
        }
        for (name, value) in document.global?.settings ?? [] {
            guard let range = settings[name], range.contains(value) else {
                throw ControlError("global: \(name) cannot be \(value)", errno: 22)
            }
            try set(network, name, value)
        }
    }

    private static func remove(
        _ document: NetworkDocument, _ network: NetworkAccess
    ) throws(ControlError) {
        for route in document.route ?? [] {
            let entry = try route.route()
            _ = try network.change {
                $0.deleteRoute(network: entry.network, gateway: entry.gateway, now: $1)
            }
        }
        for peer in document.peer ?? [] {
            let primary = try nid(peer.primary)
            _ = try network.change { $0.deletePeer(primary: primary, now: $1) }
        }
        for net in document.net ?? [] where net.type != "lo" {
            for text in net.interfaces.compactMap(\.nid) {
                let nid = try nid(text)
                let errno = try network.change { $0.deleteInterface(nid, now: $1) }
                if errno == LNetErrno.busy { continue }
                try check(errno, "net del", nid) { _ in "\(nid) is no interface of this node" }
            }
        }
    }
}
