import WireFormat

/// One instance of every message, with the name of its golden bytes.
enum GoldenMessages {
    static let file = FileID(sequence: 0x2_0000_0400, objectNumber: 0x11)
    static let object = ObjectName(targetIndex: 2, number: 0x33)
    static let time = Timestamp(seconds: 1_234_567_890, nanoseconds: 987_654_321)
    static let epoch = UpgradeEpoch(instance: 5, counter: 2)
    static let nid = NID(address: 0x0A00_0001, type: .tcp)

    static let layout = FileLayout(
        stripeSize: 0x10_0000,
        stripes: [
            .init(targetIndex: 2, object: object),
            .init(targetIndex: 3, object: ObjectName(targetIndex: 3, number: 0x44)),
        ])
    static let attributes = FileAttributes(
        file: file, type: .regular, mode: 0o644, linkCount: 1, modified: time,
        changed: Timestamp(seconds: 1_234_567_891, nanoseconds: 1), entryCount: 0,
        accessed: Timestamp(seconds: 1_234_567_892, nanoseconds: 2),
        created: Timestamp(seconds: 1_234_567_893, nanoseconds: 3))
    static let grant = LockGrant(
        clientCookie: 0xC8, serverCookie: 0xC5, file: file, bits: .everything)
    static let notice = UpgradeNotice(
        epoch: epoch, scheme: .drain, cachePolicy: .flush, deadlinePolicy: .leaveBehind,
        isPreflush: true, deadlineMs: 10_000, expectedPauseMs: 1_000, next: nid)
    static let receipt = UpgradeReceipt(
        epoch: epoch, lastXID: XID(rawValue: 0x80), lastTransno: Transno(rawValue: 0x77),
        openCount: 3, flushedBytes: 0x1_0000)
    static let commit = CommitNotice(
        epoch: epoch, lastCommitted: Transno(rawValue: 0x77), next: nid)
    static let descriptor = LockDescriptor(
        resource: ResourceID(object), requestedMode: .pw, grantedMode: .pr,
        policy: .extent(Extent(start: 0x1000, end: 0x1FFF)))
    static let admission = LockDescriptor(
        resource: .admission(1), requestedMode: .cr, policy: .plain)

    static var valueBlock: OSTLVB {
        var block = OSTLVB()
        block.size = 0x1234
        block.mtime = 1_234_567_890
        block.mtimeNanoseconds = 987_654_321
        block.blocks = 16
        return block
    }

    private static func name(_ text: String) -> FileName {
        guard let name = FileName(text) else { preconditionFailure("\(text) is a name") }
        return name
    }

    private static var connect: ConnectRequest {
        var connect = ConnectRequest(
            targetName: "sluice-MDT0000", clientUUID: "client-1", clientHandle: 0xC1,
            versions: .v1 ... .v2, features: .upgrade, epoch: epoch, lastInstance: 5,
            isObserver: true)
        connect.connectData.flags = 0x20
        connect.connectData.bulkSize = 0x10_0000
        connect.connectData.instance = 5
        return connect
    }

    private static var open: OpenRequest {
        OpenRequest(
            parent: .root, name: name("été"), flags: [.read, .write, .create], mode: 0o600,
            stripeCount: 2, time: time, lockCookie: 0xC8)
    }

    private static var openReplayed: OpenRequest {
        var replayed = open
        replayed.file = file
        replayed.handle = 0x5_0000_0001
        replayed.layout = layout
        return replayed
    }

