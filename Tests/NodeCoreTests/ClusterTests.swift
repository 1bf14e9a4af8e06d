import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

@Suite struct ClusterTests {
    @Test func `what one client writes another reads`() throws {
        let cluster = try Cluster(seed: 1, clientCount: 2)
        let writer = cluster.clients[0]
        let reader = cluster.clients[1]
        let handle = try cluster.open(writer, "a")
        try cluster.perform(writer, .write(handle, offset: 0, Array("hello".utf8)))
        let other = try cluster.open(reader, "a", create: false)
        #expect(try cluster.read(reader, other, 0, 100) == Array("hello".utf8))
        try cluster.perform(reader, .append(other, Array(" world".utf8)))
        #expect(try cluster.read(writer, handle, 0, 100) == Array("hello world".utf8))
        try cluster.perform(writer, .close(handle))
        #expect(try cluster.names(reader) == ["a"])
    }

    @Test func `files of several stripes and sizes around each limit come back as written`() throws
    {
        let cluster = try Cluster(seed: 2, clientCount: 2)
        var random = SplitMix64(seed: 9)
        for (number, size) in [0, 1, 4095, 16_384, 16_385, 1 << 20, (1 << 20) + 1, 3_000_001]
            .enumerated()
        {
            let bytes = (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            let handle = try cluster.open(cluster.clients[0], "f\(number)", stripes: 2)
            try cluster.perform(cluster.clients[0], .write(handle, offset: 0, bytes))
            let other = try cluster.open(cluster.clients[1], "f\(number)", create: false)
            let read = try cluster.read(cluster.clients[1], other, 0, size + 10)
            #expect(read == bytes, "size \(size)")
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `every target is upgraded while files are open and dirty`(seed: UInt64) throws {
        let cluster = try Cluster(seed: seed, clientCount: 3, versions: .v1 ... .v1)
        var handles: [FileHandle] = []
        for (number, client) in cluster.clients.enumerated() {
            let handle = try cluster.open(client, "file\(number)")
            try cluster.perform(client, .write(handle, offset: 0, Array("before".utf8)))
            handles.append(handle)
        }
        for place in 0..<3 {
            try cluster.upgrade(place, to: .v1 ... .v2)
            for (number, client) in cluster.clients.enumerated() {
                try cluster.perform(client, .append(handles[number], Array("+\(place)".utf8)))
            }
            cluster.settle()
            for client in cluster.clients {
                #expect(
                    cluster.simulator.client(client)!.core.summary(place).version == .v2)
            }
        }
        for (number, client) in cluster.clients.enumerated() {
            let other = cluster.clients[(number + 1) % 3]
            let handle = try cluster.open(other, "file\(number)", create: false)
            #expect(try cluster.read(other, handle, 0, 100) == Array("before+0+1+2".utf8))
            try cluster.perform(client, .close(handles[number]))
        }
        let evicted = cluster.clientEvents.filter {
            if case .evicted = $0.event { true } else { false }
        }
        #expect(evicted.isEmpty)
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `a crash loses nothing that was acknowledged`(seed: UInt64) throws {
        let cluster = try Cluster(seed: seed, clientCount: 3)
        var expected: Set<String> = []
        for round in 0..<4 {
            for (number, client) in cluster.clients.enumerated() {
                let name = "c\(number).\(round)"
                let handle = try cluster.open(client, name)
                try cluster.perform(client, .write(handle, offset: 0, Array(name.utf8)))
                if number == 0 { try cluster.perform(client, .flush(handle)) }
                try cluster.perform(client, .close(handle))
                expected.insert(name)
            }
            try cluster.crash(round % 3, versions: ProtocolVersion.supported)
            #expect(Set(try cluster.names(cluster.clients[0])) == expected)
        }
        for name in expected.sorted() {
            let handle = try cluster.open(cluster.clients[1], name, create: false)
            #expect(
                try cluster.read(cluster.clients[1], handle, 0, 100) == Array(name.utf8))
        }
    }

    @Test func `a lock granted after a clean start outlives a crash before the first update`()
        throws
    {
        let cluster = try Cluster(seed: 9, clientCount: 2)
        let handle = try cluster.open(cluster.clients[0], "x")
        try cluster.perform(cluster.clients[0], .write(handle, offset: 0, [1, 2, 3]))
        try cluster.perform(cluster.clients[0], .flush(handle))
        for place in [1, 2] { try cluster.upgrade(place, to: ProtocolVersion.supported) }
        let other = try cluster.open(cluster.clients[1], "x", create: false)
        // The second client's lock is new to the upgraded target, and what it wrote is with it.
        try cluster.perform(cluster.clients[1], .append(other, [4]))
        for place in [1, 2] { try cluster.crash(place, versions: ProtocolVersion.supported) }
        try cluster.perform(cluster.clients[1], .flush(other))
        #expect(try cluster.read(cluster.clients[0], handle, 0, 100) == [1, 2, 3, 4])
        let lost = cluster.clientEvents.filter {
            if case .writeLost = $0.event { true } else { false }
        }
        #expect(lost.isEmpty)
    }

    @Test func `appends of many clients to all stripes of one file get on`() throws {
        let cluster = try Cluster(seed: 11, clientCount: 4)
        let handles = try cluster.clients.map { try cluster.open($0, "x", stripes: 2) }
        for round in 0..<4 {
            let cookies = zip(cluster.clients, handles).map {
                cluster.submit($0, .append($1, [UInt8(round)]))
            }
            let isDone = cluster.simulator.run(until: cluster.simulator.now + .milliseconds(200)) {
                zip(cluster.clients, cookies).allSatisfy { cluster.result($0, $1) != nil }
            }
            #expect(isDone)
        }
        let bytes = try cluster.read(cluster.clients[0], handles[0], 0, 100)
        #expect(bytes.sorted() == (0..<16).map { UInt8($0 / 4) })
    }

    @Test func `a close that a crash overtakes succeeds`() throws {
        let cluster = try Cluster(seed: 10, clientCount: 1)
        let handle = try cluster.open(cluster.clients[0], "x")
        cluster.settle(.seconds(1))
        let cookie = cluster.submit(cluster.clients[0], .close(handle))
        try cluster.crash(0, versions: ProtocolVersion.supported)
        cluster.settle(.seconds(2))
        guard case .success(.done)? = cluster.result(cluster.clients[0], cookie) else {
            Issue.record("\(String(describing: cluster.result(cluster.clients[0], cookie)))")
            return
        }
    }

    /// The demo in small: random operations of several clients, every target upgraded or killed
    /// among them, then everything read back by a client that has seen nothing of it.
    ///
    /// `SEEDS=1...500` in the environment runs those seeds instead.
    @Test(arguments: RandomLoad.seeds)
    func `a random load over upgrades and crashes loses and repeats nothing`(seed: UInt64) throws {
        try runLoad(seed)
    }

    /// Seeds of random loads that failed once, each with the fault that it showed.
    private static let mendedSeeds: [UInt64] = [
        // A lock that waited was granted by the answer to its replay, and nobody was woken.
        196
    ]

    @Test(arguments: mendedSeeds)
    func `a random load that failed once comes through`(seed: UInt64) throws {
        try runLoad(seed)
    }

    private func runLoad(_ seed: UInt64) throws {
        let load = try RandomLoad(seed: seed, clientCount: seed % 5 == 0 ? 6 : 4)
        try load.run(steps: 110)
        try load.verify()
    }

    /// The reader waits behind the writer, who waits for a reader that has died. Whose lock is
    /// replayed first in the next instance is up to the latencies: where it is the reader's, the
    /// answer to the replay grants it at once, since it may stand beside the dead reader's.
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `operations that wait for locks over an upgrade end where a replay grants them`(
        seed: UInt64
    ) throws {
        let cluster = try Cluster(seed: seed, clientCount: 3)
        let handles = try cluster.clients.map { try cluster.open($0, "x") }
        try cluster.perform(cluster.clients[0], .write(handles[0], offset: 0, Array("a".utf8)))
        _ = try cluster.read(cluster.clients[1], handles[1], 0, 10)
        _ = try cluster.read(cluster.clients[0], handles[0], 0, 10)
        cluster.settle()
        cluster.simulator.kill(cluster.clients[0])
        let appending = cluster.submit(
            cluster.clients[1], .append(handles[1], Array("b".utf8)))
        cluster.settle()
        let reading = cluster.submit(
            cluster.clients[2], .read(handles[2], offset: 0, byteCount: 10))
        cluster.settle()
        for place in 1...2 { try cluster.upgrade(place, to: ProtocolVersion.supported) }
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(60)) {
            cluster.result(cluster.clients[1], appending) != nil
                && cluster.result(cluster.clients[2], reading) != nil
        }
        guard isDone else {
            Issue.record(
                "\(cluster.state(cluster.clients[1])), \(cluster.state(cluster.clients[2]))")
            return
        }
        guard case .success(.bytes(let bytes))? = cluster.result(cluster.clients[2], reading)
        else {
            Issue.record("\(String(describing: cluster.result(cluster.clients[2], reading)))")
            return
        }
        #expect([Array("a".utf8), Array("ab".utf8)].contains(bytes))
        #expect(try cluster.read(cluster.clients[2], handles[2], 0, 10) == Array("ab".utf8))
    }

    @Test func `equal seeds give equal digests`() throws {
        func digest(_ seed: UInt64) throws -> UInt64 {
            let cluster = try Cluster(seed: seed, clientCount: 2)
            let handle = try cluster.open(cluster.clients[0], "x")
            try cluster.perform(cluster.clients[0], .write(handle, offset: 0, [1, 2, 3]))
            cluster.settle(.seconds(2))
            return cluster.simulator.digest
        }
        #expect(try digest(5) == digest(5))
        #expect(try digest(5) != digest(6))
    }
}
