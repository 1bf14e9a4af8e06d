public import Primitives
public import WireFormat

/// What asking for a lock of the target's own came to.
@frozen
public enum LocalLock: Hashable, Sendable, BitwiseCopyable {
    /// Held: cancel it, or `transfer` it, when the work is done.
    case granted(SlotHandle)
    /// `LockAction.granted` follows when those in its way have given theirs back.
    case waiting(SlotHandle)
    /// A lock in its way would have to be called back, and an announced upgrade forbids that: do
    /// nothing, and refuse who wanted it like one without the admission lock.
    case suspended
    /// The namespace is sealed: leave it to the next instance.
    case sealed
    /// It is refused.
    case refused(EnqueueRefusal)
}

// The target's own locks: for the time of one update, and for intents.
//
// An intent is a request inside an enqueue. The service takes a lock of its own first, executes
// under it, and then gives that very lock to the client (`transfer`: ELDLM_LOCK_REPLACED where it
// is not the one asked for), or cancels it and answers without a lock (ELDLM_LOCK_ABORTED). So what
// the answer says is true for as long as the client holds the lock.
extension LockServer {
    /// Asks for a lock of the target's own. Two services must ask for several in one order.
    ///
    /// During an announcement only what needs no new blocking AST is granted or waits.
    public mutating func acquireLocal(
        _ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy, now: Ticks
    ) -> LocalLock {
        if isSealed { return .sealed }
        if isSuspended || isRecovering, !resource.isAdmission {
            let probe = enqueue(
                owner: .local, resource: resource, mode: mode, policy: policy, clientCookie: 0,
                flags: .blockNoWait, now: now)
            switch probe.outcome {
            case .granted: return .granted(probe.lock)
            case .refused(let refusal): return .refused(refusal)
            case .sealed: return .sealed
            case .wouldBlock, .waiting, .tested: break
            }
            guard isRecovering || isOnlyBehindCalledBack(resource, mode, policy) else {
                return .suspended
            }
        }
        let result = enqueue(
            owner: .local, resource: resource, mode: mode, policy: policy, clientCookie: 0,
            now: now)
        switch result.outcome {
        case .granted: return .granted(result.lock)
        case .waiting: return .waiting(result.lock)
        case .refused(let refusal): return .refused(refusal)
        case .sealed: return .sealed
        case .wouldBlock, .tested: preconditionFailure("a lock that may wait was not asked to")
        }
    }

    /// Whether everything in the way of such a lock is on its way back already.
    private mutating func isOnlyBehindCalledBack(
        _ id: ResourceID, _ mode: LockMode, _ policy: LockPolicy
    ) -> Bool {
        var lock = LockRecord()
        guard let place = find(id),
            prepare(&lock, .local, mode: mode, policy: policy, flags: []) == nil
        else { return false }
        lock.resource = place
        guard waitingConflict(lock) < 0 else { return false }
        var at = resources[Int(place)].granted.first
        while at >= 0 {
            let other = locks[Int(at)]
            if other.conflicts(with: lock), other.owner != 0, !other.flags.contains(.astSent) {
                return false
            }
            at = other.next
        }
        return true
    }

    /// Gives a granted lock of the target's own to a client, which calls it `clientCookie`: the end
    /// of an intent. Who waits for it has it called back from here on; the flags tell the client.
    ///
    /// Where the client has a lock of that name already (the request was sent again), that one is
    /// told and the target's own is given back.
    public mutating func transfer(
        _ lock: SlotHandle, to owner: LockOwner, clientCookie: UInt64, now: Ticks
    ) -> EnqueueResult {
        guard let index = place(of: lock), locks[Int(index)].owner == 0,
            locks[Int(index)].state == .granted, !owner.isLocal
        else { preconditionFailure("only a granted lock of the target's own is given away") }
        let record = locks[Int(index)]
        let slot = slot(of: owner)
        if let known = find(owner: slot, cookie: clientCookie) {
            let answer = result(of: known)
            cancel(lock, owner: .local, now: now)
            return answer
        }
        leaveOwner(index)
        locks[Int(index)].owner = slot
        enterOwner(index)
        setCookie(index, clientCookie)
        setBlocked(index, false)
        counters.transferred += 1
        _ = isInTheWay(index, now: now)
        precondition(!record.flags.contains(.reserved), "nobody's lock was given away")
        return result(of: index)
    }

    // MARK: Glimpses

    /// Whom to ask for the size of an object: the holders of locks under which it may have grown
    /// beyond `size`, the one who asks among them (what it has not written yet is on its way). One AST
    /// for each, and no lock changes. Reserved ones are there, too: nobody can ask their owners yet.
    ///
    /// Linear in the granted locks of the resource.
    public mutating func glimpse(
        _ resource: ResourceID, beyond size: UInt64
    ) -> [LockInfo] {
        guard let place = find(resource), !isSealed else { return [] }
        var found: [LockInfo] = []
        var at = resources[Int(place)].granted.first
        while at >= 0 {
            let lock = locks[Int(at)]
            switch lock.mode {
            case .pw, .ex, .cw, .group:
                if lock.owner != 0, lock.span.end >= size { found.append(info(at: at)) }
            case .pr, .cr, .nl, .cos, .txn:
                break
            }
            at = lock.next
        }
        counters.glimpseASTs += UInt64(found.count)
        return found
    }
}
