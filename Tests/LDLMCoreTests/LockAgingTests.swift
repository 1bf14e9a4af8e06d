import LDLMCore
import Primitives
import Testing
import WireFormat

/// What the client does with locks that nobody uses, and with single inode bits.
@Suite struct LockAgingTests {
    private func unused(
        _ cache: inout LockClient, _ name: UInt64, at time: Ticks, bits: InodeBits? = nil
    ) -> SlotHandle {
        cache.advance(to: time)
        let policy = bits.map { LockPolicy.bits($0) } ?? .plain
        guard
            case .pending(let lock) = cache.acquire(
                ResourceID(name), .pr, policy, operation: name)
        else {
            Issue.record("the lock should have to be asked for")
            return SlotHandle(rawValue: 0)
        }
        cache.enqueueReply(
            lock, serverCookie: 1000 + name, isGranted: true, mode: .pr, policy: policy)
        cache.release(lock)
        _ = cache.takeActions()
        return lock
    }

    @Test func `a lock that nobody used for ten minutes is given back`() {
        var cache = LockClient()
        let first = unused(&cache, 1, at: seconds(10))
        _ = unused(&cache, 2, at: seconds(20))
        #expect(cache.dueNext() == seconds(610))
        cache.advance(to: seconds(609))
        #expect(cache.takeActions().isEmpty)
        cache.advance(to: seconds(610))
        #expect(cache.takeActions() == [.flushAndCancel(first)])
        #expect(cache.dueNext() == seconds(620))
        // Time does not go back.
        cache.advance(to: seconds(5))
        #expect(cache.now == seconds(610))
    }

    @Test func `the target's lock volume makes many old locks go earlier`() {
        var cache = LockClient()
        var locks: [SlotHandle] = []
        for name in UInt64(1)...4 { locks.append(unused(&cache, name, at: seconds(name))) }
        // 4 locks × 25 s = 100 lock seconds.
        cache.serverLockVolume = 100
        #expect(cache.dueNext() == seconds(26))
        cache.advance(to: seconds(26))
        #expect(cache.takeActions() == [.flushAndCancel(locks[0])])
        // With three left each may grow older.
        #expect(cache.dueNext() == seconds(36))
        cache.serverLockVolume = 0
        #expect(cache.dueNext() == seconds(602))
    }

    @Test func `a blocking AST for some bits keeps the others`() {
        var cache = LockClient()
        let lock = unused(&cache, 1, at: epoch, bits: [.lookup, .update])
        let wanted = LockDescriptor(
            resource: ResourceID(1), requestedMode: .ex,
            policy: .inodeBits(2, other: 2, group: 0, initiator: 0))
        #expect(cache.blockingAST(clientCookie: lock.rawValue, wanted: wanted) == .applied)
        #expect(cache.takeActions() == [.dropBits(lock, .update)])
        #expect(cache.calledBackCount == 1)
        #expect(cache.covers(lock, .lookup))
        #expect(!cache.covers(lock, .update))
        cache.bitsDropped(lock)
        #expect(
            cache.takeActions() == [.convert(lock, serverCookie: 1001, keeping: .lookup)])
        cache.convertReply(lock, isDone: true)
        #expect(cache.calledBackCount == 0)
        #expect(cache.unusedCount == 1)
        #expect(
            cache.acquire(ResourceID(1), .pr, .bits(.lookup), operation: 9) == .granted(lock))
        cache.release(lock)
        // Where all of it is wanted, all of it goes.
        let all = LockDescriptor(
            resource: ResourceID(1), requestedMode: .ex,
            policy: .inodeBits(1, other: 1, group: 0, initiator: 0))
        cache.blockingAST(clientCookie: lock.rawValue, wanted: all)
        #expect(cache.takeActions() == [.flushAndCancel(lock)])
    }

    @Test func `a convert that the target does not know takes the lock with it`() {
        var cache = LockClient()
        let lock = unused(&cache, 1, at: epoch, bits: [.lookup, .update])
        let wanted = LockDescriptor(
            resource: ResourceID(1), requestedMode: .ex,
            policy: .inodeBits(2, other: 2, group: 0, initiator: 0))
        cache.blockingAST(clientCookie: lock.rawValue, wanted: wanted)
        cache.bitsDropped(lock)
        _ = cache.takeActions()
        cache.convertReply(lock, isDone: false)
        #expect(cache.takeActions() == [.lost(lock)])
        #expect(cache.count == 0)
        #expect(cache.calledBackCount == 0)
    }

    @Test func `a lock that yields is gone when the blocking AST comes, and is not replayed`() {
        var cache = LockClient()
        guard
            case .pending(let lock) = cache.acquire(
                ResourceID(1), .pr, .plain, operation: 1, flags: .cancelOnBlock)
        else { return }
        cache.enqueueReply(lock, serverCookie: 5, isGranted: true, mode: .pr, policy: .plain)
        _ = cache.takeActions()
        #expect(cache.replayList().isEmpty)
        cache.release(lock)
        cache.blockingAST(clientCookie: lock.rawValue)
        #expect(cache.takeActions() == [.lost(lock)])
        #expect(cache.blockingAST(clientCookie: lock.rawValue) == .unknown)
    }

    @Test func `a glimpse of a lock that is idle for long gives it back besides`() {
        var cache = LockClient()
        let lock = unused(&cache, 1, at: seconds(1))
        cache.advance(to: seconds(5))
        #expect(cache.glimpsed(clientCookie: lock.rawValue) == .applied)
        #expect(cache.takeActions().isEmpty)
        cache.advance(to: seconds(11))
        #expect(cache.glimpsed(clientCookie: lock.rawValue) == .applied)
        #expect(cache.takeActions() == [.flushAndCancel(lock)])
        #expect(cache.glimpsed(clientCookie: 12345) == .unknown)
    }

    @Test func `before a replay the unused locks named are forgotten, and said to be lost`() {
        var cache = LockClient()
        let clean = unused(&cache, 1, at: seconds(1))
        let dirty = unused(&cache, 2, at: seconds(2))
        #expect(cache.unusedLocks == [clean, dirty])
        cache.dropBeforeReplay([clean])
        #expect(cache.takeActions() == [.lost(clean)])
        #expect(cache.replayList().map(\.lock) == [dirty])
    }

    @Test func `who asks for a size joins nobody who asks for the lock`() {
        var cache = LockClient()
        let range = LockPolicy.extent(.whole)
        guard
            case .pending(let glimpse) = cache.acquire(
                ResourceID(1), .pr, range, operation: 1, flags: .hasIntent),
            case .pending(let lock) = cache.acquire(ResourceID(1), .pr, range, operation: 2)
        else {
            Issue.record("both have to be asked for")
            return
        }
        #expect(glimpse != lock)
        _ = cache.takeActions()
        cache.enqueueFailed(glimpse, error: Status.lockAborted.rawValue)
        #expect(cache.takeActions() == [.failed(operation: 1, error: 301)])
        #expect(cache.count == 1)
    }
}
