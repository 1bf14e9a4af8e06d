import ClientCore
import LNetCore
import NodeCore
public import Primitives
import StorageCore
import WireFormat

/// One announced upgrade of one target with very many clients, against a stated network.
///
/// Every client is the real one, with its connection, its import and its admission lock; each has
/// one update under way to the target when its gate shuts, so that each has a pause to measure.
public final class ScaleRun {
    /// The network and the machines that are assumed.
    public struct Model: Sendable {
        /// One way between any two nodes.
        public var latencyMin = TickInterval.microseconds(10)
        public var latencyMax = TickInterval.microseconds(30)
        /// Of each node's link, each way: 100 Gbit/s.
        public var bytesPerSecond: UInt64 = 12_500_000_000
        /// Of the server's and a client's processor for each segment that it sends or receives.
        public var processorTime = TickInterval.microseconds(2)
        /// Until a group is on the disk.
        public var commitTime = TickInterval.milliseconds(2)
        /// From the old process's end to the order to the new one.
        public var handOverTime = TickInterval.milliseconds(1)

        public init() {}
    }

    /// p50, p99 and the last, in virtual time.
    public struct Spread: Sendable {
        public var median = TickInterval.zero
        public var p99 = TickInterval.zero
        public var max = TickInterval.zero
        public var count = 0

        init(_ values: [TickInterval]) {
            guard !values.isEmpty else { return }
            let sorted = values.sorted()
            count = sorted.count
            median = sorted[sorted.count / 2]
            p99 = sorted[min(sorted.count - 1, sorted.count * 99 / 100)]
            max = sorted[sorted.count - 1]
        }
    }

    public struct Report: Sendable {
        public var clients = 0
        /// All clients connected, from the first attempt.
        public var connecting = TickInterval.zero
        /// From the order on: gate shut (t3 - t0), receipt sent, commit notice, reconnected, gate
        /// open again; at the clients.
        public var notification = Spread([])
        public var receipt = Spread([])
        public var commitNotice = Spread([])
        public var reconnected = Spread([])
        public var gateOpened = Spread([])
        /// From the operation that had to wait to its end.
        public var pause = Spread([])
        /// From the order on: the last receipt at the target, and its stop.
        public var allPrepared = TickInterval.zero
        public var stopped = TickInterval.zero
        /// From the order to the last gate: segments on the network, and their bytes.
        public var segments: UInt64 = 0
        public var bytes: UInt64 = 0
        /// LNet messages of that time by what they are, the most frequent first.
        public var messages: [(name: String, count: UInt64)] = []
        /// Updates that a client was told of and that are not in the store, and such that are there
        /// twice.
        public var lost = 0
        public var repeated = 0
        /// Why it did not come to its end.
        public var failure: String?
    }

    private let clientCount: Int
    private let model: Model
    private let cluster: SimulatedCluster
    private let store = MemoryStore()
    private var clientOfNode: [Int: Int] = [:]
    private var nodes: [Int] = []
    private var stamps: [[Ticks]]
    private var submittedAt: [Ticks]
    private var finishedAt: [Ticks]
    private var gatesToOpen = 0
    private var finishedCount = 0
    private var connectedCount = 0
    private var isAnnounced = false
    private var preparedAt = Ticks.zero
    private var failure: String?

    public init(clientCount: Int, seed: UInt64, model: Model = Model()) {
        precondition(clientCount > 0, "somebody is told")
        self.clientCount = clientCount
        self.model = model
        var options = SimulatedCluster.Options()
        options.latencyMin = model.latencyMin
        options.latencyMax = model.latencyMax
        options.commitMin = model.commitTime
        options.commitMax = model.commitTime
        options.splitOneIn = 0
        cluster = SimulatedCluster(seed: seed, options: options)
        stamps = Array(
            repeating: [Ticks](repeating: .zero, count: clientCount),
            count: UpgradeStamp.allCases.count)
        submittedAt = Array(repeating: .zero, count: clientCount)
        finishedAt = Array(repeating: .zero, count: clientCount)
    }

