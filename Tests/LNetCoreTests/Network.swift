import LNetCore
import Primitives
import WireFormat

/// Nodes and the sockets between them in one process: bytes move in random pieces, in the order
/// of one seed.
struct Network {
    struct Socket {
        /// Node index and connection key of both ends; key nil where it is closed or not there yet.
        var nodes: [Int]
        var keys: [UInt64?]
        var addresses: [UInt32]
        /// Bytes on their way to each end.
        var inFlight: [[UInt8]] = [[], []]
        /// The other end closed; told once what was in flight is read.
        var ends: [Bool] = [false, false]
    }

    var nodes: [LNetCore] = []
    var events: [[LNetEvent]] = []
    /// Payloads of `.put` and `.reply` events with memory of events, by node and event index.
    var payloads: [[[UInt8]]] = []
    var sockets: [Socket] = []
    var random: SplitMix64
    var now = Ticks(nanoseconds: 1_000_000)
    /// Nodes that refuse connections.
    var refusing: Set<Int> = []
    /// Addresses whose cable is cut.
    var dead: Set<UInt32> = []
    /// Addresses of machines that are off: a connect to one has no answer.
    var off: Set<UInt32> = []
    /// Connections that a node does not read, and how often it stopped to.
    var paused: [Set<UInt64>] = []
    var maxPiece = 3000
    /// All bytes that an end sent, per socket and end, when recording.
    var recorded: [[[UInt8]]] = []
    var flushesPending: [Set<UInt64>] = []
    var remotePort: UInt16 = 40_000
    var connects = 0

    init(seed: UInt64) { random = SplitMix64(seed: seed) }

    static func nid(_ index: Int) -> NID {
        NID(address: 0x7F00_0101 + UInt32(index), type: .tcp)
    }

    @discardableResult
    mutating func add(_ change: (inout LNetConfiguration) -> Void = { _ in }) -> Int {
        let index = nodes.count
        var configuration = LNetConfiguration(
            nid: Self.nid(index), incarnation: 1000 + UInt64(index), acceptPort: 9880,
            seed: UInt64(index))
        configuration.reconnectMin = .milliseconds(50)
        configuration.reconnectMax = .milliseconds(400)
        change(&configuration)
        nodes.append(LNetCore(configuration))
        events.append([])
        payloads.append([])
        flushesPending.append([])
        paused.append([])
        return index
    }

    /// A new lifetime of a node at the same NID; its sockets die.
    mutating func restart(_ node: Int) {
        var configuration = nodes[node].configuration
        configuration.incarnation += 1_000_000
        nodes[node] = LNetCore(configuration)
        flushesPending[node] = []
        for index in sockets.indices {
            for end in 0..<2 where sockets[index].nodes[end] == node {
                if sockets[index].keys[end] != nil {
                    sockets[index].keys[end] = nil
                    sockets[index].ends[1 - end] = true
                    sockets[index].inFlight[end] = []
                }
            }
        }
    }

    /// Cuts every socket of a node, as if the cable did with a reset.
    mutating func cut(_ node: Int, errno: Int32 = 104) {
        for index in sockets.indices where sockets[index].nodes.contains(node) {
            for end in 0..<2 {
                sockets[index].inFlight[end] = []
                if let key = sockets[index].keys[end] {
                    sockets[index].keys[end] = nil
                    nodes[sockets[index].nodes[end]].closed(key, errno: errno, now: now)
                }
            }
        }
        for node in nodes.indices { collect(node) }
    }

    /// Cuts the cable of an address: its sockets end, and none comes about.
    mutating func kill(_ address: UInt32) {
        dead.insert(address)
        for index in sockets.indices where sockets[index].addresses.contains(address) {
            for end in 0..<2 {
                sockets[index].inFlight[end] = []
                if let key = sockets[index].keys[end] {
                    sockets[index].keys[end] = nil
                    nodes[sockets[index].nodes[end]].closed(key, errno: 104, now: now)
                }
            }
        }
        for node in nodes.indices { collect(node) }
    }

    /// Nodes that run lnet_selftest take their events themselves.
    var selftests: [Int: SelftestNode] = [:]

    mutating func collect(_ node: Int) {
        while let event = nodes[node].events.popFirst() {
            if selftests[node] != nil {
                selftests[node]?.take(event, &nodes[node], now: now)
                continue
            }
            events[node].append(event)
            switch event {
            case .put(let put): payloads[node].append(bytes(node, put.payload))
            case .reply(let reply): payloads[node].append(bytes(node, reply.payload))
            case .pinged(let ping): payloads[node].append(bytes(node, ping.payload))
            default: payloads[node].append([])
            }
        }
    }

    func bytes(_ node: Int, _ range: Range<Int>) -> [UInt8] {
        nodes[node].withPayload(range) { $0.copy(0..<$0.byteCount) }
    }

