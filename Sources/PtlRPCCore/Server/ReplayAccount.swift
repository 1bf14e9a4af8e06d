public import Primitives
public import WireFormat

/// What one client's part of a recovery came to: for the one line that an operator reads of it.
public struct ReplayAccount: Equatable, Sendable {
    /// When the client came back to this instance.
    public internal(set) var since = Ticks.zero
    /// Updates executed again.
    public internal(set) var executed: UInt32 = 0
    /// Updates that were on record or on disk already.
    public internal(set) var fromRecord: UInt32 = 0
    /// Of those executed, the ones that could not be done again.
    public internal(set) var failed: UInt32 = 0
    public internal(set) var opens: UInt32 = 0
    public internal(set) var locks: UInt32 = 0
    /// Of the updates executed; zero where there were none.
    public internal(set) var firstTransno = Transno.zero
    public internal(set) var lastTransno = Transno.zero

    public init() {}

    mutating func noteExecuted(_ transno: Transno) {
        executed &+= 1
        if firstTransno == .zero { firstTransno = transno }
        lastTransno = transno
    }
}
