import Primitives
import Testing
@testable import UpgradeCore
import WireFormat

/// One target over its instances, its disk, a naive lock server, N clients and the wires between them.
///
/// Everything that can happen next is a `Choice`: a seed or an exhaustive search picks. After every
/// one `violation` is nil, or names the rule that broke.
struct World {
    struct Options {
        var clientCount = 2
        var featureless: Set<Int> = []
        var operationsMax = 3
        var crashBudget = 0
        var connectionLossBudget = 0
        var duplicateBudget = 0
        var deathBudget = 0
        var abortBudget = 0
        var upgradeBudget = 1
        var start = UpgradeStart()
        var mutation = Mutation.none
        /// The record is withdrawn with the first update's group, and replies do not wait for it.
        var withdrawsLazily = false
        var hasTime = true
    }

    struct Operation: Hashable {
        var client: Int
        var number: Int
        /// Written into the cache first, sent by a flush.
        var isCached: Bool { number % 3 == 2 }
    }

    enum ToClient: Hashable {
        case ast(UpgradeNotice)
        case reply(Operation, Transno, ReplyTrailer?)
        case refused(Operation, ReplyTrailer?)
        case connectReply(Reply)
        case receiptAnswer(UpgradeEpoch, isWaiting: Bool)
        case grant(UpgradeEpoch)
        case commit(CommitNotice)
    }

    /// `ConnectReply` is not hashable: what of it counts here.
    struct Reply: Hashable {
        var mode: ConnectReply.Mode
        var admission: AdmissionState
        var instance: UInt64
        var epoch: UpgradeEpoch
        var lastCommitted: Transno
        var notice: UpgradeNotice?
    }

    enum ToTarget: Hashable {
        case connect
        case update(Operation, UpgradeTarget.RequestClass, Transno)
        case replayDone
        case receipt(UpgradeReceipt, byAST: Bool)
        case progress(UpgradeEpoch)
        case astAnswer(UpgradeEpoch)
        case commitAnswer(UpgradeEpoch)
    }

    enum Body: Hashable {
        case toClient(ToClient)
        case toTarget(ToTarget)
    }

    struct Message: Hashable {
        var client: Int
        var connection: Int
        var body: Body
    }

    struct Client {
        var machine = UpgradeClient()
        var isAlive = true
        var connection = 0
        var begun = 0
        var inFlight: [Operation] = []
        /// Not executed, not on the wire: at the gate, as a value.
        var atGate: [Operation] = []
        var dirty: [Operation] = []
        var saved: [(operation: Operation, transno: Transno)] = []
        var replaying: [Operation] = []
        var acknowledged: [Operation] = []
        var drainWanted: UpgradeEpoch?
        var flushWanted: UpgradeEpoch?
        var isReplayDoneSent = false
    }

    enum Lock: UInt8 { case none, waiting, granted }

    struct Target {
        var machine: UpgradeTarget
        var exclusive = Lock.none
        var admission: [Lock]
        var isFenced: [Bool]
        var isSealed = false
        var connection: [Int?]
        var isKnown: [Bool]
        /// Executed here, not on disk.
        var log: [(operation: Operation, transno: Transno)] = []
        var held: [(operation: Operation, transno: Transno)] = []
        var nextTransno: UInt64
        var awaited: Set<Int> = []
        var isClean: Bool
        var isCommitAsked = false
        var isRecordAsked = false
        var isWithdrawalAsked = false
        var isRemotePending = false
        var isStopped = false
        /// What came behind the seal; done where it is taken back.
        var left: [Message] = []
        /// The record that this instance started with.
        var bootRecord: CleanRecord?
    }

    struct Disk {
        var operations: [Operation: Transno] = [:]
        var lastTransno = Transno.zero
        var slots: Set<Int> = []
        var record: CleanRecord?
        var writer: UInt64 = 0
        var versions: ClosedRange<ProtocolVersion> = .v1 ... .v1
    }

    enum Choice: Hashable {
        case deliver(Int), duplicate(Int)
        case begin(Int), start, abort, proceed, time, commit, remote, restart
        case loseConnection(Int), reconnect(Int), die(Int), evict(Int), crash
    }

