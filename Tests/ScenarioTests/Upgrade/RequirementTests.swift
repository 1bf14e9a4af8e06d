import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import StorageCore
import Testing
import WireFormat

/// A test for each requirement of the upgrade path, named after it: the article `Requirements` of
/// UpgradeCore has the table. What needs real processes and disks is in SluiceTests.
@Suite struct RequirementTests {
    private static let bytes = [UInt8](repeating: 7, count: 300_000)

    /// Two clients; the first has a file open with two stripes, and bytes that are not written back.
    private static func cluster(
        _ seed: UInt64, versions: ClosedRange<ProtocolVersion> = Scenario.every,
        clients: Int = 2, configure: (Scenario) -> Void = { _ in }
    ) throws -> (cluster: Scenario, file: FileHandle) {
        let cluster = try Scenario(seed: seed, clientCount: 0, versions: versions)
        configure(cluster)
        for number in 0..<clients { cluster.addClient(number) }
        let file = try cluster.open(cluster.clients[0], "f", stripes: 2)
        try cluster.perform(cluster.clients[0], .write(file, offset: 0, bytes))
        return (cluster, file)
    }

    private func check(_ cluster: Scenario, _ file: FileHandle) throws {
        #expect(
            try cluster.read(cluster.clients[0], file, 0, Self.bytes.count + 9) == Self.bytes)
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `R1: a target moves to its partner and back`() throws {
        let (cluster, file) = try Self.cluster(1)
        for _ in 0..<2 {
            for place in 0..<3 {
                let next = cluster.nextNID(place)
                try cluster.upgrade(place, to: Scenario.every)
                try cluster.mkdir(1, "\(next)-\(place)")
                cluster.settle(.seconds(1))
                #expect(cluster.summary(1, place).nid == next)
            }
        }
        #expect(cluster.summary(0, 0).nid == Scenario.nid(0))
        try check(cluster, file)
    }

    @Test func `R2: any server alone, and an upgrade of the metadata server restarts no other`()
        throws
    {
        let (cluster, file) = try Self.cluster(2, versions: .v1 ... .v1)
        let before = (1...2).map { cluster.status($0).instance }
        try cluster.upgrade(0, to: .v1 ... .v2)
        try cluster.mkdir(1, "d")
        #expect((1...2).map { cluster.status($0).instance } == before)
        try cluster.upgrade(2, to: .v1 ... .v3)
        #expect(cluster.summary(0, 0).version == .v2)
        cluster.settle(.seconds(1))
        try check(cluster, file)
        #expect(cluster.summary(0, 1).version == .v1 && cluster.summary(0, 2).version == .v3)
    }

    @Test func `R3: no target of a group says committed before all of them are sealed`() throws {
        let (cluster, file) = try Self.cluster(3)
        let standbys = try (0..<3).map { try cluster.standBy($0) }
        // The last one waits for a client that is slow.
        cluster.simulator.clog(
            from: cluster.clients[0], to: cluster.servers[2],
            until: cluster.simulator.now + .seconds(4))
        for place in 0..<3 { cluster.announce(place) { $0.holds = true } }
        try cluster.awaitPhase(1, .held)
        try cluster.awaitPhase(0, .held)
        #expect(cluster.phase(2) != .held)
        try cluster.awaitPhase(2, .held)
        for place in 0..<3 {
            #expect(!cluster.has(0, place, .committed) && !cluster.has(1, place, .committed))
        }
        for place in 0..<3 {
            cluster.order(cluster.servers[place], UpgradeStart(.proceed))
        }
        for place in 0..<3 { try cluster.takeOver(place, standbys[place]) }
        try cluster.mkdir(1, "d")
        try check(cluster, file)
    }

    @Test func `R3: a group that is given up by one is given up by all`() throws {
        let (cluster, file) = try Self.cluster(4)
        for place in 1..<3 { cluster.announce(place) { $0.holds = true } }
        for place in 1..<3 { try cluster.awaitPhase(place, .held) }
        #expect(cluster.hasRecord(1))
        for place in 1..<3 { cluster.order(cluster.servers[place], UpgradeStart(isAbort: true)) }
        for place in 1..<3 { try cluster.awaitPhase(place, .serving) }
        #expect(!cluster.hasRecord(1), "a record of a target that serves would be believed")
        try cluster.perform(cluster.clients[0], .append(file, [1]))
        try cluster.perform(cluster.clients[0], .truncate(file, size: UInt64(Self.bytes.count)))
        try check(cluster, file)
    }

    @Test func `R4: the announcement is per target`() throws {
        let (cluster, _) = try Self.cluster(5)
        cluster.announce(1) { $0.holds = true }
        try cluster.awaitPhase(1, .held)
        #expect(!cluster.isGateOpen(1, 1))
        #expect(cluster.isGateOpen(1, 0) && cluster.isGateOpen(1, 2))
        try cluster.mkdir(1, "d")
    }

