import LDLMCore
import LNetCore
import Primitives
import WireFormat

/// Locks of operations on data, and what the lock cache asks for.
extension ClientCore {
    /// How long an operation that waits for a lock keeps those of earlier stripes: well below the
    /// time after which a server evicts whoever keeps a lock that it wants back.
    private static var holdMax: TickInterval { .seconds(4) }

    /// Takes the operation's locks stripe by stripe. While it waits for one it keeps those of the
    /// stripes before it, and none of those behind: everybody takes the locks of a file in this
    /// order, so that no two wait for each other, and somebody always gets on.
    mutating func takeLocks(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        // Waiting for locks may have taken long: an operation passes the gates again, before it asks
        // for anything more.
        guard isOpen(operation.targets, for: operation.request) else {
            releaseLocks(of: operation)
            operations.update(handle) {
                $0.glimpsed = []
                for index in $0.locks.indices { $0.locks[index] = nil }
            }
            return passGate(handle, lnet: &lnet, now: now)
        }
        operations.update(handle) { $0.stage = .locking }
        // Who asks for the size need not take the lock from who writes.
        var flags: LockFlags = []
        if case .stat = operation.request { flags = .hasIntent }
        for stripe in operation.objects.indices where operation.locks[stripe] == nil {
            guard let need = operation.need(of: stripe) else { continue }
            guard let object = objects[operation.objects[stripe]] else {
                return fail(handle, .stale)
            }
            let acquisition = targets[object.target].locks.acquire(
                ResourceID(object.object), need.mode, .extent(need.range),
                operation: handle.rawValue, flags: flags)
            switch acquisition {
            case .granted(let lock):
                operations.update(handle) { $0.locks[stripe] = lock }
            case .pending(let lock):
                remember(operation.objects[stripe], under: lock, target: object.target)
                operations.update(handle) { $0.awaited = lock }
                wait(for: stripe, handle, now: now)
                return
            case .later:
                operations.update(handle) { $0.awaited = nil }
                wait(for: stripe, handle, now: now)
                return
            }
        }
        if asksForSize(handle, now: now) { return }
        runData(handle, lnet: &lnet, now: now)
    }

    /// A read that may reach beyond the end asks for the sizes that no lock tells, while it keeps
    /// what it reads. True where it waits for an answer; nobody waits for it meanwhile, since a
    /// glimpse is answered at once.
    private mutating func asksForSize(_ handle: SlotHandle, now: Ticks) -> Bool {
        guard let operation = operations[handle],
            case .read(_, let offset, let byteCount) = operation.request, byteCount > 0,
            fileSize(of: operation) < offset + UInt64(byteCount)
        else { return false }
        for stripe in operation.objects.indices where !operation.hasGlimpsed(stripe) {
            let place = operation.objects[stripe]
            guard let object = objects[place], !knowsSize(object) else { continue }
            let acquisition = targets[object.target].locks.acquire(
                ResourceID(object.object), .pr, .extent(.whole), operation: handle.rawValue,
                flags: .hasIntent)
            switch acquisition {
            case .granted(let lock):
                noteSize(of: stripe, for: handle)
                targets[object.target].locks.release(lock)
            case .pending(let lock):
                remember(place, under: lock, target: object.target)
                operations.update(handle) { $0.awaited = lock }
                hold(handle, now: now)
                return true
            case .later:
                operations.update(handle) { $0.awaited = nil }
                hold(handle, now: now)
                return true
            }
        }
        return false
    }

    /// The size of a stripe's object is what is known of it now.
    private mutating func noteSize(of stripe: Int, for handle: SlotHandle) {
        guard let operation = operations[handle], let object = objects[operation.objects[stripe]]
        else { return }
        operations.update(handle) {
            $0.note(GlimpsedSize(size: object.size, modified: object.modified), of: stripe)
        }
    }

    /// The lock that covers a range of an object and that nobody wants back.
    func lock(on object: CachedObject, covering range: Extent) -> SlotHandle? {
        object.locks.first { held in
            held.range.contains(range) && isKept(held.lock, object.target)
        }?.lock
    }

    /// Whether nobody else can have made the object longer: a lock reaches from within it to any
    /// end.
    func knowsSize(_ object: CachedObject) -> Bool {
        object.locks.contains { held in
            held.range.end == .max && held.range.start <= object.size
                && isKept(held.lock, object.target)
        }
    }

    private func isKept(_ lock: SlotHandle, _ target: Int) -> Bool {
        guard let info = targets[target].locks.info(lock) else { return false }
        return info.state == .granted && !info.isCalledBack
    }

