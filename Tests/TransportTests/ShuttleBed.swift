import LNDCore
import LNetCore
import Primitives
import WireFormat

/// Two nodes over RDMA without a device: queue pairs, registered memory and the connection manager
/// in memory, in an order of one seed.
final class ShuttleBed: Bed {
    /// Something on its way to a node.
    private enum Item {
        case requested(from: Int, key: UInt64, [UInt8])
        case accepted(key: UInt64, [UInt8])
        case refused(key: UInt64, [UInt8])
        case ready(key: UInt64)
        /// Work of the sender's queue pair: writes first, then the message.
        case write(key: UInt64, bytes: [UInt8], to: UInt64, rkey: UInt32)
        case message(key: UInt64, [UInt8], sender: UInt64, work: UInt64, tells: Bool)
        case closed(key: UInt64)
    }

    let name = "in memory"
    let isRDMA = true
    let nids: [NID]
    var events: [[BedEvent]] = [[], []]
    private var nodes: [LNetCore] = []
    private var random: SplitMix64
    private var now = Ticks(nanoseconds: 1_000_000)
    /// The other end of a connection, by node and key; nil while it has none.
    private var peers: [[UInt64: UInt64?]] = [[:], [:]]
    /// On their way to each node, in order.
    private var flights: [[Item]] = [[], []]
    private var owed: [Set<UInt64>] = [[], []]
    /// Registered memory of both nodes, by slot.
    private var memory: [UInt64: [UInt8]] = [:]
    private var nextSlot: UInt64 = 1
    private var free: [Int]
    private let memoryBytes: Int
    private var waiting: [[(request: UInt64, byteCount: Int, isSource: Bool)]] = [[], []]
    private let configure: (inout LNetConfiguration) -> Void

    init(
        seed: UInt64, memoryBytes: Int = 16 << 20,
        configure: @escaping (inout LNetConfiguration) -> Void = { _ in }
    ) {
        random = SplitMix64(seed: seed)
        self.memoryBytes = memoryBytes
        self.configure = configure
        free = [memoryBytes, memoryBytes]
        nids = [
            NID(address: 0x0A4D_0001, type: .o2ib), NID(address: 0x0A4D_0002, type: .o2ib),
        ]
        for node in 0..<2 { nodes.append(make(node)) }
    }

    private func make(_ node: Int) -> LNetCore {
        var configuration = LNetConfiguration(
            nid: nids[node], incarnation: now.nanoseconds + UInt64(node), acceptPort: 9988,
            seed: UInt64(node))
        configuration.reconnectMin = .milliseconds(1)
        configuration.reconnectMax = .milliseconds(10)
        configure(&configuration)
        return LNetCore(configuration)
    }

    var heldConnections: Int { peers.reduce(0) { $0 + $1.count } }

    var freeMemory: Int { free.reduce(0, +) }

    func with<R>(_ node: Int, _ body: (inout LNetCore, Ticks) -> R) -> R {
        body(&nodes[node], now)
    }

    func run(_ isDone: () -> Bool) -> Bool {
        // How often time jumps: what needs more waits for something that does not come.
        var jumps = 0
        for _ in 0..<400_000 {
            if isDone() { return true }
            if !turn() {
                jumps += 1
                guard jumps < 300 else { return false }
                // Nothing moves: let time pass to the next thing that is due.
                let due = nodes.compactMap(\.nextDeadline).min() ?? .distantFuture
                guard due < now + .seconds(20) else { return isDone() }
                now = max(now, due)
                for node in 0..<2 {
                    nodes[node].tick(now)
                    settle(node)
                }
            }
        }
        return isDone()
    }

    func step(_ count: Int) { for _ in 0..<count { _ = turn() } }

    /// Delivers one thing. False where there is none.
    private func turn() -> Bool {
        now = now + .microseconds(1)
        for node in 0..<2 { settle(node) }
        let ready = (0..<2).filter { !flights[$0].isEmpty }
        guard !ready.isEmpty else { return false }
        let node = ready[random.below(ready.count)]
        deliver(flights[node].removeFirst(), to: node)
        settle(node)
        settle(1 - node)
        return true
    }

