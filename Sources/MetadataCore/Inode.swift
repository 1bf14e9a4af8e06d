internal import WireFormat

/// What tables `inodes` and `orphans` hold of a file. Little-endian.
///
/// | offset | size | field          | unit or meaning                                   |
/// |-------:|-----:|----------------|---------------------------------------------------|
/// |      0 |    1 | format         | 3; later ones extend this layout behind what is here |
/// |      1 |    1 | type           | `FileType`                                        |
/// |      2 |    2 | reserved       | kept as it was read                               |
/// |      4 |    4 | mode           | permission bits                                   |
/// |      8 |    4 | linkCount      | names; of a directory, 2 and its subdirectories   |
/// |     12 |   12 | modified       | seconds (8), nanoseconds (4)                      |
/// |     24 |   12 | changed        | seconds (8), nanoseconds (4)                      |
/// |     36 |    8 | entryCount     | names in a directory                              |
/// |     44 |   16 | parent         | of a directory: where it is; sequence, number, version |
/// |     60 |    4 | stripeSize     | bytes; 0 without stripes                          |
/// |     64 |    4 | stripe count   |                                                   |
/// |     68 | 20 n | stripes        | target (4), object's sequence (8), number (8)     |
/// |      n |   12 | accessed       | seconds (8), nanoseconds (4); since format 2      |
/// |        |   12 | created        | seconds (8), nanoseconds (4); since format 2      |
/// |        |    8 | version        | transno of the last change; since format 3        |
/// |        |      | rest           | fields of later formats, kept as they were read   |
struct Inode: Equatable {
    static let format: UInt8 = 3
    /// The first one, whose files were never said to be read or made.
    static let formatMin: UInt8 = 1
    /// Names that a file can have.
    static let linkCountMax: UInt32 = 65_000

    var type: FileType
    var mode: UInt32
    var linkCount: UInt32
    var modified: Timestamp
    var changed: Timestamp
    var entryCount: UInt64 = 0
    var parent: FileID = .none
    var layout: FileLayout = .none
    var accessed: Timestamp
    var created: Timestamp
    /// The update that made it, or that changed its mode last; zero for one from before versions
    /// were kept. Times, names and the number of entries leave it alone: see `versions`.
    var version: UInt64 = 0
    private var format = Inode.format
    private var reserved: UInt16 = 0
    /// An older build that changes a file does not take away what a newer one added to it.
    private var rest: [UInt8] = []

    static func directory(in parent: FileID, mode: UInt32, time: Timestamp) -> Inode {
        Inode(
            type: .directory, mode: mode & 0o7777, linkCount: 2, modified: time, changed: time,
            parent: parent)
    }

    static func regular(mode: UInt32, layout: FileLayout, time: Timestamp) -> Inode {
        Inode(
            type: .regular, mode: mode & 0o7777, linkCount: 1, modified: time, changed: time,
            layout: layout)
    }

    private init(
        type: FileType, mode: UInt32, linkCount: UInt32, modified: Timestamp, changed: Timestamp,
        parent: FileID = .none, layout: FileLayout = .none
    ) {
        self.type = type
        self.mode = mode
        self.linkCount = linkCount
        self.modified = modified
        self.changed = changed
        self.parent = parent
        self.layout = layout
        accessed = modified
        created = modified
    }

    var encoded: [UInt8] {
        var writer = WireWriter(capacity: 100 + 20 * layout.stripes.count + rest.count)
        writer.u8(format)
        writer.u8(type.rawValue)
        writer.u16(reserved)
        writer.u32(mode)
        writer.u32(linkCount)
        for time in [modified, changed] {
            writer.write(time.seconds)
            writer.u32(time.nanoseconds)
        }
        writer.u64(entryCount)
        writer.u64(parent.sequence)
        writer.u32(parent.objectNumber)
        writer.u32(parent.version)
        writer.u32(layout.stripeSize)
        writer.u32(UInt32(layout.stripes.count))
        for stripe in layout.stripes {
            writer.u32(stripe.targetIndex)
            writer.u64(stripe.object.sequence)
            writer.u64(stripe.object.number)
        }
        for time in [accessed, created] {
            writer.write(time.seconds)
            writer.u32(time.nanoseconds)
        }
        writer.u64(version)
        writer.append(rest)
        return writer.bytes
    }

