import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Group E: recoveries of several clients, and their windows.
@Suite struct GroupETests {
    @Test func `RD 0a one client that never comes back costs only what was its own`() throws {
        let cluster = try Scenario.held(1, clients: 2, window: .seconds(15))
        try cluster.mkdir(0, "a")
        try cluster.mkdir(1, "b")
        try cluster.mkdir(0, "c")
        cluster.lose(1)
        try cluster.crash()
        try cluster.awaitService()
        try cluster.awaitFull(0)
        #expect(try cluster.listing(0).sorted() == ["a", "c"])
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `RD 0b a client that is lost while its replay is awaited does not stop others`()
        throws
    {
        let cluster = try Scenario.held(2, clients: 2, window: .seconds(15))
        for number in 0..<6 { try cluster.mkdir(number % 2, "d\(number)") }
        // It comes back, and dies with its first replay.
        let lost = cluster.clients[1]
        cluster.simulator.onNext(
            MessagePattern.request(.mkdir).and { $0.flags.contains(.replay) }, from: lost
        ) { $0.kill(lost) }
        try cluster.crash()
        try cluster.awaitService()
        let names = try cluster.listing(0)
        #expect(Set(names).isSuperset(of: ["d0", "d2", "d4"]))
        #expect(cluster.lostCount == 0 && cluster.evicted.isEmpty)
    }

    @Test(arguments: [MessagePattern.reply(.mkdir), .reply(.unlink)])
    func `RD 9 10 a replay that is sent again changes nothing`(lost: MessagePattern) throws {
        let cluster = try Scenario.held(3, clients: 2)
        try cluster.mkdir(0, "a")
        try cluster.mkdir(0, "b")
        try cluster.unlink(0, "a", isDirectory: true)
        let rule = cluster.simulator.dropNext(lost, skip: 0)
        try cluster.crash()
        try cluster.awaitService()
        #expect(cluster.simulator.hits(rule) == 1)
        #expect(try cluster.listing(0) == ["b"])
        #expect(cluster.lostCount == 0 && cluster.evicted.isEmpty)
        #expect(try cluster.executions(0).allSatisfy { $0 == 1 })
    }

    @Test func `RD 11 a recovery ends although all clients time out in it`() throws {
        let cluster = try Scenario.held(4, clients: 2)
        for number in 0..<8 { try cluster.mkdir(number % 2, "d\(number)") }
        cluster.simulator.dropNext(
            MessagePattern.request(.mkdir).and { $0.flags.contains(.replay) }, count: 8)
        try cluster.crash()
        try cluster.awaitService()
        try cluster.awaitFull(0)
        try cluster.awaitFull(1)
        #expect(try cluster.listing(0).count == 8)
        #expect(cluster.lostCount == 0 && cluster.evicted.isEmpty)
    }

    @Test func `RD 14b 15a 15c survivors keep all of theirs, files of the lost are removed`() throws
    {
        let cluster = try Scenario.held(5, clients: 3, window: .seconds(15))
        let orphan = try cluster.open(cluster.clients[1], "orphan")
        try cluster.perform(cluster.clients[1], .write(orphan, offset: 0, [1]))
        try cluster.unlink(1, "orphan")
        try cluster.commitAll()
        for number in 0..<9 { try cluster.create(number % 3, "f\(number)") }
        cluster.lose(1)
        try cluster.crash()
        try cluster.awaitService()
        #expect(
            try cluster.listing(0).sorted() == ["f0", "f2", "f3", "f5", "f6", "f8"])
        try cluster.commitAll()
        #expect(cluster.orphanCount() == 0)
        #expect(cluster.lostCount == 0 && cluster.evicted.isEmpty)
    }

