import LNetCore
import Primitives
import WireFormat

/// `fault drop`, `fault delay` and `fault break`.
extension ControlRouter {
    mutating func addFaultVerbs(_ network: NetworkAccess) {
        on("fault", "break") { request in
            let text = request.arguments["dest"] ?? "*"
            let destination = try Self.pattern(text)
            let count = try network.with { lnet, now in
                lnet.breakConnections(to: destination, now: now)
            }
            guard count > 0 else {
                throw ControlError(
                    text == "*"
                        ? "this node has no open connection"
                        : "this node has no open connection to \(text)", errno: 107)
            }
            return "broken: \(count)\n"
        }
        for kind in ["drop", "delay"] {
            let noun = "fault-\(kind)"
            on(noun, "add") { request in
                let rule = try Self.rule(request, isDelay: kind == "delay")
                guard try network.with({ lnet, _ in lnet.addFault(rule) }) else {
                    throw ControlError("there are as many fault rules as there may be", errno: 28)
                }
                return ""
            }
            on(noun, "del") { request in
                let isMeant = try Self.selection(request, kind)
                let count = try network.with { lnet, _ in lnet.deleteFaults(where: isMeant) }
                guard count > 0 || request.arguments["all"] != nil else {
                    throw ControlError("no \(kind) rule has that source and destination", errno: 2)
                }
                return "removed: \(count)\n"
            }
            on(noun, "reset") { _ in
                try network.with { lnet, _ in
                    lnet.resetFaults { $0.isDelay == (kind == "delay") }
                }
                return ""
            }
            on(noun, "show") { _ in
                let rules = try network.with { lnet, _ in lnet.faultRules }
                    .filter { $0.isDelay == (kind == "delay") }
                return try NetworkDocument(fault: rules.map { FaultReport($0) }).text()
            }
        }
    }

    private static func selection(
        _ request: ControlRequest, _ kind: String
    ) throws(ControlError) -> @Sendable (LNetFaultRule) -> Bool {
        if request.arguments["all"] != nil { return { $0.isDelay == (kind == "delay") } }
        let source = try pattern(request.required("source"))
        let destination = try pattern(request.required("dest"))
        return {
            $0.isDelay == (kind == "delay") && $0.source == source
                && $0.destination == destination
        }
    }

    private static func rule(
        _ request: ControlRequest, isDelay: Bool
    ) throws(ControlError) -> LNetFaultRule {
        let source = try pattern(request.required("source"))
        let destination = try pattern(request.required("dest"))
        let rate = try request.number("rate", in: 1...Int(Int32.max))
        let interval = try request.number("interval", in: 1...86_400)
        guard (rate == nil) != (interval == nil) else {
            throw ControlError("give either --rate N or --interval SECONDS", errno: 22)
        }
        var effect = LNetFaultRule.Effect.drop
        if isDelay {
            guard let latency = try request.number("latency", in: 1...3600) else {
                throw ControlError("fault delay add needs --latency SECONDS", errno: 22)
            }
            effect = .delay(.seconds(UInt64(latency)))
        }
        var portals: UInt64 = 0
        for part in (request.arguments["portal"] ?? "").split(separator: ",") {
            guard let portal = UInt64(part), portal < 64 else {
                throw ControlError("\(part) is no portal: they are 0 to 63", errno: 22)
            }
            portals |= 1 << portal
        }
        var messages: LNetFaultRule.Messages = []
        for part in (request.arguments["message"] ?? "").split(separator: ",") {
            switch part.uppercased() {
            case "PUT": messages.insert(.put)
            case "ACK": messages.insert(.ack)
            case "GET": messages.insert(.get)
            case "REPLY": messages.insert(.reply)
            default:
                throw ControlError("\(part) is no message: PUT, ACK, GET or REPLY", errno: 22)
            }
        }
        var errors: UInt32 = 0
        for part in (request.arguments["health_error"] ?? "").split(separator: ",") {
            if part == "random" {
                errors = .max
            } else if let status = LNetStatus.allCases.first(where: { $0.name == part }) {
                errors |= 1 << UInt32(status.rawValue)
            } else {
                throw ControlError(
                    "\(part) is no health error: random, "
                        + LNetStatus.allCases.map(\.name).joined(separator: ", "), errno: 22)
            }
        }
        return LNetFaultRule(
            effect, source: source, destination: destination, portals: portals,
            messages: messages.isEmpty ? .all : messages,
            frequency: rate.map { .rate(UInt32($0)) }
                ?? .interval(.seconds(UInt64(interval ?? 1))), healthErrors: errors)
    }

    /// `*` for every NID, `*@tcp1` for every one of a network.
    private static func pattern(_ text: String) throws(ControlError) -> NID {
        if text == "*" { return .any }
        if text.hasPrefix("*@") {
            let network = try network(String(text.dropFirst(2)))
            return NID(rawValue: UInt64(network) << 32 | 0xffff_ffff)
        }
        return try nid(text)
    }
}
