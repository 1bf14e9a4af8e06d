import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// What a crash, a loss or a race does: a test for each row of the table in the article
/// `Requirements` of UpgradeCore.
@Suite struct CrashTableTests {
    private static func cluster(
        _ seed: UInt64, clients: Int = 2, versions: ClosedRange<ProtocolVersion> = Scenario.every
    ) throws -> Scenario {
        let cluster = try Scenario(seed: seed, clientCount: clients, versions: versions)
        cluster.settle(.seconds(1))
        return cluster
    }

    private func isWhole(_ cluster: Scenario) -> Bool {
        cluster.evicted.isEmpty && cluster.lostCount == 0
    }

    @Test
    func
        `any: a target that dies before the seal leaves no record, and another version is refused`()
        throws
    {
        let cluster = try Self.cluster(1, versions: .v1 ... .v1)
        try cluster.mkdir(0, "a")
        cluster.simulator.pause(cluster.clients[1])
        cluster.announce(0) { $0.deadlinePolicy = .wait }
        cluster.settle(.milliseconds(300))
        let standby = try cluster.standBy(0, versions: .v1 ... .v2)
        cluster.simulator.kill(cluster.servers[0])
        #expect(!cluster.hasRecord(0))
        #expect(throws: StartRefusal.self) { try cluster.simulator.activate(standby) }
        cluster.simulator.kill(standby)
        cluster.simulator.resume(cluster.clients[1])
        cluster.servers[0] = try cluster.simulator.addServer(
            cluster.configuration(0, versions: .v1 ... .v1), store: cluster.stores[0])
        try cluster.awaitService()
        try cluster.mkdir(1, "b")
        #expect(try cluster.listing(0) == ["a", "b"] && isWhole(cluster))
    }

    @Test func `announced: a lost notice stands behind every reply`() throws {
        let cluster = try Self.cluster(2)
        cluster.simulator.dropNext(
            .request(.ldlmBlockingAST), from: cluster.servers[0], to: cluster.clients[1], count: 2)
        cluster.announce(0) { $0.deadlinePolicy = .wait }
        cluster.settle(.milliseconds(100))
        #expect(cluster.isGateOpen(1, 0))
        // Any reply will do, of a request that reads.
        _ = cluster.submit(
            cluster.clients[1], .readdir(.root, after: nil, entryCountMax: 8))
        let isShut = cluster.simulator.run(until: cluster.simulator.now + .milliseconds(500)) {
            !cluster.isGateOpen(1, 0)
        }
        #expect(isShut)
        try cluster.awaitPhase(0, .stopped)
    }

    @Test(arguments: DeadlinePolicy.allCases)
    func `closing: what becomes of a client that is silent is a policy`(
        policy: DeadlinePolicy
    ) throws {
        let cluster = try Self.cluster(3)
        let standby = try cluster.standBy(0)
        cluster.simulator.pause(cluster.clients[1])
        cluster.announce(0) {
            $0.deadlinePolicy = policy
            $0.deadlineMs = 3_000
        }
        cluster.settle(.seconds(2))
        #expect(cluster.phase(0) == .announced)
        cluster.settle(.seconds(4))
        switch policy {
        case .wait:
            #expect(cluster.phase(0) == .announced)
            cluster.simulator.resume(cluster.clients[1])
            try cluster.takeOver(0, standby)
        case .leaveBehind:
            try cluster.takeOver(0, standby)
            cluster.simulator.resume(cluster.clients[1])
        case .abort:
            #expect(cluster.phase(0) == .serving)
            #expect(cluster.status(0).details?.lastAbort == 1)
            cluster.simulator.resume(cluster.clients[1])
        }
        try cluster.mkdir(1, "d")
        #expect(isWhole(cluster))
    }

