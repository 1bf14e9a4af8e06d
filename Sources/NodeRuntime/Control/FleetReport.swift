import Dispatch
import EventLoop
import Foundation
import NodeCore
import Primitives

/// All clients of one process together, and some of them in full.
public struct FleetReport: Codable, Equatable, Sendable {
    /// The imports of one target over all clients.
    public struct Target: Codable, Equatable, Sendable {
        public var target: String
        /// How many imports are in each state.
        public var states: [String: Int] = [:]
        /// How many speak each protocol version.
        public var versions: [String: Int] = [:]
        public var shutGates = 0
        public var updatesInFlight = 0
        public var sent = 0
        public var queued = 0
        public var replayList = 0
        public var locks = 0
        public var replayed: UInt64 = 0
        public var resent: UInt64 = 0
        public var evictions: UInt64 = 0
    }

    public var clientCount: Int
    public var operations = 0
    public var waiting = 0
    public var openFiles = 0
    public var dirtyBytes = 0
    public var cachedBytes = 0
    public var targets: [Target] = []
    /// Those that were asked for, from the `first` on.
    public var first: Int
    public var clients: [ClientReport] = []

    /// Clients told in full at most.
    public static let clientCountMax = 1_000

    init(_ nodes: [ClientNode], first: Int, count: Int, now: Ticks) {
        clientCount = nodes.count
        self.first = first
        for (index, node) in nodes.enumerated() {
            let report = ClientReport(node, now: now)
            operations += report.operations
            waiting += report.waiting
            openFiles += report.openFiles
            dirtyBytes += report.dirtyBytes
            cachedBytes += report.cachedBytes
            for entry in report.imports { add(entry) }
            if index >= first, clients.count < count { clients.append(report) }
        }
    }

    private mutating func add(_ entry: ClientReport.Import) {
        let place = targets.firstIndex { $0.target == entry.target } ?? targets.count
        if place == targets.count { targets.append(Target(target: entry.target)) }
        targets[place].states[entry.state, default: 0] += 1
        targets[place].versions["\(entry.protocolVersion)", default: 0] += 1
        if !entry.isGateOpen { targets[place].shutGates += 1 }
        targets[place].updatesInFlight += entry.updatesInFlight
        targets[place].sent += entry.sent
        targets[place].queued += entry.queued
        targets[place].replayList += entry.replayList
        targets[place].locks += entry.locks
        targets[place].replayed += entry.replayed
        targets[place].resent += entry.resent
        targets[place].evictions += entry.evictions
    }
}

extension ClientFleet {
    /// All clients together and `count` of them in full, from the `first` on. Nil where they have
    /// ended, or their loop does not answer within 10 s. Not from the loop's own thread.
    public func report(first: Int = 0, count: Int) -> FleetReport? {
        let report = Lock<FleetReport?>(nil)
        let done = DispatchSemaphore(value: 0)
        let isAsked = inspectAll { nodes, now in
            let found = FleetReport(nodes, first: first, count: count, now: now)
            report.withLock { $0 = found }
            done.signal()
        }
        guard isAsked, done.wait(timeout: .now() + 10) == .success else { return nil }
        return report.withLock { $0 }
    }
}

extension ControlRouter {
    /// Answers `client show` for a fleet, with a `FleetReport` in JSON.
    ///
    /// Arguments: `first` and `count`, the clients that are told in full (by default up to 4, and
    /// at most `FleetReport.clientCountMax`).
    public mutating func addClients(_ fleet: ClientFleet) {
        on("client", "show") { [weak fleet] request in
            guard let fleet else { throw ControlError("the clients here have ended", errno: 108) }
            let last = max(0, fleet.nodeCount - 1)
            let first = try request.number("first", in: 0...last) ?? 0
            let count = try request.number("count", in: 0...FleetReport.clientCountMax) ?? 4
            guard let found = fleet.report(first: first, count: count) else {
                throw ControlError("the clients have ended, or their loop hangs", errno: 110)
            }
            return String(decoding: try JSONEncoder().encode(found), as: UTF8.self)
        }
    }
}
