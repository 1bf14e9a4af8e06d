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

    /// What a user types at a server's control socket, and what it prints.
    func ask(_ server: Int, _ request: ControlRequest) throws -> String {
        let path = "\(directory)/control\(server)"
        var router = ControlRouter()
        router.addNetwork(servers[server].network)
        let desk = try ControlServer(path: path, router)
        defer { desk.stop() }
        return try ControlClient(path: path).ask(request, timeout: .seconds(30))
    }

    /// Messages that the servers have sent on networks of this kind.
    func sent(over type: NetworkType) throws -> UInt64 {
        try servers.reduce(0) { sum, server in
            let reports = try server.network.with { lnet, _ in lnet.interfaceReports }
            return reports.reduce(sum) { $1.nid.type == type ? $0 + $1.traffic.sent.total : $0 }
        }
    }

    /// Connections that were lost after they stood.
    func lost() throws -> UInt64 {
        try servers.reduce(0) { sum, server in
            try sum + server.network.with { lnet, _ in lnet.counters.connectionsLost }
        }
    }

    func stop() throws {
        for server in servers { server.abandon() }
        for server in servers { try server.join() }
    }

    var lines: [String] { log.withLock { $0 } }
}

/// Workers that go on until they are told to stop; afterwards everything that was acknowledged must
/// be there, once.
private final class FabricLoad: Sendable {
    private let files: FileSystem
    private let workerCount: Int
    private let isOver = Atomic<Bool>(false)
    private let roundsDone = Atomic<Int>(0)
    private let rounds: Lock<[Int]>
    private let wrongs = Lock<[String]>([])
    private let tasks = Lock<[Task<Void, Never>]>([])
    private static let blockBytes = 12_000

    init(_ files: FileSystem, workerCount: Int) {
        self.files = files
        self.workerCount = workerCount
        rounds = Lock(Array(repeating: 0, count: workerCount))
    }

    func start() {
        for worker in 0..<workerCount {
            let task = Task { [self] in
                do {
                    try await work(worker)
                } catch {
                    wrongs.withLock { $0.append("worker \(worker): \(error)") }
                }
            }
            tasks.withLock { $0.append(task) }
        }
    }

    var done: Int { roundsDone.load(ordering: .acquiring) }

    /// A directory, a name, a block of the worker's file, and what was written before.
    private func work(_ worker: Int) async throws {
        try await files.mkdir("/w\(worker)")
        let file = try await files.open(
            "/w\(worker)/file", [.read, .write, .create], stripeCount: 1)
        var round = 0
        while !isOver.load(ordering: .acquiring) {
            try await file.write(block(worker, round), at: UInt64(round * Self.blockBytes))
            try await file.flush()
            try await files.mkdir("/w\(worker)/new")
            try await files.rename("/w\(worker)/new", to: "/w\(worker)/d\(round)")
            let earlier = round / 2
            let bytes = try await file.read(
                at: UInt64(earlier * Self.blockBytes), count: Self.blockBytes)
            if bytes != block(worker, earlier) {
                wrongs.withLock { $0.append("worker \(worker): block \(earlier) is wrong") }
            }
            round += 1
            rounds.withLock { $0[worker] = round }
            roundsDone.wrappingAdd(1, ordering: .releasing)
        }
        try await file.close()
    }

    private func block(_ worker: Int, _ round: Int) -> [UInt8] {
        pattern(Self.blockBytes, UInt64(worker * 100_000 + round))
    }

    /// Waits until so many more rounds are done. False where that takes too long.
    func advance(_ count: Int, seconds: Double = 60) async -> Bool {
        let goal = done + count
        return await Self.wait(seconds) { self.done >= goal }
    }

    static func wait(_ seconds: Double, _ isDone: () throws -> Bool) async rethrows -> Bool {
        let limit = ContinuousClock.now + .seconds(seconds)
        while try !isDone() {
            guard ContinuousClock.now < limit else { return false }
            try? await Task.sleep(for: .milliseconds(20))
        }
        return true
    }