    private func deliver(_ item: Item, to node: Int) {
        switch item {
        case .requested(let from, let key, let data):
            let address = nids[from].address
            let own = nids[node]
            let answer = RawSpan.over(data) {
                nodes[node].o2ibRequested(
                    $0, remoteAddress: address, remotePort: 9000, on: own, now: now)
            }
            switch answer {
            case .accept(let accepted, let acknowledgement):
                // The carrying queue pairs know each other from here on.
                guard peers[from][key] != nil else {
                    peers[node][accepted] = .some(nil)
                    flights[node].append(.closed(key: accepted))
                    return
                }
                peers[node][accepted] = key
                peers[from][key] = accepted
                flights[from].append(.accepted(key: key, acknowledgement))
                flights[node].append(.ready(key: accepted))
            case .reject(let reason):
                flights[from].append(.refused(key: key, reason))
            }
        case .accepted(let key, let data):
            guard peers[node][key] != nil else { return }
            RawSpan.over(data) {
                nodes[node].o2ibEstablished(key, privateData: $0, remoteKey: 7, now: now)
            }
        case .ready(let key):
            guard peers[node][key] != nil else { return }
            RawSpan.over([]) {
                nodes[node].o2ibEstablished(key, privateData: $0, remoteKey: 7, now: now)
            }
        case .refused(let key, let data):
            guard peers[node].removeValue(forKey: key) != nil else { return }
            RawSpan.over(data) {
                nodes[node].o2ibRefused(key, reason: 28, privateData: $0, now: now)
            }
        case .write(let key, let bytes, let to, let rkey):
            guard peers[node][key] != nil else { return }
            precondition(rkey == 7, "the key that was given")
            let target = Int(to & 0xffff_ffff)
            precondition(
                memory[to >> 32] != nil, "memory is written only while it is held")
            memory[to >> 32]!.replaceSubrange(target..<(target + bytes.count), with: bytes)
        case .message(let key, let bytes, let sender, let work, let tells):
            guard peers[node][key] != nil else { return }
            RawSpan.over(bytes) { nodes[node].o2ibReceived(key, $0, now: now) }
            if tells, peers[1 - node][sender] != nil {
                nodes[1 - node].o2ibCompleted(sender, work: work, now: now)
            }
        case .closed(let key):
            guard peers[node].removeValue(forKey: key) != nil else { return }
            nodes[node].o2ibClosed(key, errno: 0, status: 0, now: now)
        }
    }

    /// What the device reads when the work is posted.
    private func source(_ address: UInt64, _ byteCount: UInt32) -> [UInt8] {
        guard let held = memory[address >> 32] else {
            preconditionFailure("memory is read only while it is held")
        }
        let start = Int(address & 0xffff_ffff)
        return Array(held[start..<(start + Int(byteCount))])
    }

    private func settle(_ node: Int) {
        repeat {
            while let action = nodes[node].actions.popFirst() {
                guard case .o2ib(let action) = action else { continue }
                carryOut(action, node)
            }
            for key in owed[node].sorted() { post(node, key) }
            grantWaiting(node)
        } while !nodes[node].actions.isEmpty
        while let event = nodes[node].events.popFirst() { note(node, event) }
        if nodes[node].nextDeadline == .zero { nodes[node].tick(now) }
    }

    private func note(_ node: Int, _ event: LNetEvent) {
        if let told = BedEvent(event, nodes[node]) { events[node].append(told) }
    }

    private func carryOut(_ action: O2IBAction, _ node: Int) {
        switch action {
        case .connect(let key, _, _, _, _, let data):
            peers[node][key] = .some(nil)
            flights[1 - node].append(.requested(from: node, key: key, data))
        case .close(let key):
            disconnect(node, key)
        case .flush(let key):
            owed[node].insert(key)
        case .reserve(let request, let byteCount, let isSource):
            waiting[node].append((request, byteCount, isSource))
        case .collect(let request, let slot, let byteCount):
            let bytes = Array((memory[slot.id] ?? []).prefix(byteCount))
            RawSpan.over(bytes) { nodes[node].bulkCollected(request, $0, now: now) }
        case .store(let slot, let offset, let bytes):
            memory[slot.id]?.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
        case .release(let slot):
            release(node, slot)
        }
    }

    private func disconnect(_ node: Int, _ key: UInt64) {
        owed[node].remove(key)
        guard let other = peers[node].removeValue(forKey: key) else { return }
        if let other { flights[1 - node].append(.closed(key: other)) }
    }

