import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Group B: several updates under way, replies that are rebuilt, resends.
@Suite struct GroupBTests {
    /// Creates that no pool has objects for.
    private static let more = 1200

    private static func several(_ cluster: Scenario, _ count: Int = 8) throws {
        let client = cluster.clients[0]
        let cookies = (0..<count).map { cluster.submit(client, .makeDirectory("d\($0)")) }
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(100)) {
            cookies.allSatisfy { cluster.result(client, $0) != nil }
        }
        #expect(isDone, "\(cluster.state(client))")
        for cookie in cookies { #expect(cluster.result(client, cookie)?.status == .ok) }
        #expect(try cluster.listing(0).count == count)
    }

    @Test func `RS 102a creates whose requests are lost are executed once each`() throws {
        let cluster = try Scenario.held(1)
        cluster.simulator.dropNext(.request(.mkdir), count: 4, skip: 2)
        try Self.several(cluster)
        #expect(try cluster.executions(0).allSatisfy { $0 == 1 })
    }

    @Test func `RS 102b creates whose replies are lost are answered from what was saved`() throws {
        let cluster = try Scenario.held(2)
        cluster.simulator.dropNext(.reply(.mkdir), count: 4, skip: 2)
        try Self.several(cluster)
        #expect(try cluster.executions(0).allSatisfy { $0 == 1 })
        #expect(cluster.counters().resent >= 4)
    }

    @Test(arguments: 0..<6 as Range<UInt64>)
    func `RS 102d replays and rebuilt replies together after a crash`(seed: UInt64) throws {
        let cluster = try Scenario(seed: 50 + seed, clientCount: 1)
        cluster.settle()
        let client = cluster.clients[0]
        // Some replies never arrive, some updates are on disk then, some are not.
        cluster.simulator.dropNext(.reply(.mkdir), count: 3, skip: Int(seed))
        let cookies = (0..<12).map { cluster.submit(client, .makeDirectory("d\($0)")) }
        cluster.settle(.milliseconds(20 * seed))
        try cluster.crash()
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(100)) {
            cookies.allSatisfy { cluster.result(client, $0) != nil }
        }
        #expect(isDone, "\(cluster.state(client))")
        for cookie in cookies { #expect(cluster.result(client, cookie)?.status == .ok) }
        #expect(try cluster.names(client).count == 12)
        #expect(try cluster.executions(0).allSatisfy { $0 == 1 })
    }

