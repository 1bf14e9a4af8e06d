public import Primitives
public import WireFormat

/// Random values of everything that travels. Equal seeds give equal messages.
///
/// Values are such as Sluice itself sends: ids that servers allocate, legal names, known modes.
public struct RandomMessages {
    public var random: SplitMix64
    /// Whether messages may name no file where they name one.
    public var namesNoFile = true

    public init(seed: UInt64) { random = SplitMix64(seed: seed) }

    // MARK: - Numbers and names

    /// Any word; small and extreme ones often.
    public mutating func word() -> UInt64 {
        switch random.below(4) {
        case 0: UInt64(random.below(16))
        case 1: random.next() >> UInt64(random.below(64))
        case 2: .max - UInt64(random.below(3))
        default: random.next()
        }
    }

    public mutating func word32() -> UInt32 { UInt32(truncatingIfNeeded: word()) }
    public mutating func flag() -> Bool { random.oneIn(2) }

    /// A file id that some metadata target may have given out.
    public mutating func fileID() -> FileID {
        switch random.below(8) {
        case 0: .root
        case 1 where namesNoFile: .none
        default:
            FileID(
                sequence: FileID.sequenceBase + 0x400 + UInt64(random.below(4096)) << 20
                    + UInt64(random.below(1 << 20)), objectNumber: word32())
        }
    }

    public mutating func objectName() -> ObjectName {
        ObjectName(targetIndex: UInt32(random.below(64)), number: word())
    }

    /// Between 1970 and 2100 as a rule; sometimes before, sometimes at an edge.
    public mutating func timestamp() -> Timestamp {
        let seconds: Int64 =
            switch random.below(6) {
            case 0: -Int64(random.below(1 << 40))
            case 1: .max
            default: Int64(random.below(4_102_444_800))
            }
        return Timestamp(
            seconds: seconds,
            nanoseconds: random.oneIn(4) ? 999_999_999 : UInt32(random.below(1_000_000_000)))
    }

    /// A legal name of 1 to 255 bytes, some of them beyond ASCII.
    public mutating func name() -> FileName {
        let letters: [Character] = ["a", "b", "Z", "0", ".", "-", " ", "é", "ß", "水", "𝛑"]
        let limit = random.oneIn(6) ? FileName.byteCountMax : 1 + random.below(20)
        var text = ""
        while true {
            let letter = String(letters[random.below(letters.count)])
            guard text.utf8.count + letter.utf8.count <= limit else { break }
            text += letter
        }
        return FileName(text) ?? FileName("n\(random.below(1000))")!
    }

    /// What stands in an `obd_uuid`.
    public mutating func uuid() -> String {
        let letters = Array("client-0123_é")
        return String((0..<random.below(20)).map { _ in letters[random.below(letters.count)] })
    }

    public mutating func nid() -> NID {
        NID(
            address: word32(), type: flag() ? .tcp : .o2ib,
            number: UInt16(truncatingIfNeeded: word()))
    }

    public mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    public mutating func pick<C: RandomAccessCollection>(_ all: C) -> C.Element {
        all[all.index(all.startIndex, offsetBy: random.below(all.count))]
    }

    // MARK: - Parts

    public mutating func attributes() -> FileAttributes {
        FileAttributes(
            file: fileID(), type: flag() ? .regular : .directory,
            mode: UInt32(random.below(0o10000)),
            linkCount: word32(), modified: timestamp(), changed: timestamp(), entryCount: word(),
            accessed: timestamp(), created: timestamp())
    }

    public mutating func lockGrant() -> LockGrant {
        LockGrant(
            clientCookie: word(), serverCookie: word(), file: fileID(),
            bits: InodeBits(rawValue: word()))
    }

    public mutating func layout() -> FileLayout {
        let count = random.oneIn(8) ? FileLayout.stripeCountMax : random.below(5)
        if count == 0 { return .none }
        return FileLayout(
            stripeSize: max(1, word32()),
            stripes: (0..<count).map { _ in
                FileLayout.Stripe(targetIndex: word32(), object: objectName())
            })
    }

    public mutating func epoch() -> UpgradeEpoch {
        random.oneIn(4) ? .none : UpgradeEpoch(instance: word(), counter: word())
    }

    public mutating func notice() -> UpgradeNotice {
        UpgradeNotice(
            epoch: epoch(), scheme: pick(UpgradeScheme.allCases),
            cachePolicy: pick(CachePolicy.allCases),
            deadlinePolicy: pick(DeadlinePolicy.allCases), isPreflush: flag(),
            deadlineMs: word32(), expectedPauseMs: word32(), next: nid(),
            readPolicy: pick(ReadPolicy.allCases))
    }

