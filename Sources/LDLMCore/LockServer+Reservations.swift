public import Primitives
internal import WireFormat

extension LockServer {
    /// All granted locks of clients on ordinary resources, for the clean record; `ownerKey` says
    /// what an owner is known by in every instance, nil to leave its locks out.
    public func reservations(ownerKey: (LockOwner) -> UInt64?) -> [ReservedLock] {
        var result: [ReservedLock] = []
        result.reserveCapacity(count - waitingCount)
        for slot in owners.indices.dropFirst() where owners[slot].count > 0 {
            guard let key = ownerKey(owner(at: Int32(slot))) else { continue }
            var at = owners[slot].locks.first
            while at >= 0 {
                let lock = locks[Int(at)]
                if lock.state == .granted, !isAdmission(lock.resource),
                    !lock.flags.contains(.cancelOnBlock)
                {
                    result.append(
                        ReservedLock(
                            resource: resources[Int(lock.resource)].id, mode: lock.mode,
                            policy: lock.policy, ownerKey: key))
                }
                at = lock.links[LockList.owner.rawValue].next
            }
        }
        return result
    }

    /// Holds a lock of the clean record for `owner` until it replays it or gives it up. Whoever
    /// conflicts waits; no AST goes out, since nobody is there to receive it.
    ///
    /// False for a lock that excludes one installed before or cannot be one: the record is damaged.
    public mutating func install(_ reservation: ReservedLock, owner: LockOwner) -> Bool {
        var lock = LockRecord()
        guard !isSealed, !owner.isLocal, !reservation.resource.isAdmission,
            prepare(
                &lock, owner, mode: reservation.mode, policy: reservation.policy, flags: []) == nil,
            place(for: &lock, on: reservation.resource) != nil, grantedConflict(lock) < 0
        else { return false }
        lock.flags.formUnion([.reserved, .noExpansion])
        let index = makeLock(lock)
        linkGranted(index)
        reservedCount += 1
        return true
    }

    /// Gives up what is still held for an owner: it has replayed all it had, or will not come.
    /// False, and nothing done, while sealed.
    @discardableResult
    public mutating func releaseUnclaimed(_ owner: LockOwner, now: Ticks) -> Bool {
        if reservedCount == 0 { return !isSealed }
        return removeLocks(of: owner, now: now) { $0.flags.contains(.reserved) }
    }

    /// A reservation that this replay claims: the same lock, or for a lock whose grant was lost on
    /// its way (`exact` false) also one whose extent had grown.
    func findReservation(
        _ resource: ResourceID, like lock: LockRecord, exact: Bool
    ) -> Int32? {
        guard reservedCount > 0, let place = find(resource) else { return nil }
        let byOwner = owners[Int(lock.owner)].count < resources[Int(place)].grantedCount
        let list = byOwner ? LockList.owner : .resource
        let kind = lock.flags.intersection(.kinds)
        var covering: Int32?
        var at =
            byOwner
            ? owners[Int(lock.owner)].locks.first : resources[Int(place)].granted.first
        while at >= 0 {
            let other = locks[Int(at)]
            if other.flags.contains(.reserved), other.owner == lock.owner,
                other.resource == place, other.mode == lock.mode, other.tag == lock.tag,
                other.flags.intersection(.kinds) == kind
            {
                if kind == .inodeBits {
                    if other.range.start == lock.range.start { return at }
                    let isCovering = other.range.start & lock.range.start == lock.range.start
                    if covering == nil, isCovering { covering = at }
                } else {
                    if other.range == lock.range { return at }
                    if covering == nil, other.range.contains(lock.range) { covering = at }
                }
            }
            at = other.links[list.rawValue].next
        }
        return exact ? nil : covering
    }

    /// Hands a reservation to the owner who came for it. One that is in somebody's way already is
    /// called back from here on like any other, with the whole time.
    mutating func claim(_ index: Int32, clientCookie: UInt64, now: Ticks) {
        disarm(index)
        locks[Int(index)].flags.remove(.reserved)
        setBlocked(index, false)
        locks[Int(index)].moment = clock(now)
        reservedCount -= 1
        setCookie(index, clientCookie)
        callBackIfBlocked(index, now: now)
    }
}
