internal import WireFormat

// Who is in whose way. Lists of a few, trees of many; both give the same answers.
extension LockServer {
    /// How far back a waiter looks for one that it can queue behind before it looks at holders: in
    /// a queue of rivals the first step is enough, and then everybody is served in one step.
    private static var lookBackMax: Int { 32 }

    /// A granted lock in the way of `lock`, or -1.
    func grantedConflict(_ lock: LockRecord) -> Int32 {
        let resource = resources[Int(lock.resource)]
        guard LockRecord.mayConflict(lock.mode, UInt32(resource.grantedModes)) else { return -1 }
        if resource.trees >= 0 {
            return conflict(lock, in: roots[Int(resource.trees)].granted, below: .max)
        }
        var at = resource.granted.last
        while at >= 0 {
            if locks[Int(at)].conflicts(with: lock) { return at }
            at = locks[Int(at)].previous
        }
        return -1
    }

    /// A waiter in the way of `lock` or for which it is in the way, or -1.
    func waitingConflict(_ lock: LockRecord) -> Int32 {
        let resource = resources[Int(lock.resource)]
        guard LockRecord.mayConflict(lock.mode, UInt32(resource.waitingModes)) else { return -1 }
        if resource.trees >= 0 {
            return conflict(lock, in: roots[Int(resource.trees)].waiting, below: .max)
        }
        var at = resource.waiting.first
        while at >= 0 {
            if locks[Int(at)].conflicts(with: lock) { return at }
            at = locks[Int(at)].next
        }
        return -1
    }

    /// A lock in the way of one that stands, or would stand, behind the waiter `previous`: -1 where
    /// it can be granted.
    func blocker(of lock: LockRecord, behind previous: Int32) -> Int32 {
        let resource = resources[Int(lock.resource)]
        guard !lock.flags.contains(.flock),
            LockRecord.mayConflict(lock.mode, UInt32(resource.waitingModes)),
            !joinsItsGroup(lock)
        else { return grantedConflict(lock) }
        var at = previous
        var left = Self.lookBackMax
        while at >= 0, left > 0 {
            if locks[Int(at)].conflicts(with: lock) { return at }
            at = locks[Int(at)].previous
            left -= 1
        }
        let granted = grantedConflict(lock)
        if granted >= 0 || at < 0 { return granted }
        if resource.trees >= 0 {
            return conflict(
                lock, in: roots[Int(resource.trees)].waiting, below: locks[Int(at)].moment + 1)
        }
        while at >= 0 {
            if locks[Int(at)].conflicts(with: lock) { return at }
            at = locks[Int(at)].previous
        }
        return -1
    }

    /// Whether a group lock meets one of its own group that is granted: then it does not queue,
    /// since its group will not make room before its work is done.
    private func joinsItsGroup(_ lock: LockRecord) -> Bool {
        let resource = resources[Int(lock.resource)]
        guard lock.mode == .group, resource.grantedCounts[LockMode.group.ordinal] > 0 else {
            return false
        }
        func isMate(_ index: Int32) -> Bool {
            let other = locks[Int(index)]
            guard other.mode == .group, other.tag == lock.tag else { return false }
            return lock.flags.contains(.inodeBits)
                ? other.range.start & lock.range.start != 0 : other.range.overlaps(lock.range)
        }
        if resource.trees >= 0 {
            return trees.first(
                under: roots[Int(resource.trees)].granted[LockMode.group.ordinal],
                meeting: lock.span, below: .max, where: isMate) >= 0
        }
        var at = resource.granted.first
        while at >= 0 {
            if isMate(at) { return true }
            at = locks[Int(at)].next
        }
        return false
    }

    /// The first of those in the trees `roots` that is in the way and whose mark is below `limit`.
    func conflict(
        _ lock: LockRecord, in roots: InlineArray<9, Int32>, below limit: UInt64
    ) -> Int32 {
        var modes = LockRecord.rivals(of: lock.mode)
        while modes != 0 {
            let ordinal = modes.trailingZeroBitCount
            modes &= modes - 1
            let found = trees.first(
                under: roots[ordinal], meeting: lock.span, below: limit
            ) { locks[Int($0)].conflicts(with: lock) }
            if found >= 0 { return found }
        }
        return -1
    }

    /// Calls `body` for every granted lock in the way of `lock` that was not called back yet.
    mutating func forEachUncalledHolder(
        inTheWayOf lock: LockRecord, _ body: (inout LockServer, Int32) -> Void
    ) {
        let resource = resources[Int(lock.resource)]
        guard LockRecord.mayConflict(lock.mode, UInt32(resource.grantedModes)) else { return }
        if resource.trees >= 0 {
            // Each one found is marked, so that the next search finds another.
            while true {
                let found = conflict(lock, in: roots[Int(resource.trees)].granted, below: 1)
                guard found >= 0 else { return }
                body(&self, found)
                precondition(
                    locks[Int(found)].flags.contains(.blocked), "who is called back is marked")
            }
        }
        var at = resource.granted.first
        while at >= 0 {
            let next = locks[Int(at)].next
            if !locks[Int(at)].flags.contains(.blocked), locks[Int(at)].conflicts(with: lock) {
                body(&self, at)
            }
            at = next
        }
    }

