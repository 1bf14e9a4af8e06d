/// Create objects ahead of their use: numbers `first ..< first + count`. Creating one that exists
/// already is no error, so the request may be repeated.
public struct ObjectCreateRequest: Hashable, Sendable {
    public static let countMax: UInt32 = 1024
    public var first: ObjectName
    public var count: UInt32
    public init(first: ObjectName, count: UInt32) {
        self.first = first
        self.count = count
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        first.encode(into: &writer, version)
        writer.u32(count)
        writer.u32(0)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        first = try ObjectName(from: &reader, version)
        count = try reader.u32()
        guard count <= Self.countMax else {
            throw .badLength(
                field: "objects", value: UInt64(count), limit: UInt64(Self.countMax))
        }
        try reader.reserved(4)
    }
}

/// Destroy objects. One that does not exist is no error, so the request may be repeated.
public struct ObjectDestroyRequest: Hashable, Sendable {
    public static let countMax = 1024
    public var objects: [ObjectName]
    public init(objects: [ObjectName]) { self.objects = objects }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u32(UInt32(objects.count))
        writer.u32(0)
        for object in objects { object.encode(into: &writer, version) }
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        let count = try reader.u32()
        guard count <= UInt32(Self.countMax) else {
            throw .badLength(
                field: "objects", value: UInt64(count), limit: UInt64(Self.countMax))
        }
        try reader.reserved(4)
        objects = []
        for _ in 0..<count { objects.append(try ObjectName(from: &reader, version)) }
    }
}

/// Write bytes at an offset. Up to `inlineMax` bytes travel in the message, more by bulk GET.
public struct ObjectWriteRequest: Hashable, Sendable {
    /// As Lustre's short I/O; more goes by bulk.
    public static let inlineMax = 16 * 1024
    /// LNET_MTU: what one bulk descriptor moves.
    public static let byteCountMax = 1 << 20

    public var object: ObjectName
    public var offset: UInt64
    public var time: Timestamp
    public var data: [UInt8]
    /// What the header said: `data` arrives by bulk where it is not in the message.
    public internal(set) var byteCount: Int
    public package(set) var checksum: UInt32

    public init(object: ObjectName, offset: UInt64, time: Timestamp, data: [UInt8]) {
        self.object = object
        self.offset = offset
        self.time = time
        self.data = data
        byteCount = data.count
        checksum = 0
    }

    /// | field    | bytes | since |
    /// |----------|------:|-------|
    /// | object   |    16 | 1     |
    /// | offset   |     8 | 1     |
    /// | length   |     4 | 1     |
    /// | checksum |     4 | 2     |
    /// | time     | 8, 12 | 1, 2  |
    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        object.encode(into: &writer, version)
        writer.u64(offset)
        writer.u32(UInt32(data.count))
        if version >= .v2 { writer.u32(adler32(data)) }
        time.encode(into: &writer, version)
    }

    init(
        from reader: inout WireReader, inline: inout WireReader, _ version: ProtocolVersion
    ) throws(WireError) {
        object = try ObjectName(from: &reader, version)
        offset = try reader.u64()
        let length = try reader.u32()
        guard length <= UInt32(Self.byteCountMax) else {
            throw .badLength(
                field: "write", value: UInt64(length), limit: UInt64(Self.byteCountMax))
        }
        byteCount = Int(length)
        guard offset <= UInt64(Int64.max) - UInt64(length) else {
            throw .badLength(field: "offset", value: offset, limit: UInt64(Int64.max))
        }
        checksum = version >= .v2 ? try reader.u32() : 0
        time = try Timestamp(from: &reader, version)
        if byteCount <= Self.inlineMax {
            data = try inline.bytes(byteCount)
            guard checksum == 0 || adler32(data) == checksum else {
                throw .badValue(field: "checksum", value: UInt64(checksum))
            }
        } else {
            data = []
        }
    }

    /// Bytes that a bulk GET has to fetch before the request can be executed; 0 for none.
    public var missingBulkBytes: Int { data.count == byteCount ? 0 : byteCount }

    /// Takes the fetched bytes; false where length or checksum (version 2) is not what was said.
    public mutating func attachBulk(_ bytes: [UInt8]) -> Bool {
        guard bytes.count == byteCount, checksum == 0 || adler32(bytes) == checksum else {
            return false
        }
        data = bytes
        return true
    }
}

public struct ObjectReadRequest: Hashable, Sendable {
    public var object: ObjectName
    public var offset: UInt64
    /// At most `ObjectWriteRequest.byteCountMax`.
    public var byteCount: UInt32
    public init(object: ObjectName, offset: UInt64, byteCount: UInt32) {
        self.object = object
        self.offset = offset
        self.byteCount = byteCount
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        object.encode(into: &writer, version)
        writer.u64(offset)
        writer.u32(byteCount)
        writer.u32(0)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        object = try ObjectName(from: &reader, version)
        offset = try reader.u64()
        byteCount = try reader.u32()
        try reader.reserved(4)
        guard byteCount <= UInt32(ObjectWriteRequest.byteCountMax) else {
            throw .badLength(
                field: "read", value: UInt64(byteCount),
                limit: UInt64(ObjectWriteRequest.byteCountMax))
        }
        guard offset <= UInt64(Int64.max) - UInt64(byteCount) else {
            throw .badLength(field: "offset", value: offset, limit: UInt64(Int64.max))
        }
    }
}

/// The bytes read: short where the object ends. More than `inlineMax` bytes travel by bulk PUT.
public struct ObjectReadReply: Hashable, Sendable {
    public var data: [UInt8]
    public internal(set) var byteCount: Int
    public package(set) var checksum: UInt32

