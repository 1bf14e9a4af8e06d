public import Primitives
public import WireFormat

extension LockServer {
    /// Gives a lock back, granted or waiting, and serves those who waited for it.
    @discardableResult
    public mutating func cancel(
        _ lock: SlotHandle, owner: LockOwner, now: Ticks
    ) -> CancelResult {
        if isSealed { return .sealed }
        guard let index = place(of: lock) else { return .unknown }
        guard self.owner(at: locks[Int(index)].owner) == owner,
            !locks[Int(index)].flags.contains(.reserved)
        else { return .notOwner }
        let resource = locks[Int(index)].resource
        let id = resources[Int(resource)].id
        dropLock(index)
        settle(resource, now: now)
        return .done(id)
    }

    /// Weakens a granted lock to a mode that its present one covers.
    @discardableResult
    public mutating func downgrade(
        _ lock: SlotHandle, owner: LockOwner, to mode: LockMode, now: Ticks
    ) -> CancelResult {
        if isSealed { return .sealed }
        guard let index = place(of: lock) else { return .unknown }
        let record = locks[Int(index)]
        guard self.owner(at: record.owner) == owner, !record.flags.contains(.reserved) else {
            return .notOwner
        }
        guard record.state == .granted, record.mode.covers(mode) else { return .badMode }
        let resource = Int(record.resource)
        forgetGranted(mode: record.mode, resource: resource)
        resources[resource].grantedCounts[mode.ordinal] += 1
        resources[resource].grantedModes |= UInt16(mode.rawValue)
        // The callback is answered; where the weaker mode is still in the way, a new one goes out.
        disarm(index)
        locks[Int(index)].mode = mode
        locks[Int(index)].flags.subtract([.blocked, .astSent, .withheld])
        reprocess(record.resource, now: now)
        callBackIfBlocked(index, now: now)
        return .done(resources[resource].id)
    }

    /// Removes all locks of an owner, reserved ones included: its export is gone. Serves those who
    /// waited. False, and nothing done, while sealed.
    @discardableResult
    public mutating func removeAll(_ owner: LockOwner, now: Ticks) -> Bool {
        removeLocks(of: owner, now: now) { _ in true }
    }

    /// Removes those locks of an owner that `isMeant` names, all of them before anybody is served.
    mutating func removeLocks(
        of owner: LockOwner, now: Ticks, where isMeant: (LockRecord) -> Bool
    ) -> Bool {
        if isSealed { return false }
        guard let slot = knownSlot(of: owner) else { return true }
        var at = owners[Int(slot)].locks.first
        while at >= 0 {
            let lock = locks[Int(at)]
            if isMeant(lock) {
                dropLock(at)
                if resources[Int(lock.resource)].nextFree == -2 {
                    resources[Int(lock.resource)].nextFree = -3
                    unsettled.append(lock.resource)
                }
            }
            at = lock.links[LockList.owner.rawValue].next
        }
        for resource in unsettled {
            resources[Int(resource)].nextFree = -2
            settle(resource, now: now)
        }
        unsettled.removeAll(keepingCapacity: true)
        return true
    }

    // MARK: Serving the queue

    /// After a lock is gone: grants what can be granted, and forgets an empty resource.
    mutating func settle(_ resource: Int32, now: Ticks) {
        if !resources[Int(resource)].waiting.isEmpty { reprocess(resource, now: now) }
        releaseIfEmpty(resource)
    }

    /// Grants each waiter that conflicts with no granted lock and no earlier waiter.
    mutating func reprocess(_ resource: Int32, now: Ticks) {
        if isRecovering, !isAdmission(resource) { return }
        newlyGranted.removeAll(keepingCapacity: true)
        // Modes of waiters that were passed over, by whether they want everything or a part.
        var wholeModes: UInt32 = 0
        var partModes: UInt32 = 0
        // Modes that may still be granted behind those who want everything.
        var permitted: UInt32 = .max
        var at = resources[Int(resource)].waiting.first
        while at >= 0 {
            let lock = locks[Int(at)]
            if isPassedOver(at, lock, wholeModes: wholeModes, partModes: partModes)
                || conflictsWithGranted(lock)
            {
                if lock.range == .whole {
                    wholeModes |= lock.mode.rawValue
                    permitted &= lock.mode.compatibleMask
                } else {
                    partModes |= lock.mode.rawValue
                }
                if UInt32(resources[Int(resource)].waitingModes) & permitted == 0 { break }
            } else {
                unlinkWaiting(at)
                grant(at)
                newlyGranted.append(at)
            }
            at = lock.next
        }
        for index in newlyGranted { announceGrant(index, now: now) }
    }

    /// Whether an earlier waiter that still waits conflicts with the one at `index`.
    private func isPassedOver(
        _ index: Int32, _ lock: LockRecord, wholeModes: UInt32, partModes: UInt32
    ) -> Bool {
        if wholeModes & ~lock.mode.compatibleMask != 0 { return true }
        guard LockRecord.mayConflict(lock.mode, wholeModes | partModes) else { return false }
        var at = resources[Int(lock.resource)].waiting.first
        while at >= 0, at != index {
            if locks[Int(at)].conflicts(with: lock) { return true }
            at = locks[Int(at)].next
        }
        return false
    }

    /// Tells the owner of a lock that it has it, and in the same message where it is in the way.
    private mutating func announceGrant(_ index: Int32, now: Ticks) {
        let blocker = firstConflictingWaiter(locks[Int(index)])
        let lock = locks[Int(index)]
        guard lock.owner != 0 else {
            actions.append(.granted(handle(of: index)))
            if blocker >= 0 { callBack(index, wanted: blocker, now: now) }
            return
        }
        var flags: LockFlags = []
        if blocker >= 0 {
            if isWithholding(lock.resource) {
                withhold(index)
            } else {
                locks[Int(index)].flags.formUnion([.blocked, .astSent])
                arm(index, now: now)
                flags = .astSent
            }
        }
        actions.append(
            .completionAST(
                lock: handle(of: index), owner: owner(at: lock.owner),
                clientCookie: lock.clientCookie, granted: descriptor(of: index), flags: flags))
    }
}
