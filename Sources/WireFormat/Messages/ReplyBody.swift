/// Every answer that travels between nodes, as a typed value. An error reply has `.empty`.
public enum ReplyBody: Equatable, Sendable {
    case empty
    case connect(ConnectReply)
    case enqueue(EnqueueReply)
    /// The answer to a convert: what the lock is now.
    case converted(LDLMReply)
    /// The answer to a glimpse: what the holder of the lock knows.
    case valueBlock(OSTLVB)
    /// The answer to a blocking AST by a client that is prepared at once.
    case receipt(UpgradeReceipt)
    case attributes(AttributesReply)
    case open(OpenReply)
    case readdir(ReaddirReply)
    case read(ObjectReadReply)
    case objectAttributes(ObjectAttributes)
    case upgradeStarted(UpgradeEpoch)
    case upgradeAnswer(UpgradeAnswer)
    case upgradeReceipts(UpgradeReceiptsReply)
    case upgradeStatus(UpgradeStatusReply)
    case audit(AuditReadReply)
    /// One answer for each request of a batch, in their order.
    case batch([BatchAnswer])
    case located(LocateReply)
    case changed(ChangedReply)
    case written(WriteReply)
    case statfs(StatfsReply)
    /// Kept aside: it is long and rare, and every answer has the size of the longest.
    indirect case target(TargetShowReply)

    var bufferCount: Int {
        switch self {
        case .empty: 1
        case .connect, .enqueue, .read: 3
        default: 2
        }
    }

    /// Bytes that go to the requester's sink by bulk PUT before this reply; nil where none do.
    public var bulkData: [UInt8]? {
        if case .read(let read) = self, read.travelsByBulk { return read.data }
        return nil
    }

    /// Appends the whole message; `trailer` goes behind it where one is due.
    public func encode(
        header: PtlRPCBody, version: ProtocolVersion, trailer: ReplyTrailer? = nil,
        into writer: inout WireWriter
    ) {
        var message = LustreMessageEncoder(
            bufferCount: bufferCount + (trailer == nil ? 0 : 1), into: &writer)
        message.buffer(into: &writer) { header.encode(into: &$0) }
        encodeBuffers(version, &message, into: &writer)
        if let trailer { message.buffer(into: &writer) { trailer.encode(into: &$0) } }
    }

    /// Everything behind buffer 0, the trailer apart.
    func encodeBuffers(
        _ version: ProtocolVersion, _ message: inout LustreMessageEncoder,
        into writer: inout WireWriter
    ) {
        switch self {
        case .empty:
            break
        case .connect(let reply):
            message.buffer(into: &writer) { reply.connectData.encode(into: &$0) }
            message.buffer(into: &writer) { reply.encodeHello(into: &$0) }
        case .enqueue(let enqueue):
            var reply = enqueue.reply
            reply.descriptor.resource.id = reply.descriptor.resource.id.spelled(in: version)
            message.buffer(into: &writer) { reply.encode(into: &$0) }
            message.buffer(into: &writer) { enqueue.valueBlock.encode(into: &$0) }
        case .read(let reply):
            message.buffer(into: &writer) { reply.encode(into: &$0, version) }
            message.buffer(into: &writer) {
                if !reply.travelsByBulk { $0.append(reply.data) }
            }
        case .batch(let answers):
            message.buffer(into: &writer) { Batch.encode(answers, version, into: &$0) }
        default:
            message.buffer(into: &writer) { encodeFlat(into: &$0, version) }
        }
    }