    private mutating func act(_ node: Int) -> Bool {
        var didAct = false
        while let action = nodes[node].actions.popFirst() {
            didAct = true
            switch action {
            case .o2ib: preconditionFailure("these nodes are on TCP")
            case .connect(let key, let fromIP, let toIP, let port, _):
                let (from, to) = (fromIP.v4, toIP.v4)
                precondition(nodes[node].nids.contains { $0.ip == fromIP } && port == 9880)
                connects += 1
                if off.contains(to) { continue }
                guard
                    let target = nodes.indices.first(where: {
                        nodes[$0].nids.contains { $0.ip == toIP }
                    }), !refusing.contains(target), !dead.contains(from), !dead.contains(to)
                else {
                    nodes[node].closed(key, errno: 111, now: now)
                    collect(node)
                    continue
                }
                remotePort &+= 1
                let accepted = nodes[target].accepted(
                    remoteAddress: fromIP, remotePort: remotePort,
                    on: nodes[target].nids.first { $0.ip == toIP }, now: now)
                sockets.append(
                    Socket(nodes: [node, target], keys: [key, accepted], addresses: [from, to]))
                recorded.append([[], []])
                nodes[node].established(key, now: now)
            case .close(let key):
                guard let (index, end) = find(node, key) else { continue }
                sockets[index].keys[end] = nil
                sockets[index].ends[1 - end] = true
                sockets[index].inFlight[end] = []
            case .pause(let key): paused[node].insert(key)
            case .resume(let key): paused[node].remove(key)
            case .listen, .unlisten: break
            case .flush(let key):
                precondition(
                    flushesPending[node].insert(key).inserted,
                    "at most one flush is pending per connection")
            }
        }
        return didAct
    }

    private func find(_ node: Int, _ key: UInt64) -> (Int, Int)? {
        for index in sockets.indices.reversed() {
            for end in 0..<2
            where sockets[index].nodes[end] == node && sockets[index].keys[end] == key {
                return (index, end)
            }
        }
        return nil
    }

    private mutating func flush(_ node: Int) -> Bool {
        var moved = false
        for key in flushesPending[node].sorted() {
            guard let (index, end) = find(node, key) else {
                flushesPending[node].remove(key)
                continue
            }
            // Sometimes the socket takes only part.
            var room = random.oneIn(4) ? random.below(200) : Int.max
            var taken: [UInt8] = []
            let all = nodes[node].withOutput(key) { bytes in
                let count = min(room, bytes.byteCount)
                taken += bytes.copy(0..<count)
                room -= count
                return count
            }
            moved = moved || !taken.isEmpty
            recorded[index][end] += taken
            if sockets[index].keys[1 - end] != nil { sockets[index].inFlight[1 - end] += taken }
            if all { flushesPending[node].remove(key) }
        }
        return moved
    }

    private mutating func deliver() -> Bool {
        var moved = false
        for index in sockets.indices {
            for end in 0..<2 {
                guard let key = sockets[index].keys[end] else { continue }
                let node = sockets[index].nodes[end]
                if paused[node].contains(key) { continue }
                if !sockets[index].inFlight[end].isEmpty {
                    let available = sockets[index].inFlight[end].count
                    let count = min(available, 1 + random.below(maxPiece))
                    let piece = Array(sockets[index].inFlight[end].prefix(count))
                    sockets[index].inFlight[end].removeFirst(count)
                    RawSpan.over(piece) { nodes[node].received(key, $0, now: now) }
                    collect(node)
                    moved = true
                } else if sockets[index].ends[end] {
                    sockets[index].keys[end] = nil
                    sockets[index].ends[end] = false
                    nodes[node].closed(key, errno: 0, now: now)
                    collect(node)
                    moved = true
                }
            }
        }
        return moved
    }

    /// Moves bytes until nothing moves; time stands still but for loopback.
    mutating func settle(rounds: Int = 1_000_000) {
        for _ in 0..<rounds {
            now = now + .microseconds(1)
            var moved = false
            for node in nodes.indices {
                collect(node)
                if nodes[node].nextDeadline == .zero {
                    nodes[node].tick(now)
                    collect(node)
                    moved = true
                }
                if act(node) { moved = true }
                if flush(node) { moved = true }
            }
            if deliver() { moved = true }
            if !moved, nodes.allSatisfy({ $0.actions.isEmpty }),
                flushesPending.allSatisfy(\.isEmpty)
            {
                return
            }
        }
    }

    /// Lets time pass, with every deadline met.
    mutating func run(_ interval: TickInterval) {
        let end = now + interval
        settle()
        while true {
            let next = nodes.compactMap(\.nextDeadline).min() ?? .distantFuture
            guard next <= end else { break }
            if next > now { now = next }
            for node in nodes.indices {
                nodes[node].tick(now)
                collect(node)
            }
            settle()
        }
        if end > now { now = end }
    }
}

func pattern(_ count: Int, _ seed: UInt64 = 1) -> [UInt8] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
}
