public import Primitives
public import WireFormat

/// One client as its server sees it; for status and for the owner's decisions.
public struct ExportSummary: Equatable, Sendable {
    public var index: UInt32
    public var uuid: String
    public var nid: NID
    public var version: ProtocolVersion
    public var features: Features
    /// Every XID up to this one has been answered, as the client says.
    public var lastXID: XID
    public var isConnected: Bool
    public var isObserver: Bool
    public var isFenced: Bool
    /// Its part of a recovery is not over.
    public var isRecovering: Bool
    /// Known from its record, and not seen in this instance.
    public var isAbsent: Bool
    public var requestCount: Int
    /// Where it stands in a recovery.
    public var standing: TargetShowReply.Standing
    /// What its part of the recovery has come to so far.
    public var replay: ReplayAccount
    /// When its last request came; zero where none has in this instance.
    public var lastHeard: Ticks
}
