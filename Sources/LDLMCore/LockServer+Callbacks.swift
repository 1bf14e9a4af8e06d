public import Primitives
public import WireFormat

extension LockServer {
    /// Gives the holder of a lock that is called back the full time again: it was seen to work.
    /// False where no timer runs for the lock and none has expired.
    @discardableResult
    public mutating func prolong(_ lock: SlotHandle, now: Ticks) -> Bool {
        guard let index = place(of: lock), locks[Int(index)].flags.contains(.astSent),
            !isAdmission(locks[Int(index)].resource)
        else { return false }
        disarm(index)
        arm(index, now: now)
        return true
    }

    /// An I/O request of `owner` on `range` has come: its locks there that are called back get the
    /// full time again. Gives their number. Linear in the locks of the owner or of the resource,
    /// whichever are fewer, and constant time while nobody waits for the resource.
    @discardableResult
    public mutating func prolong(
        _ owner: LockOwner, on resource: ResourceID, range: Extent, now: Ticks
    ) -> Int {
        guard !timers.isEmpty, let slot = knownSlot(of: owner), slot != 0,
            let place = find(resource)
        else { return 0 }
        let byOwner = owners[Int(slot)].count < resources[Int(place)].grantedCount
        let list = byOwner ? LockList.owner : .resource
        var count = 0
        var at = byOwner ? owners[Int(slot)].locks.first : resources[Int(place)].granted.first
        while at >= 0 {
            let lock = locks[Int(at)]
            if lock.owner == slot, lock.resource == place, lock.flags.contains(.armed),
                lock.span.overlaps(range)
            {
                disarm(at)
                arm(at, now: now)
                count += 1
            }
            at = lock.links[list.rawValue].next
        }
        counters.prolonged += UInt64(count)
        return count
    }

    /// The owner of a lock that is called back may have lost sight of it: it is asked again, and
    /// answers that there is no such lock, or goes on giving it back. Nothing where nobody waits.
    public mutating func callBackAgain(_ lock: SlotHandle) {
        guard let index = place(of: lock) else { return }
        let record = locks[Int(index)]
        guard record.flags.contains(.astSent), record.flags.contains(.armed), record.owner != 0,
            !isWithholding(record.resource)
        else { return }
        let blocker = waitingConflict(record)
        guard blocker >= 0 else { return }
        counters.blockingASTs += 1
        actions.append(
            .blockingAST(
                lock: lock, owner: owner(at: record.owner), clientCookie: record.clientCookie,
                wanted: description(of: blocker, to: record)))
    }

    /// When `tick` should be called next; nil while no timer runs.
    public var nextDeadline: Ticks? {
        guard !timers.isEmpty, suspendedSince == nil, !isSealed else { return nil }
        return Ticks(nanoseconds: locks[Int(timers.first)].moment) + pausedTotal
    }

    /// Reports every callback whose time is over, once; locks reserved for absent owners are
    /// taken from them here. Recomputes the pool, and calls locks back where there are too many.
    public mutating func tick(now: Ticks) {
        guard !isSealed else { return }
        pool.recompute(granted: count - waitingCount, now: now)
        guard suspendedSince == nil else { return }
        let clock = self.clock(now)
        while timers.first >= 0, locks[Int(timers.first)].moment <= clock {
            let index = timers.first
            disarm(index)
            let lock = locks[Int(index)]
            guard lock.flags.contains(.reserved) else {
                counters.expired += 1
                actions.append(
                    .callbackExpired(lock: handle(of: index), owner: owner(at: lock.owner)))
                continue
            }
            if waitingConflict(lock) < 0 {
                // Who wanted it has gone: it stays, and counts again from the next one.
                setBlocked(index, false)
                continue
            }
            actions.append(
                .reservationExpired(owner: owner(at: lock.owner), lock: descriptor(of: index)))
            dropLock(index)
            settle(lock.resource, now: now)
        }
        reclaim(now: now)
    }

    // MARK: Calling back

    /// Calls back every holder in the way of the waiter at `index` that was not yet called.
    mutating func callBackHolders(conflictingWith index: Int32, now: Ticks) {
        let wanted = locks[Int(index)]
        guard !wanted.flags.contains(.flock) else { return }
        forEachUncalledHolder(inTheWayOf: wanted) { server, holder in
            server.callBack(holder, wanted: index, now: now)
        }
    }

    /// Calls back the holder at `index` when it is in anybody's way and was not yet called.
    mutating func callBackIfBlocked(_ index: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        guard lock.state == .granted, !lock.flags.contains(.blocked),
            !lock.flags.contains(.flock)
        else { return }
        if isRecovering, !isAdmission(lock.resource) { return }
        let blocker = waitingConflict(lock)
        if blocker >= 0 { callBack(index, wanted: blocker, now: now) }
    }

    mutating func callBack(_ index: Int32, wanted: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        setBlocked(index, true)
        if lock.flags.contains(.reserved) {
            arm(index, now: now)
        } else if lock.owner == 0 || lock.flags.contains(.flock) {
            // The target's own locks are given back when their work is done, an announcement by
            // its abort; record locks when their owner says so.
        } else if isWithholding(lock.resource) {
            withhold(index)
        } else {
            markCalledBack(index, now: now)
            counters.blockingASTs += 1
            actions.append(
                .blockingAST(
                    lock: handle(of: index), owner: owner(at: lock.owner),
                    clientCookie: lock.clientCookie, wanted: description(of: wanted, to: lock)))
            if lock.flags.contains(.cancelOnBlock) { yielding.append(handle(of: index)) }
        }
    }

