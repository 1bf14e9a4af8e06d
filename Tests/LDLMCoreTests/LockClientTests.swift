import LDLMCore
import Primitives
import Testing
import WireFormat

@Suite struct LockClientTests {
    private let id = ResourceID(1)

    private func pending(_ acquisition: LockAcquisition) -> SlotHandle {
        guard case .pending(let lock) = acquisition else {
            Issue.record("the lock should have to be asked for")
            return SlotHandle(rawValue: 0)
        }
        return lock
    }

    /// A lock of the cache that nobody uses.
    private func unused(
        _ cache: inout LockClient, _ resource: ResourceID, _ mode: LockMode, cookie: UInt64
    ) -> SlotHandle {
        let lock = pending(cache.acquire(resource, mode, .plain, operation: 1))
        cache.enqueueReply(
            lock, serverCookie: cookie, isGranted: true, mode: mode, policy: .plain)
        cache.release(lock)
        _ = cache.takeActions()
        return lock
    }

    @Test func `who asks hears of every lock that begins and ceases to be held`() {
        var cache = LockClient()
        _ = unused(&cache, id, .pr, cookie: 70)
        #expect(cache.changes == nil)
        cache.changes = Outbox()
        let lock = unused(&cache, ResourceID(2), .pw, cookie: 71)
        #expect(cache.changes?.popFirst() == lock)
        #expect(cache.info(lock)?.isHeld == true)
        // Called back it is held as long as something is to be written under it.
        cache.blockingAST(clientCookie: lock.rawValue)
        #expect(cache.info(lock)?.isHeld == true)
        cache.flushed(lock)
        #expect(cache.changes?.popFirst() == lock)
        #expect(cache.info(lock) == nil)
        // A place that an answer may fill is nobody's until it does.
        let expected = cache.expect()
        #expect(cache.changes?.isEmpty == true)
        cache.bring(expected, ResourceID(3), .lookup, serverCookie: 72)
        #expect(cache.changes?.popFirst() == expected)
        cache.invalidateAll(error: 1)
        #expect(cache.changes?.count == 2)
    }

