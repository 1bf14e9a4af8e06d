/// The kind of a file.
public enum FileType: UInt8, Sendable {
    case regular = 1
    case directory = 2
}

/// What the metadata server knows of a file. Sizes of regular files are the object servers' to tell.
public struct FileAttributes: Hashable, Sendable {
    public var file: FileID
    public var type: FileType
    /// Permission bits, 0...0o7777.
    public var mode: UInt32
    public var linkCount: UInt32
    public var modified: Timestamp
    public var changed: Timestamp
    /// Entries of a directory; 0 for files.
    public var entryCount: UInt64
    /// Last read, as far as somebody has set it; since version 3.
    public var accessed: Timestamp
    /// When the file was made; zero where that is not known. Since version 3.
    public var created: Timestamp

    public init(
        file: FileID, type: FileType, mode: UInt32, linkCount: UInt32, modified: Timestamp,
        changed: Timestamp, entryCount: UInt64, accessed: Timestamp = .zero,
        created: Timestamp = .zero
    ) {
        self.file = file
        self.type = type
        self.mode = mode
        self.linkCount = linkCount
        self.modified = modified
        self.changed = changed
        self.entryCount = entryCount
        self.accessed = accessed
        self.created = created
    }

    /// | field              | bytes | since |
    /// |--------------------|------:|-------|
    /// | file               |    16 | 1     |
    /// | type, 3 zeros      |     4 | 1     |
    /// | mode, links        |  4, 4 | 1     |
    /// | modified, changed  | 8, 12 | 1, 2  |
    /// | entries            |     8 | 1     |
    /// | accessed, created  |    12 | 3     |
    public func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        file.encode(into: &writer, version)
        writer.u8(type.rawValue)
        writer.zeros(3)
        writer.u32(mode)
        writer.u32(linkCount)
        modified.encode(into: &writer, version)
        changed.encode(into: &writer, version)
        writer.u64(entryCount)
        if version >= .v3 {
            accessed.encode(into: &writer, version)
            created.encode(into: &writer, version)
        }
    }

    public init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        file = try FileID(from: &reader, version)
        let rawType = try reader.u8()
        guard let type = FileType(rawValue: rawType) else {
            throw .badValue(field: "file type", value: UInt64(rawType))
        }
        self.type = type
        try reader.reserved(3)
        mode = try reader.u32()
        linkCount = try reader.u32()
        modified = try Timestamp(from: &reader, version)
        changed = try Timestamp(from: &reader, version)
        entryCount = try reader.u64()
        accessed = version >= .v3 ? try Timestamp(from: &reader, version) : .zero
        created = version >= .v3 ? try Timestamp(from: &reader, version) : .zero
    }
}

/// Where a file's bytes are: stripes of equal size over objects in turn (RAID 0).
public struct FileLayout: Hashable, Sendable {
    public struct Stripe: Hashable, Sendable, BitwiseCopyable {
        /// Index of the object target.
        public var targetIndex: UInt32
        public var object: ObjectName
        public init(targetIndex: UInt32, object: ObjectName) {
            self.targetIndex = targetIndex
            self.object = object
        }
    }

    /// Bytes of one stripe before the next object follows; positive where there are stripes.
    public var stripeSize: UInt32
    public var stripes: [Stripe]
    public static let stripeCountMax = 64

    public init(stripeSize: UInt32, stripes: [Stripe]) {
        self.stripeSize = stripeSize
        self.stripes = stripes
    }

    public static let none = FileLayout(stripeSize: 0, stripes: [])

    public func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u32(stripeSize)
        writer.u32(UInt32(stripes.count))
        for stripe in stripes {
            writer.u32(stripe.targetIndex)
            writer.u32(0)
            stripe.object.encode(into: &writer, version)
        }
    }

    public init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        stripeSize = try reader.u32()
        let count = try reader.u32()
        guard count <= UInt32(Self.stripeCountMax) else {
            throw .badLength(
                field: "stripes", value: UInt64(count), limit: UInt64(Self.stripeCountMax))
        }
        guard count == 0 || stripeSize > 0 else { throw .badValue(field: "stripe size", value: 0) }
        stripes = []
        for _ in 0..<count {
            let index = try reader.u32()
            try reader.reserved(4)
            stripes.append(
                Stripe(targetIndex: index, object: try ObjectName(from: &reader, version)))
        }
    }
}

/// How a file is opened.
public struct OpenFlags: OptionSet, Hashable, Sendable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let read = OpenFlags(rawValue: 1)
    public static let write = OpenFlags(rawValue: 2)
    public static let create = OpenFlags(rawValue: 4)
    public static let exclusive = OpenFlags(rawValue: 8)
    static let all: OpenFlags = [.read, .write, .create, .exclusive]
}