    @Test func `R5: updates wait until the target is upgraded and the client is reconnected`()
        throws
    {
        let (cluster, _) = try Self.cluster(6)
        let standby = try cluster.standBy(0)
        cluster.announce(0) { $0.holds = true }
        try cluster.awaitPhase(0, .held)
        let cookie = cluster.submit(cluster.clients[1], .makeDirectory("d"))
        #expect(!cluster.isDone(1, cookie, within: .seconds(8)))
        cluster.order(cluster.servers[0], UpgradeStart(.proceed))
        try cluster.awaitPhase(0, .stopped)
        cluster.settle(.seconds(1))
        #expect(cluster.result(cluster.clients[1], cookie) == nil)
        try cluster.takeOver(0, standby)
        #expect(cluster.isDone(1, cookie, within: .seconds(10)))
        #expect(cluster.summary(1, 0).instance == cluster.status(0).instance)
    }

    @Test func `R6: what waits at the gate has no request yet, in no format`() throws {
        let (cluster, _) = try Self.cluster(7, versions: .v1 ... .v1)
        let standby = try cluster.standBy(0, versions: .v1 ... .v2)
        cluster.announce(0) { $0.holds = true }
        try cluster.awaitPhase(0, .held)
        let before = cluster.summary(1, 0)
        let cookie = cluster.submit(cluster.clients[1], .makeDirectory("d"))
        cluster.settle(.seconds(1))
        let after = cluster.summary(1, 0)
        #expect(after.counters.calls == before.counters.calls)
        #expect(after.queuedCount == 0 && after.updatesInFlight == 0)
        cluster.order(cluster.servers[0], UpgradeStart(.proceed))
        try cluster.takeOver(0, standby)
        #expect(cluster.isDone(1, cookie, within: .seconds(10)))
        #expect(cluster.summary(1, 0).version == .v2)
    }

    @Test func `R7: what the shutdown needs passes the gate`() throws {
        let (cluster, file) = try Self.cluster(8)
        // A close that is submitted behind the shut gate, while the data go back.
        cluster.simulator.delayNext(
            .request(.objectWrite), from: cluster.clients[0], count: 2, by: .seconds(2))
        cluster.announce(1) { $0.holds = true }
        cluster.announce(0) { $0.holds = true }
        cluster.settle(.milliseconds(100))
        #expect(!cluster.isGateOpen(0, 1))
        try cluster.awaitPhase(1, .held)
        let receipts = cluster.status(1).details!.clients
        #expect(receipts.contains { $0.hasReceipt && $0.flushedBytes > 0 })
        #expect(cluster.simulator.client(cluster.clients[0])!.core.dirtyBytes == 0)
        for place in 0..<2 {
            cluster.order(cluster.servers[place], UpgradeStart(isAbort: true))
        }
        for place in 0..<2 { try cluster.awaitPhase(place, .serving) }
        try check(cluster, file)
    }

    @Test func `R8: reads under a cached lock go on, unless the order says that they wait`() throws
    {
        let (cluster, file) = try Self.cluster(9)
        try cluster.perform(cluster.clients[0], .flush(file))
        for place in 1..<3 { cluster.announce(place) { $0.holds = true } }
        for place in 1..<3 { try cluster.awaitPhase(place, .held) }
        let read = FileOperation.read(file, offset: 0, byteCount: 100)
        #expect(cluster.isDone(0, cluster.submit(cluster.clients[0], read), within: .seconds(1)))
        // Behind the end of its lease nothing that is cached is believed.
        cluster.settle(.seconds(12))
        let late = cluster.submit(cluster.clients[0], read)
        #expect(!cluster.isDone(0, late, within: .seconds(1)))
        for place in 1..<3 { cluster.order(cluster.servers[place], UpgradeStart(isAbort: true)) }
        #expect(cluster.isDone(0, late, within: .seconds(10)))

        for place in 1..<3 {
            cluster.announce(place) {
                $0.holds = true
                $0.readPolicy = .wait
            }
        }
        for place in 1..<3 { try cluster.awaitPhase(place, .held) }
        let waiting = cluster.submit(cluster.clients[0], read)
        #expect(!cluster.isDone(0, waiting, within: .seconds(2)))
        for place in 1..<3 { cluster.order(cluster.servers[place], UpgradeStart(isAbort: true)) }
        #expect(cluster.isDone(0, waiting, within: .seconds(10)))
    }

