public import WireFormat

/// A way to a remote network through a gateway (`struct lnet_route`).
public struct LNetRoute: Hashable, Sendable {
    /// Type and number of the remote network, as in `NID.network`.
    public var network: UInt32
    public var gateway: NID
    /// 1 to 255; nil is "undefined" and counts as 1.
    public var hops: UInt8?
    /// 0 is best.
    public var priority: UInt32
    public var healthSensitivity: UInt32

    public init(
        network: UInt32, gateway: NID, hops: UInt8? = nil, priority: UInt32 = 0,
        healthSensitivity: UInt32 = 1
    ) {
        self.network = network
        self.gateway = gateway
        self.hops = hops
        self.priority = priority
        self.healthSensitivity = healthSensitivity
    }
}

/// Buffers of a router for messages on their way through, in three sizes.
struct RouterPools: Sendable {
    /// By payload: none, up to a page, up to LNET_MTU.
    enum Size: Int, Sendable, BitwiseCopyable, CaseIterable {
        case tiny
        case small
        case large

        init(payloadLength: Int) {
            self = payloadLength == 0 ? .tiny : payloadLength <= 4096 ? .small : .large
        }
    }

    var total: InlineArray<3, Int>
    /// Below zero: so many messages wait.
    var free: InlineArray<3, Int>
    var freeMin: InlineArray<3, Int>

    init(tiny: Int, small: Int, large: Int) {
        total = [tiny, small, large]
        free = total
        freeMin = total
    }

    mutating func take(_ size: Size) -> Bool {
        guard free[size.rawValue] > 0 else { return false }
        free[size.rawValue] -= 1
        freeMin[size.rawValue] = min(freeMin[size.rawValue], free[size.rawValue])
        return true
    }

    mutating func give(_ size: Size) { free[size.rawValue] += 1 }

    mutating func resize(_ size: Size, to count: Int) {
        free[size.rawValue] += count - total[size.rawValue]
        total[size.rawValue] = count
    }
}