    @Test(arguments: DeadlinePolicy.allCases)
    func `pre-flush: a client that is stuck is judged before any gate is shut`(
        policy: DeadlinePolicy
    ) throws {
        let cluster = try Self.cluster(4)
        let standby = try cluster.standBy(1)
        cluster.simulator.pause(cluster.clients[1])
        cluster.announce(1) {
            $0.deadlinePolicy = policy
            $0.preflushMs = 2_000
        }
        cluster.settle(.milliseconds(1_500))
        #expect(cluster.status(1).details?.isPreflushing == true)
        #expect(cluster.isGateOpen(0, 1), "nobody pauses for the one that is stuck")
        switch policy {
        case .wait:
            cluster.settle(.seconds(5))
            #expect(cluster.isGateOpen(0, 1))
            cluster.simulator.resume(cluster.clients[1])
            try cluster.takeOver(1, standby)
        case .leaveBehind:
            try cluster.awaitPhase(1, .stopped)
            let stamps = cluster.stamps(0, 1)
            let shut = try #require(stamps.first { $0.stamp == .gateShut }).at
            let told = try #require(stamps.first { $0.stamp == .committed }).at
            #expect(told - shut < .milliseconds(500), "behind shut gates nobody waits for it")
            try cluster.takeOver(1, standby)
            cluster.simulator.resume(cluster.clients[1])
        case .abort:
            cluster.settle(.seconds(1))
            #expect(cluster.phase(1) == .serving && !cluster.has(0, 1, .gateShut))
            cluster.simulator.resume(cluster.clients[1])
        }
        try cluster.create(1, "d")
        #expect(isWhole(cluster))
    }

    @Test
    func `closing: who reconnects to the same instance goes on preparing, and is not counted`()
        throws
    {
        let cluster = try Self.cluster(5)
        let standby = try cluster.standBy(1)
        let file = try cluster.open(cluster.clients[1], "f")
        try cluster.perform(cluster.clients[1], .write(file, offset: 0, [1, 2, 3]))
        cluster.simulator.delayNext(
            .request(.objectWrite), from: cluster.clients[1], count: 8, by: .seconds(3))
        let reset = cluster.simulator.intercept(
            .reply(.ldlmBlockingAST), from: cluster.clients[1], to: cluster.servers[1], .reset)
        cluster.announce(1) { $0.deadlinePolicy = .wait }
        cluster.settle(.milliseconds(700))
        #expect(cluster.simulator.hits(reset) == 1)
        let entry = cluster.status(1).clients.first { $0.uuid == "client-1" }
        #expect(entry?.isCountedOut == false, "it has not written back yet")
        try cluster.takeOver(1, standby)
        #expect(try cluster.read(cluster.clients[1], file, 0, 9) == [1, 2, 3])
        #expect(isWhole(cluster))
    }

    @Test func `prepared: who reconnects to the same instance still waits, its receipt counts`()
        throws
    {
        let cluster = try Scenario(seed: 6, clientCount: 0)
        cluster.configureClient = { $0.pingInterval = .seconds(1) }
        for number in 0..<2 { cluster.addClient(number) }
        cluster.settle(.seconds(1))
        let standby = try cluster.standBy(0)
        cluster.announce(0) { $0.holds = true }
        try cluster.awaitPhase(0, .held)
        let connects = cluster.summary(1, 0).counters.connects
        cluster.simulator.intercept(
            .request(.ping), from: cluster.clients[1], to: cluster.servers[0], .reset)
        cluster.settle(.seconds(9))
        #expect(cluster.summary(1, 0).counters.connects > connects)
        let entry = cluster.status(0).clients.first { $0.uuid == "client-1" }
        #expect(entry?.admission == .waiting && entry?.isCountedOut == true)
        #expect(!cluster.isGateOpen(1, 0))
        cluster.order(cluster.servers[0], UpgradeStart(.proceed))
        try cluster.takeOver(0, standby)
        try cluster.mkdir(1, "d")
        #expect(isWhole(cluster))
    }

