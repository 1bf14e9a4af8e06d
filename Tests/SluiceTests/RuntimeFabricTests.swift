import EventLoop
import Foundation
import LNetCore
import NodeRuntime
import Primitives
import SluiceClient
import Store
import Synchronization
import TestSupport
import Testing
import VerbsTransport
import WireFormat

/// Addresses of the two ends of `Tools/rxe-fabric`: clients on one, servers on the other.
private enum Ends {
    static let meta = NID("10.77.2.1@o2ib")!
    static let object = NID("10.77.2.2@o2ib")!
    static let client = NID("10.77.1.1@o2ib")!

    static let areThere: Bool = {
        do {
            let loop = try EventLoop()
            var transport = try VerbsTransport(on: loop)
            for nid in [meta, object, client] {
                _ = try transport.listen(address: nid.address, port: 0, tag: 0)
            }
            return true
        } catch {
            return false
        }
    }()
}

/// One metadata and one object server over RDMA, and over TCP too where a test wants it.
private final class FabricCluster: @unchecked Sendable {
    // Used by one test from one task at a time.
    let description: ClusterDescription
    let directory: String
    let log = Lock<[String]>([])
    private var servers: [ServerProcess] = []
    static let metaTCP = NID("127.0.77.1@tcp")!
    static let objectTCP = NID("127.0.77.2@tcp")!
    static let clientTCP = NID("127.0.77.3@tcp")!

    init(withTCP: Bool) throws {
        directory = NSTemporaryDirectory() + "/sluice-fabric-\(getpid())-\(withTCP)"
        try? FileManager.default.removeItem(atPath: directory)
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        description = ClusterDescription(
            targets: [
                .init(
                    name: "meta", kind: .mds, index: 0,
                    nids: withTCP ? [Ends.meta, Self.metaTCP] : [Ends.meta]),
                .init(
                    name: "object0", kind: .oss, index: 0,
                    nids: withTCP ? [Ends.object, Self.objectTCP] : [Ends.object]),
            ], acceptPort: 19_988)
        for target in description.targets {
            var options = try ServerProcess.Options(
                cluster: description, target: target.name, nid: target.nids[0],
                otherNIDs: Array(target.nids.dropFirst()),
                storeDirectory: "\(directory)/\(target.name)")
            options.createsStore = true
            options.stopDeadlineMs = 500
            options.storeOptions.mapBytes = 1 << 28
            let log = log
            options.log = { line in log.withLock { $0.append(line.text) } }
            let server = try ServerProcess(options)
            try server.start()
            servers.append(server)
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func mount(withTCP: Bool) async throws -> FileSystem {
        var options = ClientFleet.Options()
        if withTCP { options.otherNIDs = [Ends.client: [Self.clientTCP]] }
        return try await FileSystem.mount(
            description, nid: Ends.client, timeout: .seconds(60), options: options)
    }

    func breakConnections() { for server in servers { server.breakConnections() } }

    func stop() throws {
        for server in servers { server.abandon() }
        for server in servers { try server.join() }
    }

    var lines: [String] { log.withLock { $0 } }
}

@Suite(
    .serialized, .timeLimit(.minutes(5)),
    .enabled(
        if: RDMAFabric.isPromised || Ends.areThere,
        "no RDMA device has 10.77.1.1 and 10.77.2.1: run in Tools/rxe-fabric")
)
struct RuntimeFabricTests {
    @Test func `files over RDMA, with queue pairs that break under load`() async throws {
        let cluster = try FabricCluster(withTCP: false)
        let files = try await cluster.mount(withTCP: false)
        try await files.mkdir("/d")
        let file = try await files.open("/d/bulk", [.read, .write, .create], stripeCount: 1)
        for part in 0..<4 {
            try await file.write(pattern(300_000, UInt64(part)), at: UInt64(part) * 300_000)
            cluster.breakConnections()
            try await files.mkdir("/d/\(part)")
        }
        try await file.flush()
        let bytes = try await file.read(at: 0, count: 1_200_000)
        #expect(bytes == (0..<4).flatMap { pattern(300_000, UInt64($0)) })
        #expect(try await files.list("/d").count == 5)
        #expect(!cluster.lines.contains { $0.contains("evicted") })
        await files.unmount()
        try cluster.stop()
    }

    @Test(.enabled(if: getuid() == 0, "taking an interface down needs root"))
    func `without the RDMA device the clients go on over TCP, and nobody is evicted`()
        async throws
    {
        let cluster = try FabricCluster(withTCP: true)
        let files = try await cluster.mount(withTCP: true)
        let file = try await files.open("/f", [.read, .write, .create], stripeCount: 1)
        try await file.write(pattern(200_000, 1), at: 0)
        try await file.flush()
        try link("down")
        defer { try? link("up") }
        try await files.mkdir("/without")
        try await file.write(pattern(200_000, 2), at: 200_000)
        try await file.flush()
        try link("up")
        // Back over RDMA once TCP goes: or still over TCP; either way it is the same client.
        cluster.breakConnections()
        try await files.mkdir("/after")
        #expect(
            try await file.read(at: 0, count: 400_000) == pattern(200_000, 1) + pattern(200_000, 2))
        #expect(try await files.list("/").map(\.name.text) == ["after", "f", "without"])
        #expect(!cluster.lines.contains { $0.contains("evicted") })
        await files.unmount()
        try cluster.stop()
    }

    private func link(_ state: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["ip", "link", "set", "veth1", state]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
    }
}
