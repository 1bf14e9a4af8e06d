public import Primitives

/// The last states of a machine with the instants at which they began: for post-mortems.
///
/// After Lustre's `import_state_hist`. Keeps 16 entries; noting one is constant time.
public struct StateRing<State: Sendable & Equatable>: Sendable {
    /// A state and when it began.
    public struct Entry: Sendable, Equatable {
        public var state: State
        public var since: Ticks
    }

    public static var capacity: Int { 16 }

    private var ring: [Entry] = []
    private var next = 0

    init() {}

    mutating func note(_ state: State, at now: Ticks) {
        let entry = Entry(state: state, since: now)
        if ring.count < Self.capacity {
            ring.append(entry)
        } else {
            ring[next] = entry
            next = (next + 1) % Self.capacity
        }
    }

    /// Oldest first.
    public var entries: [Entry] { Array(ring[next...] + ring[..<next]) }
}