    var options: Options
    var now = Ticks(nanoseconds: 1)
    var clients: [Client]
    var target: Target?
    var disk = Disk()
    var instance: UInt64 = 0
    var versions: ClosedRange<ProtocolVersion> = .v1 ... .v1
    var wire: [Message] = []
    var violation: String?
    var committedUpgrades = 0
    var lastStart: UpgradeEpoch = .none
    var trace: [String] = []

    init(_ options: Options) {
        self.options = options
        clients = (0..<options.clientCount).map { _ in Client() }
        for index in clients.indices { clients[index].machine.mutation = options.mutation }
        boot()
    }

    func hasFeature(_ client: Int) -> Bool { !options.featureless.contains(client) }

    mutating func fail(_ rule: String) { if violation == nil { violation = rule } }

    // MARK: Choices

    func choices() -> [Choice] {
        var all: [Choice] = []
        for index in wire.indices where canDeliver(wire[index]) {
            if wire[..<index].contains(wire[index]) { continue }
            all.append(.deliver(index))
            if options.duplicateBudget > 0, isDuplicable(wire[index]) {
                all.append(.duplicate(index))
            }
        }
        for index in clients.indices where clients[index].isAlive {
            let client = clients[index]
            if client.machine.isGateOpen, client.begun < options.operationsMax {
                all.append(.begin(index))
            }
            switch client.machine.state {
            case .disconnected: if target != nil { all.append(.reconnect(index)) }
            case .connecting, .replaying, .open, .closing, .prepared, .committed:
                if options.connectionLossBudget > 0 { all.append(.loseConnection(index)) }
            }
            if options.deathBudget > 0 { all.append(.die(index)) }
        }
        if let target {
            if !target.isStopped {
                if options.upgradeBudget > 0, target.machine.state == .serving {
                    all.append(.start)
                }
                if options.abortBudget > 0, target.machine.state != .serving { all.append(.abort) }
                if case .held = target.machine.state { all.append(.proceed) }
                let isBusy =
                    !target.log.isEmpty || target.isCommitAsked || target.isRecordAsked
                    || target.isWithdrawalAsked
                // Replays come in any order here: what is committed must not run ahead of them.
                if isBusy, target.awaited.isEmpty { all.append(.commit) }
                if target.isRemotePending { all.append(.remote) }
                for index in clients.indices
                where !clients[index].isAlive && target.machine.state == .serving
                    && (target.isKnown[index] || target.awaited.contains(index))
                {
                    all.append(.evict(index))
                }
                if options.crashBudget > 0 { all.append(.crash) }
            }
            if target.isStopped { all.append(.restart) }
        } else {
            all.append(.restart)
        }
        if options.hasTime, nextDeadline != nil { all.append(.time) }
        return all
    }

    var nextDeadline: Ticks? {
        var due: [Ticks] = clients.filter(\.isAlive).compactMap(\.machine.nextDeadline)
        if let target, let deadline = target.machine.nextDeadline { due.append(deadline) }
        return due.min().flatMap { $0 == .distantFuture ? nil : $0 }
    }

    func isDuplicable(_ message: Message) -> Bool {
        switch message.body {
        case .toClient(.connectReply), .toTarget(.connect), .toTarget(.replayDone): false
        case .toClient, .toTarget: true
        }
    }

    func canDeliver(_ message: Message) -> Bool {
        switch message.body {
        case .toClient: return true
        case .toTarget(let body):
            guard let target, !target.isStopped else { return true }
            // A new update waits for the end of recovery.
            if case .update(_, let kind, _) = body, kind != .replay, !target.awaited.isEmpty {
                return false
            }
            return true
        }
    }

