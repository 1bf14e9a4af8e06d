/// Every request that travels between nodes, as a typed value.
///
/// A request is kept in this form, never as bytes: resend and replay encode it again in the
/// version that the connection has then.
public enum RequestBody: Equatable, Sendable {
    case connect(ConnectRequest, TargetKind)
    case disconnect(TargetKind)
    case ping
    case enqueue(EnqueueRequest)
    case cancel(LDLMRequest)
    /// Weaken a lock: a mode, or inode bits to keep.
    case convert(LDLMRequest)
    case blockingAST(BlockingAST)
    case completionAST(CompletionAST)
    /// What is the object's size under the lock that you hold?
    case glimpseAST(LDLMRequest)
    case getattr(FileID)
    case lookup(LookupRequest)
    case setattr(SetattrRequest)
    case mkdir(MkdirRequest)
    case open(OpenRequest)
    case openReplay(OpenReplayRequest)
    case close(CloseRequest)
    case unlink(UnlinkRequest)
    case rename(RenameRequest)
    case readdir(ReaddirRequest)
    case objectCreate(ObjectCreateRequest)
    case objectDestroy(ObjectDestroyRequest)
    case objectWrite(ObjectWriteRequest)
    case objectRead(ObjectReadRequest)
    case objectPunch(ObjectPunchRequest)
    case objectGetattr(ObjectName)
    /// The client is still preparing for this upgrade: do not take it for dead.
    case upgradeProgress(UpgradeEpoch)
    case targetUp(TargetUp)
    /// What builds before `upgradeOrder` know: begin, or give up.
    case upgradeStart(UpgradeStart)
    case upgradeOrder(UpgradeStart)
    /// Receipts of clients whose names come after this one.
    case upgradeReceipts(after: String)
    case upgradeStatus
    case auditRead(AuditReadRequest)
    /// Ends a recovery: who has not finished his part is evicted.
    case abortRecovery
    /// How is the target, and who are its clients?
    case targetShow(TargetShowRequest)
    /// Several requests that read, or tell what the client holds; see `Batch` for who may.
    case batch([RequestBody])
    case locate(LocateRequest)
    case link(LinkRequest)
    case statfs(TargetKind)
    /// Answered when everything that the target has executed is on its disk.
    case sync(TargetKind)

    public var opcode: Opcode {
        switch self {
        case .connect(_, let kind): kind.connectOpcode
        case .disconnect(let kind): kind.disconnectOpcode
        case .ping: .ping
        case .enqueue: .ldlmEnqueue
        case .cancel: .ldlmCancel
        case .convert: .ldlmConvert
        case .blockingAST: .ldlmBlockingAST
        case .completionAST: .ldlmCompletionAST
        case .glimpseAST: .ldlmGlimpseAST
        case .getattr: .getattr
        case .lookup: .lookup
        case .setattr: .setattr
        case .mkdir: .mkdir
        case .open: .open
        case .openReplay: .openReplay
        case .close: .close
        case .unlink: .unlink
        case .rename: .rename
        case .readdir: .readdir
        case .objectCreate: .objectCreate
        case .objectDestroy: .objectDestroy
        case .objectWrite: .objectWrite
        case .objectRead: .objectRead
        case .objectPunch: .objectPunch
        case .objectGetattr: .objectGetattr
        case .upgradeProgress: .upgradeProgress
        case .targetUp: .targetUp
        case .upgradeStart: .upgradeStart
        case .upgradeOrder: .upgradeOrder
        case .upgradeReceipts: .upgradeReceipts
        case .upgradeStatus: .upgradeStatus
        case .auditRead: .auditRead
        case .abortRecovery: .abortRecovery
        case .targetShow: .targetShow
        case .batch: .batch
        case .locate: .locate
        case .link: .link
        case .statfs(let kind): kind.statfsOpcode
        case .sync(let kind): kind.syncOpcode
        }
    }

    /// Changes what the target stores: takes a transno and a modify slot, and is replayed.
    public var isUpdate: Bool {
        switch self {
        case .setattr, .mkdir, .open, .close, .unlink, .rename, .link, .objectCreate,
            .objectDestroy, .objectWrite, .objectPunch:
            true
        case .connect, .disconnect, .ping, .enqueue, .cancel, .convert, .blockingAST,
            .completionAST, .glimpseAST,
            .getattr, .lookup, .openReplay, .readdir, .objectRead, .objectGetattr,
            .upgradeProgress, .targetUp, .upgradeStart, .upgradeOrder, .upgradeReceipts,
            .upgradeStatus, .auditRead, .abortRecovery, .targetShow, .batch, .locate, .statfs,
            .sync:
            false
        }
    }

