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
            owners[slot].callbackEstimateMs = 0
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

    mutating func findOrMake(_ id: ResourceID, kind: LockRecord.Flags) -> Int32 {
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
        resources[Int(place)].kind = kind
        resources[Int(place)].nextFree = -2
        byName.insert(place, hash: hash)
        return place
    }

    /// Gives the place of a resource free when no lock is left on it.
    mutating func releaseIfEmpty(_ resource: Int32) {
        let record = resources[Int(resource)]
        guard record.granted.isEmpty, record.waiting.isEmpty else { return }
        if record.hasValueBlock { valueBlocks[resource] = nil }
        if record.trees >= 0 {
            roots[Int(record.trees)].nextFree = firstFreeRoots
            firstFreeRoots = record.trees
        }
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
        guard owner != 0 else { return }
        locks[Int(index)].flags.insert(.named)
        byCookie.insert(index, hash: Self.hash(owner: owner, cookie: cookie))
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
        enterOwner(index)
        count += 1
        return index
    }

    mutating func enterOwner(_ index: Int32) {
        let owner = Int(locks[Int(index)].owner)
        owners[owner].locks.append(index, in: &locks, .owner)
        owners[owner].count += 1
    }

    mutating func leaveOwner(_ index: Int32) {
        let owner = Int(locks[Int(index)].owner)
        owners[owner].locks.remove(index, in: &locks, .owner)
        owners[owner].count -= 1
    }

    /// Takes a lock out of every list and gives its place free. Who was attached to it has to be
    /// looked at again, and its resource to be settled.
    mutating func dropLock(_ index: Int32) {
        let lock = locks[Int(index)]
        detachAll(from: index)
        switch lock.state {
        case .waiting: unlinkWaiting(index)
        case .granted:
            if lock.flags.contains(.cancelOnBlock) { cancelOnBlockCount -= 1 }
            unlinkGranted(index)
        case .free: preconditionFailure("a lock was dropped twice")
        }
        disarm(index)
        if lock.flags.contains(.reserved) { reservedCount -= 1 }
        if lock.flags.contains(.named) { byCookie.remove(index) }
        leaveOwner(index)
        locks[Int(index)].state = .free
        locks[Int(index)].generation &+= 1
        locks[Int(index)].links[0].next = firstFreeLock
        firstFreeLock = index
        count -= 1
    }

    mutating func linkWaiting(_ index: Int32) {
        let resource = Int(locks[Int(index)].resource)
        locks[Int(index)].state = .waiting
        locks[Int(index)].moment = nextArrival
        nextArrival += 1
        resources[resource].waiting.append(index, in: &locks, .resource)
        resources[resource].waitingModes |= UInt16(locks[Int(index)].mode.rawValue)
        resources[resource].waitingCount += 1
        waitingCount += 1
        if locks[Int(index)].flags.contains(.flock) {
            flockWaits[key(of: index), default: []].append(index)
        }
        enterTree(index)
    }

    mutating func unlinkWaiting(_ index: Int32) {
        detach(index)
        leaveTree(index)
        let resource = Int(locks[Int(index)].resource)
        resources[resource].waiting.remove(index, in: &locks, .resource)
        resources[resource].waitingCount -= 1
        if resources[resource].waiting.isEmpty { resources[resource].waitingModes = 0 }
        waitingCount -= 1
        if locks[Int(index)].flags.contains(.flock) { forgetFlockWait(index) }
    }

    mutating func linkGranted(_ index: Int32) {
        let resource = Int(locks[Int(index)].resource)
        locks[Int(index)].state = .granted
        resources[resource].granted.append(index, in: &locks, .resource)
        countGranted(mode: locks[Int(index)].mode, resource: resource)
        enterTree(index)
    }

    mutating func unlinkGranted(_ index: Int32) {
        leaveTree(index)
        let resource = Int(locks[Int(index)].resource)
        resources[resource].granted.remove(index, in: &locks, .resource)
        forgetGranted(mode: locks[Int(index)].mode, resource: resource)
    }

    mutating func countGranted(mode: LockMode, resource: Int) {
        resources[resource].grantedCounts[mode.ordinal] += 1
        resources[resource].grantedModes |= UInt16(mode.rawValue)
    }

    mutating func forgetGranted(mode: LockMode, resource: Int) {
        resources[resource].grantedCounts[mode.ordinal] -= 1
        if resources[resource].grantedCounts[mode.ordinal] == 0 {
            resources[resource].grantedModes &= ~UInt16(mode.rawValue)
        }
    }

    /// Marks a granted lock as called back, or not any more.
    mutating func setBlocked(_ index: Int32, _ isBlocked: Bool) {
        if isBlocked {
            locks[Int(index)].flags.insert(.blocked)
        } else {
            locks[Int(index)].flags.remove(.blocked)
        }
        let lock = locks[Int(index)]
        guard lock.node >= 0, lock.state == .granted else { return }
        let place = Int(resources[Int(lock.resource)].trees)
        trees.setMark(
            lock.node, isBlocked ? 1 : 0, under: roots[place].granted[lock.mode.ordinal])
    }

    // MARK: Interval trees

    /// Puts a linked lock into its resource's trees; makes them where it has become crowded.
    private mutating func enterTree(_ index: Int32) {
        let resource = Int(locks[Int(index)].resource)
        if resources[resource].trees >= 0 { return insertNode(index) }
        guard
            resources[resource].grantedCount + resources[resource].waitingCount
                > ResourceRecord.listedCountMax
        else { return }
        let place: Int32
        if firstFreeRoots >= 0 {
            place = firstFreeRoots
            firstFreeRoots = roots[Int(place)].nextFree
            roots[Int(place)] = TreeRoots()
        } else {
            place = Int32(roots.count)
            roots.append(TreeRoots())
        }
        resources[resource].trees = place
        for first in [resources[resource].granted.first, resources[resource].waiting.first] {
            var at = first
            while at >= 0 {
                insertNode(at)
                at = locks[Int(at)].next
            }
        }
    }

    private mutating func insertNode(_ index: Int32) {
        let lock = locks[Int(index)]
        let place = Int(resources[Int(lock.resource)].trees)
        if lock.state == .granted {
            locks[Int(index)].node = trees.insert(
                index, range: lock.span, mark: lock.flags.contains(.blocked) ? 1 : 0,
                into: &roots[place].granted[lock.mode.ordinal])
        } else {
            locks[Int(index)].node = trees.insert(
                index, range: lock.span, mark: lock.moment,
                into: &roots[place].waiting[lock.mode.ordinal])
        }
    }

    private mutating func leaveTree(_ index: Int32) {
        let lock = locks[Int(index)]
        guard lock.node >= 0 else { return }
        let place = Int(resources[Int(lock.resource)].trees)
        if lock.state == .granted {
            trees.remove(lock.node, from: &roots[place].granted[lock.mode.ordinal])
        } else {
            trees.remove(lock.node, from: &roots[place].waiting[lock.mode.ordinal])
        }
        locks[Int(index)].node = -1
    }

    /// Changes what a granted lock is about, and with it its place in tables and trees.
    mutating func reshape(_ index: Int32, _ change: (inout LockRecord) -> Void) {
        leaveTree(index)
        let resource = Int(locks[Int(index)].resource)
        forgetGranted(mode: locks[Int(index)].mode, resource: resource)
        change(&locks[Int(index)])
        countGranted(mode: locks[Int(index)].mode, resource: resource)
        if resources[resource].trees >= 0 { insertNode(index) }
    }

    // MARK: Who waits for whom

    /// The waiter will be looked at when `blocker` goes.
    mutating func attach(_ index: Int32, to blocker: Int32) {
        let first = locks[Int(blocker)].firstAttached
        locks[Int(index)].blocker = blocker
        locks[Int(index)].links[LockList.attached.rawValue] = Link(next: first, previous: -1)
        if first >= 0 { locks[Int(first)].links[LockList.attached.rawValue].previous = index }
        locks[Int(blocker)].firstAttached = index
    }

    mutating func detach(_ index: Int32) {
        let blocker = locks[Int(index)].blocker
        guard blocker >= 0 else { return }
        let link = locks[Int(index)].links[LockList.attached.rawValue]
        if link.previous >= 0 {
            locks[Int(link.previous)].links[LockList.attached.rawValue].next = link.next
        } else {
            locks[Int(blocker)].firstAttached = link.next
        }
        if link.next >= 0 {
            locks[Int(link.next)].links[LockList.attached.rawValue].previous = link.previous
        }
        locks[Int(index)].links[LockList.attached.rawValue] = Link()
        locks[Int(index)].blocker = -1
    }

    /// Everybody who is attached to this lock has to be looked at again.
    mutating func detachAll(from index: Int32) {
        var at = locks[Int(index)].firstAttached
        locks[Int(index)].firstAttached = -1
        while at >= 0 {
            let next = locks[Int(at)].links[LockList.attached.rawValue].next
            locks[Int(at)].links[LockList.attached.rawValue] = Link()
            locks[Int(at)].blocker = -1
            detached.append(handle(of: at))
            at = next
        }
    }
}
