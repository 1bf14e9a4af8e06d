public import Primitives
public import WireFormat

extension LockServer {
    /// Asks for a lock. Granted at once when it conflicts with no granted lock and no waiter;
    /// otherwise it waits, and those in its way are called back.
    ///
    /// An enqueue is known by owner and client cookie: sent again it tells how the lock stands.
    /// Constant time where no mode on the resource conflicts; else linear in the resource's locks.
    /// Flags that count: blockNoWait, noExpansion.
    public mutating func enqueue(
        owner: LockOwner, resource: ResourceID, mode: LockMode, policy: LockPolicy,
        clientCookie: UInt64, flags: LockFlags = [], now: Ticks
    ) -> EnqueueResult {
        if isSealed { return .without(.sealed, mode: mode, policy: policy) }
        if let known = known(owner, clientCookie, resource, mode) { return known }
        var lock = LockRecord()
        if let refusal = prepare(&lock, mode: mode, policy: policy) {
            return .without(.refused(refusal), mode: mode, policy: policy)
        }
        if flags.contains(.noExpansion) || owner.isLocal { lock.flags.insert(.noExpansion) }
        lock.owner = slot(of: owner)
        let place = findOrMake(resource)
        lock.resource = place

        // A granted one among the restored locks may still be unknown: nothing new until then.
        let mustWait = isRecovering && !resource.isAdmission
        if !mustWait, !conflictsWithGranted(lock), firstConflictingWaiter(lock) < 0 {
            let index = makeLock(lock)
            setCookie(index, clientCookie)
            grant(index)
            return result(of: index)
        }
        if flags.contains(.blockNoWait) {
            releaseIfEmpty(place)
            return .without(.wouldBlock, mode: mode, policy: policy)
        }
        let index = makeLock(lock)
        setCookie(index, clientCookie)
        linkWaiting(index)
        if !mustWait { callBackHolders(conflictingWith: index, now: now) }
        return result(of: index)
    }

    /// Takes up a lock that an earlier instance of the target knew.
    ///
    /// After a crash (`isRecovering`) a lock that the client holds is believed and made again,
    /// unless it excludes one made before. After a clean stop it is claimed from the reservations;
    /// one without a reservation was lost to somebody else, and so is what was cached under it.
    /// A lock that the client waits for, or never heard about, is enqueued again, or claimed where
    /// the grant was lost on its way. Enqueues resent to a new instance come here, too.
    public mutating func enqueueReplay(
        owner: LockOwner, resource: ResourceID, mode: LockMode, policy: LockPolicy,
        clientCookie: UInt64, isGranted: Bool, flags: LockFlags = [], now: Ticks
    ) -> EnqueueResult {
        if isSealed { return .without(.sealed, mode: mode, policy: policy) }
        if let known = known(owner, clientCookie, resource, mode) { return known }
        var lock = LockRecord()
        if let refusal = prepare(&lock, mode: mode, policy: policy) {
            return .without(.refused(refusal), mode: mode, policy: policy)
        }
        lock.owner = slot(of: owner)
        if let claimed = findReservation(resource, like: lock, exact: isGranted) {
            claim(claimed, clientCookie: clientCookie, now: now)
            return result(of: claimed)
        }
        guard isGranted else {
            return enqueue(
                owner: owner, resource: resource, mode: mode, policy: policy,
                clientCookie: clientCookie, flags: flags, now: now)
        }
        guard isRecovering else {
            return .without(.refused(.notReserved), mode: mode, policy: policy)
        }
        let place = findOrMake(resource)
        lock.resource = place
        if conflictsWithGranted(lock) {
            return .without(.refused(.conflictingReplay), mode: mode, policy: policy)
        }
        lock.flags.insert(.noExpansion)
        let index = makeLock(lock)
        setCookie(index, clientCookie)
        grant(index)
        return result(of: index)
    }

    /// After a crash: from now on granted locks are taken from replays, and new ones wait.
    public mutating func beginRecovery() { isRecovering = true }

    /// All clients have replayed or are given up: serves everybody who waits, in order.
    /// Linear in the resources.
    public mutating func finishRecovery(now: Ticks) {
        guard isRecovering else { return }
        isRecovering = false
        for place in resources.indices
        where resources[place].nextFree == -2 && !resources[place].waiting.isEmpty {
            reprocess(Int32(place), now: now)
            var at = resources[place].waiting.first
            while at >= 0 {
                callBackHolders(conflictingWith: at, now: now)
                at = locks[Int(at)].next
            }
        }
    }

