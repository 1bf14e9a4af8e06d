internal import Primitives
public import WireFormat

// The record as bytes: little-endian, one format version, and cut into rows that a key-value store
// takes. Torn and flipped bytes are found: each row is counted and summed, and so is the whole.
extension CleanRecord {
    static let magic: UInt32 = 0x5A1C_E010
    static let rowMagic: UInt32 = 0x5A1C_E011
    /// Grows with every change of the layout; older ones stay readable.
    public static let formatVersion: UInt32 = 1
    /// Bytes of a row's value, header included, unless told otherwise.
    public static let rowSizeDefault = 32 * 1024
    static let rowHeaderSize = 40
    static let rowCountMax: UInt32 = 1 << 20
    static let nameSizeMax = 255

    /// One entry of a key-value store; keys sort in the order of the rows.
    public struct Row: Equatable, Sendable {
        public var key: [UInt8]
        public var value: [UInt8]

        public init(key: [UInt8], value: [UInt8]) {
            self.key = key
            self.value = value
        }
    }

    /// The record in one piece.
    public func encoded() -> [UInt8] {
        var writer = WireWriter(capacity: 128 + clients.count * 96)
        writer.u32(Self.magic)
        writer.u32(Self.formatVersion)
        epoch.encode(into: &writer)
        writer.u64(instance)
        writer.u16(versions.lowerBound.rawValue)
        writer.u16(versions.upperBound.rawValue)
        writer.u32(storeFormat)
        writer.u64(lastTransno.rawValue)
        Self.write(text: targetName, into: &writer)
        writer.u32(UInt32(clients.count))
        for client in clients {
            Self.write(text: client.uuid, into: &writer)
            writer.u32(client.exportIndex)
            writer.u64(client.nid.rawValue)
            writer.u64(client.sinceInstance)
            switch client.account {
            case .receipt(let receipt):
                writer.u8(1)
                receipt.encode(into: &writer)
            case .bornPrepared: writer.u8(2)
            case .synchronous: writer.u8(3)
            case .absent: writer.u8(4)
            case .carriedForward: writer.u8(5)
            }
        }
        for blobs in [lockReservations, openReservations] {
            writer.u32(UInt32(blobs.count))
            for blob in blobs {
                writer.u32(UInt32(blob.count))
                writer.append(blob)
            }
        }
        writer.u32(UInt32(nids.count))
        for nid in nids { writer.u64(nid.rawValue) }
        writer.u64(Self.checksum(writer.bytes[...]))
        return writer.bytes
    }

    /// Reads what `encoded` wrote, all of it.
    public init(encoded bytes: [UInt8]) throws(WireError) {
        guard bytes.count >= 8 else { throw .truncated(need: 8, have: bytes.count) }
        self = try RawSpan.over(bytes) { (span) throws(WireError) -> CleanRecord in
            let bodySize = bytes.count - 8
            let sum: UInt64 = span.littleEndian(at: bodySize)
            guard sum == Self.checksum(bytes[..<bodySize]) else {
                throw .badValue(field: "clean record checksum", value: sum)
            }
            var reader = WireReader(span.extracting(0..<bodySize))
            let record = try CleanRecord(from: &reader)
            guard reader.remaining == 0 else {
                throw .badLength(
                    field: "clean record", value: UInt64(bodySize), limit: UInt64(reader.offset))
            }
            return record
        }
    }

    private init(from reader: inout WireReader) throws(WireError) {
        let magic = try reader.u32()
        guard magic == Self.magic else { throw .badMagic(magic) }
        let version = try reader.u32()
        guard version == Self.formatVersion else { throw .badVersion(version) }
        epoch = try UpgradeEpoch(from: &reader)
        instance = try reader.u64()
        let low = ProtocolVersion(rawValue: try reader.u16())
        let high = ProtocolVersion(rawValue: try reader.u16())
        guard low <= high else { throw .badVersion(UInt32(low.rawValue)) }
        versions = low...high
        storeFormat = try reader.u32()
        lastTransno = Transno(rawValue: try reader.u64())
        targetName = try Self.readText(from: &reader, field: "target name")
        clients = []
        for _ in 0..<(try Self.count(from: &reader, atLeast: 23, field: "clients")) {
            let uuid = try Self.readText(from: &reader, field: "client uuid")
            let exportIndex = try reader.u32()
            let nid = NID(rawValue: try reader.u64())
            let sinceInstance = try reader.u64()
            let kind = try reader.u8()
            let account: Account
            switch kind {
            case 1: account = .receipt(try UpgradeReceipt(from: &reader))
            case 2: account = .bornPrepared
            case 3: account = .synchronous
            case 4: account = .absent
            case 5: account = .carriedForward
            default: throw .badValue(field: "client account", value: UInt64(kind))
            }
            clients.append(
                Client(
                    uuid: uuid, exportIndex: exportIndex, nid: nid, sinceInstance: sinceInstance,
                    account: account))
        }
        lockReservations = try Self.readBlobs(from: &reader, field: "lock reservations")
        openReservations = try Self.readBlobs(from: &reader, field: "open reservations")
        nids = []
        for _ in 0..<(try Self.count(from: &reader, atLeast: 8, field: "nids")) {
            nids.append(NID(rawValue: try reader.u64()))
        }
    }

