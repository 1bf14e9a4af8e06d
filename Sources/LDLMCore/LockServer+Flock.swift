internal import Primitives
internal import WireFormat

/// Who holds POSIX record locks: a process, as its client names it (`struct ldlm_flock`).
struct FlockOwner: Hashable {
    /// Place in `owners`.
    var slot: Int32
    var tag: UInt64
}

// POSIX record locks: what one owner locks replaces what it had there, whole or in part; adjacent
// ranges of one mode become one. Two owners exclude each other as PR and PW do. Who has to wait
// looks at granted locks only, as fcntl(2) does, and never where that would close a circle.
extension LockServer {
    /// A new record lock, an unlock (mode NL), or a question (TEST_LOCK).
    mutating func enqueueFlock(
        _ asked: LockRecord, on resource: ResourceID, clientCookie: UInt64, flags: LockFlags,
        now: Ticks
    ) -> EnqueueResult {
        var lock = asked
        let policy = lock.policy
        guard let place = place(for: &lock, on: resource) else {
            return refuse(.badPolicy, mode: lock.mode, policy: policy)
        }
        defer { if resources[Int(place)].nextFree == -2 { releaseIfEmpty(place) } }
        let conflict = grantedConflict(lock)
        if flags.contains(.testLock) {
            var result = EnqueueResult.without(.tested, mode: .nl, policy: policy)
            result.flags = conflict >= 0 ? .blockWait : .blockGranted
            if conflict >= 0 {
                result.mode = locks[Int(conflict)].mode
                result.policy = locks[Int(conflict)].policy
            }
            return result
        }
        // A range taken out of the middle of another leaves two, so that one more is needed.
        guard count + 1 < configuration.lockCountMax else {
            return refuse(.full, mode: lock.mode, policy: policy)
        }
        if lock.mode == .nl {
            carve(lock)
            reprocess(now: now)
            counters.cancels += 1
            var result = EnqueueResult.without(.granted, mode: .nl, policy: policy)
            result.flags = .blockGranted
            return result
        }
        let mustWait = isRecovering
        if conflict < 0, !mustWait {
            let index = makeLock(lock)
            setCookie(index, clientCookie)
            grantFlock(index)
            reprocess(now: now)
            return result(of: index)
        }
        if flags.contains(.blockNoWait) {
            counters.wouldBlock += 1
            return .without(.wouldBlock, mode: lock.mode, policy: policy)
        }
        if !mustWait, wouldDeadlock(lock) {
            return refuse(.deadlock, mode: lock.mode, policy: policy)
        }
        let index = makeLock(lock)
        setCookie(index, clientCookie)
        linkWaiting(index)
        if conflict >= 0, !mustWait { attach(index, to: conflict) }
        return result(of: index)
    }

    /// Puts a record lock that conflicts with nothing among the granted ones: its owner's others
    /// make room or become part of it. Who waited for those is to be looked at again.
    mutating func grantFlock(_ index: Int32) {
        let lock = locks[Int(index)]
        let wide = Extent(
            start: lock.range.start == 0 ? 0 : lock.range.start - 1,
            end: lock.range.end == .max ? .max : lock.range.end + 1)
        var union = lock.range
        for place in ownFlocks(like: lock, meeting: wide) where locks[Int(place)].mode == lock.mode
        {
            let other = locks[Int(place)].range
            union = Extent(start: min(union.start, other.start), end: max(union.end, other.end))
            dropLock(place)
        }
        carve(lock)
        if union != lock.range {
            locks[Int(index)].range = union
            locks[Int(index)].flags.insert(.changed)
        }
        linkGranted(index)
        counters.granted += 1
    }

    /// Grants a record lock that waited, and says so.
    mutating func completeFlock(_ index: Int32) {
        let lock = locks[Int(index)]
        let handle = handle(of: index)
        grantFlock(index)
        if lock.owner == 0 {
            actions.append(.granted(handle))
            return
        }
        counters.completionASTs += 1
        actions.append(
            .completionAST(
                lock: handle, owner: owner(at: lock.owner), clientCookie: lock.clientCookie,
                granted: LockDescriptor(
                    resource: resources[Int(lock.resource)].id, requestedMode: lock.mode,
                    grantedMode: lock.mode, policy: lock.policy), flags: []))
    }

