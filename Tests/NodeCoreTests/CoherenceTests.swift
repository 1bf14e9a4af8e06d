import ClientCore
import class Foundation.ProcessInfo
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Clients that each change what is their own and look at what is the others': whatever one is
/// told, by cache or by message, is how it was at some moment between question and answer.
private final class CoherentLoad {
    /// What belongs to one client.
    struct Own: Equatable {
        /// Two names in the root directory, and the files that they name.
        var files: [FileID?] = [nil, nil]
        /// Of a file that stays.
        var mode: UInt32 = 0o600
        var size: UInt64 = 0
        /// Names in a directory that stays.
        var entries: Set<Int> = []
        /// What fills its part of the file of all; 0 until it writes.
        var part: UInt8 = 0
    }

    /// Parts of one file lie side by side, at other places than pages and stripes do.
    static let partByteCount = 30_000

    struct State {
        var own: Own
        var begun: Ticks
        var ended: Ticks?
    }

    let cluster: Cluster
    let seed: UInt64
    var random: SplitMix64
    /// The states of each client's own things, in order; the last may not have ended.
    var states: [[State]] = []
    var handles: [FileHandle] = []
    var files: [FileID] = []
    var directories: [FileID] = []
    var parts: [FileHandle] = []
    var pending:
        [Int: (cookie: UInt64, begun: Ticks, finish: (FileResult?, Status) throws -> Void)] =
            [:]
    var nextMode: UInt32 = 1
    var versions: [ClosedRange<ProtocolVersion>]
    var lookupCount = 0

    init(seed: UInt64, clientCount: Int) throws {
        self.seed = seed
        random = SplitMix64(seed: seed &* 193)
        let start: ClosedRange<ProtocolVersion> = seed % 3 == 0 ? .v1 ... .v2 : .v1 ... .v3
        var options = SimulatedCluster.Options()
        options.splitOneIn = 10
        options.resetOneIn = [0, 200, 0, 60][Int(seed % 4)]
        cluster = try Cluster(
            seed: seed, clientCount: clientCount, versions: start, options: options)
        versions = [start, start, start]
        if Cluster.isTracing { cluster.trace = { print($0) } }
        for (index, client) in cluster.clients.enumerated() {
            handles.append(try cluster.open(client, "f\(index)"))
            guard
                case .attributes(let file, _) = try cluster.perform(
                    client, .stat(at: .root, path: [FileName("f\(index)")!])),
                case .attributes(let directory, _) = try cluster.perform(
                    client, .mkdir(at: .root, FileName("d\(index)")!, mode: 0o700))
            else { throw Cluster.Stuck(description: "no attributes") }
            try cluster.perform(client, .setattr(file.file, mode: 0o600, modified: nil))
            parts.append(
                try cluster.open(client, "parts", create: index == 0, stripes: index == 0 ? 2 : 1))
            files.append(file.file)
            directories.append(directory.file)
            let now = cluster.simulator.now
            states.append([State(own: Own(), begun: now, ended: now)])
        }
    }

    func run(steps: Int) throws {
        for step in 0..<steps {
            for client in states.indices where pending[client] == nil { try begin(client) }
            _ = cluster.simulator.run(until: cluster.simulator.now + .microseconds(1500))
            try harvest()
            if step % 60 == 40 { try disturb() }
        }
        _ = cluster.simulator.run(until: cluster.simulator.now + .seconds(200)) {
            self.pending.allSatisfy {
                self.cluster.result(self.cluster.clients[$0.key], $0.value.cookie) != nil
            }
        }
        try harvest()
        guard pending.isEmpty else {
            let client = pending.keys.min()!
            throw stuck("client \(client) is stuck: " + cluster.state(cluster.clients[client]))
        }
    }

    func stuck(_ text: String) -> Cluster.Stuck {
        Cluster.Stuck(description: "seed \(seed): \(text)")
    }

    private func disturb() throws {
        let place = random.below(3)
        let node = cluster.servers[place]
        guard
            cluster.simulator.run(
                until: cluster.simulator.now + .seconds(120),
                { self.cluster.simulator.server(node)?.phase == .serving })
        else { throw stuck("target \(place) does not come to serve") }
        if random.oneIn(3) {
            try cluster.crash([place], versions: versions)
        } else {
            versions[place] = [.v1 ... .v1, .v1 ... .v2, .v1 ... .v3][random.below(3)]
            try cluster.upgrade(place, to: versions[place])
        }
    }

