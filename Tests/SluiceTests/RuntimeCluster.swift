import EventLoop
import Foundation
import LNetCore
import NodeCore
import NodeRuntime
import Primitives
import SluiceClient
import Store
import Synchronization
import Testing
import WireFormat

/// A metadata server and object servers in this process, each on its own thread, with stores in a
/// directory that goes away with it.
final class RuntimeCluster: @unchecked Sendable {
    // Tests use it from one task at a time.
    let description: ClusterDescription
    let directory: String
    let log = Lock<[String]>([])
    private(set) var servers: [String: ServerProcess] = [:]
    private static let counter = Atomic<Int>(0)
    private let subnet: Int

    /// Each cluster has a subnet of 127.0.0.0/8 and a port of its own, so that tests run side by side.
    init(objectServerCount: Int = 2) throws {
        let number = Self.counter.wrappingAdd(1, ordering: .relaxed).newValue
        subnet = (Int(getpid()) & 0x7f) * 256 + number
        directory = NSTemporaryDirectory() + "/sluice-runtime-\(getpid())-\(number)"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        let subnet = subnet
        func nid(_ host: Int) -> NID { Self.nid(subnet, host) }
        var targets = [
            ClusterDescription.Target(name: "meta", kind: .mds, index: 0, nids: [nid(1), nid(2)])
        ]
        for index in 0..<objectServerCount {
            targets.append(
                .init(
                    name: "object\(index)", kind: .oss, index: UInt32(index),
                    nids: [nid(10 + 2 * index), nid(11 + 2 * index)]))
        }
        description = ClusterDescription(
            targets: targets, acceptPort: UInt16(20_000 + number))
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    static func nid(_ subnet: Int, _ host: Int) -> NID {
        NID(address: 0x7f00_0000 + UInt32(subnet) << 8 + UInt32(host), type: .tcp)
    }

    func nid(_ host: Int) -> NID { Self.nid(subnet, host) }

    func options(
        _ target: String, partner: Bool = false,
        configure: (inout ServerConfiguration) -> Void = { _ in }
    ) throws -> ServerProcess.Options {
        let found = try #require(description.target(named: target))
        var options = try ServerProcess.Options(
            cluster: description, target: target, nid: found.nids[partner ? 1 : 0],
            storeDirectory: "\(directory)/\(target)")
        options.createsStore = true
        options.stopDeadlineMs = 500
        options.storeOptions.mapBytes = 1 << 28
        options.configuration.lnet.reconnectMin = .milliseconds(20)
        options.configuration.lnet.reconnectMax = .milliseconds(200)
        let log = log
        options.log = { line in log.withLock { $0.append("\(target): \(line.text)") } }
        configure(&options.configuration)
        return options
    }

    func start(
        _ target: String, partner: Bool = false, standby: Bool = false,
        configure: (inout ServerConfiguration) -> Void = { _ in }
    ) throws {
        var options = try options(target, partner: partner, configure: configure)
        options.isStandby = standby
        let server = try ServerProcess(options)
        try server.start()
        servers[standby ? target + "-standby" : target] = server
    }

    func startAll(configure: (inout ServerConfiguration) -> Void = { _ in }) throws {
        for target in description.targets { try start(target.name, configure: configure) }
    }

    func mount(_ host: Int = 100) async throws -> FileSystem {
        try await FileSystem.mount(description, nid: nid(host), timeout: .seconds(20))
    }

    @discardableResult
    func stop(_ name: String) throws -> ServerExit? {
        guard let server = servers.removeValue(forKey: name) else { return nil }
        server.stop()
        return try server.join()
    }

    /// As a crash: what is not committed is gone.
    func kill(_ name: String) throws {
        guard let server = servers.removeValue(forKey: name) else { return }
        server.abandon()
        try server.join()
    }

    func stopAll() throws {
        for server in servers.values { server.abandon() }
        for server in servers.values { try server.join() }
        servers = [:]
    }

    var lines: [String] { log.withLock { $0 } }
}

func name(_ text: String) -> FileName { FileName(text)! }

func pattern(_ count: Int, _ seed: UInt64) -> [UInt8] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
}
