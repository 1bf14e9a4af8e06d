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
    case reply(ReplyBody)
}