    private func harvest() throws {
        for client in pending.keys.sorted() {
            guard let item = pending[client],
                let result = cluster.result(cluster.clients[client], item.cookie)
            else { continue }
            pending[client] = nil
            switch result {
            case .success(let value): try item.finish(value, .ok)
            case .failure(let error): try item.finish(nil, error.status)
            }
        }
    }

    private func submit(
        _ client: Int, _ operation: FileOperation,
        _ finish: @escaping (FileResult?, Status) throws -> Void
    ) {
        let begun = cluster.simulator.now
        pending[client] = (
            cluster.submit(cluster.clients[client], operation), begun, finish
        )
    }

    /// An update of the client's own, after which its things are as `change` leaves them.
    private func update(
        _ client: Int, _ operation: FileOperation, change: (inout Own) -> Void
    ) {
        var next = states[client].last!.own
        change(&next)
        let begun = cluster.simulator.now
        states[client].append(State(own: next, begun: begun, ended: nil))
        let place = states[client].count - 1
        submit(client, operation) { result, status in
            guard status == .ok else { throw self.stuck("\(operation) gave \(status)") }
            self.states[client][place].ended = self.cluster.simulator.now
            if case .opened(let handle, let attributes, _)? = result {
                for slot in 0..<2 where self.states[client][place].own.files[slot] == .unknown {
                    self.states[client][place].own.files[slot] = attributes.file
                }
                self.submit(client, .close(handle)) { _, status in
                    guard status == .ok else { throw self.stuck("close gave \(status)") }
                }
            }
        }
    }

    private func begin(_ client: Int) throws {
        let own = states[client].last!.own
        switch random.below(15) {
        case 12:
            let value = own.part % 250 + 1
            update(
                client,
                .write(
                    parts[client], offset: UInt64(client * Self.partByteCount),
                    Array(repeating: value, count: Self.partByteCount))
            ) { $0.part = value }
        case 13, 14:
            lookAtParts(client)
        case 0, 1:
            let slot = random.below(2)
            let name = FileName("n\(client).\(slot)")!
            if own.files[slot] == nil {
                update(
                    client,
                    .open(
                        at: .root, name, [.read, .write, .create, .exclusive], mode: 0o600,
                        stripeCount: 1)
                ) { $0.files[slot] = .unknown }
            } else if random.oneIn(2) {
                update(client, .unlink(at: .root, name, isDirectory: false)) {
                    $0.files[slot] = nil
                }
            } else {
                let other = FileName("n\(client).\(1 - slot)")!
                update(client, .rename(at: .root, name, to: .root, other)) {
                    $0.files[1 - slot] = $0.files[slot]
                    $0.files[slot] = nil
                }
            }
        case 2:
            nextMode = nextMode % 0o7000 + 1
            let mode = nextMode
            update(client, .setattr(files[client], mode: mode, modified: nil)) { $0.mode = mode }
        case 3:
            update(client, .append(handles[client], [1, 2, 3])) { $0.size += 3 }
        case 4:
            let number = random.below(4)
            let name = FileName("e\(number)")!
            if own.entries.contains(number) {
                update(client, .unlink(at: directories[client], name, isDirectory: true)) {
                    $0.entries.remove(number)
                }
            } else {
                update(client, .mkdir(at: directories[client], name, mode: 0o700)) {
                    $0.entries.insert(number)
                }
            }
        default:
            look(client, at: random.below(states.count))
        }
    }

    private func look(_ client: Int, at other: Int) {
        let begun = cluster.simulator.now
        lookupCount += 1
        switch random.below(5) {
        case 0, 1:
            let slot = random.below(2)
            submit(client, .lookup(at: .root, path: [FileName("n\(other).\(slot)")!])) {
                result, status in
                var seen: FileID?
                if case .attributes(let attributes, _)? = result { seen = attributes.file }
                guard status == .ok || status == .noEntry else {
                    throw self.stuck("lookup gave \(status)")
                }
                try self.check(client, other, begun, "name \(slot) is \(String(describing: seen))")
                {
                    $0.files[slot] == seen || ($0.files[slot] == .unknown && seen != nil)
                }
            }
        case 2:
            submit(client, .stat(at: .root, path: [FileName("f\(other)")!])) { result, status in
                guard case .attributes(let attributes, let size)? = result else {
                    throw self.stuck("stat gave \(status)")
                }
                try self.check(client, other, begun, "mode is \(attributes.mode)") {
                    $0.mode == attributes.mode
                }
                try self.check(client, other, begun, "size is \(size)") { $0.size == size }
            }
        case 3:
            submit(client, .stat(at: .root, path: [FileName("d\(other)")!])) { result, status in
                guard case .attributes(let attributes, _)? = result else {
                    throw self.stuck("stat gave \(status)")
                }
                try self.check(client, other, begun, "entries are \(attributes.entryCount)") {
                    UInt64($0.entries.count) == attributes.entryCount
                }
            }
        default:
            let number = random.below(4)
            let path = [FileName("d\(other)")!, FileName("e\(number)")!]
            submit(client, .lookup(at: .root, path: path)) { result, status in
                guard status == .ok || status == .noEntry else {
                    throw self.stuck("lookup gave \(status)")
                }
                try self.check(client, other, begun, "entry \(number): \(status)") {
                    $0.entries.contains(number) == (status == .ok)
                }
            }
        }
    }

