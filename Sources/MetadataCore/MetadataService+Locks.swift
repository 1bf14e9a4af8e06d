public import StorageCore
public import WireFormat

/// What a request changes of a file, and thus which locks of clients must be gone before.
public struct TouchedFile: Equatable, Sendable, BitwiseCopyable {
    public var file: FileID
    public var bits: InodeBits

    public init(file: FileID, bits: InodeBits) {
        self.file = file
        self.bits = bits
    }
}

/// Locks on attributes and names: which an update must be alone with, which an answer may bring.
extension MetadataService {
    /// What `request` would change if it was executed now, in the order of file ids, each file
    /// once; nothing where it would fail or changes what no client keeps (opens, closes).
    ///
    /// Whoever caches one of these aspects must have given it up before the request is executed.
    /// Costs the lookups of the names that the request names.
    public func touched<B: CommittedStore>(
        by request: RequestBody, in store: OverlayStore<B>
    ) -> [TouchedFile] {
        var files: [TouchedFile] = []
        func add(_ file: FileID, _ bits: InodeBits) {
            if let place = files.firstIndex(where: { $0.file == file }) {
                files[place].bits.formUnion(bits)
            } else {
                files.append(TouchedFile(file: file, bits: bits))
            }
        }
        func child(_ parent: FileID, _ name: FileName) -> FileID? {
            (try? dirent(parent, name, in: store))?.file
        }
        switch request {
        case .setattr(let request):
            add(request.file, request.mode == nil ? .update : .attributes)
        case .mkdir(let request):
            if child(request.parent, request.name) == nil { add(request.parent, .update) }
        case .open(let request):
            if request.flags.contains(.create), child(request.parent, request.name) == nil {
                add(request.parent, .update)
            }
        case .link(let request):
            if child(request.parent, request.name) == nil {
                add(request.parent, .update)
                add(request.file, .update)
            }
        case .unlink(let request):
            if let file = child(request.parent, request.name) {
                add(request.parent, .update)
                add(file, [.lookup, .update])
            }
        case .rename(let request):
            let moved = child(request.sourceParent, request.sourceName)
            let replaced = child(request.targetParent, request.targetName)
            if let moved, moved != replaced {
                add(request.sourceParent, .update)
                add(request.targetParent, .update)
                add(moved, [.lookup, .update])
                if let replaced { add(replaced, [.lookup, .update]) }
            }
        default:
            break
        }
        files.sort { $0.file < $1.file }
        return files
    }

    /// Walks the path. The locks are the caller's to add: `wanted` says which.
    func locate<B: CommittedStore>(
        _ request: LocateRequest, in store: OverlayStore<B>
    ) throws(Refusal) -> LocateReply {
        var reply = LocateReply(files: [], found: nil, grants: [])
        var file = request.parent
        for name in request.path {
            _ = try directory(file, in: store)
            guard let entry = try dirent(file, name, in: store) else { return reply }
            file = entry.file
            reply.files.append(file)
        }
        reply.found = try attributes(of: file, in: store)
        return reply
    }

    /// The locks that go with the answer to a `locate`, in the order of its cookies: on each file
    /// on the way its names, on the last one everything, and where a name leads nowhere the names
    /// of the directory that does not have it.
    public static func wanted(
        by request: LocateRequest, _ reply: LocateReply
    ) -> [(cookie: UInt64, touched: TouchedFile)] {
        var wanted: [(cookie: UInt64, touched: TouchedFile)] = []
        for (place, file) in reply.files.enumerated() where place < request.cookies.count {
            let isLast = place == request.path.count - 1
            wanted.append(
                (
                    request.cookies[place],
                    TouchedFile(file: file, bits: isLast ? .everything : .lookup)
                ))
        }
        if request.path.isEmpty {
            wanted.append(
                (request.cookies[0], TouchedFile(file: request.parent, bits: .everything)))
        } else if reply.found == nil, reply.files.count < request.cookies.count {
            let directory = reply.files.last ?? request.parent
            wanted.append(
                (
                    request.cookies[reply.files.count],
                    TouchedFile(file: directory, bits: .update)
                ))
        }
        return wanted.filter { $0.cookie != 0 }
    }
}
