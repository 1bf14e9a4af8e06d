extension InodeBits {
    /// What a client keeps of a file that it looks up.
    public static let everything: InodeBits = [.lookup, .update, .perm]
    /// What all attributes together need.
    public static let attributes: InodeBits = [.update, .perm]
}

extension ResourceID {
    /// The resource that guards a file's attributes and names: sequence, then object number and
    /// version in one word (`fid_build_reg_res_name`).
    public init(_ file: FileID) {
        self.init(file.sequence, UInt64(file.version) << 32 | UInt64(file.objectNumber))
    }

    /// The file whose attributes and names this resource guards.
    public var fileID: FileID {
        FileID(
            sequence: name0, objectNumber: UInt32(truncatingIfNeeded: name1),
            version: UInt32(truncatingIfNeeded: name1 >> 32))
    }
}

/// A lock in mode PR on a file, granted along with the answer to something else.
///
/// | field         | bytes | since |
/// |---------------|------:|-------|
/// | client cookie |     8 | 1     |
/// | server cookie |     8 | 1     |
/// | file          |    16 | 1     |
/// | bits          |     8 | 1     |
public struct LockGrant: Hashable, Sendable, BitwiseCopyable {
    public var clientCookie: UInt64
    public var serverCookie: UInt64
    public var file: FileID
    public var bits: InodeBits

    public init(clientCookie: UInt64, serverCookie: UInt64, file: FileID, bits: InodeBits) {
        self.clientCookie = clientCookie
        self.serverCookie = serverCookie
        self.file = file
        self.bits = bits
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u64(clientCookie)
        writer.u64(serverCookie)
        file.encode(into: &writer, version)
        writer.u64(bits.rawValue)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        clientCookie = try reader.u64()
        serverCookie = try reader.u64()
        file = try FileID(from: &reader, version)
        bits = InodeBits(rawValue: try reader.u64())
    }
}

/// Walk down `path` and give locks on what is on the way, as far as they are free: what Lustre's
/// intents `getattr` and `lookup` do, for a whole path in one round trip.
///
/// The lock with cookie k is on the file that name k leads to: `lookup` on the way, everything at
/// the end. Where name k leads nowhere, it is `update` on the directory that has no such name, so
/// that its absence can be kept in mind. With an empty path cookie 0 is for `parent` itself.
///
/// Only between ends that have agreed on `Features.caching`.
public struct LocateRequest: Hashable, Sendable {
    public var parent: FileID
    /// At most `LookupRequest.nameCountMax` names.
    public var path: [FileName]
    /// One for each name, one for an empty path; 0 wants no lock.
    public var cookies: [UInt64]

    public init(parent: FileID, path: [FileName], cookies: [UInt64]) {
        precondition(cookies.count == max(1, path.count), "a cookie for each name")
        self.parent = parent
        self.path = path
        self.cookies = cookies
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        parent.encode(into: &writer, version)
        writer.u32(UInt32(path.count))
        writer.u32(0)
        for cookie in cookies { writer.u64(cookie) }
        for name in path { name.encode(into: &writer) }
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        parent = try FileID(from: &reader, version)
        let count = try reader.u32()
        guard count <= UInt32(LookupRequest.nameCountMax) else {
            throw .badLength(
                field: "path", value: UInt64(count), limit: UInt64(LookupRequest.nameCountMax))
        }
        try reader.reserved(4)
        cookies = []
        for _ in 0..<max(1, count) { cookies.append(try reader.u64()) }
        path = []
        for _ in 0..<count { path.append(try FileName(from: &reader)) }
    }
}

/// Where a path leads, and the locks that were free.
public struct LocateReply: Hashable, Sendable {
    /// The files that the names lead to, in order; fewer than names where one leads nowhere.
    public var files: [FileID]
    /// Of the last file, where every name led somewhere.
    public var found: AttributesReply?
    public var grants: [LockGrant]

    public init(files: [FileID], found: AttributesReply?, grants: [LockGrant]) {
        self.files = files
        self.found = found
        self.grants = grants
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u32(UInt32(files.count))
        writer.u32(UInt32(grants.count))
        writer.u32(found == nil ? 0 : 1)
        writer.u32(0)
        for file in files { file.encode(into: &writer, version) }
        for grant in grants { grant.encode(into: &writer, version) }
        found?.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        let limit = UInt32(LookupRequest.nameCountMax)
        let fileCount = try reader.u32()
        let grantCount = try reader.u32()
        guard max(fileCount, grantCount) <= limit else {
            throw .badLength(
                field: "path", value: UInt64(max(fileCount, grantCount)), limit: UInt64(limit))
        }
        let isFound = try readFlag(from: &reader)
        try reader.reserved(4)
        files = []
        for _ in 0..<fileCount { files.append(try FileID(from: &reader, version)) }
        grants = []
        for _ in 0..<grantCount { grants.append(try LockGrant(from: &reader, version)) }
        found = isFound ? try AttributesReply(from: &reader, version) : nil
    }
}

