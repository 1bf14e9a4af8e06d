import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Grants, statfs, sync and read-ahead over whole nodes.
@Suite struct RoomTests {
    private func lost(_ cluster: Cluster) -> Int {
        cluster.clientEvents.count {
            if case .writeLost = $0.event { true } else { false }
        }
    }

    private func calls(_ cluster: Cluster, _ client: Int) -> UInt64 {
        (0..<3).reduce(0) {
            $0 + (cluster.simulator.client(client)?.core.summary($1).counters.calls ?? 0)
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `a full disk is found out by the write that does not fit, and nothing told is lost`(
        seed: UInt64
    ) throws {
        let cluster = try Cluster(seed: seed, clientCount: 2)
        for place in 1...2 {
            _ = cluster.simulator.withServer(cluster.servers[place]) {
                $0.setSpace(total: 4 << 20, free: 1 << 20)
            }
        }
        var expected: [[UInt8]] = [[], []]
        var handles: [FileHandle] = []
        for (number, client) in cluster.clients.enumerated() {
            handles.append(try cluster.open(client, "f\(number)", stripes: 2))
        }
        var refused = 0
        for step in 0..<80 {
            let number = step % 2
            let bytes = [UInt8](repeating: UInt8(step), count: 65_536)
            do {
                try cluster.perform(cluster.clients[number], .append(handles[number], bytes))
                expected[number] += bytes
            } catch let error as OperationError {
                #expect(error.status == .noSpace, "seed \(seed)")
                refused += 1
            }
        }
        #expect(refused > 0 && expected.allSatisfy { $0.count > 300_000 }, "seed \(seed)")
        #expect(expected[0].count + expected[1].count <= 2 << 20, "seed \(seed)")
        for (number, client) in cluster.clients.enumerated() {
            try cluster.perform(client, .flush(handles[number]))
        }
        #expect(lost(cluster) == 0, "seed \(seed)")
        for number in 0..<2 {
            let reader = cluster.clients[1 - number]
            let handle = try cluster.open(reader, "f\(number)", create: false)
            let bytes = try cluster.read(reader, handle, 0, 4 << 20)
            // Of a refused append over two objects a part may be there.
            #expect(Array(bytes.prefix(expected[number].count)).count == expected[number].count)
        }
        guard
            case .space(let space) = try cluster.perform(cluster.clients[0], .statfs)
        else {
            Issue.record("no space")
            return
        }
        let taken = UInt64(expected[0].count + expected[1].count)
        #expect(space.total == 8 << 20 && space.available + taken <= 2 << 20, "\(space)")
        // Room comes back, and so do writes.
        for place in 1...2 {
            _ = cluster.simulator.withServer(cluster.servers[place]) {
                $0.setSpace(total: 4 << 20, free: 3 << 20)
                $0.setSpace(total: 4 << 20, free: 3 << 20)
            }
        }
        try cluster.perform(cluster.clients[0], .append(handles[0], [1]))
    }

    @Test func `what was synced is there though client and servers are gone`() throws {
        let cluster = try Cluster(seed: 7, clientCount: 1)
        cluster.configureServer = { $0.commitInterval = .seconds(5) }
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "x", stripes: 2)
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        try cluster.perform(client, .write(handle, offset: 0, bytes))
        try cluster.perform(client, .sync(handle))
        cluster.simulator.kill(client)
        let supported = ProtocolVersion.supported
        try cluster.crash([0, 1, 2], versions: [supported, supported, supported])
        let other = cluster.addClient(50)
        let found = try cluster.open(other, "x", create: false)
        #expect(try cluster.read(other, found, 0, 400_000) == bytes)
    }

    @Test func `a file that is read in order is there before it is asked for`() throws {
        let cluster = try Cluster(seed: 8, clientCount: 2)
        let (a, b) = (cluster.clients[0], cluster.clients[1])
        var random = SplitMix64(seed: 5)
        let bytes = (0..<(6 << 20)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        let handle = try cluster.open(a, "x", stripes: 2)
        for part in 0..<6 {
            try cluster.perform(
                a,
                .write(
                    handle, offset: UInt64(part << 20),
                    Array(bytes[(part << 20)..<((part + 1) << 20)])))
        }
        try cluster.perform(a, .close(handle))
        let other = try cluster.open(b, "x", create: false)
        let before = calls(cluster, b)
        var offset = 0
        while offset < bytes.count {
            let part = try cluster.read(b, other, UInt64(offset), 65_536)
            #expect(part == Array(bytes[offset..<(offset + part.count)]))
            guard !part.isEmpty else { break }
            offset += part.count
        }
        let used = calls(cluster, b) - before
        // 96 reads; two locks, and requests of up to a MiB.
        #expect(used <= 30, "\(used) requests")
        let counters = cluster.simulator.client(b)!.core.counters
        #expect(counters.readAheadBytes > 4 << 20 && counters.readHits > 60, "\(counters)")
        // Out of order nothing is read ahead.
        let third = cluster.addClient(60)
        let jumping = try cluster.open(third, "x", create: false)
        for step in 0..<20 {
            let place = (step * 37 % 90 + 3) * 65_536
            #expect(
                try cluster.read(third, jumping, UInt64(place), 1000)
                    == Array(bytes[place..<(place + 1000)]))
        }
        #expect(cluster.simulator.client(third)!.core.counters.readAheadBytes == 0)
    }

    /// The reader is in the middle of the file when it is cut and written anew elsewhere.
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `bytes that were read ahead are not believed after a change elsewhere`(
        seed: UInt64
    ) throws {
        let cluster = try Cluster(seed: seed, clientCount: 2)
        let (a, b) = (cluster.clients[0], cluster.clients[1])
        let handle = try cluster.open(a, "x")
        try cluster.perform(a, .write(handle, offset: 0, [UInt8](repeating: 1, count: 2 << 20)))
        let other = try cluster.open(b, "x", create: false)
        for part in 0..<4 {
            _ = try cluster.read(b, other, UInt64(part * 65_536), 65_536)
        }
        let reading = cluster.submit(b, .read(other, offset: 4 * 65_536, byteCount: 65_536))
        try cluster.perform(a, .truncate(handle, size: 300_000))
        try cluster.perform(
            a, .write(handle, offset: 0, [UInt8](repeating: 2, count: 600_000)))
        cluster.settle()
        #expect(cluster.result(b, reading) != nil)
        #expect(
            try cluster.read(b, other, 0, 1 << 20) == [UInt8](repeating: 2, count: 600_000))
        // And a cut of its own, while bytes behind it are on their way.
        _ = try cluster.read(b, other, 0, 65_536)
        try cluster.perform(b, .truncate(other, size: 10))
        try cluster.perform(b, .truncate(other, size: 200_000))
        cluster.settle()
        let rest = try cluster.read(b, other, 0, 1 << 20)
        #expect(rest == [UInt8](repeating: 2, count: 10) + [UInt8](repeating: 0, count: 199_990))
    }
}
