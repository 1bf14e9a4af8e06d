import ClientCore
import Foundation
import WireFormat

/// The servers of a demo: where they live, and how one is started.
@MainActor
final class DemoCluster {
    let directory: String
    let file: ClusterFile
    let fault: FaultName?
    let addresses: DemoAddresses
    private(set) var servers: [ChildServer] = []
    private(set) var current: [ChildServer] = []
    private var startCount = 0
    /// Whether the directory goes away with this object.
    var removesDirectory: Bool

    static let targets: [(name: String, kind: TargetKind, index: UInt32)] = [
        ("mdt0", .mds, 0), ("ost0", .oss, 0), ("ost1", .oss, 1),
    ]
    /// Small stripes, so that files of the load have several.
    static let stripeSize = 64 << 10

    init(
        directory: String?, keeps: Bool, acceptPort: UInt16, fault: FaultName?,
        addresses: DemoAddresses
    ) throws {
        self.fault = fault
        self.addresses = addresses
        removesDirectory = !keeps && directory == nil
        let root = try Self.makeDirectory(directory)
        self.directory = root
        var targets: [ClientTarget] = []
        for (place, target) in Self.targets.enumerated() {
            targets.append(
                ClientTarget(
                    name: target.name, kind: target.kind, index: target.index,
                    nids: Array(addresses.servers[(2 * place)..<(2 * place + 2)])))
        }
        var file = ClusterFile(acceptPort: acceptPort, targets: targets)
        file.path = root + "/cluster.yaml"
        self.file = file
        do {
            try file.text.write(toFile: file.path, atomically: true, encoding: .utf8)
        } catch {
            throw Failure("\(file.path) cannot be written: \(error.localizedDescription)")
        }
    }

    isolated deinit {
        current = []
        servers = []
        if removesDirectory { try? FileManager.default.removeItem(atPath: directory) }
    }

    private static func makeDirectory(_ directory: String?) throws -> String {
        let path =
            directory
            ?? NSTemporaryDirectory() + "sluice-demo-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true)
            let found = try FileManager.default.contentsOfDirectory(atPath: path)
            guard found.isEmpty else {
                throw Failure("\(path) is not empty: name a directory that is, or none at all")
            }
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure("\(path) cannot be made: \(error.localizedDescription)")
        }
        return path
    }

    /// A loopback address for the `index`th client of this process.
    nonisolated static func clientNID(_ index: Int) -> NID {
        let base: UInt32 = 127 << 24 | (64 + UInt32(getpid()) % 64) << 16
        return NID(address: base | UInt32(index / 250) << 8 | UInt32(index % 250 + 1), type: .tcp)
    }

    nonisolated static let clientCountMax = 250 * 250

    /// Starts a process that serves a target, on its first NID or its second.
    func start(
        _ place: Int, nid: Int, protocols: String, standby: Bool = false, program: String? = nil
    ) throws -> ChildServer {
        let target = file.targets[place]
        startCount += 1
        var arguments = [
            "serve", target.kind.name, "--target", target.name, "--store",
            "\(directory)/\(target.name)", "--nid", target.nids[nid].description, "--cluster",
            file.path, "--protocol", protocols, "--audit", "--supervised", "--stripe-size",
            "\(Self.stripeSize)",
        ]
        if standby { arguments.append("--standby") }
        // One fault, in one object server, in the old build and in the new: to the last write.
        if let fault, place == 1 { arguments += ["--break", fault.rawValue] }
        let server = try ChildServer(
            name: target.name, nid: target.nids[nid], program: program, arguments: arguments,
            directory: directory, label: "\(target.name).\(startCount)")
        servers.append(server)
        return server
    }

    /// Starts all targets on their first NIDs and waits until they serve.
    func startAll(protocols: String = "1...1") async throws {
        for place in file.targets.indices {
            current.append(try start(place, nid: 0, protocols: protocols))
        }
        for server in current { try await waitForLine("ready", of: server, seconds: 20) }
    }

    /// How often a server says that it did what `fault` asks for.
    var injectedFaultCount: UInt64 {
        servers.reduce(0) { $0 + UInt64($1.logLineCount(containing: "deliberate fault: ")) }
    }

    /// The processes of a target that have not ended.
    func living(_ place: Int) -> [ChildServer] {
        servers.filter { $0.name == file.targets[place].name && $0.poll() == nil }
    }

    /// Forgets the processes that have ended, with their pipes.
    func forgetDead() { servers.removeAll { $0.poll() != nil } }

    func replaceCurrent(_ place: Int, by server: ChildServer) { current[place] = server }

    /// Waits until a server says that it serves, or stands by.
    @discardableResult
    func waitForLine(
        _ word: String, of server: ChildServer, seconds: Double
    ) async throws -> String {
        let limit = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < limit {
            if let line = server.line(word) { return line }
            if let end = server.poll() {
                throw Failure("\(server.name) ended (\(end)): \(server.lastWords)")
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw Failure(
            "\(server.name) was not \(word) within \(Int(seconds)) s: \(server.lastWords)")
    }

    func waitForEnd(of server: ChildServer, seconds: Double) async throws -> ChildServer.End {
        let limit = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < limit {
            if let end = server.poll() { return end }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw Failure(
            "\(server.name) did not end within \(Int(seconds)) s: \(server.lastWords)")
    }

    /// Throws when a server that should serve is gone; notes how large the others are.
    func check() throws {
        for server in current {
            if let end = server.poll() {
                throw Failure("\(server.name) ended unexpectedly (\(end)): \(server.lastWords)")
            }
            server.measure()
        }
    }

    /// Stops every server cleanly; those that do not end are killed.
    func stopAll() async {
        for server in servers { server.send(SIGTERM) }
        let limit = ContinuousClock.now + .seconds(8)
        while ContinuousClock.now < limit, servers.contains(where: { $0.poll() == nil }) {
            try? await Task.sleep(for: .milliseconds(10))
        }
        for server in servers { server.send(SIGKILL) }
    }
}
