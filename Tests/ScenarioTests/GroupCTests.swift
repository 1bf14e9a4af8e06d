import ClientCore
import LDLMCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import StorageCore
import Testing
import WireFormat

/// Group C: eviction, ASTs, lock callbacks. The names are those of Lustre's test suite (RCS
/// recovery-small, SN sanityn), whose situations these are.
@Suite struct GroupCTests {
    private static func bytes(_ byte: UInt8, _ count: Int = 4096) -> [UInt8] {
        [UInt8](repeating: byte, count: count)
    }

    @Test func `RCS 10a a request that ends after its client's eviction does no harm`() throws {
        let (cluster, files) = try Scenario.shared(101)
        try cluster.write(0, files[0], 1)
        // The first client falls silent with dirty bytes under its lock; the second wants it.
        cluster.simulator.pause(cluster.clients[0])
        let cookie = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(2)))
        #expect(cluster.outcome(1, cookie)?.lockStatus == .ok)
        #expect(cluster.evictions(1) == 1)
        // What it had under way arrives now.
        cluster.simulator.resume(cluster.clients[0])
        cluster.settle(.seconds(60))
        #expect(cluster.evictedClients == [0])
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(2))
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(2))
        try cluster.write(0, files[0], 3)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(3))
    }

    @Test(arguments: 0..<4 as Range<UInt64>)
    func `RCS 10c 10e a lost blocking AST and a reconnect evict nobody`(seed: UInt64) throws {
        let (cluster, files) = try Scenario.shared(110 + seed)
        try cluster.write(0, files[0], 1)
        if seed < 2 {
            cluster.simulator.dropNext(
                .request(.ldlmBlockingAST), to: cluster.clients[0], count: 1 + Int(seed))
        } else {
            cluster.simulator.intercept(
                .request(.ldlmBlockingAST), to: cluster.clients[0], count: Int(seed) - 1, .reset)
        }
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(1))
        #expect(cluster.evictions(1) == 0)
        #expect(cluster.evictedClients.isEmpty)
    }

    @Test func `RCS 10d who never answers a blocking AST is evicted, and others read the truth`()
        throws
    {
        let (cluster, files) = try Scenario.shared(120)
        try cluster.write(0, files[0], 1)
        try cluster.perform(cluster.clients[0], .flush(files[0]))
        // It lives, and nothing that it says about locks arrives.
        let client = cluster.clients[0]
        cluster.simulator.dropNext(.reply(.ldlmBlockingAST), from: client, count: 100)
        cluster.simulator.dropNext(.request(.ldlmCancel), from: client, count: 100)
        let cookie = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(2)))
        #expect(cluster.outcome(1, cookie)?.lockStatus == .ok)
        #expect(cluster.evictions(1) == 1)
        cluster.settle(.seconds(60))
        #expect(cluster.evictedClients == [0])
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(2))
    }

    @Test func `RCS 18a 18b an eviction drops what was cached, and the next read fetches`() throws {
        let (cluster, files) = try Scenario.shared(130)
        try cluster.write(1, files[1], 1)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(1))
        cluster.simulator.pause(cluster.clients[0])
        let cookie = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(2)))
        #expect(cluster.outcome(1, cookie)?.lockStatus == .ok)
        cluster.simulator.resume(cluster.clients[0])
        cluster.settle(.seconds(60))
        #expect(cluster.evictedClients == [0])
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(2))
    }

    @Test func `RCS 18c a connect reply lost behind an eviction only costs another try`() throws {
        let (cluster, files) = try Scenario.shared(140)
        try cluster.write(0, files[0], 1)
        cluster.simulator.pause(cluster.clients[0])
        let cookie = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(2)))
        #expect(cluster.outcome(1, cookie)?.lockStatus == .ok)
        let rule = cluster.simulator.dropNext(.reply(.ostConnect), to: cluster.clients[0])
        cluster.simulator.resume(cluster.clients[0])
        cluster.settle(.seconds(90))
        #expect(cluster.simulator.hits(rule) == 1)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(2))
    }

    @Test func `RCS 19c who is back before the time is over is not evicted`() throws {
        let (cluster, files) = try Scenario.shared(150)
        try cluster.write(0, files[0], 1)
        cluster.simulator.isolate(cluster.clients[0])
        let cookie = cluster.submit(cluster.clients[1], .read(files[1], offset: 0, byteCount: 9))
        cluster.settle(.seconds(8))
        cluster.simulator.heal()
        #expect(cluster.outcome(1, cookie)?.lockStatus == .ok)
        #expect(cluster.evictions(1) == 0)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(1))
    }

    @Test func `RCS 20a 20b what a lock request is refused with reaches the application`() throws {
        let (cluster, files) = try Scenario.shared(160)
        let low = Extent(start: 0, end: 9)
        let high = Extent(start: 10, end: 19)
        #expect(cluster.recordStatus(0, files[0], .lock, low) == .ok)
        #expect(cluster.recordStatus(1, files[1], .lock, high) == .ok)
        #expect(cluster.recordStatus(1, files[1], .tryLock, low) == .tryAgain)
        let waiting = cluster.record(0, files[0], .lock, high)
        cluster.settle()
        #expect(cluster.recordStatus(1, files[1], .lock, low) == .deadlock)
        #expect(cluster.recordStatus(1, files[1], .unlock, high) == .ok)
        #expect(cluster.outcome(0, waiting)?.lockStatus == .ok)
    }

    @Test func `RCS 58 59 an eviction in the middle of a read leaves nobody hanging`() throws {
        let (cluster, files) = try Scenario.shared(170)
        try cluster.write(1, files[1], 1)
        try cluster.perform(cluster.clients[1], .flush(files[1]))
        cluster.simulator.dropNext(.reply(.objectRead), to: cluster.clients[0], count: 100)
        let reading = cluster.submit(cluster.clients[0], .read(files[0], offset: 0, byteCount: 9))
        cluster.settle(.seconds(2))
        cluster.simulator.isolate(cluster.clients[0])
        let writing = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(2)))
        #expect(cluster.outcome(1, writing)?.lockStatus == .ok)
        cluster.simulator.heal()
        // It ends one way or the other: with the new bytes, or with the news of the loss.
        #expect(cluster.outcome(0, reading, within: .seconds(300)) != nil)
    }

    @Test func `RCS 65 an enqueue of a client that is gone makes no lock`() throws {
        let (cluster, files) = try Scenario.shared(180)
        cluster.simulator.delayNext(
            .request(.ldlmEnqueue), from: cluster.clients[0], by: .seconds(3))
        _ = cluster.submit(cluster.clients[0], .write(files[0], offset: 0, Self.bytes(1)))
        cluster.settle(.seconds(1))
        let before = cluster.lockCount(1)
        cluster.replaceClient(0, life: 1, isRestart: true)
        cluster.settle(.seconds(10))
        // Its successor has an admission lock in place of the other; and there is no lock beside.
        #expect(cluster.lockCount(1) <= before)
        try cluster.write(1, files[1], 2)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(2))
    }

    @Test(arguments: 0..<4 as Range<UInt64>)
    func `RCS 67 connects that are cut while locks are being lost come through`(
        seed: UInt64
    ) throws {
        let (cluster, files) = try Scenario.shared(190 + seed)
        try cluster.write(0, files[0], 1)
        cluster.simulator.pause(cluster.clients[0])
        let cookie = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(2)))
        #expect(cluster.outcome(1, cookie)?.lockStatus == .ok)
        cluster.simulator.intercept(
            seed & 1 == 0 ? .request(.ostConnect) : .reply(.ostConnect), count: 1 + Int(seed),
            .reset)
        cluster.simulator.resume(cluster.clients[0])
        cluster.settle(.seconds(120))
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(2))
    }

    @Test func `RCS 108 156 131 writes under a lock that an eviction took are reported lost`()
        throws
    {
        let (cluster, files) = try Scenario.shared(200) { $0.writebackDelay = .seconds(50) }
        try cluster.write(0, files[0], 1, count: 64 << 10)
        cluster.simulator.pause(cluster.clients[0])
        let cookie = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(2)))
        #expect(cluster.outcome(1, cookie)?.lockStatus == .ok)
        cluster.simulator.resume(cluster.clients[0])
        cluster.settle(.seconds(90))
        let lost = cluster.clientEvents.contains { entry in
            if case .writeLost = entry.event { entry.client == cluster.clients[0] } else { false }
        }
        #expect(lost)
        // None of it has come through to others, and the client works again.
        #expect(try cluster.size(1) == 4096)
        try cluster.write(0, files[0], 3)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(3))
    }

    @Test(arguments: [true, false])
    func `RCS 120 record locks and evictions leave nobody waiting for the dead`(
        holderDies: Bool
    ) throws {
        let (cluster, files) = try Scenario.shared(210, clients: 3)
        #expect(cluster.recordStatus(0, files[0], .lock) == .ok)
        let first = cluster.record(1, files[1], .lock)
        cluster.settle()
        let second = cluster.record(2, files[2], .lock, isExclusive: false)
        cluster.settle()
        cluster.replaceClient(holderDies ? 0 : 1, life: 1, isRestart: true)
        cluster.settle(.seconds(20))
        if holderDies {
            #expect(cluster.outcome(1, first)?.lockStatus == .ok)
            #expect(cluster.result(cluster.clients[2], second) == nil)
            #expect(cluster.recordStatus(1, files[1], .unlock) == .ok)
        } else {
            #expect(cluster.recordStatus(0, files[0], .unlock) == .ok)
        }
        #expect(cluster.outcome(2, second)?.lockStatus == .ok)
        #expect(cluster.recordStatus(2, files[2], .unlock) == .ok)
    }

    @Test(arguments: [true, false])
    func `RCS 133 a record lock that waits and is asked for again is granted once`(
        losesRequest: Bool
    ) throws {
        let (cluster, files) = try Scenario.shared(215)
        #expect(cluster.recordStatus(0, files[0], .lock) == .ok)
        let client = cluster.clients[1]
        if losesRequest {
            cluster.simulator.dropNext(.request(.ldlmEnqueue), from: client)
        } else {
            cluster.simulator.dropNext(.reply(.ldlmEnqueue), to: client)
        }
        let waiting = cluster.record(1, files[1], .lock)
        cluster.settle(.seconds(30))
        #expect(cluster.result(client, waiting) == nil)
        #expect(cluster.recordStatus(0, files[0], .unlock) == .ok)
        #expect(cluster.outcome(1, waiting)?.lockStatus == .ok)
        #expect(cluster.recordStatus(1, files[1], .unlock) == .ok)
        #expect(cluster.recordStatus(0, files[0], .tryLock) == .ok)
        #expect(cluster.evictions(0) == 0)
    }

    @Test func `RCS 153 a client that was evicted unmounts, and its server restarts`() throws {
        let (cluster, files) = try Scenario.shared(220)
        try cluster.write(0, files[0], 1)
        cluster.simulator.pause(cluster.clients[0])
        let cookie = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(2)))
        #expect(cluster.outcome(1, cookie)?.lockStatus == .ok)
        cluster.simulator.resume(cluster.clients[0])
        let now = cluster.simulator.now
        _ = cluster.simulator.withClient(cluster.clients[0]) { $0.unmount(now: now) }
        cluster.settle(.seconds(1))
        try cluster.crash(1, versions: ProtocolVersion.supported)
        let isBack = cluster.simulator.run(until: cluster.simulator.now + .seconds(200)) {
            cluster.simulator.server(cluster.servers[1])?.phase == .serving
        }
        #expect(isBack)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(2))
    }

    @Test func `SN 34 who writes back slowly under a lock keeps it`() throws {
        let one = ProtocolVersion.v1
        let (cluster, files) = try Scenario.shared(230, versions: one...one) {
            $0.writebackDelay = .seconds(300)
            $0.requestTimeout = .seconds(60)
        }
        // Five writes, one after the other, each of which takes longer than a quarter of the time.
        for index in UInt64(0)..<5 {
            try cluster.perform(
                cluster.clients[0], .write(files[0], offset: index << 21, Self.bytes(1)))
        }
        cluster.simulator.delayNext(
            .request(.objectWrite), from: cluster.clients[0], count: 5, by: .seconds(7))
        #expect(try cluster.read(cluster.clients[1], files[1], 4 << 21, 4096) == Self.bytes(1))
        #expect(cluster.evictions(1) == 0)
        #expect(cluster.simulator.server(cluster.servers[1])?.lockCounters.prolonged ?? 0 >= 2)
    }

    @Test(arguments: 0..<6 as Range<UInt64>)
    func `SN 94 a wait that is given up while its lock is granted leaves no lock behind`(
        seed: UInt64
    ) throws {
        let (cluster, files) = try Scenario.shared(240 + seed, clients: 3)
        #expect(cluster.recordStatus(0, files[0], .lock) == .ok)
        let client = cluster.clients[1]
        let now = cluster.simulator.now
        let lock = FileOperation.recordLock(files[1], RecordLock(.lock, owner: 2))
        let handle = cluster.simulator.withClient(client) {
            $0.submit(lock, cookie: 1 << 40, wall: cluster.simulator.wall(of: client), now: now)
        }
        cluster.settle()
        let unlocking = cluster.record(0, files[0], .unlock)
        cluster.settle(.microseconds(60 * seed))
        let later = cluster.simulator.now
        let isTakenBack =
            handle.flatMap { handle in
                cluster.simulator.withClient(client) { $0.cancel(handle, now: later) }
            } ?? false
        #expect(cluster.outcome(0, unlocking)?.lockStatus == .ok)
        cluster.settle(.seconds(2))
        #expect(cluster.evictions(0) == 0)
        if !isTakenBack { #expect(cluster.recordStatus(1, files[1], .unlock) == .ok) }
        #expect(cluster.recordStatus(2, files[2], .tryLock) == .ok)
    }

    @Test(arguments: 0..<6 as Range<UInt64>)
    func `SN 94 a wait that is given up at its grant leaves what was locked beside it locked`(
        seed: UInt64
    ) throws {
        let (cluster, files) = try Scenario.shared(1240 + seed, clients: 3)
        let low = Extent(start: 0, end: 99)
        let high = Extent(start: 100, end: 199)
        #expect(cluster.recordStatus(0, files[0], .lock, high) == .ok)
        #expect(cluster.recordStatus(1, files[1], .lock, low, isExclusive: seed % 2 == 0) == .ok)
        let client = cluster.clients[1]
        let now = cluster.simulator.now
        // Beside what it has, or over a part of it in another mode.
        let wanted = Extent(start: seed < 3 ? 100 : 50, end: 199)
        let lock = FileOperation.recordLock(
            files[1], RecordLock(.lock, range: wanted, owner: 2, process: 2))
        let handle = cluster.simulator.withClient(client) {
            $0.submit(lock, cookie: 1 << 40, wall: cluster.simulator.wall(of: client), now: now)
        }
        cluster.settle()
        // The server grants it; the word of that is late, and the wait is given up meanwhile.
        cluster.simulator.delayNext(
            .request(.ldlmCompletionAST), by: .milliseconds(100 * (seed % 3)))
        #expect(cluster.recordStatus(0, files[0], .unlock, high) == .ok)
        let later = cluster.simulator.now
        let isTakenBack =
            handle.flatMap { handle in
                cluster.simulator.withClient(client) { $0.cancel(handle, now: later) }
            } ?? false
        cluster.settle(.seconds(2))
        if !isTakenBack {
            #expect(cluster.recordStatus(1, files[1], .unlock, high) == .ok)
        }
        #expect(cluster.evictions(0) == 0)
        #expect(cluster.recordStatus(2, files[2], .tryLock, high) == .ok)
        #expect(cluster.recordStatus(2, files[2], .tryLock, low) == .tryAgain)
        let shared = cluster.recordStatus(2, files[2], .tryLock, low, isExclusive: false)
        // What was shared before is shared again.
        if isTakenBack { #expect(shared == (seed % 2 == 0 ? .tryAgain : .ok)) }
        #expect(cluster.recordStatus(1, files[1], .unlock) == .ok)
        #expect(cluster.recordStatus(2, files[2], .tryLock, low) == .ok)
    }

    @Test func `RCS 10d who never answers a completion AST is evicted, and others get the lock`()
        throws
    {
        let (cluster, files) = try Scenario.shared(290, clients: 3)
        try cluster.write(0, files[0], 1)
        // The grant reaches a client that does not hear of it, and is not silent otherwise.
        let rule = cluster.simulator.dropNext(.request(.ldlmCompletionAST), count: 1000)
        let stuck = cluster.submit(
            cluster.clients[1], .append(files[1], Self.bytes(2, 10)))
        cluster.settle(.seconds(60))
        #expect(cluster.simulator.hits(rule) > 1, "it was sent again")
        #expect(cluster.evictions(1) == 1)
        cluster.simulator.removeRule(rule)
        #expect(cluster.outcome(1, stuck) != nil)
        try cluster.write(2, files[2], 3)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(3))
    }

    @Test(arguments: [false, true])
    func `damage behind the value of a lock is an error, not an empty object`(
        whileHeld: Bool
    ) throws {
        let (cluster, files) = try Scenario.shared(300)
        try cluster.write(0, files[0], 1, count: 5000)
        try cluster.perform(cluster.clients[0], .sync(files[0]))
        var keys: [[UInt8]] = []
        cluster.stores[1].scan(.objects, from: []) { key, _ in
            keys.append(key)
            return true
        }
        if !whileHeld {
            // The first client leaves: nobody has a lock, and nobody knows the size.
            cluster.replaceClient(0, life: 1, isRestart: false)
            cluster.settle(.seconds(60))
        }
        for key in keys { cluster.stores[1].damageRow(.objects, key) }
        let lockCount = cluster.lockCount(1)
        let reading = cluster.submit(
            cluster.clients[1], .read(files[1], offset: 0, byteCount: 5000))
        #expect(cluster.outcome(1, reading)?.lockStatus == .ioError)
        let appending = cluster.submit(
            cluster.clients[1], .append(files[1], Self.bytes(2, 10)))
        #expect(cluster.outcome(1, appending)?.lockStatus == .ioError)
        cluster.settle(.seconds(2))
        #expect(cluster.lockCount(1) <= lockCount, "no lock stays behind")
        #expect(!cluster.evictedClients.contains(1))
    }

    @Test(arguments: 0..<4 as Range<UInt64>)
    func `SN 31a 31b a lock that is given up freely and called back at once goes once`(
        seed: UInt64
    ) throws {
        let (cluster, files) = try Scenario.shared(250 + seed) { $0.unusedLockCountMax = 0 }
        let interval = TickInterval.milliseconds(seed * 5)
        cluster.simulator.delayNext(.request(.ldlmBlockingAST), count: 20, by: interval)
        for round in UInt8(0)..<10 {
            let writing = cluster.submit(
                cluster.clients[0], .write(files[0], offset: 0, Self.bytes(round)))
            let reading = cluster.submit(
                cluster.clients[1], .read(files[1], offset: 0, byteCount: 4096))
            #expect(cluster.outcome(0, writing)?.lockStatus == .ok)
            #expect(cluster.outcome(1, reading)?.lockStatus == .ok)
        }
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(9))
        #expect(cluster.evictions(1) == 0)
    }

    @Test func `SN 50 the value block of a grant counts, not the older one of the answer`() throws {
        let (cluster, files) = try Scenario.shared(260)
        try cluster.write(0, files[0], 1, count: 3000)
        // The answer says "wait", and what the store knew; the completion AST overtakes it.
        cluster.simulator.delayNext(
            .reply(.ldlmEnqueue), to: cluster.clients[1], by: .seconds(2))
        let cookie = cluster.submit(cluster.clients[1], .append(files[1], Self.bytes(2, 10)))
        guard case .success(.offset(let offset))? = cluster.outcome(1, cookie) else {
            Issue.record("the append should have told where it landed")
            return
        }
        #expect(offset == 3000)
        cluster.settle(.seconds(3))
        #expect(try cluster.size(1) == 3010)
        #expect(try cluster.size(0) == 3010)
    }

    @Test func `SN 110 an enqueue that is sent again makes no second lock`() throws {
        let (cluster, files) = try Scenario.shared(270)
        cluster.simulator.dropNext(.reply(.ldlmEnqueue), to: cluster.clients[0], count: 2)
        let before = cluster.lockCount(1)
        try cluster.write(0, files[0], 1)
        #expect(cluster.lockCount(1) == before + 1)
        #expect(cluster.evictions(1) == 0)
    }

    @Test func `a stat of a file that another writes asks it and leaves its lock alone`() throws {
        let (cluster, files) = try Scenario.shared(280) { $0.writebackDelay = .seconds(300) }
        try cluster.write(0, files[0], 1, count: 5000)
        let asked = cluster.simulator.server(cluster.servers[1])?.lockCounters
        #expect(try cluster.size(1) == 5000)
        let after = cluster.simulator.server(cluster.servers[1])?.lockCounters
        #expect(after?.glimpseASTs == (asked?.glimpseASTs ?? 0) + 1)
        #expect(after?.blockingASTs == asked?.blockingASTs)
        // A lost glimpse is asked again; a holder that has died knows nothing more.
        cluster.simulator.dropNext(.request(.ldlmGlimpseAST))
        #expect(try cluster.size(1) == 5000)
        cluster.replaceClient(0, life: 1, isRestart: true)
        cluster.settle(.seconds(5))
        #expect(try cluster.size(1) == 0)
    }
}