    /// A waiting record lock would close a circle by now: it is refused, and its owner told.
    mutating func refuseFlock(_ index: Int32) {
        let lock = locks[Int(index)]
        if lock.owner != 0 {
            counters.completionASTs += 1
            actions.append(
                .completionAST(
                    lock: handle(of: index), owner: owner(at: lock.owner),
                    clientCookie: lock.clientCookie, granted: descriptor(of: index),
                    flags: .flockDeadlock))
        }
        counters.refused += 1
        dropLock(index)
    }

    /// Takes the bytes of `lock` out of its owner's granted locks there.
    private mutating func carve(_ lock: LockRecord) {
        for place in ownFlocks(like: lock, meeting: lock.range) {
            let other = locks[Int(place)]
            let keepsLeft = other.range.start < lock.range.start
            let keepsRight = other.range.end > lock.range.end
            switch (keepsLeft, keepsRight) {
            case (false, false):
                dropLock(place)
                continue
            case (true, _):
                reshape(place) { $0.range.end = lock.range.start - 1 }
            case (false, true):
                reshape(place) { $0.range.start = lock.range.end + 1 }
            }
            detachAll(from: place)
            guard keepsLeft, keepsRight else { continue }
            var right = LockRecord()
            right.flags = .flock
            right.range = Extent(start: lock.range.end + 1, end: other.range.end)
            right.tag = other.tag
            right.process = other.process
            right.mode = other.mode
            right.owner = other.owner
            right.resource = other.resource
            linkGranted(makeLock(right))
        }
    }

    /// The granted locks of the same owner of record locks whose ranges meet `range`, by start.
    private func ownFlocks(like lock: LockRecord, meeting range: Extent) -> [Int32] {
        var found: [Int32] = []
        func consider(_ index: Int32) {
            let other = locks[Int(index)]
            if other.owner == lock.owner, other.tag == lock.tag, other.range.overlaps(range) {
                found.append(index)
            }
        }
        let resource = resources[Int(lock.resource)]
        if resource.trees >= 0 {
            for mode in [LockMode.ex, .pw, .pr] {
                _ = trees.first(
                    under: roots[Int(resource.trees)].granted[mode.ordinal], meeting: range,
                    below: .max
                ) {
                    consider($0)
                    return false
                }
            }
        } else {
            var at = resource.granted.first
            while at >= 0 {
                consider(at)
                at = locks[Int(at)].next
            }
        }
        return found.sorted { locks[Int($0)].range.start < locks[Int($1)].range.start }
    }

    // MARK: Deadlocks

    func key(of index: Int32) -> FlockOwner {
        FlockOwner(slot: locks[Int(index)].owner, tag: locks[Int(index)].tag)
    }

    mutating func forgetFlockWait(_ index: Int32) {
        let key = key(of: index)
        flockWaits[key]?.removeAll { $0 == index }
        if flockWaits[key]?.isEmpty == true { flockWaits[key] = nil }
    }

    /// Whether the owner of `lock`, were it to wait, would wait for itself: a search from owner to
    /// owner, over all that each of them waits for, on every resource. Linear in the waiting record
    /// locks and in those in their way.
    func wouldDeadlock(_ lock: LockRecord) -> Bool {
        let asker = FlockOwner(slot: lock.owner, tag: lock.tag)
        var seen: Set<FlockOwner> = []
        var toVisit: [FlockOwner] = []
        func visitThose(inTheWayOf lock: LockRecord) -> Bool {
            let resource = resources[Int(lock.resource)]
            var isCircle = false
            func consider(_ index: Int32) {
                guard locks[Int(index)].conflicts(with: lock) else { return }
                let key = key(of: index)
                if key == asker { isCircle = true }
                if seen.insert(key).inserted { toVisit.append(key) }
            }
            if resource.trees >= 0 {
                for mode in [LockMode.ex, .pw, .pr] {
                    _ = trees.first(
                        under: roots[Int(resource.trees)].granted[mode.ordinal],
                        meeting: lock.range, below: .max
                    ) {
                        consider($0)
                        return isCircle
                    }
                }
            } else {
                var at = resource.granted.first
                while at >= 0, !isCircle {
                    consider(at)
                    at = locks[Int(at)].next
                }
            }
            return isCircle
        }
        if visitThose(inTheWayOf: lock) { return true }
        while let owner = toVisit.popLast() {
            for index in flockWaits[owner] ?? []
            where visitThose(inTheWayOf: locks[Int(index)]) {
                return true
            }
        }
        return false
    }
}
