import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Group A: replay of single requests.
@Suite struct GroupATests {
    @Test func `RS 0a a restart with nothing done has nothing to replay`() throws {
        let cluster = try Scenario.held(1)
        try cluster.commitAll()
        try cluster.crash()
        try cluster.awaitService()
        try cluster.awaitFull(0)
        #expect(cluster.replayed() == 0 && cluster.evicted.isEmpty)
    }

    @Test func `RS 0b after the restart of an object server new files are usable`() throws {
        let cluster = try Scenario.held(2)
        try cluster.crash(1)
        try cluster.crash(2)
        for number in 0..<4 {
            let handle = try cluster.open(cluster.clients[0], "f\(number)")
            try cluster.perform(cluster.clients[0], .write(handle, offset: 0, [7, UInt8(number)]))
            try cluster.perform(cluster.clients[0], .flush(handle))
            #expect(try cluster.read(cluster.clients[0], handle, 0, 9) == [7, UInt8(number)])
        }
    }

    @Test func `RS 0d when the only client is gone the window ends and others may come`() throws {
        let cluster = try Scenario.held(3, clients: 1, window: .seconds(20))
        try cluster.mkdir(0, "d")
        cluster.lose(0)
        try cluster.crash()
        // The metadata server's own connections are no clients of it.
        let start = cluster.simulator.now
        cluster.addClient(1)
        try cluster.awaitFull(1)
        #expect((cluster.simulator.now - start) < .seconds(60))
        #expect(try cluster.listing(1).isEmpty, "what only the lost client could replay is gone")
    }

    @Test(arguments: ProtocolVersion.v1.rawValue...ProtocolVersion.v3.rawValue)
    func `RS 1 a create is replayed`(version: UInt16) throws {
        let one = ProtocolVersion(rawValue: version)
        let cluster = try Scenario.held(4, versions: one...one)
        try cluster.create(0, "f")
        try cluster.crash(0, versions: one...one)
        #expect(try cluster.listing(0) == ["f"])
        #expect(cluster.replayed() >= 1 && cluster.lostCount == 0)
    }

    @Test func `RS 2c 2d a layout is the same after its replay`() throws {
        let cluster = try Scenario.held(5)
        let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let handle = try cluster.open(cluster.clients[0], "f", stripes: 2)
        try cluster.perform(cluster.clients[0], .write(handle, offset: 0, bytes))
        try cluster.perform(cluster.clients[0], .flush(handle))
        try cluster.crash()
        cluster.addClient(1)
        let other = try cluster.open(cluster.clients[1], "f", create: false)
        #expect(try cluster.read(cluster.clients[1], other, 0, 4_000_000) == bytes)
    }

    @Test func `RS 2e an exclusive create is replayed without finding itself`() throws {
        let cluster = try Scenario.held(6)
        let result = try cluster.perform(
            cluster.clients[0],
            .open(
                at: .root, FileName("x")!, [.read, .write, .create, .exclusive], mode: 0o600,
                stripeCount: 1))
        guard case .opened(let handle, _, let wasCreated) = result else {
            Issue.record("\(result)")
            return
        }
        #expect(wasCreated)
        try cluster.crash()
        try cluster.perform(cluster.clients[0], .write(handle, offset: 0, [1]))
        try cluster.perform(cluster.clients[0], .close(handle))
        #expect(cluster.lostCount == 0 && cluster.replayed() >= 1)
    }

    @Test(arguments: [10, 220])
    func `RS 4a 4b 5 many creates and unlinks are replayed in their order`(count: Int) throws {
        let cluster = try Scenario.held(7)
        let client = cluster.clients[0]
        let cookies = (0..<count).map {
            cluster.submit(client, .makeDirectory("d\($0)"))
        }
        _ = cluster.simulator.run(until: cluster.simulator.now + .seconds(20)) {
            cookies.allSatisfy { cluster.result(client, $0) != nil }
        }
        for number in stride(from: 0, to: count, by: 3) {
            try cluster.unlink(0, "d\(number)", isDirectory: true)
        }
        try cluster.crash()
        let expected = (0..<count).filter { $0 % 3 != 0 }.map { "d\($0)" }.sorted()
        #expect(try cluster.listing(0).sorted() == expected)
        #expect(cluster.lostCount == 0)
    }