    @Test(arguments: 0...6 as ClosedRange<UInt64>)
    func `RD 16 17 a second failure in any phase of recovery loses nothing`(step: UInt64) throws {
        let cluster = try Scenario.held(6 + step, clients: 3)
        for number in 0..<12 { try cluster.create(number % 3, "f\(number)") }
        let handle = try cluster.open(cluster.clients[0], "data")
        try cluster.perform(cluster.clients[0], .write(handle, offset: 0, Array("hello".utf8)))
        try cluster.perform(cluster.clients[0], .flush(handle))
        for place in [0, 1, 2] {
            try cluster.crash(place)
            cluster.settle(.microseconds(150 * (1 + step * step * step)))
            try cluster.crash(place)
            cluster.settle(.microseconds(400 * (1 + step)))
            try cluster.crash(place)
        }
        for place in [0, 1, 2] { try cluster.awaitService(place) }
        #expect(try cluster.listing(1).count == 13)
        let other = try cluster.open(cluster.clients[2], "data", create: false)
        #expect(try cluster.read(cluster.clients[2], other, 0, 9) == Array("hello".utf8))
        #expect(cluster.lostCount == 0 && cluster.evicted.isEmpty)
    }

    @Test func `RD 20 recoveries one after another do not take longer and longer`() throws {
        let cluster = try Scenario.held(20, clients: 4)
        for number in 0..<60 { try cluster.mkdir(number % 4, "d\(number)") }
        var times: [TickInterval] = []
        for _ in 0..<6 {
            try cluster.crash()
            let start = cluster.simulator.now
            try cluster.awaitService()
            times.append(cluster.simulator.now - start)
        }
        #expect(try cluster.listing(0).count == 60)
        let first = times.prefix(2).max()!
        #expect(times.max()! < first * 3 + .milliseconds(200), "\(times)")
    }

