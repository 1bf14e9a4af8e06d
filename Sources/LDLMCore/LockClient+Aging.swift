public import Primitives
internal import WireFormat

// Which unused locks go by themselves: too many, too old, or more than the target has room for.
extension LockClient {
    /// Time has passed: unused locks beyond their age, or beyond the server lock volume, are given
    /// back, the longest unused first. Constant time where none is.
    ///
    /// The volume of a lock is its unused age in seconds times the number of unused locks; one whose
    /// volume reaches the target's SLV goes (Lustre's `ldlm_cli_pool`, ldlm.md section 9).
    public mutating func advance(to now: Ticks) {
        self.now = max(self.now, now)
        while let oldest = oldestUnusedLock, let since = locks[oldest]?.unusedSince,
            isTooOld(since)
        {
            cancelUnused(keeping: unusedCount - 1)
        }
    }

    /// When `advance` may have something to do; nil without unused locks. It changes nothing: it is
    /// `mutating` so that it is asked in place.
    public mutating func dueNext() -> Ticks? {
        guard let oldest = oldestUnusedLock, let since = locks[oldest]?.unusedSince else {
            return nil
        }
        return since + min(unusedAgeMax, volumeAge)
    }

    private var volumeAge: TickInterval {
        guard serverLockVolume > 0, unusedCount > 0 else { return unusedAgeMax }
        let seconds = (serverLockVolume + UInt64(unusedCount) - 1) / UInt64(unusedCount)
        return .seconds(seconds)
    }

    private func isTooOld(_ since: Ticks) -> Bool {
        let age = now - since
        return age >= unusedAgeMax || age >= volumeAge
    }

    private var oldestUnusedLock: SlotHandle? {
        oldestUnused < 0 ? nil : locks.handle(at: Int(oldestUnused))
    }

    /// The locks that nobody uses, the longest unused first.
    public var unusedLocks: [SlotHandle] {
        var all: [SlotHandle] = []
        var at = oldestUnused
        while at >= 0, let lock = locks.handle(at: Int(at)), let record = locks[lock] {
            all.append(lock)
            at = record.newer
        }
        return all
    }

    /// Before a replay after a crash: these unused locks, under which nothing is still to be
    /// written, need not be told to a server that has forgotten them. They go without a cancel, and
    /// `.lost` says so.
    public mutating func dropBeforeReplay(_ unused: [SlotHandle]) {
        for lock in unused where locks[lock]?.isUnused == true { drop(lock, error: 0) }
    }

    /// LDLM_GL_CALLBACK: what the holder of a lock answers a glimpse with is the owner's to say;
    /// a lock that was not used for long is given back besides, so that the next one need not ask.
    public mutating func glimpsed(clientCookie: UInt64) -> LockEventResult {
        let lock = SlotHandle(rawValue: clientCookie)
        guard let record = locks[lock], record.state == .granted || record.state == .cancelling
        else { return .unknown }
        if record.isUnused, now - record.unusedSince >= glimpseIdleMax {
            removeFromUnused(lock)
            beginCancel(lock)
        }
        return .applied
    }
}