    /// A range of the file of all, over as many parts as it meets: each is of one writing, and the
    /// file ends where its parts do.
    private func lookAtParts(_ client: Int) {
        let begun = cluster.simulator.now
        lookupCount += 1
        let offset = random.below(states.count * Self.partByteCount)
        let count = 1 + random.below(2 * Self.partByteCount)
        submit(
            client, .read(parts[client], offset: UInt64(offset), byteCount: count)
        ) { result, status in
            guard case .bytes(let bytes)? = result, bytes.count <= count else {
                throw self.stuck("read gave \(status)")
            }
            for other in self.states.indices {
                let start = other * Self.partByteCount
                guard start < offset + count, start + Self.partByteCount > offset else { continue }
                let wanted = max(start, offset)..<min(start + Self.partByteCount, offset + count)
                let upTo = min(wanted.upperBound, offset + bytes.count)
                // What the file does not reach was not written.
                let seen =
                    wanted.lowerBound < upTo
                    ? bytes[(wanted.lowerBound - offset)..<(upTo - offset)]
                    : []
                let value = seen.first ?? 0
                guard seen.allSatisfy({ $0 == value }), value == 0 || upTo == wanted.upperBound
                else { throw self.stuck("the part of client \(other) is torn") }
                try self.check(client, other, begun, "part is \(value)") { $0.part == value }
            }
        }
    }

    /// Some state between the last that had ended when the question was asked and the last that
    /// had begun when the answer came.
    private func check(
        _ client: Int, _ other: Int, _ begun: Ticks, _ text: String, _ isSo: (Own) -> Bool
    ) throws {
        let history = states[other]
        let first = history.lastIndex { $0.ended.map { $0 <= begun } ?? false } ?? 0
        guard history[first...].contains(where: { isSo($0.own) }) else {
            throw stuck(
                "client \(client) is told that of client \(other) \(text); it is "
                    + "\(history[first...].map(\.own))")
        }
    }
}

extension FileID? {
    /// A file that is being made: which one is not known yet.
    fileprivate static var unknown: FileID? { FileID.none }
}

@Suite struct CoherenceTests {
    /// A few, or those of `SEEDS=first...last`.
    private static let seeds: ClosedRange<UInt64> = {
        let bounds = (ProcessInfo.processInfo.environment["SEEDS"] ?? "")
            .split(separator: ".").compactMap { UInt64($0) }
        guard let first = bounds.first, let last = bounds.last, first <= last else {
            return 1...16
        }
        return first...last
    }()

    @Test(arguments: seeds)
    func `clients see each other's completed changes, over upgrades and crashes`(
        seed: UInt64
    ) throws {
        let load = try CoherentLoad(seed: seed, clientCount: 3)
        try load.run(steps: 400)
        var hits: UInt64 = 0
        for client in load.cluster.clients {
            hits += load.cluster.simulator.client(client)?.core.counters.nameHits ?? 0
        }
        #expect(hits > 0, "seed \(seed): \(hits) of \(load.lookupCount)")
        for entry in load.cluster.clientEvents {
            switch entry.event {
            case .evicted, .writeLost, .updateLost, .refused:
                Issue.record("seed \(seed): \(entry.event) \(entry.client)")
            default: break
            }
        }
    }

