import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Group I: time-outs that follow the target and the network. The estimates themselves are tested
/// in PtlRPCCoreTests; here a whole cluster lives by them.
@Suite struct GroupITests {
    /// A disk so slow that an update that waits for it takes longer than the shortest time-out.
    @Test func `RS 66a a slow server is not a dead server`() throws {
        let cluster = try Scenario(seed: 1, clientCount: 1)
        cluster.settle(.seconds(1))
        let client = cluster.clients[0]
        let before = cluster.simulator.client(client)!.core.summary(0).counters
        // Creates wait for objects that nobody makes for a while.
        for place in 1...2 { cluster.simulator.pause(cluster.servers[place], for: .seconds(35)) }
        let cookies = (0..<1200).map {
            cluster.submit(
                client,
                .open(
                    at: .root, FileName("f\($0)")!, [.read, .write, .create], mode: 0o644,
                    stripeCount: 1))
        }
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(120)) {
            cookies.allSatisfy { cluster.result(client, $0) != nil }
        }
        #expect(isDone, "\(cluster.state(client))")
        let after = cluster.simulator.client(client)!.core.summary(0)
        #expect(after.counters.timeouts == before.timeouts, "the metadata server was only slow")
        #expect(after.counters.earlyReplies > 0)
        #expect(after.serviceEstimate > .seconds(4))
    }

    @Test func `RS 66b a slow network is learnt`() throws {
        var options = SimulatedCluster.Options()
        options.latencyMin = .milliseconds(1500)
        options.latencyMax = .milliseconds(2500)
        let cluster = try Scenario(seed: 2, clientCount: 1, options: options)
        for number in 0..<5 { try cluster.mkdir(0, "d\(number)") }
        let summary = cluster.simulator.client(cluster.clients[0])!.core.summary(0)
        #expect(summary.networkLatency >= .seconds(2))
        #expect(summary.counters.timeouts == 0)
    }

    @Test func `RS 68 a lock that is given up slowly evicts nobody`() throws {
        let cluster = try Scenario(seed: 3, clientCount: 2)
        let writer = cluster.clients[0]
        let handle = try cluster.open(writer, "f")
        try cluster.perform(
            writer, .write(handle, offset: 0, [UInt8](repeating: 1, count: 2_000_000)))
        // Its write-back takes nearly as long as a called-back lock may be kept.
        cluster.simulator.delayNext(.request(.objectWrite), from: writer, count: 1, by: .seconds(8))
        let other = try cluster.open(cluster.clients[1], "f", create: false)
        let bytes = try cluster.read(cluster.clients[1], other, 0, 10)
        #expect(bytes == [UInt8](repeating: 1, count: 10))
        #expect(cluster.evicted.isEmpty)
    }

    @Test func `CS 74 time-outs can be had without adaption, on either side`() throws {
        let cluster = try Scenario(seed: 4, clientCount: 0)
        cluster.configureServer = { $0.adaptive = nil }
        for place in 0..<3 { try cluster.crash(place) }
        cluster.addClient(0)
        cluster.configureClient = { $0.adaptive = nil }
        cluster.addClient(1)
        for number in 0..<4 { try cluster.mkdir(number % 2, "d\(number)") }
        cluster.configureServer = { $0.adaptive = AdaptiveTimeouts() }
        for place in 0..<3 { try cluster.crash(place) }
        for number in 4..<8 { try cluster.mkdir(number % 2, "d\(number)") }
        #expect(try cluster.names(cluster.clients[0]).count == 8)
    }
}

/// Orders and requests that have no place: refused with the protocol's error, nothing executed.
@Suite struct BadInputTests {
    @Test func `an end of recovery that is asked for while nothing recovers is refused`() throws {
        let cluster = try Scenario(seed: 5, clientCount: 1)
        let cookie = cluster.submit(cluster.clients[0], .raw(target: 0, .abortRecovery))
        cluster.settle(.seconds(3))
        #expect(cluster.result(cluster.clients[0], cookie)?.status == .already)
        #expect(cluster.evicted.isEmpty)
    }

    @Test func `an administrator ends a recovery from outside, and is no client of it`() throws {
        let cluster = try Scenario.held(6, clients: 2)
        try cluster.mkdir(0, "a")
        try cluster.mkdir(1, "b")
        cluster.lose(1)
        try cluster.crash()
        cluster.settle(.seconds(2))
        cluster.configureClient = { $0.isObserver = true }
        let admin = cluster.addClient(5)
        try cluster.perform(admin, .raw(target: 0, .abortRecovery))
        try cluster.awaitService(0, within: .seconds(2))
        let clients = cluster.simulator.server(cluster.servers[0])!.statusReply().clients
        #expect(clients.allSatisfy { $0.uuid != cluster.uuids[admin] })
    }

    /// Found by a stress run: LNet paused for up to a minute between its attempts to reach a server
    /// that had been off, and every CONNECT waited there until its time was over. Others were called
    /// by the server; whom it does not know has only its own attempts.
    @Test func `whom no server calls finds one that was off for a minute as soon as it is back`()
        throws
    {
        let cluster = try Scenario(seed: 8, clientCount: 1)
        let admin = cluster.addAdministrator()
        try cluster.perform(admin, .raw(target: 0, .upgradeStatus))
        _ = cluster.submit(admin, .raw(target: 0, .upgradeStatus))
        try cluster.crash([0], versions: [Scenario.every], awayFor: .seconds(60))
        let start = cluster.simulator.now
        try cluster.perform(admin, .raw(target: 0, .upgradeStatus))
        #expect(cluster.simulator.now - start < .seconds(3))
    }

    @Test func `a stop of both servers at once does not wait for the one that is gone`() throws {
        let cluster = try Scenario(seed: 7, clientCount: 1)
        try cluster.create(0, "f")
        cluster.settle(.seconds(1))
        var stopped: Set<Int> = []
        let before = cluster.simulator.onServer
        cluster.simulator.onServer = { node, action in
            before(node, action)
            if case .stop = action {
                stopped.insert(node)
            }
        }
        let start = cluster.simulator.now
        for place in 0..<3 {
            cluster.order(cluster.servers[place], UpgradeStart(deadlineMs: 30_000))
        }
        let isDone = cluster.simulator.run(until: start + .seconds(60)) {
            for node in stopped { cluster.simulator.stop(node) }
            return stopped.count == 3
        }
        #expect(isDone)
        #expect(cluster.simulator.now - start < .seconds(5))
    }
}
