public import ClientCore
public import NodeRuntime
public import WireFormat
internal import Primitives
internal import Synchronization

/// A mounted file system: files by their absolute paths, in asynchronous code.
///
/// Every call may be made from any task. While an upgrade holds the flow back, calls wait; the task
/// may be cancelled meanwhile (`Node.perform`).
public final class FileSystem: Sendable {
    public let node: Node
    /// Whether the fleet was made for this file system alone and ends with it.
    private let ownsFleet: Bool

    /// A node of a fleet that is shared, runs, and has been told to mount.
    public init(_ node: Node) {
        self.node = node
        ownsFleet = false
    }

    private init(owning fleet: ClientFleet) {
        node = Node(fleet: fleet, index: 0)
        ownsFleet = true
    }

    deinit {
        if ownsFleet { node.fleet.stop() }
    }

    /// Mounts a cluster's file system on this machine's NID `nid`.
    ///
    /// Throws `RuntimeError` where this machine cannot run the node; `FileSystemError` where no
    /// target answers in `timeout`, or one refuses this client.
    public static func mount(
        _ cluster: ClusterDescription, nid: NID, timeout: Duration = .seconds(60),
        options: ClientFleet.Options = ClientFleet.Options(),
        configure: (inout ClientConfiguration) -> Void = { _ in }
    ) async throws -> FileSystem {
        let mounting = Mounting()
        var options = options
        let onEvent = options.onEvent
        let names = cluster.targets.map(\.name)
        options.onEvent = { node, event, now in
            if case .refused(let target, let status) = event {
                mounting.fail(
                    FileSystemError(
                        status, path: names[target],
                        detail: "the target refuses this client: \(status)"))
            }
            onEvent?(node, event, now)
        }
        let fleet = try ClientFleet(
            cluster: cluster, nids: [nid], options: options
        ) {
            // As Lustre's clients do.
            $0.idleTimeout = .seconds(20)
            configure(&$0)
        }
        try fleet.start()
        mounting.onFailure { fleet.stop() }
        fleet.mount(0)
        let fileSystem = FileSystem(owning: fleet)
        let alarm = Task {
            try await Task.sleep(for: timeout)
            let nids = cluster.targets.flatMap(\.nids).map { "\($0)" }.joined(separator: ", ")
            mounting.fail(
                FileSystemError(
                    .timedOut, path: "/",
                    detail: "no answer from the file system's servers (\(nids)) in \(timeout)"))
        }
        defer { alarm.cancel() }
        let result = await withTaskCancellationHandler {
            await fileSystem.node.perform(.stat(at: .root, path: []))
        } onCancel: {
            mounting.fail(FileSystemError(.cancelled, path: "/"))
        }
        mounting.end()
        switch result {
        case .success: return fileSystem
        case .failure(let error):
            throw mounting.failure ?? FileSystemError(error.status, path: "/")
        }
    }

    /// Writes everything back, gives up every lock, disconnects.
    public func unmount() async {
        await withCheckedContinuation { continuation in
            node.fleet.unmount(node.index) { continuation.resume() }
        }
        if ownsFleet { node.fleet.stop() }
    }

    // MARK: Files

    /// Opens a file; with `.create` makes it where there is none.
    ///
    /// - Parameter stripeCount: over how many object servers a new file is spread.
    public func open(
        _ path: String, _ flags: OpenFlags = .read, mode: UInt32 = 0o644, stripeCount: UInt32 = 1
    ) async throws(FileSystemError) -> File {
        let (parent, name) = try FilePath(path).split(or: .isDirectory)
        return try await open(
            name, in: try await directory(parent, of: path), flags, mode: mode,
            stripeCount: stripeCount, path: path)
    }

    /// Opens a file of a directory.
    public func open(
        _ name: FileName, in directory: FileID, _ flags: OpenFlags = .read, mode: UInt32 = 0o644,
        stripeCount: UInt32 = 1, path: String? = nil
    ) async throws(FileSystemError) -> File {
        let path = path ?? name.text
        let result = try await perform(
            .open(at: directory, name, flags, mode: mode, stripeCount: stripeCount), path)
        guard case .opened(let handle, let attributes, let wasCreated) = result else {
            throw FileSystemError(.protocolError, path: path)
        }
        return File(
            node, path: path, handle: handle, attributes: attributes, wasCreated: wasCreated)
    }

    /// Gives a file another name beside those that it has. A directory has only one.
    public func link(_ path: String, to newPath: String) async throws(FileSystemError) {
        let file = try await identity(try FilePath(path).names, of: path)
        let (parent, name) = try FilePath(newPath).split(or: .exists)
        let directory = try await directory(parent, of: newPath)
        _ = try await perform(.link(file, at: directory, name), newPath)
    }

    /// Removes a file's name, and the file once nobody has it open.
    public func unlink(_ path: String) async throws(FileSystemError) {
        let (parent, name) = try FilePath(path).split(or: .isDirectory)
        try await unlink(name, in: try await directory(parent, of: path), path: path)
    }

    public func unlink(
        _ name: FileName, in directory: FileID, path: String? = nil
    ) async throws(FileSystemError) {
        _ = try await perform(
            .unlink(at: directory, name, isDirectory: false), path ?? name.text)
    }

    /// Gives a file another name, in place of the file that has it now.
    public func rename(_ path: String, to newPath: String) async throws(FileSystemError) {
        let (parent, name) = try FilePath(path).split(or: .busy)
        let (newParent, newName) = try FilePath(newPath).split(or: .busy)
        let from = try await directory(parent, of: path)
        let to = newParent == parent ? from : try await directory(newParent, of: newPath)
        _ = try await perform(.rename(at: from, name, to: to, newName), path)
    }

    // MARK: Directories