    public init(data: [UInt8]) {
        self.data = data
        byteCount = data.count
        checksum = 0
    }

    public var travelsByBulk: Bool { byteCount > ObjectWriteRequest.inlineMax }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u32(UInt32(data.count))
        writer.u32(version >= .v2 ? adler32(data) : 0)
    }

    init(
        from reader: inout WireReader, inline: inout WireReader
    ) throws(WireError) {
        let length = try reader.u32()
        checksum = try reader.u32()
        guard length <= UInt32(ObjectWriteRequest.byteCountMax) else {
            throw .badLength(
                field: "read", value: UInt64(length),
                limit: UInt64(ObjectWriteRequest.byteCountMax))
        }
        byteCount = Int(length)
        data = byteCount <= ObjectWriteRequest.inlineMax ? try inline.bytes(byteCount) : []
        guard travelsByBulk || checksum == 0 || adler32(data) == checksum else {
            throw .badValue(field: "checksum", value: UInt64(checksum))
        }
    }

    /// Takes the bytes that came by bulk; false where length or checksum is not what was said.
    public mutating func attachBulk(_ bytes: [UInt8]) -> Bool {
        guard bytes.count >= byteCount else { return false }
        let exact = bytes.count == byteCount ? bytes : Array(bytes.prefix(byteCount))
        guard checksum == 0 || adler32(exact) == checksum else { return false }
        data = exact
        return true
    }
}

/// Set an object's size: bytes beyond are gone, bytes up to it read as zeros.
public struct ObjectPunchRequest: Hashable, Sendable {
    public var object: ObjectName
    public var size: UInt64
    public var time: Timestamp
    public init(object: ObjectName, size: UInt64, time: Timestamp) {
        self.object = object
        self.size = size
        self.time = time
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        object.encode(into: &writer, version)
        writer.u64(size)
        time.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        object = try ObjectName(from: &reader, version)
        size = try reader.u64()
        guard size <= UInt64(Int64.max) else {
            throw .badLength(field: "size", value: size, limit: UInt64(Int64.max))
        }
        time = try Timestamp(from: &reader, version)
    }
}

public struct ObjectAttributes: Hashable, Sendable, BitwiseCopyable {
    public var size: UInt64
    public var modified: Timestamp
    public init(size: UInt64, modified: Timestamp) {
        self.size = size
        self.modified = modified
    }

    func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.u64(size)
        modified.encode(into: &writer, version)
    }

    init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        size = try reader.u64()
        guard size <= UInt64(Int64.max) else {
            throw .badLength(field: "size", value: size, limit: UInt64(Int64.max))
        }
        modified = try Timestamp(from: &reader, version)
    }
}

/// One update that a target executed, as its audit table holds it.
public struct AuditRow: Hashable, Sendable {
    public var clientUUID: String
    public var xid: XID
    /// How often it was executed. Anything but 1 is a fault.
    public var executions: UInt32
    public init(clientUUID: String, xid: XID, executions: UInt32) {
        self.clientUUID = clientUUID
        self.xid = xid
        self.executions = executions
    }
}

/// Read the audit table in the order of its keys, from after a row.
public struct AuditReadRequest: Hashable, Sendable {
    public var afterClient: String
    public var afterXID: XID
    public init(afterClient: String, afterXID: XID) {
        self.afterClient = afterClient
        self.afterXID = afterXID
    }

    func encode(into writer: inout WireWriter) {
        writer.u64(afterXID.rawValue)
        writeText(afterClient, into: &writer)
    }

    init(from reader: inout WireReader) throws(WireError) {
        afterXID = XID(rawValue: try reader.u64())
        afterClient = try readText(
            from: &reader, limit: ConnectRequest.uuidSize, field: "client uuid")
    }
}

public struct AuditReadReply: Hashable, Sendable {
    public static let rowCountMax = 8192
    public var rows: [AuditRow]
    public var isEnd: Bool
    public init(rows: [AuditRow], isEnd: Bool) {
        self.rows = rows
        self.isEnd = isEnd
    }

    func encode(into writer: inout WireWriter) {
        writer.u32(UInt32(rows.count))
        writer.u32(isEnd ? 1 : 0)
        for row in rows {
            writeText(row.clientUUID, into: &writer)
            writer.u64(row.xid.rawValue)
            writer.u32(row.executions)
        }
    }

    init(from reader: inout WireReader) throws(WireError) {
        let count = try reader.u32()
        guard count <= UInt32(Self.rowCountMax) else {
            throw .badLength(
                field: "audit rows", value: UInt64(count), limit: UInt64(Self.rowCountMax))
        }
        isEnd = try readFlag(from: &reader)
        rows = []
        for _ in 0..<count {
            let uuid = try readText(
                from: &reader, limit: ConnectRequest.uuidSize, field: "client uuid")
            rows.append(
                AuditRow(
                    clientUUID: uuid, xid: XID(rawValue: try reader.u64()),
                    executions: try reader.u32()))
        }
    }
}

/// Adler-32 (RFC 1950 section 8.2): the checksum of bulk data since version 2.
///
/// 0 on the wire stands for no checksum; the rare data whose sum is 0 travels unchecked.
public func adler32(_ data: [UInt8]) -> UInt32 {
    var a: UInt32 = 1
    var b: UInt32 = 0
    let span = data.span
    var index = 0
    while index < span.count {
        // 5552 bytes are the most for which neither sum overflows before the remainder is taken.
        let end = min(index + 5552, span.count)
        while index < end {
            a &+= UInt32(span[index])
            b &+= a
            index += 1
        }
        a %= 65521
        b %= 65521
    }
    return b << 16 | a
}