/// Look one name up in a directory; with several names, walk down them.
public struct LookupRequest: Hashable, Sendable {
    public static let nameCountMax = 64
    public var parent: FileID
    public var path: [FileName]
    public init(parent: FileID, path: [FileName]) {
        self.parent = parent
        self.path = path
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        parent.encode(into: &writer, version)
        writer.u32(UInt32(path.count))
        for name in path { name.encode(into: &writer) }
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        parent = try FileID(from: &reader, version)
        let count = try reader.u32()
        guard count <= UInt32(Self.nameCountMax) else {
            throw .badLength(
                field: "path", value: UInt64(count), limit: UInt64(Self.nameCountMax))
        }
        path = []
        for _ in 0..<count { path.append(try FileName(from: &reader)) }
    }
}

/// Attributes and layout: the answer to lookup, getattr, setattr and mkdir.
public struct AttributesReply: Hashable, Sendable {
    public var attributes: FileAttributes
    public var layout: FileLayout
    public init(attributes: FileAttributes, layout: FileLayout) {
        self.attributes = attributes
        self.layout = layout
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        attributes.encode(into: &writer, version)
        layout.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        attributes = try FileAttributes(from: &reader, version)
        layout = try FileLayout(from: &reader, version)
    }
}

/// Change attributes; nil leaves one as it is.
public struct SetattrRequest: Hashable, Sendable {
    public var file: FileID
    public var mode: UInt32?
    public var modified: Timestamp?
    /// Since version 3; an older target leaves it as it is.
    public var accessed: Timestamp?
    /// When the request was made: the time of change. Since version 3; older ones derive one.
    public var time: Timestamp?
    public init(
        file: FileID, mode: UInt32?, modified: Timestamp?, accessed: Timestamp? = nil,
        time: Timestamp? = nil
    ) {
        self.file = file
        self.mode = mode
        self.modified = modified
        self.accessed = accessed
        self.time = time
    }

    /// | field                               | bytes | since |
    /// |-------------------------------------|------:|-------|
    /// | file                                |    16 | 1     |
    /// | mask: mode 1, modified 2            |     4 | 1     |
    /// | mask: accessed 4, time 8            |       | 3     |
    /// | mode                                |     4 | 1     |
    /// | modified                            | 8, 12 | 1, 2  |
    /// | accessed, time                      |    12 | 3     |
    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        file.encode(into: &writer, version)
        var mask: UInt32 = (mode == nil ? 0 : 1) | (modified == nil ? 0 : 2)
        if version >= .v3 { mask |= (accessed == nil ? 0 : 4) | (time == nil ? 0 : 8) }
        writer.u32(mask)
        writer.u32(mode ?? 0)
        (modified ?? .zero).encode(into: &writer, version)
        if version >= .v3 {
            (accessed ?? .zero).encode(into: &writer, version)
            (time ?? .zero).encode(into: &writer, version)
        }
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        file = try FileID(from: &reader, version)
        let mask = try reader.u32()
        guard mask <= (version >= .v3 ? 15 : 3) else { throw .reservedBitsSet(UInt64(mask)) }
        let mode = try reader.u32()
        let modified = try Timestamp(from: &reader, version)
        self.mode = mask & 1 != 0 ? mode : nil
        self.modified = mask & 2 != 0 ? modified : nil
        guard version >= .v3 else { return }
        let accessed = try Timestamp(from: &reader, version)
        let time = try Timestamp(from: &reader, version)
        self.accessed = mask & 4 != 0 ? accessed : nil
        self.time = mask & 8 != 0 ? time : nil
    }
}

/// Make a directory. A replay names the file id that the first execution gave.
public struct MkdirRequest: Hashable, Sendable {
    public var parent: FileID
    public var name: FileName
    public var mode: UInt32
    public var time: Timestamp
    /// `.none` at first; what the reply said, in a replay.
    public var file: FileID
    public init(
        parent: FileID, name: FileName, mode: UInt32, time: Timestamp, file: FileID = .none
    ) {
        self.parent = parent
        self.name = name
        self.mode = mode
        self.time = time
        self.file = file
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        parent.encode(into: &writer, version)
        name.encode(into: &writer)
        writer.u32(mode)
        time.encode(into: &writer, version)
        file.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        parent = try FileID(from: &reader, version)
        name = try FileName(from: &reader)
        mode = try reader.u32()
        time = try Timestamp(from: &reader, version)
        file = try FileID(from: &reader, version)
    }
}

