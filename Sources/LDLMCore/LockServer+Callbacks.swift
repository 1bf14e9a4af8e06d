public import Primitives
internal import WireFormat

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

    /// When `tick` should be called next; nil while no timer runs.
    public var nextDeadline: Ticks? {
        guard !timers.isEmpty, suspendedSince == nil, !isSealed else { return nil }
        return Ticks(nanoseconds: locks[Int(timers.first)].deadline) + pausedTotal
    }

    /// Reports every callback whose time is over, once; locks reserved for absent owners are
    /// taken from them here.
    public mutating func tick(now: Ticks) {
        guard suspendedSince == nil, !isSealed else { return }
        let clock = self.clock(now)
        while timers.first >= 0, locks[Int(timers.first)].deadline <= clock {
            let index = timers.first
            disarm(index)
            let lock = locks[Int(index)]
            guard lock.flags.contains(.reserved) else {
                actions.append(
                    .callbackExpired(lock: handle(of: index), owner: owner(at: lock.owner)))
                continue
            }
            if firstConflictingWaiter(lock) < 0 {
                // Who wanted it has gone: it stays, and counts again from the next one.
                locks[Int(index)].flags.remove(.blocked)
                continue
            }
            actions.append(
                .reservationExpired(owner: owner(at: lock.owner), lock: descriptor(of: index)))
            dropLock(index)
            settle(lock.resource, now: now)
        }
    }

    // MARK: Calling back

    /// Calls back every holder in the way of the waiter at `index` that was not yet called.
    mutating func callBackHolders(conflictingWith index: Int32, now: Ticks) {
        let wanted = locks[Int(index)]
        let resource = resources[Int(wanted.resource)]
        guard LockRecord.mayConflict(wanted.mode, UInt32(resource.grantedModes)) else { return }
        var at = resource.granted.first
        while at >= 0 {
            if !locks[Int(at)].flags.contains(.blocked), locks[Int(at)].conflicts(with: wanted) {
                callBack(at, wanted: index, now: now)
            }
            at = locks[Int(at)].next
        }
    }

    /// Calls back the holder at `index` when it is in anybody's way and was not yet called.
    mutating func callBackIfBlocked(_ index: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        guard lock.state == .granted, !lock.flags.contains(.blocked) else { return }
        if isRecovering, !isAdmission(lock.resource) { return }
        let blocker = firstConflictingWaiter(lock)
        if blocker >= 0 { callBack(index, wanted: blocker, now: now) }
    }

    mutating func callBack(_ index: Int32, wanted: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        if lock.flags.contains(.reserved) {
            locks[Int(index)].flags.insert(.blocked)
            arm(index, now: now)
        } else if lock.owner == 0, isAdmission(lock.resource) {
            // The announcement stands until the target itself aborts it: nobody calls it back.
            locks[Int(index)].flags.insert(.blocked)
        } else if isWithholding(lock.resource) {
            withhold(index)
        } else {
            locks[Int(index)].flags.formUnion([.blocked, .astSent])
            arm(index, now: now)
            actions.append(
                .blockingAST(
                    lock: handle(of: index), owner: owner(at: lock.owner),
                    clientCookie: lock.clientCookie, wanted: descriptor(of: wanted)))
        }
    }

    func isWithholding(_ resource: Int32) -> Bool {
        suspendedSince != nil && !isAdmission(resource)
    }

    mutating func withhold(_ index: Int32) {
        locks[Int(index)].flags.formUnion([.blocked, .withheld])
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

    // MARK: Timers

    /// The namespace's own time in nanoseconds: that of the node less all suspensions.
    private func clock(_ now: Ticks) -> UInt64 {
        let here = suspendedSince ?? now
        return (here - Ticks(nanoseconds: pausedTotal.nanoseconds)).nanoseconds
    }

    /// Starts the callback timer of a lock, unless nothing may ever be taken from its owner.
    mutating func arm(_ index: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        if lock.owner == 0 || isAdmission(lock.resource) { return }
        let deadline = Ticks(nanoseconds: clock(now)) + configuration.callbackTimeout
        locks[Int(index)].deadline = deadline.nanoseconds
        locks[Int(index)].flags.insert(.armed)
        timers.append(index, in: &locks, .timer)
    }

    mutating func disarm(_ index: Int32) {
        guard locks[Int(index)].flags.contains(.armed) else { return }
        locks[Int(index)].flags.remove(.armed)
        timers.remove(index, in: &locks, .timer)
    }
}