    private mutating func wait(for stripe: Int, _ handle: SlotHandle, now: Ticks) {
        guard let operation = operations[handle] else { return }
        // For a target that is away it might wait for long.
        let mayHold = isOpen(operation.targets, for: operation.request)
        giveBack(handle, from: mayHold ? stripe : 0)
        guard mayHold, operation.locks[..<stripe].contains(where: { $0 != nil }) else { return }
        hold(handle, now: now)
    }

    /// The operation keeps the locks that it has while it waits, but not for ever.
    private mutating func hold(_ handle: SlotHandle, now: Ticks) {
        operations.update(handle) { $0.holdsUntil = now + Self.holdMax }
        holding.insert(handle, at: now + Self.holdMax)
    }

    /// Gives up the locks of the stripes from `stripe` on; they are taken again in their turn.
    private mutating func giveBack(_ handle: SlotHandle, from stripe: Int) {
        guard let operation = operations[handle] else { return }
        for index in operation.locks.indices[stripe...] {
            guard let lock = operation.locks[index], let object = objects[operation.objects[index]]
            else { continue }
            targets[object.target].locks.release(lock)
            operations.update(handle) { $0.lose(stripe: index) }
        }
    }

    /// Operations that have waited for too long go on waiting without holding anything.
    mutating func releaseLongHeld(now: Ticks) {
        while let handle = holding.popDue(now: now) {
            guard let operation = operations[handle], operation.stage == .locking,
                operation.holdsUntil <= now
            else { continue }
            giveBack(handle, from: 0)
        }
    }

    /// A target's gate shuts: whoever waits for a lock there keeps nobody waiting elsewhere.
    mutating func releaseWaiting(for target: Int) {
        for handle in operations.handles {
            guard let operation = operations[handle], operation.stage == .locking,
                operation.targets >> UInt64(target) & 1 == 1
            else { continue }
            giveBack(handle, from: 0)
        }
    }

    mutating func releaseLocks(of operation: Operation) {
        for (stripe, lock) in operation.locks.enumerated() {
            guard let lock, let object = objects[operation.objects[stripe]] else { continue }
            targets[object.target].locks.release(lock)
        }
    }

    mutating func run(
        _ action: LockClientAction, target: Int, lnet: inout LNetCore, now: Ticks
    ) {
        switch action {
        case .enqueue(let lock):
            enqueue(lock, target: target, lnet: &lnet, now: now)
        case .flushAndCancel(let lock):
            flushAndCancel(lock, target: target, lnet: &lnet, now: now)
        case .dropBits(let lock, _):
            targets[target].locks.bitsDropped(lock)
        case .convert(let lock, let cookie, let bits):
            guard let info = targets[target].locks.info(lock) else { return }
            let descriptor = LockDescriptor(
                resource: info.resource, requestedMode: info.mode, grantedMode: info.mode,
                policy: .bits(bits))
            call(
                target, .convert(.convert(cookie: cookie, descriptor: descriptor)),
                for: .convert(target: target, lock: lock), lnet: &lnet, now: now)
        case .cancel(let cookie):
            call(target, .cancel(.cancel(cookie: cookie)), for: .none, lnet: &lnet, now: now)
        case .wake(let operation, let lock):
            wake(SlotHandle(rawValue: operation), with: lock, target: target)
        case .retry(let operation):
            let handle = SlotHandle(rawValue: operation)
            if operations[handle]?.stage == .locking { ready.append(handle) }
        case .failed(let operation, let error):
            let handle = SlotHandle(rawValue: operation)
            guard let waiting = operations[handle], waiting.stage == .locking else { return }
            if error == Status.lockAborted.rawValue {
                // A glimpse was answered: there is no lock, and none is needed.
                ready.append(handle)
            } else if error == Status.tryAgain.rawValue || error == Status.inProgress.rawValue {
                retry(handle, after: .milliseconds(10), now: now)
            } else {
                fail(handle, Status(rawValue: error))
            }
        case .lost(let lock):
            loseLock(lock, target: target, now: now)
        }
    }

    private mutating func wake(_ handle: SlotHandle, with lock: SlotHandle, target: Int) {
        guard let operation = operations[handle], operation.stage == .locking else {
            targets[target].locks.release(lock)
            return
        }
        // It takes the lock where that is what it needs; else it asks again, and finds it or waits.
        ready.append(handle)
        guard let place = place(under: lock, target: target),
            let stripe = operation.objects.firstIndex(of: place),
            let info = targets[target].locks.info(lock)
        else {
            targets[target].locks.release(lock)
            return
        }
        if operation.locks[stripe] == nil, let need = operation.need(of: stripe),
            info.mode.covers(need.mode), info.policy.range.contains(need.range)
        {
            operations.update(handle) { $0.locks[stripe] = lock }
            return
        }
        // A glimpse that brought the lock: the size is true at this moment.
        if operation.awaited == lock { noteSize(of: stripe, for: handle) }
        targets[target].locks.release(lock)
    }

