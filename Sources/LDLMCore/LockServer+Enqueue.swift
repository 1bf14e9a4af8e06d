public import Primitives
public import WireFormat

extension LockServer {
    /// Asks for a lock. Granted at once when it conflicts with no granted lock and no waiter;
    /// otherwise it waits, and those in its way are called back.
    ///
    /// An enqueue is known by owner and client cookie: sent again it tells how the lock stands.
    /// Constant time where no mode on the resource conflicts; logarithmic in the resource's locks
    /// beside as many callbacks as go out. Flags that count: blockNoWait, speculative, testLock,
    /// denyOnContention, cancelOnBlock, noExpansion; others than `allowedInEnqueue` are refused.
    public mutating func enqueue(
        owner: LockOwner, resource: ResourceID, mode: LockMode, policy: LockPolicy,
        clientCookie: UInt64, flags: LockFlags = [], now: Ticks
    ) -> EnqueueResult {
        if isSealed { return .without(.sealed, mode: mode, policy: policy) }
        counters.enqueues += 1
        if let known = known(owner, clientCookie, resource, mode) { return known }
        var lock = LockRecord()
        if let refusal = prepare(&lock, owner, mode: mode, policy: policy, flags: flags) {
            return refuse(refusal, mode: mode, policy: policy)
        }
        if lock.flags.contains(.flock) {
            return enqueueFlock(
                lock, on: resource, clientCookie: clientCookie, flags: flags, now: now)
        }
        guard let place = place(for: &lock, on: resource) else {
            return refuse(.badPolicy, mode: mode, policy: policy)
        }
        // A granted one among the restored locks may still be unknown: nothing new until then.
        let mustWait = isRecovering && !resource.isAdmission
        var blocker: Int32 = -1
        if !mustWait {
            blocker = self.blocker(of: lock, behind: resources[Int(place)].waiting.last)
            if configuration.mutation.is(.grantsPastWaiters), mode == .cr {
                blocker = grantedConflict(lock)
            } else if configuration.mutation.is(.ignoresConflicts), mode == .pr {
                blocker = -1
            }
            if blocker >= 0, cancelOnBlockCount > 0, !isWithholding(place) {
                yieldHolders(to: lock, now: now)
                blocker = self.blocker(of: lock, behind: resources[Int(place)].waiting.last)
            }
        }
        if flags.contains(.testLock) {
            defer { releaseIfEmpty(place) }
            return tested(lock, blocker: mustWait ? nil : blocker, mode: mode, policy: policy)
        }
        if !mustWait, blocker < 0, hasWhatItAskedFor(lock) {
            let index = makeLock(lock)
            setCookie(index, clientCookie)
            grant(index, now: now)
            if lock.mode == .group {
                _ = isInTheWay(index, now: now)
                reprocess(now: now)
            }
            return result(of: index)
        }
        let mayWait = flags.isDisjoint(with: [.blockNoWait, .speculative]) && blocker >= 0
        guard mayWait || mustWait else {
            releaseIfEmpty(place)
            counters.wouldBlock += 1
            return .without(.wouldBlock, mode: mode, policy: policy)
        }
        noteContention(on: place, now: now)
        if flags.contains(.denyOnContention), isContended(place, now: now) {
            releaseIfEmpty(place)
            return refuse(.contended, mode: mode, policy: policy)
        }
        // Who has to wait has a neighbour at work there: grown over it, each would take it from the
        // other again with every request.
        if lock.flags.contains(.extent), !mustWait { lock.flags.insert(.noExpansion) }
        let index = makeLock(lock)
        setCookie(index, clientCookie)
        linkWaiting(index)
        if !mustWait {
            attach(index, to: blocker)
            callBackHolders(conflictingWith: index, now: now)
        }
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
        if let refusal = prepare(&lock, owner, mode: mode, policy: policy, flags: flags) {
            return refuse(refusal, mode: mode, policy: policy)
        }
        if let claimed = findReservation(resource, like: lock, exact: isGranted) {
            claim(claimed, clientCookie: clientCookie, now: now)
            return result(of: claimed)
        }
        guard isGranted, !configuration.mutation.is(.replayedLocksWait) else {
            return enqueue(
                owner: owner, resource: resource, mode: mode, policy: policy,
                clientCookie: clientCookie,
                flags: flags.subtracting([.replay, .blockWait, .blockGranted]), now: now)
        }
        guard isRecovering else { return refuse(.notReserved, mode: mode, policy: policy) }
        guard place(for: &lock, on: resource) != nil else {
            return refuse(.badPolicy, mode: mode, policy: policy)
        }
        if grantedConflict(lock) >= 0 {
            return refuse(.conflictingReplay, mode: mode, policy: policy)
        }
        lock.flags.insert(.noExpansion)
        let index = makeLock(lock)
        setCookie(index, clientCookie)
        counters.replayed += 1
        if lock.flags.contains(.flock) {
            grantFlock(index)
        } else {
            grant(index, now: now)
        }
        reprocess(now: now)
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
            var at = resources[place].waiting.first
            while at >= 0 {
                if locks[Int(at)].blocker < 0 { detached.append(handle(of: at)) }
                at = locks[Int(at)].next
            }
            reprocess(now: now)
            at = resources[place].waiting.first
            while at >= 0 {
                let next = locks[Int(at)].next
                callBackHolders(conflictingWith: at, now: now)
                at = next
            }
            dropYielding(now: now)
            if resources[place].nextFree == -2 { releaseIfEmpty(Int32(place)) }
        }
    }

    // MARK: Parts

    /// How the lock stands that this owner named so before.
    func known(
        _ owner: LockOwner, _ cookie: UInt64, _ resource: ResourceID, _ mode: LockMode
    ) -> EnqueueResult? {
        guard !owner.isLocal, let slot = knownSlot(of: owner),
            let index = find(owner: slot, cookie: cookie)
        else { return nil }
        let lock = locks[Int(index)]
        guard resources[Int(lock.resource)].id == resource else {
            return .without(.refused(.cookieReused), mode: mode, policy: lock.policy)
        }
        var result = result(of: index)
        result.wasKnown = true
        return result
    }

    mutating func refuse(
        _ refusal: EnqueueRefusal, mode: LockMode, policy: LockPolicy
    ) -> EnqueueResult {
        counters.refused += 1
        return .without(.refused(refusal), mode: mode, policy: policy)
    }

    /// Fills in owner, mode, policy and flags, or says why not.
    mutating func prepare(
        _ lock: inout LockRecord, _ owner: LockOwner, mode: LockMode, policy: LockPolicy,
        flags: LockFlags
    ) -> EnqueueRefusal? {
        guard flags.isSubset(of: .allowedInEnqueue) else { return .badFlags }
        guard count < configuration.lockCountMax else { return .full }
        lock.owner = slot(of: owner)
        if lock.owner != 0, owners[Int(lock.owner)].count >= configuration.ownerLockCountMax {
            return .full
        }
        lock.mode = mode
        if flags.contains(.noExpansion) || lock.owner == 0 { lock.flags.insert(.noExpansion) }
        if flags.contains(.cancelOnBlock), lock.owner != 0 { lock.flags.insert(.cancelOnBlock) }
        switch policy {
        case .plain:
            return nil
        case .extent(let extent, let group):
            guard extent.isValid else { return .badPolicy }
            lock.range = extent
            lock.tag = mode == .group ? group : 0
            lock.flags.insert(.extent)
            return nil
        case .inodeBits(let bits, let welcome, let group, let initiator):
            guard (bits | welcome) & ~InodeBits.known.rawValue == 0, bits | welcome != 0 else {
                return .badPolicy
            }
            lock.range = Extent(start: bits, end: welcome)
            lock.tag = mode == .group ? group : 0
            lock.process = initiator
            lock.flags.insert(.inodeBits)
            return nil
        case .flock(let extent, let flockOwner, let process):
            guard extent.isValid, mode == .pr || mode == .pw || mode == .ex || mode == .nl else {
                return .badPolicy
            }
            lock.range = extent
            lock.tag = flockOwner
            lock.process = process
            // Nobody calls a record lock back.
            lock.flags = .flock
            return nil
        }
    }

    /// The resource of a prepared lock, made where it is new; nil where it is of another kind.
    mutating func place(for lock: inout LockRecord, on id: ResourceID) -> Int32? {
        let kind = lock.flags.intersection(.kinds)
        let place = findOrMake(id, kind: kind)
        guard resources[Int(place)].kind == kind else { return nil }
        lock.resource = place
        return place
    }

    /// False where only bits that would be welcome are asked for and none of them is free.
    private func hasWhatItAskedFor(_ lock: LockRecord) -> Bool {
        !lock.flags.contains(.inodeBits) || lock.range.start != 0 || freeBits(of: lock) != 0
    }

    private func tested(
        _ lock: LockRecord, blocker: Int32?, mode: LockMode, policy: LockPolicy
    ) -> EnqueueResult {
        guard let blocker, blocker < 0 else {
            var result = EnqueueResult.without(.tested, mode: mode, policy: policy)
            if let blocker {
                result.mode = locks[Int(blocker)].mode
                result.policy = locks[Int(blocker)].policy
            }
            result.flags = .blockWait
            return result
        }
        var result = EnqueueResult.without(.tested, mode: .nl, policy: policy)
        result.flags = .blockGranted
        return result
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

    /// Puts a lock that conflicts with nothing among the granted ones and lets it grow.
    mutating func grant(_ index: Int32, now: Ticks) {
        let lock = locks[Int(index)]
        if lock.flags.contains(.extent), !lock.flags.contains(.noExpansion),
            !sites.fires(.noExpansion)
        {
            let grown = largestRange(around: lock)
            if grown != lock.range {
                locks[Int(index)].range = grown
                locks[Int(index)].flags.insert(.changed)
            }
        }
        if lock.flags.contains(.inodeBits), lock.range.end != 0 {
            locks[Int(index)].range.start |= freeBits(of: lock)
            locks[Int(index)].range.end = 0
            if locks[Int(index)].range.start != lock.range.start {
                locks[Int(index)].flags.insert(.changed)
            }
        }
        locks[Int(index)].moment = clock(now)
        if lock.flags.contains(.cancelOnBlock) { cancelOnBlockCount += 1 }
        linkGranted(index)
        counters.granted += 1
        if lock.mode == .group { admitMates(of: index) }
    }

    /// A group has begun to work: its members that queue are to be looked at again.
    private mutating func admitMates(of index: Int32) {
        let lock = locks[Int(index)]
        let resource = resources[Int(lock.resource)]
        guard resource.waitingModes & UInt16(LockMode.group.rawValue) != 0 else { return }
        var at = resource.waiting.first
        while at >= 0 {
            let other = locks[Int(at)]
            if other.mode == .group, other.tag == lock.tag {
                detach(at)
                detached.append(handle(of: at))
            }
            at = other.next
        }
    }

    // MARK: Contention

    /// With so many waiters a resource counts as contended for a while (Lustre: 32 and 2 s).
    private mutating func noteContention(on resource: Int32, now: Ticks) {
        guard resources[Int(resource)].waitingCount >= configuration.contendedWaiterCount else {
            return
        }
        let until = clock(now) / 1_000_000_000 + configuration.contentionSeconds
        resources[Int(resource)].contendedUntil = UInt32(clamping: until)
    }

    private func isContended(_ resource: Int32, now: Ticks) -> Bool {
        UInt64(resources[Int(resource)].contendedUntil) > clock(now) / 1_000_000_000
    }
}
