import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Steps of the scenarios about locks.
extension Scenario {
    /// Everybody mounted, and a file of one stripe that all of them have open. The object server that
    /// holds it is `objectPlace`.
    static func shared(
        _ seed: UInt64, clients: Int = 2,
        versions: ClosedRange<ProtocolVersion> = ProtocolVersion.supported,
        _ configure: @escaping (inout ClientConfiguration) -> Void = { _ in }
    ) throws -> (Scenario, [FileHandle]) {
        let cluster = try Scenario(
            seed: seed, clientCount: 0, objectServerCount: 1, versions: versions)
        cluster.configureClient = configure
        for number in 0..<clients { cluster.addClient(number) }
        cluster.settle()
        let handles = try cluster.clients.map { try cluster.open($0, "shared") }
        cluster.settle()
        return (cluster, handles)
    }

    func write(_ client: Int, _ handle: FileHandle, _ byte: UInt8, count: Int = 4096) throws {
        try perform(
            clients[client], .write(handle, offset: 0, [UInt8](repeating: byte, count: count)))
    }

    /// The file's size, as a stat of its name tells a client.
    func size(_ client: Int) throws -> UInt64 {
        let result = try perform(
            clients[client], .stat(at: .root, path: [FileName("shared")!]))
        guard case .attributes(_, let size) = result else {
            throw Stuck(description: "stat gave \(result)")
        }
        return size
    }

    /// Waits for the end of what was submitted, at most so long. Nil where it does not come.
    func outcome(
        _ client: Int, _ cookie: UInt64, within limit: TickInterval = .seconds(120)
    ) -> Result<FileResult, OperationError>? {
        _ = simulator.run(until: simulator.now + limit) {
            self.result(self.clients[client], cookie) != nil
        }
        return result(clients[client], cookie)
    }

    func evictions(_ place: Int) -> UInt64 {
        simulator.server(servers[place])?.statusReply().evictions ?? 0
    }

    /// Clients, by place, that have heard of their eviction.
    var evictedClients: [Int] {
        clientEvents.compactMap { entry in
            guard case .evicted = entry.event else { return nil }
            return clients.firstIndex(of: entry.client)
        }
    }

    func lockCount(_ place: Int) -> Int { simulator.server(servers[place])?.lockCount ?? -1 }

    func record(
        _ client: Int, _ handle: FileHandle, _ action: RecordLock.Action,
        _ range: Extent = .whole, isExclusive: Bool = true
    ) -> UInt64 {
        submit(
            clients[client],
            .recordLock(
                handle,
                RecordLock(
                    action, isExclusive: isExclusive, range: range, owner: UInt64(client + 1),
                    process: UInt32(client + 1))))
    }

    /// The status of an operation on a record lock that ends soon.
    func recordStatus(
        _ client: Int, _ handle: FileHandle, _ action: RecordLock.Action,
        _ range: Extent = .whole, isExclusive: Bool = true
    ) -> Status? {
        let cookie = record(client, handle, action, range, isExclusive: isExclusive)
        return outcome(client, cookie).map(\.lockStatus)
    }
}

extension Result where Success == FileResult, Failure == OperationError {
    var lockStatus: Status {
        switch self {
        case .success: .ok
        case .failure(let error): error.status
        }
    }
}
