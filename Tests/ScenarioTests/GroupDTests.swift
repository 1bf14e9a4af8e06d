import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Group D: locks over restarts (RS replay-single, RD replay-dual, RCS recovery-small).
@Suite struct GroupDTests {
    private static let every = ProtocolVersion.supported

    private static func bytes(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 4096) }

    private static func crash(_ cluster: Scenario, _ place: Int) throws {
        try cluster.crash(place, versions: every)
        let isBack = cluster.simulator.run(until: cluster.simulator.now + .seconds(300)) {
            cluster.simulator.server(cluster.servers[place])?.phase == .serving
        }
        #expect(isBack, "\(cluster.state(cluster.clients[0]))")
        cluster.settle(.seconds(2))
    }

    @Test func `RS 36 a cancel that the crashed server never saw is not missed`() throws {
        let (cluster, files) = try Scenario.shared(301)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 9) == [])
        cluster.simulator.dropNext(.request(.ldlmCancel), from: cluster.clients[0], count: 100)
        let writing = cluster.submit(
            cluster.clients[1], .write(files[1], offset: 0, Self.bytes(1)))
        cluster.settle(.seconds(1))
        try Self.crash(cluster, 1)
        #expect(cluster.outcome(1, writing)?.lockStatus == .ok)
        #expect(cluster.evictions(1) == 0)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(1))
    }

    @Test func `RS 85a 85b unused locks are dropped before the replay after a crash`() throws {
        let (cluster, files) = try Scenario.shared(302, clients: 1)
        try cluster.write(0, files[0], 1)
        for number in 0..<8 {
            let file = try cluster.open(cluster.clients[0], "f\(number)")
            try cluster.perform(cluster.clients[0], .write(file, offset: 0, Self.bytes(2)))
            try cluster.perform(cluster.clients[0], .flush(file))
        }
        let before = cluster.lockCount(1)
        #expect(before >= 9)
        try cluster.perform(cluster.clients[0], .flush(files[0]))
        try Self.crash(cluster, 1)
        #expect(cluster.lockCount(1) <= before - 8)
        #expect(cluster.simulator.client(cluster.clients[0])?.core.lockCount(1) == 0)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(1))
    }

    @Test func `a clean restart keeps unused locks, and what is cached under them`() throws {
        let (cluster, files) = try Scenario.shared(303, clients: 1)
        try cluster.write(0, files[0], 1)
        try cluster.perform(cluster.clients[0], .flush(files[0]))
        let before = cluster.simulator.client(cluster.clients[0])?.core.lockCount(1)
        try cluster.upgrade(1, to: Self.every)
        cluster.settle(.seconds(2))
        #expect(cluster.simulator.client(cluster.clients[0])?.core.lockCount(1) == before)
        let rule = cluster.simulator.dropNext(.request(.objectRead), count: 100)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(1))
        #expect(cluster.simulator.hits(rule) == 0)
    }

    @Test(arguments: [true, false])
    func `RS 121 lock replays that are lost are sent again, and the recovery ends`(
        losesRequest: Bool
    ) throws {
        let (cluster, files) = try Scenario.shared(304) { $0.writebackDelay = .seconds(300) }
        try cluster.write(0, files[0], 1)
        try cluster.crash(1, versions: Self.every)
        cluster.simulator.dropNext(
            losesRequest ? .request(.ldlmEnqueue) : .reply(.ldlmEnqueue), count: 2)
        let isBack = cluster.simulator.run(until: cluster.simulator.now + .seconds(300)) {
            cluster.simulator.server(cluster.servers[1])?.phase == .serving
        }
        #expect(isBack)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096) == Self.bytes(1))
        #expect(cluster.evictions(1) == 0)
    }

    @Test func `RD 25 a cancel that reaches the next instance meets no other lock`() throws {
        let (cluster, files) = try Scenario.shared(305) { $0.unusedLockCountMax = 0 }
        cluster.simulator.delayNext(
            .request(.ldlmCancel), from: cluster.clients[0], count: 3, by: .seconds(4))
        _ = try cluster.read(cluster.clients[0], files[0], 0, 9)
        cluster.settle(.milliseconds(100))
        try Self.crash(cluster, 1)
        try cluster.write(1, files[1], 2)
        cluster.settle(.seconds(8))
        #expect(cluster.simulator.server(cluster.servers[1])?.lockFaults == 0)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 4096) == Self.bytes(2))
    }

    @Test func `RD 28 locks that are held are taken before those that are waited for`() throws {
        let (cluster, files) = try Scenario.shared(306, clients: 3)
        #expect(cluster.recordStatus(0, files[0], .lock) == .ok)
        let first = cluster.record(1, files[1], .lock)
        cluster.settle()
        let second = cluster.record(2, files[2], .lock)
        cluster.settle()
        try Self.crash(cluster, 0)
        #expect(cluster.result(cluster.clients[1], first) == nil)
        #expect(cluster.recordStatus(0, files[0], .unlock) == .ok)
        #expect(
            cluster.outcome(1, first)?.lockStatus == .ok
                || cluster.outcome(2, second)?.lockStatus == .ok)
        #expect(cluster.evictions(0) == 0)
    }

    @Test func `record locks survive an upgrade of the metadata server, and who waits waits on`()
        throws
    {
        let (cluster, files) = try Scenario.shared(307)
        let low = Extent(start: 0, end: 99)
        #expect(cluster.recordStatus(0, files[0], .lock, low) == .ok)
        #expect(
            cluster.recordStatus(0, files[0], .unlock, Extent(start: 40, end: 59)) == .ok)
        let waiting = cluster.record(1, files[1], .lock, Extent(start: 60, end: 70))
        cluster.settle()
        try cluster.upgrade(0, to: Self.every)
        cluster.settle(.seconds(2))
        #expect(cluster.result(cluster.clients[1], waiting) == nil)
        #expect(
            cluster.recordStatus(1, files[1], .tryLock, Extent(start: 40, end: 59)) == .ok)
        #expect(
            cluster.recordStatus(1, files[1], .tryLock, Extent(start: 39, end: 39)) == .tryAgain)
        #expect(cluster.recordStatus(0, files[0], .unlock) == .ok)
        #expect(cluster.outcome(1, waiting)?.lockStatus == .ok)
    }

    @Test func `RCS 141 after a restart every client has its admission lock again`() throws {
        let (cluster, _) = try Scenario.shared(308, clients: 4)
        let before = cluster.lockCount(1)
        try Self.crash(cluster, 1)
        #expect(cluster.lockCount(1) == before)
        // So the next announcement reaches them all.
        try cluster.upgrade(1, to: Self.every)
        cluster.settle(.seconds(2))
        #expect(cluster.lockCount(1) == before)
        #expect(cluster.evictions(1) == 0)
    }
}
