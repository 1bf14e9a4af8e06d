import ClientCore
import EventLoop
import Foundation
import LNetCore
import NodeRuntime
import Primitives
import PtlRPCCore
import WireFormat

/// One client node for commands that talk to targets directly, past the file system.
final class ClusterClient: Sendable {
    let file: ClusterFile
    private let fleet: ClientFleet
    private let timeout: Duration

    /// - Parameters:
    ///   - nids: this client's own, one per network.
    ///   - timeout: how long each request may take.
    init(_ file: ClusterFile, nids: [NID], timeout: Duration = .seconds(15)) throws {
        let nid = nids[0]
        self.file = file
        self.timeout = timeout
        let seed = Host.realtimeNanoseconds ^ nid.rawValue
        let description = try file.description.reached(from: nids)
        var client = ClientConfiguration(
            uuid: Self.uuid(nid), targets: description.clientTargets, seed: seed, wallSeconds: 0)
        // It asks and orders: no target keeps a record of it, or waits for it.
        client.isObserver = true
        var lnet = LNetConfiguration(
            nid: nid, incarnation: 0, acceptPort: description.acceptPort,
            privilegedPorts: description.privilegedPorts, seed: seed)
        lnet.otherNIDs = Array(nids.dropFirst())
        lnet.reconnectQuickly()
        do {
            fleet = try ClientFleet(nodes: [(lnet, client)])
            try fleet.start()
        } catch {
            throw Failure("\(error)")
        }
        fleet.mountAll()
    }

    /// Unique among the clients of a cluster: address, process and time.
    static func uuid(_ nid: NID) -> String {
        String(nid.address, radix: 16) + "-" + String(getpid(), radix: 16) + "-"
            + String(Host.realtimeNanoseconds, radix: 16)
    }

    /// Sends one request to one target.
    ///
    /// - Parameter limit: how long it may take, where that is not the time of all requests.
    func send(
        _ body: RequestBody, to target: Int, within limit: Duration? = nil
    ) async throws -> ReplyBody {
        let timeout = limit ?? timeout
        let result = await withTimeout(timeout, .raw(target: target, body))
        switch result {
        case .success(.reply(let reply)): return reply
        case .success: return .empty
        case .failure(let error):
            let name = file.targets[target].name
            if error.status == .cancelled || error.status == .timedOut {
                let nids = file.targets[target].nids.map(\.description)
                throw Failure(
                    "\(name) did not answer within \(Report.seconds(timeout)); does a server run "
                        + "on \(nids.joined(separator: " or ")), port \(file.acceptPort)?")
            }
            throw Refusal(target: name, status: error.status)
        }
    }

    /// A target's answer that is an error.
    struct Refusal: Error, CustomStringConvertible {
        var target: String
        var status: Status
        var description: String { "\(target): \(status)" }
    }

    /// The NID on which a target last answered this client; nil where it never did.
    func currentNID(of target: Int) async -> NID? {
        await withCheckedContinuation { continuation in
            fleet.inspect(0) { core in
                let summary = core.summary(target)
                continuation.resume(returning: summary.instance == 0 ? nil : summary.nid)
            }
        }
    }

    /// Where this client stands with every target, as `sluice client show` says it; nil after its end.
    var standing: String? { fleet.report(count: 1)?.clients.first?.text }

    /// Asks a node whether it is there, through LNet; throws why not.
    @discardableResult
    func ping(_ nid: NID) async throws -> PingAnswer {
        let answer = await withCheckedContinuation { continuation in
            fleet.ping(nid, timeout: .seconds(2)) { continuation.resume(returning: $0) }
        }
        return try answer.get()
    }

    private func withTimeout(
        _ timeout: Duration, _ operation: FileOperation
    ) async -> Result<FileResult, OperationError> {
        let once = Lock<CheckedContinuation<Result<FileResult, OperationError>, Never>?>(nil)
        return await withCheckedContinuation { continuation in
            once.withLock { $0 = continuation }
            @Sendable func finish(_ result: Result<FileResult, OperationError>) {
                let waiting = once.withLock { waiting in
                    defer { waiting = nil }
                    return waiting
                }
                waiting?.resume(returning: result)
            }
            let token = fleet.submit(node: 0, operation) { finish($0) }
            Task {
                try? await Task.sleep(for: timeout)
                fleet.cancel(token)
                finish(.failure(OperationError(.timedOut)))
            }
        }
    }

    /// Leaves the cluster, within two seconds.
    func close() async {
        let once = Lock<CheckedContinuation<Void, Never>?>(nil)
        await withCheckedContinuation { continuation in
            once.withLock { $0 = continuation }
            @Sendable func finish() {
                let waiting = once.withLock { waiting in
                    defer { waiting = nil }
                    return waiting
                }
                waiting?.resume()
            }
            fleet.unmount(0) { finish() }
            Task {
                try? await Task.sleep(for: .seconds(2))
                finish()
            }
        }
        fleet.stop()
        try? fleet.join()
    }
}