/// Open a file by name, creating it where asked. A replay carries what the reply said.
public struct OpenRequest: Hashable, Sendable {
    public var parent: FileID
    public var name: FileName
    public var flags: OpenFlags
    public var mode: UInt32
    public var stripeCount: UInt32
    public var time: Timestamp
    /// From the reply, in a replay: the file, its handle, and the layout of a file that was created.
    public var file: FileID
    public var handle: UInt64
    public var layout: FileLayout
    /// The client's name for the lock on the file that the answer may bring; 0 wants none. Since
    /// version 3; never in a replay.
    public var lockCookie: UInt64
    public init(
        parent: FileID, name: FileName, flags: OpenFlags, mode: UInt32, stripeCount: UInt32,
        time: Timestamp, lockCookie: UInt64 = 0
    ) {
        self.parent = parent
        self.name = name
        self.flags = flags
        self.mode = mode
        self.stripeCount = stripeCount
        self.time = time
        file = .none
        handle = 0
        layout = .none
        self.lockCookie = lockCookie
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        parent.encode(into: &writer, version)
        name.encode(into: &writer)
        writer.u32(flags.rawValue)
        writer.u32(mode)
        writer.u32(stripeCount)
        time.encode(into: &writer, version)
        file.encode(into: &writer, version)
        writer.u64(handle)
        layout.encode(into: &writer, version)
        if version >= .v3 { writer.u64(lockCookie) }
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        parent = try FileID(from: &reader, version)
        name = try FileName(from: &reader)
        flags = OpenFlags(rawValue: try reader.u32())
        guard flags.isSubset(of: .all) else { throw .reservedBitsSet(UInt64(flags.rawValue)) }
        mode = try reader.u32()
        stripeCount = try reader.u32()
        time = try Timestamp(from: &reader, version)
        file = try FileID(from: &reader, version)
        handle = try reader.u64()
        layout = try FileLayout(from: &reader, version)
        lockCookie = version >= .v3 ? try reader.u64() : 0
    }
}

public struct OpenReply: Hashable, Sendable {
    /// The server's name for this open; the same after a restart.
    public var handle: UInt64
    /// True where this open created the file.
    public var wasCreated: Bool
    public var attributes: FileAttributes
    public var layout: FileLayout
    /// The lock that was asked for, where it was free. Since version 3; not in a saved reply,
    /// since the lock may be gone when that is sent again.
    public var grant: LockGrant?
    public init(
        handle: UInt64, wasCreated: Bool, attributes: FileAttributes, layout: FileLayout,
        grant: LockGrant? = nil
    ) {
        self.handle = handle
        self.wasCreated = wasCreated
        self.attributes = attributes
        self.layout = layout
        self.grant = grant
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u64(handle)
        writer.u32(wasCreated ? 1 : 0)
        writer.u32(0)
        attributes.encode(into: &writer, version)
        layout.encode(into: &writer, version)
        guard version >= .v3 else { return }
        writer.u32(grant == nil ? 0 : 1)
        grant?.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        handle = try reader.u64()
        wasCreated = try readFlag(from: &reader)
        try reader.reserved(4)
        attributes = try FileAttributes(from: &reader, version)
        layout = try FileLayout(from: &reader, version)
        guard version >= .v3 else { return }
        grant = try readFlag(from: &reader) ? try LockGrant(from: &reader, version) : nil
    }
}

/// An open that outlived its server, told from the client's state: never from a saved request.
public struct OpenReplayRequest: Hashable, Sendable {
    public var file: FileID
    public var handle: UInt64
    public var flags: OpenFlags
    public init(file: FileID, handle: UInt64, flags: OpenFlags) {
        self.file = file
        self.handle = handle
        self.flags = flags
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        file.encode(into: &writer, version)
        writer.u64(handle)
        writer.u32(flags.rawValue)
        writer.u32(0)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        file = try FileID(from: &reader, version)
        handle = try reader.u64()
        flags = OpenFlags(rawValue: try reader.u32())
        guard flags.isSubset(of: .all) else { throw .reservedBitsSet(UInt64(flags.rawValue)) }
        try reader.reserved(4)
    }
}

public struct CloseRequest: Hashable, Sendable {
    public var file: FileID
    public var handle: UInt64
    public init(file: FileID, handle: UInt64) {
        self.file = file
        self.handle = handle
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        file.encode(into: &writer, version)
        writer.u64(handle)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        file = try FileID(from: &reader, version)
        handle = try reader.u64()
    }
}