    @Test func `RS 6a 6b 7 a tree stands on both sides of the barrier`() throws {
        let cluster = try Scenario.held(8)
        let before = try cluster.mkdir(0, "before")
        try cluster.commitAll()
        try cluster.mkdir(0, "inside", in: before)
        let after = try cluster.mkdir(0, "after")
        try cluster.mkdir(0, "deep", in: after)
        try cluster.mkdir(0, "gone")
        try cluster.unlink(0, "gone", isDirectory: true)
        try cluster.crash()
        #expect(try cluster.listing(0).sorted() == ["after", "before"])
        #expect(try cluster.names(cluster.clients[0], in: before) == ["inside"])
        #expect(try cluster.names(cluster.clients[0], in: after) == ["deep"])
        #expect(cluster.replayed() >= 4)
    }

    @Test func `RS 9 a replayed create has the file id that it had`() throws {
        let cluster = try Scenario.held(9)
        try cluster.create(0, "f")
        let before = try cluster.file(0, "f")
        try cluster.crash()
        #expect(try cluster.file(0, "f") == before)
    }

    @Test func `RS 10 11 names that were used again stand for the right files`() throws {
        let cluster = try Scenario.held(10)
        try cluster.create(0, "a")
        let first = try cluster.file(0, "a")
        try cluster.commitAll()
        try cluster.rename(0, "a", "b")
        try cluster.create(0, "a")
        let second = try cluster.file(0, "a")
        try cluster.rename(0, "a", "c")
        try cluster.create(0, "a")
        let third = try cluster.file(0, "a")
        try cluster.unlink(0, "c")
        try cluster.crash()
        #expect(try cluster.listing(0).sorted() == ["a", "b"])
        #expect(try cluster.file(0, "b") == first)
        #expect(try cluster.file(0, "a") == third && third != second)
    }

    /// Open, unlink, create anew and close in every order that means something, with the barrier
    /// at every place: files without a name go exactly once, and nothing else does.
    @Test(arguments: 0...5)
    func `RS 16 to 31 orphans go exactly once wherever the barrier stands`(barrier: Int) throws {
        for hasSecond in [false, true] {
            let cluster = try Scenario.held(11 + UInt64(barrier))
            let client = cluster.clients[0]
            var handles: [FileHandle] = []
            let steps: [() throws -> Void] = [
                { handles.append(try cluster.open(client, "f")) },
                { try cluster.perform(client, .write(handles[0], offset: 0, [1, 2, 3])) },
                { try cluster.unlink(0, "f") },
                { if hasSecond { handles.append(try cluster.open(client, "f")) } },
                { try cluster.perform(client, .close(handles[0])) },
            ]
            for (number, step) in steps.enumerated() {
                if number == barrier {
                    try cluster.commitAll()
                }
                try step()
                if number == barrier { try cluster.crash() }
            }
            if barrier == steps.count { try cluster.crash() }
            #expect(try cluster.listing(0) == (hasSecond ? ["f"] : []))
            if hasSecond {
                try cluster.perform(client, .write(handles[1], offset: 0, [9]))
                #expect(try cluster.read(client, handles[1], 0, 5) == [9])
                try cluster.perform(client, .close(handles[1]))
            }
            try cluster.commitAll()
            try cluster.commitAll()
            #expect(cluster.orphanCount() == 0, "barrier \(barrier)")
            #expect(cluster.openCount() == 0)
            #expect(cluster.lostCount == 0)
        }
    }

    @Test func `RS 16 to 31 a file without a name lives while somebody has it open`() throws {
        let cluster = try Scenario.held(20)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        try cluster.perform(client, .write(handle, offset: 0, [1, 2, 3]))
        try cluster.unlink(0, "f")
        try cluster.commitAll()
        try cluster.crash()
        try cluster.awaitService()
        #expect(cluster.orphanCount() == 1)
        #expect(try cluster.read(client, handle, 0, 5) == [1, 2, 3])
        try cluster.perform(client, .close(handle))
        try cluster.commitAll()
        #expect(cluster.orphanCount() == 0)
    }

