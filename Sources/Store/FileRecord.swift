internal import StorageCore

/// What the database knows of an object's file: the authority over which bytes exist.
///
/// | offset | size | field         | meaning                                         |
/// |-------:|-----:|---------------|-------------------------------------------------|
/// |      0 |    8 | `incarnation` | names the file; big-endian                      |
/// |      8 |    8 | `length`      | bytes from here on do not exist, whatever is on disk |
struct FileRecord: Equatable {
    var incarnation: UInt64
    var length: UInt64

    init(incarnation: UInt64, length: UInt64) {
        self.incarnation = incarnation
        self.length = length
    }

    init?(_ bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        incarnation = bigEndian(bytes, at: 0)
        length = bigEndian(bytes, at: 8)
    }

    var bytes: [UInt8] { bigEndian(incarnation) + bigEndian(length) }
}

/// Work on a file that may only be done once the transaction that asks for it is committed. It is
/// recorded in that transaction, so that a crash in between cannot lose it.
struct Cleanup: Equatable {
    enum Work: Equatable {
        /// No record names the file any more.
        case remove
        /// Ranges that were cut off and then passed by a later write: they are holes now.
        case zero([Range<UInt64>])
    }

    var file: FileID
    var work: Work

    init(file: FileID, work: Work) {
        self.file = file
        self.work = work
    }

    /// Object id, then incarnation: at most one record per file and commit.
    var key: [UInt8] { file.object.key + bigEndian(file.incarnation) }

    /// Nothing for `remove`; lower and upper bound of each range for `zero`.
    var value: [UInt8] {
        switch work {
        case .remove: return []
        case .zero(let ranges):
            return ranges.flatMap { bigEndian($0.lowerBound) + bigEndian($0.upperBound) }
        }
    }

    init?(key: [UInt8], value: [UInt8]) {
        guard key.count == 24, value.count % 16 == 0,
            let object = ObjectID(key: Array(key[0..<16]))
        else { return nil }
        file = FileID(object: object, incarnation: bigEndian(key, at: 16))
        if value.isEmpty {
            work = .remove
            return
        }
        var ranges: [Range<UInt64>] = []
        for offset in stride(from: 0, to: value.count, by: 16) {
            let lower = bigEndian(value, at: offset)
            let upper = bigEndian(value, at: offset + 8)
            guard lower < upper, upper <= StoreLimits.objectOffsetMax else { return nil }
            ranges.append(lower..<upper)
        }
        work = .zero(ranges)
    }
}

func bigEndian(_ value: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(56 - 8 * $0)) }
}

/// Traps outside the array: callers check the length of what they read.
func bigEndian(_ bytes: [UInt8], at offset: Int) -> UInt64 {
    bytes[offset..<(offset + 8)].reduce(0) { $0 << 8 | UInt64($1) }
}
