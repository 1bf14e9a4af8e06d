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

    /// Granted locks that no operation uses.
    public private(set) var unusedCount = 0
    /// Locks that the server wants back and still has not got. None of them may be left when a
    /// receipt goes out.
    public private(set) var calledBackCount = 0

    private var locks = SlotTable<ClientLock>()
    private var byName = ChainedIndex()
    private var oldestUnused: Int32 = -1
    private var newestUnused: Int32 = -1
    private var waiters: [LockWaiter] = []
    private var firstFreeWaiter: Int32 = -1

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
    /// by joining an enqueue under way, or by a new one. Only plain and extent policies.
    public mutating func acquire(
        _ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy, operation: UInt64,
        flags: LockFlags = []
    ) -> LockAcquisition {
        precondition(
            policy.type == .plain || (policy.type == .extent && policy.range.isValid),
            "only plain locks and ranges that are not empty can be asked for")
        let hash = resource.chainHash
        var pending: SlotHandle?
        var at = byName.first(hash)
        while at >= 0 {
            if let handle = locks.handle(at: Int(at)), let lock = locks[handle],
                !lock.isCalledBack, lock.serves(resource, mode, policy),
                lock.isExtent == (policy.type == .extent)
            {
                switch lock.state {
                case .granted:
                    if lock.isUnused { removeFromUnused(handle) }
                    locks.update(handle) { $0.userCount += 1 }
                    return .granted(handle)
                case .enqueuing, .waiting:
                    pending = handle
                case .cancelling:
                    break
                }
            }
            at = byName.after(at)
        }
        if let pending {
            addWaiter(operation, to: pending)
            return .pending(pending)
        }
        let handle = locks.insert(
            ClientLock(
                resource: resource, range: policy.range, group: policy.group, mode: mode,
                isExtent: policy.type == .extent, flags: flags))
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
        case .granted, .cancelling:
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
            return .applied
        }
    }

    /// The enqueue was refused or came to nothing: everybody who waits for it fails.
    public mutating func enqueueFailed(_ lock: SlotHandle, error: Int32) {
        guard let record = locks[lock] else { return }
        switch record.state {
        case .enqueuing, .waiting: drop(lock, error: error)
        case .granted, .cancelling: break
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
        case .granted, .cancelling:
            if flags.contains(.astSent) { callBack(lock) }
            return .applied
        case .enqueuing, .waiting:
            return grant(
                lock, serverCookie: serverCookie, mode: mode, policy: policy, flags: flags)
        }
    }

    /// LDLM_BL_CALLBACK: the server wants the lock back. Remembered where its grant is still on
    /// the way.
    @discardableResult
    public mutating func blockingAST(clientCookie: UInt64) -> LockEventResult {
        let lock = SlotHandle(rawValue: clientCookie)
        guard locks.contains(lock) else { return .unknown }
        callBack(lock)
        return .applied
    }

    /// What was cached under a lock is written back and dropped: now it can be cancelled.
    public mutating func flushed(_ lock: SlotHandle) {
        guard let record = locks[lock], record.state == .cancelling else { return }
        forget(lock)
        actions.append(.cancel(serverCookie: record.serverCookie))
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
    /// `drop` is asked to forget what is cached under a lock; it says no where that is dirty.
    public mutating func takeConflictingUnused(
        _ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy, limit: Int,
        drop: (SlotHandle) -> Bool
    ) -> [UInt64] {
        var cookies: [UInt64] = []
        var at = byName.first(resource.chainHash)
        while at >= 0, cookies.count < limit {
            let next = byName.after(at)
            if let handle = locks.handle(at: Int(at)), let lock = locks[handle], lock.isUnused,
                lock.resource == resource, lock.range.overlaps(policy.range),
                !lock.mode.isCompatible(with: mode), !resource.isAdmission, drop(handle)
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
                let isGranted = info.state == .granted || info.state == .cancelling
                guard isGranted == wantsGranted, info.state != .enqueuing else { continue }
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

    private mutating func grant(
        _ lock: SlotHandle, serverCookie: UInt64, mode: LockMode, policy: LockPolicy,
        flags: LockFlags
    ) -> LockEventResult {
        guard let asked = locks[lock], mode.covers(asked.mode),
            (policy.type == .extent) == asked.isExtent, policy.range.isValid,
            policy.range.contains(asked.range)
        else { return .refused }
        var userCount: UInt32 = 0
        var at = asked.firstWaiter
        while at >= 0 {
            let waiter = waiters[Int(at)]
            userCount += 1
            actions.append(.wake(operation: waiter.operation, lock: lock))
            freeWaiter(at)
            at = waiter.next
        }
        locks.update(lock) {
            $0.state = .granted
            $0.serverCookie = serverCookie
            $0.mode = mode
            $0.range = policy.range
            $0.userCount = userCount
            $0.firstWaiter = -1
            $0.lastWaiter = -1
        }
        if flags.contains(.astSent) { markCalledBack(lock) }
        if userCount == 0 { becomeUnused(lock) }
        return .applied
    }

    private mutating func callBack(_ lock: SlotHandle) {
        markCalledBack(lock)
        guard let record = locks[lock], record.isUnused else { return }
        removeFromUnused(lock)
        beginCancel(lock)
    }

    private mutating func markCalledBack(_ lock: SlotHandle) {
        let isNew = locks.update(lock) { record in
            defer { record.isCalledBack = true }
            return !record.isCalledBack
        }
        if isNew == true { calledBackCount += 1 }
    }

    /// The last user of a granted lock has gone.
    private mutating func becomeUnused(_ lock: SlotHandle) {
        guard let record = locks[lock] else { return }
        if record.isCalledBack {
            beginCancel(lock)
            return
        }
        let place = Int32(lock.index)
        let newest = newestUnused
        locks.update(lock) {
            $0.isUnused = true
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

    private mutating func removeFromUnused(_ lock: SlotHandle) {
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

    private func handle(at place: Int32) -> SlotHandle? {
        place < 0 ? nil : locks.handle(at: Int(place))
    }

    private mutating func beginCancel(_ lock: SlotHandle) {
        locks.update(lock) { $0.state = .cancelling }
        actions.append(.flushAndCancel(lock))
    }

    /// Removes a lock without a cancel, and tells everybody concerned.
    private mutating func drop(_ lock: SlotHandle, error: Int32) {
        guard let record = locks[lock] else { return }
        if record.isUnused { removeFromUnused(lock) }
        var at = record.firstWaiter
        while at >= 0 {
            let waiter = waiters[Int(at)]
            actions.append(.failed(operation: waiter.operation, error: error))
            freeWaiter(at)
            at = waiter.next
        }
        forget(lock)
        switch record.state {
        case .granted, .cancelling: actions.append(.lost(lock))
        case .enqueuing, .waiting: break
        }
    }

    private mutating func forget(_ lock: SlotHandle) {
        guard let record = locks.remove(lock) else { return }
        byName.remove(Int32(lock.index))
        if record.isCalledBack { calledBackCount -= 1 }
    }

    private mutating func addWaiter(_ operation: UInt64, to lock: SlotHandle) {
        let place: Int32
        if firstFreeWaiter >= 0 {
            place = firstFreeWaiter
            firstFreeWaiter = waiters[Int(place)].next
            waiters[Int(place)] = LockWaiter(operation: operation, next: -1)
        } else {
            place = Int32(waiters.count)
            waiters.append(LockWaiter(operation: operation, next: -1))
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

    private mutating func freeWaiter(_ place: Int32) {
        waiters[Int(place)].next = firstFreeWaiter
        firstFreeWaiter = place
    }
}
