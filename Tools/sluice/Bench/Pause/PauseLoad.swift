import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// Clients that make directories at fixed times, whether or not the one before was answered in
/// time: an open loop. An operation's latency is counted from when it was due, so that what had to
/// wait behind a pause is counted with its wait (no coordinated omission).
final class PauseLoad: FleetDriver, @unchecked Sendable {
    // Belongs to the fleet's loop but for `progress` and `orders`.

    struct Progress: Sendable {
        var connected = 0
        var operations = 0
        var back = 0
        var problems: [String] = []
        var outcome: Outcome?
    }

    struct Orders: Sendable {
        /// Everything from here on belongs to the upgrade in hand.
        var watches = false
        var stops = false
    }

    /// What the clients saw from the order on.
    struct Outcome: Sendable {
        /// Of every operation that was due from then on.
        var latencies: Recorder
        /// Each client's longest operation, from when it was due.
        var pauses: [TickInterval]
        var stamps: [NotifyClients.Stamps]
        /// The longest time in which no client's update was acknowledged.
        var blackout: TickInterval
        /// Operations that ended in each tenth of a second since the load began.
        var slices: [Int]
        var began: Ticks
    }

    let progress = Lock(Progress())
    let orders = Lock(Orders())
    private let clientCount: Int
    private let interval: TickInterval
    private var mounted = 0
    private var connected = 0
    private var isConnected: [Bool]
    private var isLoading = false
    /// When each client's next operation is due, and whether one is under way that was due then.
    private var due: [Ticks]
    private var isBusy: [Bool]
    private var number: [Int]
    private var began = Ticks.zero
    private var slices: [Int] = []
    private var operations = 0
    private var isWatching = false
    private var isOver = false
    private var watchedFrom = Ticks.zero
    private var latencies = Recorder()
    private var pauses: [TickInterval]
    private var stamps: [NotifyClients.Stamps]
    private var lastAcknowledged = Ticks.zero
    private var blackout = TickInterval.zero
    private let run: Int
    private static let tick = TickInterval.milliseconds(1)
    private static let slice = TickInterval.milliseconds(100)

    init(clientCount: Int, interval: TickInterval, run: Int) {
        self.clientCount = clientCount
        self.interval = interval
        self.run = run
        isConnected = Array(repeating: false, count: clientCount)
        due = Array(repeating: .zero, count: clientCount)
        isBusy = isConnected
        number = Array(repeating: 0, count: clientCount)
        pauses = Array(repeating: .zero, count: clientCount)
        stamps = Array(repeating: NotifyClients.Stamps(), count: clientCount)
    }

    func started(nodeCount: Int, now: Ticks, _ commands: inout FleetCommands) {
        commands.nextTimer = now
    }

    func timerFired(now: Ticks, _ commands: inout FleetCommands) {
        commands.nextTimer = now + Self.tick
        if mounted < clientCount {
            let end = min(clientCount, mounted + 16)
            for node in mounted..<end { commands.mount(node: node) }
            mounted = end
        }
        if !isLoading, connected == clientCount { load(now) }
        let orders = self.orders.withLock { $0 }
        if orders.watches, !isWatching {
            isWatching = true
            watchedFrom = now
            lastAcknowledged = now
        }
        if orders.stops, !isOver { conclude() }
        guard isLoading, !isOver else { return }
        for node in 0..<clientCount where !isBusy[node] && due[node] <= now {
            begin(node, &commands)
        }
    }

    private func load(_ now: Ticks) {
        isLoading = true
        began = now
        // Spread over the interval, so that they are not due together.
        for node in 0..<clientCount {
            due[node] =
                now
                + TickInterval(
                    nanoseconds: interval.nanoseconds * UInt64(node) / UInt64(clientCount))
        }
    }

    private func begin(_ node: Int, _ commands: inout FleetCommands) {
        isBusy[node] = true
        guard let name = FileName("r\(run).\(node).\(number[node])") else { return }
        number[node] += 1
        commands.submit(node: node, .mkdir(at: .root, name, mode: 0o755), cookie: 0)
    }

    func completed(
        node: Int, cookie: UInt64, _ result: Result<FileResult, OperationError>, now: Ticks,
        _ commands: inout FleetCommands
    ) {
        if case .failure(let error) = result, !isOver {
            problem("client \(node): \(error.status)")
        }
        let now = Host.monotonicNow
        operations += 1
        let slice = Int((now - began).nanoseconds / Self.slice.nanoseconds)
        while slices.count <= slice { slices.append(0) }
        slices[slice] += 1
        let wait = now > due[node] ? now - due[node] : .zero
        if isWatching, !isOver, now >= watchedFrom {
            latencies.record(wait)
            pauses[node] = max(pauses[node], wait)
            blackout = max(blackout, now - lastAcknowledged)
            lastAcknowledged = now
        }
        isBusy[node] = false
        due[node] = due[node] + interval
        // What was due meanwhile is begun at once, and counted from when it was due.
        if due[node] <= now, !isOver { begin(node, &commands) }
        if operations % 64 == 0 {
            let operations = operations
            progress.withLock { $0.operations = operations }
        }
    }

    func event(node: Int, _ event: ClientEvent, now: Ticks, _ commands: inout FleetCommands) {
        switch event {
        case .connected:
            if !isConnected[node] {
                isConnected[node] = true
                connected += 1
            } else if isWatching {
                progress.withLock { $0.back += 1 }
            }
            let connected = connected
            progress.withLock { $0.connected = connected }
        case .stamp(_, let stamp, _, _) where isWatching && !isOver:
            let at = Host.monotonicNow
            switch stamp {
            case .gateShut: set(&stamps[node].gateShut, at)
            case .receiptGiven: set(&stamps[node].receiptGiven, at)
            case .firstWaited: set(&stamps[node].firstWaited, at)
            case .committed: set(&stamps[node].committed, at)
            case .disconnected: set(&stamps[node].disconnected, at)
            case .reconnected: set(&stamps[node].reconnected, at)
            case .gateOpened: set(&stamps[node].gateOpened, at)
            case .firstUpdateAcknowledged: set(&stamps[node].firstUpdate, at)
            }
        case .evicted: problem("client \(node) was evicted")
        case .updateLost(_, _, _, _, let status):
            problem("client \(node) lost an update: \(status)")
        case .refused(_, let status): problem("client \(node) was refused: \(status)")
        case .stamp, .completed, .acknowledged, .disconnected, .writeLost, .unmounted: break
        }
    }

    private func set(_ moment: inout Ticks, _ at: Ticks) { if moment == .zero { moment = at } }

    private func conclude() {
        isOver = true
        let outcome = Outcome(
            latencies: latencies, pauses: pauses, stamps: stamps, blackout: blackout,
            slices: slices, began: began)
        progress.withLock { $0.outcome = outcome }
    }

    private func problem(_ text: String) {
        progress.withLock { if $0.problems.count < 8 { $0.problems.append(text) } }
    }
}