    @Test func `a warm stat sends nothing, and a change elsewhere shows in the next one`() throws {
        let cluster = try Cluster(seed: 3, clientCount: 2)
        let (a, b) = (cluster.clients[0], cluster.clients[1])
        let handle = try cluster.open(a, "x")
        try cluster.perform(a, .write(handle, offset: 0, [1, 2, 3]))
        let path = [FileName("x")!]
        func stat(_ client: Int) throws -> (FileAttributes, UInt64) {
            guard
                case .attributes(let attributes, let size) = try cluster.perform(
                    client, .stat(at: .root, path: path))
            else { throw Cluster.Stuck(description: "no attributes") }
            return (attributes, size)
        }
        func calls(_ client: Int) -> UInt64 {
            (0..<3).reduce(0) {
                $0 + (cluster.simulator.client(client)?.core.summary($1).counters.calls ?? 0)
            }
        }
        // Who has read the file holds its size; of one that another writes it is asked for.
        let other = try cluster.open(b, "x", create: false)
        #expect(try cluster.read(b, other, 0, 10) == [1, 2, 3])
        let first = try stat(b)
        #expect(first.1 == 3)
        let before = calls(b)
        for _ in 0..<100 { #expect(try stat(b) == first) }
        #expect(calls(b) == before, "a warm stat costs no message")
        try cluster.perform(a, .setattr(first.0.file, mode: 0o400, modified: nil))
        #expect(try stat(b).0.mode == 0o400)
        try cluster.perform(a, .append(handle, [4]))
        #expect(try stat(b).1 == 4)
        // A name that is not there is known, too.
        let absent = FileOperation.lookup(at: .root, path: [FileName("y")!])
        #expect(throws: OperationError(.noEntry)) { try cluster.perform(b, absent) }
        let warm = calls(b)
        for _ in 0..<50 {
            #expect(throws: OperationError(.noEntry)) { try cluster.perform(b, absent) }
        }
        #expect(calls(b) == warm)
        try cluster.perform(a, .link(first.0.file, at: .root, FileName("y")!))
        guard case .attributes(let linked, _) = try cluster.perform(b, absent) else {
            Issue.record("no attributes")
            return
        }
        #expect(linked.file == first.0.file && linked.linkCount == 2)
    }

    @Test func `what is cached answers through a shut gate, for as long as the lease`() throws {
        let cluster = try Cluster(seed: 4, clientCount: 2)
        let client = cluster.clients[0]
        _ = try cluster.open(client, "x")
        let stat = FileOperation.lookup(at: .root, path: [FileName("x")!])
        _ = try cluster.perform(client, stat)
        _ = try cluster.perform(client, stat)
        // The server goes without a word, and nobody takes its place.
        cluster.simulator.kill(cluster.servers[0])
        cluster.settle(.seconds(2))
        let warm = cluster.submit(client, stat)
        #expect(cluster.result(client, warm) != nil, "within the lease")
        cluster.settle(.seconds(10))
        let cold = cluster.submit(client, stat)
        cluster.settle(.seconds(5))
        #expect(cluster.result(client, cold) == nil, "behind it the server is asked")
    }

    @Test
    func `a client that died with names cached holds an update up only until its time is over`()
        throws
    {
        let cluster = try Cluster(seed: 5, clientCount: 2)
        let (a, b) = (cluster.clients[0], cluster.clients[1])
        let handle = try cluster.open(a, "x")
        try cluster.perform(a, .close(handle))
        _ = try cluster.perform(b, .lookup(at: .root, path: [FileName("x")!]))
        cluster.simulator.kill(b)
        let cookie = cluster.submit(
            a, .rename(at: .root, FileName("x")!, to: .root, FileName("y")!))
        cluster.settle(.seconds(5))
        #expect(cluster.result(a, cookie) == nil, "the lock is called back first")
        cluster.settle(.seconds(60))
        guard case .success? = cluster.result(a, cookie) else {
            Issue.record("\(String(describing: cluster.result(a, cookie)))")
            return
        }
    }

    @Test func `an update that waits for a dead client's lock goes to the gate of an upgrade`()
        throws
    {
        let cluster = try Cluster(seed: 6, clientCount: 2)
        let (a, b) = (cluster.clients[0], cluster.clients[1])
        let handle = try cluster.open(a, "x")
        try cluster.perform(a, .close(handle))
        _ = try cluster.perform(b, .lookup(at: .root, path: [FileName("x")!]))
        cluster.simulator.kill(b)
        let cookie = cluster.submit(
            a, .rename(at: .root, FileName("x")!, to: .root, FileName("y")!))
        cluster.settle(.milliseconds(200))
        try cluster.upgrade(0, to: ProtocolVersion.supported)
        cluster.settle(.seconds(60))
        guard case .success? = cluster.result(a, cookie) else {
            Issue.record("\(String(describing: cluster.result(a, cookie)))")
            return
        }
        #expect(try cluster.names(a) == ["y"])
    }
}
