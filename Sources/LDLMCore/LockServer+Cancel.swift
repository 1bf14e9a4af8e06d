public import Primitives
public import WireFormat

extension LockServer {
    /// Gives a lock back, granted or waiting, and serves those who waited for it.
    ///
    /// Of record locks only those that wait: one that is granted has become one with what its owner
    /// had beside it, and ranges are given up by their names. Such a cookie is `unknown`.
    @discardableResult
    public mutating func cancel(
        _ lock: SlotHandle, owner: LockOwner, now: Ticks
    ) -> CancelResult {
        if isSealed { return .sealed }
        guard let index = place(of: lock) else {
            counters.unknownCancels += 1
            return .unknown
        }
        guard isOwner(owner, of: index) else { return .notOwner }
        if locks[Int(index)].flags.contains(.flock), locks[Int(index)].state == .granted {
            counters.unknownCancels += 1
            return .unknown
        }
        let resource = locks[Int(index)].resource
        let id = resources[Int(resource)].id
        measureCallback(index, now: now)
        dropLock(index)
        counters.cancels += 1
        settle(resource, now: now)
        return .done(id)
    }

    /// Weakens a granted lock to a mode that its present one covers: LDLM_CONVERT of a mode.
    @discardableResult
    public mutating func downgrade(
        _ lock: SlotHandle, owner: LockOwner, to mode: LockMode, now: Ticks
    ) -> CancelResult {
        convert(lock, owner: owner, now: now) { record in
            guard record.mode.covers(mode), !record.flags.contains(.flock) else { return nil }
            return { $0.mode = mode }
        }
    }

    /// Gives some of a granted lock's inode bits back and keeps `bits`: LDLM_CONVERT of bits. A lock
    /// that keeps none is cancelled.
    @discardableResult
    public mutating func convert(
        _ lock: SlotHandle, owner: LockOwner, keeping bits: InodeBits, now: Ticks
    ) -> CancelResult {
        if bits.isEmpty { return cancel(lock, owner: owner, now: now) }
        return convert(lock, owner: owner, now: now) { record in
            guard record.flags.contains(.inodeBits), bits.rawValue & ~record.range.start == 0 else {
                return nil
            }
            return { $0.range.start = bits.rawValue }
        }
    }

    private mutating func convert(
        _ lock: SlotHandle, owner: LockOwner, now: Ticks,
        change: (LockRecord) -> ((inout LockRecord) -> Void)?
    ) -> CancelResult {
        if isSealed { return .sealed }
        guard let index = place(of: lock) else {
            counters.unknownCancels += 1
            return .unknown
        }
        guard isOwner(owner, of: index) else { return .notOwner }
        let record = locks[Int(index)]
        guard record.state == .granted, let change = change(record) else { return .badMode }
        measureCallback(index, now: now)
        // The callback is answered; where the weaker lock is still in the way, a new one goes out.
        disarm(index)
        reshape(index, change)
        setBlocked(index, false)
        locks[Int(index)].flags.subtract([.astSent, .withheld])
        counters.converts += 1
        detachAll(from: index)
        reprocess(now: now)
        callBackIfBlocked(index, now: now)
        let id = resources[Int(record.resource)].id
        dropYielding(now: now)
        return .done(id)
    }

    private mutating func isOwner(_ owner: LockOwner, of index: Int32) -> Bool {
        if self.owner(at: locks[Int(index)].owner) == owner,
            !locks[Int(index)].flags.contains(.reserved)
        {
            return true
        }
        counters.foreignCancels += 1
        return false
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
        let touched = unsettled
        unsettled.removeAll(keepingCapacity: true)
        for resource in touched { resources[Int(resource)].nextFree = -2 }
        for resource in touched { settle(resource, now: now) }
        return true
    }

    // MARK: Serving the queue

    /// After a lock is gone: grants what can be granted, and forgets an empty resource.
    mutating func settle(_ resource: Int32, now: Ticks) {
        reprocess(now: now)
        if !yielding.isEmpty { dropYielding(now: now) }
        if resources[Int(resource)].nextFree == -2 { releaseIfEmpty(resource) }
    }

    /// Looks at everybody whose blocker has gone, in order of arrival: who conflicts with no
    /// granted lock and no earlier waiter is granted; the others are attached anew.
    mutating func reprocess(now: Ticks) {
        guard !detached.isEmpty else { return }
        var granted = newlyGranted
        newlyGranted = []
        while !detached.isEmpty {
            var round = detached
            detached.removeAll(keepingCapacity: true)
            if round.count > 1 {
                round.sort { arrival($0) < arrival($1) }
            }
            for handle in round {
                guard let index = place(of: handle) else { continue }
                let lock = locks[Int(index)]
                guard lock.state == .waiting, lock.blocker < 0,
                    !isRecovering || isAdmission(lock.resource)
                else { continue }
                lookAgain(index, granted: &granted, now: now)
            }
        }
        for index in granted { announceGrant(index, now: now) }
        granted.removeAll(keepingCapacity: true)
        newlyGranted = granted
    }

    private func arrival(_ handle: SlotHandle) -> UInt64 {
        place(of: handle).map { locks[Int($0)].moment } ?? 0
    }

    private mutating func lookAgain(_ index: Int32, granted: inout [Int32], now: Ticks) {
        let lock = locks[Int(index)]
        let blocker = self.blocker(of: lock, behind: lock.previous)
        if blocker >= 0 {
            if lock.flags.contains(.flock), wouldDeadlock(lock) {
                refuseFlock(index)
            } else {
                attach(index, to: blocker)
            }
            return
        }
        unlinkWaiting(index)
        if lock.flags.contains(.flock) {
            // At once: it may become a part of another grant of its owner in the same round.
            completeFlock(index)
        } else {
            grant(index, now: now)
            granted.append(index)
        }
    }

    /// Whether a lock that is about to be told as granted has to say in the same message that
    /// somebody wants it back; counts as called back then.
    mutating func isInTheWay(_ index: Int32, now: Ticks) -> Bool {
        let lock = locks[Int(index)]
        guard waitingConflict(lock) >= 0 else { return false }
        if isWithholding(lock.resource) {
            withhold(index)
            return false
        }
        markCalledBack(index, now: now)
        return true
    }

    /// Tells the owner of a lock that it has it, and in the same message where it is in the way.
    private mutating func announceGrant(_ index: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        guard lock.state == .granted else { return }
        guard lock.owner != 0 else {
            actions.append(.granted(handle(of: index)))
            callBackIfBlocked(index, now: now)
            return
        }
        var flags: LockFlags = []
        if isInTheWay(index, now: now) { flags = .astSent }
        counters.completionASTs += 1
        actions.append(
            .completionAST(
                lock: handle(of: index), owner: owner(at: lock.owner),
                clientCookie: lock.clientCookie, granted: descriptor(of: index), flags: flags))
    }
}
