import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import SluiceClient
import WireFormat

/// Reads everything back through fresh clients and compares it with the model.
struct Verification {
    let cluster: ClusterFile
    /// As many as `nodeCount`, which no load client had.
    let nids: [NID]
    let models: [ClientModel]

    struct Findings {
        var lost: UInt64 = 0
        var duplicated: UInt64 = 0
        var corruptBytes: UInt64 = 0
        var errors: UInt64 = 0
        var samples: [String] = []

        static let sampleCountMax = 8

        mutating func note(_ text: String) {
            if samples.count < Self.sampleCountMax { samples.append(text) }
        }

        mutating func add(_ other: Findings) {
            lost += other.lost
            duplicated += other.duplicated
            corruptBytes += other.corruptBytes
            errors += other.errors
            for sample in other.samples { note(sample) }
        }
    }

    static let nodeCount = 8
    private static let tasksPerNode = 4

    /// Every directory, file, byte and shared record.
    func readBack() async throws -> Findings {
        let fleet: ClientFleet
        do {
            fleet = try ClientFleet(
                cluster: cluster.description,
                nids: nids)
            try fleet.start(named: "verify")
        } catch {
            throw Failure("fresh clients cannot be made: \(error)")
        }
        defer { fleet.stop() }
        fleet.mountAll()
        let work = WorkList(count: models.count)
        var findings = Findings()
        await withTaskGroup(of: Findings.self) { group in
            for task in 0..<(Self.nodeCount * Self.tasksPerNode) {
                let system = FileSystem(Node(fleet: fleet, index: task % Self.nodeCount))
                group.addTask {
                    var found = Findings()
                    while let index = work.next() {
                        await check(models[index], in: system, &found)
                        if index % 2 == 0 { await checkShared(index / 2, in: system, &found) }
                    }
                    return found
                }
            }
            for await found in group { findings.add(found) }
        }
        for node in 0..<Self.nodeCount {
            await withCheckedContinuation { continuation in
                fleet.unmount(node) { continuation.resume() }
            }
        }
        return findings
    }

    private func check(
        _ model: ClientModel, in system: FileSystem, _ found: inout Findings
    ) async {
        let path = "/\(model.name)"
        do {
            let names = try await system.list(path).map(\.name)
            let expected = model.listing
            for name in expected where !names.contains(name) {
                found.lost += 1
                found.note("\(path)/\(name) is missing")
            }
            for name in names where !expected.contains(name) {
                found.lost += 1
                found.note("\(path)/\(name) is there, though it was removed or renamed")
            }
            for file in model.files where names.contains(file.name) {
                try await check(file, "\(path)/\(file.name)", in: system, &found)
            }
        } catch {
            found.errors += 1
            found.note("\(error)")
        }
    }

    private func check(
        _ expected: ClientModel.File, _ path: String, in system: FileSystem,
        _ found: inout Findings
    ) async throws(FileSystemError) {
        let status = try await system.stat(path)
        if status.file != expected.file {
            found.lost += 1
            found.note("\(path) is \(status.file) instead of \(expected.file)")
        }
        if status.mode != expected.mode {
            found.lost += 1
            found.note("\(path) has mode \(status.mode) instead of \(expected.mode)")
        }
        if status.size != UInt64(expected.bytes.count) {
            found.note("\(path) has size \(status.size) instead of \(expected.bytes.count)")
        }
        let bytes = try await readAll(path, in: system)
        guard bytes != expected.bytes else { return }
        let count = differingByteCount(bytes, expected.bytes)
        found.corruptBytes += UInt64(count)
        found.note(
            "\(path): \(count) bytes differ (\(bytes.count) read, \(expected.bytes.count) expected)"
        )
    }

