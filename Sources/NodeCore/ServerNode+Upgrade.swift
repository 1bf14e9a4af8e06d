import LDLMCore
import LNetCore
import MetadataCore
public import Primitives
import PtlRPCCore
import StorageCore
import UpgradeCore
public import WireFormat

/// The upgrade machine's hands: what its actions do to locks, store and clients.
extension ServerNode {
    /// Asks for the upgrade path without a client's request: a clean stop of this instance.
    public mutating func beginStop(_ start: UpgradeStart, now: Ticks) {
        guard store != nil else {
            isStopped = true
            actions.append(.stop)
            return
        }
        if start.action == .start, upgrade.phase.canAbort, upgrade.order?.holds == true {
            // It waits behind its seal, or will: a stop is what it may go on for.
            feed(.proceed, now: now)
        } else {
            feed(.start(start, isRecovering: isRecovering), now: now)
        }
        pump(now: now)
        takeGroup(now: now)
    }

    /// Tells the upgrade machine something, and does what it asks for before anything else happens: a
    /// request that comes between would be judged by the machine's new state and meet locks, a store
    /// and a seal of the old one.
    mutating func feed(_ input: UpgradeTarget.Input, now: Ticks) {
        do {
            try upgrade.step(input, now: now, into: &upgradeActions)
        } catch {
            preconditionFailure("\(error)")
        }
        while let action = upgradeActions.popFirst() { run(action, now: now) }
    }

    func admissionLock(of export: UInt32) -> SlotHandle? {
        Int(export) < admissionLocks.count ? admissionLocks[Int(export)] : nil
    }

    private mutating func setAdmissionLock(_ lock: SlotHandle?, of export: UInt32) {
        while admissionLocks.count <= Int(export) { admissionLocks.append(nil) }
        admissionLocks[Int(export)] = lock
    }