    /// From here on the time runs in which the owner has to give the lock back.
    mutating func markCalledBack(_ index: Int32, now: Ticks) {
        setBlocked(index, true)
        locks[Int(index)].flags.insert(.astSent)
        locks[Int(index)].calledBackAtMs = UInt32(truncatingIfNeeded: clock(now) / 1_000_000)
        arm(index, now: now)
    }

    func isWithholding(_ resource: Int32) -> Bool {
        suspendedSince != nil && !isAdmission(resource)
    }

    mutating func withhold(_ index: Int32) {
        setBlocked(index, true)
        locks[Int(index)].flags.insert(.withheld)
        // Locks that are gone meanwhile leave their entries here: keep what is still live.
        if withheld.count > 1024, withheld.count > 2 * count {
            var live = 0
            for entry in withheld where place(of: entry) != nil {
                withheld[live] = entry
                live += 1
            }
            withheld.removeLast(withheld.count - live)
        }
        withheld.append(handle(of: index))
    }

    func descriptor(of index: Int32) -> LockDescriptor {
        let lock = locks[Int(index)]
        return LockDescriptor(
            resource: resources[Int(lock.resource)].id, requestedMode: lock.mode,
            grantedMode: lock.state == .granted ? lock.mode : nil, policy: lock.policy)
    }

    /// The lock that is wanted, as a blocking AST describes it to who holds `held`: of inode bits it
    /// names those that have to go, so that the rest may be kept.
    private func description(of wanted: Int32, to held: LockRecord) -> LockDescriptor {
        var descriptor = descriptor(of: wanted)
        if case .inodeBits(let bits, _, let group, let initiator) = descriptor.policy {
            descriptor.policy = .inodeBits(
                bits, other: bits & held.range.start, group: group, initiator: initiator)
        }
        return descriptor
    }

    // MARK: Locks that yield

    /// Drops the CANCEL_ON_BLOCK locks in the way of `lock`; their owners are told.
    mutating func yieldHolders(to lock: LockRecord, now: Ticks) {
        var at = resources[Int(lock.resource)].granted.first
        while at >= 0 {
            let other = locks[Int(at)]
            if other.flags.contains(.cancelOnBlock), !other.flags.contains(.reserved),
                other.conflicts(with: lock)
            {
                counters.blockingASTs += 1
                let wanted = LockDescriptor(
                    resource: resources[Int(lock.resource)].id, requestedMode: lock.mode,
                    policy: lock.policy)
                actions.append(
                    .blockingAST(
                        lock: handle(of: at), owner: owner(at: other.owner),
                        clientCookie: other.clientCookie, wanted: wanted))
                yielding.append(handle(of: at))
            }
            at = other.next
        }
        dropYielding(keeping: lock.resource, now: now)
    }

    /// Takes the locks that go by themselves away and serves who waited for them. The resource
    /// `kept` stays in being, also without a lock.
    mutating func dropYielding(keeping kept: Int32 = -1, now: Ticks) {
        while let handle = yielding.popLast() {
            guard let index = place(of: handle) else { continue }
            let resource = locks[Int(index)].resource
            dropLock(index)
            reprocess(now: now)
            if resource != kept, resources[Int(resource)].nextFree == -2 {
                releaseIfEmpty(resource)
            }
        }
    }

    // MARK: Timers

    /// The namespace's own time in nanoseconds: that of the node less all suspensions.
    func clock(_ now: Ticks) -> UInt64 {
        let here = suspendedSince ?? now
        return (here - Ticks(nanoseconds: pausedTotal.nanoseconds)).nanoseconds
    }

    /// How long an owner has: `callbackTimeout`, or half more than it was seen to need.
    private func timeout(of owner: Int32) -> TickInterval {
        let seen = UInt64(owners[Int(owner)].callbackEstimateMs)
        return max(configuration.callbackTimeout, .microseconds(seen * 1500))
    }

    /// Starts the callback timer of a lock, unless nothing may ever be taken from its owner.
    /// Group locks have no timer: their groups may work for as long as they like.
    mutating func arm(_ index: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        let isForEver = lock.mode == .group && !lock.flags.contains(.reserved)
        if lock.owner == 0 || isForEver || isAdmission(lock.resource) { return }
        let deadline = (Ticks(nanoseconds: clock(now)) + timeout(of: lock.owner)).nanoseconds
        locks[Int(index)].moment = deadline
        locks[Int(index)].flags.insert(.armed)
        // Most run equally long and go last.
        var previous = timers.last
        while previous >= 0, locks[Int(previous)].moment > deadline {
            previous = locks[Int(previous)].links[LockList.timer.rawValue].previous
        }
        timers.insert(index, after: previous, in: &locks, .timer)
    }

    mutating func disarm(_ index: Int32) {
        guard locks[Int(index)].flags.contains(.armed) else { return }
        locks[Int(index)].flags.remove(.armed)
        timers.remove(index, in: &locks, .timer)
    }

    /// A called back lock is given back: how long that took.
    mutating func measureCallback(_ index: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        guard lock.flags.contains(.astSent), lock.owner != 0 else { return }
        let elapsed = UInt32(truncatingIfNeeded: clock(now) / 1_000_000) &- lock.calledBackAtMs
        let before = owners[Int(lock.owner)].callbackEstimateMs
        owners[Int(lock.owner)].callbackEstimateMs = max(elapsed, before - before / 8)
    }
}

extension LockRecord {
    /// Granted and called back: when, in ms of the namespace's own clock, modulo 2^32. Stands where
    /// a waiting lock has its blocker.
    var calledBackAtMs: UInt32 {
        get { UInt32(bitPattern: blocker) }
        set { blocker = Int32(bitPattern: newValue) }
    }
}