    @Test func `R9: the target knows who is prepared, who is not, and why`() throws {
        let (cluster, _) = try Self.cluster(10, clients: 3)
        cluster.simulator.pause(cluster.clients[1])
        cluster.announce(0) { $0.deadlinePolicy = .wait }
        cluster.settle(.seconds(2))
        let status = cluster.status(0)
        let names = status.clients.filter { !$0.isCountedOut }.map(\.uuid)
        #expect(names == [cluster.uuids[cluster.clients[1]]!])
        #expect(status.clients[0].uuid == names[0], "who is missing stands first")
        let detail = status.details!.clients[0]
        #expect(!detail.hasNotice && detail.silentMs >= 1_000 && !detail.hasReceipt)
        #expect(status.details!.clients[1...].allSatisfy { $0.hasReceipt })
        cluster.simulator.resume(cluster.clients[1])
        try cluster.awaitPhase(0, .stopped)
    }

    @Test func `R10: clients are told that all is committed, and ask nothing`() throws {
        let (cluster, _) = try Self.cluster(11)
        try cluster.standBy(0)
        let rule = cluster.simulator.delayNext(
            .request(.ping).and { _ in true }, from: cluster.clients[1], count: 100,
            by: .microseconds(1))
        cluster.announce(0)
        try cluster.awaitPhase(0, .stopped)
        #expect(cluster.simulator.hits(rule) == 0)
        let stamps = cluster.stamps(1, 0).map(\.stamp)
        let told = try #require(stamps.firstIndex(of: .committed))
        #expect(stamps.firstIndex(of: .disconnected) ?? .max > told)
        #expect(cluster.summary(1, 0).savedCount == 0)
    }