    mutating func run(_ action: UpgradeTarget.Action, now: Ticks) {
        switch action {
        case .accepted(let epoch):
            log(.upgrade("upgrade \(epoch) accepted"))
            answerOrder(epoch, refusal: nil, now: now)
        case .refused(let refusal):
            log(.upgrade("upgrade refused: \(refusal)"))
            answerOrder(upgrade.epoch, refusal: refusal, now: now)
        case .enqueueExclusive:
            let result = locks.enqueue(
                owner: .local, resource: admission, mode: .ex, policy: .plain,
                clientCookie: 1, flags: [], now: now)
            exclusiveLock = result.lock
            if result.outcome == .granted { feed(.exclusiveGranted, now: now) }
        case .releaseExclusive:
            if let exclusiveLock { _ = locks.cancel(exclusiveLock, owner: .local, now: now) }
            exclusiveLock = nil
            feed(.exclusiveReleased, now: now)
        case .sendPreflush(let notice):
            for export in exportIndices where upgrade.standing(of: export) == .granted {
                let pending = pendingCallbacks.insert(.preflush(notice.epoch))
                rpc.callback(
                    export,
                    .blockingAST(
                        BlockingAST(
                            request: admissionRequest(export),
                            notice: readable(notice, by: export))),
                    cookie: pending.rawValue, lnet: &lnet, now: now)
            }
        case .suspendBlockingASTs:
            // What is executed while the clients prepare goes to disk meanwhile, so that little is
            // left when the last of them is prepared.
            isHurried = true
            if !configuration.mutation.is(.conflictsNotSuspended) {
                locks.suspendBlockingASTs(now: now)
            }
            refuseAllGlimpses(now: now)
            refuseAllParked(now: now)
            refuseAllWaiting(now: now)
        case .resumeBlockingASTs:
            isHurried = false
            locks.resumeBlockingASTs(now: now)
        case .commitBeforeReply(let isOn):
            commitsBeforeReply = isOn && !configuration.mutation.is(.repliesBeforeCommit)
        case .commitNow:
            if let store, store.hasOpenGroup || !afterGroup.isEmpty {
                afterOpenGroup.append(.backlog)
                wantsCommit = true
            } else {
                feed(.backlogCommitted, now: now)
            }
        case .seal:
            isSealed = true
            if !configuration.mutation.is(.locksAfterSeal) { locks.seal() }
        case .unseal:
            isSealed = false
            locks.unseal()
        case .writeCleanRecord(let epoch):
            writeCleanRecord(epoch, now: now)
        case .withdrawRecord:
            withdrawRecord(now: now)
        case .broadcast(let notice):
            leaveObjectServers(now: now)
            releaseStore()
            let told = exportIndices.filter { upgrade.isTold($0) }
            for export in sites.fires(.repeatCommitNotice) ? told + told : told {
                let pending = pendingCallbacks.insert(.commitNotice(notice.epoch))
                rpc.callback(
                    export,
                    .completionAST(
                        CompletionAST(
                            request: admissionRequest(export), valueBlock: OSTLVB(),
                            commitNotice: notice)),
                    cookie: pending.rawValue, lnet: &lnet, now: now)
            }
        case .enqueueAdmission(let export):
            enqueueAdmission(export, now: now)
        case .requeueAdmission(let export):
            if let lock = admissionLock(of: export) {
                _ = locks.cancel(lock, owner: owner(export), now: now)
            }
            enqueueAdmission(export, now: now)
        case .takeAdmission(let export):
            if let lock = admissionLock(of: export) {
                _ = locks.cancel(lock, owner: owner(export), now: now)
            }
            setAdmissionLock(nil, of: export)
        case .fence(let export):
            rpc.fence(export)
        case .unfence(let export):
            rpc.unfence(export)
        case .grantAll(let epoch):
            for export in exportIndices where upgrade.standing(of: export) == .granted {
                grantAdmission(export, epoch, now: now)
            }
            noticesDue = nil
            takeLeftRequests(now: now)
        case .grant(let export, let epoch):
            grantAdmission(export, epoch, now: now)
        case .stop:
            isStopped = true
            actions.append(.stop)
        case .abandon:
            isStopped = true
            actions.append(.abandon)
        case .report(let event, let at):
            if configuration.tellsUpgradeStamps { actions.append(.upgrade(event, at: at)) }
            switch event {
            case .accepted:
                upgradeAcceptedAt = at
                preparedAt = nil
                committedAt = nil
            case .allPrepared:
                preparedAt = at
                if configuration.mutation.is(.evictsPrepared), let first = exportIndices.first {
                    rpc.evict(first, .owner("a deliberate bug"), lnet: &lnet, now: now)
                }
            case .committed: committedAt = at
            case .held: log(.upgrade("all is on disk; waits to go on, or to be given up"))
            case .leftBehind(let export):
                let uuid = rpc.summary(of: export)?.uuid ?? "client \(export)"
                log(.upgrade("\(uuid) gave no receipt before the deadline and is left behind"))
            case .aborted(let reason): log(.upgrade("upgrade given up: \(reason.words)"))
            default: break
            }
        }
    }

    private mutating func enqueueAdmission(_ export: UInt32, now: Ticks) {
        admissionCounter += 1
        let result = locks.enqueue(
            owner: owner(export), resource: admission, mode: .cr, policy: .plain,
            clientCookie: admissionCounter, flags: [], now: now)
        setAdmissionLock(result.lock, of: export)
    }

    private func admissionRequest(_ export: UInt32) -> LDLMRequest {
        .callback(
            clientCookie: 1, serverCookie: admissionLock(of: export)?.rawValue ?? 0, flags: [],
            descriptor: LockDescriptor(
                resource: admission, requestedMode: .cr,
                grantedMode: .cr, policy: .plain))
    }

    private mutating func grantAdmission(_ export: UInt32, _ epoch: UpgradeEpoch, now: Ticks) {
        let pending = pendingCallbacks.insert(.admissionGrant)
        rpc.callback(
            export,
            .completionAST(
                CompletionAST(
                    request: admissionRequest(export), valueBlock: OSTLVB(), grantEpoch: epoch)),
            cookie: pending.rawValue, lnet: &lnet, now: now)
    }

    /// The lock server wants an admission lock back: that is the announcement.
    mutating func sendNotice(to export: UInt32, now: Ticks) {
        guard let notice = upgrade.notice(now: now) else { return }
        let pending = pendingCallbacks.insert(.notice(notice.epoch))
        rpc.callback(
            export,
            .blockingAST(
                BlockingAST(
                    request: admissionRequest(export), notice: readable(notice, by: export))),
            cookie: pending.rawValue, lnet: &lnet, now: now)
    }

