public import WireFormat

/// One row of table `replyData`: the last update of one slot of a client, with its reply.
///
/// Key: export index, 4 bytes, then tag, 2 bytes, big-endian. Value, little-endian:
///
/// | offset | size | field                                                        |
/// |-------:|-----:|--------------------------------------------------------------|
/// |      0 |    2 | layout, 1                                                    |
/// |      2 |    2 | zero                                                         |
/// |      4 |    4 | bytes of the saved reply                                     |
/// |      8 |    8 | client handle: a row of the index's earlier client is ignored |
/// |     16 |    8 | XID                                                          |
/// |     24 |    8 | transno                                                      |
/// |     32 |    4 | status                                                       |
/// |     36 |    4 | zero                                                         |
/// |     40 |    n | saved reply (`ReplyBody.saved`)                              |
public struct ReplyRecord: Equatable, Sendable {
    public static let layout: UInt16 = 1
    public static let headerSize = 40
    /// Tags are 1...8, whatever a version allows.
    public static let tagMax: UInt16 = 8
    static let savedMax: UInt32 = 1 << 20

    public var index: UInt32
    public var tag: UInt16
    public var clientHandle: UInt64
    public var xid: XID
    public var transno: Transno
    public var status: Status
    public var saved: [UInt8]

    public static func key(index: UInt32, tag: UInt16) -> [UInt8] {
        var writer = WireWriter(capacity: 6)
        writer.u32(index.byteSwapped)
        writer.u16(tag.byteSwapped)
        return writer.bytes
    }

    public var key: [UInt8] { Self.key(index: index, tag: tag) }

    public var value: [UInt8] {
        var writer = WireWriter(capacity: Self.headerSize + saved.count)
        writer.u16(Self.layout)
        writer.u16(0)
        writer.u32(UInt32(saved.count))
        writer.u64(clientHandle)
        writer.u64(xid.rawValue)
        writer.u64(transno.rawValue)
        writer.u32(UInt32(bitPattern: status.rawValue))
        writer.u32(0)
        writer.append(saved)
        return writer.bytes
    }

    init(
        index: UInt32, tag: UInt16, clientHandle: UInt64, xid: XID, transno: Transno,
        status: Status, saved: [UInt8]
    ) {
        self.index = index
        self.tag = tag
        self.clientHandle = clientHandle
        self.xid = xid
        self.transno = transno
        self.status = status
        self.saved = saved
    }

    public init(key: [UInt8], value: [UInt8]) throws(WireError) {
        self = try RawSpan.over(key) { (keyBytes: RawSpan) throws(WireError) -> ReplyRecord in
            guard keyBytes.byteCount == 6 else {
                throw .badLength(
                    field: "reply key", value: UInt64(keyBytes.byteCount), limit: 6)
            }
            let index: UInt32 = keyBytes.littleEndian(at: 0)
            let tag: UInt16 = keyBytes.littleEndian(at: 4)
            return try RawSpan.over(value) {
                (bytes: RawSpan) throws(WireError) -> ReplyRecord in
                try ReplyRecord(index: index.byteSwapped, tag: tag.byteSwapped, bytes)
            }
        }
    }

    private init(index: UInt32, tag: UInt16, _ bytes: RawSpan) throws(WireError) {
        guard tag >= 1, tag <= Self.tagMax else {
            throw .badValue(field: "tag", value: UInt64(tag))
        }
        var reader = WireReader(bytes)
        let layout = try reader.u16()
        guard layout == Self.layout else { throw .badVersion(UInt32(layout)) }
        try reader.reserved(2)
        let length = try reader.u32()
        guard length <= Self.savedMax else {
            throw .badLength(
                field: "saved reply", value: UInt64(length), limit: UInt64(Self.savedMax))
        }
        self.index = index
        self.tag = tag
        clientHandle = try reader.u64()
        xid = XID(rawValue: try reader.u64())
        transno = Transno(rawValue: try reader.u64())
        status = Status(rawValue: Int32(bitPattern: try reader.u32()))
        try reader.reserved(4)
        saved = try reader.bytes(Int(length))
    }
}
