import LNetCore
import Primitives

/// `global` and `set`.
extension ControlRouter {
    mutating func addSettingVerbs(_ network: NetworkAccess) {
        on("global", "show") { _ in
            let configuration = try network.with { lnet, _ in lnet.configuration }
            return try NetworkDocument(global: GlobalReport(configuration)).text()
        }
        on("global", "set") { request in
            guard !request.arguments.isEmpty else {
                throw ControlError(
                    "name a setting: " + Self.settings.keys.sorted().joined(separator: ", "),
                    errno: 22)
            }
            for name in request.arguments.keys.sorted() {
                guard let range = Self.settings[name] else {
                    throw ControlError(
                        "there is no setting \(name), but "
                            + Self.settings.keys.sorted().joined(separator: ", "), errno: 22)
                }
                let value = try request.number(name, in: range) ?? 0
                try Self.set(network, name, value)
            }
            return ""
        }
    }

    /// What may be set, and to what.
    static let settings: [String: ClosedRange<Int>] = [
        "discovery": 0...1, "drop_asym_route": 0...1, "retry_count": 0...5,
        "transaction_timeout": 1...3600, "health_sensitivity": 0...1000,
        "max_recovery_ping_interval": 1...86_400, "lnd_timeout": 1...3600, "routing": 0...1,
        "tiny_buffers": 0...1_000_000, "small_buffers": 0...1_000_000,
        "large_buffers": 0...65_536,
    ]

    static func set(
        _ network: NetworkAccess, _ name: String, _ value: Int
    ) throws(ControlError) {
        try network.with { lnet, now in
            switch name {
            case "routing": lnet.setRouting(value == 1, now: now)
            case "tiny_buffers": lnet.setRouterBuffers(tiny: value, small: nil, large: nil)
            case "small_buffers": lnet.setRouterBuffers(tiny: nil, small: value, large: nil)
            case "large_buffers": lnet.setRouterBuffers(tiny: nil, small: nil, large: value)
            default:
                let seconds = TickInterval.seconds(UInt64(value))
                lnet.configure(
                    {
                        switch name {
                        case "discovery": $0.discovery = value == 1
                        case "drop_asym_route": $0.dropAsymmetricRoutes = value == 1
                        case "retry_count": $0.retryCount = value
                        case "transaction_timeout": $0.responseTimeout = seconds
                        case "health_sensitivity": $0.healthSensitivity = value
                        case "max_recovery_ping_interval": $0.recoveryPingIntervalMax = seconds
                        default: $0.lndTimeout = seconds
                        }
                    }, now: now)
            }
        }
    }
}
