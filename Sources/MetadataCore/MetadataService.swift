public import StorageCore
public import WireFormat

/// The file service of one metadata target: names, attributes, opens, and where files' bytes are.
///
/// It reads the store and adds its writes to the caller's transaction, which the caller applies
/// before it calls again: what changes in memory takes that for granted. On an error status
/// nothing has changed and the transaction is void.
public struct MetadataService: Sendable {
    public let configuration: MetadataConfiguration
    /// Between `recoveryStarted` and `recoveryFinished`: files without a name stay, because a
    /// client that has them open may not have said so yet, and no object is destroyed.
    public internal(set) var isRecovering = false

    /// The transno of the update that is executed next: the version of what it changes.
    public var transno: UInt64 = 0
    /// What the next file id is made of; persisted with each file that is created.
    var nextFile: UInt64 = 1
    /// The low half of the handle given last.
    var lastHandle: UInt32 = 0
    var opens = OpenTable()
    /// By target index, ascending.
    var pools: [ObjectPool] = []
    /// Where the next file's first stripe is looked for; an index of `pools`.
    var nextPool = 0

    /// Nothing loaded yet: `load` comes first.
    public init(configuration: MetadataConfiguration) { self.configuration = configuration }

    /// Opens at the moment, reserved ones included.
    public var openCount: Int { opens.count }

    /// File ids that a crash may have taken with it. A run cannot hold this many uncommitted files.
    static let fileSkip: UInt64 = 1 << 20

    // MARK: - Start

    /// Reads counters and pools, and writes the root directory where there is none.
    ///
    /// After anything but a clean stop, ids and objects that the lost part of the last run may have
    /// given away are skipped, and what is left of its object pools goes to the destroy log. Commit
    /// the transaction together with the instance number, before the first request.
    public mutating func load<B: CommittedStore>(
        from store: OverlayStore<B>, afterCleanStop isClean: Bool
    ) -> Transaction {
        var transaction = Transaction()
        if let bytes = store.read(.meta, Keys.nextFile) {
            guard bytes.count == 9, bytes[0] >= 1 else {
                preconditionFailure("the file counter is a record of ours")
            }
            nextFile = bytes[1...].reversed().reduce(0) { $0 << 8 | UInt64($1) }
            if !isClean {
                nextFile += Self.fileSkip
                putNextFile(into: &transaction)
            }
        } else {
            // Without a record a crash before the first commit of a file would skip nothing.
            putNextFile(into: &transaction)
        }
        var loaded: [ObjectPool] = []
        store.scan(.meta, prefix: Keys.poolPrefix) { key, value in
            if let target = Keys.poolTarget(in: key) {
                guard let pool = ObjectPool(targetIndex: target, decoding: value) else {
                    preconditionFailure("the object pool is a record of ours")
                }
                loaded.append(pool)
            }
            return true
        }
        for index in loaded.indices where !isClean {
            let target = loaded[index].targetIndex
            for number in loaded[index].position..<loaded[index].reserved {
                logDestroy(
                    target, ObjectName(targetIndex: target, number: number), into: &transaction)
            }
            loaded[index].position = loaded[index].reserved
            loaded[index].available = loaded[index].reserved
            transaction.put(.meta, key: Keys.pool(target), value: loaded[index].encoded)
        }
        // Targets that were configured before stay so.
        let known = pools
        pools = loaded
        configureObjectTargets(known.filter(\.isConfigured).map(\.targetIndex))
        for pool in known { setTargetUsable(pool.targetIndex, pool.isUsable) }
        if store.read(.inodes, Keys.file(.root)) == nil {
            put(
                .directory(in: .root, mode: 0o755, time: .zero), of: .root, into: &transaction)
        }
        return transaction
    }

    // MARK: - Requests