    // MARK: Parts

    /// How the lock stands that this owner named so before.
    private func known(
        _ owner: LockOwner, _ cookie: UInt64, _ resource: ResourceID, _ mode: LockMode
    ) -> EnqueueResult? {
        guard !owner.isLocal, let slot = knownSlot(of: owner),
            let index = find(owner: slot, cookie: cookie)
        else { return nil }
        let lock = locks[Int(index)]
        guard resources[Int(lock.resource)].id == resource else {
            return .without(.refused(.cookieReused), mode: mode, policy: lock.policy)
        }
        return result(of: index)
    }

    /// Fills in mode and policy, or says why not.
    func prepare(
        _ lock: inout LockRecord, mode: LockMode, policy: LockPolicy
    ) -> EnqueueRefusal? {
        guard count < configuration.lockCountMax else { return .full }
        lock.mode = mode
        switch policy {
        case .plain:
            return nil
        case .extent(let extent, let group):
            guard extent.isValid else { return .badPolicy }
            lock.range = extent
            lock.group = mode == .group ? group : 0
            lock.flags.insert(.extent)
            return nil
        case .flock, .inodeBits:
            return .badPolicy
        }
    }

    func result(of index: Int32) -> EnqueueResult {
        let lock = locks[Int(index)]
        var flags: LockFlags = lock.state == .granted ? .blockGranted : .blockWait
        if lock.flags.contains(.changed) { flags.insert(.lockChanged) }
        if lock.flags.contains(.astSent) { flags.insert(.astSent) }
        return EnqueueResult(
            outcome: lock.state == .granted ? .granted : .waiting, lock: handle(of: index),
            mode: lock.mode, policy: lock.policy, flags: flags)
    }

    func conflictsWithGranted(_ lock: LockRecord) -> Bool {
        let resource = resources[Int(lock.resource)]
        let modes = UInt32(resource.grantedModes)
        guard LockRecord.mayConflict(lock.mode, modes) else { return false }
        // Over everything the mode alone decides: each range overlaps it.
        if lock.range == .whole, modes & ~lock.mode.compatibleMask != 0 { return true }
        var at = resource.granted.first
        while at >= 0 {
            if locks[Int(at)].conflicts(with: lock) { return true }
            at = locks[Int(at)].next
        }
        return false
    }

    /// The earliest waiter that cannot be granted beside `lock`, or -1.
    func firstConflictingWaiter(_ lock: LockRecord) -> Int32 {
        let resource = resources[Int(lock.resource)]
        guard LockRecord.mayConflict(lock.mode, UInt32(resource.waitingModes)) else { return -1 }
        var at = resource.waiting.first
        while at >= 0 {
            if locks[Int(at)].conflicts(with: lock) { return at }
            at = locks[Int(at)].next
        }
        return -1
    }

    /// Puts a lock that conflicts with nothing among the granted ones and lets its extent grow.
    mutating func grant(_ index: Int32) {
        let lock = locks[Int(index)]
        if lock.flags.contains(.extent), !lock.flags.contains(.noExpansion) {
            let grown = largestRange(around: lock)
            if grown != lock.range {
                locks[Int(index)].range = grown
                locks[Int(index)].flags.insert(.changed)
            }
        }
        linkGranted(index)
    }

    /// The widest range around a lock's own that meets neither holders nor waiters in its way.
    private func largestRange(around lock: LockRecord) -> Extent {
        let resource = resources[Int(lock.resource)]
        let modes = UInt32(resource.grantedModes | resource.waitingModes)
        guard LockRecord.mayConflict(lock.mode, modes) else { return .whole }
        var grown = Extent.whole
        for first in [resource.granted.first, resource.waiting.first] {
            var at = first
            while at >= 0 {
                var other = locks[Int(at)]
                let range = other.range
                other.range = .whole
                if other.conflicts(with: lock) {
                    if range.end < lock.range.start {
                        grown.start = max(grown.start, range.end + 1)
                    } else if range.start > lock.range.end {
                        grown.end = min(grown.end, range.start - 1)
                    } else {
                        // A later waiter wants this very range: growing would only annoy others.
                        return lock.range
                    }
                }
                at = locks[Int(at)].next
            }
        }
        return grown
    }
}