    mutating func apply(_ choice: Choice) {
        switch choice {
        case .deliver(let index):
            let message = wire.remove(at: index)
            deliver(message)
        case .duplicate(let index):
            options.duplicateBudget -= 1
            deliver(wire[index])
        case .begin(let index): begin(index)
        case .start:
            options.upgradeBudget -= 1
            stepTarget(.start(options.start, isRecovering: !target!.awaited.isEmpty))
        case .abort:
            options.abortBudget -= 1
            stepTarget(.abort(.operator))
        case .proceed:
            stepTarget(.proceed)
        case .time:
            if let due = nextDeadline { now = max(now, due) }
            for index in clients.indices where clients[index].isAlive { stepClient(index, .tick) }
            if target != nil { stepTarget(.tick) }
        case .commit: commit()
        case .remote:
            target!.isRemotePending = false
            if !target!.isCommitAsked, case .committing = target!.machine.state {
                stepTarget(.backlogCommitted)
            }
        case .restart:
            if target != nil { versions = versions == .v1 ... .v1 ? .v1 ... .v2 : .v1 ... .v1 }
            boot()
        case .loseConnection(let index):
            options.connectionLossBudget -= 1
            disconnect(index)
        case .reconnect(let index): reconnect(index)
        case .die(let index):
            options.deathBudget -= 1
            clients[index].isAlive = false
            clients[index].connection += 1
            wire.removeAll { $0.client == index }
        case .evict(let index):
            if target!.isKnown[index] { stepTarget(.clientGone(client: UInt32(index))) }
            target!.isKnown[index] = false
            target!.admission[index] = .none
            target!.awaited.remove(index)
            disk.slots.remove(index)
            arbitrate()
        case .crash:
            options.crashBudget -= 1
            target = nil
            for index in clients.indices { disconnect(index) }
        }
        check()
    }

    // MARK: The target's node

    mutating func boot() {
        for index in clients.indices { disconnect(index) }
        target = nil
        instance += 1
        let lastRun =
            disk.writer == 0
            ? nil
            : StartGate.LastRun(
                instance: disk.writer, versions: disk.versions, storeFormat: 1,
                clients: disk.slots.sorted().map { "\($0)" })
        let decision = StartGate.decide(
            lastRun: lastRun, cleanRecord: disk.record, ownVersions: versions, ownFormats: 1...1,
            isForced: false)
        var isClean = false
        switch decision {
        case .fresh, .clean: isClean = true
        case .recover: break
        case .refused, .forced: fail("start gate: \(decision)")
        }
        let count = options.clientCount
        var machine = UpgradeTarget(instance: instance)
        machine.mutation = options.mutation
        target = Target(
            machine: machine, admission: .init(repeating: .none, count: count),
            isFenced: .init(repeating: false, count: count),
            connection: .init(repeating: nil, count: count),
            isKnown: .init(repeating: false, count: count),
            nextTransno: disk.lastTransno.rawValue + 1, isClean: isClean)
        if !isClean { target!.awaited = disk.slots }
        target!.bootRecord = isClean ? disk.record : nil
        if lastRun == nil { disk.writer = instance; disk.versions = versions }
    }

    mutating func stepTarget(_ input: UpgradeTarget.Input) {
        guard target != nil else { return }
        var actions = Outbox<UpgradeTarget.Action>()
        do { try target!.machine.step(input, now: now, into: &actions) } catch {
            fail("fault: \(error)")
        }
        while let action = actions.popFirst() { perform(action) }
        arbitrate()
    }

    mutating func send(_ index: Int, _ body: ToClient) {
        guard let connection = target?.connection[index] else { return }
        wire.append(Message(client: index, connection: connection, body: .toClient(body)))
    }

