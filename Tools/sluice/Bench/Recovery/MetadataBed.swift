import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// One metadata server in a process of its own, with a directory that goes with it, and what many
/// clients in this process ask of it.
final class MetadataBed {
    let directory: String
    let file: ClusterFile
    let errors = Lock(0)
    private var servers: [ChildServer] = []

    /// - Parameter name: what the directory in `parent` is named after.
    init(_ name: String, acceptPort: UInt16, parent: String = NSTemporaryDirectory()) throws {
        directory = parent + (parent.hasSuffix("/") ? "" : "/") + "sluice-\(name)-\(getpid())"
        let process = UInt32(getpid())
        let address: UInt32 =
            127 << 24 | (1 + process % 60) << 16 | (process / 60 % 250) << 8 | 11
        var file = ClusterFile(
            acceptPort: acceptPort,
            targets: [
                ClientTarget(
                    name: "mdt0", kind: .mds, index: 0, nids: [NID(address: address, type: .tcp)])
            ])
        file.path = directory + "/cluster.yaml"
        self.file = file
        do {
            try Host.raiseDescriptorLimit()
        } catch {
            throw Failure("\(error)")
        }
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true)
            try file.text.write(toFile: file.path, atomically: true, encoding: .utf8)
        } catch {
            throw Failure("\(directory) cannot be made: \(error.localizedDescription)")
        }
    }

    deinit {
        servers = []
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Starts the server; a second one takes up the store of the first, which must be gone.
    func start(_ options: [String]) throws -> ChildServer {
        let target = file.targets[0]
        let server = try ChildServer(
            name: target.name, nid: target.nids[0],
            arguments: [
                "serve", "mds", "--target", target.name, "--store", "\(directory)/mdt0", "--nid",
                target.nids[0].description, "--cluster", file.path, "--supervised",
            ] + options, directory: directory, label: "mdt0.\(servers.count)")
        servers.append(server)
        return server
    }

    /// Clients that are being mounted, a few at a time: a server need not greet all at once.
    func mount(_ count: Int) async throws -> ClientFleet {
        let fleet: ClientFleet
        do {
            fleet = try ClientFleet(
                cluster: file.description, nids: (0..<count).map(DemoCluster.clientNID))
            try fleet.start()
        } catch {
            throw Failure("\(error)")
        }
        for node in 0..<count {
            fleet.mount(node)
            if node % 64 == 63 { try await Task.sleep(for: .milliseconds(20)) }
        }
        return fleet
    }

    /// Each of the first `clients` does `count` operations one after another, all clients at once.
    /// Failures are counted in `errors`; `took` hears how long each operation lasted.
    func everyClient(
        _ fleet: ClientFleet, _ clients: Int, _ count: Int,
        _ operation: @escaping @Sendable (_ node: Int, _ number: Int) -> FileOperation,
        took: @escaping @Sendable (TickInterval) -> Void = { _ in }
    ) async {
        let left = Lock(clients)
        let errors = errors
        let once = Lock<CheckedContinuation<Void, Never>?>(nil)
        @Sendable func next(_ node: Int, _ number: Int) {
            guard number < count else {
                if left.withLock({
                    $0 -= 1; return $0
                }) == 0 {
                    once.withLock {
                        $0?.resume(); $0 = nil
                    }
                }
                return
            }
            let began = Host.monotonicNow
            fleet.submit(node: node, operation(node, number)) { result in
                took(Host.monotonicNow - began)
                if case .failure = result { errors.withLock { $0 += 1 } }
                next(node, number + 1)
            }
        }
        await withCheckedContinuation { continuation in
            once.withLock { $0 = continuation }
            for node in 0..<clients { next(node, 0) }
        }
    }

    /// A name of its own for each client and number.
    @Sendable static func name(_ kind: String, _ node: Int, _ number: Int) -> FileName {
        guard let name = FileName("\(kind).\(node).\(number)") else {
            preconditionFailure("a short name of ASCII letters is legal")
        }
        return name
    }
}
