/// An event that cannot happen in the state it met: a broken invariant of the caller, by name.
public struct UpgradeFault: Error, Equatable, Sendable, CustomStringConvertible {
    public var state: String
    public var event: String

    public var description: String { "\(event) is impossible while \(state)" }
}

/// What became of an event that is legal on a network.
@frozen
public enum StepOutcome: Equatable, Sendable {
    case taken
    /// Late, duplicated or without meaning here: nothing changed.
    case dropped(Drop)

    /// Why an event was dropped.
    @frozen
    public enum Drop: UInt8, Sendable, CaseIterable {
        /// It has been dealt with already.
        case duplicate
        /// What it speaks of is over.
        case late
        /// It names an upgrade that is not newer than what is known.
        case staleEpoch
        /// It answers something that was not asked.
        case notAsked
        /// The client was left behind: its word counts no more.
        case leftBehind
        /// The client has no part in announced upgrades.
        case notTakingPart
        /// No such client.
        case unknownClient
        /// Nothing is due yet.
        case nothingDue
    }
}