    /// Who has answered a notice with an error hears it again.
    mutating func repeatNotices(now: Ticks) {
        guard let due = noticesDue, due <= now else { return }
        noticesDue = nil
        guard locks.isSuspended else { return }
        for export in exportIndices where upgrade.standing(of: export) == .granted {
            if upgrade.status(of: export)?.isNoticeDelivered == false {
                sendNotice(to: export, now: now)
            }
        }
    }

    /// A build that does not know the read policy would refuse a notice that names one.
    func readable(_ notice: UpgradeNotice, by export: UInt32) -> UpgradeNotice {
        var notice = notice
        if !rpc.features(of: export).contains(.readPolicy) { notice.readPolicy = .cached }
        return notice
    }

    /// Cancel of CR, enqueue of a new CR and the receipt, in one message.
    mutating func receiveReceipt(_ request: ServerRequest, _ body: EnqueueRequest, now: Ticks) {
        if let receipt = body.receipt {
            feed(.receipt(client: request.export, receipt), now: now)
        }
        let isGranted = upgrade.admissionState(of: request.export) == .granted
        let descriptor = LockDescriptor(
            resource: admission, requestedMode: .cr,
            grantedMode: isGranted ? .cr : nil, policy: .plain)
        rpc.reply(
            request.token, status: .ok,
            body: .enqueue(
                EnqueueReply(
                    reply: LDLMReply(
                        flags: isGranted ? [.blockGranted] : [.blockWait], descriptor: descriptor,
                        serverCookie: admissionLock(of: request.export)?.rawValue ?? 0),
                    valueBlock: OSTLVB())),
            trailer: upgrade.trailer(for: request.export), lnet: &lnet, now: now)
    }

    // MARK: The clean record

    private mutating func writeCleanRecord(_ epoch: UpgradeEpoch, now: Ticks) {
        guard store != nil else { return }
        tidyUpAll(now: now)
        // Who was here when this instance started has had clean stops only since its entry says so.
        var since: [UInt32: (uuid: String, instance: UInt64)] = [:]
        for client in startRecord?.clients ?? [] {
            since[client.exportIndex] = (client.uuid, client.sinceInstance)
        }
        var clients: [CleanRecord.Client] = []
        rpc.forEachExport { summary in
            guard !summary.isObserver else { return }
            clients.append(
                CleanRecord.Client(
                    uuid: summary.uuid, exportIndex: summary.index, nid: summary.nid,
                    sinceInstance: since[summary.index].flatMap {
                        $0.uuid == summary.uuid ? $0.instance : nil
                    } ?? instance,
                    account: upgrade.account(of: summary.index) ?? .carriedForward))
        }
        var opens: [[UInt8]] = []
        if case .metadata(let metadata) = service {
            opens.append(OpenReservation.encode(metadata.openReservations()))
        }
        let record = CleanRecord(
            epoch: epoch, instance: instance, versions: configuration.versions,
            storeFormat: Self.storeFormat, lastTransno: Transno(rawValue: nextTransno - 1),
            targetName: configuration.targetName, clients: clients,
            lockReservations: locks.reservations { UInt64($0.index) }
                .map { ReservationCodec.encode($0) },
            openReservations: opens)
        var transaction = Transaction()
        writeRun(into: &transaction)
        ownRecordKeys = []
        for row in record.rows() {
            ownRecordKeys.append(row.key)
            transaction.put(.reservations, key: row.key, value: row.value)
        }
        apply(&transaction, now: now)
        if configuration.mutation.is(.commitNoticeBeforeCommit) {
            feed(.recordCommitted(lastCommitted: Transno(rawValue: nextTransno - 1)), now: now)
        } else {
            afterOpenGroup.append(.record(Transno(rawValue: nextTransno - 1)))
        }
        wantsCommit = true
    }

    /// Sealed, committed, and told: the next instance waits for nothing else.
    private mutating func releaseStore() {
        guard let current = store, afterGroup.isEmpty, !current.hasOpenGroup else { return }
        lastCommittedAtRelease = Transno(rawValue: current.lastCommittedTransno)
        isReleased = true
        store = nil
        actions.append(.releaseStore)
    }

    /// The record is true no longer once anything executes again: first it has to be gone.
    private mutating func withdrawRecord(now: Ticks) {
        guard store != nil else { return }
        var transaction = Transaction()
        for key in ownRecordKeys { transaction.delete(.reservations, key: key) }
        ownRecordKeys = []
        apply(&transaction, now: now)
        afterOpenGroup.append(.withdrawal)
        wantsCommit = true
    }
}
