public import WireFormat

/// What `stat` tells of a file.
public struct FileStatus: Hashable, Sendable {
    public var file: FileID
    public var type: FileType
    /// Bytes; 0 for a directory.
    public var size: UInt64
    /// Permission bits, 0...0o7777.
    public var mode: UInt32
    public var linkCount: UInt32
    public var modified: Timestamp
    public var changed: Timestamp
    /// Entries of a directory; 0 for files.
    public var entryCount: UInt64
    /// Last access, as far as somebody has set it; zero before version 3.
    public var accessed: Timestamp
    /// When it was made; zero before version 3.
    public var created: Timestamp

    init(_ attributes: FileAttributes, size: UInt64) {
        file = attributes.file
        type = attributes.type
        self.size = size
        mode = attributes.mode
        linkCount = attributes.linkCount
        modified = attributes.modified
        changed = attributes.changed
        entryCount = attributes.entryCount
        accessed = attributes.accessed
        created = attributes.created
    }
}
