public import Primitives
public import WireFormat

/// The lock cache of one client for one target.
///
/// A lock outlives the operations that use it: released by the last, it is kept unused until the
/// server calls it back, until there are too many, or until the target forgets the client. A lock
/// that is called back serves nobody new: whoever comes later asks the server again, behind the
/// one who called.
public struct LockClient: Sendable {
    /// What to do, in order. The owner takes it empty after each call.
    public var actions = Outbox<LockClientAction>()

    /// More unused locks than this are given back, the longest unused first.
    public var unusedCountMax: Int
    /// A lock that was not used for so long is given back. Lustre: 600 s.
    public var unusedAgeMax = TickInterval.seconds(600)
    /// The volume that the target lets one client keep, from its replies: lock seconds. 0 where it
    /// is not known.
    public var serverLockVolume: UInt64 = 0
    /// A lock that was glimpsed and not used for so long is given back instead of being asked again.
    public var glimpseIdleMax = TickInterval.seconds(10)

    /// Granted locks that no operation uses.
    public internal(set) var unusedCount = 0
    /// Locks that the server wants back and still has not got. None of them may be left when a
    /// receipt goes out.
    public internal(set) var calledBackCount = 0
    /// Locks of which what is held has changed, in order and perhaps more than once; the owner takes
    /// them. Kept only once `changes` is made something: a checker does that, production does not.
    public var changes: Outbox<SlotHandle>?
    /// The time as far as this cache knows it; see `advance`.
    public internal(set) var now = Ticks.zero

    var locks = SlotTable<ClientLock>()
    var byName = ChainedIndex()
    var oldestUnused: Int32 = -1
    var newestUnused: Int32 = -1
    var waiters: [LockWaiter] = []
    var firstFreeWaiter: Int32 = -1

    public init(unusedCountMax: Int = 10_000) { self.unusedCountMax = unusedCountMax }

    /// Locks in every state.
    public var count: Int { locks.count }

    /// What is known of a lock; nil for one that is gone.
    public func info(_ lock: SlotHandle) -> ClientLockInfo? {
        guard let record = locks[lock] else { return nil }
        return ClientLockInfo(
            handle: lock, state: record.state, resource: record.resource, mode: record.mode,
            policy: record.policy, flags: record.flags, serverCookie: record.serverCookie,
            userCount: Int(record.userCount), isCalledBack: record.isCalledBack)
    }

    /// All locks in order of their places.
    public var handles: [SlotHandle] { locks.handles }

    // MARK: Operations

    /// Gives `operation` a lock that covers the mode and the range, from the cache if one is there,
    /// by joining an enqueue under way, or by a new one. Plain, extent and inode bits; a lock with
    /// `cancelOnBlock` is only for who asks with it.
    ///
    /// An extent is not asked for while the answer for another one of its object is out: that may
    /// grow to cover both, and two in one mode would be in each other's way. A glimpse is not asked
    /// for while another is out that may bring the lock. Both come `later`.
    public mutating func acquire(
        _ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy, operation: UInt64,
        flags: LockFlags = []
    ) -> LockAcquisition {
        precondition(
            policy.type != .flock && policy.range.isValid,
            "record locks are no cache, and a range has at least one byte")
        let hash = resource.chainHash
        var pending: SlotHandle?
        var hopeful: SlotHandle?
        var at = byName.first(hash)
        while at >= 0 {
            if let handle = locks.handle(at: Int(at)), let lock = locks[handle],
                !lock.isCalledBack,
                lock.flags.contains(.cancelOnBlock) == flags.contains(.cancelOnBlock)
            {
                // Who only wants to know joins nobody who wants the lock, and the reverse.
                let isAlike = lock.flags.contains(.hasIntent) == flags.contains(.hasIntent)
                switch (lock.state, lock.serves(resource, mode, policy)) {
                case (.granted, true):
                    if lock.isUnused { removeFromUnused(handle) }
                    locks.update(handle) { $0.userCount += 1 }
                    return .granted(handle)
                case (.enqueuing, true) where isAlike, (.waiting, true) where isAlike:
                    // What a glimpse is told may have been true before this one asked: it counts
                    // only if it brings the lock.
                    if flags.contains(.hasIntent) { hopeful = handle } else { pending = handle }
                case (.enqueuing, false) where isAlike && !flags.contains(.hasIntent):
                    if lock.mayGrow(to: resource, mode, policy) { hopeful = handle }
                case (.granted, false), (.enqueuing, _), (.waiting, _), (.cancelling, _),
                    (.converting, _):
                    break
                }
            }
            at = byName.after(at)
        }
        if let pending {
            addWaiter(operation, to: pending)
            return .pending(pending)
        }
        if let hopeful {
            addWaiter(operation, to: hopeful, isHoping: true)
            return .later(hopeful)
        }
        let handle = locks.insert(ClientLock(resource, mode, policy, flags: flags))
        byName.insert(Int32(handle.index), hash: hash)
        addWaiter(operation, to: handle)
        actions.append(.enqueue(handle))
        return .pending(handle)
    }