    @Test(arguments: [UpgradePhase.announced, .gathering, .committing])
    func `R11: until all is committed a crash is survived by ordinary replay`(
        phase: UpgradePhase
    ) throws {
        let cluster = try Scenario.held(12, clients: 2)
        try cluster.mkdir(0, "a")
        try cluster.mkdir(1, "b")
        if phase != .committing { cluster.simulator.pause(cluster.clients[1]) }
        cluster.announce(0) { $0.deadlinePolicy = .wait }
        try cluster.awaitPhase(0, phase == .gathering ? .announced : phase)
        cluster.simulator.resume(cluster.clients[1])
        try cluster.crash()
        try cluster.awaitService()
        #expect(try cluster.listing(0) == ["a", "b"])
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `R12: the lock manager carries the notification`() throws {
        let (cluster, _) = try Self.cluster(13)
        // Without the blocking AST of its admission lock a client hears nothing.
        let rule = cluster.simulator.dropNext(
            .request(.ldlmBlockingAST), from: cluster.servers[0], to: cluster.clients[1])
        cluster.announce(0) { $0.deadlinePolicy = .wait }
        cluster.settle(.milliseconds(300))
        #expect(cluster.simulator.hits(rule) == 1)
        #expect(cluster.isGateOpen(1, 0) && !cluster.isGateOpen(0, 0))
        // It is sent again, as any AST.
        try cluster.awaitPhase(0, .stopped)
        #expect(!cluster.isGateOpen(1, 0))
    }

    @Test func `R13: a client that is slow to prepare is never evicted for it`() throws {
        let (cluster, file) = try Self.cluster(14) { cluster in
            cluster.configureServer = { $0.callbackTimeout = .seconds(2) }
        }
        for place in 0..<3 { try cluster.crash(place) }
        try cluster.perform(cluster.clients[0], .write(file, offset: 0, Self.bytes))
        cluster.simulator.delayNext(
            .request(.objectWrite), from: cluster.clients[0], by: .seconds(8))
        cluster.announce(1) {
            $0.deadlinePolicy = .wait
            $0.holds = true
        }
        cluster.settle(.seconds(5))
        #expect(cluster.status(1).clients.contains { !$0.isCountedOut })
        try cluster.awaitPhase(1, .held)
        #expect(cluster.evicted.isEmpty)
        cluster.order(cluster.servers[1], UpgradeStart(isAbort: true))
        try cluster.awaitPhase(1, .serving)
        try check(cluster, file)
    }

    @Test(arguments: 0..<12 as Range<UInt64>)
    func `R14: a client that connects in any phase gets one consistent answer`(step: UInt64) throws
    {
        let (cluster, _) = try Self.cluster(20 + step)
        let standby = try cluster.standBy(0)
        let node = cluster.servers[0]
        cluster.simulator.pause(cluster.clients[0], for: .milliseconds(5))
        cluster.announce(0)
        cluster.settle(.microseconds(200 * step * step))
        cluster.addClient(9)
        let cookie = cluster.submit(cluster.clients[2], .makeDirectory("late"))
        try cluster.takeOver(0, standby)
        #expect(
            cluster.isDone(2, cookie, within: .seconds(20)), "\(cluster.state(cluster.clients[2]))")
        #expect(try cluster.listing(0).contains("late"))
        #expect(cluster.evicted.isEmpty && node != cluster.servers[0])
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func `R15: the grant of a notification lock never races with its revocation`(step: UInt64)
        throws
    {
        let (cluster, _) = try Self.cluster(40 + step)
        let standby = try cluster.standBy(0)
        cluster.addClient(9)
        cluster.settle(.microseconds(step * 37))
        cluster.announce(0) { $0.deadlinePolicy = .wait }
        try cluster.takeOver(0, standby)
        try cluster.mkdir(2, "d")
        #expect(cluster.evicted.isEmpty)
    }

    @Test func `R16: nobody is evicted, caches and locks survive`() throws {
        let (cluster, file) = try Self.cluster(60)
        try cluster.perform(cluster.clients[0], .flush(file))
        let client = cluster.clients[0]
        let locks = (1...2).map { cluster.simulator.client(client)!.core.lockCount($0) }
        for place in 0..<3 { try cluster.upgrade(place, to: Scenario.every) }
        cluster.settle(.seconds(1))
        #expect((1...2).map { cluster.simulator.client(client)!.core.lockCount($0) } == locks)
        let hits = cluster.simulator.client(client)!.core.counters.readHits
        try check(cluster, file)
        #expect(cluster.simulator.client(client)!.core.counters.readHits > hits)
    }

    @Test(arguments: CachePolicy.allCases)
    func `R17: cleaning the cache first is a policy`(policy: CachePolicy) throws {
        let (cluster, file) = try Self.cluster(61)
        let client = cluster.clients[0]
        let standby = try cluster.standBy(1)
        let dirty = cluster.simulator.client(client)!.core.dirtyBytes
        #expect(dirty > 0)
        cluster.announce(1) {
            $0.cachePolicy = policy
            $0.holds = true
        }
        try cluster.awaitPhase(1, .held)
        let core = cluster.simulator.client(client)!.core
        switch policy {
        case .keep: #expect(core.dirtyBytes > 0 && core.lockCount(1) > 0)
        case .flush: #expect(core.dirtyBytes < dirty && core.lockCount(1) > 0)
        case .clean: #expect(core.dirtyBytes < dirty && core.lockCount(1) == 0)
        }
        cluster.order(cluster.servers[1], UpgradeStart(.proceed))
        try cluster.takeOver(1, standby)
        try check(cluster, file)
    }

    @Test func `R18: locks are told explicitly, in the version that was agreed on`() throws {
        let (cluster, file) = try Self.cluster(62, versions: .v1 ... .v1)
        try cluster.perform(cluster.clients[0], .flush(file))
        let held = cluster.simulator.server(cluster.servers[1])!.lockCount
        let before = cluster.summary(0, 1).counters.replayed
        try cluster.upgrade(1, to: .v1 ... .v2)
        cluster.settle(.seconds(1))
        #expect(cluster.summary(0, 1).version == .v2)
        #expect(cluster.summary(0, 1).counters.replayed > before)
        #expect(cluster.simulator.server(cluster.servers[1])!.lockCount == held)
        try check(cluster, file)
    }

    @Test func `R19: opens are told from what is open, never from a saved request`() throws {
        let (cluster, file) = try Self.cluster(63, versions: .v1 ... .v1)
        try cluster.commitAll()
        cluster.settle(.seconds(6))
        #expect(cluster.summary(0, 0).savedCount == 0)
        try cluster.upgrade(0, to: .v1 ... .v2)
        cluster.settle(.seconds(1))
        #expect(cluster.openCount() == 1)
        try cluster.perform(cluster.clients[0], .append(file, [1, 2]))
        try cluster.perform(cluster.clients[0], .close(file))
        #expect(cluster.openCount() == 0)
    }

    @Test func `R20: every open takes a transno, and keeps its place among the transactions`()
        throws
    {
        let cluster = try Scenario.held(64)
        let before = cluster.status(0).lastTransno
        let client = cluster.clients[0]
        let first = try cluster.open(client, "a")
        try cluster.unlink(0, "a")
        let second = try cluster.open(client, "a")
        #expect(cluster.status(0).lastTransno.rawValue == before.rawValue + 3)
        try cluster.perform(client, .write(first, offset: 0, [1]))
        try cluster.perform(client, .write(second, offset: 0, [2]))
        try cluster.crash()
        try cluster.awaitService()
        #expect(try cluster.read(client, first, 0, 9) == [1])
        #expect(try cluster.read(client, second, 0, 9) == [2])
    }

    @Test func `R21: of an open that is committed only its handle and file are kept`() throws {
        let (cluster, file) = try Self.cluster(65)
        try cluster.commitAll()
        cluster.settle(.seconds(6))
        #expect(cluster.summary(0, 0).savedCount == 0)
        try cluster.crash(0)
        try cluster.awaitService()
        try check(cluster, file)
        #expect(cluster.openCount() == 1)
    }

    @Test func `R22: an absent client purges by its own entry, and its resend is executed once`()
        throws
    {
        let (cluster, _) = try Self.cluster(66)
        let absent = cluster.clients[1]
        // It asks for something and is cut off before the answer, over two upgrades.
        cluster.simulator.dropNext(.reply(.mkdir), from: cluster.servers[0], to: absent)
        let cookie = cluster.submit(absent, .makeDirectory("once"))
        cluster.settle(.milliseconds(200))
        cluster.simulator.isolate(absent)
        for version in [ProtocolVersion.v2, .v3] {
            let standby = try cluster.standBy(0, versions: .v1...version)
            cluster.announce(0) { $0.deadlineMs = 1_000 }
            try cluster.takeOver(0, standby)
            try cluster.mkdir(0, "by \(version)")
        }
        cluster.simulator.heal()
        #expect(cluster.isDone(1, cookie, within: .seconds(60)))
        #expect(cluster.result(absent, cookie)?.status == .ok)
        #expect(cluster.evicted.isEmpty)
        #expect(try cluster.executions(1).allSatisfy { $0 == 1 })
        #expect(try cluster.listing(0).filter { $0 == "once" }.count == 1)
    }

    @Test func `R22: who has missed a recovery is a stranger to the record behind it`() throws {
        let (cluster, _) = try Self.cluster(67)
        let absent = cluster.clients[1]
        try cluster.mkdir(1, "before")
        cluster.simulator.isolate(absent)
        cluster.configureServer = { $0.recoveryWindow = .seconds(5) }
        try cluster.crash(0)
        try cluster.awaitService()
        try cluster.upgrade(0, to: Scenario.every)
        cluster.simulator.heal()
        cluster.settle(.seconds(40))
        try cluster.mkdir(1, "after")
        #expect(cluster.evicted.allSatisfy { $0 == 1 } && cluster.evicted.contains(1))
    }

    @Test func `R23: scheme sync gates nobody, and leaves nothing to replay`() throws {
        let cluster = try Scenario.held(68, clients: 2)
        try cluster.mkdir(0, "a")
        let standby = try cluster.standBy(0)
        cluster.announce(0) { $0.scheme = .sync }
        try cluster.awaitPhase(0, .stopped)
        #expect(!cluster.has(0, 0, .gateShut) && !cluster.has(1, 0, .gateShut))
        try cluster.takeOver(0, standby)
        try cluster.mkdir(1, "b")
        #expect(cluster.replayed() == 0)
        #expect(try cluster.listing(0) == ["a", "b"])
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `R24: a metadata server takes part as a client of its object servers`() throws {
        let (cluster, file) = try Self.cluster(69)
        let standby = try cluster.standBy(1)
        cluster.announce(1) { $0.holds = true }
        try cluster.awaitPhase(1, .held)
        let clients = cluster.status(1).clients
        let mds = try #require(clients.first { $0.uuid.hasSuffix("-mdc") })
        #expect(mds.isCountedOut && mds.admission == .waiting)
        // It goes on meanwhile, on the other object server.
        try cluster.create(1, "elsewhere")
        cluster.order(cluster.servers[1], UpgradeStart(.proceed))
        try cluster.takeOver(1, standby)
        try cluster.create(1, "again")
        try check(cluster, file)
    }

    @Test func `R25: any pair of versions works together, in both directions`() throws {
        let cluster = try Scenario(seed: 70, clientCount: 0, versions: .v1 ... .v1)
        for version in [ProtocolVersion.v1, .v2, .v3] {
            cluster.configureClient = { $0.versions = .v1...version }
            cluster.addClient(Int(version.rawValue))
        }
        var handles: [FileHandle] = []
        for (number, client) in cluster.clients.enumerated() {
            let handle = try cluster.open(client, "f\(number)", stripes: 2)
            try cluster.perform(client, .write(handle, offset: 0, Self.bytes))
            handles.append(handle)
        }
        for server in [ProtocolVersion.v2, .v3, .v1, .v3, .v2, .v1] {
            for place in 0..<3 { try cluster.upgrade(place, to: .v1...server) }
            for (number, client) in cluster.clients.enumerated() {
                #expect(
                    try cluster.read(client, handles[number], 0, Self.bytes.count) == Self.bytes)
                let own = ProtocolVersion(rawValue: UInt16(number + 1))
                #expect(cluster.summary(number, 0).version == min(own, server))
            }
        }
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `R26: a server starts where format and features are its own and the stop was clean`()
        throws
    {
        let cluster = try Scenario.held(71, versions: .v1 ... .v1)
        try cluster.mkdir(0, "a")
        // Unclean, and nothing has changed: it recovers.
        try cluster.crash(0, versions: .v1 ... .v1)
        try cluster.awaitService()
        // Clean: the range may change.
        try cluster.upgrade(0, to: .v1 ... .v2)
        #expect(try cluster.listing(0) == ["a"])
        // Unclean and changed: not.
        try cluster.mkdir(0, "b")
        cluster.settle(.seconds(2))
        cluster.simulator.kill(cluster.servers[0])
        #expect(throws: StartRefusal.self) {
            try cluster.simulator.addServer(
                cluster.configuration(0, versions: .v2 ... .v3), store: cluster.stores[0])
        }
    }

    @Test func `R27: a forced start names whom it evicts, before it does`() throws {
        let (cluster, _) = try Self.cluster(72, versions: .v1 ... .v1)
        try cluster.mkdir(1, "before")
        cluster.simulator.kill(cluster.servers[0])
        cluster.configureServer = { $0.isForced = true }
        let from = cluster.serverLog.count
        cluster.servers[0] = try cluster.simulator.addServer(
            cluster.configuration(0, versions: .v1 ... .v2), store: cluster.stores[0])
        var named: [String] = []
        for entry in cluster.serverLog[from...] {
            if case .log(.evicted(let client, let reason, _)) = entry.action {
                named.append(client)
                #expect(reason.contains("force"))
            }
            if case .commit = entry.action { break }
        }
        #expect(Set(named) == Set(cluster.clients.map { cluster.uuids[$0]! }))
        cluster.settle(.seconds(40))
        try cluster.mkdir(0, "after")
        #expect(Set(cluster.evicted) == [0, 1])
    }

    @Test func `R28: open files stay open, those without a name too`() throws {
        let (cluster, file) = try Self.cluster(73, versions: .v1 ... .v1)
        try cluster.unlink(1, "f")
        for version in [ProtocolVersion.v2, .v3, .v1] {
            for place in 0..<3 { try cluster.upgrade(place, to: .v1...version) }
            try check(cluster, file)
        }
        try cluster.perform(cluster.clients[0], .close(file))
        #expect(cluster.orphanCount() == 0)
        #expect(cluster.destroyLogCount() == 0)
    }

    @Test func `R29: an operation at the gate can be cancelled, and has no effect`() throws {
        let (cluster, _) = try Self.cluster(74)
        let standby = try cluster.standBy(0)
        cluster.announce(0) { $0.holds = true }
        try cluster.awaitPhase(0, .held)
        let client = cluster.clients[1]
        let wall = cluster.simulator.wall
        let now = cluster.simulator.now
        let handle = cluster.simulator.withClient(client) {
            $0.submit(.makeDirectory("cancelled"), cookie: 77, wall: wall, now: now)
        }
        cluster.settle(.milliseconds(100))
        let later = cluster.simulator.now
        let isTaken = cluster.simulator.withClient(client) { $0.cancel(handle!, now: later) }
        #expect(isTaken == true)
        #expect(cluster.result(client, 77)?.status == .cancelled)
        cluster.order(cluster.servers[0], UpgradeStart(.proceed))
        try cluster.takeOver(0, standby)
        #expect(try !cluster.listing(1).contains("cancelled"))
        #expect(try cluster.executions(1).count <= 1)
    }

    @Test
    func `R30: an unclean stop and another version are refused with the reason and the choices`()
        throws
    {
        let cluster = try Scenario.held(75, versions: .v1 ... .v1)
        try cluster.mkdir(0, "a")
        cluster.simulator.kill(cluster.servers[0])
        do {
            try cluster.simulator.addServer(
                cluster.configuration(0, versions: .v1 ... .v2), store: cluster.stores[0])
            Issue.record("it has started")
        } catch {
            for word in ["did not stop cleanly", "start the old build", "force", "client-0"] {
                #expect(error.description.contains(word), "\(error)")
            }
        }
        cluster.servers[0] = try cluster.simulator.addServer(
            cluster.configuration(0, versions: .v1 ... .v1), store: cluster.stores[0])
        try cluster.awaitService()
        #expect(try cluster.listing(0) == ["a"])
    }

    @Test func `R31: going back works the same way`() throws {
        let (cluster, file) = try Self.cluster(76, versions: .v1 ... .v3)
        for place in 0..<3 { try cluster.upgrade(place, to: .v1 ... .v1) }
        #expect(cluster.summary(0, 0).version == .v1)
        try cluster.perform(cluster.clients[0], .append(file, [1]))
        try cluster.perform(
            cluster.clients[0], .truncate(file, size: UInt64(Self.bytes.count)))
        for place in 0..<3 { try cluster.upgrade(place, to: .v1 ... .v3) }
        try check(cluster, file)
    }

    @Test func `R32: the older build can start again until the upgrade is finalised`() throws {
        let (cluster, file) = try Self.cluster(77, versions: .v1 ... .v1)
        try cluster.upgrade(0, to: .v1 ... .v2)
        try cluster.upgrade(0, to: .v1 ... .v1)
        try cluster.upgrade(0, to: .v1 ... .v2)
        let admin = cluster.addAdministrator()
        let answer = try cluster.ask(admin, 0, UpgradeStart(.finalize))
        #expect(answer.isTaken)
        #expect(cluster.status(0).details?.finalized == .v2)
        // Once more says the same.
        #expect(try cluster.ask(admin, 0, UpgradeStart(.finalize)).isTaken)
        let standby = try cluster.standBy(0, versions: .v1 ... .v1)
        cluster.announce(0)
        try cluster.awaitPhase(0, .stopped)
        cluster.simulator.stop(cluster.servers[0])
        do {
            try cluster.simulator.activate(standby)
            Issue.record("the older build has started")
        } catch {
            #expect(error.description.contains("finalised") && error.description.contains("start"))
        }
        cluster.simulator.kill(standby)
        cluster.servers[0] = try cluster.simulator.addServer(
            cluster.configuration(0, versions: .v1 ... .v2), store: cluster.stores[0])
        try check(cluster, file)
    }

    @Test func `R33: what is configured in the store outlives upgrades and the way back`() throws {
        let (cluster, _) = try Self.cluster(78, versions: .v1 ... .v1)
        var rows: [[UInt8]: [UInt8]] = [:]
        func meta() -> [[UInt8]: [UInt8]] {
            var found: [[UInt8]: [UInt8]] = [:]
            cluster.stores[0].scan(.meta, from: []) { key, value in
                found[key] = value
                return true
            }
            return found
        }
        rows = meta()
        try cluster.upgrade(0, to: .v1 ... .v3)
        try cluster.mkdir(0, "d")
        cluster.settle(.seconds(1))
        #expect(Set(rows.keys).isSubset(of: Set(meta().keys)))
        try cluster.upgrade(0, to: .v1 ... .v1)
        cluster.settle(.seconds(1))
        #expect(Set(rows.keys).isSubset(of: Set(meta().keys)))
    }

    @Test func `R34: gates are shut and lifted from the server's side, by themselves`() throws {
        let (cluster, _) = try Self.cluster(79)
        let standby = try cluster.standBy(0)
        cluster.announce(0)
        try cluster.awaitPhase(0, .stopped)
        #expect(!cluster.isGateOpen(0, 0) && !cluster.isGateOpen(1, 0))
        try cluster.takeOver(0, standby)
        cluster.settle(.seconds(2))
        #expect(cluster.isGateOpen(0, 0) && cluster.isGateOpen(1, 0))
    }

    @Test func `R35: a target stands still for any maintenance, and goes on as the same instance`()
        throws
    {
        let (cluster, file) = try Self.cluster(80)
        let instance = cluster.status(1).instance
        let admin = cluster.addAdministrator()
        let order = UpgradeStart(expiryMs: 600_000, holds: true)
        #expect(try cluster.ask(admin, 1, order).isTaken)
        try cluster.awaitPhase(1, .held)
        cluster.settle(.seconds(100))
        #expect(cluster.phase(1) == .held)
        #expect(try cluster.ask(admin, 1, UpgradeStart(.abort)).isTaken)
        try cluster.awaitPhase(1, .serving)
        #expect(cluster.status(1).instance == instance && !cluster.hasRecord(1))
        try check(cluster, file)
        // A machine that is switched off meanwhile has stopped cleanly.
        #expect(try cluster.ask(admin, 1, order).isTaken)
        try cluster.awaitPhase(1, .held)
        let log = cluster.serverLog.count
        try cluster.crash(1)
        let starts = cluster.serverLog[log...].compactMap { entry -> ServerStart? in
            if case .serving(_, let start) = entry.action { start } else { nil }
        }
        #expect(starts == [.clean])
        try check(cluster, file)
    }

    @Test func `R36: clients without the feature are not gated, not waited for and not evicted`()
        throws
    {
        let cluster = try Scenario.held(81, clients: 1)
        cluster.configureClient = { $0.features.remove(.upgrade) }
        cluster.addClient(5)
        try cluster.mkdir(1, "before")
        let standby = try cluster.standBy(0)
        cluster.simulator.pause(cluster.clients[0])
        cluster.announce(0) { $0.deadlinePolicy = .wait }
        cluster.settle(.milliseconds(500))
        #expect(cluster.isGateOpen(1, 0), "it is not gated")
        let entry = try #require(
            cluster.status(0).clients.first { $0.uuid == cluster.uuids[cluster.clients[1]] })
        #expect(entry.isCountedOut && entry.admission == .none)
        // From the announcement on its updates are on disk before they are answered.
        try cluster.mkdir(1, "meanwhile")
        #expect(
            cluster.status(0).lastCommitted == cluster.status(0).lastTransno,
            "committed before the reply")
        cluster.simulator.resume(cluster.clients[0])
        try cluster.takeOver(0, standby)
        try cluster.mkdir(1, "after")
        #expect(try cluster.listing(1) == ["after", "before", "meanwhile"])
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `R37: a forgotten gate lifts itself, and only the target judges when`() throws {
        let (cluster, _) = try Self.cluster(82)
        cluster.announce(0) {
            $0.holds = true
            $0.expiryMs = 30_000
        }
        try cluster.awaitPhase(0, .held)
        // The clients' clocks may say what they like.
        cluster.simulator.setClock(of: cluster.clients[1], partsPerMillion: 900_000)
        let cookie = cluster.submit(cluster.clients[1], .makeDirectory("d"))
        cluster.settle(.seconds(25))
        #expect(!cluster.isGateOpen(1, 0) && cluster.phase(0) == .held)
        try cluster.awaitPhase(0, .serving, within: .seconds(10))
        #expect(cluster.isDone(1, cookie, within: .seconds(5)))
        #expect(cluster.status(0).details?.lastAbort == 2)
    }