    /// The record cut into rows. The store holds all of them, or the record is not there.
    ///
    /// | offset | size | field                                        |
    /// |-------:|-----:|----------------------------------------------|
    /// |      0 |    4 | magic `5A1C_E011`                            |
    /// |      4 |    4 | index of this row                            |
    /// |      8 |    4 | count of rows                                |
    /// |     12 |    4 | bytes of the record in this row              |
    /// |     16 |    8 | bytes of the record in all rows              |
    /// |     24 |    8 | instance: rows of two records never mix      |
    /// |     32 |    8 | checksum of the above and of the bytes below |
    public func rows(sizeMax: Int = CleanRecord.rowSizeDefault) -> [Row] {
        precondition(sizeMax > Self.rowHeaderSize, "a row holds more than its header")
        let bytes = encoded()
        let share = sizeMax - Self.rowHeaderSize
        let rowCount = (bytes.count + share - 1) / share
        precondition(rowCount <= Int(Self.rowCountMax), "the clean record exceeds its rows")
        return (0..<rowCount).map { index in
            let part = bytes[(index * share)..<min(bytes.count, (index + 1) * share)]
            var writer = WireWriter(capacity: Self.rowHeaderSize + part.count)
            writer.u32(Self.rowMagic)
            writer.u32(UInt32(index))
            writer.u32(UInt32(rowCount))
            writer.u32(UInt32(part.count))
            writer.u64(UInt64(bytes.count))
            writer.u64(instance)
            writer.u64(Self.checksum(writer.bytes[...], part))
            writer.append(Array(part))
            return Row(key: Self.key(index), value: writer.bytes)
        }
    }

    /// Puts rows together again, in the order of their keys. Throws where one is missing, foreign or
    /// damaged: the record is then not there.
    public init(rows: [Row]) throws(WireError) {
        var whole: [UInt8] = []
        var size: UInt64?
        var instance: UInt64?
        for (index, row) in rows.enumerated() {
            let part = try RawSpan.over(row.value) { (span) throws(WireError) -> [UInt8] in
                var reader = WireReader(span)
                let magic = try reader.u32()
                guard magic == Self.rowMagic else { throw .badMagic(magic) }
                let named = try reader.u32()
                guard Int(named) == index, row.key == Self.key(index) else {
                    throw .badValue(field: "row index", value: UInt64(named))
                }
                let rowCount = try reader.u32()
                guard rowCount <= Self.rowCountMax, Int(rowCount) == rows.count else {
                    throw .badLength(
                        field: "rows", value: UInt64(rows.count), limit: UInt64(rowCount))
                }
                let partSize = try reader.u32()
                let wholeSize = try reader.u64()
                let rowInstance = try reader.u64()
                guard size == nil || size == wholeSize else {
                    throw .badValue(field: "record size", value: wholeSize)
                }
                guard instance == nil || instance == rowInstance else {
                    throw .badValue(field: "row instance", value: rowInstance)
                }
                size = wholeSize
                instance = rowInstance
                let sum = try reader.u64()
                guard Int(partSize) == reader.remaining else {
                    throw .truncated(
                        need: Self.rowHeaderSize + Int(partSize), have: row.value.count)
                }
                let body = row.value[Self.rowHeaderSize...]
                guard sum == Self.checksum(row.value[..<(Self.rowHeaderSize - 8)], body) else {
                    throw .badValue(field: "row checksum", value: sum)
                }
                return try reader.bytes(reader.remaining)
            }
            whole.append(contentsOf: part)
        }
        guard let size, size == UInt64(whole.count) else {
            throw .truncated(
                need: Int(truncatingIfNeeded: min(size ?? 8, UInt64(Int.max))), have: whole.count)
        }
        self = try CleanRecord(encoded: whole)
        guard self.instance == instance else {
            throw .badValue(field: "row instance", value: instance ?? 0)
        }
    }

    /// Big-endian, so that bytewise order is the order of the rows.
    private static func key(_ index: Int) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: index >> $0) }
    }

    private static func checksum(_ parts: ArraySlice<UInt8>...) -> UInt64 {
        var hash = StableHash()
        for part in parts { hash.combine(part) }
        return hash.value
    }

    private static func write(text: String, into writer: inout WireWriter) {
        let bytes = Array(text.utf8)
        precondition(bytes.count <= nameSizeMax, "a name of the clean record is too long")
        writer.u8(UInt8(bytes.count))
        writer.append(bytes)
    }

    private static func readText(
        from reader: inout WireReader, field: String
    ) throws(WireError) -> String {
        let size = Int(try reader.u8())
        guard let text = String(validating: try reader.bytes(size), as: UTF8.self) else {
            throw .badValue(field: field, value: UInt64(size))
        }
        return text
    }

    /// A count that the bytes that are left can hold: it never makes us reserve more than they are.
    private static func count(
        from reader: inout WireReader, atLeast size: Int, field: String
    ) throws(WireError) -> Int {
        let count = Int(try reader.u32())
        guard count <= reader.remaining / size else {
            throw .badLength(
                field: field, value: UInt64(count), limit: UInt64(reader.remaining / size))
        }
        return count
    }

    private static func readBlobs(
        from reader: inout WireReader, field: String
    ) throws(WireError) -> [[UInt8]] {
        var blobs: [[UInt8]] = []
        for _ in 0..<(try count(from: &reader, atLeast: 4, field: field)) {
            let size = Int(try reader.u32())
            blobs.append(try reader.bytes(size))
        }
        return blobs
    }
}
