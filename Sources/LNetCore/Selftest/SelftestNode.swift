public import Primitives
public import WireFormat

/// A node of lnet_selftest: the services that a console and other nodes ask, and tests of its own.
///
/// The user passes LNet's events and time in. A session of a console has batches, a batch has tests,
/// and a test that runs keeps `concurrency` RPCs under way to each destination.
public struct SelftestNode: Sendable {
    typealias Message = SelftestMessage

    /// An RPC of ours, by its place.
    struct Call: Sendable {
        enum Kind: Sendable {
            /// Of a test that runs.
            case test(Unit)
            /// A console's; told as an outcome.
            case console(id: UInt64)
        }
        var kind: Kind
        var target: NID
        var sentAt: Ticks
        /// A BRW read has seen its bulk, and it was right.
        var isBulkGood = true
    }

    /// One of the RPCs that a test keeps under way.
    struct Unit: Sendable, BitwiseCopyable {
        var batch: UInt64
        var test: Int
        var destination: NID
        var sequence: UInt32
        var remaining: UInt32
    }

    /// A peer's request that waits for its bulk.
    struct Service: Sendable {
        enum Kind: Sendable {
            case bulkRead
            case bulkWrite(check: UInt32)
            /// The destinations of a test, and the test.
            case destinations(batch: UInt64, Instance)
        }
        var kind: Kind
        var peer: NID
        var reply: UInt64
        var at: Ticks
    }

    struct Instance: Sendable {
        var test: SelftestMessage.Test
        var loop: UInt32
        var concurrency: UInt32
        var isClient: Bool
        var stopsOnError: Bool
        var destinations: [NID]
    }

    struct Batch: Sendable {
        var tests: [Instance] = []
        var isRunning = false
        var active = 0
        var errors: UInt32 = 0
    }

    /// The end of a console's RPC.
    public struct Outcome: Sendable {
        public var id: UInt64
        /// Nil: there was no answer.
        public var answer: SelftestMessage.Body?
    }

    public private(set) var counters = SelftestMessage.Counters()
    /// Round trips of this node's own test RPCs in ns, as many as `samplesMax`; then no more.
    public private(set) var roundTrips: [UInt32] = []
    /// RPCs of tests that ended well.
    public private(set) var completedCount: UInt64 = 0
    /// For the console; take them after every call.
    public var outcomes = Outbox<Outcome>()

    var calls = SlotTable<Call>()
    var services = SlotTable<Service>()
    private var session = SelftestMessage.Session.none
    private var sessionName = ""
    private var sessionStart = Ticks.zero
    private var batches: [UInt64: Batch] = [:]
    private var nextSweep = Ticks.distantFuture
    private var writer = WireWriter(capacity: SelftestMessage.encodedSize)
    /// What bulk is filled with, by length.
    private var patterns: [Int: [UInt8]] = [:]

    static let bulkBit: UInt64 = 1 << 63
    /// Marks the list of a test's destinations; the wildcard entry for writes does not match it.
    static let listBit: UInt64 = 1 << 62
    static let callTimeout = TickInterval.seconds(64)
    static let servicesMax = 65_536
    static let batchesMax = 64
    static let testsMax = 1024
    static let concurrencyMax: UInt32 = 4096
    static let destinationsMax: UInt32 = 1024
    static let samplesMax = 1 << 21
    /// EINVAL, EBUSY, ENOENT and EBADMSG as `lnet_selftest` answers them.
    enum Status {
        static let (invalid, busy, absent, corrupt): (UInt32, UInt32, UInt32, UInt32) =
            (22, 16, 2, 74)
    }

    /// Posts what the services need on portals 50 to 52.
    public init(_ lnet: inout LNetCore) {
        for portal in [Message.testPortal, Message.frameworkPortal] {
            _ = lnet.attach(
                portal: portal, matchBits: 0, ignoreBits: .max,
                MemoryDescriptor(
                    memory: .events(lengthMax: Message.encodedSize), options: [.put], threshold: nil
                ),
                cookie: UInt64(portal))
        }
        // Replies, and what a BRW read brings.
        _ = lnet.attach(
            portal: Message.replyPortal, matchBits: 0, ignoreBits: .max,
            MemoryDescriptor(
                memory: .events(lengthMax: LNetHeader.payloadMax), options: [.put], threshold: nil),
            cookie: UInt64(Message.replyPortal))
        // What a BRW write takes from here.
        _ = lnet.attach(
            portal: Message.replyPortal, matchBits: Self.bulkBit, ignoreBits: ~Self.bulkBit,
            MemoryDescriptor(
                memory: .buffer(BulkPattern.bytes(LNetHeader.payloadMax)),
                options: [.get, .manageRemote],
                threshold: nil), cookie: 0)
    }