    @Test func `RD 31 full slots and lock callbacks do not wait for each other`() throws {
        let one = ProtocolVersion.v1 ... .v1
        let cluster = try Scenario(seed: 21, clientCount: 2, versions: one)
        let handles = try cluster.clients.map { try cluster.open($0, "x") }
        var cookies: [(Int, UInt64)] = []
        for round in 0..<10 {
            for (client, handle) in zip(cluster.clients, handles) {
                cookies.append((client, cluster.submit(client, .append(handle, [UInt8(round)]))))
                cookies.append(
                    (client, cluster.submit(client, .makeDirectory("\(client).\(round)"))))
            }
        }
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(30)) {
            cookies.allSatisfy { cluster.result($0.0, $0.1) != nil }
        }
        #expect(isDone, "\(cluster.state(cluster.clients[0]))")
        #expect(cluster.evicted.isEmpty)
    }

    @Test func `RCS 28 29 a disk that is full while clients connect delays them and no more`()
        throws
    {
        let cluster = try Scenario(seed: 22, clientCount: 1)
        cluster.settle()
        let disk = try #require(cluster.simulator.disk(cluster.servers[0]))
        disk.isFull = true
        cluster.addClient(1)
        cluster.settle(.seconds(8))
        #expect(cluster.simulator.server(cluster.servers[0])?.phase == .serving)
        disk.isFull = false
        try cluster.awaitFull(1)
        try cluster.mkdir(1, "d")
    }

    @Test func `RCS 138 a server that is stopped while it recovers recovers at its next start`()
        throws
    {
        let cluster = try Scenario.held(23, clients: 2)
        for number in 0..<6 { try cluster.mkdir(number % 2, "d\(number)") }
        cluster.simulator.partition([cluster.clients[1]], from: [cluster.servers[0]])
        try cluster.crash()
        cluster.settle(.seconds(3))
        try cluster.orderStopWhileRecovering(0)
        cluster.simulator.heal()
        try cluster.crash()
        try cluster.awaitService()
        #expect(try cluster.listing(0).count == 6)
        #expect(cluster.lostCount == 0)
    }

    @Test(arguments: 0...3 as ClosedRange<UInt64>)
    func `RCS 144 orphans and object numbers over failures of both sides`(seed: UInt64) throws {
        let cluster = try Scenario(seed: 24 + seed, clientCount: 2)
        cluster.settle()
        for round in 0..<3 {
            let handle = try cluster.open(cluster.clients[0], "o\(round)")
            try cluster.perform(cluster.clients[0], .write(handle, offset: 0, [UInt8(round)]))
            try cluster.unlink(0, "o\(round)")
            if seed % 2 == 0 { cluster.settle(.milliseconds(150)) }
            try cluster.crash(Int(seed) % 3)
            try cluster.perform(cluster.clients[0], .close(handle))
            try cluster.crash((Int(seed) + 1) % 3)
            let fresh = try cluster.open(cluster.clients[1], "n\(round)")
            #expect(try cluster.read(cluster.clients[1], fresh, 0, 9) == [])
            try cluster.perform(cluster.clients[1], .write(fresh, offset: 0, [9, UInt8(round)]))
        }
        cluster.settle(.seconds(5))
        #expect(cluster.orphanCount() == 0 && cluster.destroyLogCount() == 0)
        for round in 0..<3 {
            let handle = try cluster.open(cluster.clients[0], "n\(round)", create: false)
            #expect(try cluster.read(cluster.clients[0], handle, 0, 9) == [9, UInt8(round)])
        }
        #expect(cluster.lostCount == 0 && cluster.evicted.isEmpty)
    }

    @Test func `RCS 145 CS 84 a recovery ends with its hard limit`() throws {
        let cluster = try Scenario.held(28, clients: 3, window: .seconds(20)) {
            $0.recoveryLimit = .seconds(40)
        }
        for number in 0..<6 { try cluster.mkdir(number % 3, "d\(number)") }
        // One client is heard from all the time and never gets on with its replay.
        let slow = cluster.clients[2]
        cluster.simulator.intercept(
            MessagePattern.request(.mkdir).and { $0.flags.contains(.replay) }, from: slow,
            count: 1000, .drop)
        try cluster.crash()
        let start = cluster.simulator.now
        try cluster.awaitService()
        let took = cluster.simulator.now - start
        #expect(took <= .seconds(45), "\(took.inSeconds)")
        // Only who held up the others is given up, and only what he made is gone.
        #expect(Set(try cluster.listing(0)).isSuperset(of: ["d0", "d1", "d3", "d4"]))
        cluster.settle(.seconds(5))
        #expect(cluster.evicted == [2])
    }

    @Test func `RCS 155 a crash right after a client has come loses nothing of it`() throws {
        let cluster = try Scenario.held(29)
        try cluster.mkdir(0, "old")
        cluster.replaceClient(0, life: 1, isRestart: true)
        try cluster.awaitFull(0)
        try cluster.mkdir(0, "new")
        try cluster.crash()
        try cluster.awaitService()
        #expect(try cluster.listing(0).sorted() == ["new", "old"])
    }

    @Test(arguments: 0...3 as ClosedRange<UInt64>)
    func `RCS 50 to 52 failures under load, and again while recovering`(seed: UInt64) throws {
        let cluster = try Scenario(seed: 60 + seed, clientCount: 3)
        var cookies: [(Int, UInt64)] = []
        for round in 0..<6 {
            for client in cluster.clients {
                for number in 0..<5 {
                    cookies.append(
                        (
                            client,
                            cluster.submit(client, .makeDirectory("\(client).\(round).\(number)"))
                        ))
                }
            }
            cluster.settle(.milliseconds(3))
            try cluster.crash(round % 3)
            cluster.settle(.milliseconds(seed))
            try cluster.crash(round % 3)
        }
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(200)) {
            cookies.allSatisfy { cluster.result($0.0, $0.1) != nil }
        }
        #expect(isDone, "\(cluster.state(cluster.clients[0]))")
        #expect(cookies.allSatisfy { cluster.result($0.0, $0.1)?.status == .ok })
        #expect(try cluster.names(cluster.clients[0]).count == 90)
        #expect(cluster.lostCount == 0 && cluster.evicted.isEmpty)
    }
}