    @Test func `several operations share one enqueue and then the cached lock`() {
        var cache = LockClient()
        let lock = pending(cache.acquire(id, .pw, .plain, operation: 1))
        #expect(pending(cache.acquire(id, .pr, .plain, operation: 2)) == lock)
        #expect(pending(cache.acquire(id, .ex, .plain, operation: 3)) != lock)
        #expect(cache.takeActions().count == 2)
        cache.enqueueReply(lock, serverCookie: 77, isGranted: true, mode: .pw, policy: .plain)
        #expect(
            cache.takeActions() == [
                .wake(operation: 1, lock: lock), .wake(operation: 2, lock: lock),
            ])
        #expect(cache.acquire(id, .pr, .plain, operation: 4) == .granted(lock))
        for _ in 0..<3 { cache.release(lock) }
        #expect(cache.unusedCount == 1)
        #expect(cache.acquire(id, .pw, .plain, operation: 5) == .granted(lock))
        #expect(cache.unusedCount == 0)
        #expect(cache.takeActions().isEmpty)
    }

    @Test func `a grown extent serves what it covers`() {
        var cache = LockClient()
        let small = LockPolicy.extent(Extent(start: 10, end: 19))
        let lock = pending(cache.acquire(id, .pr, small, operation: 1))
        let grown = LockPolicy.extent(Extent(start: 0, end: 99))
        cache.enqueueReply(lock, serverCookie: 7, isGranted: true, mode: .pr, policy: grown)
        let inside = LockPolicy.extent(Extent(start: 90, end: 99))
        #expect(cache.acquire(id, .pr, inside, operation: 2) == .granted(lock))
        let beyond = LockPolicy.extent(Extent(start: 90, end: 100))
        #expect(pending(cache.acquire(id, .pr, beyond, operation: 3)) != lock)
    }

    @Test func `who needs another range waits to see how far the one asked for grows`() {
        var cache = LockClient()
        let low = LockPolicy.extent(Extent(start: 0, end: 9))
        let high = LockPolicy.extent(Extent(start: 50, end: 59))
        let lock = pending(cache.acquire(id, .pw, low, operation: 1))
        #expect(cache.acquire(id, .pw, high, operation: 2) == .later(lock))
        #expect(cache.takeActions() == [.enqueue(lock)])
        let grown = LockPolicy.extent(.whole)
        cache.enqueueReply(lock, serverCookie: 7, isGranted: true, mode: .pw, policy: grown)
        #expect(cache.takeActions() == [.wake(operation: 1, lock: lock), .retry(operation: 2)])
        #expect(cache.info(lock)?.userCount == 1)
        #expect(cache.acquire(id, .pw, high, operation: 2) == .granted(lock))
    }

    @Test func `a lock that has to wait does not grow, and who hoped for that asks at once`() {
        var cache = LockClient()
        let low = LockPolicy.extent(Extent(start: 0, end: 9))
        let lock = pending(cache.acquire(id, .pw, low, operation: 1))
        _ = cache.acquire(id, .pw, .extent(Extent(start: 50, end: 59)), operation: 2)
        _ = cache.acquire(id, .pw, low, operation: 3)
        _ = cache.takeActions()
        cache.enqueueReply(lock, serverCookie: 7, isGranted: false, mode: .pw, policy: low)
        #expect(cache.takeActions() == [.retry(operation: 2)])
        // Not for this one again: it is known what that will bring.
        let other = pending(
            cache.acquire(id, .pw, .extent(Extent(start: 50, end: 59)), operation: 2))
        #expect(other != lock)
        _ = cache.takeActions()
        cache.completionAST(
            clientCookie: lock.rawValue, serverCookie: 7, mode: .pw, policy: low)
        #expect(
            cache.takeActions() == [
                .wake(operation: 1, lock: lock), .wake(operation: 3, lock: lock),
            ])
    }

    @Test func `a size that was asked for before a question answers it only with the lock`() {
        var cache = LockClient()
        let whole = LockPolicy.extent(.whole)
        let first = pending(
            cache.acquire(id, .pr, whole, operation: 1, flags: .hasIntent))
        #expect(
            cache.acquire(id, .pr, whole, operation: 2, flags: .hasIntent) == .later(first))
        _ = cache.takeActions()
        // ELDLM_LOCK_ABORTED: a size and no lock. It may have been true before the second asked.
        cache.enqueueFailed(first, error: 301)
        #expect(
            cache.takeActions() == [.failed(operation: 1, error: 301), .retry(operation: 2)])
    }

    @Test func `a blocking AST before the grant is applied at the grant`() {
        var cache = LockClient()
        let lock = pending(cache.acquire(id, .pr, .plain, operation: 1))
        #expect(cache.blockingAST(clientCookie: lock.rawValue) == .applied)
        #expect(cache.calledBackCount == 1)
        // It serves nobody new, even before it is granted.
        #expect(pending(cache.acquire(id, .pr, .plain, operation: 2)) != lock)
        _ = cache.takeActions()
        cache.enqueueReply(lock, serverCookie: 7, isGranted: true, mode: .pr, policy: .plain)
        #expect(cache.takeActions() == [.wake(operation: 1, lock: lock)])
        cache.release(lock)
        #expect(cache.takeActions() == [.flushAndCancel(lock)])
        // The owner still writes back: whoever comes now asks anew.
        let next = cache.acquire(id, .pr, .plain, operation: 3)
        #expect(pending(next) != lock)
        _ = cache.takeActions()
        cache.flushed(lock)
        #expect(cache.takeActions() == [.cancel(serverCookie: 7)])
        #expect(cache.calledBackCount == 0)
        #expect(cache.info(lock) == nil)
        cache.flushed(lock)
        cache.release(lock)
        #expect(cache.blockingAST(clientCookie: lock.rawValue) == .unknown)
        #expect(cache.takeActions().isEmpty)
    }

    @Test func `a completion AST may come before the reply, and a second grant is ignored`() {
        var cache = LockClient()
        let lock = pending(cache.acquire(id, .pr, .plain, operation: 1))
        _ = cache.takeActions()
        let complete = { (cache: inout LockClient) in
            cache.completionAST(
                clientCookie: lock.rawValue, serverCookie: 7, mode: .pr, policy: .plain)
        }
        #expect(complete(&cache) == .applied)
        #expect(cache.takeActions() == [.wake(operation: 1, lock: lock)])
        cache.enqueueReply(lock, serverCookie: 7, isGranted: false, mode: .pr, policy: .plain)
        #expect(complete(&cache) == .applied)
        #expect(cache.takeActions().isEmpty)
        #expect(cache.info(lock)?.userCount == 1)
        #expect(cache.info(lock)?.state == .granted)
    }

    @Test func `less than was asked for is refused`() {
        var cache = LockClient()
        let lock = pending(
            cache.acquire(
                id, .pw, .extent(Extent(start: 5, end: 9)), operation: 1))
        let grants: [(LockMode, LockPolicy)] = [
            (.pr, .extent(.whole)), (.pw, .plain), (.pw, .extent(Extent(start: 6, end: 9))),
            (.pw, .extent(Extent(start: 9, end: 5))),
        ]
        for (mode, policy) in grants {
            #expect(
                cache.enqueueReply(
                    lock, serverCookie: 7, isGranted: true, mode: mode, policy: policy)
                    == .refused)
        }
        #expect(cache.info(lock)?.state == .enqueuing)
    }

    @Test func `an operation that gives up is not woken and leaves the lock to the cache`() {
        var cache = LockClient()
        let lock = pending(cache.acquire(id, .pr, .plain, operation: 1))
        _ = cache.acquire(id, .pr, .plain, operation: 2)
        _ = cache.acquire(id, .pr, .plain, operation: 3)
        #expect(cache.abandon(lock, operation: 2) == true)
        #expect(cache.abandon(lock, operation: 2) == false)
        #expect(cache.abandon(lock, operation: 3) == true)
        _ = cache.acquire(id, .pr, .plain, operation: 4)
        #expect(cache.abandon(lock, operation: 1) == true)
        _ = cache.takeActions()
        cache.enqueueReply(lock, serverCookie: 7, isGranted: true, mode: .pr, policy: .plain)
        #expect(cache.takeActions() == [.wake(operation: 4, lock: lock)])
        cache.release(lock)
        #expect(cache.unusedCount == 1)
    }

    @Test func `the longest unused go first`() {
        var cache = LockClient(unusedCountMax: 3)
        let locks = (1...3).map { unused(&cache, ResourceID($0), .pr, cookie: $0) }
        // The first is used again and becomes the newest.
        _ = cache.acquire(ResourceID(1), .pr, .plain, operation: 9)
        cache.release(locks[0])
        cache.cancelUnused(keeping: 2)
        #expect(cache.takeActions() == [.flushAndCancel(locks[1])])
        cache.flushed(locks[1])
        _ = unused(&cache, ResourceID(5), .pr, cookie: 5)
        cache.cancelUnused(keeping: 0)
        #expect(cache.takeActions().count == 3)
        #expect(cache.unusedCount == 0)
        var bounded = LockClient(unusedCountMax: 3)
        let first = unused(&bounded, ResourceID(1), .pr, cookie: 1)
        for name in UInt64(2)...10 { _ = unused(&bounded, ResourceID(name), .pr, cookie: name) }
        #expect(bounded.unusedCount == 3)
        #expect(bounded.info(first)?.state == .cancelling)
    }

    @Test func `early cancel takes what conflicts, is unused and clean`() {
        var cache = LockClient()
        let reader = unused(&cache, id, .pr, cookie: 11)
        _ = unused(&cache, ResourceID(2), .pr, cookie: 12)
        let none = cache.takeConflictingUnused(id, .pr, .plain, limit: 9) { _, _ in true }
        #expect(none.isEmpty)
        let dirty = cache.takeConflictingUnused(id, .ex, .plain, limit: 9) { _, _ in false }
        #expect(dirty.isEmpty)
        let taken = cache.takeConflictingUnused(id, .ex, .plain, limit: 9) {
            lock, range in lock == reader && range == .whole
        }
        #expect(taken == [11])
        #expect(cache.count == 1)
        #expect(cache.unusedCount == 1)
    }

    @Test func `granted locks are replayed before waiting ones, and get new cookies`() {
        var cache = LockClient()
        let waiting = pending(cache.acquire(ResourceID(3), .ex, .plain, operation: 1))
        cache.enqueueReply(
            waiting, serverCookie: 3, isGranted: false, mode: .ex, policy: .plain)
        _ = cache.acquire(ResourceID(4), .ex, .plain, operation: 2)
        let held = unused(&cache, id, .pw, cookie: 1)
        let leaving = unused(&cache, ResourceID(2), .pr, cookie: 2)
        _ = cache.blockingAST(clientCookie: leaving.rawValue)
        let replays = cache.replayList()
        #expect(replays.map(\.lock) == [held, leaving, waiting])
        #expect(replays.map(\.isGranted) == [true, true, false])
        #expect(replays[0].flags.rawValue == 0x102)
        #expect(replays[2].flags.rawValue == 0x108)
        #expect(replays[0].descriptor.grantedMode == .pw)
        _ = cache.takeActions()
        cache.enqueueReply(held, serverCookie: 101, isGranted: true, mode: .pw, policy: .plain)
        #expect(cache.info(held)?.serverCookie == 101)
        cache.enqueueReply(
            waiting, serverCookie: 103, isGranted: true, mode: .ex, policy: .plain)
        #expect(cache.takeActions() == [.wake(operation: 1, lock: waiting)])
        cache.lose(leaving, error: -5)
        #expect(cache.takeActions() == [.lost(leaving)])
        cache.flushed(leaving)
        #expect(cache.takeActions().isEmpty)
    }

    @Test func `an eviction loses everything and fails who waits`() {
        var cache = LockClient()
        let cached = unused(&cache, id, .pr, cookie: 1)
        let asked = pending(cache.acquire(ResourceID(2), .ex, .plain, operation: 21))
        _ = cache.takeActions()
        cache.invalidateAll(error: -5)
        #expect(
            cache.takeActions() == [.lost(cached), .failed(operation: 21, error: -5)])
        #expect(cache.count == 0)
        #expect(cache.unusedCount == 0)
        let late = cache.enqueueReply(
            asked, serverCookie: 9, isGranted: true, mode: .ex, policy: .plain)
        #expect(late == .unknown)
    }

    @Test func `a refused enqueue fails its operations`() {
        var cache = LockClient()
        let lock = pending(cache.acquire(id, .pr, .plain, operation: 5))
        _ = cache.takeActions()
        cache.enqueueFailed(lock, error: -115)
        #expect(cache.takeActions() == [.failed(operation: 5, error: -115)])
        #expect(cache.count == 0)
    }
}
