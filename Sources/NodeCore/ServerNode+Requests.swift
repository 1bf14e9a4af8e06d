import LDLMCore
import LNetCore
import MetadataCore
import ObjectCore
import Primitives
import PtlRPCCore
import StorageCore
import UpgradeCore
import WireFormat

/// Requests of clients: who may, what happens, what is answered and when.
extension ServerNode {
    mutating func handle(_ event: RPCServerEvent, now: Ticks) {
        switch event {
        case .connect(let export, let token, let request, let mode, let isNewClient):
            connect(
                export, token: token, request: request, mode: mode, isNew: isNewClient, now: now)
        case .connectRefused(let nid, let uuid, let refusal):
            log(.connectRefused("\(uuid) at \(nid): \(refusal)"))
        case .execute(let request):
            execute(request, now: now)
        case .disconnected(let export, let token):
            removeClient(export, now: now)
            answerAfterCommit(token, .ok, .empty, .zero)
            wantsCommit = true
        case .peerLost(let export):
            // Who is gone after the point of no return has gone to the next instance, or will be
            // told by it.
            if upgrade.phase == .committed {
                feed(.commitNoticeDelivered(client: export, upgrade.epoch), now: now)
            }
        case .callbackReply(let cookie, let export, let status, let body):
            callbackReply(cookie, export: export, status: status, body: body, now: now)
        case .replayDone(let export):
            finishClientReplay(export, now: now)
        case .recoveryStage:
            break
        case .recoveryFinished(let evicted):
            finishRecovery(evicted: evicted, now: now)
        case .replayed(let client):
            log(
                .replayed(
                    client: client.uuid, nid: client.nid, client.replay,
                    took: now - client.replay.since))
        case .losing(let client):
            losing = client
        case .evicted(let export, let uuid, let reason):
            let loss = loss(of: export)
            if reason == .clientRestarted {
                log(.clientRestarted(client: uuid, loss: loss))
            } else {
                evictionCount += 1
                log(.evicted(client: uuid, reason: "\(reason)", loss: loss))
            }
            removeClient(export, now: now)
        }
    }

    // MARK: Connecting and leaving

    private mutating func connect(
        _ export: UInt32, token: RequestToken, request: ConnectRequest, mode: ConnectReply.Mode,
        isNew: Bool, now: Ticks
    ) {
        guard !isNew || !isStopped else {
            // Its predecessor was the last that was waited for. Nothing is known of it here, and the
            // next instance would know nothing of what it did.
            rpc.refuseConnect(token, .noDevice, lnet: &lnet, now: now)
            return
        }
        if !request.isObserver {
            feed(
                .clientAdmitted(
                    client: export,
                    hasFeature: request.features.contains(.upgrade)
                        && configuration.features.contains(.upgrade),
                    isReconnect: upgrade.standing(of: export) != .vacant), now: now)
        }
        guard var reply = rpc.connectReply(for: token) else { return }
        setAdmission(of: export, in: &reply, now: now)
        addGrant(to: &reply, for: export, request)
        reply.lastCommitted =
            store.map { Transno(rawValue: $0.lastCommittedTransno) } ?? lastCommittedAtRelease
        if isNew, !request.isObserver, store != nil, let record = rpc.clientRecord(of: export) {
            var transaction = Transaction()
            transaction.put(.clients, key: record.key, value: record.value)
            apply(&transaction, now: now)
            afterOpenGroup.append(.connect(token, export, reply))
            wantsCommit = true
        } else {
            rpc.answerConnect(token, reply, lnet: &lnet, now: now)
        }
    }

    /// What a reply to a connect says of the admission lock, as it is at this moment. An observer has
    /// none.
    mutating func setAdmission(of export: UInt32, in reply: inout ConnectReply, now: Ticks) {
        let admission = upgrade.admission(for: export, now: now)
        reply.admission = admission.state
        reply.epoch = admission.epoch
        reply.notice = admission.notice.map { readable($0, by: export) }
        reply.admissionLock = admissionLock(of: export)?.rawValue ?? 0
    }

    /// The client is gone for good: its opens, locks and rows go with it.
    mutating func removeClient(_ export: UInt32, now: Ticks) {
        feed(.clientGone(client: export), now: now)
        guard let store else { return }
        dropParked(of: export, now: now)
        space.remove(export)
        locks.removeAll(owner(export), now: now)
        if Int(export) < admissionLocks.count { admissionLocks[Int(export)] = nil }
        reservedExports.removeAll { $0 == export }
        // Its opens end a part at a time: it may have many.
        var transaction = Transaction()
        if case .metadata(let metadata) = service {
            closing.append(contentsOf: metadata.openHandles(of: export))
        }
        transaction.delete(.clients, key: ClientRecord.key(index: export))
        for key in RPCServer.replyKeys(of: export) where store.read(.replyData, key) != nil {
            transaction.delete(.replyData, key: key)
        }
        noteDamage("the removal of a client")
        apply(&transaction, now: now)
    }