    @Test func `RS 33a 33b file ids are never given again after an aborted recovery`() throws {
        let cluster = try Scenario.held(21)
        var seen: Set<FileID> = []
        for round in 0..<3 {
            for number in 0..<5 {
                seen.insert(try cluster.mkdir(0, "r\(round).\(number)"))
            }
            try cluster.crash()
            cluster.abortRecovery()
            try cluster.awaitService()
            try cluster.awaitFull(0)
        }
        #expect(seen.count == 15)
        for number in 0..<5 {
            let next = try cluster.mkdir(0, "last.\(number)")
            #expect(seen.insert(next).inserted, "\(next) was given before")
        }
        #expect(cluster.evicted.count >= 3)
    }

    @Test func `RS 44a late answers to connects lead to a connection each time`() throws {
        let cluster = try Scenario.held(22)
        for round in 0..<5 {
            cluster.simulator.delayNext(.reply(.mdsConnect), by: .seconds(7))
            try cluster.crash()
            try cluster.awaitFull(0)
            try cluster.mkdir(0, "d\(round)")
        }
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `RS 44b a late answer to a connect makes no second export`() throws {
        let cluster = try Scenario.held(23)
        cluster.simulator.delayNext(.reply(.mdsConnect), by: .seconds(7))
        cluster.addClient(1)
        try cluster.awaitFull(1)
        cluster.settle(.seconds(20))
        let clients = cluster.simulator.server(cluster.servers[0])!.statusReply().clients
        #expect(clients.count == 2)
        #expect(Set(clients.map(\.uuid)).count == 2)
    }

    @Test func `RS 46 an open whose reply was lost leaves no second handle`() throws {
        let cluster = try Scenario.held(24)
        let before = cluster.openCount()
        let open = FileOperation.open(
            at: .root, FileName("f")!, [.read, .write, .create], mode: 0o644, stripeCount: 1)
        #expect(try cluster.performLosing(0, open, .reply(.open)) == .ok)
        #expect(cluster.openCount() == before + 1)
        #expect(cluster.counters().resent >= 1)
    }

    @Test func `RS 55 a resend is answered with the status of the first execution`() throws {
        let cluster = try Scenario.held(25)
        try cluster.mkdir(0, "d")
        let again = FileOperation.makeDirectory("d")
        #expect(try cluster.performLosing(0, again, .reply(.mkdir)) == .exists)
        let move = FileOperation.rename(at: .root, FileName("d")!, to: .root, FileName("e")!)
        // Executed anew it would find nothing to rename.
        #expect(try cluster.performLosing(0, move, .reply(.rename)) == .ok)
        let remove = FileOperation.unlink(at: .root, FileName("e")!, isDirectory: true)
        #expect(try cluster.performLosing(0, remove, .reply(.unlink)) == .ok)
        #expect(try cluster.performLosing(0, remove, .reply(.unlink)) == .noEntry)
    }

    @Test func `RS 56 an open that failed is not replayed`() throws {
        let cluster = try Scenario.held(26)
        try cluster.commitAll()
        let open = FileOperation.open(
            at: .root, FileName("none")!, [.read], mode: 0, stripeCount: 1)
        let cookie = cluster.submit(cluster.clients[0], open)
        cluster.settle()
        #expect(cluster.result(cluster.clients[0], cookie)?.status == .noEntry)
        try cluster.crash()
        try cluster.awaitService()
        #expect(cluster.replayed() == 0 && cluster.lostCount == 0)
    }

    @Test(arguments: 0...5 as ClosedRange<UInt64>)
    func `RS 59 to 61d objects in the log are destroyed once over restarts`(seed: UInt64) throws {
        let cluster = try Scenario(seed: 30 + seed, clientCount: 1)
        cluster.settle()
        let before = cluster.objectCount()
        for number in 0..<6 { try cluster.create(0, "f\(number)") }
        let objects = cluster.objectCount()
        for number in 0..<6 {
            try cluster.unlink(0, "f\(number)")
            // Between the log and its answer, on either side.
            if number == Int(seed) { try cluster.crash([0, 1, 2][Int(seed) % 3]) }
            if number == Int(seed) + 1 { try cluster.crash([2, 0, 1][Int(seed) % 3]) }
        }
        cluster.settle(.seconds(10))
        #expect(cluster.destroyLogCount() == 0)
        #expect(cluster.objectCount() <= objects && cluster.orphanCount() == 0)
        #expect(before > 0)
        // What is made afterwards gets objects of its own.
        let handle = try cluster.open(cluster.clients[0], "new")
        #expect(try cluster.read(cluster.clients[0], handle, 0, 10) == [])
        #expect(cluster.lostCount == 0)
    }

    @Test func `RS 62 replays that are lost and sent again are taken`() throws {
        let cluster = try Scenario.held(40)
        for number in 0..<12 { try cluster.mkdir(0, "d\(number)") }
        cluster.simulator.dropNext(
            MessagePattern.request(.mkdir).and { $0.flags.contains(.replay) }, count: 2, skip: 3)
        try cluster.crash()
        try cluster.awaitService()
        #expect(try cluster.listing(0).count == 12)
        #expect(cluster.lostCount == 0 && cluster.evicted.isEmpty)
    }

    @Test func `RS 87a 87b a write that is replayed is what it was, whatever changed since`() throws
    {
        let cluster = try Scenario.held(41)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        let first = [UInt8](repeating: 1, count: 200_000)
        try cluster.perform(client, .write(handle, offset: 0, first))
        try cluster.perform(client, .flush(handle))
        // In the cache only, while the first is replayed.
        try cluster.perform(client, .write(handle, offset: 100_000, [2, 2, 2]))
        try cluster.crash(1)
        try cluster.crash(2)
        try cluster.awaitService(1)
        try cluster.awaitService(2)
        var expected = first
        expected.replaceSubrange(100_000..<100_003, with: [2, 2, 2])
        cluster.addClient(1)
        let other = try cluster.open(cluster.clients[1], "f", create: false)
        #expect(try cluster.read(cluster.clients[1], other, 0, 300_000) == expected)
        #expect(cluster.replayed(1) + cluster.replayed(2) >= 1)
    }

    @Test func `RS 88 objects are not given twice when both servers lose their state`() throws {
        let cluster = try Scenario.held(42)
        let client = cluster.clients[0]
        for round in 0..<3 {
            for number in 0..<4 {
                let name = "r\(round).\(number)"
                let handle = try cluster.open(client, name)
                try cluster.perform(client, .write(handle, offset: 0, Array(name.utf8)))
                try cluster.perform(client, .close(handle))
            }
            try cluster.crash(
                [0, 1, 2], versions: [Scenario.every, Scenario.every, Scenario.every])
            for place in 0..<3 { try cluster.awaitService(place) }
        }
        cluster.addClient(1)
        for round in 0..<3 {
            for number in 0..<4 {
                let name = "r\(round).\(number)"
                let handle = try cluster.open(cluster.clients[1], name, create: false)
                #expect(try cluster.read(cluster.clients[1], handle, 0, 99) == Array(name.utf8))
            }
        }
        #expect(cluster.lostCount == 0)
    }

    @Test func `RS 93a 93b a client that reconnects at the end of recovery is not evicted`() throws
    {
        let cluster = try Scenario.held(43, clients: 2)
        try cluster.mkdir(0, "a")
        try cluster.mkdir(1, "b")
        // The answer to its last ping is lost, so that it connects again.
        cluster.simulator.dropNext(
            MessagePattern.reply(.ping), from: nil, to: cluster.clients[0], count: 1)
        try cluster.crash()
        try cluster.awaitService()
        cluster.settle(.seconds(40))
        try cluster.awaitFull(0)
        try cluster.awaitFull(1)
        #expect(cluster.evicted.isEmpty)
        #expect(try cluster.listing(0).sorted() == ["a", "b"])
    }

    @Test func `RS 101 objects that were ready before an aborted recovery hold nothing`() throws {
        let cluster = try Scenario.held(44)
        let client = cluster.clients[0]
        for number in 0..<4 {
            let handle = try cluster.open(client, "old\(number)")
            try cluster.perform(client, .write(handle, offset: 0, [5, 5, 5]))
            try cluster.perform(client, .flush(handle))
        }
        try cluster.crash()
        cluster.abortRecovery()
        try cluster.awaitFull(0)
        for number in 0..<4 {
            let handle = try cluster.open(client, "new\(number)")
            #expect(try cluster.read(client, handle, 0, 10) == [], "\(number)")
            try cluster.perform(client, .write(handle, offset: 0, [UInt8(number)]))
        }
    }
}