    // MARK: Growth

    /// Beyond this many rivals on a resource writers' extents grow by `contendedGrowth` at most:
    /// what Lustre does with more than 32 conflicting locks.
    private static var growthRivalsMax: UInt32 { 32 }
    /// 32 MiB, LDLM_MAX_GROWN_EXTENT.
    private static var contendedGrowth: UInt64 { 32 << 20 }

    /// The widest range around a lock's own that meets neither holders nor waiters in its way.
    func largestRange(around lock: LockRecord) -> Extent {
        let resource = resources[Int(lock.resource)]
        let modes = UInt32(resource.grantedModes | resource.waitingModes)
        guard LockRecord.mayConflict(lock.mode, modes) else { return .whole }
        guard var grown = freeRange(around: lock, resource) else { return lock.range }
        if lock.mode == .pw || lock.mode == .cw,
            rivalCount(of: lock, resource) > Self.growthRivalsMax
        {
            grown.start = lock.range.start
            let (limit, overflow) = lock.range.start.addingReportingOverflow(
                Self.contendedGrowth - 1)
            if !overflow { grown.end = max(lock.range.end, min(grown.end, limit)) }
        }
        return Self.aligned(grown, around: lock.range)
    }

    private func rivalCount(of lock: LockRecord, _ resource: ResourceRecord) -> UInt32 {
        var modes = LockRecord.rivals(of: lock.mode)
        var count = resource.waitingCount
        while modes != 0 {
            count += resource.grantedCounts[modes.trailingZeroBitCount]
            modes &= modes - 1
        }
        return count
    }

    /// Upwards to the next rival, and downwards only where there is none: files are worked through
    /// upwards, and who works below would soon want the gap. Nil where a waiter wants this very
    /// range: growing would only annoy others.
    private func freeRange(around lock: LockRecord, _ resource: ResourceRecord) -> Extent? {
        var grown = Extent.whole
        if resource.trees >= 0 {
            var modes = LockRecord.rivals(of: lock.mode)
            while modes != 0 {
                let ordinal = modes.trailingZeroBitCount
                modes &= modes - 1
                for root in [
                    roots[Int(resource.trees)].granted[ordinal],
                    roots[Int(resource.trees)].waiting[ordinal],
                ] where root >= 0 {
                    if let end = trees.greatestEnd(under: root, startingBefore: lock.range.start) {
                        if end >= lock.range.start { return nil }
                        grown.start = lock.range.start
                    }
                    if trees.first(
                        under: root, meeting: lock.range, below: .max, where: { _ in true })
                        >= 0
                    {
                        return nil
                    }
                    if let start = trees.smallestStart(under: root, above: lock.range.end) {
                        grown.end = min(grown.end, start - 1)
                    }
                }
            }
            return grown
        }
        for first in [resource.granted.first, resource.waiting.first] {
            var at = first
            while at >= 0 {
                let other = locks[Int(at)]
                at = other.next
                guard LockRecord.rivals(of: lock.mode) & other.mode.rawValue != 0 else { continue }
                if other.range.end < lock.range.start {
                    grown.start = lock.range.start
                } else if other.range.start > lock.range.end {
                    grown.end = min(grown.end, other.range.start - 1)
                } else {
                    return nil
                }
            }
        }
        return grown
    }

    /// Borders on pages where the request's own are: what clients cache are pages.
    private static func aligned(_ grown: Extent, around asked: Extent) -> Extent {
        let mask: UInt64 = 4095
        var result = grown
        if asked.start & mask == 0, let rounded = roundedUp(grown.start, mask) {
            result.start = min(rounded, asked.start)
        }
        if asked.end & mask == mask, grown.end & mask != mask, grown.end > mask {
            result.end = max((grown.end & ~mask) - 1, asked.end)
        }
        return result
    }

    private static func roundedUp(_ value: UInt64, _ mask: UInt64) -> UInt64? {
        let (sum, overflow) = value.addingReportingOverflow(mask)
        return overflow ? nil : sum & ~mask
    }

    /// Those of the bits that would be welcome which nobody holds or wants otherwise.
    func freeBits(of lock: LockRecord) -> UInt64 {
        let resource = resources[Int(lock.resource)]
        var free = lock.range.end & ~lock.range.start
        for first in [resource.granted.first, resource.waiting.first] {
            var at = first
            while at >= 0, free != 0 {
                let other = locks[Int(at)]
                if LockRecord.rivals(of: lock.mode) & other.mode.rawValue != 0 {
                    free &= ~other.range.start
                }
                at = other.next
            }
        }
        return free
    }
}