    mutating func perform(_ action: UpgradeTarget.Action) {
        switch action {
        case .accepted(let epoch): lastStart = epoch
        case .refused, .suspendBlockingASTs, .resumeBlockingASTs, .commitBeforeReply, .report: break
        case .enqueueExclusive:
            target!.exclusive = .waiting
            for index in clients.indices where target!.admission[index] == .granted {
                send(index, .ast(target!.machine.notice(now: now)!))
            }
        case .releaseExclusive:
            target!.exclusive = .none
            for index in clients.indices where target!.admission[index] == .waiting {
                target!.admission[index] = .granted
            }
            stepTarget(.exclusiveReleased)
        case .sendPreflush(let notice):
            for index in clients.indices where target!.admission[index] == .granted {
                send(index, .ast(notice))
            }
        case .commitNow: target!.isCommitAsked = true
        case .seal:
            target!.isSealed = true
            if target!.isRemotePending { fail("sealed before other servers had committed") }
        case .unseal:
            target!.isSealed = false
            wire += target!.left
            target!.left = []
        case .writeCleanRecord: target!.isRecordAsked = true
        case .withdrawRecord: target!.isWithdrawalAsked = true
        case .broadcast(let notice):
            if disk.record?.instance != instance || !target!.log.isEmpty {
                fail("told as committed before all was on disk")
            }
            for index in clients.indices where target!.machine.isTold(UInt32(index)) {
                send(index, .commit(notice))
            }
        case .enqueueAdmission(let client), .requeueAdmission(let client):
            let isFree = target!.exclusive == .none
            if target!.isSealed {
                fail("a lock is queued behind the seal")
            } else {
                target!.admission[Int(client)] = isFree ? .granted : .waiting
            }
        case .takeAdmission(let client): target!.admission[Int(client)] = .none
        case .fence(let client): target!.isFenced[Int(client)] = true
        case .unfence(let client): target!.isFenced[Int(client)] = false
        case .grantAll(let epoch):
            for index in clients.indices where target!.isKnown[index] && hasFeature(index) {
                send(index, .grant(epoch))
            }
        case .grant(let client, let epoch): send(Int(client), .grant(epoch))
        case .abandon: break
        case .stop:
            target!.isStopped = true
            committedUpgrades += 1
        }
    }

    /// The naive lock server: EX is granted when nobody holds CR.
    mutating func arbitrate() {
        guard target?.exclusive == .waiting, !target!.admission.contains(.granted) else { return }
        target!.exclusive = .granted
        stepTarget(.exclusiveGranted)
    }

    mutating func commit() {
        let hasUpdates = !target!.log.isEmpty
        for entry in target!.log {
            if disk.operations[entry.operation] != nil {
                fail("executed twice: \(entry.operation)")
            }
            disk.operations[entry.operation] = entry.transno
            disk.lastTransno = max(disk.lastTransno, entry.transno)
        }
        target!.log = []
        if hasUpdates {
            disk.writer = instance
            disk.versions = versions
            if disk.record?.instance != instance { disk.record = nil }
        }
        let held = target!.held
        target!.held = []
        for entry in held {
            send(
                entry.operation.client,
                .reply(entry.operation, entry.transno, trailer(entry.operation.client)))
        }
        if target!.isRecordAsked {
            target!.isRecordAsked = false
            disk.writer = instance
            disk.versions = versions
            disk.record = record()
            stepTarget(.recordCommitted(lastCommitted: disk.lastTransno))
        } else if target!.isWithdrawalAsked {
            target!.isWithdrawalAsked = false
            disk.record = nil
            stepTarget(.recordWithdrawn)
        } else if target!.isCommitAsked {
            target!.isCommitAsked = false
            if !target!.isRemotePending { stepTarget(.backlogCommitted) }
        }
    }

    func record() -> CleanRecord {
        CleanRecord(
            epoch: target!.machine.epoch, instance: instance, versions: versions, storeFormat: 1,
            lastTransno: disk.lastTransno, targetName: "t",
            clients: disk.slots.sorted().map { index in
                CleanRecord.Client(
                    uuid: "\(index)", exportIndex: UInt32(index), nid: .loopback,
                    sinceInstance: target!.isKnown[index]
                        ? instance
                        : target!.bootRecord?.clients.first { $0.uuid == "\(index)" }?
                            .sinceInstance ?? instance,
                    account: target!.machine.account(of: UInt32(index)) ?? .carriedForward)
            })
    }

    func trailer(_ index: Int) -> ReplyTrailer? { target?.machine.trailer(for: UInt32(index)) }

