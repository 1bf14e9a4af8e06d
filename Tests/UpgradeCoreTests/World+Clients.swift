import Primitives
@testable import UpgradeCore
import WireFormat

// The clients of the world, and what must hold after every step.
extension World {
    mutating func deliver(_ message: Message) {
        switch message.body {
        case .toTarget(let body):
            receive(body, from: message.client, connection: message.connection)
        case .toClient(let body):
            let index = message.client
            guard clients[index].isAlive, clients[index].connection == message.connection else {
                return
            }
            hear(body, index)
            pump(index)
        }
    }

    mutating func post(_ index: Int, _ body: ToTarget) {
        wire.append(
            Message(client: index, connection: clients[index].connection, body: .toTarget(body)))
    }

    mutating func disconnect(_ index: Int) {
        guard clients[index].isAlive else { return }
        wire.removeAll {
            if case .toClient = $0.body { return $0.client == index }
            return false
        }
        clients[index].drainWanted = nil
        clients[index].flushWanted = nil
        stepClient(index, .disconnected)
    }

    mutating func reconnect(_ index: Int) {
        clients[index].connection += 1
        stepClient(index, .connectStarted)
        post(index, .connect)
    }

    mutating func begin(_ index: Int) {
        let operation = Operation(client: index, number: clients[index].begun)
        clients[index].begun += 1
        if operation.isCached {
            clients[index].dirty.append(operation)
        } else {
            transmit(operation, index)
        }
        pump(index)
    }

    mutating func transmit(_ operation: Operation, _ index: Int) {
        if !clients[index].inFlight.contains(operation) {
            clients[index].inFlight.append(operation)
        }
        post(index, .update(operation, operation.isCached ? .flush : .update, .zero))
    }

    mutating func hear(_ message: ToClient, _ index: Int) {
        switch message {
        case .ast(let notice):
            let client = clients[index]
            let isIdle =
                client.inFlight.isEmpty && client.drainWanted == nil && client.flushWanted == nil
                && (notice.cachePolicy == .keep || client.dirty.isEmpty)
            stepClient(index, .notice(notice, ast: 1, isIdle: isIdle), astEpoch: notice.epoch)
        case .reply(let operation, let transno, let trailer):
            if let place = clients[index].replaying.firstIndex(of: operation) {
                clients[index].replaying.remove(at: place)
            } else if let place = clients[index].inFlight.firstIndex(of: operation) {
                clients[index].inFlight.remove(at: place)
                clients[index].saved.append((operation, transno))
                clients[index].acknowledged.append(operation)
            }
            if let trailer { stepClient(index, .trailer(trailer)) }
        case .refused(let operation, let trailer):
            if let place = clients[index].inFlight.firstIndex(of: operation) {
                clients[index].inFlight.remove(at: place)
                clients[index].atGate.append(operation)
            }
            if let trailer { stepClient(index, .trailer(trailer)) }
        case .connectReply(let reply):
            clients[index].isReplayDoneSent = false
            stepClient(
                index,
                .connected(
                    ConnectReply(
                        version: .v1, features: [], mode: reply.mode, admission: reply.admission,
                        instance: reply.instance, epoch: reply.epoch, admissionLock: 0,
                        lastCommitted: reply.lastCommitted, notice: reply.notice)))
            clients[index].replaying = []
            if reply.mode == .recovering {
                clients[index].saved.removeAll { $0.transno <= reply.lastCommitted }
                for entry in clients[index].saved {
                    clients[index].replaying.append(entry.operation)
                    post(index, .update(entry.operation, .replay, entry.transno))
                }
            } else if reply.mode == .cleanRecord || reply.mode == .fresh {
                for entry in clients[index].saved where disk.operations[entry.operation] == nil {
                    fail("lost: a clean start forgets \(entry.operation)")
                }
                clients[index].saved = []
            }
        case .receiptAnswer(let epoch, let isWaiting):
            if isWaiting { stepClient(index, .receiptDelivered(epoch)) }
        case .grant(let epoch): stepClient(index, .granted(epoch))
        case .commit(let notice):
            post(index, .commitAnswer(notice.epoch))
            stepClient(index, .commitNotice(notice))
        }
    }

    mutating func stepClient(
        _ index: Int, _ input: UpgradeClient.Input, astEpoch: UpgradeEpoch = .none
    ) {
        guard clients[index].isAlive else { return }
        var actions = Outbox<UpgradeClient.Action>()
        do { try clients[index].machine.step(input, now: now, into: &actions) } catch {
            fail("fault: \(error)")
        }
        while let action = actions.popFirst() {
            switch action {
            case .shutGate:
                let machine = clients[index].machine
                if machine.epoch != .none, machine.epoch <= machine.ended {
                    fail("a gate is shut for an upgrade that is over")
                }
            case .openGate:
                for operation in clients[index].atGate { transmit(operation, index) }
                clients[index].atGate = []
            case .drain(let epoch): clients[index].drainWanted = epoch
            case .flush(let epoch, _):
                clients[index].flushWanted = epoch
                flush(index)
            case .giveReceipt(let epoch, let ast):
                post(
                    index,
                    .receipt(
                        UpgradeReceipt(
                            epoch: epoch, lastXID: .zero, lastTransno: .zero, openCount: 0,
                            flushedBytes: 0),
                        byAST: ast != nil))
            case .answerAST: post(index, .astAnswer(astEpoch))
            case .sendProgress(let epoch): post(index, .progress(epoch))
            case .purgeSaved(let transno):
                for entry in clients[index].saved
                where entry.transno <= transno && disk.operations[entry.operation] == nil {
                    fail("lost: purged \(entry.operation), which is not on disk")
                }
                clients[index].saved.removeAll { $0.transno <= transno }
            case .preconnect, .reconnect: break
            }
        }
    }

