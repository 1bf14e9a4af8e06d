import ClientCore
import LDLMCore
import NodeCore
import Primitives
import Simulator
import Testing
import WireFormat

/// Clients that work on different parts of one file.
@Suite struct ExtentTests {
    /// Blocking ASTs that the object targets have sent.
    private func callCount(_ cluster: Cluster) -> UInt64 {
        cluster.servers[1...].reduce(0) {
            $0 + (cluster.simulator.server($1)?.lockCounters.blockingASTs ?? 0)
        }
    }

    @Test func `two clients that write different parts of a file do not take turns`() throws {
        let cluster = try Cluster(seed: 71, clientCount: 3)
        let (a, b, c) = (cluster.clients[0], cluster.clients[1], cluster.clients[2])
        let low = try cluster.open(a, "x", stripes: 1)
        let high = try cluster.open(b, "x", create: false)
        var calls: UInt64 = 0
        for round in 0..<60 {
            let offset = UInt64(round * 100)
            try cluster.perform(a, .write(low, offset: offset, part(1, round)))
            try cluster.perform(b, .write(high, offset: 30_000 + offset, part(2, round)))
            // The first who comes has the whole; it gives that up once, and then there is peace.
            if round == 2 { calls = callCount(cluster) }
        }
        #expect(calls > 0)
        #expect(callCount(cluster) == calls)
        // Nothing of it need be written back to go on working, and everybody sees all of it.
        let other = try cluster.open(c, "x", create: false)
        let bytes = try cluster.read(c, other, 0, 100_000)
        #expect(bytes.count == 30_000 + 6_000)
        for round in 0..<60 where bytes.count == 36_000 {
            #expect(Array(bytes[(round * 100)..<(round * 100 + 100)]) == part(1, round))
            let at = 30_000 + round * 100
            #expect(Array(bytes[at..<(at + 100)]) == part(2, round))
        }
        #expect(bytes.count == 36_000 && bytes[6_000..<30_000].allSatisfy { $0 == 0 })
    }

    private func part(_ client: Int, _ round: Int) -> [UInt8] {
        Array(repeating: UInt8(client * 60 + round), count: 100)
    }

    @Test func `who reads one part keeps its bytes while another part is written`() throws {
        let cluster = try Cluster(seed: 72, clientCount: 2)
        let (a, b) = (cluster.clients[0], cluster.clients[1])
        let writer = try cluster.open(a, "x", stripes: 1)
        try cluster.perform(a, .write(writer, offset: 0, Array(repeating: 7, count: 10_000)))
        let reader = try cluster.open(b, "x", create: false)
        #expect(try cluster.read(b, reader, 0, 1000).count == 1000)
        try cluster.perform(a, .write(writer, offset: 5000, [1, 2, 3]))
        #expect(try cluster.read(b, reader, 0, 1000).count == 1000)
        let misses = cluster.simulator.client(b)?.core.counters.readMisses
        for round in 0..<40 {
            try cluster.perform(
                a, .write(writer, offset: 6000 + UInt64(round), [UInt8(round)]))
            #expect(try cluster.read(b, reader, 0, 1000) == Array(repeating: 7, count: 1000))
        }
        #expect(cluster.simulator.client(b)?.core.counters.readMisses == misses)
    }

    @Test func `the end of a file is where its writers are, whoever asks`() throws {
        let cluster = try Cluster(seed: 73, clientCount: 3)
        let (a, b, c) = (cluster.clients[0], cluster.clients[1], cluster.clients[2])
        let low = try cluster.open(a, "x")
        let high = try cluster.open(b, "x", create: false)
        let reader = try cluster.open(c, "x", create: false)
        let page = 4096
        for round in 0..<30 {
            let end = (round + 1) * 3 * page
            // In different objects, and in those of others' locks, in the caches of both.
            try cluster.perform(
                a, .write(low, offset: UInt64(round * 11), [UInt8(round), UInt8(round)]))
            try cluster.perform(b, .write(high, offset: UInt64(end - 1), [9]))
            let seen = try cluster.read(c, reader, UInt64(end - 10), 1000)
            #expect(seen == [0, 0, 0, 0, 0, 0, 0, 0, 0, 9], "round \(round)")
            #expect(try cluster.read(a, low, UInt64(end - 1), 2) == [9])
            #expect(try cluster.read(b, high, UInt64(round * 11), 1) == [UInt8(round)])
            #expect(try cluster.read(c, reader, UInt64(end), 5) == [])
        }
        // Cut by one, it ends there for all.
        try cluster.perform(a, .truncate(low, size: 20))
        #expect(try cluster.read(b, high, 15, 100).count == 5)
        #expect(try cluster.read(c, reader, 15, 100).count == 5)
        guard
            case .attributes(_, let size) = try cluster.perform(
                c, .stat(at: .root, path: [FileName("x")!]))
        else { throw Cluster.Stuck(description: "no attributes") }
        #expect(size == 20)
    }

    @Test func `a lock that is called back takes only its own bytes along`() throws {
        let cluster = try Cluster(seed: 74, clientCount: 2)
        let (a, b) = (cluster.clients[0], cluster.clients[1])
        let mine = try cluster.open(a, "x", stripes: 1)
        let other = try cluster.open(b, "x", create: false)
        try cluster.perform(a, .write(mine, offset: 0, [1]))
        try cluster.perform(b, .write(other, offset: 50_000, [2]))
        // Now a has several locks of its own, with dirty bytes under each.
        try cluster.perform(a, .write(mine, offset: 10_000, [3, 3]))
        try cluster.perform(a, .write(mine, offset: 90_000, [4, 4]))
        try cluster.perform(b, .write(other, offset: 95_000, [5]))
        #expect(try cluster.read(a, mine, 10_000, 2) == [3, 3])
        #expect(try cluster.read(b, other, 90_000, 2) == [4, 4])
        #expect(try cluster.read(a, mine, 95_000, 10) == [5])
        for place in 0..<3 { try cluster.crash(place, versions: ProtocolVersion.supported) }
        #expect(try cluster.read(b, other, 10_000, 2) == [3, 3])
        #expect(try cluster.read(a, mine, 50_000, 1) == [2])
        #expect(try cluster.read(b, other, 0, 1) == [1])
        for entry in cluster.clientEvents {
            if case .writeLost = entry.event { Issue.record("\(entry)") }
        }
    }

    @Test func `many writes at once of one client share the lock that the first one brings`() throws
    {
        let cluster = try Cluster(seed: 75, clientCount: 1)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "x", stripes: 1)
        let cookies = (0..<32).map {
            cluster.submit(
                client, .write(handle, offset: UInt64($0 * 5000), [UInt8($0)]))
        }
        cluster.settle(.seconds(2))
        for cookie in cookies {
            guard case .success? = cluster.result(client, cookie) else {
                throw Cluster.Stuck(description: cluster.state(client))
            }
        }
        #expect(callCount(cluster) == 0)
        let count = (1..<3).reduce(0) {
            $0 + (cluster.simulator.client(client)?.core.lockCount($1) ?? 0)
        }
        #expect(count == 1)
        for place in 0..<32 {
            #expect(try cluster.read(client, handle, UInt64(place * 5000), 1) == [UInt8(place)])
        }
    }
}
