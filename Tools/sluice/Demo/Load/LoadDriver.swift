import ClientCore
import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// Drives all load clients on their loop, and keeps what must be true afterwards.
///
/// Everything but `progress` and `orders` belongs to the loop's thread while it runs, and to
/// whoever joined it afterwards.
final class LoadDriver: FleetDriver, @unchecked Sendable {
    /// What other threads may see, a few times a second.
    struct Progress: Sendable {
        var isSetUp = false
        var connectedCount = 0
        var operations: UInt64 = 0
        var updates: UInt64 = 0
        var errors: UInt64 = 0
        var evictions: UInt64 = 0
        var shutGateCount = 0
        /// Clients that are through with the upgrade in hand.
        var backCount = 0
        var restCount = 0
        var unmountedCount = 0
        var samples: [String] = []
        /// Once the load shall end: clients whose operation has not.
        var busy: [BusyClient] = []
        /// Upgrades that are, or were, observed.
        var traceCount = 0
    }

    /// A client in the middle of an operation.
    struct BusyClient: Sendable {
        var index: Int
        var operation: String
        var since: Ticks
    }

    /// What other threads want.
    struct Orders: Sendable {
        var stops = false
        var begins: (target: Int, began: Ticks, isAnnounced: Bool)?
        var endsTrace = false
    }

    let progress = Lock(Progress())
    let orders = Lock(Orders())

    let clientCount: Int
    let targetCount: Int
    private(set) var clients: [LoadClient] = []
    private(set) var traces: [Trace] = []
    /// XIDs of acknowledged updates, by client and target.
    private(set) var acknowledged: [[XID]]
    private(set) var evictions: UInt64 = 0
    private(set) var otherErrors: [String] = []
    private(set) var otherErrorCount: UInt64 = 0
    private(set) var writeLostBytes: UInt64 = 0
    /// Operations that ended, in slices of `sliceLength` since `sliceOrigin`.
    private(set) var slices: [UInt32] = []
    private(set) var sliceOrigin = Ticks.zero

    static let sliceLength = TickInterval.milliseconds(10)
    private static let turn = TickInterval.milliseconds(20)
    /// How many clients connect in one turn: a server need not greet a thousand at once.
    private static let mountBatch = 64

    private(set) var peakDescriptorCount = 0

    private let seed: UInt64
    /// Whether one operation in some is taken back while it waits at a gate.
    private let cancelsAtGate: Bool
    /// Clients whose operation is taken back in the next turn.
    private var cancelling: [Int] = []
    private var random: SplitMix64
    private var instances: [UInt64]
    /// By target: a trace may begin after the last update that the old instance acknowledges.
    private var lastAcknowledged: [Ticks]
    private var isTracing = false
    private var mountedCount = 0
    private var begunAt: [Ticks] = []
    /// The upgrade for which a client's one operation waits.
    private var waitingIn: [Int?]
    private var updateCount: UInt64 = 0
    private var isShut: [Bool]
    private var shutCount = 0
    private var setUpCount = 0
    private var shared = FileID.none
    private var isStopping = false
    private var unmountedCount = 0
    private var restCount = 0

    /// The nodes behind the first `clientCount` are for others.
    init(clientCount: Int, targetCount: Int, seed: UInt64, cancelsAtGate: Bool = false) {
        self.cancelsAtGate = cancelsAtGate
        random = SplitMix64(seed: seed ^ 0x6A7E)
        self.clientCount = clientCount
        self.targetCount = targetCount
        self.seed = seed
        acknowledged = Array(repeating: [], count: clientCount * targetCount)
        instances = Array(repeating: 0, count: clientCount * targetCount)
        lastAcknowledged = Array(repeating: .zero, count: targetCount)
        isShut = Array(repeating: false, count: clientCount * targetCount)
        begunAt = Array(repeating: .zero, count: clientCount)
        waitingIn = Array(repeating: nil, count: clientCount)
    }

    /// The cookie of the one operation that is no client's.
    private static let sharedCookie: UInt64 = 1

    // MARK: FleetDriver

    func started(nodeCount: Int, now: Ticks, _ commands: inout FleetCommands) {
        sliceOrigin = now
        commands.nextTimer = now
    }

    func timerFired(now: Ticks, _ commands: inout FleetCommands) {
        commands.nextTimer = now + Self.turn
        mountSome(&commands)
        let orders = self.orders.withLock { orders in
            defer {
                orders.begins = nil
                orders.endsTrace = false
            }
            return orders
        }
        for node in cancelling { commands.cancel(node: node) }
        cancelling.removeAll(keepingCapacity: true)
        if orders.endsTrace { endTrace(now) }
        if let begins = orders.begins { begin(begins) }
        if orders.stops, !isStopping { stop(&commands) }
        publish()
    }