    /// Ends the workers and reads everything back. What is wrong, in words; empty for nothing.
    func verdict() async throws -> [String] {
        isOver.store(true, ordering: .releasing)
        for task in tasks.withLock({ $0 }) { await task.value }
        var wrongs = wrongs.withLock { $0 }
        for worker in 0..<workerCount {
            let count = rounds.withLock { $0[worker] }
            let names = Set(try await files.list("/w\(worker)").map(\.name.text))
            let expected = Set(["file"] + (0..<count).map { "d\($0)" })
            if names != expected {
                let odd = names.symmetricDifference(expected).sorted()
                wrongs.append("worker \(worker): \(odd) lost or too many")
            }
            let file = try await files.open("/w\(worker)/file", [.read], stripeCount: 1)
            for round in 0..<count {
                let bytes = try await file.read(
                    at: UInt64(round * Self.blockBytes), count: Self.blockBytes)
                if bytes != block(worker, round) {
                    wrongs.append("worker \(worker): block \(round) is wrong at the end")
                }
            }
            try await file.close()
        }
        return wrongs
    }
}

@Suite(
    .serialized, .timeLimit(.minutes(2)),
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

    @Test func `net fault break kills queue pairs under load: a reconnect, and no update`()
        async throws
    {
        let cluster = try FabricCluster(withTCP: false)
        let files = try await cluster.mount(withTCP: false)
        let load = FabricLoad(files, workerCount: 3)
        load.start()
        for round in 0..<3 {
            try #require(await load.advance(5), "round \(round)")
            for server in 0..<2 {
                let text = try cluster.ask(server, ControlRequest("fault", "break", ["dest": "*"]))
                #expect(text.hasPrefix("broken: "), "\(text)")
            }
        }
        try #require(await load.advance(5))
        let wrongs = try await load.verdict()
        #expect(wrongs == [])
        #expect(try cluster.lost() >= 6)
        #expect(!cluster.lines.contains { $0.contains("evicted") })
        await files.unmount()
        try cluster.stop()
    }

    @Test(.enabled(if: getuid() == 0, "deleting an RDMA device needs root"))
    func `an RDMA device is deleted under load: TCP carries on, and RDMA takes over again`()
        async throws
    {
        let cluster = try FabricCluster(withTCP: true)
        let files = try await cluster.mount(withTCP: true)
        let load = FabricLoad(files, workerCount: 3)
        load.start()
        try #require(await load.advance(10))
        #expect(try cluster.sent(over: .o2ib) > 0)
        try run("rdma link delete rxe1")
        // Its own work gone, the device must be put back for the tests behind this one.
        defer { try? ensureDevice() }
        let before = try cluster.sent(over: .tcp)
        try #require(await load.advance(30), "nothing goes on without the device")
        #expect(try cluster.sent(over: .tcp) > before)
        let without = try cluster.sent(over: .o2ib)
        try ensureDevice()
        // Both ends ping what failed until it answers; then messages take it by turns again.
        let isBack = try await FabricLoad.wait(90) { try cluster.sent(over: .o2ib) > without + 50 }
        let shown = try cluster.ask(0, Self.show)
        #expect(isBack, "RDMA is not used again: \(shown)")
        try #require(await load.advance(10))
        let wrongs = try await load.verdict()
        #expect(wrongs == [])
        #expect(!cluster.lines.contains { $0.contains("evicted") }, "\(cluster.lines)")
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

    private static let show = ControlRequest("net", "show", ["verbose": "1"])

    private func ensureDevice() throws {
        guard !FileManager.default.fileExists(atPath: "/sys/class/infiniband/rxe1") else { return }
        try run("rdma link add rxe1 type rxe netdev veth1")
    }

    private func run(_ line: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = line.split(separator: " ").map(String.init)
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(line)")
    }

    private func link(_ state: String) throws {
        try run("ip link set veth1 \(state)")
        guard state == "up" else { return }
        // Its routes went with it (Tools/rxe/ends.bash).
        for near in ["10.77.0.1/32", "10.77.1.0/24"] {
            try run("ip route replace \(near) dev veth1 src 10.77.0.2 table 7701")
        }
    }
}