/// The answer to an update that changed files which its request names by their names only: what
/// its sender knows of them is out of date. To ends that have agreed on `Features.caching`.
public struct ChangedReply: Hashable, Sendable {
    static let magic: UInt32 = 0x5A1C_E007
    static let fileCountMax = 4
    public var files: [FileID]
    public init(files: [FileID]) { self.files = files }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u32(Self.magic)
        writer.u32(UInt32(files.count))
        for file in files { file.encode(into: &writer, version) }
    }

    /// Nil where the buffer is something else: a trailer.
    init?(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        guard try reader.u32() == Self.magic else { return nil }
        let count = try reader.u32()
        guard count <= UInt32(Self.fileCountMax) else {
            throw .badLength(
                field: "changed files", value: UInt64(count), limit: UInt64(Self.fileCountMax))
        }
        files = []
        for _ in 0..<count { files.append(try FileID(from: &reader, version)) }
    }
}

/// The answer to a write that says how much more may be dirtied (`o_grant`). To ends that have
/// agreed on `Features.grants`.
public struct WriteReply: Hashable, Sendable, BitwiseCopyable {
    static let magic: UInt32 = 0x5A1C_E008
    /// Bytes set aside for the client by this answer.
    public var grant: UInt64
    public init(grant: UInt64) { self.grant = grant }

    func encode(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u32(0)
        writer.u64(grant)
    }

    /// Nil where the buffer is something else: a trailer.
    init?(from reader: inout WireReader) throws(WireError) {
        guard try reader.u32() == Self.magic else { return nil }
        try reader.reserved(4)
        grant = try reader.u64()
    }
}

/// Give a file another name.
public struct LinkRequest: Hashable, Sendable {
    public var file: FileID
    public var parent: FileID
    public var name: FileName
    public var time: Timestamp
    public init(file: FileID, parent: FileID, name: FileName, time: Timestamp) {
        self.file = file
        self.parent = parent
        self.name = name
        self.time = time
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        file.encode(into: &writer, version)
        parent.encode(into: &writer, version)
        name.encode(into: &writer)
        time.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        file = try FileID(from: &reader, version)
        parent = try FileID(from: &reader, version)
        name = try FileName(from: &reader)
        time = try Timestamp(from: &reader, version)
    }
}

/// Room in a target: `struct obd_statfs` (lustre_idl.h), 144 bytes, the same in every version.
///
/// | offset | size | field                | unit                         |
/// |-------:|-----:|----------------------|------------------------------|
/// |      0 |    8 | type                 | magic of the file system     |
/// |      8 |   24 | blocks, free, available | blocks                    |
/// |     32 |   16 | files, free          |                              |
/// |     48 |   40 | fsid                 | zero                         |
/// |     88 |    4 | block size           | bytes                        |
/// |     92 |    4 | name length          | bytes                        |
/// |     96 |    8 | greatest file        | bytes                        |
/// |    104 |    4 | state                | zero: all is well            |
/// |    108 |    4 | precreated           |                              |
/// |    112 |    4 | granted              | blocks                       |
/// |    116 |   28 | spares               | zero                         |
public struct StatfsReply: Hashable, Sendable, BitwiseCopyable {
    public static let encodedSize = 144
    /// LL_SUPER_MAGIC, by which tools know the format of a Lustre target's answer.
    static let typeMagic: UInt64 = 0x0BD0_0BD0

    public var blockCount: UInt64
    public var blocksFree: UInt64
    /// Free and not set aside for anybody.
    public var blocksAvailable: UInt64
    public var fileCount: UInt64
    public var filesFree: UInt64
    /// Bytes.
    public var blockSize: UInt32
    /// Blocks set aside for clients.
    public var blocksGranted: UInt32

    public init(
        blockCount: UInt64, blocksFree: UInt64, blocksAvailable: UInt64, fileCount: UInt64,
        filesFree: UInt64, blockSize: UInt32, blocksGranted: UInt32
    ) {
        self.blockCount = blockCount
        self.blocksFree = blocksFree
        self.blocksAvailable = blocksAvailable
        self.fileCount = fileCount
        self.filesFree = filesFree
        self.blockSize = blockSize
        self.blocksGranted = blocksGranted
    }

    func encode(into writer: inout WireWriter) {
        writer.u64(Self.typeMagic)
        writer.u64(blockCount)
        writer.u64(blocksFree)
        writer.u64(blocksAvailable)
        writer.u64(fileCount)
        writer.u64(filesFree)
        writer.zeros(40)
        writer.u32(blockSize)
        writer.u32(UInt32(FileName.byteCountMax))
        writer.u64(UInt64(Int64.max))
        writer.u32(0)
        writer.u32(0)
        writer.u32(blocksGranted)
        writer.zeros(28)
    }

    init(from reader: inout WireReader) throws(WireError) {
        try reader.skip(8)
        blockCount = try reader.u64()
        blocksFree = try reader.u64()
        blocksAvailable = try reader.u64()
        fileCount = try reader.u64()
        filesFree = try reader.u64()
        try reader.skip(40)
        blockSize = try reader.u32()
        try reader.skip(20)
        blocksGranted = try reader.u32()
        try reader.skip(28)
    }
}