    func completed(
        node: Int, cookie: UInt64, _ result: Result<FileResult, OperationError>, now: Ticks,
        _ commands: inout FleetCommands
    ) {
        if cookie == Self.sharedCookie {
            guard case .success(.attributes(let attributes, _)) = result else {
                return note("the shared directory cannot be made: \(result)")
            }
            shared = attributes.file
            for index in 0..<clientCount {
                clients.append(
                    LoadClient(
                        index: index, seed: seed, sharedDirectory: shared,
                        isCancelled: cancelsAtGate))
            }
            for index in 0..<clientCount { submitNext(index, now, &commands) }
            return
        }
        count(now)
        let wasSetUp = clients[node].isSetUp
        clients[node].take(result)
        if isTracing { noteLength(node, now) }
        if let trace = waitingIn[node] {
            waitingIn[node] = nil
            set(&traces[trace].waitEnded[node], now)
        }
        if !wasSetUp, clients[node].isSetUp {
            setUpCount += 1
            if setUpCount == clientCount {
                peakDescriptorCount = Machine.descriptorCount(of: getpid())
            }
        }
        submitNext(node, now, &commands)
    }

    func event(node: Int, _ event: ClientEvent, now: Ticks, _ commands: inout FleetCommands) {
        guard node < clientCount else { return }
        switch event {
        case .acknowledged(let target, let xid):
            acknowledge(node, target, xid, now)
        case .connected(let target, _, let instance):
            instances[node * targetCount + target] = instance
            if isTracing, traces[traces.count - 1].target == target,
                !traces[traces.count - 1].isAnnounced,
                instance != traces[traces.count - 1].oldInstances[node]
            {
                traces[traces.count - 1].back(node, at: now)
            }
        case .stamp(let target, let stamp, _, let at):
            self.stamp(node, target, stamp, at)
            if cancelsAtGate, case .firstWaited = stamp, random.oneIn(4) {
                cancelling.append(node)
            }
        case .evicted(let target):
            evictions += 1
            note("client \(node) was evicted by target \(target)")
        case .writeLost(let target, _, let status, let byteCount):
            writeLostBytes += UInt64(byteCount)
            note("client \(node) lost \(byteCount) bytes at target \(target): \(status)")
        case .updateLost(let target, let opcode, let xid, _, let status):
            note(
                "client \(node) could not replay \(opcode) \(xid.rawValue) at target \(target): "
                    + "\(status)")
        case .refused(let target, let status):
            note("target \(target) refused client \(node): \(status)")
        case .unmounted:
            unmountedCount += 1
        case .completed, .disconnected:
            break
        }
    }

    // MARK: Parts

    private func mountSome(_ commands: inout FleetCommands) {
        guard mountedCount < clientCount else { return }
        let end = min(clientCount, mountedCount + Self.mountBatch)
        for node in mountedCount..<end { commands.mount(node: node) }
        if mountedCount == 0 {
            commands.submit(
                node: 0, .mkdir(at: .root, Name.shared, mode: 0o755), cookie: Self.sharedCookie)
        }
        mountedCount = end
    }

    private func submitNext(_ node: Int, _ now: Ticks, _ commands: inout FleetCommands) {
        if let operation = clients[node].next() {
            begunAt[node] = now
            commands.submit(node: node, operation, cookie: 0)
        } else {
            restCount += 1
            commands.unmount(node: node)
        }
    }

    private func stop(_ commands: inout FleetCommands) {
        isStopping = true
        for index in clients.indices { clients[index].stop() }
    }

    private func count(_ now: Ticks) {
        let slice = Int((now - sliceOrigin).nanoseconds / Self.sliceLength.nanoseconds)
        while slices.count <= slice { slices.append(0) }
        slices[slice] += 1
    }

    private func acknowledge(_ node: Int, _ target: Int, _ xid: XID, _ now: Ticks) {
        let place = node * targetCount + target
        acknowledged[place].append(xid)
        updateCount += 1
        lastAcknowledged[target] = now
        guard isTracing else { return }
        let last = traces.count - 1
        guard traces[last].target == target else { return }
        if instances[place] == traces[last].oldInstances[node] {
            traces[last].lastOfOld = now
        } else if traces[last].firstOfNew == .zero {
            traces[last].firstOfNew = now
        }
    }