    // MARK: Executing

    mutating func execute(_ request: ServerRequest, now: Ticks) {
        guard !isStopped else { return }
        if store == nil {
            // The next instance has it; what this one can still tell is how it stands.
            switch request.body {
            case .upgradeStatus, .upgradeStart, .upgradeOrder, .upgradeReceipts: break
            default: return
            }
        }
        prolongLocks(under: request, now: now)
        if request.body.isUpdate {
            return executeUpdate(request, now: now)
        }
        switch request.body {
        case .enqueue(let enqueue):
            self.enqueue(request, enqueue, now: now)
        case .cancel(let cancel):
            self.cancel(request, cancel, now: now)
        case .convert(let convert):
            self.convert(request, convert, now: now)
        case .getattr, .lookup, .readdir, .objectRead, .objectGetattr, .openReplay:
            read(request, now: now)
        case .locate(let locate) where rpc.features(of: request.export).contains(.caching):
            self.locate(request, locate, now: now)
        case .upgradeProgress(let epoch):
            feed(.progress(client: request.export, epoch), now: now)
            reply(request, .ok, .empty, now: now)
        case .upgradeStart(let start):
            takeOrder(request, start, wantsSentence: false, now: now)
        case .upgradeOrder(let order):
            takeOrder(request, order, wantsSentence: true, now: now)
        case .upgradeReceipts(let after):
            reply(request, .ok, .upgradeReceipts(receipts(after: after)), now: now)
        case .upgradeStatus:
            reply(request, .ok, .upgradeStatus(statusReply(now: now)), now: now)
        case .statfs:
            reply(request, .ok, .statfs(space.status), now: now)
        case .sync:
            answerAfterCommit(request.token, .ok, .empty, .zero)
            wantsCommit = true
        case .abortRecovery:
            abortRecovery(request, now: now)
        case .targetShow(let show):
            reply(request, .ok, .target(account(show, now: now)), now: now)
        case .auditRead(let audit):
            reply(request, .ok, .audit(readAudit(audit)), now: now)
        default:
            rpc.reply(request.token, status: .notSupported, lnet: &lnet, now: now)
        }
    }

    private mutating func reply(
        _ request: ServerRequest, _ status: Status, _ body: ReplyBody, now: Ticks
    ) {
        rpc.reply(
            request.token, status: status, body: body,
            trailer: upgrade.trailer(for: request.export), lnet: &lnet, now: now)
    }

    private mutating func read(_ request: ServerRequest, now: Ticks) {
        guard let store else { return }
        var transaction = Transaction()
        switch service {
        case .metadata(var metadata):
            let result = metadata.execute(
                request.body, client: request.export, isReplay: request.isReplay, in: store,
                into: &transaction)
            service = .metadata(metadata)
            guard case .reply(let status, let body) = result else { return }
            if meetsDamage(request, now: now) { return }
            reply(request, status, body, now: now)
        case .object(let object):
            guard
                case .reply(let status, let body) = object.execute(
                    request.body, in: store, into: &transaction)
            else { return }
            if meetsDamage(request, now: now) { return }
            reply(request, status, body, now: now)
        }
        precondition(transaction.isEmpty, "a request that reads writes nothing")
    }