    // MARK: Driving

    /// When `tick` is due next.
    public var nextDeadline: Ticks? { nextSweep == .distantFuture ? nil : nextSweep }

    /// Ends what was not answered in time.
    public mutating func tick(_ lnet: inout LNetCore, now: Ticks) {
        guard now >= nextSweep else { return }
        nextSweep = calls.count + services.count == 0 ? .distantFuture : now + .seconds(1)
        for index in 0..<calls.slotCount {
            guard let handle = calls.handle(at: index), let call = calls[handle],
                now - call.sentAt > Self.callTimeout
            else { continue }
            calls.remove(handle)
            counters.rpcsExpired &+= 1
            ended(call, nil, &lnet, now)
        }
        for index in 0..<services.slotCount {
            guard let handle = services.handle(at: index), let service = services[handle],
                now - service.at > Self.callTimeout
            else { continue }
            services.remove(handle)
            counters.rpcsDropped &+= 1
        }
    }

    /// Takes one of LNet's events.
    public mutating func take(_ event: LNetEvent, _ lnet: inout LNetCore, now: Ticks) {
        switch event {
        case .put(let put): arrived(put, &lnet, now)
        case .ack(let cookie, _): bulkSent(SlotHandle(rawValue: cookie), &lnet, now)
        case .reply(let reply): bulkTaken(reply, &lnet, now)
        case .sendFailed(let cookie, _):
            if services.remove(SlotHandle(rawValue: cookie)) != nil {
                counters.errors &+= 1
            }
        case .peerDown(let nid, _):
            for index in 0..<calls.slotCount {
                guard let handle = calls.handle(at: index), let call = calls[handle],
                    call.target == nid
                else { continue }
                calls.remove(handle)
                counters.errors &+= 1
                ended(call, nil, &lnet, now)
            }
        case .putFailed, .get, .peerUp, .pinged, .discovered: break
        }
    }

    // MARK: Asking

    /// Sends a console's request; its outcome follows with `id`. The body is made with the match
    /// bits of its reply, and of the bulk that holds the destinations of a test.
    public mutating func ask(
        _ target: NID, id: UInt64, destinations: [NID] = [], _ lnet: inout LNetCore, now: Ticks,
        _ body: (_ reply: UInt64, _ bulk: UInt64) -> SelftestMessage.Body
    ) {
        let handle = calls.insert(Call(kind: .console(id: id), target: target, sentAt: now))
        let list = handle.rawValue | Self.listBit
        if !destinations.isEmpty {
            var packed = WireWriter(capacity: destinations.count * 12)
            for nid in destinations {
                packed.u64(nid.rawValue)
                packed.u32(ProcessID.lustrePID)
            }
            _ = lnet.attach(
                portal: Message.replyPortal, matchBits: list,
                MemoryDescriptor(memory: .buffer(packed.bytes), options: [.get], threshold: 1),
                cookie: 0)
        }
        let made = body(handle.rawValue, destinations.isEmpty ? 0 : list)
        send(made, to: target, handle, &lnet, now)
    }

    private mutating func send(
        _ body: Message.Body, to target: NID, _ handle: SlotHandle, _ lnet: inout LNetCore,
        _ now: Ticks
    ) {
        if nextSweep == .distantFuture { nextSweep = now + .seconds(1) }
        let (portal, service) = Self.place(of: body)
        writer.removeAll()
        Message(body).encode(into: &writer)
        counters.rpcsSent &+= 1
        let isSent = RawSpan.over(writer.bytes) {
            lnet.put(to: target, portal: portal, matchBits: service, payload: $0, now: now)
        }
        if !isSent, let call = calls.remove(handle) {
            counters.errors &+= 1
            ended(call, nil, &lnet, now)
        }
    }

    private static func place(of body: Message.Body) -> (portal: UInt32, service: UInt64) {
        switch body {
        case .makeSession: (Message.frameworkPortal, 1)
        case .removeSession: (Message.frameworkPortal, 2)
        case .batch: (Message.frameworkPortal, 3)
        case .test: (Message.frameworkPortal, 4)
        case .statistics: (Message.frameworkPortal, 5)
        case .bulk: (Message.testPortal, 11)
        case .ping: (Message.testPortal, 12)
        case .sessionMade, .sessionRemoved, .batchDone, .statisticsTold, .testAdded, .bulkDone,
            .pinged:
            preconditionFailure("a reply goes to its request's match bits")
        }
    }

