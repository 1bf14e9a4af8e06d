public import WireFormat

/// One row of table `clients`: what a target remembers of a client across restarts.
///
/// Key: export index, 4 bytes, big-endian. Value, little-endian, 80 bytes:
///
/// | offset | size | field                                           |
/// |-------:|-----:|-------------------------------------------------|
/// |      0 |    2 | layout, 1                                       |
/// |      2 |    2 | protocol version agreed last                    |
/// |      4 |    4 | zero                                            |
/// |      8 |    8 | client handle: names the client's instance      |
/// |     16 |    8 | feature bits                                    |
/// |     24 |    8 | NID of its last connect that was recorded       |
/// |     32 |    2 | bytes of the UUID                               |
/// |     34 |   46 | UUID, padded with zeros                         |
public struct ClientRecord: Equatable, Sendable {
    public static let layout: UInt16 = 1
    public static let encodedSize = 80
    static let uuidRoom = 46

    public var index: UInt32
    public var version: ProtocolVersion
    public var clientHandle: UInt64
    public var features: Features
    public var nid: NID
    public var uuid: String

    public init(
        index: UInt32, version: ProtocolVersion, clientHandle: UInt64, features: Features,
        nid: NID, uuid: String
    ) {
        precondition(uuid.utf8.count <= Self.uuidRoom, "a client's UUID fits its record")
        self.index = index
        self.version = version
        self.clientHandle = clientHandle
        self.features = features
        self.nid = nid
        self.uuid = uuid
    }

    /// The row's key; also the prefix of the client's rows in table `replyData`.
    public static func key(index: UInt32) -> [UInt8] {
        var writer = WireWriter(capacity: 4)
        writer.u32(index.byteSwapped)
        return writer.bytes
    }

    public var key: [UInt8] { Self.key(index: index) }

    public var value: [UInt8] {
        var writer = WireWriter(capacity: Self.encodedSize)
        writer.u16(Self.layout)
        writer.u16(version.rawValue)
        writer.u32(0)
        writer.u64(clientHandle)
        writer.u64(features.rawValue)
        writer.u64(nid.rawValue)
        writer.u16(UInt16(uuid.utf8.count))
        for byte in uuid.utf8 { writer.u8(byte) }
        writer.zeros(Self.encodedSize - writer.count)
        return writer.bytes
    }

    public init(key: [UInt8], value: [UInt8]) throws(WireError) {
        self = try RawSpan.over(key) { (keyBytes: RawSpan) throws(WireError) -> ClientRecord in
            guard keyBytes.byteCount == 4 else {
                throw .badLength(
                    field: "client key", value: UInt64(keyBytes.byteCount), limit: 4)
            }
            let index: UInt32 = keyBytes.littleEndian(at: 0)
            return try RawSpan.over(value) {
                (bytes: RawSpan) throws(WireError) -> ClientRecord in
                try ClientRecord(index: index.byteSwapped, bytes)
            }
        }
    }

    private init(index: UInt32, _ bytes: RawSpan) throws(WireError) {
        var reader = WireReader(bytes)
        let layout = try reader.u16()
        guard layout == Self.layout else { throw .badVersion(UInt32(layout)) }
        self.index = index
        version = ProtocolVersion(rawValue: try reader.u16())
        try reader.reserved(4)
        clientHandle = try reader.u64()
        features = Features(rawValue: try reader.u64())
        nid = NID(rawValue: try reader.u64())
        let length = Int(try reader.u16())
        guard length <= Self.uuidRoom else {
            throw .badLength(
                field: "client uuid", value: UInt64(length), limit: UInt64(Self.uuidRoom))
        }
        let text = String(validating: try reader.bytes(length), as: UTF8.self)
        guard let text else { throw .badValue(field: "client uuid", value: UInt64(length)) }
        uuid = text
        try reader.reserved(Self.uuidRoom - length)
    }
}