    @Test func `committed: where the notice is lost the clean record answers`() throws {
        let cluster = try Self.cluster(7)
        let standby = try cluster.standBy(0)
        cluster.simulator.dropNext(
            .request(.ldlmCompletionAST), from: cluster.servers[0], to: cluster.clients[1],
            count: 9)
        cluster.announce(0)
        try cluster.takeOver(0, standby)
        try cluster.mkdir(1, "d")
        #expect(!cluster.has(1, 0, .committed))
        #expect(isWhole(cluster))
    }

    @Test func `stopped: where the new instance cannot start the old build takes the same record`()
        throws
    {
        let cluster = try Self.cluster(8, versions: .v1 ... .v1)
        try cluster.mkdir(0, "a")
        let standby = try cluster.standBy(0, versions: .v1 ... .v2)
        cluster.announce(0)
        try cluster.awaitPhase(0, .stopped)
        cluster.simulator.stop(cluster.servers[0])
        // It dies before it has changed anything: the record stands.
        cluster.simulator.kill(standby)
        #expect(cluster.hasRecord(0))
        let log = cluster.serverLog.count
        cluster.servers[0] = try cluster.simulator.addServer(
            cluster.configuration(0, versions: .v1 ... .v1), store: cluster.stores[0])
        let isClean = cluster.serverLog[log...].contains { entry in
            if case .serving(_, .clean) = entry.action { true } else { false }
        }
        #expect(isClean)
        try cluster.mkdir(1, "b")
        cluster.settle(.seconds(1))
        #expect(!cluster.hasRecord(0), "withdrawn with the first update")
        #expect(isWhole(cluster))
    }

    @Test func `prepared: a new client is born prepared, and told where to go`() throws {
        let cluster = try Self.cluster(9)
        let standby = try cluster.standBy(0)
        cluster.announce(0) { $0.holds = true }
        try cluster.awaitPhase(0, .held)
        cluster.addClient(9)
        let cookie = cluster.submit(cluster.clients[2], .makeDirectory("late"))
        cluster.settle(.seconds(2))
        let entry = cluster.status(0).clients.first { $0.uuid == "client-9" }
        #expect(entry?.admission == .waiting && entry?.isCountedOut == true)
        #expect(cluster.result(cluster.clients[2], cookie) == nil)
        cluster.order(cluster.servers[0], UpgradeStart(.proceed))
        try cluster.takeOver(0, standby)
        #expect(cluster.isDone(2, cookie, within: .seconds(20)))
        #expect(isWhole(cluster))
    }

    @Test func `prepared: a client that came behind the seal takes part in the next upgrade`()
        throws
    {
        let cluster = try Self.cluster(10)
        cluster.announce(0) { $0.holds = true }
        try cluster.awaitPhase(0, .held)
        cluster.addClient(9)
        cluster.settle(.seconds(2))
        cluster.order(cluster.servers[0], UpgradeStart(isAbort: true))
        try cluster.awaitPhase(0, .serving)
        try cluster.mkdir(2, "late")
        let standby = try cluster.standBy(0)
        cluster.announce(0)
        try cluster.takeOver(0, standby)
        #expect(cluster.has(2, 0, .gateShut), "it was told: it has its admission lock")
        try cluster.mkdir(2, "later")
        #expect(isWhole(cluster))
    }

    @Test
    func `any: a second order gets the same answer, or is refused with the state of the first`()
        throws
    {
        let cluster = try Scenario.held(11)
        let admin = cluster.addAdministrator()
        cluster.simulator.pause(cluster.clients[0])
        var order = UpgradeStart(deadlinePolicy: .wait)
        let first = try cluster.ask(admin, 0, order)
        #expect(first.isTaken && first.epoch != .none)
        #expect(try cluster.ask(admin, 0, order).epoch == first.epoch)
        order.deadlineMs += 1
        let other = try cluster.ask(admin, 0, order)
        #expect(!other.isTaken && other.epoch == first.epoch)
        #expect(other.sentence.contains("announced") && other.sentence.contains("abort"))
        cluster.simulator.resume(cluster.clients[0])
        try cluster.awaitPhase(0, .stopped)
        cluster.simulator.kill(cluster.clients[0])
        try cluster.crash()
        // Recovering, for the one that is gone: refused.
        if cluster.phase(0) == .recovering {
            let late = try cluster.ask(admin, 0, order)
            #expect(!late.isTaken && late.sentence.contains("recover"))
        }
    }