    private func encodeFlat(into writer: inout WireWriter, _ version: ProtocolVersion) {
        switch self {
        case .receipt(let body): body.encode(into: &writer)
        case .converted(var body):
            body.descriptor.resource.id = body.descriptor.resource.id.spelled(in: version)
            body.encode(into: &writer)
        case .valueBlock(let body): body.encode(into: &writer)
        case .attributes(let body): body.encode(into: &writer, version)
        case .open(let body): body.encode(into: &writer, version)
        case .readdir(let body): body.encode(into: &writer, version)
        case .objectAttributes(let body): body.encode(into: &writer, version)
        case .upgradeStarted(let epoch): epoch.encode(into: &writer)
        case .upgradeAnswer(let body): body.encode(into: &writer)
        case .upgradeReceipts(let body): body.encode(into: &writer)
        case .upgradeStatus(let body): body.encode(into: &writer)
        case .audit(let body): body.encode(into: &writer)
        case .located(let body): body.encode(into: &writer, version)
        case .changed(let body): body.encode(into: &writer, version)
        case .written(let body): body.encode(into: &writer)
        case .statfs(let body): body.encode(into: &writer)
        case .target(let body): body.encode(into: &writer)
        case .empty, .connect, .enqueue, .read, .batch:
            preconditionFailure("a message with buffers of its own is not flat")
        }
    }

    /// Reads the answer to a request of `opcode`. Error replies carry no body and read as `.empty`.
    public init(
        opcode: Opcode, status: Status, message: LustreMessage, bytes: RawSpan,
        version: ProtocolVersion
    ) throws(WireError) {
        guard !status.isError else {
            self = .empty
            return
        }
        switch opcode {
        case .ostConnect, .mdsConnect:
            var data = try message.reader(1, in: bytes)
            var hello = try message.reader(2, in: bytes)
            self = .connect(try ConnectReply(data: &data, hello: &hello))
        case .ldlmEnqueue:
            var reader = try message.reader(1, in: bytes)
            var value = try message.reader(2, in: bytes)
            var reply = try LDLMReply.decode(from: &reader)
            reply.descriptor.resource.id = reply.descriptor.resource.id.spelled(in: version)
            self = .enqueue(
                EnqueueReply(reply: reply, valueBlock: try OSTLVB.decode(from: &value)))
        case .ldlmConvert:
            var reader = try message.reader(1, in: bytes)
            var reply = try LDLMReply.decode(from: &reader)
            reply.descriptor.resource.id = reply.descriptor.resource.id.spelled(in: version)
            self = .converted(reply)
        case .ldlmGlimpseAST:
            guard message.bufferCount > 1 else {
                self = .empty
                return
            }
            var reader = try message.reader(1, in: bytes)
            self = .valueBlock(try OSTLVB.decode(from: &reader))
        case .ldlmBlockingAST:
            guard message.bufferCount > 1 else {
                self = .empty
                return
            }
            var reader = try message.reader(1, in: bytes)
            self = .receipt(try UpgradeReceipt(from: &reader))
        case .lookup, .getattr, .setattr, .mkdir:
            var reader = try message.reader(1, in: bytes)
            self = .attributes(try AttributesReply(from: &reader, version))
        case .open:
            var reader = try message.reader(1, in: bytes)
            self = .open(try OpenReply(from: &reader, version))
        case .readdir:
            var reader = try message.reader(1, in: bytes)
            self = .readdir(try ReaddirReply(from: &reader, version))
        case .objectRead:
            var reader = try message.reader(1, in: bytes)
            var inline = try message.reader(2, in: bytes)
            self = .read(try ObjectReadReply(from: &reader, inline: &inline))
        case .objectGetattr:
            var reader = try message.reader(1, in: bytes)
            self = .objectAttributes(try ObjectAttributes(from: &reader, version))
        case .upgradeStart:
            var reader = try message.reader(1, in: bytes)
            self = .upgradeStarted(try UpgradeEpoch(from: &reader))
        case .upgradeOrder:
            var reader = try message.reader(1, in: bytes)
            self = .upgradeAnswer(try UpgradeAnswer(from: &reader))
        case .upgradeReceipts:
            var reader = try message.reader(1, in: bytes)
            self = .upgradeReceipts(try UpgradeReceiptsReply(from: &reader))
        case .upgradeStatus:
            var reader = try message.reader(1, in: bytes)
            self = .upgradeStatus(try UpgradeStatusReply(from: &reader))
        case .auditRead:
            var reader = try message.reader(1, in: bytes)
            self = .audit(try AuditReadReply(from: &reader))
        case .batch:
            var reader = try message.reader(1, in: bytes)
            self = .batch(try Batch.answers(from: &reader, version))
        case .locate:
            var reader = try message.reader(1, in: bytes)
            self = .located(try LocateReply(from: &reader, version))
        case .unlink, .rename, .link:
            // Targets that know no locks on names answer without a body; a trailer may follow.
            self = .empty
            guard message.bufferCount > 1 else { return }
            var reader = try message.reader(1, in: bytes)
            if let changed = try ChangedReply(from: &reader, version) { self = .changed(changed) }
        case .objectWrite:
            self = .empty
            guard message.bufferCount > 1 else { return }
            var reader = try message.reader(1, in: bytes)
            if let written = try WriteReply(from: &reader) { self = .written(written) }
        case .ostStatfs, .mdsStatfs:
            var reader = try message.reader(1, in: bytes)
            self = .statfs(try StatfsReply(from: &reader))
        case .targetShow:
            var reader = try message.reader(1, in: bytes)
            self = .target(try TargetShowReply(from: &reader))
        default:
            self = .empty
        }
    }

