public import WireFormat

/// A client's own name for an open file; valid until it is closed.
@frozen
public struct FileHandle: Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// What an application may ask of the file system. Names are relative to a directory's FileID.
public enum FileOperation: Sendable {
    /// Walk `path` down from a directory; an empty path names the directory itself.
    case lookup(at: FileID, path: [FileName])
    /// Attributes with the size, which the object servers know.
    case stat(at: FileID, path: [FileName])
    /// What is nil stays as it is. `accessed` counts from version 3 on.
    case setattr(
        FileID, mode: UInt32?, modified: Timestamp?, accessed: Timestamp? = nil)
    case mkdir(at: FileID, FileName, mode: UInt32)
    case open(at: FileID, FileName, OpenFlags, mode: UInt32, stripeCount: UInt32)
    /// Bytes that were written stay in the cache, under their lock, until they are written back.
    case close(FileHandle)
    case unlink(at: FileID, FileName, isDirectory: Bool)
    case rename(at: FileID, FileName, to: FileID, FileName)
    /// Another name for a file.
    case link(FileID, at: FileID, FileName)
    /// With attributes from version 3 on, where they are wanted.
    case readdir(
        FileID, after: FileName?, entryCountMax: UInt32, wantsAttributes: Bool = false)
    case read(FileHandle, offset: UInt64, byteCount: Int)
    case write(FileHandle, offset: UInt64, [UInt8])
    /// Write at the end of the file, wherever that is by then; one step as all clients see it.
    case append(FileHandle, [UInt8])
    case truncate(FileHandle, size: UInt64)
    /// Write every dirty byte of the file back to its object servers.
    case flush(FileHandle)
    /// Take or give up a POSIX record lock, or ask who is in the way of one: fcntl(2).
    case recordLock(FileHandle, RecordLock)
    /// As `flush`, and then until the servers have it on their disks, the file's name included.
    case sync(FileHandle)
    /// Room on the object targets together.
    case statfs
    /// One request to one target, past all caches: how a metadata server uses its object servers.
    indirect case raw(target: Int, RequestBody)
}

/// What an operation came to.
public enum FileResult: Sendable {
    case done
    case attributes(FileAttributes, size: UInt64)
    case opened(FileHandle, FileAttributes, wasCreated: Bool)
    case bytes([UInt8])
    /// Where an append landed.
    case offset(UInt64)
    case entries([DirectoryEntry], isEnd: Bool)
    case space(SpaceStatus)
    case reply(ReplyBody)
    /// Who is in the way of a record lock; nil where nobody is.
    case conflict(RecordLock?)
}

/// A POSIX record lock: a range of bytes that its owner reads or writes alone.
@frozen
public struct RecordLock: Hashable, Sendable, BitwiseCopyable {
    /// What to do about it.
    public enum Action: Hashable, Sendable, BitwiseCopyable {
        /// F_SETLKW: take it, and wait for it where others have it.
        case lock
        /// F_SETLK: take it, or fail with `tryAgain` at once.
        case tryLock
        /// F_UNLCK.
        case unlock
        /// F_GETLK.
        case test
    }

    public var action: Action
    /// F_WRLCK, beside nobody; else F_RDLCK, beside other readers.
    public var isExclusive: Bool
    public var range: Extent
    /// Who locks, as far as this client tells its processes apart. Locks of one owner do not exclude
    /// each other: they replace each other.
    public var owner: UInt64
    /// Told to others who ask who is in the way.
    public var process: UInt32

    public init(
        _ action: Action, isExclusive: Bool = true, range: Extent = .whole, owner: UInt64,
        process: UInt32 = 0
    ) {
        self.action = action
        self.isExclusive = isExclusive
        self.range = range
        self.owner = owner
        self.process = process
    }

    var mode: LockMode { action == .unlock ? .nl : isExclusive ? .pw : .pr }
    var policy: LockPolicy { .flock(range, owner: owner, pid: process) }
}

/// Room in the file system, bytes: all its object targets together.
public struct SpaceStatus: Hashable, Sendable, BitwiseCopyable {
    public var total: UInt64 = 0
    public var free: UInt64 = 0
    /// Free, and not set aside for clients.
    public var available: UInt64 = 0
    public init() {}

    mutating func add(_ reply: StatfsReply) {
        let block = UInt64(reply.blockSize)
        total = total &+ reply.blockCount &* block
        free = free &+ reply.blocksFree &* block
        available = available &+ reply.blocksAvailable &* block
    }
}