    /// What the shutdown itself needs (R7): goes out while the gate is shut.
    public var passesGate: Bool {
        switch self {
        case .connect, .disconnect, .ping, .enqueue, .cancel, .convert, .blockingAST,
            .completionAST, .glimpseAST,
            .openReplay, .close, .objectWrite, .upgradeProgress, .targetUp, .upgradeStart,
            .upgradeOrder, .upgradeReceipts, .upgradeStatus, .auditRead, .abortRecovery,
            .targetShow:
            true
        case .getattr, .lookup, .setattr, .mkdir, .open, .unlink, .rename, .readdir,
            .objectCreate, .objectDestroy, .objectRead, .objectPunch, .objectGetattr, .batch,
            .locate, .link, .statfs, .sync:
            false
        }
    }

    /// Bytes that the other end fetches with a bulk GET; nil where the message holds all.
    public var bulkSource: [UInt8]? {
        if case .objectWrite(let write) = self, write.data.count > ObjectWriteRequest.inlineMax {
            return write.data
        }
        return nil
    }

    /// Room that the other end fills with a bulk PUT; 0 where the reply holds all.
    public var bulkSinkByteCount: Int {
        if case .objectRead(let read) = self,
            Int(read.byteCount) > ObjectWriteRequest.inlineMax
        {
            return Int(read.byteCount)
        }
        return 0
    }

    var bufferCount: Int {
        switch self {
        case .connect: 6
        case .disconnect, .ping, .upgradeStatus, .abortRecovery, .statfs, .sync: 1
        case .enqueue(let enqueue): enqueue.receipt == nil ? 2 : 3
        case .blockingAST(let ast): ast.notice == nil ? 2 : 3
        case .completionAST(let ast): ast.commitNotice == nil && ast.grantEpoch == nil ? 3 : 4
        case .objectWrite: 3
        default: 2
        }
    }

    /// Appends the whole message: container, header, and this body as `version` spells it.
    public func encode(
        header: PtlRPCBody, version: ProtocolVersion, flags: UInt32 = 0,
        into writer: inout WireWriter
    ) {
        var header = header
        header.opcode = opcode
        header.type = .request
        var message = LustreMessageEncoder(bufferCount: bufferCount, flags: flags, into: &writer)
        message.buffer(into: &writer) { header.encode(into: &$0) }
        encodeBuffers(version, &message, into: &writer)
    }

    /// Everything behind buffer 0.
    func encodeBuffers(
        _ version: ProtocolVersion, _ message: inout LustreMessageEncoder,
        into writer: inout WireWriter
    ) {
        switch self {
        case .connect(let connect, _):
            message.buffer(into: &writer) {
                writeFixedText(connect.targetName, size: ConnectRequest.uuidSize, into: &$0)
            }
            message.buffer(into: &writer) {
                writeFixedText(connect.clientUUID, size: ConnectRequest.uuidSize, into: &$0)
            }
            message.buffer(into: &writer) { $0.u64(connect.clientHandle) }
            message.buffer(into: &writer) { connect.connectData.encode(into: &$0) }
            message.buffer(into: &writer) { connect.encodeHello(into: &$0) }
        case .disconnect, .ping, .upgradeStatus, .abortRecovery, .statfs, .sync:
            break
        case .batch(let requests):
            message.buffer(into: &writer) { Batch.encode(requests, version, into: &$0) }
        case .enqueue(let enqueue):
            message.buffer(into: &writer) {
                enqueue.request.spelled(in: version).encode(into: &$0)
            }
            if let receipt = enqueue.receipt {
                message.buffer(into: &writer) { receipt.encode(into: &$0) }
            }
        case .cancel(let request):
            message.buffer(into: &writer) { request.encode(into: &$0) }
        case .convert(let request), .glimpseAST(let request):
            message.buffer(into: &writer) { request.spelled(in: version).encode(into: &$0) }
        case .blockingAST(let ast):
            message.buffer(into: &writer) { ast.request.spelled(in: version).encode(into: &$0) }
            if let notice = ast.notice {
                message.buffer(into: &writer) { notice.encode(into: &$0) }
            }
        case .completionAST(let ast):
            message.buffer(into: &writer) { ast.request.spelled(in: version).encode(into: &$0) }
            message.buffer(into: &writer) { ast.valueBlock.encode(into: &$0) }
            if let notice = ast.commitNotice {
                message.buffer(into: &writer) { notice.encode(into: &$0) }
            } else if let epoch = ast.grantEpoch {
                message.buffer(into: &writer) { epoch.encode(into: &$0) }
            }
        case .objectWrite(let write):
            message.buffer(into: &writer) { write.encode(into: &$0, version) }
            message.buffer(into: &writer) {
                if write.data.count <= ObjectWriteRequest.inlineMax { $0.append(write.data) }
            }
        default:
            message.buffer(into: &writer) { encodeFlat(into: &$0, version) }
        }
    }