    private static let names = [
        NID(address: 0x0A00_0001, type: .tcp), NID(address: 0x0A00_0002, type: .tcp),
    ]

    private func server(_ place: Int) throws -> Int {
        var lnet = cluster.lnetConfiguration(Self.names[place])
        lnet.incomingPeersMax = clientCount + 1024
        var configuration = ServerConfiguration(
            targetName: "mdt0", kind: .mds, targetIndex: 0, lnet: lnet, seed: UInt64(place))
        configuration.keepsAudit = true
        configuration.clientCountMax = clientCount + 1024
        return try cluster.addServer(configuration, store: store, isStandby: place == 1)
    }

    /// Runs it. `progress` hears of each step.
    public func run(
        mustStop: () -> String? = { nil }, progress: (String) -> Void = { _ in }
    ) -> Report {
        var report = Report()
        report.clients = clientCount
        do {
            try run(&report, mustStop, progress)
        } catch {
            report.failure = "\(error)"
        }
        return report
    }

    private struct Stopped: Error, CustomStringConvertible { var description: String }

    private func run(
        _ report: inout Report, _ mustStop: () -> String?, _ progress: (String) -> Void
    ) throws {
        let old = try server(0)
        cluster.onClient = { [unowned self] in heard($0, $1) }
        func wait(_ limit: TickInterval, _ what: String, _ isDone: () -> Bool) throws {
            var countdown = 0
            var stop: String?
            let came = cluster.run(until: cluster.now + limit) {
                countdown -= 1
                if countdown < 0 {
                    countdown = 5000
                    stop = mustStop()
                }
                return stop != nil || self.failure != nil || isDone()
            }
            if let stop { throw Stopped(description: "\(stop) while \(what)") }
            if let failure { throw Stopped(description: failure) }
            if !came {
                throw Stopped(
                    description: "the virtual limit of \(limit.inSeconds) s while \(what)")
            }
        }
        // They come at 20 microseconds each: no storm, that is another question.
        let begin = cluster.now
        for index in 0..<clientCount {
            cluster.at(begin + .microseconds(UInt64(index) * 20)) { [unowned self] _ in
                addClient(index)
            }
        }
        try wait(.seconds(600), "clients connect") { connectedCount == clientCount }
        report.connecting = cluster.now - begin
        progress("\(clientCount) clients connected after \(report.connecting.inSeconds) s")
        cluster.run(for: .seconds(2))
        cluster.options.bytesPerSecond = model.bytesPerSecond
        cluster.options.processorTime = model.processorTime
        let standby = try server(1)
        var isStopped = false
        var counts: [SimulatedMessage.Kind: UInt64] = [:]
        cluster.onMessage = { moment, message in
            if moment == .sending { counts[message.kind, default: 0] += 1 }
        }
        let ordered = cluster.now
        let before = cluster.counters
        gatesToOpen = clientCount
        isAnnounced = true
        cluster.onServer = { node, action in
            if node == old, case .stop = action { isStopped = true }
        }
        cluster.onSettled = { [unowned self] node in
            guard node == old, preparedAt == .zero,
                cluster.peekServer(node, { $0.phase.isPrepared }) == true
            else { return }
            preparedAt = cluster.now
        }
        _ = cluster.withServer(old) {
            $0.beginStop(
                UpgradeStart(
                    deadlinePolicy: .wait, deadlineMs: 600_000, expiryMs: 600_000,
                    next: Self.names[1]), now: ordered)
        }
        try wait(.seconds(600), "the target drains") { isStopped }
        report.stopped = cluster.now - ordered
        report.allPrepared = preparedAt - ordered
        progress("the target has stopped after \(report.stopped.inSeconds) s")
        cluster.stop(old)
        cluster.run(for: model.handOverTime)
        try cluster.activate(standby)
        try wait(.seconds(600), "clients come back") {
            gatesToOpen == 0 && finishedCount == clientCount
        }
        cluster.onMessage = nil
        report.segments = cluster.counters.deliveries - before.deliveries
        report.bytes = cluster.counters.bytes - before.bytes
        report.messages = counts.map { ("\(name($0.key))", $0.value) }.sorted {
            ($1.count, $0.name) < ($0.count, $1.name)
        }
        func spread(_ stamp: UpgradeStamp) -> Spread {
            Spread(
                stamps[Int(stamp.rawValue)].filter { $0 > .zero }.map { $0 - ordered })
        }
        report.notification = spread(.gateShut)
        report.receipt = spread(.receiptGiven)
        report.commitNotice = spread(.committed)
        report.reconnected = spread(.reconnected)
        report.gateOpened = spread(.gateOpened)
        report.pause = Spread(zip(finishedAt, submittedAt).map { $0 - $1 })
        cluster.run(for: .seconds(2))
        checkStore(&report)
    }