/// Remove a name: of a file, or of an empty directory.
public struct UnlinkRequest: Hashable, Sendable {
    public var parent: FileID
    public var name: FileName
    public var isDirectory: Bool
    public var time: Timestamp
    public init(parent: FileID, name: FileName, isDirectory: Bool, time: Timestamp) {
        self.parent = parent
        self.name = name
        self.isDirectory = isDirectory
        self.time = time
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        parent.encode(into: &writer, version)
        name.encode(into: &writer)
        writer.u32(isDirectory ? 1 : 0)
        time.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        parent = try FileID(from: &reader, version)
        name = try FileName(from: &reader)
        let flags = try reader.u32()
        guard flags <= 1 else { throw .reservedBitsSet(UInt64(flags)) }
        isDirectory = flags == 1
        time = try Timestamp(from: &reader, version)
    }
}

public struct RenameRequest: Hashable, Sendable {
    public var sourceParent: FileID
    public var sourceName: FileName
    public var targetParent: FileID
    public var targetName: FileName
    public var time: Timestamp
    public init(
        sourceParent: FileID, sourceName: FileName, targetParent: FileID, targetName: FileName,
        time: Timestamp
    ) {
        self.sourceParent = sourceParent
        self.sourceName = sourceName
        self.targetParent = targetParent
        self.targetName = targetName
        self.time = time
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        sourceParent.encode(into: &writer, version)
        sourceName.encode(into: &writer)
        targetParent.encode(into: &writer, version)
        targetName.encode(into: &writer)
        time.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        sourceParent = try FileID(from: &reader, version)
        sourceName = try FileName(from: &reader)
        targetParent = try FileID(from: &reader, version)
        targetName = try FileName(from: &reader)
        time = try Timestamp(from: &reader, version)
    }
}

/// List a directory in the order of its names' bytes, from after a name.
public struct ReaddirRequest: Hashable, Sendable {
    public var directory: FileID
    /// The last name of the part before; nil to begin.
    public var after: FileName?
    /// At most this many entries, 1...4096.
    public var entryCountMax: UInt32
    /// Attributes beside the names; since version 3.
    public var wantsAttributes: Bool
    public init(
        directory: FileID, after: FileName?, entryCountMax: UInt32, wantsAttributes: Bool = false
    ) {
        self.directory = directory
        self.after = after
        self.entryCountMax = entryCountMax
        self.wantsAttributes = wantsAttributes
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        directory.encode(into: &writer, version)
        writer.u32(entryCountMax)
        writer.u32((after == nil ? 0 : 1) | (version >= .v3 && wantsAttributes ? 2 : 0))
        after?.encode(into: &writer)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        directory = try FileID(from: &reader, version)
        entryCountMax = try reader.u32()
        let flags = try reader.u32()
        guard flags <= (version >= .v3 ? 3 : 1) else { throw .reservedBitsSet(UInt64(flags)) }
        after = flags & 1 != 0 ? try FileName(from: &reader) : nil
        wantsAttributes = flags & 2 != 0
    }
}

public struct DirectoryEntry: Hashable, Sendable {
    public var name: FileName
    public var file: FileID
    public var type: FileType
    /// Where they were asked for; since version 3.
    public var attributes: FileAttributes?
    public init(
        name: FileName, file: FileID, type: FileType, attributes: FileAttributes? = nil
    ) {
        self.name = name
        self.file = file
        self.type = type
        self.attributes = attributes
    }
}

public struct ReaddirReply: Hashable, Sendable {
    public static let entryCountMax = 4096
    public var entries: [DirectoryEntry]
    public var isEnd: Bool
    public init(entries: [DirectoryEntry], isEnd: Bool) {
        self.entries = entries
        self.isEnd = isEnd
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u32(UInt32(entries.count))
        writer.u32(isEnd ? 1 : 0)
        for entry in entries {
            entry.file.encode(into: &writer, version)
            writer.u8(entry.type.rawValue)
            entry.name.encode(into: &writer)
            guard version >= .v3 else { continue }
            writer.u32(entry.attributes == nil ? 0 : 1)
            entry.attributes?.encode(into: &writer, version)
        }
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        let count = try reader.u32()
        guard count <= UInt32(Self.entryCountMax) else {
            throw .badLength(
                field: "entries", value: UInt64(count), limit: UInt64(Self.entryCountMax))
        }
        isEnd = try readFlag(from: &reader)
        entries = []
        for _ in 0..<count {
            let file = try FileID(from: &reader, version)
            let rawType = try reader.u8()
            guard let type = FileType(rawValue: rawType) else {
                throw .badValue(field: "file type", value: UInt64(rawType))
            }
            var entry = DirectoryEntry(
                name: try FileName(from: &reader), file: file, type: type)
            if version >= .v3, try readFlag(from: &reader) {
                entry.attributes = try FileAttributes(from: &reader, version)
            }
            entries.append(entry)
        }
    }
}
