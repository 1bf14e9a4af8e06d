public import Primitives
public import WireFormat

/// The lock namespace of one target: who holds what, who waits, who must give back.
///
/// A value without I/O: calls say what arrived and when, `actions` says what to send. Within one
/// resource waiters are served in order of arrival: a lock is granted when it conflicts with no
/// granted lock and with no earlier waiter, so that nobody is overtaken into starvation.
///
/// Locks, resources and owners are trivial records in three arrays, linked by index: a granted
/// lock costs about 200 bytes with its resource, and the steady state allocates nothing.
/// Lock cookies come from peers; a stale or invented one is `unknown`.
public struct LockServer: Sendable {
    public let configuration: LockServerConfiguration

    /// What to do, in order. The caller takes it empty after each call.
    public var actions = Outbox<LockAction>()

    /// Locks in being, granted and waiting, reserved ones included.
    public internal(set) var count = 0
    /// Of those, the ones that wait.
    public internal(set) var waitingCount = 0
    /// Of those, the ones held for absent owners.
    public internal(set) var reservedCount = 0
    /// No lock is granted, converted or cancelled.
    public internal(set) var isSealed = false
    /// After a crash: clients replay what they held; nothing new is granted.
    public internal(set) var isRecovering = false
    /// Blocking ASTs are withheld and callback timers stand still.
    public var isSuspended: Bool { suspendedSince != nil }

    var locks: [LockRecord] = []
    var firstFreeLock: Int32 = -1
    var resources: [ResourceRecord] = []
    var firstFreeResource: Int32 = -1
    /// 0 is the target, 1 + index an export.
    var owners: [OwnerRecord] = [OwnerRecord()]
    var byName = ChainedIndex()
    var byCookie = ChainedIndex()
    var valueBlocks: [OSTLVB] = []
    var freeValueBlocks: [Int32] = []

    /// Running callback timers, earliest first: all run equally long, so new ones go last.
    var timers = LinkEnds()
    var suspendedSince: Ticks?
    /// How long the namespace's clock has stood still in all.
    var pausedTotal = TickInterval.zero
    /// Locks whose blocking AST is due when the suspension ends.
    var withheld: [SlotHandle] = []

    // Kept between calls for their memory.
    var newlyGranted: [Int32] = []
    var unsettled: [Int32] = []

    public init(_ configuration: LockServerConfiguration) {
        self.configuration = configuration
    }

    // MARK: What is there

    /// What is known of a lock; nil for a handle that names none.
    public func info(_ lock: SlotHandle) -> LockInfo? {
        guard let index = place(of: lock) else { return nil }
        return info(at: index)
    }

    /// Locks of `owner`, granted and waiting.
    public func count(of owner: LockOwner) -> Int {
        guard let slot = knownSlot(of: owner) else { return 0 }
        return Int(owners[Int(slot)].count)
    }

    /// The locks of `owner` in the order in which it asked for them.
    public func locks(of owner: LockOwner) -> [LockInfo] {
        guard let slot = knownSlot(of: owner) else { return [] }
        var result: [LockInfo] = []
        var at = owners[Int(slot)].locks.first
        while at >= 0 {
            result.append(info(at: at))
            at = locks[Int(at)].links[LockList.owner.rawValue].next
        }
        return result
    }

    /// The granted locks on a resource.
    public func holders(_ resource: ResourceID) -> [LockInfo] {
        guard let found = find(resource) else { return [] }
        return infos(from: resources[Int(found)].granted.first)
    }

    /// The waiting locks on a resource in order of arrival.
    public func waiters(_ resource: ResourceID) -> [LockInfo] {
        guard let found = find(resource) else { return [] }
        return infos(from: resources[Int(found)].waiting.first)
    }

    /// The value block of a resource, where it was set.
    public func valueBlock(_ resource: ResourceID) -> OSTLVB? {
        guard let found = find(resource) else { return nil }
        let place = resources[Int(found)].valueBlock
        return place < 0 ? nil : valueBlocks[Int(place)]
    }

    /// Sets or removes the value block. It goes with the last lock of its resource; false when
    /// nobody has or wants a lock there.
    @discardableResult
    public mutating func setValueBlock(_ resource: ResourceID, _ value: OSTLVB?) -> Bool {
        guard let found = find(resource) else { return false }
        let place = resources[Int(found)].valueBlock
        switch (value, place >= 0) {
        case (let value?, true):
            valueBlocks[Int(place)] = value
        case (let value?, false):
            if let free = freeValueBlocks.popLast() {
                valueBlocks[Int(free)] = value
                resources[Int(found)].valueBlock = free
            } else {
                valueBlocks.append(value)
                resources[Int(found)].valueBlock = Int32(valueBlocks.count - 1)
            }
        case (nil, true):
            freeValueBlocks.append(place)
            resources[Int(found)].valueBlock = -1
        case (nil, false):
            break
        }
        return true
    }

    private func infos(from first: Int32) -> [LockInfo] {
        var result: [LockInfo] = []
        var at = first
        while at >= 0 {
            result.append(info(at: at))
            at = locks[Int(at)].next
        }
        return result
    }

    func info(at index: Int32) -> LockInfo {
        let lock = locks[Int(index)]
        return LockInfo(
            handle: handle(of: index), owner: owner(at: lock.owner),
            clientCookie: lock.clientCookie, resource: resources[Int(lock.resource)].id,
            mode: lock.mode, policy: lock.policy, isGranted: lock.state == .granted,
            isCalledBack: lock.flags.contains(.astSent),
            isReserved: lock.flags.contains(.reserved))
    }

    // MARK: Seal and suspension

    /// From here on no lock is granted, converted or cancelled: the clean record is being written.
    public mutating func seal() { isSealed = true }

    /// Takes a seal back, where the record could not be written.
    public mutating func unseal() { isSealed = false }

    /// Withholds blocking ASTs of ordinary resources and stops all callback timers: the target
    /// has announced an upgrade, and a client that prepares must not be disturbed or evicted.
    /// Conflicting enqueues just wait. The admission resource goes on as before.
    public mutating func suspendBlockingASTs(now: Ticks) {
        if suspendedSince == nil { suspendedSince = now }
    }

    /// Sends what was withheld, as far as somebody still waits, and lets the timers run on.
    public mutating func resumeBlockingASTs(now: Ticks) {
        guard let since = suspendedSince else { return }
        suspendedSince = nil
        pausedTotal = pausedTotal + (now - since)
        for handle in withheld {
            guard let index = place(of: handle), locks[Int(index)].flags.contains(.withheld)
            else { continue }
            locks[Int(index)].flags.subtract([.withheld, .blocked])
            callBackIfBlocked(index, now: now)
        }
        withheld.removeAll(keepingCapacity: true)
    }
}
