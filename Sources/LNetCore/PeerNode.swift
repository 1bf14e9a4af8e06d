import Primitives
import WireFormat

/// What is known of a remote node's willingness, and what is under way with it (`lp_state`).
@frozen
public struct PeerState: OptionSet, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt32
    @inlinable
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let multiRail = PeerState(rawValue: 1 << 0)
    public static let noDiscovery = PeerState(rawValue: 1 << 1)
    public static let routerEnabled = PeerState(rawValue: 1 << 2)
    /// An operator said what its NIDs are.
    public static let configured = PeerState(rawValue: 1 << 3)
    public static let discovered = PeerState(rawValue: 1 << 4)
    public static let rediscover = PeerState(rawValue: 1 << 5)
    public static let discovering = PeerState(rawValue: 1 << 6)
    public static let nidsUpToDate = PeerState(rawValue: 1 << 8)
    public static let pingSent = PeerState(rawValue: 1 << 9)
    public static let pushSent = PeerState(rawValue: 1 << 10)
    public static let pingFailed = PeerState(rawValue: 1 << 11)
    public static let pushFailed = PeerState(rawValue: 1 << 12)
    public static let forcePing = PeerState(rawValue: 1 << 13)
    public static let forcePush = PeerState(rawValue: 1 << 14)
    public static let lockPrimary = PeerState(rawValue: 1 << 20)
}

/// A remote node: all of its NIDs, of which one names it (`struct lnet_peer`).
///
/// Made by discovery, by an operator, or for a gateway. A peer that is none of these has no entry:
/// it is then its one NID.
struct PeerNode: Sendable {
    var primary: NID
    /// In the order in which the node names them.
    var interfaces: [PeerInterface]
    var state: PeerState = []
    var features: PingInfo.Features = []
    /// The node's own number of what it told last; 0 while it told nothing.
    var sequence: UInt32 = 0
    /// The number of what we told it last, as far as it acknowledged; 0 for nothing.
    var pushed: UInt32 = 0
    /// The path on which the ping of this discovery went, for the push to follow.
    var path: SlotHandle?
    /// How long a ping answer is asked for.
    var pingLength = PingInfo.lengthMin
    /// When the discovery that is under way has had time enough.
    var deadline = Ticks.zero
    /// Who waits for the end of the discovery.
    var waiters: [UInt64] = []
    /// Messages that wait for the end of the discovery.
    var held = Outbox<WaitingMessage>()
    /// Routes that lead through it.
    var routeCount = 0
    /// When it was seen last as a gateway, and whether it could be reached.
    var isReachable = true
    var checkedAt = Ticks.zero

    init(primary: NID) {
        self.primary = primary
        interfaces = [PeerInterface(nid: primary)]
    }

    func index(of nid: NID) -> Int? { interfaces.firstIndex { $0.nid == nid } }
}

/// One NID of a remote node (`struct lnet_peer_ni`).
struct PeerInterface: Sendable, BitwiseCopyable {
    let nid: NID
    var health = Health()
    /// What the node says of it.
    var isUp = true
    /// For taking turns.
    var sequence: UInt32 = 0
}

/// How well an interface does: 1000 is well, 0 is down (`lnet_health`).
public struct Health: Sendable, BitwiseCopyable {
    /// Perfect health.
    public static let maximum = 1000
    static let max = maximum
    var value = Self.max
    /// It reached 0 and is not well again yet: then it is down to others.
    var isDown = false
    /// Recovery pings since it was well, or since one was answered.
    var pings: UInt32 = 0
    /// A recovery ping is scheduled or under way.
    var isRecovering = false
    var isWell: Bool { value == Self.max }

    mutating func lower(by sensitivity: Int) { set(value - sensitivity) }

    /// Sets the value within its bounds.
    mutating func set(_ value: Int) {
        self.value = min(Self.max, Swift.max(0, value))
        if self.value == 0 { isDown = true }
        if isWell { isDown = false }
    }

    /// Whether that made it well.
    mutating func raise(by sensitivity: Int) -> Bool {
        guard !isWell else { return false }
        set(value + Swift.max(1, sensitivity))
        if isWell { pings = 0 }
        return isWell
    }
}