    /// An operation is done with a lock. One that was lost meanwhile is ignored.
    public mutating func release(_ lock: SlotHandle) {
        guard let record = locks[lock], record.userCount > 0 else { return }
        locks.update(lock) { $0.userCount -= 1 }
        if record.userCount == 1, record.state == .granted { becomeUnused(lock) }
    }

    /// An operation that waits for a lock gives up: it will not be woken. False when it does not
    /// wait there (any more); it may hold the lock then.
    @discardableResult
    public mutating func abandon(_ lock: SlotHandle, operation: UInt64) -> Bool {
        guard let record = locks[lock] else { return false }
        var before: Int32 = -1
        var at = record.firstWaiter
        while at >= 0 {
            let waiter = waiters[Int(at)]
            if waiter.operation == operation {
                if before >= 0 { waiters[Int(before)].next = waiter.next }
                locks.update(lock) {
                    if before < 0 { $0.firstWaiter = waiter.next }
                    if waiter.next < 0 { $0.lastWaiter = before }
                }
                freeWaiter(at)
                return true
            }
            before = at
            at = waiter.next
        }
        return false
    }

    // MARK: What the server says

    /// The answer to an enqueue or to the replay of a lock, which may give it a new cookie.
    /// A grant that is known from a completion AST already is not applied again.
    @discardableResult
    public mutating func enqueueReply(
        _ lock: SlotHandle, serverCookie: UInt64, isGranted: Bool, mode: LockMode,
        policy: LockPolicy, flags: LockFlags = []
    ) -> LockEventResult {
        guard let record = locks[lock] else { return .unknown }
        switch record.state {
        case .granted, .cancelling, .converting:
            locks.update(lock) { $0.serverCookie = serverCookie }
            if flags.contains(.astSent) { callBack(lock) }
            return .applied
        case .enqueuing, .waiting:
            if isGranted {
                return grant(
                    lock, serverCookie: serverCookie, mode: mode, policy: policy, flags: flags)
            }
            locks.update(lock) {
                $0.serverCookie = serverCookie
                $0.state = .waiting
            }
            // Who has to wait gets what it asked for, and nothing beside.
            releaseHopeful(lock)
            return .applied
        }
    }

    /// The enqueue was refused or came to nothing: everybody who waits for it fails.
    public mutating func enqueueFailed(_ lock: SlotHandle, error: Int32) {
        guard let record = locks[lock] else { return }
        switch record.state {
        case .enqueuing, .waiting: drop(lock, error: error)
        case .granted, .cancelling, .converting: break
        }
    }

