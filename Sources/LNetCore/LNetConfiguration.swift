public import Primitives
public import WireFormat

/// What one node's LNet is told at its start. Defaults are those of socklnd and LNet.
///
///
/// `conns_per_peer` is always 1: one connection of each type. A peer that offers more is answered
/// NONE and makes do with one.
public struct LNetConfiguration: Sendable {
    /// The node's first interface, by which others name it: `tcp` or `o2ib`.
    public var nid: NID
    /// Its other interfaces, on this network or others.
    public var otherNIDs: [NID] = []
    /// Wall clock in ns at the start of this lifetime: tells peers that the node restarted.
    public var incarnation: UInt64
    /// `accept_port`: where every node of a TCP network listens.
    public var acceptPort: UInt16
    /// `service`: where every node of an RDMA network listens. 987 beside accept port 988, and one
    /// below any other accept port.
    public var servicePort: UInt16
    /// Whether source ports below 1024 vouch for a peer; then we connect from such ports too.
    /// Otherwise a hello is believed when its NID's address is the socket's.
    public var privilegedPorts: Bool
    /// `credits`: messages under way on the interface.
    public var credits = 256
    /// `peer_credits`: messages under way to one peer, 1 to 65535. On an RDMA network also the
    /// queue depth, which is at most 255 there.
    public var peerCredits = 8
    /// `peer_buffer_credits`: messages of one peer that a router holds; nil is `peerCredits`.
    public var peerBufferCredits: Int?
    /// `discovery`: peers are asked who they are before the first message, and told who we are.
    public var discovery = false
    /// `routing`: messages for other networks go through this node.
    public var routing = false
    /// `tiny_buffers`, `small_buffers` and `large_buffers`: messages on their way through with no
    /// payload, up to a page, and more. Memory is used only while one is held.
    public var tinyBuffers = 2048
    public var smallBuffers = 16384
    public var largeBuffers = 1024
    /// Ways to other networks.
    public var routes: [LNetRoute] = []
    /// `retry_count`: how often a message goes again on another way.
    public var retryCount = 2
    /// `health_sensitivity`: what a failure takes from the 1000 of an interface, and a success
    /// gives back; 0 for no health.
    public var healthSensitivity = 100
    /// `max_recovery_ping_interval`: the pause between two recovery pings doubles up to this.
    public var recoveryPingIntervalMax = TickInterval.seconds(900)
    /// `alive_router_check_interval`: gateways are asked this often.
    public var aliveRouterCheckInterval = TickInterval.seconds(60)
    /// `router_ping_timeout`: a gateway that does not answer for this long is dead.
    public var routerPingTimeout = TickInterval.seconds(50)
    /// `avoid_asym_router_failure`: a gateway whose far side is down is not used.
    public var avoidAsymmetricRouterFailure = true
    /// `check_routers_before_use`: a gateway counts only after it has answered.
    public var checkRoutersBeforeUse = false
    /// `lnet_drop_asym_route`: what comes by another gateway than ours is dropped.
    public var dropAsymmetricRoutes = false
    /// Messages that wait for credits or a connection to one peer, before sends fail.
    public var waitingMax = 65536
    /// Seed of the interface cookie in wire handles.
    public var seed: UInt64
    /// `sock_timeout`: half a message, or output that is not taken, for longer is a dead peer.
    public var lndTimeout = TickInterval.seconds(50)
    /// `accept_timeout`: how long a stranger may take for its hello.
    public var acceptTimeout = TickInterval.seconds(5)
    /// `keepalive`: a NOOP after this much silence of a peer.
    public var keepalive = TickInterval.seconds(30)
    /// `keepalive` of o2iblnd: a NOOP after this long without a message of ours.
    public var o2ibKeepalive = TickInterval.seconds(100)
    /// `min_reconnectms` and `max_reconnectms`: the pause after a failed attempt doubles between.
    public var reconnectMin = TickInterval.seconds(1)
    public var reconnectMax = TickInterval.seconds(60)

    /// Short pauses, for a node whose user pauses by itself: an import asks each partner once a second
    /// at most, and its CONNECT would wait here, unsent, until its own time was over. 10 to 500 ms.
    public mutating func reconnectQuickly() {
        reconnectMin = .milliseconds(10)
        reconnectMax = .milliseconds(500)
    }

    /// `lnet_transaction_timeout`: how long an ACK or REPLY is awaited.
    public var responseTimeout = TickInterval.seconds(150)
    /// Messages and bytes that all lazy portals together hold for want of a match entry.
    public var lazyMessagesMax = 4096
    public var lazyBytesMax = 16 << 20
    /// Peers that may exist because they connected to us.
    public var incomingPeersMax = 65536
    /// Memory that the arena of payloads, and the pool of output buffers, keep when idle.
    public var arenaBytesKept = 128 << 10
    public var outputBytesKept = 512 << 10
    /// What ping answers advertise beside what follows from `discovery` and `routing`.
    public var pingFeatures: PingInfo.Features = [.niStatus, .routingDisabled]

    public init(
        nid: NID, incarnation: UInt64, acceptPort: UInt16 = 988, privilegedPorts: Bool? = nil,
        seed: UInt64
    ) {
        self.nid = nid
        self.incarnation = incarnation
        self.acceptPort = acceptPort
        servicePort = acceptPort &- 1
        self.privilegedPorts = privilegedPorts ?? (acceptPort == 988)
        self.seed = seed
    }
}
