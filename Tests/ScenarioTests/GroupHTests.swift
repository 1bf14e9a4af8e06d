import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Group H: connecting, mounting, and who speaks which version.
@Suite struct GroupHTests {
    @Test func `CS 5e a connect that is answered while the client leaves is harmless`() throws {
        let cluster = try Scenario(seed: 1, clientCount: 1)
        cluster.settle()
        cluster.simulator.delayNext(.reply(.mdsConnect), by: .seconds(3))
        let late = cluster.addClient(1)
        cluster.settle(.milliseconds(100))
        let now = cluster.simulator.now
        cluster.simulator.withClient(late) { $0.unmount(now: now) }
        cluster.settle(.seconds(20))
        #expect(cluster.clientEvents.contains { $0.client == late && $0.event.isUnmounted })
        try cluster.mkdir(0, "d")
    }

    @Test func `CS 33b a cancel that is lost while leaving does not keep the client`() throws {
        let cluster = try Scenario(seed: 2, clientCount: 1)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        try cluster.perform(client, .write(handle, offset: 0, [1]))
        cluster.simulator.dropNext(.request(.ldlmCancel))
        let now = cluster.simulator.now
        cluster.simulator.withClient(client) { $0.unmount(now: now) }
        cluster.settle(.seconds(40))
        #expect(cluster.clientEvents.contains { $0.client == client && $0.event.isUnmounted })
    }

    @Test(arguments: [1, 20, 200] as [UInt64])
    func `CS 33c who leaves leaves nothing that a crash could lose`(milliseconds: UInt64) throws {
        let cluster = try Scenario(seed: 5, clientCount: 2)
        let client = cluster.clients[0]
        let handle = try cluster.open(client, "f")
        cluster.settle()
        for place in 1...2 { cluster.simulator.disk(cluster.servers[place])?.slowness = 400 }
        try cluster.perform(client, .write(handle, offset: 0, [1, 2, 3]))
        try cluster.perform(client, .flush(handle))
        let now = cluster.simulator.now
        cluster.simulator.withClient(client) { $0.unmount(now: now) }
        cluster.settle(.milliseconds(milliseconds))
        try cluster.crash([1, 2], versions: Array(repeating: Scenario.every, count: 3))
        cluster.settle(.seconds(200))
        #expect(cluster.clientEvents.contains { $0.client == client && $0.event.isUnmounted })
        let other = try cluster.open(cluster.clients[1], "f", create: false)
        #expect(try cluster.read(cluster.clients[1], other, 0, 10) == [1, 2, 3])
    }