    /// Bytes for the reply data table: read back by `restored` in whatever build comes next.
    public func saved(
        as opcode: Opcode, status: Status, preVersions: PreVersions = PreVersions()
    ) -> [UInt8] {
        var header = PtlRPCBody()
        header.type = .reply
        header.opcode = opcode
        header.status = status
        header.preVersions = preVersions
        var writer = WireWriter()
        encode(header: header, version: .v2, into: &writer)
        return writer.bytes
    }

    /// What `saved` wrote.
    public static func restored(
        _ bytes: [UInt8]
    ) throws(WireError) -> SavedReply {
        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> SavedReply in
            let message = try LustreMessage(parsing: span)
            var reader = try message.reader(0, in: span)
            let header = try PtlRPCBody(from: &reader)
            let body = try ReplyBody(
                opcode: header.opcode, status: header.status, message: message, bytes: span,
                version: .v2)
            return SavedReply(
                opcode: header.opcode, status: header.status, body: body,
                preVersions: header.preVersions)
        }
    }
}

/// A reply as it comes back from the reply data table.
public struct SavedReply: Equatable, Sendable {
    public var opcode: Opcode
    public var status: Status
    public var body: ReplyBody
    public var preVersions: PreVersions
}

/// Behind every reply of a target that prepares for an upgrade: a lost notice costs one reply.
public struct ReplyTrailer: Hashable, Sendable {
    static let magic: UInt32 = 0x5A1C_E006
    public static let encodedSize = 24

    public var epoch: UpgradeEpoch
    public var admission: AdmissionState

    public init(epoch: UpgradeEpoch, admission: AdmissionState) {
        self.epoch = epoch
        self.admission = admission
    }

    func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u8(admission.rawValue)
        writer.zeros(3)
        epoch.encode(into: &writer)
    }

    /// The trailer of a reply, where its last buffer is one.
    public init?(body: ReplyBody, message: LustreMessage, bytes: RawSpan) {
        guard message.bufferCount == body.bufferCount + 1,
            message.length(message.bufferCount - 1) == Self.encodedSize,
            var reader = try? message.reader(message.bufferCount - 1, in: bytes),
            (try? reader.u32()) == Self.magic, let raw = try? reader.u8(),
            let admission = AdmissionState(rawValue: raw), (try? reader.reserved(3)) != nil,
            let epoch = try? UpgradeEpoch(from: &reader)
        else { return nil }
        self.epoch = epoch
        self.admission = admission
    }
}