    mutating func flush(_ index: Int) {
        let dirty = clients[index].dirty
        clients[index].dirty = []
        for operation in dirty { transmit(operation, index) }
    }

    /// What a client's node does when nothing more is in the way.
    mutating func pump(_ index: Int) {
        guard clients[index].isAlive else { return }
        if clients[index].machine.state == .replaying {
            guard clients[index].replaying.isEmpty else { return }
            if !clients[index].isReplayDoneSent {
                clients[index].isReplayDoneSent = true
                post(index, .replayDone)
                for operation in clients[index].inFlight { transmit(operation, index) }
            }
            if clients[index].inFlight.isEmpty { stepClient(index, .recovered) }
        }
        if let epoch = clients[index].drainWanted, clients[index].inFlight.isEmpty {
            clients[index].drainWanted = nil
            stepClient(index, .operationsDrained(epoch))
        }
        if let epoch = clients[index].flushWanted, clients[index].inFlight.isEmpty,
            clients[index].dirty.isEmpty
        {
            clients[index].flushWanted = nil
            stepClient(index, .flushed(epoch, bytes: 1))
        }
        if clients[index].machine.isGateOpen, clients[index].begun == options.operationsMax {
            flush(index)
        }
    }

    /// Invariant B, after every step. A and the rest are checked where they would break.
    mutating func check() {
        guard let target, target.exclusive == .granted else { return }
        for index in clients.indices
        where clients[index].isAlive && hasFeature(index) && !target.isFenced[index]
            && target.isKnown[index] && clients[index].machine.targetInstance == instance
        {
            if clients[index].machine.isGateOpen { fail("B: EX is granted, gate \(index) is open") }
            if target.machine.standing(of: UInt32(index)) == .prepared,
                !clients[index].inFlight.isEmpty
            {
                fail("B: EX is granted, client \(index) has requests in flight")
            }
        }
    }

    /// Faults have stopped: everything must come to rest with every gate open and nothing lost.
    mutating func settle(_ random: inout SplitMix64) {
        options.crashBudget = 0
        options.connectionLossBudget = 0
        options.duplicateBudget = 0
        options.deathBudget = 0
        options.abortBudget = 0
        options.upgradeBudget = 0
        for _ in 0..<4_000 where violation == nil {
            let ready = choices().filter { $0 != .time }
            if let choice = pick(ready, &random) {
                apply(choice)
                continue
            }
            checkThatEverybodyHeard()
            if isAtRest { break }
            guard nextDeadline != nil else {
                fail(
                    "stuck: \(target.map { "\($0.machine.state)" } ?? "no target"), "
                        + "\(clients.map(\.machine.state))")
                return
            }
            apply(.time)
        }
        guard violation == nil else { return }
        guard isAtRest else { return fail("never comes to rest") }
        for index in clients.indices where clients[index].isAlive {
            for operation in clients[index].acknowledged where disk.operations[operation] == nil {
                fail("lost: \(operation) was acknowledged")
            }
        }
    }

    mutating func checkThatEverybodyHeard() {
        guard let target, target.exclusive == .waiting else { return }
        for index in clients.indices
        where clients[index].isAlive && target.admission[index] == .granted
            && clients[index].machine.isGateOpen
        {
            fail("client \(index) never heard of the upgrade")
        }
    }

    var isAtRest: Bool {
        guard let target, target.machine.state == .serving, target.log.isEmpty else { return false }
        return clients.allSatisfy {
            !$0.isAlive
                || $0.machine.isGateOpen && $0.begun == options.operationsMax && $0.inFlight.isEmpty
                    && $0.atGate.isEmpty && $0.dirty.isEmpty
        }
    }

    func pick(_ ready: [Choice], _ random: inout SplitMix64) -> Choice? {
        ready.isEmpty ? nil : ready[random.below(ready.count)]
    }

    /// A whole run from one seed. Gives the violation, if any.
    static func run(seed: UInt64, steps: Int = 120, _ options: Options) -> World {
        var random = SplitMix64(seed: seed)
        var world = World(options)
        for _ in 0..<steps where world.violation == nil {
            let ready = world.choices()
            // Time and faults are rarer than messages.
            let calm = ready.filter {
                switch $0 {
                case .deliver, .begin, .commit, .remote, .restart, .reconnect, .start, .proceed:
                    true
                case .duplicate, .abort, .time, .loseConnection, .die, .evict, .crash: false
                }
            }
            let wild = calm.isEmpty || random.oneIn(8)
            guard let choice = world.pick(wild ? ready : calm, &random) else { break }
            world.apply(choice)
        }
        if world.violation == nil { world.settle(&random) }
        return world
    }
}
