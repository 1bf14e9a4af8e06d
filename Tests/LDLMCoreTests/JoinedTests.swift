import LDLMCore
import Primitives
import Testing
import WireFormat

/// One server and several clients, joined by channels that delay at random and keep their order.
private struct World {
    enum Request {
        case enqueue(LDLMRequest)
        case cancel(UInt64)
    }

    enum Notice {
        case reply(cookie: UInt64, EnqueueResult)
        case action(LockAction)
    }

    struct Channel<Message> {
        var queue: [(due: Int, message: Message)] = []

        mutating func send(_ message: Message, now: Int, _ random: inout SplitMix64) {
            let due = max(now + 1 + random.below(6), queue.last?.due ?? 0)
            queue.append((due, message))
        }

        mutating func receive(now: Int) -> Message? {
            guard let first = queue.first, first.due <= now else { return nil }
            return queue.removeFirst().message
        }
    }

    struct Node {
        var cache = LockClient(unusedCountMax: 3)
        var toServer = Channel<Request>()
        var fromServer = Channel<Notice>()
        /// Locks in use and when their operation ends.
        var inUse: [(lock: SlotHandle, until: Int)] = []
        var flushing: [(lock: SlotHandle, until: Int)] = []
        var waiting: Set<UInt64> = []
        /// What operations have asked for.
        var wants: [UInt64: (resource: ResourceID, mode: LockMode, policy: LockPolicy)] = [:]
        /// The step of its return, while it is away from a restarted server.
        var returnsAt: Int?
    }

    var random: SplitMix64
    var server = LockServer(
        LockServerConfiguration(instance: 1, callbackTimeout: .seconds(1_000_000)))
    var nodes: [Node]
    var step = 0
    var nextOperation: UInt64 = 1
    var started = 0
    var finished = 0
    let modes: [LockMode] = [.pr, .pr, .pw, .ex, .cr, .cw]

    init(seed: UInt64, nodeCount: Int) {
        random = SplitMix64(seed: seed)
        nodes = (0..<nodeCount).map { _ in Node() }
    }

    mutating func run(isStarting: Bool) {
        step += 1
        let now = Ticks(nanoseconds: UInt64(step))
        for index in nodes.indices {
            if isStarting, random.oneIn(4), nodes[index].waiting.count < 3 { start(index) }
            operate(index)
            if let back = nodes[index].returnsAt {
                if step >= back { rejoin(index, now: now) }
                deliver()
                continue
            }
            while let request = nodes[index].toServer.receive(now: step) {
                serve(request, from: index, now: now)
            }
            deliver()
            while let notice = nodes[index].fromServer.receive(now: step) {
                hear(notice, at: index)
            }
            act(index)
        }
    }