    public mutating func receipt() -> UpgradeReceipt {
        UpgradeReceipt(
            epoch: epoch(), lastXID: XID(rawValue: word()), lastTransno: Transno(rawValue: word()),
            openCount: word32(), flushedBytes: word())
    }

    public mutating func admission() -> AdmissionState {
        AdmissionState(rawValue: UInt8(random.below(5))) ?? .none
    }

    public mutating func valueBlock() -> OSTLVB {
        var block = OSTLVB()
        block.size = word()
        block.mtime = timestamp().seconds
        block.atime = timestamp().seconds
        block.ctime = timestamp().seconds
        block.blocks = word()
        block.mtimeNanoseconds = timestamp().nanoseconds
        block.atimeNanoseconds = timestamp().nanoseconds
        block.ctimeNanoseconds = timestamp().nanoseconds
        return block
    }

    public mutating func lockDescriptor() -> LockDescriptor {
        let resource =
            random.oneIn(4) ? ResourceID.admission(word()) : ResourceID(objectName())
        let policy: LockPolicy =
            switch random.below(4) {
            case 0: .plain
            case 1: .flock(Extent(start: word(), end: word()), owner: word(), pid: word32())
            case 2: .inodeBits(word(), other: word(), group: word(), initiator: word32())
            default: .extent(Extent(start: word(), end: word()), group: word())
            }
        return LockDescriptor(
            resource: resource, requestedMode: pick(LockMode.allCases),
            grantedMode: flag() ? pick(LockMode.allCases) : nil, policy: policy)
    }

    private mutating func words(below limit: Int) -> [UInt64] {
        let count = random.oneIn(8) ? limit - 1 : random.below(5)
        return (0..<count).map { _ in word() }
    }

    private mutating func callback() -> LDLMRequest {
        .callback(
            clientCookie: word(), serverCookie: word(), flags: LockFlags(rawValue: word32()),
            descriptor: lockDescriptor())
    }

    private mutating func versions() -> ClosedRange<ProtocolVersion> {
        let low = UInt16(1 + random.below(3))
        return ProtocolVersion(
            rawValue: low)...ProtocolVersion(rawValue: low + UInt16(random.below(3)))
    }

    private mutating func connectData() -> ObdConnectData {
        var data = ObdConnectData()
        data.flags = word()
        data.version = word32()
        data.grant = word32()
        data.inodeBits = word()
        data.index = word32()
        data.bulkSize = word32()
        data.transno = word()
        data.instance = word32()
        data.modifyingRequestsMax = UInt16(truncatingIfNeeded: word())
        data.flags2 = word()
        return data
    }
}

extension RandomMessages {
    // MARK: - Requests

    /// Kinds of request that `request` knows: every case of `RequestBody` but the batch, which
    /// version 3 has alone.
    public static let requestKindCount = 38

    /// A random request of one kind. Data of writes stays within the message.
    public mutating func request(kind: Int) -> RequestBody {
        switch kind {
        case 0:
            var connect = ConnectRequest(
                targetName: uuid(), clientUUID: uuid(), clientHandle: word(),
                versions: versions(), features: Features(rawValue: word()), epoch: epoch(),
                lastInstance: word(), isObserver: flag())
            connect.connectData = connectData()
            return .connect(connect, pick(TargetKind.allCases))
        case 1: return .disconnect(pick(TargetKind.allCases))
        case 2: return .ping
        case 3:
            let request = LDLMRequest.enqueue(
                cookie: word(), flags: LockFlags(rawValue: word32()),
                descriptor: lockDescriptor(), cancelling: words(below: 500))
            return .enqueue(EnqueueRequest(request: request, receipt: flag() ? receipt() : nil))
        case 4: return .cancel(.cancel(cookies: words(below: 501)))
        case 5:
            return .blockingAST(BlockingAST(request: callback(), notice: flag() ? notice() : nil))
        case 6:
            let told = random.below(3)
            let commit = CommitNotice(
                epoch: epoch(), lastCommitted: Transno(rawValue: word()), next: nid())
            return .completionAST(
                CompletionAST(
                    request: callback(), valueBlock: valueBlock(),
                    commitNotice: told == 1 ? commit : nil, grantEpoch: told == 2 ? epoch() : nil))
        case 7: return .getattr(fileID())
        case 8:
            let count = random.oneIn(8) ? LookupRequest.nameCountMax : random.below(4)
            return .lookup(
                LookupRequest(parent: fileID(), path: (0..<count).map { _ in name() }))
        case 9:
            return .setattr(
                SetattrRequest(
                    file: fileID(), mode: flag() ? word32() : nil,
                    modified: flag() ? timestamp() : nil,
                    accessed: flag() ? timestamp() : nil, time: flag() ? timestamp() : nil))
        case 10:
            return .mkdir(
                MkdirRequest(
                    parent: fileID(), name: name(), mode: word32(), time: timestamp(),
                    file: fileID()))
        case 11:
            var open = OpenRequest(
                parent: fileID(), name: name(), flags: OpenFlags(rawValue: word32() & 15),
                mode: word32(), stripeCount: word32(), time: timestamp(), lockCookie: word())
            if flag() {
                open.file = fileID()
                open.handle = word()
                open.layout = layout()
            }
            return .open(open)
        case 12:
            return .openReplay(
                OpenReplayRequest(
                    file: fileID(), handle: word(), flags: OpenFlags(rawValue: word32() & 15)))
        case 13: return .close(CloseRequest(file: fileID(), handle: word()))
        case 14:
            return .unlink(
                UnlinkRequest(
                    parent: fileID(), name: name(), isDirectory: flag(), time: timestamp()))
        default: return laterRequest(kind: kind)
        }
    }