    /// Executes a request of the client with this export index. Reads write nothing.
    ///
    /// A replay carries what its first execution gave, and gets the same again.
    public mutating func execute<B: CommittedStore>(
        _ request: RequestBody, client: UInt32, isReplay: Bool, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) -> MetadataResult {
        do throws(Refusal) {
            switch request {
            case .getattr(let file):
                return .reply(.ok, .attributes(try attributes(of: file, in: store)))
            case .lookup(let request):
                return .reply(.ok, .attributes(try lookup(request, in: store)))
            case .readdir(let request):
                return .reply(.ok, .readdir(try readdir(request, in: store)))
            case .setattr(let request):
                return .reply(
                    .ok, .attributes(try setattr(request, in: store, into: &transaction)))
            case .mkdir(let request):
                return .reply(
                    .ok,
                    .attributes(
                        try mkdir(request, isReplay: isReplay, in: store, into: &transaction)))
            case .open(let request):
                let reply = try open(
                    request, client: client, isReplay: isReplay, in: store, into: &transaction)
                return reply.map { .reply(.ok, .open($0)) } ?? .waitForObjects
            case .openReplay(let request):
                try openReplay(request, client: client, in: store)
            case .close(let request):
                try close(
                    request, client: client, isReplay: isReplay, in: store, into: &transaction)
            case .unlink(let request):
                let changed = try unlink(request, in: store, into: &transaction)
                return .reply(.ok, .changed(ChangedReply(files: changed)))
            case .rename(let request):
                let changed = try rename(request, in: store, into: &transaction)
                return .reply(.ok, .changed(ChangedReply(files: changed)))
            case .link(let request):
                try link(request, in: store, into: &transaction)
                return .reply(.ok, .changed(ChangedReply(files: [])))
            case .locate(let request):
                return .reply(.ok, .located(try locate(request, in: store)))
            case .connect, .disconnect, .ping, .enqueue, .cancel, .convert, .blockingAST,
                .completionAST, .glimpseAST,
                .objectCreate, .objectDestroy, .objectWrite, .objectRead, .objectPunch,
                .objectGetattr, .upgradeProgress, .targetUp, .upgradeStart, .upgradeStatus,
                .auditRead, .abortRecovery, .upgradeOrder, .upgradeReceipts, .targetShow,
                .batch, .statfs, .sync:
                return .failure(.notSupported)
            }
            return .reply(.ok, .empty)
        } catch {
            return .failure(error.status)
        }
    }

    // MARK: - Records

    /// Ends an execution with an error status.
    struct Refusal: Error {
        var status: Status
        init(_ status: Status) { self.status = status }
    }

    /// A file that has a name, or that stays without one.
    func find<B: CommittedStore>(
        _ file: FileID, in store: OverlayStore<B>
    ) throws(Refusal) -> (inode: Inode, isOrphan: Bool)? {
        let key = Keys.file(file)
        let linked = store.read(.inodes, key)
        guard let bytes = linked ?? store.read(.orphans, key) else { return nil }
        guard let inode = Inode(decoding: bytes) else { throw Refusal(.ioError) }
        return (inode, linked == nil)
    }

    func existing<B: CommittedStore>(
        _ file: FileID, in store: OverlayStore<B>
    ) throws(Refusal) -> (inode: Inode, isOrphan: Bool) {
        guard let found = try find(file, in: store) else { throw Refusal(.noEntry) }
        return found
    }

    func directory<B: CommittedStore>(
        _ file: FileID, in store: OverlayStore<B>
    ) throws(Refusal) -> Inode {
        let inode = try existing(file, in: store).inode
        guard inode.type == .directory else { throw Refusal(.notDirectory) }
        return inode
    }

    func dirent<B: CommittedStore>(
        _ parent: FileID, _ name: FileName, in store: OverlayStore<B>
    ) throws(Refusal) -> Dirent? {
        guard let bytes = store.read(.dirents, Keys.entry(parent, name)) else { return nil }
        guard let entry = Dirent(decoding: bytes) else { throw Refusal(.ioError) }
        return entry
    }

    func put(_ inode: Inode, of file: FileID, into transaction: inout Transaction) {
        transaction.put(.inodes, key: Keys.file(file), value: inode.encoded)
    }

    func putNextFile(into transaction: inout Transaction) {
        // A format byte, then 8 bytes, little-endian.
        var writer = WireWriter(capacity: 9)
        writer.u8(1)
        writer.u64(nextFile)
        transaction.put(.meta, key: Keys.nextFile, value: writer.bytes)
    }

    // MARK: - File ids

    /// The sequence after FID_SEQ_NORMAL's first, and a million for each target.
    private var firstSequence: UInt64 {
        FileID.sequenceBase + 0x400 + UInt64(configuration.targetIndex) << 20
    }

    /// The id that a counter stands for.
    func fileID(_ counter: UInt64) -> FileID {
        precondition(counter >> 52 == 0, "a target has 2^52 file ids")
        return FileID(
            sequence: firstSequence + counter >> 32,
            objectNumber: UInt32(truncatingIfNeeded: counter))
    }

    /// The counter that an id stands for; nil where this target never gives such an id.
    func counter(of file: FileID) -> UInt64? {
        guard file.version == 0, file.sequence >= firstSequence,
            file.sequence - firstSequence < 1 << 20
        else { return nil }
        let counter = (file.sequence - firstSequence) << 32 | UInt64(file.objectNumber)
        // The last ids stay free, so that a peer's number never ends the counting.
        return counter > 0 && counter < 1 << 51 ? counter : nil
    }

    /// The id for a new file: the carried one in a replay, else the next. Nothing changes yet.
    func newFile(
        carried: FileID, isReplay: Bool
    ) throws(Refusal) -> (file: FileID, nextFile: UInt64) {
        guard isReplay, carried != .none else { return (fileID(nextFile), nextFile + 1) }
        guard let counter = counter(of: carried) else { throw Refusal(.invalid) }
        return (carried, max(nextFile, counter + 1))
    }
}