    @discardableResult
    public func mkdir(
        _ path: String, mode: UInt32 = 0o755
    ) async throws(FileSystemError) -> FileID {
        let (parent, name) = try FilePath(path).split(or: .exists)
        return try await mkdir(
            name, in: try await directory(parent, of: path), mode: mode, path: path)
    }

    /// Makes a directory in another.
    @discardableResult
    public func mkdir(
        _ name: FileName, in directory: FileID, mode: UInt32 = 0o755, path: String? = nil
    ) async throws(FileSystemError) -> FileID {
        let path = path ?? name.text
        let result = try await perform(.mkdir(at: directory, name, mode: mode), path)
        guard case .attributes(let attributes, _) = result else {
            throw FileSystemError(.protocolError, path: path)
        }
        return attributes.file
    }

    /// Removes an empty directory.
    public func rmdir(_ path: String) async throws(FileSystemError) {
        let (parent, name) = try FilePath(path).split(or: .busy)
        let directory = try await directory(parent, of: path)
        _ = try await perform(.unlink(at: directory, name, isDirectory: true), path)
    }

    /// All entries of a directory, in the order of their names, a page at a time.
    public func list(_ path: String) async throws(FileSystemError) -> [DirectoryEntry] {
        let names = try FilePath(path).names
        return try await list(directory: try await directory(names, of: path), path: path)
    }

    /// All entries of a directory. With attributes, where the metadata server speaks version 3:
    /// those that it knows, sizes of regular files not among them.
    public func list(
        directory: FileID, path: String? = nil, withAttributes: Bool = false
    ) async throws(FileSystemError) -> [DirectoryEntry] {
        let path = path ?? "\(directory)"
        var all: [DirectoryEntry] = []
        while true {
            let result = try await perform(
                .readdir(
                    directory, after: all.last?.name,
                    entryCountMax: withAttributes ? 256 : 1024, wantsAttributes: withAttributes),
                path)
            guard case .entries(let entries, let isEnd) = result else {
                throw FileSystemError(.protocolError, path: path)
            }
            all.append(contentsOf: entries)
            if isEnd || entries.isEmpty { return all }
        }
    }

    /// Room on the file system's object servers together.
    public func space() async throws(FileSystemError) -> SpaceStatus {
        let result = try await perform(.statfs, "/")
        guard case .space(let space) = result else {
            throw FileSystemError(.protocolError, path: "/")
        }
        return space
    }

    // MARK: Attributes

    /// Attributes of a file or directory. Answered without a message where they are cached, and so
    /// is that there is none.
    public func stat(_ path: String) async throws(FileSystemError) -> FileStatus {
        let names = try FilePath(path).names
        return try await stat(names, in: .root, path: path)
    }

    /// Attributes of what `names` lead to from a directory; of itself where there are none.
    public func stat(
        _ names: [FileName], in directory: FileID, path: String? = nil
    ) async throws(FileSystemError) -> FileStatus {
        let path = path ?? names.map(\.text).joined(separator: "/")
        let result = try await perform(.stat(at: directory, path: names), path)
        guard case .attributes(let attributes, let size) = result else {
            throw FileSystemError(.protocolError, path: path)
        }
        return FileStatus(attributes, size: size)
    }

    /// Sets the permission bits, 0...0o7777.
    public func setPermissions(_ path: String, _ mode: UInt32) async throws(FileSystemError) {
        let file = try await identity(try FilePath(path).names, of: path)
        _ = try await perform(.setattr(file, mode: mode, modified: nil), path)
    }

    /// Sets the time of the last access, where the metadata server speaks version 3.
    public func setAccessed(_ path: String, _ time: Timestamp) async throws(FileSystemError) {
        let file = try await identity(try FilePath(path).names, of: path)
        _ = try await perform(
            .setattr(file, mode: nil, modified: nil, accessed: time), path)
    }

    /// Sets the time of the last change of contents.
    public func setModified(_ path: String, _ time: Timestamp) async throws(FileSystemError) {
        let file = try await identity(try FilePath(path).names, of: path)
        _ = try await perform(.setattr(file, mode: nil, modified: time), path)
    }

    // MARK: Parts

    private func perform(
        _ operation: FileOperation, _ path: String
    ) async throws(FileSystemError) -> FileResult {
        switch await node.perform(operation) {
        case .success(let result): return result
        case .failure(let error): throw FileSystemError(error.status, path: path)
        }
    }

    private func directory(
        _ names: [FileName], of path: String
    ) async throws(FileSystemError) -> FileID {
        try await identity(names, of: path)
    }

    private func identity(
        _ names: [FileName], of path: String
    ) async throws(FileSystemError) -> FileID {
        if names.isEmpty { return .root }
        let result = try await perform(.lookup(at: .root, path: names), path)
        guard case .attributes(let attributes, _) = result else {
            throw FileSystemError(.protocolError, path: path)
        }
        return attributes.file
    }
}

/// What keeps a mount from succeeding: the first of a refusal, the alarm and a cancellation.
private final class Mounting: Sendable {
    private struct State {
        var failure: FileSystemError?
        var onFailure: (@Sendable () -> Void)?
        var isOver = false
    }

    private let state = Mutex(State())

    var failure: FileSystemError? { state.withLock { $0.failure } }

    func onFailure(_ body: @escaping @Sendable () -> Void) {
        state.withLock { $0.onFailure = body }
    }

    func fail(_ error: FileSystemError) {
        let body: (@Sendable () -> Void)? = state.withLock { state in
            guard !state.isOver, state.failure == nil else { return nil }
            state.failure = error
            return state.onFailure
        }
        body?()
    }

    func end() {
        state.withLock { state in
            state.isOver = true
            state.onFailure = nil
        }
    }
}
