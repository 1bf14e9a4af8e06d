internal import StorageCore

/// Whose store it is and what one must know to read it.
public struct StoreIdentity: Equatable, Sendable {
    /// The format of stores that this build makes, and the highest that it reads. It serves every
    /// format from 1 on in that format, so that the build before can have the store back;
    /// `StoreConversion` changes it.
    ///
    /// | format | what it added |
    /// |---|---|
    /// | 1 | tables, object files, clean-up records |
    /// | 2 | a checksum in every row, one for each block of an object, overwrites by redo record |
    public static let currentFormat: UInt32 = 2
    /// Features that this build can read.
    public static let knownFeatures: UInt64 = 0

    public var format: UInt32
    /// Bits of persistent effect: a build that does not know one of them must not open the store.
    public var features: UInt64
    public var targetName: String
    /// What the target does, in the words of its configuration.
    public var targetKind: String
    /// Seconds of the real-time clock at creation.
    public var created: UInt64

    // Rows of their own, so that every build can read those that it needs of any format.
    private static let formatKey = Array("format".utf8)
    private static let featuresKey = Array("features".utf8)
    private static let nameKey = Array("target-name".utf8)
    private static let kindKey = Array("target-kind".utf8)
    private static let createdKey = Array("created".utf8)
    private static let sumKey = Array("identity-sum".utf8)
    static let commitsKey = Array("commits".utf8)

    init(format: UInt32, features: UInt64, name: String, kind: String, created: UInt64) {
        self.format = format
        self.features = features
        targetName = name
        targetKind = kind
        self.created = created
    }

    /// Reads the rows; nil where one is missing or misshapen.
    init?(_ row: (_ key: [UInt8]) -> [UInt8]?) {
        func number(_ key: [UInt8]) -> UInt64? {
            guard let bytes = row(key), bytes.count == 8 else { return nil }
            return bigEndian(bytes, at: 0)
        }
        guard let format = number(Self.formatKey).flatMap({ UInt32(exactly: $0) }), format > 0,
            let features = number(Self.featuresKey),
            let name = row(Self.nameKey), let kind = row(Self.kindKey),
            let created = number(Self.createdKey)
        else { return nil }
        self.init(
            format: format, features: features, name: String(decoding: name, as: UTF8.self),
            kind: String(decoding: kind, as: UTF8.self), created: created)
        if format >= 2 {
            guard number(Self.sumKey) == UInt64(sum) else { return nil }
        }
    }

    /// Over the rows before it, in their order.
    private var sum: UInt32 {
        var sum: UInt32 = 0
        for row in plainRows {
            sum = Checksum.crc32c(row.key + [0] + row.value, after: sum)
        }
        return sum
    }

    /// The rows to write.
    var rows: [(key: [UInt8], value: [UInt8])] {
        plainRows + (format >= 2 ? [(Self.sumKey, bigEndian(UInt64(sum)))] : [])
    }

    private var plainRows: [(key: [UInt8], value: [UInt8])] {
        [
            (Self.formatKey, bigEndian(UInt64(format))), (Self.featuresKey, bigEndian(features)),
            (Self.nameKey, Array(targetName.utf8)), (Self.kindKey, Array(targetKind.utf8)),
            (Self.createdKey, bigEndian(created)),
        ]
    }
}