    static var requests: [(name: String, body: RequestBody)] {
        [
            ("connect", .connect(connect, .mds)),
            ("disconnect", .disconnect(.oss)),
            ("ping", .ping),
            (
                "enqueue",
                .enqueue(
                    EnqueueRequest(
                        request: .enqueue(
                            cookie: 0xC2, flags: .noExpansion, descriptor: descriptor,
                            cancelling: [0xC3, 0xC4])))
            ),
            (
                "enqueue admission",
                .enqueue(
                    EnqueueRequest(
                        request: .enqueue(cookie: 0xC2, flags: [], descriptor: admission),
                        receipt: receipt))
            ),
            ("cancel", .cancel(.cancel(cookies: [0xC5, 0xC6, 0xC7]))),
            (
                "convert",
                .convert(
                    .convert(
                        cookie: 0xC5,
                        descriptor: LockDescriptor(
                            resource: ResourceID(0x2_0000_0400, 0x33), requestedMode: .pr,
                            grantedMode: .pr, policy: .bits([.lookup, .perm]))))
            ),
            (
                "glimpse AST",
                .glimpseAST(
                    .callback(
                        clientCookie: 0xC2, serverCookie: 0xC5, flags: [], descriptor: descriptor))
            ),
            (
                "enqueue of a record lock",
                .enqueue(
                    EnqueueRequest(
                        request: .enqueue(
                            cookie: 0xC2, flags: .blockNoWait,
                            descriptor: LockDescriptor(
                                resource: ResourceID(0x2_0000_0400, 0x33, 0, 12),
                                requestedMode: .pw,
                                policy: .flock(
                                    Extent(start: 5, end: 9), owner: 0x77, pid: 0x88)))))
            ),
            (
                "lock replay",
                .enqueue(
                    EnqueueRequest(
                        request: .replay(
                            cookie: 0xC2,
                            descriptor: LockDescriptor(
                                resource: ResourceID(0x2_0000_0400, 0x33), requestedMode: .pr,
                                grantedMode: .pr, policy: .bits(.lookup)))))
            ),
            (
                "blocking AST",
                .blockingAST(
                    BlockingAST(
                        request: .callback(
                            clientCookie: 0xC2, serverCookie: 0xC5, flags: .discardData,
                            descriptor: descriptor)))
            ),
            (
                "blocking AST with notice",
                .blockingAST(
                    BlockingAST(
                        request: .callback(
                            clientCookie: 0xC2, serverCookie: 0xC5, flags: [],
                            descriptor: admission), notice: notice))
            ),
            (
                "completion AST",
                .completionAST(
                    CompletionAST(
                        request: .callback(
                            clientCookie: 0xC2, serverCookie: 0xC5, flags: [],
                            descriptor: descriptor), valueBlock: valueBlock))
            ),
            (
                "completion AST with commit",
                .completionAST(
                    CompletionAST(
                        request: .callback(
                            clientCookie: 0xC2, serverCookie: 0xC5, flags: [],
                            descriptor: admission), valueBlock: OSTLVB(), commitNotice: commit))
            ),
            (
                "completion AST with grant",
                .completionAST(
                    CompletionAST(
                        request: .callback(
                            clientCookie: 0xC2, serverCookie: 0xC5, flags: [],
                            descriptor: admission), valueBlock: OSTLVB(), grantEpoch: epoch))
            ),
            ("getattr", .getattr(file)),
            ("lookup", .lookup(LookupRequest(parent: .root, path: [name("a"), name("bc")]))),
            (
                "setattr",
                .setattr(
                    SetattrRequest(
                        file: file, mode: 0o755, modified: time, accessed: time, time: time))
            ),
            (
                "locate",
                .locate(
                    LocateRequest(
                        parent: .root, path: [name("a"), name("bc")], cookies: [0xC8, 0xC9]))
            ),
            (
                "link",
                .link(LinkRequest(file: file, parent: .root, name: name("second"), time: time))
            ),
            ("statfs", .statfs(.oss)),
            ("sync", .sync(.mds)),
            (
                "mkdir",
                .mkdir(
                    MkdirRequest(parent: .root, name: name("dir"), mode: 0o700, time: time))
            ),
            ("open", .open(open)),
            ("open replayed", .open(openReplayed)),
            (
                "open replay",
                .openReplay(
                    OpenReplayRequest(file: file, handle: 0x5_0000_0001, flags: [.read]))
            ),
            ("close", .close(CloseRequest(file: file, handle: 0x5_0000_0001))),
            (
                "unlink",
                .unlink(
                    UnlinkRequest(parent: .root, name: name("dir"), isDirectory: true, time: time))
            ),
            (
                "rename",
                .rename(
                    RenameRequest(
                        sourceParent: .root, sourceName: name("a"), targetParent: file,
                        targetName: name("b"), time: time))
            ),
            (
                "readdir",
                .readdir(
                    ReaddirRequest(
                        directory: .root, after: name("a"), entryCountMax: 1024,
                        wantsAttributes: true))
            ),
            ("object create", .objectCreate(ObjectCreateRequest(first: object, count: 32))),
            ("object destroy", .objectDestroy(ObjectDestroyRequest(objects: [object]))),
            (
                "object write",
                .objectWrite(
                    ObjectWriteRequest(
                        object: object, offset: 0x1000, time: time, data: [1, 2, 3, 4, 5]))
            ),
            (
                "object write by bulk",
                .objectWrite(
                    ObjectWriteRequest(
                        object: object, offset: 0x1000, time: time,
                        data: [UInt8](repeating: 7, count: 20_000)))
            ),
            (
                "object read",
                .objectRead(ObjectReadRequest(object: object, offset: 0x1000, byteCount: 0x2000))
            ),
            (
                "object punch",
                .objectPunch(ObjectPunchRequest(object: object, size: 0x800, time: time))
            ),
            ("object getattr", .objectGetattr(object)),
            ("upgrade progress", .upgradeProgress(epoch)),
            (
                "target up",
                .targetUp(TargetUp(targetName: "sluice-OST0002", instance: 6, nid: nid))
            ),
            (
                "upgrade start",
                .upgradeStart(
                    UpgradeStart(
                        scheme: .sync, cachePolicy: .clean, deadlinePolicy: .abort,
                        deadlineMs: 5_000, expectedPauseMs: 500, expiryMs: 30_000, next: nid,
                        isAbort: true))
            ),
            ("upgrade status", .upgradeStatus),
            (
                "audit read",
                .auditRead(
                    AuditReadRequest(afterClient: "client-1", afterXID: XID(rawValue: 0x80)))
            ),
            ("abort recovery", .abortRecovery),
            ("target show", .targetShow(TargetShowRequest(firstClient: 0x123))),
            (
                "upgrade order",
                .upgradeOrder(
                    UpgradeStart(
                        scheme: .drain, cachePolicy: .keep, deadlinePolicy: .wait,
                        deadlineMs: 5_000, expectedPauseMs: 500, expiryMs: 30_000, next: nid,
                        preflushMs: 2_000, pauseBudgetMs: 1_000, readPolicy: .wait, holds: true))
            ),
            ("upgrade receipts", .upgradeReceipts(after: "client-1")),
        ]
    }