    private mutating func enqueue(
        _ lock: SlotHandle, target: Int, lnet: inout LNetCore, now: Ticks
    ) {
        guard let info = targets[target].locks.info(lock) else { return }
        // A lock of our own that is in the way and unused goes back in the same message, where
        // nothing under it is dirty. Who only asks for the size keeps it.
        var cookies: [UInt64] = []
        if !info.flags.contains(.hasIntent), let place = place(under: lock, target: target),
            let cache = objects[place]?.cache
        {
            var given: [SlotHandle] = []
            cookies = targets[target].locks.takeConflictingUnused(
                info.resource, info.mode, info.policy, limit: 8
            ) { candidate, range in
                let isClean = cache.isClean(in: range)
                if isClean { given.append(candidate) }
                return isClean
            }
            for lock in given { dropUnderLock(lock, place) }
        }
        let request = LDLMRequest.enqueue(
            cookie: lock.rawValue, flags: info.flags, descriptor: info.descriptor,
            cancelling: cookies)
        call(
            target, .enqueue(EnqueueRequest(request: request)),
            for: .enqueue(target: target, lock: lock), lnet: &lnet, now: now)
    }

    /// Which object a lock guards: by the lock's place, so that no name is looked up on the way.
    private mutating func remember(_ place: SlotHandle, under lock: SlotHandle, target: Int) {
        while targets[target].lockPlaces.count <= Int(lock.index) {
            targets[target].lockPlaces.append(place)
        }
        targets[target].lockPlaces[Int(lock.index)] = place
    }

    func place(under lock: SlotHandle, target: Int) -> SlotHandle? {
        guard let info = targets[target].locks.info(lock),
            Int(lock.index) < targets[target].lockPlaces.count
        else { return nil }
        let place = targets[target].lockPlaces[Int(lock.index)]
        guard let object = objects[place], object.object == info.resource.objectName else {
            return objectPlaces[ObjectKey(target: target, object: info.resource.objectName)]
        }
        return place
    }

    /// The answer to an enqueue, or to the replay of a lock.
    mutating func enqueueReply(
        target: Int, lock: SlotHandle, status: Status, body: ReplyBody, isReplay: Bool,
        lnet: inout LNetCore, now: Ticks
    ) {
        guard !status.isError, case .enqueue(let reply) = body else {
            if isReplay {
                targets[target].locks.lose(lock, error: status.rawValue)
            } else {
                targets[target].locks.enqueueFailed(lock, error: status.rawValue)
            }
            return
        }
        if status == .lockAborted || status == .lockWouldBlock {
            if status == .lockAborted { noteGlimpse(target, lock, reply.valueBlock) }
            let error = status == .lockAborted ? status : .tryAgain
            targets[target].locks.enqueueFailed(lock, error: error.rawValue)
            return
        }
        let isGranted = reply.reply.descriptor.grantedMode != nil
        let wasHeld = targets[target].locks.info(lock)?.isHeld ?? true
        let result = targets[target].locks.enqueueReply(
            lock, serverCookie: reply.reply.serverCookie, isGranted: isGranted,
            mode: reply.reply.descriptor.grantedMode
                ?? reply.reply.descriptor.requestedMode ?? .nl,
            policy: reply.reply.descriptor.policy, flags: reply.reply.flags)
        switch result {
        case .refused:
            targets[target].locks.enqueueFailed(lock, error: Status.protocolError.rawValue)
        case .unknown:
            // Granted by callback, used and given back before this answer came. An enqueue that was
            // sent again has made the lock anew: nobody here wants it.
            call(
                target, .cancel(.cancel(cookie: reply.reply.serverCookie)), for: .none,
                lnet: &lnet, now: now)
        case .applied:
            // Also of a replay: a lock that waited may be free in the next instance.
            if isGranted, !wasHeld {
                granted(target: target, lock: lock, valueBlock: reply.valueBlock)
            }
        }
    }

    /// Everybody who waits for the answer to this glimpse gets the size, which is true now.
    private mutating func noteGlimpse(_ target: Int, _ lock: SlotHandle, _ block: OSTLVB) {
        let known = GlimpsedSize(
            size: Self.plausible(block.size), modified: Self.plausibleTime(block))
        guard let place = place(under: lock, target: target) else { return }
        for handle in operations.handles {
            guard let operation = operations[handle], operation.stage == .locking,
                operation.awaited == lock, let stripe = operation.objects.firstIndex(of: place)
            else { continue }
            operations.update(handle) { $0.note(known, of: stripe) }
        }
    }

    /// A peer's numbers: what no server of ours can mean is taken for the nearest sense.
    private static func plausible(_ size: UInt64) -> UInt64 {
        min(size, UInt64(Int64.max) >> 1)
    }