    private func name(_ kind: SimulatedMessage.Kind) -> String {
        switch kind {
        case .request(let opcode): opcode.name
        case .reply(let opcode): "\(opcode.name) reply"
        case .put: "put"
        case .get: "get"
        case .data: "data"
        case .ack: "ack"
        case .handshake: "handshake"
        case .keepalive: "keepalive"
        }
    }

    private func addClient(_ index: Int) {
        var client = ClientConfiguration(
            uuid: "c\(index)",
            targets: [ClientTarget(name: "mdt0", kind: .mds, index: 0, nids: Self.names)],
            seed: UInt64(index), wallSeconds: UInt64(cluster.wall.seconds))
        client.reportsUpdates = false
        let nid = NID(address: 0x0B00_0001 + UInt32(index), type: .tcp)
        let node = cluster.nodeIndex(of: nid)
        clientOfNode[node] = index
        nodes.append(node)
        cluster.addClient(client, nid: nid)
    }

    private func heard(_ node: Int, _ event: ClientEvent) {
        guard let index = clientOfNode[node] else { return }
        switch event {
        case .connected:
            if !isAnnounced { connectedCount += 1 }
        case .stamp(_, let stamp, _, let at):
            if stamps[Int(stamp.rawValue)][index] == .zero || stamp == .gateOpened {
                stamps[Int(stamp.rawValue)][index] = at
            }
            if stamp == .gateShut, submittedAt[index] == .zero {
                submittedAt[index] = cluster.now
                cluster.at(cluster.now) { [unowned self] cluster in
                    let (now, wall) = (cluster.now, cluster.wall)
                    cluster.withClient(node) {
                        $0.submit(
                            .mkdir(at: .root, FileName("d\(index)")!, mode: 0o700), cookie: 1,
                            wall: wall, now: now)
                    }
                    _ = self
                }
            }
            if stamp == .gateOpened { gatesToOpen -= 1 }
        case .completed(_, let result):
            finishedAt[index] = cluster.now
            finishedCount += 1
            if case .failure(let error) = result {
                failure = "client \(index): the operation that waited ended with \(error.status)"
            }
        case .evicted: failure = "client \(index) was evicted"
        default: break
        }
    }

    /// Every client's one update stands in the store, once.
    private func checkStore(_ report: inout Report) {
        var found: Set<String> = []
        store.scan(.audit, from: [0]) { key, value in
            found.insert(String(decoding: key.prefix { $0 != 0 }, as: UTF8.self))
            if value.first != 1 { report.repeated += 1 }
            return true
        }
        for index in 0..<clientCount where !found.contains("c\(index)") { report.lost += 1 }
    }
}

extension UpgradePhase {
    /// Every client is accounted for.
    fileprivate var isPrepared: Bool {
        switch self {
        case .committing, .sealed, .held, .committed, .stopped: true
        default: false
        }
    }
}
