import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import StorageCore
import Testing
import WireFormat

/// Steps that the scenarios share. Names of scenarios: RS replay-single, RCS recovery-small,
/// RD replay-dual, RO replay-ost-single, VB replay-vbr, SN sanityn, CS conf-sanity of Lustre's
/// test suite, whose situations these are.
extension Scenario {
    /// A cluster whose servers keep what is executed uncommitted for as long as nobody waits for a
    /// commit: the "replay barrier". `window` is how long a recovery waits for the silent.
    static func held(
        _ seed: UInt64, clients: Int = 1, window: TickInterval = .seconds(30),
        versions: ClosedRange<ProtocolVersion> = ProtocolVersion.supported,
        _ configure: @escaping (inout ServerConfiguration) -> Void = { _ in }
    ) throws -> Scenario {
        let cluster = try Scenario(seed: seed, clientCount: 0, versions: versions)
        cluster.settle()
        cluster.configureServer = {
            $0.commitInterval = .seconds(100_000)
            $0.recoveryWindow = window
            configure(&$0)
        }
        for place in 0..<3 { try cluster.crash(place, versions: versions) }
        for number in 0..<clients { cluster.addClient(number) }
        cluster.settle(.seconds(2))
        // The first updates of an instance wait for its own row: let them be done.
        for client in cluster.clients {
            try cluster.perform(client, .mkdir(at: .root, .init("home\(client)")!, mode: 0o755))
        }
        cluster.settle()
        return cluster
    }

    static let every = ProtocolVersion.supported

    func crash(_ place: Int = 0) throws { try crash(place, versions: Self.every) }

    @discardableResult
    func mkdir(_ client: Int, _ name: String, in parent: FileID = .root) throws -> FileID {
        let result = try perform(
            clients[client], .mkdir(at: parent, FileName(name)!, mode: 0o755))
        if case .attributes(let attributes, _) = result { return attributes.file }
        return try file(client, name, in: parent)
    }

    func file(_ client: Int, _ name: String, in parent: FileID = .root) throws -> FileID {
        let result = try perform(
            clients[client], .lookup(at: parent, path: [FileName(name)!]))
        guard case .attributes(let attributes, _) = result else {
            throw Stuck(description: "lookup gave \(result)")
        }
        return attributes.file
    }

    func mode(_ client: Int, _ name: String) throws -> UInt32 {
        let result = try perform(
            clients[client], .lookup(at: .root, path: [FileName(name)!]))
        guard case .attributes(let attributes, _) = result else {
            throw Stuck(description: "lookup gave \(result)")
        }
        return attributes.mode
    }

    func create(_ client: Int, _ name: String) throws {
        let handle = try open(clients[client], name)
        try perform(clients[client], .close(handle))
    }

    func unlink(_ client: Int, _ name: String, isDirectory: Bool = false) throws {
        try perform(
            clients[client], .unlink(at: .root, FileName(name)!, isDirectory: isDirectory))
    }

    func rename(_ client: Int, _ name: String, _ other: String) throws {
        try perform(
            clients[client], .rename(at: .root, FileName(name)!, to: .root, FileName(other)!))
    }

    func chmod(_ client: Int, _ file: FileID, _ mode: UInt32) throws {
        try perform(clients[client], .setattr(file, mode: mode, modified: nil))
    }

    /// What is in the root beside the clients' own directories.
    func listing(_ client: Int) throws -> [String] {
        try names(clients[client]).filter { !$0.hasPrefix("home") }
    }

    /// Waits until a target serves everybody again.
    func awaitService(_ place: Int = 0, within limit: TickInterval = .seconds(200)) throws {
        let isBack = simulator.run(until: simulator.now + limit) {
            self.simulator.server(self.servers[place])?.phase == .serving
        }
        guard isBack else {
            throw Stuck(description: "\(names[place]) does not come back: \(state(clients[0]))")
        }
    }

    /// Waits until a client is connected to a target.
    func awaitFull(_ client: Int, _ place: Int = 0) throws {
        let isFull = simulator.run(until: simulator.now + .seconds(200)) {
            self.simulator.client(self.clients[client])?.core.summary(place).state == .full
        }
        guard isFull else { throw Stuck(description: state(clients[client])) }
    }

    func replayed(_ place: Int = 0) -> UInt64 {
        simulator.server(servers[place])?.rpcCounters.replayed ?? 0
    }

    func counters(_ place: Int = 0) -> RPCServerCounters {
        simulator.server(servers[place])?.rpcCounters ?? RPCServerCounters()
    }

    /// Clients, by place, that a target has forgotten.
    var evicted: [Int] {
        clientEvents.compactMap { entry in
            guard case .evicted = entry.event else { return nil }
            return clients.firstIndex(of: entry.client)
        }
    }

    /// Updates that were acknowledged and then lost, as the clients say.
    var lostCount: Int {
        clientEvents.count {
            switch $0.event {
            case .updateLost, .writeLost: true
            default: false
            }
        }
    }

    /// Objects that a file's data lies in on the object servers, by what their stores hold.
    func objectCount() -> Int {
        settle(.seconds(5))
        var count = 0
        for place in 1..<3 {
            stores[place].scan(.objects, from: []) { _, _ in
                count += 1
                return true
            }
        }
        return count
    }

    /// Files without a name, in the metadata server's store.
    func orphanCount() -> Int {
        settle(.seconds(3))
        var count = 0
        stores[0].scan(.orphans, from: []) { _, _ in
            count += 1
            return true
        }
        return count
    }

    /// Opens that the metadata server keeps.
    func openCount() -> Int { simulator.server(servers[0])?.openCount ?? -1 }

    /// How often each update of a client was executed, by the audit of a target.
    func executions(_ client: Int, _ place: Int = 0) throws -> [UInt32] {
        settle(.seconds(1))
        let reader = addClient(900 + place + clients.count)
        defer { clients.removeLast() }
        var rows: [AuditRow] = []
        var after = AuditReadRequest(afterClient: "", afterXID: .zero)
        while true {
            guard
                case .reply(.audit(let page)) = try perform(
                    reader, .raw(target: place, .auditRead(after)))
            else { return [] }
            rows += page.rows
            guard !page.isEnd, let last = page.rows.last else { break }
            after = AuditReadRequest(afterClient: last.clientUUID, afterXID: last.xid)
        }
        let uuid = uuids[clients[client]]
        return rows.filter { $0.clientUUID == uuid }.map(\.executions)
    }
}

extension FileOperation {
    static func makeDirectory(_ name: String) -> FileOperation {
        .mkdir(at: .root, FileName(name)!, mode: 0o755)
    }
}

extension Result where Success == FileResult, Failure == OperationError {
    var status: Status {
        switch self {
        case .success: .ok
        case .failure(let error): error.status
        }
    }
}