    @Test func `R37: a target gives up before a gate was shut for longer than the budget`() throws {
        let (cluster, _) = try Self.cluster(83)
        cluster.simulator.pause(cluster.clients[0])
        let began = cluster.simulator.now
        cluster.announce(0) {
            $0.deadlinePolicy = .wait
            $0.pauseBudgetMs = 2_000
        }
        cluster.settle(.milliseconds(100))
        #expect(!cluster.isGateOpen(1, 0))
        let isOpen = cluster.simulator.run(until: began + .seconds(30)) { cluster.isGateOpen(1, 0) }
        #expect(isOpen && cluster.simulator.now - began < .milliseconds(2_000))
        #expect(cluster.status(0).details?.lastAbort == 5)
        cluster.simulator.resume(cluster.clients[0])
        try cluster.mkdir(0, "d")
    }

    @Test func `R38: nobody has to watch: the targets carry the state`() throws {
        let (cluster, file) = try Self.cluster(84)
        let standby = try cluster.standBy(1)
        let admin = cluster.addAdministrator()
        var order = UpgradeStart(next: cluster.nextNID(1))
        order.deadlineMs = 15_000
        #expect(try cluster.ask(admin, 1, order).isTaken)
        cluster.simulator.kill(admin)
        // Another asks again with the same words, and gets the same answer.
        let epoch = cluster.status(1).epoch
        let second = cluster.addAdministrator()
        if let answer = try? cluster.ask(second, 1, order) { #expect(answer.epoch == epoch) }
        try cluster.takeOver(1, standby)
        try check(cluster, file)
    }

    @Test func `R39: the notices of all clients go out at once`() throws {
        let cluster = try Scenario(seed: 85, clientCount: 150, objectServerCount: 1)
        cluster.settle(.seconds(3))
        for client in cluster.clients.indices { try cluster.awaitFull(client) }
        // Half of them never answer: the others hear all the same.
        for place in 0..<75 { cluster.simulator.pause(cluster.clients[place]) }
        let began = cluster.simulator.now
        cluster.announce(0) { $0.deadlinePolicy = .wait }
        cluster.settle(.milliseconds(500))
        for client in 75..<150 {
            let shut = try #require(cluster.stamps(client, 0).first { $0.stamp == .gateShut })
            #expect(shut.at - began < .milliseconds(100))
        }
        for place in 0..<75 { cluster.simulator.resume(cluster.clients[place]) }
        try cluster.awaitPhase(0, .stopped)
    }

    @Test func `R40: a replay is applied to the object versions that it saw, or is told as lost`()
        throws
    {
        let cluster = try Scenario.held(86, clients: 3, window: .seconds(15))
        let file = try cluster.mkdir(0, "d")
        try cluster.commitAll()
        try cluster.chmod(1, file, 0o700)
        try cluster.chmod(0, file, 0o711)
        try cluster.mkdir(2, "independent")
        cluster.lose(1)
        try cluster.crash()
        try cluster.awaitService()
        try cluster.awaitFull(0)
        try cluster.awaitFull(2)
        // What was based on the lost change is not applied to anything else, and its client knows.
        #expect(cluster.evicted == [0])
        #expect(try cluster.mode(2, "d") == 0o755)
        #expect(try cluster.listing(2) == ["d", "independent"])
    }
}
