public import ClientCore
import LNetCore
public import NodeCore
public import Primitives
import StorageCore
public import WireFormat

/// Servers, clients, disks and the network between them, in one thread and in virtual time.
///
/// The nodes are the very values that production runs. Everything random comes from one seed:
/// latencies, faults of the network, disk times. Equal seeds give equal digests.
///
/// Time is that of the cluster; a node whose clock drifts (`setClock`) reads its own, which
/// `clock(of:)` gives. Not for more than one thread.
public final class SimulatedCluster {
    /// Virtual time of the cluster. It begins at one second.
    public internal(set) var now = Ticks(nanoseconds: 1_000_000_000)
    /// What the network and the disks do at random. May be changed while the cluster runs.
    public var options: Options
    /// Happenings so far: arrivals, refusals, closes, commits and timers.
    public internal(set) var eventCount: UInt64 = 0
    /// What was done to messages, connections, disks and nodes.
    public internal(set) var counters = FaultCounters()
    /// Called for what servers and clients tell, in order.
    public var onServer: (Int, ServerAction) -> Void = { _, _ in }
    public var onClient: (Int, ClientEvent) -> Void = { _, _ in }
    /// Called when a process ended of itself: by a crash in mid-step.
    public var onDeath: (Int) -> Void = { _ in }
    /// Called when a node was let work.
    public var onSettled: ((Int) -> Void)?
    /// Called for every LNet message that is sent, dropped or delivered, where anybody listens.
    public var onMessage: ((MessageMoment, SimulatedMessage) -> Void)?

    var random: SplitMix64
    var nodes: [SimulatedNode] = []
    var byAddress: [UInt32: Int] = [:]
    var network = SimulatedNetwork()
    var disks: [ObjectIdentifier: SimulatedDisk] = [:]
    var queue = TimerQueue<SlotHandle>()
    var happenings = SlotTable<Happening>()
    var hash = StableHash()
    var portCounter: UInt16 = 1024

    /// Where every node listens.
    public static let acceptPort: UInt16 = 9988
    /// The wall clock's seconds when virtual time is zero.
    static let wallBase: UInt64 = 1_800_000_000

    public init(seed: UInt64, options: Options = Options()) {
        random = SplitMix64(seed: seed)
        self.options = options
    }

    /// What happens at an instant.
    enum Happening {
        /// `tries`: how often TCP has sent it before.
        case connectArrives(link: SlotHandle, to: UInt32, from: UInt32, tries: Int)
        /// TCP has had no answer to the above.
        case connectRepeats(link: SlotHandle, to: UInt32, from: UInt32, tries: Int)
        case established(link: SlotHandle)
        case refused(NodeEnd)
        case bytes(link: SlotHandle, toA: Bool, [UInt8], SimulatedMessage?)
        case closed(NodeEnd, errno: Int32)
        case diskDone(node: Int, life: Int, CommitGroup)
        case diskRetries(node: Int, life: Int, CommitGroup)
        case wake(node: Int, life: Int)
        case act((SimulatedCluster) -> Void)
    }

    /// The cluster's time of day.
    public var wall: Timestamp { Self.wall(at: now) }

    static func wall(at time: Ticks) -> Timestamp {
        Timestamp(
            seconds: Int64(Self.wallBase + time.nanoseconds / 1_000_000_000),
            nanoseconds: UInt32(time.nanoseconds % 1_000_000_000))
    }

    /// The same for equal seeds: every delivery, in its order and at its time.
    public var digest: UInt64 { hash.value }

    /// Draws from the cluster's own chance: for loads that want one seed for everything.
    public func draw() -> UInt64 { random.next() }

    // MARK: Time

    /// Runs until `isDone` holds or virtual time reaches `limit`. True where it came to hold.
    @discardableResult
    public func run(until limit: Ticks, _ isDone: () -> Bool = { false }) -> Bool {
        while !isDone() {
            guard let deadline = queue.nextDeadline, deadline <= limit else {
                now = max(now, limit)
                return isDone()
            }
            now = max(now, deadline)
            guard let place = queue.popDue(now: now), let happening = happenings.remove(place)
            else { continue }
            eventCount += 1
            happen(happening)
        }
        return true
    }

    /// Runs for so long.
    public func run(for interval: TickInterval) { run(until: now + interval) }

    /// Calls `body` at an instant, between other happenings: how a script lets things go wrong
    /// in the middle of what nodes do. At once where the instant is past.
    public func at(_ time: Ticks, _ body: @escaping (SimulatedCluster) -> Void) {
        schedule(.act(body), at: max(now, time))
    }

    func schedule(_ happening: Happening, at time: Ticks) {
        queue.insert(happenings.insert(happening), at: time)
    }

    func latency() -> TickInterval { between(options.latencyMin, options.latencyMax) }

    func between(_ low: TickInterval, _ high: TickInterval) -> TickInterval {
        let span = high.nanoseconds - low.nanoseconds
        return TickInterval(
            nanoseconds: low.nanoseconds + (span == 0 ? 0 : random.next() % (span + 1)))
    }

    func note(_ kind: UInt64, _ node: Int, _ detail: UInt64) {
        hash.combine(now.nanoseconds)
        hash.combine(kind << 32 | UInt64(node))
        hash.combine(detail)
    }

    private func happen(_ happening: Happening) {
        if let node = concerned(happening), nodes[node].isPaused {
            nodes[node].backlog.append(happening)
            return
        }
        switch happening {
        case .connectArrives(let link, let to, let from, let tries):
            connectArrives(link, to: to, from: from, tries: tries)
        case .connectRepeats(let link, let to, let from, let tries):
            sendConnect(link, to: to, from: from, tries: tries)
        case .established(let link): established(link)
        case .refused(let end): refused(end)
        case .bytes(let link, let toA, let bytes, let message):
            arrive(bytes, message, on: link, toA: toA)
        case .closed(let end, let errno): closed(end, errno: errno)
        case .diskDone(let node, let life, let group): diskDone(node, life, group)
        case .diskRetries(let node, let life, let group):
            if nodes[node].life == life { startCommit(node, group) }
        case .wake(let node, let life):
            // One that an earlier one has made needless: without this, none would ever go away.
            guard nodes[node].life == life, nodes[node].wakeAt <= now else { return }
            nodes[node].wakeAt = .distantFuture
            counters.wakes += 1
            settle(node)
        case .act(let body): body(self)
        }
    }

    /// The node whose processor the happening needs: one that hangs gets it when it wakes.
    private func concerned(_ happening: Happening) -> Int? {
        switch happening {
        case .connectArrives(_, let to, _, _): byAddress[to]
        case .connectRepeats: nil
        case .established(let link): network.links[link]?.a?.node
        case .refused(let end), .closed(let end, _): end.node
        case .bytes(let link, let toA, _, _):
            toA ? network.links[link]?.a?.node : network.links[link]?.b?.node
        case .diskDone(let node, _, _), .diskRetries(let node, _, _), .wake(let node, _): node
        case .act: nil
        }
    }
}