    /// Nil where the bytes are no such record.
    init?(decoding bytes: [UInt8]) {
        let decoded = try? RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> Inode in
            var reader = WireReader(span)
            return try Inode(from: &reader)
        }
        guard let decoded else { return nil }
        self = decoded
    }

    private init(from reader: inout WireReader) throws(WireError) {
        let written = try reader.u8()
        // A format that is no extension of this one is the start gate's to refuse.
        guard written >= Self.formatMin else {
            throw .badValue(field: "inode format", value: UInt64(written))
        }
        format = max(written, Self.format)
        let rawType = try reader.u8()
        guard let type = FileType(rawValue: rawType) else {
            throw .badValue(field: "file type", value: UInt64(rawType))
        }
        self.type = type
        reserved = try reader.u16()
        mode = try reader.u32()
        linkCount = try reader.u32()
        modified = Timestamp(seconds: try reader.read(), nanoseconds: try reader.u32())
        changed = Timestamp(seconds: try reader.read(), nanoseconds: try reader.u32())
        entryCount = try reader.u64()
        parent = FileID(
            sequence: try reader.u64(), objectNumber: try reader.u32(),
            version: try reader.u32())
        layout.stripeSize = try reader.u32()
        let stripeCount = try reader.u32()
        guard stripeCount <= UInt32(FileLayout.stripeCountMax) else {
            throw .badLength(
                field: "stripes", value: UInt64(stripeCount),
                limit: UInt64(FileLayout.stripeCountMax))
        }
        for _ in 0..<stripeCount {
            let targetIndex = try reader.u32()
            layout.stripes.append(
                FileLayout.Stripe(
                    targetIndex: targetIndex,
                    object: ObjectName(sequence: try reader.u64(), number: try reader.u64())))
        }
        accessed = .zero
        created = .zero
        if written >= 2 {
            accessed = Timestamp(seconds: try reader.read(), nanoseconds: try reader.u32())
            created = Timestamp(seconds: try reader.read(), nanoseconds: try reader.u32())
        }
        if written >= 3 { version = try reader.u64() }
        rest = try reader.bytes(reader.remaining)
    }

    func attributes(of file: FileID) -> FileAttributes {
        FileAttributes(
            file: file, type: type, mode: mode, linkCount: linkCount, modified: modified,
            changed: changed, entryCount: entryCount, accessed: accessed, created: created)
    }
}

/// What table `dirents` holds of a name.
///
/// | offset | size | field  | meaning                                          |
/// |-------:|-----:|--------|--------------------------------------------------|
/// |      0 |    1 | format | 1                                                |
/// |      1 |    1 | type   | `FileType`, so that readdir needs no inode       |
/// |      2 |   16 | file   | sequence, number, version; little-endian         |
struct Dirent: Equatable {
    static let format: UInt8 = 1

    var type: FileType
    var file: FileID

    var encoded: [UInt8] {
        var writer = WireWriter(capacity: 18)
        writer.u8(Self.format)
        writer.u8(type.rawValue)
        writer.u64(file.sequence)
        writer.u32(file.objectNumber)
        writer.u32(file.version)
        return writer.bytes
    }

    init(type: FileType, file: FileID) {
        self.type = type
        self.file = file
    }

    /// Nil where the bytes are no such record.
    init?(decoding bytes: [UInt8]) {
        let decoded = try? RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> Dirent? in
            var reader = WireReader(span)
            guard try reader.u8() >= Self.format, let type = FileType(rawValue: try reader.u8())
            else { return nil }
            return Dirent(
                type: type,
                file: FileID(
                    sequence: try reader.u64(), objectNumber: try reader.u32(),
                    version: try reader.u32()))
        }
        guard let decoded else { return nil }
        self = decoded
    }
}