    /// LDLM_CP_CALLBACK: the lock is granted. May come before the enqueue's answer, and twice.
    @discardableResult
    public mutating func completionAST(
        clientCookie: UInt64, serverCookie: UInt64, mode: LockMode, policy: LockPolicy,
        flags: LockFlags = []
    ) -> LockEventResult {
        let lock = SlotHandle(rawValue: clientCookie)
        guard let record = locks[lock] else { return .unknown }
        switch record.state {
        case .granted, .cancelling, .converting:
            if flags.contains(.astSent) { callBack(lock) }
            return .applied
        case .enqueuing, .waiting:
            return grant(
                lock, serverCookie: serverCookie, mode: mode, policy: policy, flags: flags)
        }
    }

    /// LDLM_BL_CALLBACK: the server wants the lock back. Remembered where its grant is still on
    /// the way. Of inode bits `wanted` says which have to go; the others are kept where there are
    /// any. A lock with `cancelOnBlock` is gone already: its owner drops what it knows under it.
    @discardableResult
    public mutating func blockingAST(
        clientCookie: UInt64, wanted: LockDescriptor? = nil
    ) -> LockEventResult {
        let lock = SlotHandle(rawValue: clientCookie)
        guard let record = locks[lock] else { return .unknown }
        if record.flags.contains(.cancelOnBlock), record.state == .granted {
            drop(lock, error: 0)
            return .applied
        }
        if record.type == .inodeBits, case .inodeBits(_, let gone, _, _)? = wanted?.policy {
            locks.update(lock) { $0.wantedBits = InodeBits(rawValue: gone) }
        }
        callBack(lock)
        return .applied
    }

    /// What was cached under a lock is written back and dropped: now it can be cancelled.
    public mutating func flushed(_ lock: SlotHandle) {
        guard let record = locks[lock], record.state == .cancelling else { return }
        forget(lock)
        actions.append(.cancel(serverCookie: record.serverCookie))
    }

    /// What was cached under these bits of a lock is dropped: now they can be given back.
    public mutating func bitsDropped(_ lock: SlotHandle) {
        guard let record = locks[lock], record.state == .converting else { return }
        locks.update(lock) { $0.bits.subtract($0.wantedBits) }
        actions.append(
            .convert(
                lock, serverCookie: record.serverCookie,
                keeping: record.bits.subtracting(record.wantedBits)))
    }

    /// The answer to a convert: the lock goes on with the bits it kept, or is gone.
    public mutating func convertReply(_ lock: SlotHandle, isDone: Bool) {
        guard let record = locks[lock], record.state == .converting else { return }
        guard isDone else { return drop(lock, error: 0) }
        locks.update(lock) {
            $0.state = .granted
            $0.isCalledBack = false
            $0.wantedBits = []
        }
        changes?.append(lock)
        calledBackCount -= 1
        if record.userCount == 0 { becomeUnused(lock) }
    }

    // MARK: Giving back

    /// Gives unused locks back, the longest unused first, until at most `limit` are left.
    public mutating func cancelUnused(keeping limit: Int) {
        while unusedCount > max(0, limit), let oldest = locks.handle(at: Int(oldestUnused)) {
            removeFromUnused(oldest)
            beginCancel(oldest)
        }
    }

    /// Early lock cancel: takes the unused locks that a new one would conflict with out of the
    /// cache and gives their server cookies, which go with the enqueue.
    ///
    /// `drop` is asked to forget what is cached under a lock, of which it gets the range; it says no
    /// where that is dirty.
    public mutating func takeConflictingUnused(
        _ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy, limit: Int,
        drop: (SlotHandle, Extent) -> Bool
    ) -> [UInt64] {
        var cookies: [UInt64] = []
        var at = byName.first(resource.chainHash)
        while at >= 0, cookies.count < limit {
            let next = byName.after(at)
            if let handle = locks.handle(at: Int(at)), let lock = locks[handle], lock.isUnused,
                lock.conflicts(resource, mode, policy), !resource.isAdmission,
                drop(handle, lock.range)
            {
                cookies.append(lock.serverCookie)
                removeFromUnused(handle)
                forget(handle)
            }
            at = next
        }
        return cookies
    }

