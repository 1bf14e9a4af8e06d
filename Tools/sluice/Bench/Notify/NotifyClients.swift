import ClientCore
import EventLoop
import NodeRuntime
import Primitives

/// Idle clients that keep their stamps, with the clock read as they are told.
final class NotifyClients: FleetDriver, @unchecked Sendable {
    // Belongs to the fleet's loop but for `progress` and `order`.

    struct Progress: Sendable {
        var connected = 0
        /// Clients that are back at the next instance with their gates open.
        var back = 0
        var problems: [String] = []
        var timelines: [Stamps] = []
    }

    /// One client's moments of one upgrade; zero where it had none.
    struct Stamps: Sendable {
        var gateShut = Ticks.zero
        var receiptGiven = Ticks.zero
        var committed = Ticks.zero
        var disconnected = Ticks.zero
        var reconnected = Ticks.zero
        var gateOpened = Ticks.zero
        var firstWaited = Ticks.zero
        var firstUpdate = Ticks.zero
    }

    let progress = Lock(Progress())
    private let clientCount: Int
    /// Of a burst that a server need not greet at once.
    private static let mountBatch = 64
    private var mounted = 0
    private var instances: [UInt64]
    private var stamps: [Stamps]
    private var isBack: [Bool]
    private var isReconnected: [Bool]
    private var back = 0
    private var connected = 0

    init(clientCount: Int) {
        self.clientCount = clientCount
        instances = Array(repeating: 0, count: clientCount)
        stamps = Array(repeating: Stamps(), count: clientCount)
        isBack = Array(repeating: false, count: clientCount)
        isReconnected = isBack
    }

    func started(nodeCount: Int, now: Ticks, _ commands: inout FleetCommands) {
        commands.nextTimer = now
    }

    func timerFired(now: Ticks, _ commands: inout FleetCommands) {
        let end = min(clientCount, mounted + Self.mountBatch)
        for node in mounted..<end { commands.mount(node: node) }
        mounted = end
        if mounted < clientCount { commands.nextTimer = now + .milliseconds(10) }
    }

    func completed(
        node: Int, cookie: UInt64, _ result: Result<FileResult, OperationError>, now: Ticks,
        _ commands: inout FleetCommands
    ) {}

    func event(node: Int, _ event: ClientEvent, now: Ticks, _ commands: inout FleetCommands) {
        switch event {
        case .connected(_, _, let instance):
            let isFirst = instances[node] == 0
            instances[node] = instance
            if isFirst {
                connected += 1
                let connected = connected
                progress.withLock { $0.connected = connected }
            } else {
                isReconnected[node] = true
                comeBack(node)
            }
        case .stamp(_, let stamp, _, _):
            let at = Host.monotonicNow
            switch stamp {
            case .gateShut: stamps[node].gateShut = at
            case .receiptGiven: stamps[node].receiptGiven = at
            case .firstWaited: stamps[node].firstWaited = at
            case .committed: stamps[node].committed = at
            case .disconnected: stamps[node].disconnected = at
            case .reconnected: stamps[node].reconnected = at
            case .gateOpened:
                stamps[node].gateOpened = at
                comeBack(node)
            case .firstUpdateAcknowledged: stamps[node].firstUpdate = at
            }
        case .evicted: problem("client \(node) was evicted")
        case .refused(_, let status): problem("client \(node) was refused: \(status)")
        case .completed, .acknowledged, .disconnected, .writeLost, .updateLost, .unmounted: break
        }
    }

    private func comeBack(_ node: Int) {
        // The gate opens before the news of the connection or after it.
        guard !isBack[node], isReconnected[node],
            stamps[node].gateShut == .zero || stamps[node].gateOpened != .zero
        else { return }
        isBack[node] = true
        back += 1
        let back = back
        let isWhole = back == clientCount
        progress.withLock { progress in
            progress.back = back
            if isWhole { progress.timelines = stamps }
        }
        guard isWhole else { return }
        // The next upgrade may come.
        stamps = Array(repeating: Stamps(), count: clientCount)
        isBack = Array(repeating: false, count: clientCount)
        isReconnected = isBack
        self.back = 0
    }

    private func problem(_ text: String) {
        progress.withLock { if $0.problems.count < 8 { $0.problems.append(text) } }
    }
}
