import ClientCore
import class Foundation.ProcessInfo
import NodeCore
import Primitives
import Simulator
import Testing
import WireFormat

/// Clients that work at the same time on files of their own, and what must be there afterwards.
final class RandomLoad {
    /// A dozen, or those of `SEEDS=first...last`.
    static let seeds: ClosedRange<UInt64> = {
        let bounds = (ProcessInfo.processInfo.environment["SEEDS"] ?? "")
            .split(separator: ".").compactMap { UInt64($0) }
        guard let first = bounds.first, let last = bounds.last, first <= last else {
            return 1...12
        }
        return first...last
    }()

    let cluster: Cluster
    var random: SplitMix64
    /// The files of each client: what has been acknowledged.
    var files: [[String: [UInt8]]]
    var handles: [[String: FileHandle]]
    var pending: [(client: Int, cookie: UInt64, finish: (FileResult) throws -> Void)] = []
    var busy: Set<Int> = []
    var created = 0
    /// Clients that died: what they had not written back, or the servers had not committed, may
    /// be gone.
    var deadPrefixes: Set<String> = []
    var deadUUIDs: Set<String> = []
    var lives: [Int]
    /// The file to which everybody appends, and what of it is acknowledged, by client.
    static let sharedName = "shared"
    var tokens: [Set<String>]
    var sharedHandles: [FileHandle?]
    var versions = [ProtocolVersion.v1 ... .v1, .v1 ... .v1, .v1 ... .v1]
    let seed: UInt64

    init(seed: UInt64, clientCount: Int) throws {
        self.seed = seed
        var options = SimulatedCluster.Options()
        options.splitOneIn = 10
        options.resetOneIn = [0, 0, 400, 100, 40][Int(seed % 5)]
        if seed % 7 == 3 { options.latencyMax = .milliseconds(5) }
        cluster = try Cluster(
            seed: seed, clientCount: clientCount, versions: .v1 ... .v1, options: options)
        if Cluster.isTracing { cluster.trace = { print($0) } }
        random = SplitMix64(seed: seed &* 31)
        files = Array(repeating: [:], count: clientCount)
        handles = Array(repeating: [:], count: clientCount)
        lives = Array(repeating: 0, count: clientCount)
        tokens = Array(repeating: [], count: clientCount)
        sharedHandles = Array(repeating: nil, count: clientCount)
    }