    /// The one buffer of the operations that have one.
    private func encodeFlat(into writer: inout WireWriter, _ version: ProtocolVersion) {
        switch self {
        case .getattr(let file): file.encode(into: &writer, version)
        case .lookup(let body): body.encode(into: &writer, version)
        case .setattr(let body): body.encode(into: &writer, version)
        case .mkdir(let body): body.encode(into: &writer, version)
        case .open(let body): body.encode(into: &writer, version)
        case .openReplay(let body): body.encode(into: &writer, version)
        case .close(let body): body.encode(into: &writer, version)
        case .unlink(let body): body.encode(into: &writer, version)
        case .rename(let body): body.encode(into: &writer, version)
        case .readdir(let body): body.encode(into: &writer, version)
        case .objectCreate(let body): body.encode(into: &writer, version)
        case .objectDestroy(let body): body.encode(into: &writer, version)
        case .objectRead(let body): body.encode(into: &writer, version)
        case .objectPunch(let body): body.encode(into: &writer, version)
        case .objectGetattr(let object): object.encode(into: &writer, version)
        case .upgradeProgress(let epoch): epoch.encode(into: &writer)
        case .targetUp(let body): body.encode(into: &writer)
        case .upgradeStart(let body): body.encode(into: &writer)
        case .upgradeOrder(let body): body.encodeOrder(into: &writer)
        case .upgradeReceipts(let after): writeText(after, into: &writer)
        case .auditRead(let body): body.encode(into: &writer)
        case .targetShow(let body): body.encode(into: &writer)
        case .locate(let body): body.encode(into: &writer, version)
        case .link(let body): body.encode(into: &writer, version)
        case .connect, .disconnect, .ping, .enqueue, .cancel, .convert, .blockingAST,
            .completionAST, .glimpseAST, .objectWrite, .upgradeStatus, .abortRecovery, .batch,
            .statfs, .sync:
            preconditionFailure("a message with buffers of its own is not flat")
        }
    }