    private mutating func laterRequest(kind: Int) -> RequestBody {
        switch kind {
        case 15:
            return .rename(
                RenameRequest(
                    sourceParent: fileID(), sourceName: name(), targetParent: fileID(),
                    targetName: name(), time: timestamp()))
        case 16:
            return .readdir(
                ReaddirRequest(
                    directory: fileID(), after: flag() ? name() : nil, entryCountMax: word32(),
                    wantsAttributes: flag()))
        case 17:
            return .objectCreate(
                ObjectCreateRequest(first: objectName(), count: UInt32(random.below(1025))))
        case 18:
            let count = random.oneIn(8) ? ObjectDestroyRequest.countMax : random.below(4)
            return .objectDestroy(
                ObjectDestroyRequest(objects: (0..<count).map { _ in objectName() }))
        case 19:
            let count = random.oneIn(8) ? ObjectWriteRequest.inlineMax : random.below(100)
            return .objectWrite(
                ObjectWriteRequest(
                    object: objectName(), offset: word() >> 2, time: timestamp(),
                    data: bytes(count)))
        case 20:
            return .objectRead(
                ObjectReadRequest(
                    object: objectName(), offset: word() >> 2,
                    byteCount: UInt32(random.below(ObjectWriteRequest.byteCountMax + 1))))
        case 21:
            return .objectPunch(
                ObjectPunchRequest(object: objectName(), size: word() >> 1, time: timestamp()))
        case 22: return .objectGetattr(objectName())
        case 23: return .upgradeProgress(epoch())
        case 24: return .targetUp(TargetUp(targetName: uuid(), instance: word(), nid: nid()))
        case 25:
            return .upgradeStart(
                UpgradeStart(
                    scheme: pick(UpgradeScheme.allCases), cachePolicy: pick(CachePolicy.allCases),
                    deadlinePolicy: pick(DeadlinePolicy.allCases), deadlineMs: word32(),
                    expectedPauseMs: word32(), expiryMs: word32(), next: nid(), isAbort: flag()))
        case 26: return .upgradeStatus
        case 27:
            return .auditRead(
                AuditReadRequest(afterClient: uuid(), afterXID: XID(rawValue: word())))
        case 28: return .abortRecovery
        case 29:
            let count = random.oneIn(8) ? LookupRequest.nameCountMax : random.below(4)
            return .locate(
                LocateRequest(
                    parent: fileID(), path: (0..<count).map { _ in name() },
                    cookies: (0..<max(1, count)).map { _ in word() }))
        case 30:
            return .link(
                LinkRequest(file: fileID(), parent: fileID(), name: name(), time: timestamp()))
        case 31: return .statfs(pick(TargetKind.allCases))
        case 32:
            return .convert(.convert(cookie: word(), descriptor: lockDescriptor()))
        case 33: return .glimpseAST(callback())
        case 34: return .sync(pick(TargetKind.allCases))
        case 35: return .targetShow(TargetShowRequest(firstClient: word32()))
        case 36: return .upgradeOrder(order())
        case 37: return .upgradeReceipts(after: uuid())
        default: preconditionFailure("no request of kind \(kind)")
        }
    }