    private func post(_ node: Int, _ key: UInt64) {
        guard case .some(.some(let other)) = peers[node][key] else {
            owed[node].remove(key)
            return
        }
        // Sometimes there is room for a little only.
        var room = random.oneIn(3) ? random.below(4) : 1000
        var items: [Item] = []
        let tookAll = nodes[node].withO2IBWork(key) { work, bytes in
            guard room > 0 else { return false }
            room -= 1
            switch work {
            case .write(let from, let byteCount, let to, let rkey):
                items.append(
                    .write(key: other, bytes: source(from, byteCount), to: to, rkey: rkey))
            case .message(let work, let tells):
                items.append(
                    .message(
                        key: other, bytes.copy(0..<bytes.byteCount), sender: key, work: work,
                        tells: tells))
            }
            return true
        }
        flights[1 - node] += items
        if tookAll { owed[node].remove(key) }
    }

    private func grantWaiting(_ node: Int) {
        var kept: [(request: UInt64, byteCount: Int, isSource: Bool)] = []
        for wish in waiting[node] {
            // A quarter is for sources.
            let limit = wish.isSource ? 0 : memoryBytes / 4
            guard free[node] - wish.byteCount >= limit, let slot = reserve(node, wish.byteCount)
            else {
                kept.append(wish)
                continue
            }
            nodes[node].bulkGranted(wish.request, slot, now: now) { bytes in
                memory[slot.id]!.replaceSubrange(
                    0..<bytes.byteCount, with: bytes.copy(0..<bytes.byteCount))
            }
        }
        waiting[node] = kept
    }

    func breakConnections() {
        for node in 0..<2 {
            flights[node].removeAll()
            for key in peers[node].keys.sorted() {
                peers[node][key] = nil
                owed[node].remove(key)
                nodes[node].o2ibClosed(key, errno: 5, status: 5, now: now)
            }
        }
    }

    func restart(_ node: Int) {
        for key in peers[node].keys.sorted() { disconnect(node, key) }
        flights[node].removeAll()
        waiting[node].removeAll()
        owed[node].removeAll()
        // Its memory goes with it.
        for id in memory.keys where id & 1 == UInt64(node) { memory[id] = nil }
        free[node] = memoryBytes
        now = now + .milliseconds(1)
        nodes[node] = make(node)
        events[node].removeAll()
    }

    func reserve(_ node: Int, _ byteCount: Int) -> BulkSlot? {
        guard free[node] >= byteCount else { return nil }
        free[node] -= byteCount
        nextSlot += 1
        let id = nextSlot << 1 | UInt64(node)
        memory[id] = [UInt8](repeating: 0xEE, count: byteCount)
        return BulkSlot(
            id: id, address: id << 32, byteCount: UInt32(byteCount), isSource: false)
    }

    func release(_ node: Int, _ slot: BulkSlot) {
        precondition(memory.removeValue(forKey: slot.id) != nil, "released once")
        free[node] += Int(slot.byteCount)
    }

    func fill(_ node: Int, _ slot: BulkSlot, _ bytes: [UInt8]) {
        memory[slot.id]?.replaceSubrange(0..<bytes.count, with: bytes)
    }

    func read(_ node: Int, _ slot: BulkSlot, _ byteCount: Int) -> [UInt8] {
        Array((memory[slot.id] ?? []).prefix(byteCount))
    }
}

extension BedEvent {
    init?(_ event: LNetEvent, _ lnet: borrowing LNetCore) {
        switch event {
        case .put(let put):
            self = .put(
                portal: put.portal, matchBits: put.matchBits,
                bytes: lnet.withPayload(put.payload) { $0.copy(0..<$0.byteCount) },
                offset: put.offset, rlength: put.rlength)
        case .putFailed(let cookie, _, _, _): self = .putFailed(cookie)
        case .get(let get): self = .get(get.cookie, get.mlength)
        case .ack(let cookie, let mlength): self = .ack(cookie, mlength)
        case .reply(let reply):
            self = .reply(
                reply.cookie, reply.length,
                lnet.withPayload(reply.payload) { $0.copy(0..<$0.byteCount) })
        case .sendFailed(let cookie, let errno): self = .failed(cookie, errno)
        case .peerUp(let nid): self = .up(nid)
        case .peerDown(let nid, _): self = .down(nid)
        case .pinged(let ping): self = .pinged(ping.errno)
        case .discovered: return nil
        }
    }
}