    @Test(arguments: [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    func `CS 19 21 22 70 71 the cluster comes up in every order of its servers`(
        order: [Int]
    ) throws {
        let cluster = try Scenario(seed: 3, clientCount: 1)
        try cluster.create(0, "before")
        for place in 0..<3 { cluster.simulator.kill(cluster.servers[place]) }
        cluster.settle(.seconds(5))
        for place in order {
            cluster.servers[place] = try cluster.simulator.addServer(
                cluster.configuration(place, versions: Scenario.every),
                store: cluster.stores[place])
            cluster.settle(.seconds(3))
        }
        for place in order { try cluster.awaitService(place) }
        let handle = try cluster.open(cluster.clients[0], "after", stripes: 2)
        try cluster.perform(cluster.clients[0], .write(handle, offset: 0, [1, 2]))
        try cluster.perform(cluster.clients[0], .flush(handle))
        #expect(try cluster.listing(0).sorted() == ["after", "before"])
    }

    @Test func `CS 66 124 clients find a target on its other NID`() throws {
        let cluster = try Scenario(seed: 4, clientCount: 2)
        try cluster.create(0, "f")
        for place in 0..<3 {
            let old = cluster.servers[place]
            cluster.simulator.kill(old)
            cluster.servers[place] = try cluster.simulator.addServer(
                cluster.configuration(place, versions: Scenario.every, partner: true),
                store: cluster.stores[place])
        }
        for place in 0..<3 { try cluster.awaitService(place) }
        try cluster.create(1, "g")
        #expect(try cluster.listing(0).sorted() == ["f", "g"])
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test(arguments: [(ProtocolVersion.v1, 1), (.v2, 8), (.v3, 8)])
    func `CS 90 no more updates are under way than were granted`(
        version: ProtocolVersion, most: Int
    ) throws {
        let cluster = try Scenario(seed: 5, clientCount: 1, versions: version...version)
        cluster.settle()
        let client = cluster.clients[0]
        var most = (granted: most, seen: 0)
        let cookies = (0..<40).map { cluster.submit(client, .makeDirectory("d\($0)")) }
        _ = cluster.simulator.run(until: cluster.simulator.now + .seconds(20)) {
            let sent = cluster.simulator.client(client)!.core.summary(0).sentCount
            most.seen = max(most.seen, sent)
            return cookies.allSatisfy { cluster.result(client, $0) != nil }
        }
        #expect(cookies.allSatisfy { cluster.result(client, $0)?.status == .ok })
        #expect(most.seen <= most.granted && most.seen > 0)
    }

    @Test(arguments: 0...2 as ClosedRange<UInt64>)
    func `CS 101 no file is without its object when object servers come and go`(
        seed: UInt64
    ) throws {
        let cluster = try Scenario(seed: 6 + seed, clientCount: 1)
        let client = cluster.clients[0]
        var cookies: [UInt64] = []
        for round in 0..<8 {
            for number in 0..<6 {
                cookies.append(
                    cluster.submit(
                        client,
                        .open(
                            at: .root, FileName("f\(round).\(number)")!, [.read, .write, .create],
                            mode: 0o644, stripeCount: 2)))
            }
            cluster.settle(.milliseconds(2 + seed))
            try cluster.crash(1 + round % 2)
        }
        _ = cluster.simulator.run(until: cluster.simulator.now + .seconds(100)) {
            cookies.allSatisfy { cluster.result(client, $0) != nil }
        }
        cluster.addClient(1)
        for (number, cookie) in cookies.enumerated() {
            #expect(cluster.result(client, cookie)?.status == .ok, "\(number)")
        }
        for name in try cluster.names(cluster.clients[1]) {
            let handle = try cluster.open(cluster.clients[1], name, create: false)
            try cluster.perform(cluster.clients[1], .write(handle, offset: 0, [1]))
            try cluster.perform(cluster.clients[1], .flush(handle))
            try cluster.perform(cluster.clients[1], .close(handle))
        }
    }

    @Test func `RCS 152 creates do not wait for an object server that is gone`() throws {
        let cluster = try Scenario(seed: 9, clientCount: 1)
        cluster.settle(.seconds(1))
        cluster.simulator.kill(cluster.servers[1])
        cluster.settle(.seconds(1))
        let start = cluster.simulator.now
        for number in 0..<10 { try cluster.create(0, "f\(number)") }
        #expect(cluster.simulator.now - start < .seconds(5))
    }

    @Test func `RCS 147 a client whose connects are lost keeps trying`() throws {
        let cluster = try Scenario(seed: 10, clientCount: 1)
        cluster.settle()
        let client = cluster.clients[0]
        let before = cluster.simulator.client(client)!.core.summary(0).counters.connectAttempts
        cluster.simulator.intercept(.request(.mdsConnect), from: client, count: 1000, .drop)
        cluster.simulator.dropNext(.request(.mkdir), from: client)
        let cookie = cluster.submit(client, .makeDirectory("d"))
        cluster.settle(.seconds(75))
        let after = cluster.simulator.client(client)!.core.summary(0).counters.connectAttempts
        #expect(after - before >= 6)
        #expect(cluster.result(client, cookie) == nil)
    }

    @Test func `RS 200 one ping that is lost evicts nobody`() throws {
        let cluster = try Scenario(seed: 11, clientCount: 1)
        cluster.settle(.seconds(2))
        let rule = cluster.simulator.dropNext(.request(.ping), from: cluster.clients[0])
        cluster.settle(.seconds(60))
        #expect(cluster.simulator.hits(rule) == 1)
        try cluster.mkdir(0, "d")
        #expect(cluster.evicted.isEmpty)
    }

    @Test func `RS 45 a close after an eviction ends without an error`() throws {
        let cluster = try Scenario.held(12)
        let handle = try cluster.open(cluster.clients[0], "f")
        try cluster.crash()
        cluster.abortRecovery()
        try cluster.awaitFull(0)
        #expect(cluster.evicted == [0])
        try cluster.perform(cluster.clients[0], .close(handle))
    }

    /// R25: mixed versions for months. Client and servers in every pair of ranges, through work, a
    /// crash with replays of updates, opens and locks, an announced upgrade, and back.
    @Test(
        arguments: [
            [1, 1, 1, 1], [1, 1, 1, 2], [1, 2, 1, 1], [1, 1, 1, 3], [1, 3, 1, 1], [1, 2, 1, 2],
            [2, 2, 2, 2], [1, 2, 1, 3], [1, 3, 1, 2], [2, 3, 1, 2], [1, 2, 2, 3], [2, 3, 2, 3],
            [3, 3, 1, 3], [1, 3, 3, 3], [3, 3, 3, 3],
        ] as [[UInt16]])
    func `CS 32 any pair of supported versions works together`(ranges: [UInt16]) throws {
        func range(_ low: UInt16, _ high: UInt16) -> ClosedRange<ProtocolVersion> {
            ProtocolVersion(rawValue: low)...ProtocolVersion(rawValue: high)
        }
        let ours = range(ranges[0], ranges[1])
        let theirs = range(ranges[2], ranges[3])
        let cluster = try Scenario(seed: 13, clientCount: 0, versions: theirs)
        let agreed = ProtocolVersion(rawValue: min(ranges[1], ranges[3]))
        cluster.configureClient = {
            $0.versions = ours
            // Before version 3 it takes the feature; without that there is no batch.
            if agreed < .v3 { $0.features.remove(.batchedReplay) }
        }
        for number in 0..<2 { cluster.addClient(number) }
        var handles: [FileHandle] = []
        for number in 0..<12 { handles.append(try cluster.open(cluster.clients[0], "f\(number)")) }
        for (number, handle) in handles.enumerated() {
            try cluster.perform(
                cluster.clients[0], .write(handle, offset: 0, [UInt8(number)]))
        }
        for place in 0..<3 {
            #expect(
                cluster.simulator.client(cluster.clients[0])!.core.summary(place).version == agreed)
            try cluster.crash(place, versions: theirs)
            try cluster.awaitService(place)
        }
        for place in 0..<3 { try cluster.upgrade(place, to: theirs) }
        cluster.settle(.seconds(2))
        for (number, handle) in handles.enumerated() {
            try cluster.perform(cluster.clients[0], .append(handle, [0xFF]))
            let other = try cluster.open(cluster.clients[1], "f\(number)", create: false)
            #expect(
                try cluster.read(cluster.clients[1], other, 0, 9) == [UInt8(number), 0xFF])
        }
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
        if agreed >= .v3 {
            #expect(cluster.counters(0).batches + cluster.counters(1).batches > 0)
        } else {
            #expect((0..<3).allSatisfy { cluster.counters($0).batches == 0 })
        }
    }

    @Test func `no common version is told, and nothing breaks`() throws {
        let cluster = try Scenario(seed: 14, clientCount: 1, versions: .v1 ... .v1)
        cluster.configureClient = { $0.versions = .v2 ... .v3 }
        let stranger = cluster.addClient(1)
        cluster.settle(.seconds(3))
        #expect(
            cluster.clientEvents.contains {
                if $0.client == stranger, case .refused = $0.event { true } else { false }
            })
        try cluster.mkdir(0, "d")
    }