    // MARK: - Replies

    /// Kinds of reply that `reply` knows: every case of `ReplyBody` but the batch.
    public static let replyKindCount = 21

    /// A random reply of one kind, with an opcode that it answers.
    public mutating func reply(kind: Int) -> (opcode: Opcode, body: ReplyBody) {
        switch kind {
        case 0: return (pick([.ping, .close, .unlink, .ldlmCancel, .ldlmBlockingAST]), .empty)
        case 1:
            var reply = ConnectReply(
                version: flag() ? .v1 : .v2, features: Features(rawValue: word()),
                mode: ConnectReply.Mode(rawValue: UInt8(random.below(4))) ?? .fresh,
                admission: admission(), instance: word(), epoch: epoch(), admissionLock: word(),
                lastCommitted: Transno(rawValue: word()), notice: flag() ? notice() : nil)
            reply.connectData = connectData()
            return (pick([.mdsConnect, .ostConnect]), .connect(reply))
        case 2:
            let reply = LDLMReply(
                flags: LockFlags(rawValue: word32()), descriptor: lockDescriptor(),
                serverCookie: word(), policyResult1: word(), policyResult2: word())
            return (
                .ldlmEnqueue, .enqueue(EnqueueReply(reply: reply, valueBlock: valueBlock()))
            )
        case 3: return (.ldlmBlockingAST, .receipt(receipt()))
        case 4:
            return (
                pick([.lookup, .getattr, .setattr, .mkdir]),
                .attributes(AttributesReply(attributes: attributes(), layout: layout()))
            )
        case 5:
            return (
                .open,
                .open(
                    OpenReply(
                        handle: word(), wasCreated: flag(), attributes: attributes(),
                        layout: layout(), grant: flag() ? lockGrant() : nil))
            )
        case 6:
            let count = random.oneIn(8) ? 300 : random.below(5)
            let entries = (0..<count).map { _ in
                DirectoryEntry(
                    name: name(), file: fileID(), type: flag() ? .regular : .directory,
                    attributes: flag() ? attributes() : nil)
            }
            return (.readdir, .readdir(ReaddirReply(entries: entries, isEnd: flag())))
        case 7:
            let count = random.oneIn(8) ? ObjectWriteRequest.inlineMax : random.below(100)
            return (.objectRead, .read(ObjectReadReply(data: bytes(count))))
        case 8:
            return (
                .objectGetattr,
                .objectAttributes(ObjectAttributes(size: word() >> 1, modified: timestamp()))
            )
        case 9: return (.upgradeStart, .upgradeStarted(epoch()))
        case 10: return (.upgradeStatus, .upgradeStatus(status()))
        case 11:
            let rows = (0..<random.below(20)).map { _ in
                AuditRow(clientUUID: uuid(), xid: XID(rawValue: word()), executions: word32())
            }
            return (.auditRead, .audit(AuditReadReply(rows: rows, isEnd: flag())))
        case 12:
            return (
                .locate,
                .located(
                    LocateReply(
                        files: (0..<random.below(5)).map { _ in fileID() },
                        found: flag()
                            ? AttributesReply(attributes: attributes(), layout: layout()) : nil,
                        grants: (0..<random.below(5)).map { _ in lockGrant() }))
            )
        case 13:
            return (
                pick([.unlink, .rename, .link]),
                .changed(ChangedReply(files: (0..<random.below(3)).map { _ in fileID() }))
            )
        case 14: return (.objectWrite, .written(WriteReply(grant: word())))
        case 15:
            return (
                pick([.ostStatfs, .mdsStatfs]),
                .statfs(
                    StatfsReply(
                        blockCount: word(), blocksFree: word(), blocksAvailable: word(),
                        fileCount: word(), filesFree: word(), blockSize: word32(),
                        blocksGranted: word32()))
            )
        case 16:
            let reply = LDLMReply(
                flags: [], descriptor: lockDescriptor(), serverCookie: word(),
                policyResult1: 0, policyResult2: 0)
            return (.ldlmConvert, .converted(reply))
        case 17: return (.ldlmGlimpseAST, .valueBlock(valueBlock()))
        case 18: return (.targetShow, .target(target()))
        case 19:
            return (
                .upgradeOrder,
                .upgradeAnswer(
                    UpgradeAnswer(
                        isTaken: flag(), phase: pick(UpgradePhase.allCases), epoch: epoch(),
                        sentence: uuid()))
            )
        case 20:
            let rows = (0..<random.below(6)).map { _ in
                UpgradeReceiptsReply.Row(
                    uuid: uuid(), nid: nid(), kind: pick(UpgradeReceiptsReply.Kind.allCases),
                    hasReturned: flag(), receipt: flag() ? receipt() : nil)
            }
            return (
                .upgradeReceipts,
                .upgradeReceipts(
                    UpgradeReceiptsReply(
                        isLive: flag(), epoch: epoch(), lastTransno: Transno(rawValue: word()),
                        rows: rows, isEnd: flag()))
            )
        default: preconditionFailure("no reply of kind \(kind)")
        }
    }