    @Test(arguments: [true, false])
    func `RCS 1 4 5 6 8 each operation survives a lost request, and a lost reply`(
        losesRequest: Bool
    ) throws {
        let cluster = try Scenario.held(losesRequest ? 3 : 4)
        func lost(_ opcode: Opcode) -> MessagePattern {
            losesRequest ? .request(opcode) : .reply(opcode)
        }
        let name = FileName("f")!
        let other = FileName("g")!
        let open = FileOperation.open(
            at: .root, name, [.read, .write, .create], mode: 0o644, stripeCount: 1)
        #expect(try cluster.performLosing(0, .makeDirectory("d"), lost(.mkdir)) == .ok)
        #expect(try cluster.performLosing(0, open, lost(.open)) == .ok)
        let file = try cluster.file(0, "f")
        #expect(
            try cluster.performLosing(
                0, .setattr(file, mode: 0o600, modified: nil), lost(.setattr)) == .ok)
        #expect(
            try cluster.performLosing(
                0, .rename(at: .root, name, to: .root, other), lost(.rename)) == .ok)
        #expect(
            try cluster.performLosing(
                0, .unlink(at: .root, other, isDirectory: false), lost(.unlink)) == .ok)
        #expect(try cluster.listing(0) == ["d"])
        #expect(try cluster.executions(0).allSatisfy { $0 == 1 })
        #expect(cluster.evicted.isEmpty)
    }

    @Test func `RCS 9 a write survives an object server that hangs`() throws {
        let cluster = try Scenario.held(5)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) }
        try cluster.perform(client, .write(handle, offset: 0, bytes))
        for place in 1...2 {
            cluster.simulator.pause(cluster.servers[place], for: .seconds(25))
        }
        try cluster.perform(client, .flush(handle))
        cluster.addClient(1)
        let other = try cluster.open(cluster.clients[1], "f", create: false)
        #expect(try cluster.read(cluster.clients[1], other, 0, 400_000) == bytes)
        #expect(cluster.evicted.isEmpty)
    }

    @Test(arguments: [false, true])
    func `RCS 16 17a 17b a bulk transfer that is lost is done again`(isRead: Bool) throws {
        let cluster = try Scenario.held(isRead ? 6 : 7)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 / 3) }
        try cluster.perform(client, .write(handle, offset: 0, bytes))
        if !isRead { cluster.simulator.dropNext(.bulk, count: 1) }
        try cluster.perform(client, .flush(handle))
        cluster.addClient(1)
        let other = try cluster.open(cluster.clients[1], "f", create: false)
        if isRead { cluster.simulator.dropNext(.bulk, count: 1) }
        #expect(try cluster.read(cluster.clients[1], other, 0, 400_000) == bytes)
        #expect(cluster.simulator.counters.messagesLost == 1)
        #expect(cluster.evicted.isEmpty)
    }

    @Test func `RCS 24a 24b what an evicted client could not write back is told`() throws {
        let cluster = try Scenario(seed: 8, clientCount: 2)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        try cluster.perform(client, .write(handle, offset: 0, [1, 2, 3]))
        // Out of reach while the other wants the lock: it is called back, and evicted.
        cluster.simulator.partition([client], from: cluster.servers)
        let other = try cluster.open(cluster.clients[1], "f", create: false)
        try cluster.perform(cluster.clients[1], .append(other, [9]))
        cluster.simulator.heal()
        cluster.settle(.seconds(60))
        #expect(cluster.evicted.contains(0))
        let told = cluster.lostCount > 0
        let cookie = cluster.submit(client, .flush(handle))
        cluster.settle(.seconds(5))
        #expect(told || cluster.result(client, cookie)?.status.isError == true)
        #expect(try cluster.read(cluster.clients[1], other, 0, 10) == [9])
    }

    @Test func `RCS 112a a write that is sent again while it is under way is done once`() throws {
        let cluster = try Scenario.held(9)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        let bytes = [UInt8](repeating: 3, count: 100_000)
        try cluster.perform(client, .write(handle, offset: 0, bytes))
        // The bytes come so late that the client has asked again.
        cluster.simulator.delayNext(
            MessagePattern { $0.kind == .get }, by: .seconds(15))
        try cluster.perform(client, .flush(handle))
        cluster.settle(.seconds(30))
        for place in 1...2 { #expect(try cluster.executions(0, place).allSatisfy { $0 == 1 }) }
        #expect(try cluster.read(client, handle, 0, 200_000) == bytes)
    }

    @Test func `RCS 148 a write that comes late does not undo a newer one`() throws {
        let cluster = try Scenario.held(10)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        try cluster.perform(client, .write(handle, offset: 0, [1, 1, 1]))
        // The copy that the time-out leads to is there long before the first.
        cluster.simulator.delayNext(.request(.objectWrite), by: .seconds(60))
        try cluster.perform(client, .flush(handle))
        try cluster.perform(client, .write(handle, offset: 0, [2, 2, 2]))
        try cluster.perform(client, .flush(handle))
        cluster.settle(.seconds(90))
        cluster.addClient(1)
        let other = try cluster.open(cluster.clients[1], "f", create: false)
        #expect(try cluster.read(cluster.clients[1], other, 0, 10) == [2, 2, 2])
        let obsolete = cluster.counters(1).obsolete + cluster.counters(2).obsolete
        let unknown = cluster.counters(1).notConnected + cluster.counters(2).notConnected
        #expect(obsolete + unknown >= 1)
    }

    @Test func `RO 8a to 8e a server that cannot at the moment is asked again until it can`() throws
    {
        let cluster = try Scenario(seed: 11, clientCount: 1)
        cluster.settle()
        let client = cluster.clients[0]
        // No object server: creates wait for objects once the pool is empty.
        for place in 1...2 { cluster.simulator.pause(cluster.servers[place]) }
        let cookies = (0..<Self.more).map {
            cluster.submit(
                client,
                .open(
                    at: .root, FileName("f\($0)")!, [.read, .write, .create], mode: 0o644,
                    stripeCount: 1))
        }
        cluster.settle(.seconds(40))
        let waiting = cookies.count { cluster.result(client, $0) == nil }
        for place in 1...2 { cluster.simulator.resume(cluster.servers[place]) }
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(120)) {
            cookies.allSatisfy { cluster.result(client, $0) != nil }
        }
        #expect(isDone, "\(cluster.state(client))")
        #expect(cookies.allSatisfy { cluster.result(client, $0)?.status == .ok })
        #expect(try cluster.names(client).count == Self.more)
        #expect(waiting > 0 && cluster.evicted.isEmpty)
        #expect(try cluster.executions(0).allSatisfy { $0 == 1 })
    }

    @Test func `SN 110 a lock request that is sent again gives no second lock`() throws {
        let cluster = try Scenario.held(12)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        let before = (1...2).map { cluster.simulator.server(cluster.servers[$0])!.lockCount }
        let rule = cluster.simulator.dropNext(.reply(.ldlmEnqueue))
        try cluster.perform(client, .write(handle, offset: 0, [1]))
        #expect(cluster.simulator.hits(rule) == 1)
        let after = (1...2).map { cluster.simulator.server(cluster.servers[$0])!.lockCount }
        #expect(after.reduce(0, +) == before.reduce(0, +) + 1)
        #expect(cluster.evicted.isEmpty)
    }
}
