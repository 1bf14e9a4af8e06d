internal import Primitives
internal import WireFormat

// Places, lists and lookups. Nothing here decides anything.
extension LockServer {
    /// The cookie of a lock: generation, eight bits of the instance, 24 bits of the place.
    func handle(of index: Int32) -> SlotHandle {
        SlotHandle(
            index: instanceBits | UInt32(index), generation: locks[Int(index)].generation)
    }

    /// The place of a lock by its cookie, nil for a stale or invented one or one of an earlier
    /// instance.
    func place(of handle: SlotHandle) -> Int32? {
        guard handle.index & 0xFF00_0000 == instanceBits, handle.generation & 1 == 1 else {
            return nil
        }
        let index = Int(handle.index & 0x00FF_FFFF)
        guard index < locks.count, locks[index].generation == handle.generation else {
            return nil
        }
        return Int32(index)
    }

    private var instanceBits: UInt32 {
        UInt32(truncatingIfNeeded: configuration.instance) << 24
    }

    // MARK: Owners

    func owner(at slot: Int32) -> LockOwner {
        slot == 0
            ? .local
            : LockOwner(index: UInt32(slot - 1), generation: owners[Int(slot)].generation)
    }

    func knownSlot(of owner: LockOwner) -> Int32? {
        if owner.isLocal { return 0 }
        guard Int(owner.index) + 1 < owners.count,
            owners[Int(owner.index) + 1].generation == owner.generation
        else { return nil }
        return Int32(owner.index) + 1
    }

    /// The owner's place, made where it is new.
    mutating func slot(of owner: LockOwner) -> Int32 {
        if owner.isLocal { return 0 }
        let slot = Int(owner.index) + 1
        while owners.count <= slot { owners.append(OwnerRecord()) }
        if owners[slot].generation != owner.generation {
            precondition(
                owners[slot].count == 0,
                "the place of an owner was used again before its locks were removed")
            owners[slot].generation = owner.generation
        }
        return Int32(slot)
    }

    // MARK: Resources

    func find(_ id: ResourceID) -> Int32? { find(id, hash: id.chainHash) }

    private func find(_ id: ResourceID, hash: UInt32) -> Int32? {
        var at = byName.first(hash)
        while at >= 0 {
            if resources[Int(at)].id == id { return at }
            at = byName.after(at)
        }
        return nil
    }

    mutating func findOrMake(_ id: ResourceID) -> Int32 {
        let hash = id.chainHash
        if let found = find(id, hash: hash) { return found }
        let place: Int32
        if firstFreeResource >= 0 {
            place = firstFreeResource
            firstFreeResource = resources[Int(place)].nextFree
        } else {
            place = Int32(resources.count)
            resources.growByAnEighth()
            resources.append(ResourceRecord())
        }
        resources[Int(place)] = ResourceRecord()
        resources[Int(place)].id = id
        resources[Int(place)].nextFree = -2
        byName.insert(place, hash: hash)
        return place
    }

    /// Gives the place of a resource free when no lock is left on it.
    mutating func releaseIfEmpty(_ resource: Int32) {
        let record = resources[Int(resource)]
        guard record.granted.isEmpty, record.waiting.isEmpty else { return }
        if record.valueBlock >= 0 { freeValueBlocks.append(record.valueBlock) }
        byName.remove(resource)
        resources[Int(resource)].nextFree = firstFreeResource
        firstFreeResource = resource
    }

    func isAdmission(_ resource: Int32) -> Bool { resources[Int(resource)].id.isAdmission }

    // MARK: Locks

    private static func hash(owner: Int32, cookie: UInt64) -> UInt32 {
        var hash = WordHash()
        hash.combine(UInt64(UInt32(bitPattern: owner)))
        hash.combine(cookie)
        return hash.value
    }

    /// The lock that an owner calls `cookie`.
    func find(owner: Int32, cookie: UInt64) -> Int32? {
        var at = byCookie.first(Self.hash(owner: owner, cookie: cookie))
        while at >= 0 {
            let lock = locks[Int(at)]
            if lock.owner == owner, lock.clientCookie == cookie { return at }
            at = byCookie.after(at)
        }
        return nil
    }

    mutating func setCookie(_ index: Int32, _ cookie: UInt64) {
        let owner = locks[Int(index)].owner
        locks[Int(index)].clientCookie = cookie
        if owner != 0 { byCookie.insert(index, hash: Self.hash(owner: owner, cookie: cookie)) }
    }

    /// A new lock on a resource and in its owner's list; neither waiting nor granted yet, and
    /// without a cookie.
    mutating func makeLock(_ lock: LockRecord) -> Int32 {
        let index: Int32
        if firstFreeLock >= 0 {
            index = firstFreeLock
            firstFreeLock = locks[Int(index)].next
        } else {
            index = Int32(locks.count)
            locks.growByAnEighth()
            locks.append(LockRecord())
        }
        let generation = locks[Int(index)].generation &+ 1
        locks[Int(index)] = lock
        locks[Int(index)].generation = generation
        owners[Int(lock.owner)].locks.append(index, in: &locks, .owner)
        owners[Int(lock.owner)].count += 1
        count += 1
        return index
    }

    /// Takes a lock out of every list and gives its place free. Its resource stays, to be settled.
    mutating func dropLock(_ index: Int32) {
        let lock = locks[Int(index)]
        switch lock.state {
        case .waiting: unlinkWaiting(index)
        case .granted: unlinkGranted(index)
        case .free: preconditionFailure("a lock was dropped twice")
        }
        disarm(index)
        if lock.flags.contains(.reserved) {
            reservedCount -= 1
        } else if lock.owner != 0 {
            byCookie.remove(index)
        }
        owners[Int(lock.owner)].locks.remove(index, in: &locks, .owner)
        owners[Int(lock.owner)].count -= 1
        locks[Int(index)].state = .free
        locks[Int(index)].generation &+= 1
        locks[Int(index)].links[0].next = firstFreeLock
        firstFreeLock = index
        count -= 1
    }

    mutating func linkWaiting(_ index: Int32) {
        let resource = Int(locks[Int(index)].resource)
        locks[Int(index)].state = .waiting
        resources[resource].waiting.append(index, in: &locks, .resource)
        resources[resource].waitingModes |= UInt16(locks[Int(index)].mode.rawValue)
        waitingCount += 1
    }

    mutating func unlinkWaiting(_ index: Int32) {
        let resource = Int(locks[Int(index)].resource)
        resources[resource].waiting.remove(index, in: &locks, .resource)
        if resources[resource].waiting.isEmpty { resources[resource].waitingModes = 0 }
        waitingCount -= 1
    }

    mutating func linkGranted(_ index: Int32) {
        let resource = Int(locks[Int(index)].resource)
        let mode = locks[Int(index)].mode
        locks[Int(index)].state = .granted
        resources[resource].granted.append(index, in: &locks, .resource)
        resources[resource].grantedCounts[mode.ordinal] += 1
        resources[resource].grantedModes |= UInt16(mode.rawValue)
    }

    mutating func unlinkGranted(_ index: Int32) {
        let resource = Int(locks[Int(index)].resource)
        resources[resource].granted.remove(index, in: &locks, .resource)
        forgetGranted(mode: locks[Int(index)].mode, resource: resource)
    }

    mutating func forgetGranted(mode: LockMode, resource: Int) {
        resources[resource].grantedCounts[mode.ordinal] -= 1
        if resources[resource].grantedCounts[mode.ordinal] == 0 {
            resources[resource].grantedModes &= ~UInt16(mode.rawValue)
        }
    }
}
