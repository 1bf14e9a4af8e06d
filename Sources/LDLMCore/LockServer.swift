public import Primitives
public import WireFormat

/// The lock namespace of one target: who holds what, who waits, who must give back.
///
/// A value without I/O: calls say what arrived and when, `actions` says what to send. Within one
/// resource waiters are served in order of arrival: a lock is granted when it conflicts with no
/// granted lock and with no earlier waiter, so that nobody is overtaken into starvation. POSIX
/// record locks look at granted ones only, and a group lets its own members in past the queue.
///
/// Every waiter is attached to one lock in its way, the latest where it can choose, and is looked
/// at again when that one goes: a queue of n locks is served in n steps, not n².
///
/// Locks, resources and owners are trivial records in three arrays, linked by index: a granted
/// lock costs about 240 bytes with its resource, and the steady state allocates nothing.
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
    /// What was done and refused since the start.
    public internal(set) var counters = LockServerCounters()
    /// How much clients may keep: goes out with every reply.
    public internal(set) var pool: LockPool

    public var sites = FaultSites()
    var locks: [LockRecord] = []
    var firstFreeLock: Int32 = -1
    var resources: [ResourceRecord] = []
    var firstFreeResource: Int32 = -1
    /// 0 is the target, 1 + index an export.
    var owners: [OwnerRecord] = [OwnerRecord()]
    var byName = ChainedIndex()
    var byCookie = ChainedIndex()
    /// By place of the resource; looked up, never iterated.
    var valueBlocks: [Int32: OSTLVB] = [:]

    /// Running callback timers, earliest first: all run equally long, so new ones go last.
    var timers = LinkEnds()
    var suspendedSince: Ticks?
    /// How long the namespace's clock has stood still in all.
    var pausedTotal = TickInterval.zero
    /// Locks whose blocking AST is due when the suspension ends.
    var withheld: [SlotHandle] = []

    /// The next waiter's place in the order of arrival; 0 stands for a granted lock.
    var nextArrival: UInt64 = 2
    var trees = IntervalTrees()
    var roots: [TreeRoots] = []
    var firstFreeRoots: Int32 = -1
    /// Waiting record locks of each owner of such locks; looked up, never iterated.
    var flockWaits: [FlockOwner: [Int32]] = [:]
    /// Granted locks that go by themselves when they are in the way.
    var cancelOnBlockCount = 0
    /// Where the next round of reclaiming goes on.
    var reclaimCursor = 0

    // Kept between calls for their memory.
    var newlyGranted: [Int32] = []
    var unsettled: [Int32] = []
    /// Waiters whose blocker has gone and that have to be looked at again.
    var detached: [SlotHandle] = []
    /// Locks that go by themselves because they are in the way.
    var yielding: [SlotHandle] = []

    public init(_ configuration: LockServerConfiguration) {
        self.configuration = configuration
        pool = LockPool(limit: configuration.poolLimit)
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
        find(resource).flatMap { resources[Int($0)].hasValueBlock ? valueBlocks[$0] : nil }
    }

    /// Sets or removes the value block. It goes with the last lock of its resource; false when
    /// nobody has or wants a lock there.
    @discardableResult
    public mutating func setValueBlock(_ resource: ResourceID, _ value: OSTLVB?) -> Bool {
        guard let found = find(resource) else { return false }
        valueBlocks[found] = value
        resources[Int(found)].hasValueBlock = value != nil
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
            locks[Int(index)].flags.remove(.withheld)
            setBlocked(index, false)
            callBackIfBlocked(index, now: now)
        }
        withheld.removeAll(keepingCapacity: true)
        dropYielding(now: now)
    }
}