    /// A clean stop and the next instance: everything in flight is lost, and clients return one by
    /// one while others already work.
    mutating func restart() {
        server.seal()
        let reservations = server.reservations { UInt64($0.index) }
        server = LockServer(
            LockServerConfiguration(
                instance: server.configuration.instance + 1,
                callbackTimeout: .seconds(1_000_000)))
        for reservation in reservations {
            #expect(
                server.install(reservation, owner: client(UInt32(reservation.ownerKey))) == true)
        }
        for index in nodes.indices {
            nodes[index].fromServer.queue.removeAll()
            nodes[index].returnsAt = step + random.below(40)
        }
    }

    /// Replays the locks, sends again what was never answered, and gives up the rest.
    private mutating func rejoin(_ index: Int, now: Ticks) {
        let owner = client(UInt32(index))
        nodes[index].returnsAt = nil
        let cache = nodes[index].cache
        let unanswered = cache.handles.compactMap { cache.info($0) }
            .filter { $0.state == .enqueuing }
            .map { LockReplay(lock: $0.handle, descriptor: $0.descriptor, isGranted: false) }
        for replay in cache.replayList() + unanswered {
            let result = server.enqueueReplay(
                owner: owner, resource: replay.descriptor.resource.id,
                mode: replay.descriptor.requestedMode ?? .nl, policy: replay.descriptor.policy,
                clientCookie: replay.lock.rawValue, isGranted: replay.isGranted, now: now)
            #expect(result.outcome == .granted || (!replay.isGranted && result.outcome == .waiting))
            nodes[index].fromServer.send(
                .reply(cookie: replay.lock.rawValue, result), now: step, &random)
        }
        for case (_, .cancel(let cookie)) in nodes[index].toServer.queue {
            let handle = SlotHandle(rawValue: cookie)
            #expect(server.cancel(handle, owner: owner, now: now) == .unknown)
        }
        nodes[index].toServer.queue.removeAll()
        server.releaseUnclaimed(owner, now: now)
    }

    private mutating func start(_ index: Int) {
        let first = UInt64(random.below(12))
        let policy = LockPolicy.extent(
            Extent(start: first, end: first + UInt64(random.below(5))))
        let operation = nextOperation
        nextOperation += 1
        started += 1
        let resource = ResourceID(UInt64(1 + random.below(3)))
        let mode = modes[random.below(modes.count)]
        nodes[index].wants[operation] = (resource, mode, policy)
        acquire(operation, index)
    }

    private mutating func acquire(_ operation: UInt64, _ index: Int) {
        guard let (resource, mode, policy) = nodes[index].wants[operation] else { return }
        switch nodes[index].cache.acquire(resource, mode, policy, operation: operation) {
        case .granted(let lock):
            nodes[index].waiting.remove(operation)
            nodes[index].inUse.append((lock, step + random.below(8)))
        case .pending, .later:
            nodes[index].waiting.insert(operation)
        }
    }

    private mutating func operate(_ index: Int) {
        let now = step
        for use in nodes[index].inUse where use.until <= now {
            nodes[index].cache.release(use.lock)
            finished += 1
        }
        nodes[index].inUse.removeAll { $0.until <= now }
        for flush in nodes[index].flushing where flush.until <= now {
            nodes[index].cache.flushed(flush.lock)
        }
        nodes[index].flushing.removeAll { $0.until <= now }
        act(index)
    }

    /// Does what the cache says.
    private mutating func act(_ index: Int) {
        while let action = nodes[index].cache.actions.popFirst() {
            switch action {
            case .enqueue(let lock):
                guard let info = nodes[index].cache.info(lock) else {
                    Issue.record("an enqueue of a lock that is not there")
                    continue
                }
                var early: [UInt64] = []
                if random.oneIn(2) {
                    early = nodes[index].cache.takeConflictingUnused(
                        info.resource, info.mode, info.policy, limit: 4
                    ) { _, _ in true }
                }
                let request = LDLMRequest.enqueue(
                    cookie: lock.rawValue, flags: info.flags, descriptor: info.descriptor,
                    cancelling: early)
                nodes[index].toServer.send(.enqueue(request), now: step, &random)
                // Sent again before anything else: the server tells the same once more.
                if random.oneIn(8) {
                    nodes[index].toServer.send(.enqueue(request), now: step, &random)
                }
            case .flushAndCancel(let lock):
                nodes[index].flushing.append((lock, step + random.below(6)))
            case .cancel(let cookie):
                nodes[index].toServer.send(.cancel(cookie), now: step, &random)
            case .wake(let operation, let lock):
                #expect(nodes[index].waiting.remove(operation) != nil)
                nodes[index].inUse.append((lock, step + random.below(8)))
            case .retry(let operation):
                #expect(nodes[index].waiting.contains(operation))
                acquire(operation, index)
            case .failed, .lost, .dropBits, .convert:
                Issue.record("nothing may be lost here")
            }
        }
    }

    private mutating func serve(_ request: Request, from index: Int, now: Ticks) {
        let owner = client(UInt32(index))
        switch request {
        case .enqueue(let request):
            var early: [UInt64] = []
            request.forEachEarlyCancel { early.append($0) }
            for cookie in early {
                server.cancel(SlotHandle(rawValue: cookie), owner: owner, now: now)
            }
            let result = server.enqueue(
                owner: owner, resource: request.descriptor.resource.id,
                mode: request.descriptor.requestedMode ?? .nl, policy: request.descriptor.policy,
                clientCookie: request.handle0, flags: request.flags, now: now)
            nodes[index].fromServer.send(
                .reply(cookie: request.handle0, result), now: step, &random)
        case .cancel(let cookie):
            let result = server.cancel(SlotHandle(rawValue: cookie), owner: owner, now: now)
            #expect(result != .notOwner)
        }
    }

    /// Puts what the server says onto the channels, some of it twice.
    private mutating func deliver() {
        while let action = server.actions.popFirst() {
            let owner: LockOwner
            switch action {
            case .blockingAST(_, let to, _, _), .completionAST(_, let to, _, _, _): owner = to
            case .granted, .callbackExpired, .reservationExpired:
                Issue.record("not in this world")
                continue
            }
            for _ in 0..<(random.oneIn(5) ? 2 : 1) {
                nodes[Int(owner.index)].fromServer.send(.action(action), now: step, &random)
            }
        }
    }

    private mutating func hear(_ notice: Notice, at index: Int) {
        switch notice {
        case .reply(let cookie, let result):
            let heard = nodes[index].cache.enqueueReply(
                SlotHandle(rawValue: cookie), serverCookie: result.lock.rawValue,
                isGranted: result.outcome == .granted, mode: result.mode, policy: result.policy,
                flags: result.flags)
            #expect(heard != .refused)
        case .action(.blockingAST(_, _, let cookie, _)):
            nodes[index].cache.blockingAST(clientCookie: cookie)
        case .action(.completionAST(let lock, _, let cookie, let granted, let flags)):
            let heard = nodes[index].cache.completionAST(
                clientCookie: cookie, serverCookie: lock.rawValue,
                mode: granted.grantedMode ?? .nl, policy: granted.policy, flags: flags)
            #expect(heard != .refused)
        case .action:
            break
        }
    }

    /// No two clients believe to hold what they may not hold together.
    func check(_ seed: UInt64) {
        let held = nodes.map { node in
            node.cache.handles.compactMap { node.cache.info($0) }.filter {
                $0.state == .granted || $0.state == .cancelling
            }
        }
        for one in held.indices {
            for other in held.indices where other > one {
                for a in held[one] {
                    for b in held[other] where a.resource == b.resource {
                        #expect(
                            !conflict(a.mode, a.policy, b.mode, b.policy),
                            "seed \(seed) step \(step)")
                    }
                }
            }
        }
    }
}

@Suite struct JoinedTests {
    @Test(arguments: UInt64(1)...25)
    func `clients and server keep conflicting locks apart, and every operation ends`(
        seed: UInt64
    ) {
        var world = World(seed: seed, nodeCount: 3)
        for _ in 0..<500 {
            world.run(isStarting: true)
            world.check(seed)
        }
        for _ in 0..<3000 where world.finished < world.started { world.run(isStarting: false) }
        #expect(world.started > 100)
        #expect(world.finished == world.started, "seed \(seed)")
        #expect(world.server.waitingCount == 0, "seed \(seed)")
    }

    @Test(arguments: UInt64(1)...25)
    func `clean restarts give no lock away and lose no operation`(seed: UInt64) {
        var world = World(seed: seed, nodeCount: 3)
        for round in 0..<5 {
            for _ in 0..<(60 + round * 17) {
                world.run(isStarting: true)
                world.check(seed)
            }
            world.restart()
        }
        for _ in 0..<3000 where world.finished < world.started {
            world.run(isStarting: false)
            world.check(seed)
        }
        #expect(world.finished == world.started, "seed \(seed)")
        #expect(world.server.waitingCount == 0, "seed \(seed)")
        #expect(world.server.reservedCount == 0, "seed \(seed)")
    }
}
