/// What a target knows of its clients' receipts: of the upgrade in hand, or from the clean record
/// that the instance started from.
///
/// | offset | size | field         | unit or meaning                         |
/// |-------:|-----:|---------------|-----------------------------------------|
/// |      0 |   16 | `epoch`       |                                         |
/// |     16 |    8 | `lastTransno` | the last that the record vouches for    |
/// |     24 |    1 | flags         | 1 live, 2 end                           |
/// |     25 |    3 | reserved      | zero on send, refused otherwise         |
/// |     28 |    4 | count         | rows: name, NID 8, kind 1, flags 1, and a receipt of 64 |
public struct UpgradeReceiptsReply: Equatable, Sendable {
    public enum Kind: UInt8, Sendable, CaseIterable {
        case missing = 0
        case receipt = 1
        case bornPrepared = 2
        case synchronous = 3
        case absent = 4
        case carriedForward = 5
    }

    public struct Row: Equatable, Sendable {
        public var uuid: String
        public var nid: NID
        public var kind: Kind
        /// It has connected to the instance that tells this.
        public var hasReturned: Bool
        public var receipt: UpgradeReceipt?

        public init(
            uuid: String, nid: NID, kind: Kind, hasReturned: Bool, receipt: UpgradeReceipt?
        ) {
            self.uuid = uuid
            self.nid = nid
            self.kind = kind
            self.hasReturned = hasReturned
            self.receipt = receipt
        }
    }

    /// Rows of one reply, at most.
    public static let rowCountMax = 2_000

    /// Of the upgrade in hand; else from the record of the stop before.
    public var isLive: Bool
    public var epoch: UpgradeEpoch
    public var lastTransno: Transno
    public var rows: [Row]
    public var isEnd: Bool

    public init(
        isLive: Bool, epoch: UpgradeEpoch, lastTransno: Transno, rows: [Row], isEnd: Bool
    ) {
        self.isLive = isLive
        self.epoch = epoch
        self.lastTransno = lastTransno
        self.rows = rows
        self.isEnd = isEnd
    }

    func encode(into writer: inout WireWriter) {
        epoch.encode(into: &writer)
        writer.u64(lastTransno.rawValue)
        writer.u8((isLive ? 1 : 0) | (isEnd ? 2 : 0))
        writer.zeros(3)
        writer.u32(UInt32(rows.count))
        for row in rows {
            writeText(row.uuid, into: &writer)
            writer.u64(row.nid.rawValue)
            writer.u8(row.kind.rawValue)
            writer.u8((row.hasReturned ? 1 : 0) | (row.receipt == nil ? 0 : 2))
            row.receipt?.encode(into: &writer)
        }
    }

    init(from reader: inout WireReader) throws(WireError) {
        epoch = try UpgradeEpoch(from: &reader)
        lastTransno = Transno(rawValue: try reader.u64())
        let flags = try reader.u8()
        guard flags <= 3 else { throw .reservedBitsSet(UInt64(flags)) }
        isLive = flags & 1 != 0
        isEnd = flags & 2 != 0
        try reader.reserved(3)
        let count = try reader.u32()
        guard count <= UInt32(Self.rowCountMax) else {
            throw .badLength(
                field: "receipts", value: UInt64(count), limit: UInt64(Self.rowCountMax))
        }
        rows = []
        for _ in 0..<count {
            let uuid = try readText(
                from: &reader, limit: ConnectRequest.uuidSize, field: "client uuid")
            let nid = NID(rawValue: try reader.u64())
            let rawKind = try reader.u8()
            guard let kind = Kind(rawValue: rawKind) else {
                throw .badValue(field: "receipt kind", value: UInt64(rawKind))
            }
            let flags = try reader.u8()
            guard flags <= 3 else { throw .reservedBitsSet(UInt64(flags)) }
            rows.append(
                Row(
                    uuid: uuid, nid: nid, kind: kind, hasReturned: flags & 1 != 0,
                    receipt: flags & 2 != 0 ? try UpgradeReceipt(from: &reader) : nil))
        }
    }
}
