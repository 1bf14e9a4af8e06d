internal import WireFormat

/// What table `objects` holds of an object. Little-endian.
///
/// | offset | size | field    | unit or meaning                             |
/// |-------:|-----:|----------|---------------------------------------------|
/// |      0 |    1 | format   | 1; later ones extend this layout            |
/// |      1 |    3 | reserved | kept as they were read                      |
/// |      4 |    8 | size     | bytes; below 2^63                           |
/// |     12 |   12 | modified | seconds (8), nanoseconds (4)                |
/// |        |      | rest     | fields of later formats, kept as they were read |
struct ObjectRecord: Equatable {
    static let format: UInt8 = 1
    static let headSize = 24

    var attributes: ObjectAttributes
    private var format = ObjectRecord.format
    private var reserved: [UInt8] = [0, 0, 0]
    /// An older build that writes to an object does not take away what a newer one added to it.
    private var rest: [UInt8] = []

    init(attributes: ObjectAttributes) { self.attributes = attributes }

    var encoded: [UInt8] {
        var writer = WireWriter(capacity: Self.headSize + rest.count)
        writer.u8(format)
        writer.append(reserved)
        writer.u64(attributes.size)
        writer.write(attributes.modified.seconds)
        writer.u32(attributes.modified.nanoseconds)
        writer.append(rest)
        return writer.bytes
    }

    /// Nil where the bytes are no such record.
    init?(decoding bytes: [UInt8]) {
        let decoded = try? RawSpan.over(bytes) {
            (span: RawSpan) throws(WireError) -> ObjectRecord in
            var reader = WireReader(span)
            let format = try reader.u8()
            guard format >= Self.format else {
                throw .badValue(field: "object format", value: UInt64(format))
            }
            let reserved = try reader.bytes(3)
            let size = try reader.u64()
            guard size <= UInt64(Int64.max) else {
                throw .badLength(field: "size", value: size, limit: UInt64(Int64.max))
            }
            let modified = Timestamp(
                seconds: try reader.read(), nanoseconds: try reader.u32())
            var record = ObjectRecord(
                attributes: ObjectAttributes(size: size, modified: modified))
            record.format = format
            record.reserved = reserved
            record.rest = try reader.bytes(reader.remaining)
            return record
        }
        guard let decoded else { return nil }
        self = decoded
    }
}