    // MARK: The next instance

    /// The locks that the target's next instance must be told, granted ones first.
    ///
    /// Enqueues without an answer are not among them: as requests they are sent again.
    public func replayList() -> [LockReplay] {
        var result: [LockReplay] = []
        result.reserveCapacity(locks.count)
        for wantsGranted in [true, false] {
            for place in 0..<locks.slotCount {
                guard let handle = locks.handle(at: place), let info = info(handle) else {
                    continue
                }
                let isGranted = info.isHeld
                guard isGranted == wantsGranted, info.state != .enqueuing,
                    !info.flags.contains(.cancelOnBlock)
                else { continue }
                result.append(
                    LockReplay(lock: handle, descriptor: info.descriptor, isGranted: isGranted))
            }
        }
        return result
    }

    /// The target does not know a lock any more: it was refused at replay.
    public mutating func lose(_ lock: SlotHandle, error: Int32) {
        if locks.contains(lock) { drop(lock, error: error) }
    }

    /// The target has evicted this client: every lock is lost, every waiting operation fails.
    public mutating func invalidateAll(error: Int32) {
        for place in 0..<locks.slotCount {
            if let handle = locks.handle(at: place) { drop(handle, error: error) }
        }
    }

    // MARK: Parts

    mutating func grant(
        _ lock: SlotHandle, serverCookie: UInt64, mode: LockMode, policy: LockPolicy,
        flags: LockFlags
    ) -> LockEventResult {
        guard let asked = locks[lock], mode.covers(asked.mode),
            policy.type == asked.type, policy.range.isValid,
            policy.range.contains(asked.range),
            policy.inodeBits.isSuperset(of: asked.bits),
            policy.inodeBits.isSubset(of: asked.bits.union(asked.welcome))
        else { return .refused }
        var userCount: UInt32 = 0
        var at = asked.firstWaiter
        while at >= 0 {
            let waiter = waiters[Int(at)]
            if waiter.isHoping {
                actions.append(.retry(operation: waiter.operation))
            } else {
                userCount += 1
                actions.append(.wake(operation: waiter.operation, lock: lock))
            }
            freeWaiter(at)
            at = waiter.next
        }
        locks.update(lock) {
            $0.state = .granted
            $0.serverCookie = serverCookie
            $0.mode = mode
            $0.flags.remove(.hasIntent)
            $0.range = policy.range
            $0.bits = policy.inodeBits
            $0.userCount = userCount
            $0.firstWaiter = -1
            $0.lastWaiter = -1
        }
        changes?.append(lock)
        if flags.contains(.astSent) { markCalledBack(lock) }
        if userCount == 0 { becomeUnused(lock) }
        return .applied
    }

    mutating func callBack(_ lock: SlotHandle) {
        markCalledBack(lock)
        guard let record = locks[lock], record.isUnused else { return }
        removeFromUnused(lock)
        beginCancel(lock)
    }

    mutating func markCalledBack(_ lock: SlotHandle) {
        let isNew = locks.update(lock) { record in
            defer { record.isCalledBack = true }
            return !record.isCalledBack
        }
        if isNew == true { calledBackCount += 1 }
    }

    /// The last user of a granted lock has gone.
    mutating func becomeUnused(_ lock: SlotHandle) {
        guard let record = locks[lock] else { return }
        if record.isCalledBack {
            beginCancel(lock)
            return
        }
        let place = Int32(lock.index)
        let newest = newestUnused
        let now = now
        locks.update(lock) {
            $0.isUnused = true
            $0.unusedSince = now
            $0.older = newest
            $0.newer = -1
        }
        if let handle = handle(at: newest) {
            locks.update(handle) { $0.newer = place }
        } else {
            oldestUnused = place
        }
        newestUnused = place
        unusedCount += 1
        cancelUnused(keeping: unusedCountMax)
    }

