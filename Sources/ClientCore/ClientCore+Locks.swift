import LDLMCore
import LNetCore
import Primitives
import WireFormat

extension Operation {
    /// Whether the size of a stripe's object was told without a lock.
    func hasGlimpsed(_ stripe: Int) -> Bool { stripe < glimpsed.count && glimpsed[stripe] != nil }
}

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
        operations.update(handle) { $0.stage = .locking }
        let mode: LockMode
        switch operation.request {
        case .write, .append, .truncate: mode = .pw
        default: mode = .pr
        }
        // Who asks for the size need not take the lock from who writes.
        var flags: LockFlags = []
        if case .stat = operation.request { flags = .hasIntent }
        for stripe in operation.objects.indices
        where operation.locks[stripe] == nil && !operation.hasGlimpsed(stripe) {
            guard let object = objects[operation.objects[stripe]] else {
                return fail(handle, .stale)
            }
            let acquisition = targets[object.target].locks.acquire(
                ResourceID(object.object), mode, .extent(.whole),
                operation: handle.rawValue, flags: flags)
            switch acquisition {
            case .granted(let lock), .pending(let lock):
                remember(operation.objects[stripe], under: lock, target: object.target)
            }
            switch acquisition {
            case .granted(let lock):
                operations.update(handle) { $0.locks[stripe] = lock }
            case .pending(let lock):
                operations.update(handle) { $0.awaited = lock }
                wait(for: stripe, handle, now: now)
                return
            }
        }
        // Waiting for locks may have taken long: an update passes the gates again.
        if let current = operations[handle], !isOpen(current.targets, for: current.request) {
            releaseLocks(of: current)
            operations.update(handle) {
                for index in $0.locks.indices { $0.locks[index] = nil }
            }
            return passGate(handle, lnet: &lnet, now: now)
        }
        runData(handle, lnet: &lnet, now: now)
    }

    private mutating func wait(for stripe: Int, _ handle: SlotHandle, now: Ticks) {
        guard let operation = operations[handle] else { return }
        // For a target that is away it might wait for long.
        let mayHold = isOpen(operation.targets, for: operation.request)
        giveBack(handle, from: mayHold ? stripe : 0)
        guard mayHold, operation.locks[..<stripe].contains(where: { $0 != nil }) else { return }
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
            operations.update(handle) { $0.locks[index] = nil }
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
            let handle = SlotHandle(rawValue: operation)
            guard let waiting = operations[handle], waiting.stage == .locking,
                let stripe = waiting.objects.firstIndex(where: {
                    objects[$0].map { $0.target == target && $0.lock == lock } ?? false
                }), waiting.locks[stripe] == nil
            else {
                targets[target].locks.release(lock)
                // It may still need it: then it asks again, and finds it or waits.
                if operations[handle]?.stage == .locking { ready.append(handle) }
                return
            }
            operations.update(handle) { $0.locks[stripe] = lock }
            ready.append(handle)
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

    private mutating func enqueue(
        _ lock: SlotHandle, target: Int, lnet: inout LNetCore, now: Ticks
    ) {
        guard let info = targets[target].locks.info(lock) else { return }
        // A lock of our own that is in the way and unused goes back in the same message, where
        // nothing under it is dirty.
        var given: [SlotHandle] = []
        let place = place(under: lock, target: target)
        let isClean = place.flatMap { objects[$0] }?.cache.isClean ?? true
        let cookies = targets[target].locks.takeConflictingUnused(
            info.resource, info.mode, info.policy, limit: 8
        ) { candidate in
            if isClean { given.append(candidate) }
            return isClean
        }
        if let place, !given.isEmpty { dropUnderLock(place) }
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
        if isGranted {
            // Also of a replay: a lock that waited may be free in the next instance.
            grant(target: target, lock: lock, valueBlock: reply.valueBlock)
        }
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
            break
        }
    }

    /// Everybody who waits for the answer to this glimpse gets the size, which is true now.
    private mutating func noteGlimpse(_ target: Int, _ lock: SlotHandle, _ block: OSTLVB) {
        let known = GlimpsedSize(
            size: Self.plausible(block.size), modified: Self.plausibleTime(block))
        for handle in operations.handles {
            guard let operation = operations[handle], operation.stage == .locking,
                operation.awaited == lock,
                let stripe = operation.objects.indices.first(where: {
                    operation.locks[$0] == nil && !operation.hasGlimpsed($0)
                        && objects[operation.objects[$0]]?.target == target
                })
            else { continue }
            operations.update(handle) {
                while $0.glimpsed.count <= stripe { $0.glimpsed.append(nil) }
                $0.glimpsed[stripe] = known
                $0.awaited = nil
            }
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
    mutating func grant(target: Int, lock: SlotHandle, valueBlock: OSTLVB) {
        guard let info = targets[target].locks.info(lock), info.state != .granted,
            let place = place(under: lock, target: target)
        else { return }
        objects.update(place) { object in
            if object.lock == nil {
                object.size = Self.plausible(valueBlock.size)
                object.modified = Self.plausibleTime(valueBlock)
            }
            object.lock = lock
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
        if objects[place]?.cache.isClean == true
            || configuration.mutation.is(.cancelsBeforeWriteBack)
        {
            completeCancels(place)
        } else {
            writeBack(place, lnet: &lnet, now: now)
        }
    }

    /// Nothing is dirty: the locks that are to go go.
    mutating func completeCancels(_ place: SlotHandle) {
        guard let object = objects[place], !object.cancels.isEmpty else { return }
        objects.update(place) { $0.cancels = [] }
        if object.cancels.contains(where: { $0 == object.lock }) { dropUnderLock(place) }
        for lock in object.cancels { targets[object.target].locks.flushed(lock) }
        forgetIfUnused(place)
    }

    /// What was known under the object's lock is not true any more.
    private mutating func dropUnderLock(_ place: SlotHandle) {
        guard let object = objects[place] else { return }
        if configuration.mutation.is(.keepsStaleCache) {
            objects.update(place) { $0.lock = nil }
            return
        }
        cachedByteCount -= object.cache.byteCount
        objects.update(place) {
            $0.lock = nil
            $0.size = 0
            $0.cache.removeAll()
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
                operations.update(handle) { $0.locks[index] = nil }
            }
        }
        for place in objects.handles {
            guard let object = objects[place], object.target == target, object.lock == lock
            else { continue }
            if object.cache.dirtyByteCount > 0 {
                dirtyByteCount -= object.cache.dirtyByteCount
                targets[target].grant.dirtied(-object.cache.dirtyByteCount)
                events.append(
                    .writeLost(
                        target: target, object.object, .stale,
                        byteCount: object.cache.dirtyByteCount))
            }
            dropUnderLock(place)
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