    private func begin(_ order: (target: Int, began: Ticks, isAnnounced: Bool)) {
        let old = (0..<clientCount).map { instances[$0 * targetCount + order.target] }
        traces.append(
            Trace(
                target: order.target, began: order.began, isAnnounced: order.isAnnounced,
                oldInstances: old))
        traces[traces.count - 1].lastOfOld = lastAcknowledged[order.target]
        isTracing = true
    }

    private func endTrace(_ now: Ticks) {
        guard isTracing else { return }
        // What began before goes on to be watched until the next upgrade.
        traces[traces.count - 1].ended = now
    }

    private func stamp(_ node: Int, _ target: Int, _ stamp: UpgradeStamp, _ at: Ticks) {
        let place = node * targetCount + target
        switch stamp {
        case .gateShut where !isShut[place]:
            isShut[place] = true
            shutCount += 1
        case .gateOpened where isShut[place]:
            isShut[place] = false
            shutCount -= 1
        default: break
        }
        // The acknowledgement that ends a pause may come when the next upgrade has begun.
        // A crash is not announced: gates that shut then belong to how clients reconnect.
        guard let last = traces.lastIndex(where: { $0.target == target }), traces[last].isAnnounced
        else { return }
        switch stamp {
        case .gateShut: set(&traces[last].gateShut[node], at)
        case .receiptGiven: set(&traces[last].receipt[node], at)
        case .firstWaited:
            guard traces[last].firstWaited[node] == .zero else { break }
            traces[last].firstWaited[node] = at
            waitingIn[node] = last
        case .committed: set(&traces[last].committed[node], at)
        case .gateOpened: traces[last].back(node, at: at)
        case .firstUpdateAcknowledged: set(&traces[last].firstAcknowledged[node], at)
        case .disconnected, .reconnected: break
        }
    }

    private func set(_ moment: inout Ticks, _ at: Ticks) {
        if moment == .zero { moment = at }
    }

    /// An operation that overlapped the outage has ended: was it this client's longest?
    private func noteLength(_ node: Int, _ now: Ticks) {
        let last = traces.count - 1
        guard !traces[last].isAnnounced,
            traces[last].ended == .zero || begunAt[node] <= traces[last].ended
        else { return }
        let from = max(begunAt[node], traces[last].began)
        traces[last].longestOperation[node] = max(traces[last].longestOperation[node], now - from)
    }

    private func note(_ text: String) {
        otherErrorCount += 1
        let ms = Int((Host.monotonicNow - sliceOrigin).inMilliseconds)
        if otherErrors.count < 8 { otherErrors.append("\(text), \(ms) ms after the load began") }
    }

    private func publish() {
        var operations: UInt64 = 0
        var errors = otherErrorCount
        var samples = otherErrors
        for client in clients {
            operations += client.tally.operations
            errors += client.tally.errors
            if samples.count < 8 { samples += client.tally.samples }
        }
        let isSetUp = !clients.isEmpty && setUpCount == clientCount
        let backCount = traces.last?.backCount ?? 0
        let connected = (0..<clientCount).count {
            node in (0..<targetCount).allSatisfy { instances[node * targetCount + $0] != 0 }
        }
        let busy = isStopping ? busyClients : []
        progress.withLock { progress in
            progress.busy = busy
            progress.isSetUp = isSetUp
            progress.connectedCount = connected
            progress.operations = operations
            progress.updates = updateCount
            progress.errors = errors
            progress.evictions = evictions
            progress.shutGateCount = shutCount
            progress.backCount = isTracing ? backCount : 0
            progress.restCount = restCount
            progress.unmountedCount = unmountedCount
            progress.samples = samples
            progress.traceCount = traces.count
        }
    }

    private var busyClients: [BusyClient] {
        clients.indices.compactMap { index in
            clients[index].operationName.map {
                BusyClient(index: index, operation: $0, since: begunAt[index])
            }
        }
    }

    /// Operations per second between two instants.
    func rate(from: Ticks, to: Ticks) -> Double {
        guard to > from else { return 0 }
        let length = Self.sliceLength.nanoseconds
        let first = Int((from - sliceOrigin).nanoseconds / length)
        let last = Int((to - sliceOrigin).nanoseconds / length)
        guard last > first else { return 0 }
        var sum = 0
        for slice in first..<last where slice < slices.count { sum += Int(slices[slice]) }
        return Double(sum) / (Double(last - first) * Self.sliceLength.inSeconds)
    }
}