    // MARK: What comes in

    private mutating func arrived(_ put: LNetEvent.Put, _ lnet: inout LNetCore, _ now: Ticks) {
        if put.portal == Message.replyPortal {
            if put.matchBits & Self.bulkBit != 0 {
                bulkArrived(put, lnet)
            } else {
                answered(put, &lnet, now)
            }
            return
        }
        let message = lnet.withPayload(put.payload) { try? Message(parsing: $0) }
        guard let message else {
            counters.errors &+= 1
            return
        }
        counters.rpcsReceived &+= 1
        serve(message, put, &lnet, now)
    }

    private mutating func bulkArrived(_ put: LNetEvent.Put, _ lnet: borrowing LNetCore) {
        let handle = SlotHandle(rawValue: put.matchBits & ~Self.bulkBit)
        guard let call = calls[handle], case .test(let unit) = call.kind,
            let test = batches[unit.batch]?.tests[unit.test].test,
            case .bulk(false, let check, let length, _) = test
        else {
            counters.rpcsDropped &+= 1
            return
        }
        counters.bulkPut &+= UInt64(put.mlength)
        let isGood =
            put.mlength == Int(length)
            && lnet.withPayload(put.payload) { BulkPattern.holds($0, check: UInt32(check)) }
        if !isGood { calls.update(handle) { $0.isBulkGood = false } }
    }

    private mutating func answered(_ put: LNetEvent.Put, _ lnet: inout LNetCore, _ now: Ticks) {
        let message = lnet.withPayload(put.payload) { try? Message(parsing: $0) }
        guard let message, let call = calls.remove(SlotHandle(rawValue: put.matchBits)) else {
            counters.rpcsDropped &+= 1
            return
        }
        counters.rpcsReceived &+= 1
        ended(call, message.body, &lnet, now)
    }

    /// An RPC of ours is over.
    private mutating func ended(
        _ call: Call, _ answer: Message.Body?, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        switch call.kind {
        case .console(let id):
            outcomes.append(Outcome(id: id, answer: answer))
        case .test(var unit):
            var isGood = false
            switch answer {
            case .pinged(0, unit.sequence): isGood = true
            case .bulkDone(0): isGood = call.isBulkGood
            default: break
            }
            if isGood {
                completedCount &+= 1
                if roundTrips.count < Self.samplesMax {
                    roundTrips.append(UInt32(clamping: (now - call.sentAt).nanoseconds))
                }
            } else if case .bulk? = batches[unit.batch]?.tests[unit.test].test {
                counters.brwErrors &+= 1
            } else {
                counters.pingErrors &+= 1
            }
            if unit.remaining != .max { unit.remaining -= 1 }
            unit.sequence &+= 1
            guard let batch = batches[unit.batch] else { return }
            let stops = !isGood && (answer == nil || batch.tests[unit.test].stopsOnError)
            if batch.isRunning, unit.remaining > 0, !stops {
                run(unit, &lnet, now)
            } else {
                batches[unit.batch]?.active -= 1
                if batches[unit.batch]?.active == 0 { batches[unit.batch]?.isRunning = false }
                countBatches()
            }
        }
    }

    private mutating func run(_ unit: Unit, _ lnet: inout LNetCore, _ now: Ticks) {
        guard let instance = batches[unit.batch]?.tests[unit.test] else { return }
        let handle = calls.insert(
            Call(kind: .test(unit), target: unit.destination, sentAt: now))
        let reply = handle.rawValue
        let body: Message.Body
        switch instance.test {
        case .ping:
            body = .ping(
                reply: reply, sequence: unit.sequence, seconds: now.nanoseconds / 1_000_000_000,
                fraction: now.nanoseconds % 1_000_000_000)
        case .bulk(let isWrite, let check, let length, _):
            body = .bulk(
                reply: reply, bulk: reply | Self.bulkBit, isWrite: isWrite, length: length,
                check: UInt32(check))
        }
        send(body, to: unit.destination, handle, &lnet, now)
    }

    // MARK: Services