    mutating func receive(_ message: ToTarget, from index: Int, connection: Int) {
        guard target != nil, !target!.isStopped else { return }
        if case .connect = message {
            admit(index, connection: connection)
            return
        }
        // Messages of older connections are dropped.
        guard target!.connection[index] == connection else { return }
        switch message {
        case .connect: break
        case .update(let operation, let kind, let transno):
            execute(operation, kind, transno, index)
        case .replayDone: target!.awaited.remove(index)
        case .receipt(let receipt, let byAST):
            if byAST { stepTarget(.noticeDelivered(client: UInt32(index), receipt.epoch)) }
            stepTarget(.receipt(client: UInt32(index), receipt))
            if !byAST, target!.machine.admissionState(of: UInt32(index)) == .waiting {
                send(index, .receiptAnswer(receipt.epoch, isWaiting: true))
            }
        case .progress(let epoch): stepTarget(.progress(client: UInt32(index), epoch))
        case .astAnswer(let epoch): stepTarget(.noticeDelivered(client: UInt32(index), epoch))
        case .commitAnswer(let epoch):
            stepTarget(.commitNoticeDelivered(client: UInt32(index), epoch))
        }
    }

    mutating func admit(_ index: Int, connection: Int) {
        let isKnown = target!.isKnown[index]
        if let current = target!.connection[index], current > connection { return }
        let mode: ConnectReply.Mode
        if isKnown {
            // A connection lost in the middle of its recovery begins that again.
            mode = target!.awaited.contains(index) ? .recovering : .sameInstance
        } else if !disk.slots.contains(index) {
            mode = .fresh
        } else if target!.isClean {
            mode =
                target!.bootRecord?.mode(
                    forUUID: "\(index)", lastInstance: clients[index].machine.targetInstance)
                ?? .fresh
        } else {
            mode = .recovering
        }
        target!.isKnown[index] = true
        target!.connection[index] = connection
        if !target!.isSealed { disk.slots.insert(index) }
        stepTarget(
            .clientAdmitted(
                client: UInt32(index), hasFeature: hasFeature(index), isReconnect: isKnown))
        let admission = target!.machine.admission(for: UInt32(index), now: now)
        send(
            index,
            .connectReply(
                Reply(
                    mode: mode, admission: admission.state, instance: instance,
                    epoch: admission.epoch, lastCommitted: disk.lastTransno,
                    notice: admission.notice)))
    }

    mutating func execute(
        _ operation: Operation, _ kind: UpgradeTarget.RequestClass, _ transno: Transno, _ index: Int
    ) {
        guard !target!.isFenced[index] else { return }
        // Saved replies answer what was executed already.
        if let known = disk.operations[operation] {
            send(index, .reply(operation, known, trailer(index)))
            return
        }
        if let known = target!.log.first(where: { $0.operation == operation }) {
            if target!.held.contains(where: { $0.operation == operation }) { return }
            send(index, .reply(operation, known.transno, trailer(index)))
            return
        }
        let verdict = target!.machine.judge(UInt32(index), kind)
        switch verdict {
        case .execute, .executeAndCommit:
            if target!.isSealed { fail("executed after the seal") }
            if kind == .update, hasFeature(index), target!.admission[index] != .granted {
                fail("A: executed without a granted admission lock")
            }
            let number =
                kind == .replay && transno > .zero
                ? transno : Transno(rawValue: target!.nextTransno)
            target!.nextTransno = max(target!.nextTransno, number.rawValue + 1)
            target!.log.append((operation, number))
            if operation.number % 2 == 0 { target!.isRemotePending = true }
            // The update that withdraws the record is on disk before anybody hears of it.
            let withdraws =
                target!.bootRecord != nil && disk.writer != instance
                && !options.withdrawsLazily
            if verdict == .executeAndCommit || withdraws {
                target!.held.append((operation, number))
            } else {
                send(index, .reply(operation, number, trailer(index)))
            }
        case .refuse: send(index, .refused(operation, trailer(index)))
        case .leaveForNext:
            guard let connection = target!.connection[index] else { break }
            target!.left.append(
                Message(
                    client: index, connection: connection,
                    body: .toTarget(.update(operation, kind, transno))))
        }
    }
}