    private mutating func target() -> TargetShowReply {
        let clients = (0..<random.below(6)).map { _ in
            TargetShowReply.Client(
                uuid: uuid(), nid: nid(), version: flag() ? .v1 : .v3,
                standing: pick(TargetShowReply.Standing.allCases),
                flags: flag() ? [.connected, .countedOut] : [.observer], admission: admission(),
                lastXID: XID(rawValue: word()), requests: word32(), locks: word32(),
                opens: word32(), replayed: word32(), replaysFailed: word32(), grant: word(),
                silentNs: word())
        }
        var recovery = TargetShowReply.Recovery()
        recovery.clients = word32()
        recovery.absent = word32()
        recovery.busy = word32()
        recovery.done = word32()
        recovery.queued = word32()
        recovery.nextTransno = Transno(rawValue: word())
        recovery.windowNs = word()
        recovery.limitNs = word()
        var locks = TargetShowReply.Locks()
        locks.count = word()
        locks.waiting = word()
        locks.reserved = word()
        locks.bytes = word()
        return TargetShowReply(
            targetName: uuid(), kind: pick(TargetKind.allCases), phase: pick(UpgradePhase.allCases),
            stage: pick(TargetShowReply.Stage.allCases), epoch: epoch(), instance: word(),
            versions: versions(), features: Features(rawValue: word()),
            lastTransno: Transno(rawValue: word()), lastCommitted: Transno(rawValue: word()),
            servedNs: word(), recovery: recovery, locks: locks, opens: word(),
            counters: (0..<random.below(TargetCounter.allCases.count + 3)).map { _ in word() },
            clients: clients, next: word32())
    }

    private mutating func status() -> UpgradeStatusReply {
        let clients = (0..<random.below(10)).map { _ in
            UpgradeStatusReply.Client(
                uuid: uuid(), nid: nid(), admission: admission(), isCountedOut: flag(),
                isConnected: flag(), version: flag() ? .v1 : .v2, receiptNs: word())
        }
        return UpgradeStatusReply(
            targetName: uuid(), phase: pick(UpgradePhase.allCases), epoch: epoch(),
            instance: word(), versions: versions(), lastTransno: Transno(rawValue: word()),
            lastCommitted: Transno(rawValue: word()), replayed: word(), resent: word(),
            evictions: word(), preparedNs: word(), committedNs: word(), clients: clients,
            details: flag() ? details(clientCount: clients.count) : nil)
    }

    private mutating func order() -> UpgradeStart {
        var order = UpgradeStart(
            scheme: pick(UpgradeScheme.allCases), cachePolicy: pick(CachePolicy.allCases),
            deadlinePolicy: pick(DeadlinePolicy.allCases), deadlineMs: word32(),
            expectedPauseMs: word32(), expiryMs: word32(), next: nid(), preflushMs: word32(),
            pauseBudgetMs: word32(), readPolicy: pick(ReadPolicy.allCases), holds: flag())
        order.action = pick(UpgradeAction.allCases)
        return order
    }

    private mutating func details(clientCount: Int) -> UpgradeDetails {
        var details = UpgradeDetails()
        details.scheme = pick(UpgradeScheme.allCases)
        details.readPolicy = pick(ReadPolicy.allCases)
        details.isOrdered = flag()
        details.holds = flag()
        details.isPreflushing = flag()
        details.lastAbort = flag() ? UInt8(random.below(6)) : nil
        details.finalized = flag() ? .v2 : nil
        details.clientCount = word32()
        details.deadlineLeftMs = word32()
        details.next = nid()
        details.commitLagNs = word()
        for _ in 0..<clientCount {
            details.clients.append(
                UpgradeDetails.Client(
                    standing: UInt8(random.below(6)), hasNotice: flag(), isFlushed: flag(),
                    requestCount: UInt16(random.below(9)), silentMs: word32(),
                    receipt: flag() ? receipt() : nil))
        }
        return details
    }
}