    private mutating func serve(
        _ message: Message, _ put: LNetEvent.Put, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        let peer = put.peer
        switch message.body {
        case .ping(let reply, let sequence, _, _):
            answer(.pinged(status: 0, sequence: sequence), reply, peer, &lnet, now)
        case .bulk(let reply, let bulk, let isWrite, let length, let check):
            serveBulk(put, reply, bulk, isWrite, length, check, &lnet, now)
        case .makeSession(let reply, let asked, let force, let name):
            var status: UInt32 = 0
            if session != .none, session != asked, !force {
                status = Status.busy
            } else if session != asked {
                begin(asked, name, now)
            }
            answer(
                .sessionMade(status: status, session: session, timeout: 100, name: sessionName),
                reply, peer, &lnet, now)
        case .removeSession(let reply, let asked):
            let status = session == asked ? 0 : Status.absent
            answer(.sessionRemoved(status: status, session: session), reply, peer, &lnet, now)
            if status == 0 { begin(.none, "", now) }
        case .test(
            let reply, let bulk, let asked, let batch, let loop, let concurrency, let isClient,
            let stops, let count, let test):
            addTest(
                put, reply, bulk, asked, batch,
                Instance(
                    test: test, loop: loop, concurrency: concurrency, isClient: isClient,
                    stopsOnError: stops, destinations: []), count, &lnet, now)
        case .batch(let reply, let asked, let batch, let operation, _, _):
            var status: UInt32 = 0
            if asked != session || (batches[batch] == nil && operation != 3) {
                status = Status.absent
            } else if operation == 1 {
                start(batch, &lnet, now)
            } else if operation == 2 {
                batches[batch]?.isRunning = false
            } else if operation != 3 {
                status = Status.invalid
            }
            answer(
                .batchDone(
                    status: status, session: session,
                    active: UInt32(clamping: batches[batch]?.active ?? 0), time: 0), reply, peer,
                &lnet, now)
        case .statistics(let reply, let asked, let type):
            let status = asked != session ? Status.absent : type != 0 ? Status.invalid : 0
            answer(
                .statisticsTold(status: status, session: session, told(lnet, now)), reply, peer,
                &lnet, now)
        case .sessionMade, .sessionRemoved, .batchDone, .statisticsTold, .testAdded, .bulkDone,
            .pinged:
            counters.errors &+= 1
        }
    }

    private mutating func answer(
        _ body: Message.Body, _ reply: UInt64, _ peer: PeerRef, _ lnet: inout LNetCore,
        _ now: Ticks
    ) {
        writer.removeAll()
        Message(body).encode(into: &writer)
        let isSent = RawSpan.over(writer.bytes) {
            lnet.put(
                to: peer, portal: Message.replyPortal, matchBits: reply, payload: $0, now: now)
        }
        if !isSent { counters.errors &+= 1 }
    }

    private mutating func begin(
        _ session: Message.Session, _ name: String, _ now: Ticks
    ) {
        self.session = session
        sessionName = name
        sessionStart = now
        batches = [:]
        counters = SelftestMessage.Counters()
        roundTrips.removeAll(keepingCapacity: true)
        completedCount = 0
    }

    private mutating func serveBulk(
        _ put: LNetEvent.Put, _ reply: UInt64, _ bulk: UInt64, _ isWrite: Bool, _ length: UInt32,
        _ check: UInt32, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        guard length > 0, Int(length) <= LNetHeader.payloadMax, (1...3).contains(check),
            services.count < Self.servicesMax
        else {
            answer(.bulkDone(status: Status.invalid), reply, put.peer, &lnet, now)
            return
        }
        if nextSweep == .distantFuture { nextSweep = now + .seconds(1) }
        let handle = services.insert(
            Service(
                kind: isWrite ? .bulkWrite(check: check) : .bulkRead, peer: put.initiator.nid,
                reply: reply, at: now))
        if isWrite {
            lnet.get(
                from: put.peer, portal: Message.replyPortal, matchBits: bulk, length: Int(length),
                cookie: handle.rawValue, now: now)
        } else {
            let payload = pattern(Int(length))
            lnet.put(
                to: put.peer, portal: Message.replyPortal, matchBits: bulk, payload: payload,
                ackCookie: handle.rawValue, now: now)
            counters.bulkPut &+= UInt64(length)
        }
    }

    private mutating func pattern(_ length: Int) -> [UInt8] {
        if let known = patterns[length] { return known }
        if patterns.count >= 16 { patterns.removeAll() }
        let made = BulkPattern.bytes(length)
        patterns[length] = made
        return made
    }

    /// A peer has what it asked to read.
    private mutating func bulkSent(_ handle: SlotHandle, _ lnet: inout LNetCore, _ now: Ticks) {
        guard let service = services.remove(handle) else { return }
        let peer = lnet.peer(for: service.peer)
        answer(.bulkDone(status: 0), service.reply, peer, &lnet, now)
        lnet.release(peer)
    }

