public import StorageCore
public import WireFormat

/// What the execution of a request came to. On an error status the transaction is void.
public enum ObjectResult: Equatable, Sendable {
    case reply(Status, ReplyBody)
}

/// The file service of one object target: objects, their recorded sizes and their bytes.
///
/// It keeps nothing in memory: a row in table `objects` makes an object, and the row's size says
/// how many of its bytes count. Writes go to the caller's transaction, which the caller applies
/// before it calls again.
public struct ObjectService: Sendable {
    /// Which object target this is: its objects are those of its sequence.
    public let targetIndex: UInt32

    public init(targetIndex: UInt32) { self.targetIndex = targetIndex }

    /// Size and time of an object, for replies and for the value block of its lock; nil where there
    /// is no such object.
    public func attributes<B: CommittedStore>(
        of object: ObjectName, in store: OverlayStore<B>
    ) -> ObjectAttributes? {
        store.read(.objects, object.id.key).flatMap { ObjectRecord(decoding: $0) }?.attributes
    }

    /// Executes a request. Reads write nothing. Replays need nothing beyond the request: it names
    /// its objects, offsets and times.
    public func execute<B: CommittedStore>(
        _ request: RequestBody, in store: OverlayStore<B>, into transaction: inout Transaction
    ) -> ObjectResult {
        do throws(Refusal) {
            switch request {
            case .objectCreate(let request):
                try create(request, in: store, into: &transaction)
            case .objectDestroy(let request):
                try destroy(request, in: store, into: &transaction)
            case .objectWrite(let request):
                try write(request, in: store, into: &transaction)
            case .objectPunch(let request):
                try punch(request, in: store, into: &transaction)
            case .objectRead(let request):
                return .reply(.ok, .read(try read(request, in: store)))
            case .objectGetattr(let object):
                let record = try existing(object, in: store)
                return .reply(.ok, .objectAttributes(record.attributes))
            case .connect, .disconnect, .ping, .enqueue, .cancel, .convert, .blockingAST,
                .completionAST, .glimpseAST,
                .getattr, .lookup, .setattr, .mkdir, .open, .openReplay, .close, .unlink,
                .rename, .readdir, .upgradeProgress, .targetUp, .upgradeStart, .upgradeStatus,
                .auditRead, .abortRecovery, .upgradeOrder, .upgradeReceipts, .targetShow,
                .batch, .locate, .link, .statfs, .sync:
                return .reply(.notSupported, .empty)
            }
            return .reply(.ok, .empty)
        } catch {
            return .reply(error.status, .empty)
        }
    }

    /// Ends an execution with an error status.
    private struct Refusal: Error {
        var status: Status
        init(_ status: Status) { self.status = status }
    }

    private func existing<B: CommittedStore>(
        _ object: ObjectName, in store: OverlayStore<B>
    ) throws(Refusal) -> ObjectRecord {
        guard let bytes = store.read(.objects, object.id.key) else { throw Refusal(.noEntry) }
        guard let record = ObjectRecord(decoding: bytes) else { throw Refusal(.ioError) }
        return record
    }

    private func put(
        _ record: ObjectRecord, of object: ObjectName, into transaction: inout Transaction
    ) {
        transaction.put(.objects, key: object.id.key, value: record.encoded)
    }

    /// Objects of another target would be out of reach there: refused.
    private func check(_ object: ObjectName) throws(Refusal) {
        guard object.sequence == ObjectName(targetIndex: targetIndex, number: 0).sequence else {
            throw Refusal(.invalid)
        }
    }

    private func create<B: CommittedStore>(
        _ request: ObjectCreateRequest, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) throws(Refusal) {
        try check(request.first)
        let (end, overflow) = request.first.number.addingReportingOverflow(UInt64(request.count))
        guard !overflow, request.count <= ObjectCreateRequest.countMax else {
            throw Refusal(.invalid)
        }
        let fresh = ObjectRecord(attributes: ObjectAttributes(size: 0, modified: .zero))
        for number in request.first.number..<end {
            let object = ObjectName(sequence: request.first.sequence, number: number)
            if store.read(.objects, object.id.key) == nil {
                put(fresh, of: object, into: &transaction)
            }
        }
    }

    private func destroy<B: CommittedStore>(
        _ request: ObjectDestroyRequest, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) throws(Refusal) {
        guard request.objects.count <= ObjectDestroyRequest.countMax else {
            throw Refusal(.invalid)
        }
        for object in request.objects { try check(object) }
        for object in request.objects where store.read(.objects, object.id.key) != nil {
            transaction.delete(.objects, key: object.id.key)
            transaction.removeObject(object.id)
        }
    }

    /// The end of a range, within what a store takes.
    private func end(of offset: UInt64, _ byteCount: Int) throws(Refusal) -> UInt64 {
        let (end, overflow) = offset.addingReportingOverflow(UInt64(byteCount))
        guard !overflow, end <= StoreLimits.objectOffsetMax else { throw Refusal(.tooBig) }
        return end
    }

    private func write<B: CommittedStore>(
        _ request: ObjectWriteRequest, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) throws(Refusal) {
        // Bulk data that was said and did not come is the caller's to fetch.
        guard request.missingBulkBytes == 0 else { throw Refusal(.protocolError) }
        var record = try existing(request.object, in: store)
        let end = try end(of: request.offset, request.data.count)
        record.attributes.modified = max(record.attributes.modified, request.time)
        // Writing nothing lengthens nothing.
        if !request.data.isEmpty {
            record.attributes.size = max(record.attributes.size, end)
            transaction.writeObject(
                request.object.id, offset: request.offset, bytes: request.data)
        }
        put(record, of: request.object, into: &transaction)
    }

    private func read<B: CommittedStore>(
        _ request: ObjectReadRequest, in store: OverlayStore<B>
    ) throws(Refusal) -> ObjectReadReply {
        guard request.byteCount <= UInt32(ObjectWriteRequest.byteCountMax) else {
            throw Refusal(.tooBig)
        }
        let size = try existing(request.object, in: store).attributes.size
        guard request.offset < size else { return ObjectReadReply(data: []) }
        let count = min(UInt64(request.byteCount), size - request.offset)
        return ObjectReadReply(
            data: store.readObject(
                request.object.id, offset: request.offset, count: Int(count)))
    }

    /// Bytes are forgotten where the object shrinks, so that they do not show when it grows again;
    /// growing only moves the recorded size, and the new part reads as zeros.
    private func punch<B: CommittedStore>(
        _ request: ObjectPunchRequest, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) throws(Refusal) {
        guard request.size <= StoreLimits.objectOffsetMax else { throw Refusal(.tooBig) }
        var record = try existing(request.object, in: store)
        if request.size < record.attributes.size {
            transaction.truncateObject(request.object.id, to: request.size)
        }
        record.attributes.size = request.size
        record.attributes.modified = max(record.attributes.modified, request.time)
        put(record, of: request.object, into: &transaction)
    }
}

extension ObjectName {
    /// The store's name for the object's bytes and record.
    var id: ObjectID { ObjectID(sequence: sequence, number: number) }
}