    static var replies: [(name: String, opcode: Opcode, body: ReplyBody)] {
        var connected = ConnectReply(
            version: .v2, features: .upgrade, mode: .cleanRecord, admission: .waiting,
            instance: 6, epoch: epoch, admissionLock: 0xC5, lastCommitted: Transno(rawValue: 0x77),
            notice: notice)
        connected.connectData.instance = 6
        var quiet = connected
        quiet.notice = nil
        var recovery = TargetShowReply.Recovery()
        (recovery.clients, recovery.absent, recovery.busy, recovery.done) = (10, 1, 2, 7)
        recovery.queued = 3
        recovery.nextTransno = Transno(rawValue: 0x78)
        (recovery.windowNs, recovery.limitNs) = (0x1111, 0x2222)
        var locks = TargetShowReply.Locks()
        (locks.count, locks.waiting, locks.reserved, locks.bytes) = (0x31, 0x32, 0x33, 0x34)
        let target = TargetShowReply(
            targetName: "sluice-MDT0000", kind: .mds, phase: .recovering, stage: .requestReplay,
            epoch: epoch, instance: 5, versions: .v1 ... .v3, features: .supported,
            lastTransno: Transno(rawValue: 0x79), lastCommitted: Transno(rawValue: 0x77),
            servedNs: 0x4444, recovery: recovery, locks: locks, opens: 0x35,
            counters: [0x51, 0x52, 0x53],
            clients: [
                .init(
                    uuid: "client-1", nid: nid, version: .v3, standing: .requests,
                    flags: [.connected, .fenced], admission: .waiting,
                    lastXID: XID(rawValue: 0x80), requests: 1, locks: 2, opens: 3, replayed: 4,
                    replaysFailed: 5, grant: 6, silentNs: 7)
            ], next: 9)
        let status = UpgradeStatusReply(
            targetName: "sluice-MDT0000", phase: .gathering, epoch: epoch, instance: 5,
            versions: .v1 ... .v2, lastTransno: Transno(rawValue: 0x79),
            lastCommitted: Transno(rawValue: 0x77), replayed: 1, resent: 2, evictions: 3,
            preparedNs: 4, committedNs: 5,
            clients: [
                .init(
                    uuid: "client-1", nid: nid, admission: .waiting, isCountedOut: true,
                    isConnected: true, version: .v1, receiptNs: 6)
            ])
        var detailed = status
        var details = UpgradeDetails()
        details.isOrdered = true
        details.holds = true
        details.lastAbort = 2
        details.finalized = .v2
        details.storeFormat = 1
        details.clientCount = 1
        details.deadlineLeftMs = 7
        details.expiryLeftMs = 8
        details.next = nid
        details.uncommittedBytes = 9
        details.commitLagNs = 10
        details.lastCommitNs = 11
        details.clients = [
            .init(
                standing: 3, hasNotice: true, isFlushed: false, requestCount: 0, silentMs: 12,
                receipt: receipt)
        ]
        detailed.details = details
        return [
            (
                "converted", .ldlmConvert,
                .converted(
                    LDLMReply(
                        flags: [],
                        descriptor: LockDescriptor(
                            resource: ResourceID(0x2_0000_0400, 0x33), requestedMode: .pr,
                            grantedMode: .pr, policy: .bits(.lookup)), serverCookie: 0xC5))
            ),
            ("glimpsed", .ldlmGlimpseAST, .valueBlock(valueBlock)),
            ("empty", .close, .empty),
            ("connect", .mdsConnect, .connect(connected)),
            ("connect without notice", .ostConnect, .connect(quiet)),
            (
                "enqueue", .ldlmEnqueue,
                .enqueue(
                    EnqueueReply(
                        reply: LDLMReply(
                            flags: .blockGranted, descriptor: descriptor, serverCookie: 0xC5,
                            policyResult1: 1, policyResult2: 2), valueBlock: valueBlock))
            ),
            ("receipt", .ldlmBlockingAST, .receipt(receipt)),
            (
                "attributes", .getattr,
                .attributes(AttributesReply(attributes: attributes, layout: layout))
            ),
            (
                "open", .open,
                .open(
                    OpenReply(
                        handle: 0x5_0000_0001, wasCreated: true, attributes: attributes,
                        layout: layout, grant: grant))
            ),
            (
                "located", .locate,
                .located(
                    LocateReply(
                        files: [file, .root],
                        found: AttributesReply(attributes: attributes, layout: layout),
                        grants: [grant]))
            ),
            (
                "located nothing", .locate,
                .located(LocateReply(files: [], found: nil, grants: [grant]))
            ),
            ("changed", .rename, .changed(ChangedReply(files: [file, .root]))),
            ("written", .objectWrite, .written(WriteReply(grant: 0x10_0000))),
            (
                "statfs", .ostStatfs,
                .statfs(
                    StatfsReply(
                        blockCount: 0x1000, blocksFree: 0x800, blocksAvailable: 0x700,
                        fileCount: 0x100, filesFree: 0x80, blockSize: 4096, blocksGranted: 0x90))
            ),
            (
                "readdir", .readdir,
                .readdir(
                    ReaddirReply(
                        entries: [
                            .init(
                                name: name("a"), file: file, type: .regular,
                                attributes: attributes),
                            .init(name: name("dir"), file: .root, type: .directory),
                        ], isEnd: true))
            ),
            ("read", .objectRead, .read(ObjectReadReply(data: [1, 2, 3, 4, 5]))),
            (
                "read by bulk", .objectRead,
                .read(ObjectReadReply(data: [UInt8](repeating: 7, count: 20_000)))
            ),
            (
                "object attributes", .objectGetattr,
                .objectAttributes(ObjectAttributes(size: 0x1234, modified: time))
            ),
            ("upgrade started", .upgradeStart, .upgradeStarted(epoch)),
            ("upgrade status", .upgradeStatus, .upgradeStatus(status)),
            ("target", .targetShow, .target(target)),
            ("upgrade status with details", .upgradeStatus, .upgradeStatus(detailed)),
            (
                "upgrade answer", .upgradeOrder,
                .upgradeAnswer(
                    UpgradeAnswer(isTaken: false, phase: .held, epoch: epoch, sentence: "wait"))
            ),
            (
                "upgrade receipts", .upgradeReceipts,
                .upgradeReceipts(
                    UpgradeReceiptsReply(
                        isLive: false, epoch: epoch, lastTransno: Transno(rawValue: 0x79),
                        rows: [
                            .init(
                                uuid: "client-1", nid: nid, kind: .receipt, hasReturned: true,
                                receipt: receipt)
                        ], isEnd: true))
            ),
            (
                "audit", .auditRead,
                .audit(
                    AuditReadReply(
                        rows: [
                            .init(clientUUID: "client-1", xid: XID(rawValue: 0x80), executions: 1)
                        ], isEnd: true))
            ),
        ]
    }
}