    /// What a peer writes, or the destinations of a test, are here.
    private mutating func bulkTaken(
        _ reply: LNetEvent.Reply, _ lnet: inout LNetCore, _ now: Ticks
    ) {
        guard let service = services.remove(SlotHandle(rawValue: reply.cookie)) else { return }
        let peer = lnet.peer(for: service.peer)
        defer { lnet.release(peer) }
        switch service.kind {
        case .bulkRead: break
        case .bulkWrite(let check):
            counters.bulkGet &+= UInt64(reply.length)
            let isGood = lnet.withPayload(reply.payload) { BulkPattern.holds($0, check: check) }
            if !isGood { counters.brwErrors &+= 1 }
            answer(
                .bulkDone(status: isGood ? 0 : Status.corrupt), service.reply, peer, &lnet, now)
        case .destinations(let batch, var instance):
            lnet.withPayload(reply.payload) { bytes in
                for offset in stride(from: 0, through: bytes.byteCount - 12, by: 12) {
                    instance.destinations.append(NID(rawValue: bytes.littleEndian(at: offset)))
                }
            }
            batches[batch, default: Batch()].tests.append(instance)
            answer(.testAdded(status: 0, session: session), service.reply, peer, &lnet, now)
        }
    }

    // MARK: Tests

    private mutating func addTest(
        _ put: LNetEvent.Put, _ reply: UInt64, _ bulk: UInt64, _ asked: Message.Session,
        _ batch: UInt64, _ instance: Instance, _ count: UInt32, _ lnet: inout LNetCore,
        _ now: Ticks
    ) {
        let isFull =
            (batches[batch] == nil && batches.count >= Self.batchesMax)
            || (batches[batch]?.tests.count ?? 0) >= Self.testsMax
        var status: UInt32 = 0
        if asked != session || session == .none {
            status = Status.absent
        } else if isFull || instance.concurrency == 0
            || instance.concurrency > Self.concurrencyMax || count > Self.destinationsMax
            || (instance.isClient && count == 0)
        {
            status = Status.invalid
        }
        if case .bulk(_, let check, let length, _) = instance.test,
            length == 0 || Int(length) > LNetHeader.payloadMax || !(1...3).contains(check)
        {
            status = Status.invalid
        }
        guard status == 0, instance.isClient else {
            if status == 0 { batches[batch, default: Batch()].tests.append(instance) }
            answer(.testAdded(status: status, session: session), reply, put.peer, &lnet, now)
            return
        }
        let handle = services.insert(
            Service(
                kind: .destinations(batch: batch, instance), peer: put.initiator.nid,
                reply: reply, at: now))
        lnet.get(
            from: put.peer, portal: Message.replyPortal, matchBits: bulk, length: Int(count) * 12,
            cookie: handle.rawValue, now: now)
    }

    private mutating func start(_ id: UInt64, _ lnet: inout LNetCore, _ now: Ticks) {
        guard let batch = batches[id], !batch.isRunning, batch.active == 0 else { return }
        var units: [Unit] = []
        for (index, test) in batch.tests.enumerated() where test.isClient {
            for destination in test.destinations {
                for _ in 0..<test.concurrency {
                    units.append(
                        Unit(
                            batch: id, test: index, destination: destination, sequence: 0,
                            remaining: test.loop == 0 ? .max : test.loop))
                }
            }
        }
        guard !units.isEmpty else { return }
        batches[id]?.isRunning = true
        batches[id]?.active = units.count
        countBatches()
        for unit in units { run(unit, &lnet, now) }
    }

    private mutating func countBatches() {
        counters.activeBatches = UInt32(batches.values.filter { $0.active > 0 }.count)
    }

    private func told(_ lnet: borrowing LNetCore, _ now: Ticks) -> SelftestMessage.Counters {
        var told = counters
        told.runningMs = UInt32(truncatingIfNeeded: (now - sessionStart).nanoseconds / 1_000_000)
        let counters = lnet.counters
        told.lnetErrors = UInt32(truncatingIfNeeded: counters.errors)
        told.sendCount = UInt32(truncatingIfNeeded: counters.sendCount)
        told.receiveCount = UInt32(truncatingIfNeeded: counters.receiveCount)
        told.routeCount = UInt32(truncatingIfNeeded: counters.routed)
        told.dropCount = UInt32(truncatingIfNeeded: counters.dropCount)
        told.sendLength = counters.sendLength
        told.receiveLength = counters.receiveLength
        told.routeLength = counters.routeLength
        told.dropLength = counters.dropLength
        return told
    }
}