    mutating func removeFromUnused(_ lock: SlotHandle) {
        guard let record = locks[lock], record.isUnused else { return }
        if let older = handle(at: record.older) {
            locks.update(older) { $0.newer = record.newer }
        } else {
            oldestUnused = record.newer
        }
        if let newer = handle(at: record.newer) {
            locks.update(newer) { $0.older = record.older }
        } else {
            newestUnused = record.older
        }
        locks.update(lock) { $0.isUnused = false }
        unusedCount -= 1
    }

    func handle(at place: Int32) -> SlotHandle? {
        place < 0 ? nil : locks.handle(at: Int(place))
    }

    /// A lock that nobody uses goes; of inode bits only those go that are wanted.
    mutating func beginCancel(_ lock: SlotHandle) {
        guard let record = locks[lock] else { return }
        let kept = record.bits.subtracting(record.wantedBits)
        if record.isCalledBack, !record.wantedBits.isDisjoint(with: record.bits), !kept.isEmpty {
            locks.update(lock) { $0.state = .converting }
            changes?.append(lock)
            actions.append(.dropBits(lock, record.wantedBits.intersection(record.bits)))
            return
        }
        locks.update(lock) { $0.state = .cancelling }
        actions.append(.flushAndCancel(lock))
    }

    /// Removes a lock without a cancel, and tells everybody concerned.
    mutating func drop(_ lock: SlotHandle, error: Int32) {
        guard let record = locks[lock] else { return }
        if record.isUnused { removeFromUnused(lock) }
        var at = record.firstWaiter
        while at >= 0 {
            let waiter = waiters[Int(at)]
            actions.append(
                waiter.isHoping
                    ? .retry(operation: waiter.operation)
                    : .failed(operation: waiter.operation, error: error))
            freeWaiter(at)
            at = waiter.next
        }
        forget(lock)
        switch record.state {
        case .granted, .cancelling, .converting: actions.append(.lost(lock))
        case .enqueuing, .waiting: break
        }
    }

    mutating func forget(_ lock: SlotHandle) {
        guard let record = locks.remove(lock) else { return }
        changes?.append(lock)
        if !record.isExpected { byName.remove(Int32(lock.index)) }
        if record.isCalledBack { calledBackCount -= 1 }
    }

    /// Those that only hoped that the lock would grow ask again.
    private mutating func releaseHopeful(_ lock: SlotHandle) {
        guard let record = locks[lock] else { return }
        var kept: Int32 = -1
        var first: Int32 = -1
        var at = record.firstWaiter
        while at >= 0 {
            let waiter = waiters[Int(at)]
            if waiter.isHoping {
                actions.append(.retry(operation: waiter.operation))
                freeWaiter(at)
            } else {
                if kept >= 0 { waiters[Int(kept)].next = at } else { first = at }
                waiters[Int(at)].next = -1
                kept = at
            }
            at = waiter.next
        }
        locks.update(lock) {
            $0.firstWaiter = first
            $0.lastWaiter = kept
        }
    }

    mutating func addWaiter(
        _ operation: UInt64, to lock: SlotHandle, isHoping: Bool = false
    ) {
        let waiter = LockWaiter(operation: operation, next: -1, isHoping: isHoping)
        let place: Int32
        if firstFreeWaiter >= 0 {
            place = firstFreeWaiter
            firstFreeWaiter = waiters[Int(place)].next
            waiters[Int(place)] = waiter
        } else {
            place = Int32(waiters.count)
            waiters.append(waiter)
        }
        let last = locks.update(lock) { record in
            defer {
                if record.lastWaiter < 0 { record.firstWaiter = place }
                record.lastWaiter = place
            }
            return record.lastWaiter
        }
        if let last, last >= 0 { waiters[Int(last)].next = place }
    }

    mutating func freeWaiter(_ place: Int32) {
        waiters[Int(place)].next = firstFreeWaiter
        firstFreeWaiter = place
    }
}
