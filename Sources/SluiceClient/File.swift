public import ClientCore
public import WireFormat

/// An open file.
///
/// What is written stays in the client's cache, under its lock, until it is written back, another
/// client asks for it, or `flush` is called. An operation that meets an upgrade's shut gate waits.
public final class File: Sendable {
    public let path: String
    /// Attributes as they were when the file was opened.
    public let attributes: FileAttributes
    /// Whether the open made the file.
    public let wasCreated: Bool
    public let handle: FileHandle
    private let node: Node

    init(
        _ node: Node, path: String, handle: FileHandle, attributes: FileAttributes,
        wasCreated: Bool
    ) {
        self.node = node
        self.path = path
        self.handle = handle
        self.attributes = attributes
        self.wasCreated = wasCreated
    }

    /// At most `count` bytes from `offset` on; fewer at the end of the file, none behind it.
    public func read(at offset: UInt64, count: Int) async throws(FileSystemError) -> [UInt8] {
        let result = try await perform(.read(handle, offset: offset, byteCount: count))
        guard case .bytes(let bytes) = result else { throw unexpected() }
        return bytes
    }

    /// Writes all bytes at `offset`.
    public func write(_ bytes: [UInt8], at offset: UInt64) async throws(FileSystemError) {
        _ = try await perform(.write(handle, offset: offset, bytes))
    }

    /// Writes all bytes at the end of the file, as one step, and returns where that was.
    @discardableResult
    public func append(_ bytes: [UInt8]) async throws(FileSystemError) -> UInt64 {
        let result = try await perform(.append(handle, bytes))
        guard case .offset(let offset) = result else { throw unexpected() }
        return offset
    }

    /// Cuts the file to `size` bytes, or lengthens it with zeros.
    public func truncate(to size: UInt64) async throws(FileSystemError) {
        _ = try await perform(.truncate(handle, size: size))
    }

    /// Writes every dirty byte of the file back to its object servers.
    public func flush() async throws(FileSystemError) { _ = try await perform(.flush(handle)) }

    /// Takes a POSIX record lock on a range, as fcntl(2) does: beside nobody, or (`isExclusive`
    /// false) beside other readers. Waits for it, unless `waits` is false: then `.tryAgain` says
    /// that somebody has it. `.deadlock` says that its holders wait for this file's owner in turn.
    ///
    /// The locks of one `owner` do not exclude but replace each other; by default every open file is
    /// an owner of its own. Closing the file gives up what its default owner holds. Record locks
    /// survive upgrades and crashes of servers; an eviction loses them. They keep nobody from
    /// reading or writing who does not ask for them.
    public func lock(
        _ range: Extent = .whole, isExclusive: Bool = true, waits: Bool = true,
        owner: UInt64? = nil, process: UInt32 = 0
    ) async throws(FileSystemError) {
        let lock = RecordLock(
            waits ? .lock : .tryLock, isExclusive: isExclusive, range: range,
            owner: owner ?? handle.rawValue, process: process)
        _ = try await perform(.recordLock(handle, lock))
    }

    /// Gives up what `owner` has locked of a range; what lies around it stays locked.
    public func unlock(
        _ range: Extent = .whole, owner: UInt64? = nil
    ) async throws(FileSystemError) {
        let lock = RecordLock(.unlock, range: range, owner: owner ?? handle.rawValue)
        _ = try await perform(.recordLock(handle, lock))
    }

    /// A record lock that is in the way of such a one; nil where it could be taken now.
    public func conflictingLock(
        with range: Extent = .whole, isExclusive: Bool = true, owner: UInt64? = nil
    ) async throws(FileSystemError) -> RecordLock? {
        let lock = RecordLock(
            .test, isExclusive: isExclusive, range: range, owner: owner ?? handle.rawValue)
        guard case .conflict(let found) = try await perform(.recordLock(handle, lock)) else {
            throw unexpected()
        }
        return found
    }

    /// As fsync(2): `flush`, and then until the servers have the bytes and the file's name on their
    /// disks. One message to each server of the file, and the time of a commit.
    public func sync() async throws(FileSystemError) { _ = try await perform(.sync(handle)) }

    /// Closes the file; every later call fails with `.badHandle`.
    public func close() async throws(FileSystemError) { _ = try await perform(.close(handle)) }

    private func perform(_ operation: FileOperation) async throws(FileSystemError) -> FileResult {
        switch await node.perform(operation) {
        case .success(let result): return result
        case .failure(let error): throw FileSystemError(error.status, path: path)
        }
    }

    private func unexpected() -> FileSystemError { FileSystemError(.protocolError, path: path) }
}
