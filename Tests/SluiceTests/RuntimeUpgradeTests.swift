import NodeCore
import NodeRuntime
import Primitives
import SluiceClient
import Testing
import WireFormat

@Suite(.timeLimit(.minutes(1)))
struct RuntimeUpgradeTests {
    @Test func `a server that stops cleanly and starts again keeps files open and locks held`()
        async throws
    {
        let cluster = try RuntimeCluster()
        try cluster.startAll()
        let files = try await cluster.mount()
        let file = try await files.open("/kept", [.read, .write, .create], stripeCount: 2)
        try await file.write(pattern(2_000_000, 3), at: 0)
        for target in cluster.description.targets {
            #expect(try cluster.stop(target.name)?.reason == .stopped)
            try cluster.start(target.name)
        }
        #expect(try await file.append([4]) == 2_000_000)
        try await file.flush()
        #expect(try await file.read(at: 0, count: 3_000_000) == pattern(2_000_000, 3) + [4])
        try await file.close()
        #expect(try await files.stat("/kept").size == 2_000_001)
        #expect(cluster.lines.filter { $0.contains("after a clean stop") }.count == 3)
        #expect(!cluster.lines.contains { $0.contains("recovering") })
        await files.unmount()
        try cluster.stopAll()
    }

    @Test func `what a killed server had not committed is replayed`() async throws {
        let cluster = try RuntimeCluster()
        try cluster.startAll {
            $0.commitInterval = .seconds(600)
            $0.keepsAudit = true
        }
        let files = try await cluster.mount()
        try await files.mkdir("/d")
        let file = try await files.open("/d/f", [.read, .write, .create], stripeCount: 2)
        try await file.write(pattern(1_500_000, 5), at: 0)
        try await file.flush()
        for target in cluster.description.targets {
            try cluster.kill(target.name)
            try cluster.start(target.name) { $0.keepsAudit = true }
        }
        try await files.mkdir("/d/after")
        #expect(try await file.read(at: 0, count: 2_000_000) == pattern(1_500_000, 5))
        #expect(try await files.list("/d").map(\.name.text) == ["after", "f"])
        for target in cluster.description.targets {
            let rows = try await TargetConnection(
                files.node, cluster: cluster.description, target: target.name
            ).audit()
            #expect(rows.allSatisfy { $0.executions == 1 })
        }
        await files.unmount()
        try cluster.stopAll()
    }

    @Test func `a standby on the partner's NID takes over from a server that stops`() async throws {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        try cluster.startAll()
        let files = try await cluster.mount()
        let file = try await files.open("/kept", [.read, .write, .create])
        try await file.write([1, 2, 3], at: 0)
        try cluster.start("meta", partner: true, standby: true)
        let exit = try #require(try cluster.stop("meta"))
        #expect(exit.reason == .stopped)
        try await files.mkdir("/there")
        #expect(try await file.append([4]) == 3)
        let status = try await TargetConnection(
            files.node, cluster: cluster.description, target: "meta"
        ).upgradeStatus()
        #expect(status.phase == .serving)
        #expect(status.clients.contains { $0.nid == cluster.nid(100) && $0.isConnected })
        await files.unmount()
        try cluster.stopAll()
    }

    @Test func `an operation that waits at the gate can be cancelled, and leaves nothing behind`()
        async throws
    {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        try cluster.startAll()
        let files = try await cluster.mount()
        try await files.mkdir("/before")
        #expect(try cluster.stop("meta")?.reason == .stopped)
        let waiting = Task { try await files.mkdir("/cancelled") }
        try await Task.sleep(for: .milliseconds(100))
        waiting.cancel()
        await #expect(throws: FileSystemError(.cancelled, path: "/cancelled")) {
            try await waiting.value
        }
        try cluster.start("meta")
        #expect(try await files.list("/").map(\.name.text) == ["before"])
        await files.unmount()
        try cluster.stopAll()
    }

    @Test func `a standby on the same NID listens as soon as the address is free`() async throws {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        try cluster.startAll()
        let files = try await cluster.mount()
        try await files.mkdir("/before")
        try cluster.start("meta", standby: true)
        #expect(try cluster.stop("meta")?.reason == .stopped)
        try await files.mkdir("/then")
        #expect(try await files.list("/").map(\.name.text) == ["before", "then"])
        await files.unmount()
        try cluster.stopAll()
    }

    @Test func `a server that is stopped while it recovers ends, and the next recovers`()
        async throws
    {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        try cluster.startAll { $0.commitInterval = .seconds(600) }
        let files = try await cluster.mount(100)
        let silent = try await cluster.mount(101)
        try await files.mkdir("/d")
        try await silent.mkdir("/e")
        try cluster.kill("meta")
        // One of the two never comes back: recovery waits for it.
        silent.node.fleet.stop()
        try silent.node.fleet.join()
        try cluster.start("meta")
        #expect(try cluster.stop("meta")?.reason == .abandoned)
        try cluster.start("meta") { $0.recoveryWindow = .seconds(2) }
        try await files.mkdir("/d/after")
        #expect(try await files.stat("/d").type == .directory)
        await files.unmount()
        try cluster.stopAll()
    }

    @Test func `a standby that is stopped ends without the store`() throws {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        try cluster.start("object0")
        try cluster.start("object0", partner: true, standby: true)
        #expect(try cluster.stop("object0-standby")?.reason == .neverServed)
        #expect(try cluster.stop("object0")?.reason == .stopped)
    }
}