    @Test func `any: an order in every state is taken, or refused with the state and what to do`()
        throws
    {
        let actions: [UpgradeAction] = [.start, .abort, .proceed, .finalize]
        var seen: [String: Bool] = [:]
        for phase in [UpgradePhase.serving, .recovering, .announced, .held] {
            for action in actions {
                let cluster = try Scenario.held(12, clients: 2)
                let admin = cluster.addAdministrator()
                switch phase {
                case .recovering:
                    cluster.lose(1)
                    try cluster.crash()
                    cluster.settle(.seconds(1))
                case .announced:
                    cluster.simulator.pause(cluster.clients[1])
                    cluster.announce(0) { $0.deadlinePolicy = .wait }
                    cluster.settle(.milliseconds(300))
                case .held:
                    cluster.announce(0) { $0.holds = true }
                    try cluster.awaitPhase(0, .held)
                default: break
                }
                #expect(cluster.phase(0) == phase)
                let answer = try cluster.ask(admin, 0, UpgradeStart(action))
                seen["\(phase.name) \(action.name)"] = answer.isTaken
                guard !answer.isTaken else { continue }
                #expect(answer.sentence.contains(phase.name), "\(phase) \(action): \(answer)")
                let ways = [
                    "wait", "begin", "start", "ask again", "nothing is to be done", "abort",
                ]
                #expect(ways.contains { answer.sentence.contains($0) }, "\(answer.sentence)")
            }
        }
        let taken = Set(seen.filter(\.value).keys)
        #expect(
            taken == [
                "serving start", "serving finalize", "announced abort", "announced proceed",
                "held abort", "held proceed",
            ])
    }

    @Test func `any: only the target judges that a deadline or an expiry has passed`() throws {
        let cluster = try Self.cluster(13)
        for client in cluster.clients {
            cluster.simulator.setClock(of: client, partsPerMillion: 900_000)
        }
        cluster.simulator.pause(cluster.clients[0])
        cluster.announce(0) {
            $0.deadlinePolicy = .wait
            $0.expiryMs = 20_000
        }
        cluster.settle(.seconds(15))
        #expect(!cluster.isGateOpen(1, 0) && cluster.phase(0) == .announced)
        try cluster.awaitPhase(0, .serving, within: .seconds(10))
        cluster.settle(.seconds(1))
        #expect(cluster.isGateOpen(1, 0))
    }

    @Test func `any: a waiting operation that is cancelled leaves the queue`() throws {
        let cluster = try Self.cluster(14)
        cluster.announce(0) { $0.holds = true }
        try cluster.awaitPhase(0, .held)
        let client = cluster.clients[0]
        let wall = cluster.simulator.wall
        let now = cluster.simulator.now
        let handle = cluster.simulator.withClient(client) {
            $0.submit(.makeDirectory("d"), cookie: 55, wall: wall, now: now)
        }
        #expect(cluster.simulator.client(client)!.core.gateQueueCount == 1)
        _ = cluster.simulator.withClient(client) { $0.cancel(handle!, now: now) }
        #expect(cluster.simulator.client(client)!.core.gateQueueCount == 0)
        cluster.order(cluster.servers[0], UpgradeStart(isAbort: true))
        try cluster.awaitPhase(0, .serving)
        #expect(try cluster.listing(0).isEmpty)
    }

    @Test func `group: all targets at once, while creates wait for objects, come to their seals`()
        throws
    {
        let cluster = try Self.cluster(15)
        let standbys = try (0..<3).map { try cluster.standBy($0) }
        let files = (0..<40).map { "f\($0)" }
        let cookies = files.map { name in
            cluster.submit(
                cluster.clients[0],
                .open(
                    at: .root, FileName(name)!, [.read, .write, .create], mode: 0o644,
                    stripeCount: 2))
        }
        for place in [1, 2, 0] { cluster.announce(place) { $0.holds = true } }
        for place in 0..<3 { try cluster.awaitPhase(place, .held, within: .seconds(15)) }
        for place in 0..<3 { cluster.order(cluster.servers[place], UpgradeStart(.proceed)) }
        for place in 0..<3 { try cluster.takeOver(place, standbys[place]) }
        for cookie in cookies {
            #expect(cluster.isDone(0, cookie, within: .seconds(30)))
            #expect(cluster.result(cluster.clients[0], cookie)?.status == .ok)
        }
        #expect(try cluster.listing(1).count == files.count)
        #expect(isWhole(cluster))
    }

    @Test func `one OSS: the metadata server allocates elsewhere and logs destroys meanwhile`()
        throws
    {
        let cluster = try Self.cluster(16)
        for number in 0..<4 { try cluster.create(0, "old\(number)") }
        let standby = try cluster.standBy(1)
        cluster.announce(1) { $0.holds = true }
        try cluster.awaitPhase(1, .held)
        for number in 0..<4 {
            try cluster.create(1, "new\(number)")
            try cluster.unlink(1, "old\(number)")
        }
        cluster.settle(.seconds(2))
        #expect(
            cluster.destroyLogCount() > 0, "what lies on the one that is gated waits in the log")
        cluster.order(cluster.servers[1], UpgradeStart(.proceed))
        try cluster.takeOver(1, standby)
        cluster.settle(.seconds(5))
        #expect(cluster.destroyLogCount() == 0)
        #expect(isWhole(cluster))
    }

    @Test func `clean restart: a request without an answer is built anew and executed once`() throws
    {
        let cluster = try Self.cluster(17, versions: .v1 ... .v1)
        let client = cluster.clients[1]
        cluster.simulator.dropNext(.reply(.mkdir), from: cluster.servers[0], to: client)
        let cookie = cluster.submit(client, .makeDirectory("once"))
        cluster.settle(.milliseconds(200))
        let xid = cluster.summary(1, 0).highestXID
        cluster.simulator.isolate(client)
        let standby = try cluster.standBy(0, versions: .v1 ... .v2)
        cluster.announce(0) { $0.deadlineMs = 1_000 }
        try cluster.takeOver(0, standby)
        cluster.simulator.heal()
        #expect(cluster.isDone(1, cookie, within: .seconds(60)))
        #expect(cluster.result(client, cookie)?.status == .ok)
        #expect(cluster.summary(1, 0).version == .v2 && xid != .zero)
        #expect(try cluster.executions(1).allSatisfy { $0 == 1 })
        #expect(isWhole(cluster))
    }

    @Test func `clean restart: a client without the feature sees an ordinary recovery`() throws {
        let cluster = try Self.cluster(18, clients: 1)
        cluster.configureClient = { $0.features.remove(.upgrade) }
        cluster.addClient(5)
        let file = try cluster.open(cluster.clients[1], "f")
        try cluster.perform(cluster.clients[1], .write(file, offset: 0, [4, 5, 6]))
        try cluster.upgrade(0, to: Scenario.every)
        try cluster.upgrade(1, to: Scenario.every)
        #expect(try cluster.read(cluster.clients[1], file, 0, 9) == [4, 5, 6])
        try cluster.perform(cluster.clients[1], .append(file, [7]))
        try cluster.perform(cluster.clients[1], .close(file))
        #expect(cluster.openCount() == 0)
        #expect(isWhole(cluster))
    }
}
