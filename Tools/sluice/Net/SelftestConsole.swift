import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// lst's part of lnet_selftest: a session, one batch with one test, and statistics.
struct SelftestConsole {
    let node: NetworkNode
    let clients: [NID]
    let servers: [NID]
    private let session: SelftestMessage.Session
    private static let batch: UInt64 = 1

    init(node: NetworkNode, nid: NID, clients: [NID], servers: [NID]) {
        self.node = node
        self.clients = clients
        self.servers = servers
        session = SelftestMessage.Session(
            nid: nid, stamp: UInt64(Date().timeIntervalSince1970 * 1000))
    }

    private var all: [NID] { clients + servers.filter { !clients.contains($0) } }

    /// Makes the session and adds the test, to servers first.
    func begin(_ test: SelftestMessage.Test, loop: UInt32, concurrency: UInt32) throws {
        let session = session
        for nid in all {
            let answer = node.askSelftest(nid) { reply, _ in
                .makeSession(reply: reply, session: session, force: false, name: "sluice")
            }
            guard case .sessionMade(let status, _, _, let name)? = answer else {
                throw Failure(
                    "\(nid) does not answer: does it run lnet_selftest, "
                        + "as sluice net node --selftest does?")
            }
            guard status == 0 else {
                throw Failure("\(nid) is in the session \(name) of another console")
            }
        }
        for nid in all.reversed() {
            for isClient in [false, true] {
                guard (isClient ? clients : servers).contains(nid) else { continue }
                let destinations = isClient ? servers : []
                let answer = node.askSelftest(nid, destinations: destinations) {
                    .test(
                        reply: $0, bulk: $1, session: session, batch: Self.batch, loop: loop,
                        concurrency: concurrency, isClient: isClient, stopsOnError: false,
                        destinations: UInt32(destinations.count), test)
                }
                guard case .testAdded(0, _)? = answer else {
                    throw Failure("\(nid) does not take the test")
                }
            }
        }
    }

    /// Runs the batch on all nodes, servers first.
    func start() throws {
        for nid in servers + clients { _ = try batch(nid, 1) }
    }

    /// Tests that are under way yet.
    func active() throws -> UInt32 {
        try clients.reduce(0) { try $0 + batch($1, 3) }
    }

    private func batch(_ nid: NID, _ operation: UInt32) throws -> UInt32 {
        let session = session
        let answer = node.askSelftest(nid) { reply, _ in
            .batch(
                reply: reply, session: session, batch: Self.batch, operation: operation,
                testIndex: 0, argument: 0)
        }
        guard case .batchDone(let status, _, let active, _)? = answer, status == 0 else {
            throw Failure("\(nid) does not answer any more, or has lost the session")
        }
        return active
    }

    /// Stops the batch, waits for what is under way, and removes the session.
    func end() throws {
        for nid in clients { _ = try? batch(nid, 2) }
        for _ in 0..<100 {
            if (try? active()) ?? 0 == 0 { break }
            Thread.sleep(forTimeInterval: 0.02)
        }
        let session = session
        for nid in all {
            _ = node.askSelftest(nid, timeout: .seconds(2)) { reply, _ in
                .removeSession(reply: reply, session: session)
            }
        }
    }

    /// What each node has counted, by group.
    func statistics() throws -> [(group: String, [(NID, SelftestMessage.Counters)])] {
        try [("clients", clients), ("servers", servers)].map { name, nids in
            (name, try nids.map { ($0, try counters($0)) })
        }
    }

    private func counters(_ nid: NID) throws -> SelftestMessage.Counters {
        let session = session
        let answer = node.askSelftest(nid) { reply, _ in
            .statistics(reply: reply, session: session, type: 0)
        }
        guard case .statisticsTold(0, _, let counters)? = answer else {
            throw Failure("\(nid) tells no statistics any more")
        }
        return counters
    }

    /// As `lst show_error` counts them.
    func errors() throws -> UInt64 {
        try all.reduce(0) {
            let counters = try counters($1)
            return $0 + UInt64(counters.brwErrors) + UInt64(counters.pingErrors)
                + UInt64(counters.errors) + UInt64(counters.rpcsExpired)
        }
    }
}

/// What `lst stat` prints of two looks at the counters.
struct StatisticsRows {
    private var last: [NID: (SelftestMessage.Counters, ContinuousClock.Instant)] = [:]

    mutating func take(
        _ groups: [(group: String, [(NID, SelftestMessage.Counters)])]
    ) -> String {
        var lines: [String] = []
        let now = ContinuousClock.now
        for (group, nodes) in groups {
            var rates: [[Double]] = [[], [], [], []]
            for (nid, counters) in nodes {
                guard let (before, at) = last[nid] else { continue }
                let time = at.duration(to: now)
                let seconds =
                    Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18
                rates[0].append(Double(counters.receiveCount &- before.receiveCount) / seconds)
                rates[1].append(Double(counters.sendCount &- before.sendCount) / seconds)
                let mib = seconds * 1_048_576
                rates[2].append(Double(counters.receiveLength &- before.receiveLength) / mib)
                rates[3].append(Double(counters.sendLength &- before.sendLength) / mib)
            }
            lines.append("[LNet Rates of \(group)]")
            lines.append(row("[R]", rates[0], "RPC/s", 0))
            lines.append(row("[W]", rates[1], "RPC/s", 0))
            lines.append("[LNet Bandwidth of \(group)]")
            lines.append(row("[R]", rates[2], "MiB/s", 2))
            lines.append(row("[W]", rates[3], "MiB/s", 2))
        }
        for (nid, counters) in groups.flatMap(\.1) { last[nid] = (counters, now) }
        return lines.joined(separator: "\n")
    }

    private func row(_ name: String, _ values: [Double], _ unit: String, _ digits: Int) -> String {
        func text(_ value: Double) -> String {
            let text = String(format: "%.\(digits)f", value)
            return text + String(repeating: " ", count: max(0, 8 - text.count))
        }
        let average = values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
        return "\(name) Avg: \(text(average)) \(unit) Min: \(text(values.min() ?? 0)) \(unit) "
            + "Max: \(text(values.max() ?? 0)) \(unit)"
    }
}