    private static func plausibleTime(_ block: OSTLVB) -> Timestamp {
        Timestamp(
            seconds: block.mtime, nanoseconds: min(block.mtimeNanoseconds, 999_999_999))
    }

    /// What a grant says about the object is true from now on.
    mutating func granted(target: Int, lock: SlotHandle, valueBlock: OSTLVB) {
        guard let info = targets[target].locks.info(lock), info.isHeld else { return }
        let place: SlotHandle
        if let known = self.place(under: lock, target: target) {
            place = known
        } else {
            // Who asked for it is gone. The lock stays, and what it tells of the object with it.
            let key = ObjectKey(target: target, object: info.resource.objectName)
            place = objects.insert(CachedObject(target: key.target, object: key.object))
            objectPlaces[key] = place
            remember(place, under: lock, target: target)
        }
        objects.update(place) { object in
            if object.locks.isEmpty {
                object.size = 0
                object.modified = .zero
            }
            object.size = max(object.size, Self.plausible(valueBlock.size))
            object.modified = max(object.modified, Self.plausibleTime(valueBlock))
            object.locks.append(HeldExtent(lock: lock, range: info.policy.range))
        }
    }

    /// Writes back what is dirty under a lock, then gives it up.
    private mutating func flushAndCancel(
        _ lock: SlotHandle, target: Int, lnet: inout LNetCore, now: Ticks
    ) {
        guard let place = place(under: lock, target: target) else {
            targets[target].locks.flushed(lock)
            return
        }
        objects.update(place) { $0.cancels.append(lock) }
        completeCancels(place)
        if objects[place]?.cancels.isEmpty == false { writeBack(place, lnet: &lnet, now: now) }
    }

    /// The locks that are to go and under which nothing is dirty go.
    mutating func completeCancels(_ place: SlotHandle) {
        guard let object = objects[place], !object.cancels.isEmpty else { return }
        for lock in object.cancels {
            let held = object.locks.first { $0.lock == lock }
            guard
                held.map({ object.cache.isClean(in: $0.range) }) ?? true
                    || configuration.mutation.is(.cancelsBeforeWriteBack)
            else { continue }
            objects.update(place) { $0.cancels.removeAll { $0 == lock } }
            dropUnderLock(lock, place)
            targets[object.target].locks.flushed(lock)
        }
        forgetIfUnused(place)
    }

    /// What was known under this lock is not true any more.
    private mutating func dropUnderLock(_ lock: SlotHandle, _ place: SlotHandle) {
        let keepsStale = configuration.mutation.is(.keepsStaleCache)
        guard let target = objects[place]?.target else { return }
        let change = objects.update(place) { object -> (cached: Int, dirty: Int) in
            guard let index = object.locks.firstIndex(where: { $0.lock == lock }) else {
                return (0, 0)
            }
            let range = object.locks.remove(at: index).range
            if keepsStale || object.locks.contains(where: { $0.range.contains(range) }) {
                return (0, 0)
            }
            let before = (object.cache.byteCount, object.cache.dirtyByteCount)
            if object.locks.isEmpty {
                object.size = 0
                object.cache.removeAll()
            } else {
                object.cache.cut(range)
            }
            return (
                before.0 - object.cache.byteCount, before.1 - object.cache.dirtyByteCount
            )
        }
        guard let change else { return }
        cachedByteCount -= change.cached
        if change.dirty > 0 {
            dirtyByteCount -= change.dirty
            targets[target].grant.dirtied(-change.dirty)
        }
    }

    private mutating func loseLock(_ lock: SlotHandle, target: Int, now: Ticks) {
        // What was kept of names and attributes under it is not believed any more, as it is.
        if target == metadataTarget { return }
        // Whoever keeps it while it waits for another takes it anew in its turn.
        for handle in operations.handles {
            guard let operation = operations[handle], operation.stage == .locking else { continue }
            for index in operation.locks.indices
            where operation.locks[index] == lock
                && objects[operation.objects[index]]?.target == target
            {
                operations.update(handle) { $0.lose(stripe: index) }
            }
        }
        for place in objects.handles {
            guard let object = objects[place], object.target == target,
                object.locks.contains(where: { $0.lock == lock })
            else { continue }
            dropUnderLock(lock, place)
            let lost = object.cache.dirtyByteCount - (objects[place]?.cache.dirtyByteCount ?? 0)
            if lost > 0 {
                events.append(
                    .writeLost(target: target, object.object, .stale, byteCount: lost))
            }
            let waiters = object.waiters
            objects.update(place) {
                $0.cancels.removeAll { $0 == lock }
                $0.waiters = []
            }
            for waiter in waiters { ready.append(waiter) }
            forgetIfUnused(place)
        }
    }
}
