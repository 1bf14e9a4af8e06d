public import Primitives
public import WireFormat

/// What one target's RPC server is told at its start.
public struct RPCServerConfiguration: Sendable {
    /// The name that clients ask for in their connects.
    public var targetName: String
    public var kind: TargetKind
    /// Grows with each start of the target; a part of every export handle.
    public var instance: UInt64
    public var versions: ClosedRange<ProtocolVersion> = ProtocolVersion.supported
    public var features: Features = .supported
    /// Exports that may exist at once: their indices are below.
    public var exportCountMax = 65_536
    /// Connects that wait for the start of a standby.
    public var parkedConnectCountMax = 65_536
    /// Requests of one export that are under way; one more is told to try again.
    public var requestCountMax = 128
    /// Requests of one recovering export that are under way or queued for their turn.
    public var replayCountMax = 4096
    /// Requests to one client that await their answer.
    public var callbackCountMax = 4096
    /// A saved reply that is longer is kept without its body.
    public var savedReplyByteCountMax = 16 * 1024
    /// The longest request: an inline write and its headers fit with room to spare.
    public var requestByteCountMax = 64 * 1024
    /// How long the answer to a request to a client is awaited before it is sent again.
    public var callbackTimeout = TickInterval.seconds(5)
    /// How often it is sent again before it counts as failed.
    public var callbackResendCount = 3
    /// How long one stage of a recovery waits for a client that is silent (soft window).
    public var recoveryWindow = TickInterval.seconds(30)
    /// How long a recovery may last from its first client on, whatever the clients say (hard
    /// window): three times the soft one, as in Lustre. Then whoever holds up the others goes; after
    /// twice this, whoever is not done.
    public var recoveryLimit = TickInterval.seconds(90)
    /// Says how long service takes, and "still at it" before a deadline. Nil for neither.
    public var adaptive: AdaptiveTimeouts? = AdaptiveTimeouts()
    /// A client that said nothing for this long is evicted, while others are heard (Lustre's ping
    /// evictor). Nil for never.
    public var silenceMax: TickInterval?
    /// The top byte of this server's cookies in LNet: events with another belong to other users.
    public var cookieTag: UInt8 = 0x53
    /// The deliberate bug, where a test asks for one.
    public var mutation = Mutation.none

    public init(targetName: String, kind: TargetKind, instance: UInt64) {
        self.targetName = targetName
        self.kind = kind
        self.instance = instance
    }
}
