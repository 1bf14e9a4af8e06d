/// A place in production code where a rare branch can be taken on purpose, so that it is taken often.
///
/// Each does what the code may do at any time anyway: earlier, later, twice, or the long way round. A
/// site that fires breaks no promise; one that seems to has found a bug.
public enum FaultSite: UInt8, CaseIterable, Sendable {
    /// NodeCore: a group goes to the disk although it is not due.
    case commitAtOnce
    /// NodeCore: a reply waits for its commit although it need not.
    case answerAfterCommit
    /// NodeCore: a create waits for objects although there are some.
    case waitForObjects
    /// NodeCore: the commit notice goes out twice.
    case repeatCommitNotice
    /// PtlRPCCore: a client pings although it has no reason to.
    case pingEarly
    /// PtlRPCCore: a client replays one request after the other, without a window.
    case narrowReplay
    /// LDLMCore: an extent is granted as it was asked for, not as large as it could be.
    case noExpansion
    /// UpgradeCore: the deadline of an upgrade passes early.
    case deadlineEarly
    /// ClientCore: dirty bytes are written back although they are young.
    case writeBackEarly
    /// ClientCore: locks that nobody uses are given back although there is room.
    case dropUnusedLocks
    /// ClientCore: clean bytes are forgotten although there is room.
    case dropCleanBytes
}

/// Which sites fire: never, unless the simulator has armed them. A value in each core that has sites;
/// unarmed, a site costs one branch on one word.
public struct FaultSites: Sendable {
    @usableFromInline var oneIn: UInt64 = 0
    @usableFromInline var random = SplitMix64(seed: 0)
    /// How often each has fired, by its number.
    public private(set) var hits = InlineArray<11, UInt32>(repeating: 0)

    /// Nothing ever fires.
    @inlinable
    public init() {}

    /// Each site fires once in `oneIn` passes on average; 0 for never.
    public init(seed: UInt64, oneIn: UInt64) {
        self.oneIn = oneIn
        random = SplitMix64(seed: seed)
    }

    /// Whether the site fires this time.
    @inlinable
    @inline(__always)
    public mutating func fires(_ site: FaultSite) -> Bool { oneIn != 0 && draw(site) }

    @usableFromInline
    mutating func draw(_ site: FaultSite) -> Bool {
        guard random.oneIn(oneIn) else { return false }
        hits[Int(site.rawValue)] &+= 1
        return true
    }
}
