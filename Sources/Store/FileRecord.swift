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
/// recorded in that transaction, so that a crash in between cannot lose it; doing it again changes
/// nothing.
struct Cleanup: Equatable {
    /// Bytes that go over committed ones.
    struct Piece: Equatable {
        var offset: UInt64
        var bytes: [UInt8]
    }

    enum Work: Equatable {
        /// No record names the file any more.
        case remove
        /// Ranges that were cut off and then passed by a later write: they are holes now.
        case zero([Range<UInt64>])
        /// Bytes within the committed length; `part` tells the records of one commit apart.
        case write(part: UInt64, [Piece])
    }

    /// How much a record of pieces holds before the next one begins: LMDB wants the pages of a
    /// value in a row.
    static let pieceBytesMax = 32 << 10

    var file: FileID
    var work: Work

    init(file: FileID, work: Work) {
        self.file = file
        self.work = work
    }

    /// What the keys of a file's records begin with: object id, then incarnation.
    static func prefix(_ file: FileID) -> [UInt8] {
        file.object.key + bigEndian(file.incarnation)
    }

    /// The prefix, and for `write` the part.
    var key: [UInt8] {
        if case .write(let part, _) = work { return Self.prefix(file) + bigEndian(part) }
        return Self.prefix(file)
    }

    /// Nothing for `remove`; lower and upper bound of each range for `zero`; offset, count and
    /// bytes of each piece for `write`.
    var value: [UInt8] {
        switch work {
        case .remove: return []
        case .zero(let ranges):
            return ranges.flatMap { bigEndian($0.lowerBound) + bigEndian($0.upperBound) }
        case .write(_, let pieces):
            var value: [UInt8] = []
            value.reserveCapacity(pieces.reduce(0) { $0 + 16 + $1.bytes.count })
            for piece in pieces {
                value += bigEndian(piece.offset) + bigEndian(UInt64(piece.bytes.count))
                value += piece.bytes
            }
            return value
        }
    }

    init?(key: [UInt8], value: [UInt8]) {
        guard key.count == 24 || key.count == 32, let object = ObjectID(key: Array(key[0..<16]))
        else { return nil }
        file = FileID(object: object, incarnation: bigEndian(key, at: 16))
        if key.count == 32 {
            guard let pieces = Self.pieces(value) else { return nil }
            work = .write(part: bigEndian(key, at: 24), pieces)
            return
        }
        guard value.count % 16 == 0 else { return nil }
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

    private static func pieces(_ value: [UInt8]) -> [Piece]? {
        var pieces: [Piece] = []
        var at = 0
        while at < value.count {
            guard value.count - at >= 16 else { return nil }
            let offset = bigEndian(value, at: at)
            let count = bigEndian(value, at: at + 8)
            at += 16
            guard count > 0, count <= UInt64(value.count - at),
                offset <= StoreLimits.objectOffsetMax - count
            else { return nil }
            pieces.append(Piece(offset: offset, bytes: Array(value[at..<(at + Int(count))])))
            at += Int(count)
        }
        return pieces
    }

    /// Does the work in memory, on bytes of the file from `offset` on.
    func paint(_ bytes: inout [UInt8], offset: UInt64) {
        let end = offset + UInt64(bytes.count)
        switch work {
        case .remove: break
        case .zero(let ranges):
            for range in ranges where range.lowerBound < end && range.upperBound > offset {
                let from = Int(max(range.lowerBound, offset) - offset)
                let until = Int(min(range.upperBound, end) - offset)
                bytes.replaceSubrange(from..<until, with: repeatElement(0, count: until - from))
            }
        case .write(_, let pieces):
            for piece in pieces {
                let pieceEnd = piece.offset + UInt64(piece.bytes.count)
                guard piece.offset < end, pieceEnd > offset else { continue }
                let from = max(piece.offset, offset)
                let until = min(pieceEnd, end)
                bytes.replaceSubrange(
                    Int(from - offset)..<Int(until - offset),
                    with: piece.bytes[Int(from - piece.offset)..<Int(until - piece.offset)])
            }
        }
    }
}

func bigEndian(_ value: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(56 - 8 * $0)) }
}

/// Traps outside the array: callers check the length of what they read.
func bigEndian(_ bytes: [UInt8], at offset: Int) -> UInt64 {
    bytes[offset..<(offset + 8)].reduce(0) { $0 << 8 | UInt64($1) }
}
