import LDLMCore
import Primitives
import Testing
import WireFormat

let epoch = Ticks.zero

func seconds(_ n: UInt64) -> Ticks { Ticks(nanoseconds: n * 1_000_000_000) }

func client(_ index: UInt32) -> LockOwner { LockOwner(index: index, generation: 1) }

/// An enqueue that came a second time has the answer of the first, and says that it was known.
func expectSameAnswer(
    _ again: EnqueueResult, as first: EnqueueResult,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(again.wasKnown, sourceLocation: sourceLocation)
    var answer = again
    answer.wasKnown = first.wasKnown
    #expect(answer == first, sourceLocation: sourceLocation)
}

extension LockServer {
    /// Empties `actions`.
    mutating func takeActions() -> [LockAction] {
        var all: [LockAction] = []
        while let action = actions.popFirst() { all.append(action) }
        return all
    }

    /// A plain enqueue at time 0.
    mutating func plain(
        _ owner: LockOwner, _ mode: LockMode, _ cookie: UInt64,
        on resource: ResourceID = ResourceID(1), now: Ticks = epoch
    ) -> EnqueueResult {
        enqueue(
            owner: owner, resource: resource, mode: mode, policy: .plain, clientCookie: cookie,
            now: now)
    }

    /// An enqueue of a byte range at time 0.
    mutating func range(
        _ owner: LockOwner, _ mode: LockMode, _ start: UInt64, _ end: UInt64, _ cookie: UInt64,
        flags: LockFlags = [], now: Ticks = epoch
    ) -> EnqueueResult {
        enqueue(
            owner: owner, resource: ResourceID(1), mode: mode,
            policy: .extent(Extent(start: start, end: end)), clientCookie: cookie, flags: flags,
            now: now)
    }
}

extension LockClient {
    /// Empties `actions`.
    mutating func takeActions() -> [LockClientAction] {
        var all: [LockClientAction] = []
        while let action = actions.popFirst() { all.append(action) }
        return all
    }
}

extension [LockAction] {
    /// Client cookies of the completion ASTs, in order.
    var completed: [UInt64] {
        compactMap {
            if case .completionAST(_, _, let cookie, _, _) = $0 { cookie } else { nil }
        }
    }

    /// Client cookies of the blocking ASTs, in order.
    var called: [UInt64] {
        compactMap { if case .blockingAST(_, _, let cookie, _) = $0 { cookie } else { nil } }
    }

    /// Client indices of the expired callbacks, in order.
    var expired: [UInt32] {
        compactMap { if case .callbackExpired(_, let owner) = $0 { owner.index } else { nil } }
    }
}

/// Whether two locks may not be held together: the rule written down a second time.
func conflict(_ a: LockInfo, _ b: LockInfo) -> Bool {
    conflict(a.mode, a.policy, b.mode, b.policy)
}

func conflict(_ a: LockMode, _ p: LockPolicy, _ b: LockMode, _ q: LockPolicy) -> Bool {
    switch (p, q) {
    case (.flock(_, let one, _), .flock(_, let other, _)) where one == other: return false
    case (.inodeBits(let some, _, _, _), .inodeBits(let others, _, _, _)):
        if some & others == 0 { return false }
    default:
        if p.range.end < q.range.start || q.range.end < p.range.start { return false }
    }
    switch (a, b) {
    case (.nl, _), (_, .nl): return false
    case (.cr, .cr), (.cr, .cw), (.cr, .pr), (.cr, .pw), (.cr, .txn): return false
    case (.cw, .cr), (.pr, .cr), (.pw, .cr), (.txn, .cr): return false
    case (.cw, .cw), (.pr, .pr), (.cos, .cos), (.txn, .txn): return false
    case (.pr, .txn), (.txn, .pr): return false
    case (.group, .group): return p.group != q.group
    default: return true
    }
}