    @Test func `an object server where nothing is held is left, and found again when it is wanted`()
        throws
    {
        let (cluster, files) = try Scenario.shared(870) {
            $0.idleTimeout = .seconds(20)
            $0.unusedLockCountMax = 0
        }
        func state(_ client: Int, _ place: Int = 1) -> ImportState? {
            cluster.simulator.client(cluster.clients[client])?.core.summary(place).state
        }
        try cluster.write(0, files[0], 1)
        cluster.settle(.seconds(60))
        #expect(state(0) == .idle && state(1) == .idle)
        #expect(state(0, 0) == .full, "the metadata server is never left")
        #expect(cluster.simulator.server(cluster.servers[1])?.lockCount ?? 9 <= 1)
        #expect(cluster.evictions(1) == 0 && cluster.evictedClients.isEmpty)
        // An upgrade does not wait for who is not there.
        try cluster.upgrade(1, to: ProtocolVersion.supported)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096).first == 1)
        #expect(state(1) == .full)
        try cluster.write(0, files[0], 2)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 4096).first == 2)
        // Nor does it lose who comes while it is announced.
        cluster.settle(.seconds(60))
        #expect(state(0) == .idle)
        let cookie = cluster.submit(
            cluster.clients[0], .write(files[0], offset: 0, [3]))
        try cluster.upgrade(1, to: ProtocolVersion.supported)
        #expect(cluster.outcome(0, cookie)?.lockStatus == .ok)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 1) == [3])
        #expect(cluster.evictedClients.isEmpty && cluster.lostCount == 0)
    }
}

extension ClientEvent {
    fileprivate var isUnmounted: Bool { if case .unmounted = self { true } else { false } }
}
