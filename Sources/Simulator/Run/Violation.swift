/// A property that did not hold, and where.
public struct Violation: Error, Sendable, Hashable, CustomStringConvertible {
    /// What is promised, by name (see the article).
    public enum Property: String, Sendable, CaseIterable {
        case acknowledgedUpdateLost = "no acknowledged update is lost"
        case updateRepeated = "no update is executed twice"
        case wrongBytes = "a client reads what it wrote"
        case notLinearizable = "reads and writes of a register have one order"
        case conflictingLocks = "no two clients hold conflicting locks"
        case invariantA = "A: an update begins only through an open gate"
        case invariantB = "B: where EX is granted every client is prepared, synchronous or fenced"
        case cleanRecord = "a clean record is true"
        case committedTooEarly = "what is told as committed is on disk"
        case operationFailed = "no operation fails"
        case evicted = "no client that can be reached is evicted"
        case startRefused = "a target starts again"
        case startAccepted = "an unclean store is refused to other versions"
        case forgotten = "a forgotten gate lifts itself"
        case notLive = "when faults stop, everything comes to its end"
        case trap = "no invariant of the code is broken"
    }

    public var property: Property
    public var detail: String

    public init(_ property: Property, _ detail: String) {
        self.property = property
        self.detail = detail
    }

    public var description: String { "\(property.rawValue): \(detail)" }
}
