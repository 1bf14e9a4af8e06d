internal import Primitives
internal import WireFormat

extension LockServer {
    /// Locks looked at in one round: bounds what a round costs.
    private static var reclaimBatch: Int { 1024 }

    /// Where more locks are granted than the low watermark allows, calls old ones back that nobody
    /// asked for, round after round. Above the high one (`lockCountMax`) enqueues are refused.
    mutating func reclaim(now: Ticks) {
        guard count - waitingCount > configuration.reclaimLockCount, !isRecovering else { return }
        let clock = clock(now)
        let age = configuration.reclaimAge.nanoseconds
        for _ in 0..<min(Self.reclaimBatch, locks.count) {
            if reclaimCursor >= locks.count { reclaimCursor = 0 }
            let index = Int32(reclaimCursor)
            reclaimCursor += 1
            let lock = locks[Int(index)]
            guard lock.state == .granted, lock.owner != 0,
                lock.flags.isDisjoint(with: [.blocked, .reserved, .flock, .armed]),
                lock.mode != .group, !isAdmission(lock.resource), lock.moment + age <= clock
            else { continue }
            counters.reclaimed += 1
            callBack(index, wanted: index, now: now)
        }
        dropYielding(now: now)
    }
}