    /// Reads the body of a request whose container and header were read already.
    ///
    /// - Throws: `WireError` for anything that the layouts of `version` do not allow, an unknown
    ///   opcode included (`badValue` of `pb_opc`).
    public init(
        opcode: Opcode, message: LustreMessage, bytes: RawSpan, version: ProtocolVersion
    ) throws(WireError) {
        switch opcode {
        case .ostConnect, .mdsConnect:
            var target = try message.reader(1, in: bytes)
            var client = try message.reader(2, in: bytes)
            var handle = try message.reader(3, in: bytes)
            var data = try message.reader(4, in: bytes)
            var hello = try message.reader(5, in: bytes)
            let connect = try ConnectRequest(
                target: &target, client: &client, handle: &handle, data: &data, hello: &hello)
            self = .connect(connect, opcode == .mdsConnect ? .mds : .oss)
            return
        case .ostDisconnect:
            self = .disconnect(.oss)
            return
        case .mdsDisconnect:
            self = .disconnect(.mds)
            return
        case .ping:
            self = .ping
            return
        case .upgradeStatus:
            self = .upgradeStatus
            return
        case .abortRecovery:
            self = .abortRecovery
            return
        case .batch:
            var reader = try message.reader(1, in: bytes)
            self = .batch(try Batch.requests(from: &reader, version))
            return
        case .ostStatfs:
            self = .statfs(.oss)
            return
        case .mdsStatfs:
            self = .statfs(.mds)
            return
        case .ostSync:
            self = .sync(.oss)
            return
        case .mdsSync:
            self = .sync(.mds)
            return
        default:
            break
        }
        var reader = try message.reader(1, in: bytes)
        switch opcode {
        case .ldlmEnqueue:
            let request = try LDLMRequest.decode(from: &reader).spelled(in: version)
            var receipt: UpgradeReceipt?
            if message.bufferCount > 2 {
                var extra = try message.reader(2, in: bytes)
                receipt = try UpgradeReceipt(from: &extra)
            }
            self = .enqueue(EnqueueRequest(request: request, receipt: receipt))
        case .ldlmCancel:
            self = .cancel(try LDLMRequest.decode(from: &reader))
        case .ldlmConvert:
            self = .convert(try LDLMRequest.decode(from: &reader).spelled(in: version))
        case .ldlmGlimpseAST:
            self = .glimpseAST(try LDLMRequest.decode(from: &reader).spelled(in: version))
        case .ldlmBlockingAST:
            let request = try LDLMRequest.decode(from: &reader).spelled(in: version)
            var notice: UpgradeNotice?
            if message.bufferCount > 2 {
                var extra = try message.reader(2, in: bytes)
                notice = try UpgradeNotice(from: &extra)
            }
            self = .blockingAST(BlockingAST(request: request, notice: notice))
        case .ldlmCompletionAST:
            let request = try LDLMRequest.decode(from: &reader).spelled(in: version)
            var value = try message.reader(2, in: bytes)
            let valueBlock = try OSTLVB.decode(from: &value)
            var ast = CompletionAST(request: request, valueBlock: valueBlock)
            if message.bufferCount > 3 {
                var extra = try message.reader(3, in: bytes)
                if extra.byteCount == UpgradeEpoch.encodedSize {
                    ast.grantEpoch = try UpgradeEpoch(from: &extra)
                } else {
                    ast.commitNotice = try CommitNotice(from: &extra)
                }
            }
            self = .completionAST(ast)
        case .getattr: self = .getattr(try FileID(from: &reader, version))
        case .lookup: self = .lookup(try LookupRequest(from: &reader, version))
        case .setattr: self = .setattr(try SetattrRequest(from: &reader, version))
        case .mkdir: self = .mkdir(try MkdirRequest(from: &reader, version))
        case .open: self = .open(try OpenRequest(from: &reader, version))
        case .openReplay: self = .openReplay(try OpenReplayRequest(from: &reader, version))
        case .close: self = .close(try CloseRequest(from: &reader, version))
        case .unlink: self = .unlink(try UnlinkRequest(from: &reader, version))
        case .rename: self = .rename(try RenameRequest(from: &reader, version))
        case .readdir: self = .readdir(try ReaddirRequest(from: &reader, version))
        case .objectCreate: self = .objectCreate(try ObjectCreateRequest(from: &reader, version))
        case .objectDestroy:
            self = .objectDestroy(try ObjectDestroyRequest(from: &reader, version))
        case .objectWrite:
            var inline = try message.reader(2, in: bytes)
            self = .objectWrite(
                try ObjectWriteRequest(from: &reader, inline: &inline, version))
        case .objectRead: self = .objectRead(try ObjectReadRequest(from: &reader, version))
        case .objectPunch: self = .objectPunch(try ObjectPunchRequest(from: &reader, version))
        case .objectGetattr: self = .objectGetattr(try ObjectName(from: &reader, version))
        case .upgradeProgress: self = .upgradeProgress(try UpgradeEpoch(from: &reader))
        case .targetUp: self = .targetUp(try TargetUp(from: &reader))
        case .upgradeStart: self = .upgradeStart(try UpgradeStart(from: &reader))
        case .upgradeOrder: self = .upgradeOrder(try UpgradeStart(order: &reader))
        case .upgradeReceipts:
            self = .upgradeReceipts(
                after: try readText(
                    from: &reader, limit: ConnectRequest.uuidSize, field: "client uuid"))
        case .auditRead: self = .auditRead(try AuditReadRequest(from: &reader))
        case .targetShow: self = .targetShow(try TargetShowRequest(from: &reader))
        case .locate: self = .locate(try LocateRequest(from: &reader, version))
        case .link: self = .link(try LinkRequest(from: &reader, version))
        default: throw .badValue(field: "pb_opc", value: UInt64(opcode.rawValue))
        }
    }
}