    func run(steps: Int) throws {
        for step in 0..<steps {
            for client in files.indices where !busy.contains(client) { begin(client) }
            _ = cluster.simulator.run(until: cluster.simulator.now + .milliseconds(3))
            try harvest()
            if Cluster.isTracing {
                print("step \(step), \(cluster.simulator.eventCount) events")
            }
            if step % 40 == 25 { try disturb() }
        }
        if Cluster.isTracing { print("waits for \(busy.sorted())") }
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(200)) {
            self.pending.allSatisfy {
                self.cluster.result(self.cluster.clients[$0.client], $0.cookie) != nil
            }
        }
        try harvest()
        guard isDone else {
            throw Cluster.Stuck(
                description: "seed \(seed): client \(pending[0].client) is stuck: "
                    + cluster.state(cluster.clients[pending[0].client]))
        }
    }

    private func disturb() throws {
        let place = random.below(3)
        switch random.below(12) {
        case 0...3:
            try awaitService(place)
            versions[place] = versions[place] == .v1 ... .v1 ? .v1 ... .v2 : .v1 ... .v1
            try cluster.upgrade(place, to: versions[place])
        case 4...6:
            try cluster.crash([place], versions: versions)
        case 7:
            try cluster.crash([place, (place + 1) % 3], versions: versions)
        case 8:
            try awaitService(place)
            versions[place] = try cluster.abortUpgrade(
                place, after: .microseconds(random.next() % 8_000), versions: versions[place],
                orElse: versions[place] == .v1 ... .v1 ? .v1 ... .v2 : .v1 ... .v1)
        case 9:
            // Ordered while it recovers: refused, and the recovery goes on.
            try cluster.crash([place], versions: versions)
            try cluster.orderStopWhileRecovering(place)
        case 10:
            try leave(random.below(files.count))
        default:
            die(random.below(files.count))
        }
    }

    private func awaitService(_ place: Int) throws {
        let node = cluster.servers[place]
        guard
            cluster.simulator.run(
                until: cluster.simulator.now + .seconds(120),
                { self.cluster.simulator.server(node)?.phase == .serving })
        else {
            throw Cluster.Stuck(
                description: "seed \(seed): \(cluster.names[place]) does not come to serve; "
                    + cluster.state(cluster.clients[0]))
        }
    }

    /// A client unmounts; another takes its place and goes on with its files.
    private func leave(_ client: Int) throws {
        let node = cluster.clients[client]
        let now = cluster.simulator.now
        let before = cluster.clientEvents.count
        cluster.simulator.withClient(node) { $0.unmount(now: now) }
        let isDone = cluster.simulator.run(until: now + .seconds(120)) {
            self.cluster.clientEvents[before...].contains {
                if $0.client == node, case .unmounted = $0.event { true } else { false }
            }
        }
        guard isDone else {
            throw Cluster.Stuck(
                description: "seed \(seed): client \(client) does not unmount: "
                    + cluster.state(node))
        }
        try harvest()
        handles[client] = [:]
        sharedHandles[client] = nil
        lives[client] += 1
        cluster.replaceClient(client, life: lives[client], isRestart: random.oneIn(2))
    }

    /// A client is gone in an instant; its successor has the same name, or another one.
    private func die(_ client: Int) {
        let node = cluster.clients[client]
        cluster.simulator.kill(node)
        pending.removeAll { $0.client == client }
        busy.remove(client)
        deadUUIDs.insert(cluster.uuids[node]!)
        for life in 0...lives[client] { deadPrefixes.insert("c\(client).\(life)-") }
        files[client] = [:]
        handles[client] = [:]
        tokens[client] = []
        sharedHandles[client] = nil
        lives[client] += 1
        cluster.replaceClient(client, life: lives[client], isRestart: random.oneIn(2))
    }

    private func prefix(_ client: Int) -> String { "c\(client).\(lives[client])-" }

    private func harvest() throws {
        var rest: [(client: Int, cookie: UInt64, finish: (FileResult) throws -> Void)] = []
        for item in pending {
            guard let result = cluster.result(cluster.clients[item.client], item.cookie) else {
                rest.append(item)
                continue
            }
            busy.remove(item.client)
            do {
                try item.finish(try result.get())
            } catch {
                throw Cluster.Stuck(description: "seed \(seed): client \(item.client): \(error)")
            }
        }
        pending = rest
    }

    private func wait(
        _ client: Int, _ operation: FileOperation, _ finish: @escaping (FileResult) throws -> Void
    ) {
        busy.insert(client)
        pending.append(
            (client, cluster.submit(cluster.clients[client], operation), finish))
    }

    private func begin(_ client: Int) {
        let names = files[client].keys.sorted()
        let open = handles[client].keys.sorted()
        switch random.below(11) {
        case 0, 1:
            created += 1
            let name = prefix(client) + "\(created)"
            wait(
                client,
                .open(
                    at: .root, FileName(name)!, [.read, .write, .create, .exclusive],
                    mode: 0o600, stripeCount: UInt32(1 + random.below(2)))
            ) { result in
                guard case .opened(let handle, _, _) = result else {
                    throw Cluster.Stuck(description: "open gave \(result)")
                }
                self.files[client][name] = []
                self.handles[client][name] = handle
            }
        case 2, 3, 4:
            guard !open.isEmpty else { return }
            let name = open[random.below(open.count)]
            var bytes = Array("\(client).\(cluster.nextCookie);".utf8)
            if random.oneIn(8) {
                // Long enough for the bulk connections.
                let head = bytes
                while bytes.count < 20_000 { bytes += head }
            }
            wait(client, .append(handles[client][name]!, bytes)) { _ in
                self.files[client][name]! += bytes
            }
        case 5:
            guard !open.isEmpty else { return }
            let name = open[random.below(open.count)]
            wait(client, .read(handles[client][name]!, offset: 0, byteCount: 1 << 20)) { result in
                guard case .bytes(let bytes) = result, bytes == self.files[client][name] else {
                    throw Cluster.Stuck(description: "\(name) reads \(result)")
                }
            }
        case 9, 10:
            share(client)
        case 6:
            guard let name = open.first, open.count > 2 else { return }
            let handle = handles[client].removeValue(forKey: name)!
            wait(client, .close(handle)) { _ in }
        case 7:
            guard !names.isEmpty else { return }
            let name = names[random.below(names.count)]
            let target = name + "r"
            guard files[client][target] == nil else { return }
            wait(client, .rename(at: .root, FileName(name)!, to: .root, FileName(target)!)) { _ in
                self.files[client][target] = self.files[client].removeValue(forKey: name)
                self.handles[client][target] = self.handles[client].removeValue(forKey: name)
            }
        default:
            guard let name = names.first(where: { handles[client][$0] == nil }) else { return }
            wait(client, .unlink(at: .root, FileName(name)!, isDirectory: false)) { _ in
                self.files[client][name] = nil
            }
        }
    }

    /// Appends a word of its own to the file of all, or finds there what was acknowledged before.
    private func share(_ client: Int) {
        guard let handle = sharedHandles[client] else {
            return wait(
                client,
                .open(
                    at: .root, FileName(Self.sharedName)!, [.read, .write, .create],
                    mode: 0o600, stripeCount: 2)
            ) { result in
                guard case .opened(let handle, _, _) = result else {
                    throw Cluster.Stuck(description: "open gave \(result)")
                }
                self.sharedHandles[client] = handle
            }
        }
        if random.oneIn(2) {
            let word = "\(client).\(lives[client]).\(cluster.nextCookie)"
            wait(client, .append(handle, Array((word + ";").utf8))) { _ in
                self.tokens[client].insert(word)
            }
        } else {
            let known = tokens
            wait(client, .read(handle, offset: 0, byteCount: 1 << 20)) { result in
                guard case .bytes(let bytes) = result else {
                    throw Cluster.Stuck(description: "read gave \(result)")
                }
                try self.checkShared(bytes, known)
            }
        }
    }

    /// Every word of a client that still lives stands in the file once.
    private func checkShared(_ bytes: [UInt8], _ known: [Set<String>]) throws {
        var counts: [String: Int] = [:]
        for word in String(decoding: bytes, as: UTF8.self).split(separator: ";") {
            counts[String(word), default: 0] += 1
        }
        for client in known.indices {
            for word in known[client].intersection(tokens[client]).sorted()
            where counts[word] != 1 {
                throw Cluster.Stuck(
                    description: "seed \(seed): \(word) stands \(counts[word] ?? 0) times in the "
                        + "file of all")
            }
        }
    }

    func verify() throws {
        let fresh = cluster.addClient(99)
        if let handle = try? cluster.open(fresh, Self.sharedName, create: false) {
            try checkShared(cluster.read(fresh, handle, 0, 1 << 20), tokens)
        }
        var expected: [String: [UInt8]] = [:]
        for client in files.indices { expected.merge(files[client]) { _, new in new } }
        let names = try cluster.names(fresh).filter { name in
            name != Self.sharedName && !deadPrefixes.contains { name.hasPrefix($0) }
        }
        #expect(names == expected.keys.sorted(), "seed \(seed)")
        for name in expected.keys.sorted() {
            let handle = try cluster.open(fresh, name, create: false)
            let bytes = try cluster.read(fresh, handle, 0, 1 << 20)
            #expect(bytes == expected[name], "seed \(seed): \(name)")
        }
        for entry in cluster.clientEvents {
            switch entry.event {
            case .evicted, .writeLost, .updateLost, .refused:
                Issue.record("seed \(seed): \(entry.event) \(entry.client)")
            default: break
            }
        }
        try verifyAudit(fresh)
    }

    /// Every acknowledged update stands in its target's audit table, executed once.
    private func verifyAudit(_ fresh: Int) throws {
        var acknowledged: [Int: Set<String>] = [:]
        for entry in cluster.clientEvents {
            if case .acknowledged(let target, let xid) = entry.event {
                let uuid = cluster.uuids[entry.client] ?? "?"
                acknowledged[target, default: []].insert("\(uuid)/\(xid.rawValue)")
            }
        }
        for target in 0..<3 {
            var found: [String: UInt32] = [:]
            var after = AuditReadRequest(afterClient: "", afterXID: .zero)
            while true {
                let result = try cluster.perform(
                    fresh, .raw(target: target, .auditRead(after)))
                guard case .reply(.audit(let reply)) = result else {
                    throw Cluster.Stuck(description: "audit gave \(result)")
                }
                for row in reply.rows {
                    found["\(row.clientUUID)/\(row.xid.rawValue)"] = row.executions
                }
                guard !reply.isEnd, let last = reply.rows.last else { break }
                after = AuditReadRequest(afterClient: last.clientUUID, afterXID: last.xid)
            }
            let lost = acknowledged[target, default: []].filter { row in
                found[row] == nil && !deadUUIDs.contains { row.hasPrefix($0 + "/") }
            }.sorted()
            let repeated = found.filter { $0.value != 1 }.keys.sorted()
            #expect(lost.isEmpty, "seed \(seed): target \(target) lost")
            #expect(repeated.isEmpty, "seed \(seed): target \(target) repeated")
        }
    }
}