    /// `isAlone`: the target has locks of its own on all that the update changes.
    mutating func executeUpdate(
        _ request: ServerRequest, isAlone: Bool = false, now: Ticks
    ) {
        // No copy of the store or of the service may live while it is changed: its arrays, the open
        // group's and the open files', would be copied whole with every update.
        guard store != nil else { return }
        let kind: UpgradeTarget.RequestClass =
            request.isReplay ? .replay : request.body.passesGate ? .flush : .update
        // Until the clean record is withdrawn on disk, nothing may be promised beside it.
        var commitsFirst =
            commitsBeforeReply || sites.fires(.answerAfterCommit)
            || (!isRunCommitted && !configuration.mutation.is(.repliesBeforeWithdrawal))
        switch upgrade.judge(request.export, kind) {
        case .execute: break
        case .executeAndCommit: commitsFirst = true
        case .refuse:
            rpc.refuse(
                request.token, .inProgress, trailer: upgrade.trailer(for: request.export),
                lnet: &lnet, now: now)
            return
        case .leaveForNext:
            return leaveForNext(request)
        }
        if refusesForDisk(request, kind, now: now) { return }
        guard isAlone || self.isAlone(request, now: now) else { return }
        guard hasRoom(for: request) else {
            rpc.reply(
                request.token, status: .noSpace, trailer: upgrade.trailer(for: request.export),
                lnet: &lnet, now: now)
            return
        }
        switch request.body {
        case .objectCreate, .objectDestroy: commitsFirst = true
        default: break
        }
        if case .open = request.body, !request.isReplay, sites.fires(.waitForObjects) {
            return waitForObjects(request, now: now)
        }
        var body = request.body
        var transaction = Transaction()
        if let fault = configuration.fault {
            if inject(fault, request, &body, now: now) { return }
        }
        let status: Status
        var replyBody: ReplyBody
        let found = versions(before: request)
        if meetsDamage(request, now: now) { return }
        guard isReplayable(request, found) else {
            versionMismatchCount += 1
            noteFailedReplay(request, "it found other versions of its files than the first time")
            rpc.reply(
                request.token, status: .overflow, trailer: upgrade.trailer(for: request.export),
                lnet: &lnet, now: now)
            return
        }
        switch service {
        case .metadata(var metadata):
            service = .object(ObjectService(targetIndex: 0))
            metadata.transno = upcomingTransno(for: request)
            let result = metadata.execute(
                body, client: request.export, isReplay: request.isReplay, in: store!,
                into: &transaction)
            service = .metadata(metadata)
            switch result {
            case .reply(let resultStatus, let resultBody):
                status = resultStatus
                replyBody = resultBody
            case .waitForObjects:
                return waitForObjects(request, now: now)
            }
        case .object(let object):
            switch object.execute(body, in: store!, into: &transaction) {
            case .reply(let resultStatus, let resultBody):
                status = resultStatus
                replyBody = resultBody
            }
        }
        if meetsDamage(request, now: now) { return }
        guard !status.isError else {
            if request.isReplay { noteFailedReplay(request, "\(status)") }
            rpc.reply(
                request.token, status: status, trailer: upgrade.trailer(for: request.export),
                lnet: &lnet, now: now)
            return
        }
        if case .changed = replyBody, !rpc.features(of: request.export).contains(.caching) {
            replyBody = .empty
        }
        let transno = takeTransno(for: request)
        if let row = rpc.replyRecord(
            request.token, status: status, body: replyBody, transno: transno, preVersions: found)
        {
            transaction.put(.replyData, key: row.key, value: row.value)
        }
        if configuration.keepsAudit { addAudit(request, into: &transaction) }
        transaction.transno = transno.rawValue
        apply(&transaction, now: now)
        if configuration.mutation.is(.tellsCommittedEarly) { rpc.lastCommitted = transno }
        replyBody = grantForOpen(request, replyBody, now: now)
        replyBody = account(request, replyBody)
        if commitsFirst {
            answerAfterCommit(request.token, status, replyBody, transno, found)
            wantsCommit = true
        } else {
            rpc.reply(
                request.token, status: status, body: replyBody, transno: transno,
                preVersions: found, trailer: upgrade.trailer(for: request.export), lnet: &lnet,
                now: now)
        }
    }

    /// Neither executed nor answered: the client sends it again, to the next instance. Kept for the
    /// case that the seal is taken back; of each client there are as many as it may have under way.
    mutating func leaveForNext(_ request: ServerRequest) {
        precondition(isSealed || upgrade.standing(of: request.export) == .leftBehind)
        leftRequests.append(request)
    }

    /// There will be no next instance: what was left for it is done now.
    mutating func takeLeftRequests(now: Ticks) {
        let left = leftRequests
        leftRequests = []
        for request in left where rpc.isCurrent(request.token) { execute(request, now: now) }
    }

    /// What `takeTransno` will give.
    private func upcomingTransno(for request: ServerRequest) -> UInt64 {
        request.isReplay && request.replayTransno != .zero
            ? request.replayTransno.rawValue : nextTransno
    }

    private mutating func takeTransno(for request: ServerRequest) -> Transno {
        if request.isReplay, request.replayTransno != .zero {
            nextTransno = max(nextTransno, request.replayTransno.rawValue + 1)
            return request.replayTransno
        }
        defer {
            faultCounter += 1
            let isReused = configuration.mutation.is(.reusesTransno) && faultCounter % 8 == 0
            if !isReused { nextTransno += 1 }
        }
        return Transno(rawValue: nextTransno)
    }