    private func readAll(
        _ path: String, in system: FileSystem
    ) async throws(FileSystemError) -> [UInt8] {
        let file = try await system.open(path, [.read])
        var bytes: [UInt8] = []
        while true {
            let part = try await file.read(at: UInt64(bytes.count), count: 1 << 20)
            if part.isEmpty { break }
            bytes += part
        }
        try await file.close()
        return bytes
    }

    /// Each writer's records stand there exactly once and in the order of their writing.
    private func checkShared(
        _ pair: Int, in system: FileSystem, _ found: inout Findings
    ) async {
        let path = "/\(Name.shared)/\(Name.sharedFile(pair))"
        do {
            let bytes = try await readAll(path, in: system)
            var next = [0, 0]
            var offset = 0
            // Records that are there, with wrong bytes: corrupt, and not lost too.
            var unreadable = 0
            var missing = 0
            while offset < bytes.count {
                let end = min(offset + Record.byteCount, bytes.count)
                if let record = Record.parse(bytes[offset..<end]), record.client / 2 == pair {
                    let writer = record.client % 2
                    if record.number < next[writer] {
                        found.duplicated += 1
                        found.note("\(path): record \(record.number) again at \(offset)")
                    } else {
                        if record.number > next[writer] {
                            missing += record.number - next[writer]
                            found.note("\(path): no record before \(record.number) at \(offset)")
                        }
                        next[writer] = record.number + 1
                    }
                } else {
                    found.corruptBytes += UInt64(end - offset)
                    unreadable += 1
                    found.note("\(path): no record at \(offset)")
                }
                offset = end
            }
            for writer in 0..<2 where 2 * pair + writer < models.count {
                let expected = models[2 * pair + writer].sharedCount
                if next[writer] < expected {
                    missing += expected - next[writer]
                    found.note("\(path): \(next[writer]) of \(expected) records")
                }
            }
            found.lost += UInt64(max(0, missing - unreadable))
        } catch {
            found.errors += 1
            found.note("\(error)")
        }
    }

    /// Every acknowledged update is in the audit table of its target, executed once.
    ///
    /// - Parameter acknowledged: XIDs by client and target; `uuids` by client.
    static func audit(
        _ client: ClusterClient, acknowledged: [[XID]], uuids: [String]
    ) async throws -> Findings {
        var findings = Findings()
        let targetCount = client.file.targets.count
        var clientOf: [String: Int] = [:]
        for (index, uuid) in uuids.enumerated() { clientOf[uuid] = index }
        for target in 0..<targetCount {
            let name = client.file.targets[target].name
            var awaited = uuids.indices.map { Set(acknowledged[$0 * targetCount + target]) }
            var after = AuditReadRequest(afterClient: "", afterXID: XID(rawValue: 0))
            while true {
                guard case .audit(let page) = try await client.send(.auditRead(after), to: target)
                else { throw Failure("\(name) answered something else than its audit table") }
                for row in page.rows {
                    if row.executions > 1 {
                        findings.duplicated += UInt64(row.executions - 1)
                        findings.note(
                            "\(name) executed request \(row.xid.rawValue) of \(row.clientUUID) "
                                + "\(row.executions) times")
                    }
                    if let index = clientOf[row.clientUUID] { awaited[index].remove(row.xid) }
                }
                guard let last = page.rows.last, !page.isEnd else { break }
                after = AuditReadRequest(afterClient: last.clientUUID, afterXID: last.xid)
            }
            for (index, xids) in awaited.enumerated() where !xids.isEmpty {
                findings.lost += UInt64(xids.count)
                findings.note(
                    "\(name) does not know \(xids.count) updates that it acknowledged to \(uuids[index])"
                )
            }
        }
        return findings
    }
}

/// Numbers that tasks take, each once.
private final class WorkList: Sendable {
    private let count: Int
    private let taken = Lock(0)

    init(count: Int) { self.count = count }

    func next() -> Int? {
        taken.withLock { taken in
            guard taken < count else { return nil }
            defer { taken += 1 }
            return taken
        }
    }
}