    mutating func answerAfterCommit(
        _ token: RequestToken, _ status: Status, _ body: ReplyBody, _ transno: Transno,
        _ preVersions: PreVersions = PreVersions()
    ) {
        afterOpenGroup.append(.reply(token, status, body, transno, preVersions))
    }

    // MARK: Audit and deliberate faults

    /// Key: the client's UUID, a zero byte, the XID big-endian. Value: executions, little-endian.
    private static func auditKey(_ uuid: String, _ xid: XID) -> [UInt8] {
        var key = Array(uuid.utf8)
        key.append(0)
        for shift in stride(from: 56, through: 0, by: -8) {
            key.append(UInt8(truncatingIfNeeded: xid.rawValue >> UInt64(shift)))
        }
        return key
    }

    private mutating func addAudit(_ request: ServerRequest, into transaction: inout Transaction) {
        guard let summary = rpc.summary(of: request.export), let store else { return }
        let key = Self.auditKey(summary.uuid, request.xid)
        let before = store.read(.audit, key)?.first ?? 0
        // Not the next request's: it would be refused for what it never read.
        noteDamage("audit")
        transaction.put(.audit, key: key, value: [before < 255 ? before + 1 : before])
    }

    private func readAudit(_ request: AuditReadRequest) -> AuditReadReply {
        guard let store else { return AuditReadReply(rows: [], isEnd: true) }
        var rows: [AuditRow] = []
        var isEnd = true
        let after = Self.auditKey(request.afterClient, request.afterXID)
        store.scan(.audit, from: request.afterClient.isEmpty ? [0] : after) { key, value in
            guard key != after, key.count > 9 else { return true }
            guard rows.count < AuditReadReply.rowCountMax else {
                isEnd = false
                return false
            }
            let uuid = String(decoding: key[..<(key.count - 9)], as: UTF8.self)
            let xid = key[(key.count - 8)...].reduce(0) { $0 << 8 | UInt64($1) }
            rows.append(
                AuditRow(
                    clientUUID: uuid, xid: XID(rawValue: xid),
                    executions: UInt32(value.first ?? 0)))
            return true
        }
        return AuditReadReply(rows: rows, isEnd: isEnd)
    }

    /// One update in so many is done wrong. A lost or repeated one shows in the audit table for
    /// certain; a wrong byte may be written over or its file removed, so that it is in every write.
    private static func faultInterval(_ fault: DeliberateFault) -> UInt64 {
        switch fault {
        case .lose, .repeat: 20
        case .corrupt: 1
        }
    }

    /// True once in a fault's interval.
    private mutating func faultIsDue(_ fault: DeliberateFault, _ request: ServerRequest) -> Bool {
        faultCounter += 1
        guard faultCounter % Self.faultInterval(fault) == 0 else { return false }
        log(.injected("\(fault) request \(request.xid.rawValue)"))
        return true
    }

    /// Does what the fault says to some updates; true where the request ends here.
    private mutating func inject(
        _ fault: DeliberateFault, _ request: ServerRequest, _ body: inout RequestBody, now: Ticks
    ) -> Bool {
        guard !request.isReplay else { return false }
        switch (fault, body) {
        case (.lose, .unlink), (.lose, .rename), (.lose, .objectWrite), (.lose, .setattr):
            guard faultIsDue(fault, request) else { return false }
            let transno = takeTransno(for: request)
            rpc.reply(request.token, status: .ok, transno: transno, lnet: &lnet, now: now)
            return true
        case (.repeat, .objectWrite), (.repeat, .setattr):
            guard let store, faultIsDue(fault, request) else { return false }
            var transaction = Transaction()
            switch service {
            case .metadata(var metadata):
                _ = metadata.execute(
                    body, client: request.export, isReplay: false, in: store, into: &transaction)
                service = .metadata(metadata)
            case .object(let object):
                _ = object.execute(body, in: store, into: &transaction)
            }
            if configuration.keepsAudit { addAudit(request, into: &transaction) }
            transaction.transno = takeTransno(for: request).rawValue
            apply(&transaction, now: now)
            return false
        case (.corrupt, .objectWrite(var write)):
            guard !write.data.isEmpty, faultIsDue(fault, request) else { return false }
            write.data[write.data.count / 2] ^= 0x40
            body = .objectWrite(write)
            return false
        default:
            return false
        }
    }
}
