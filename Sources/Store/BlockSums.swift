internal import StorageCore

/// Checksums of an object's committed bytes, one for each block of 4 KiB.
///
/// They stand in table `store:sums`, 256 blocks (1 MiB of the object) to a row: 4 bytes each,
/// big-endian, without the holes at the row's end. A block's sum covers the block as far as the
/// object's length goes. Two values are no checksum: ``hole`` says that every byte is zero, and
/// ``damaged`` that the block was found damaged when a part of it was written anew, so that it goes
/// on being refused until all of it is.
struct BlockSums: Equatable {
    static let blockByteCount = 4096
    static let blocksPerRow = 256
    static let rowByteCount = UInt64(blockByteCount * blocksPerRow)

    static let hole: UInt32 = 0
    static let damaged: UInt32 = 1

    private(set) var sums: [UInt32]

    init() { sums = [] }

    /// nil for bytes that are no such row.
    init?(row: [UInt8]) {
        guard row.count % 4 == 0, row.count <= Self.blocksPerRow * 4 else { return nil }
        sums = stride(from: 0, to: row.count, by: 4).map { offset in
            row[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) }
        }
    }

    /// Of bytes that begin where a row does and end with it or with the object.
    init(of bytes: [UInt8]) {
        sums = []
        for start in stride(from: 0, to: bytes.count, by: Self.blockByteCount) {
            let end = min(start + Self.blockByteCount, bytes.count)
            self[start / Self.blockByteCount] = Self.sum(bytes, start..<end)
        }
    }

    var row: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(sums.count * 4)
        for sum in sums {
            for shift in stride(from: 24, through: 0, by: -8) {
                bytes.append(UInt8(truncatingIfNeeded: sum >> UInt32(shift)))
            }
        }
        return bytes
    }

    var isEmpty: Bool { sums.isEmpty }

    /// The sum of the block at an index within the row.
    subscript(index: Int) -> UInt32 {
        get { index < sums.count ? sums[index] : Self.hole }
        set {
            precondition(index >= 0 && index < Self.blocksPerRow, "a block of this row")
            if index >= sums.count {
                if newValue == Self.hole { return }
                sums.append(
                    contentsOf: repeatElement(Self.hole, count: index + 1 - sums.count))
            }
            sums[index] = newValue
            while sums.last == Self.hole { sums.removeLast() }
        }
    }

    /// The key of the row that holds a block of an object.
    static func key(_ id: ObjectID, rowIndex: UInt64) -> [UInt8] { id.key + bigEndian(rowIndex) }

    /// Of a block's bytes.
    static func sum(_ bytes: [UInt8], _ range: Range<Int>) -> UInt32 {
        if Checksum.isZero(bytes, range) { return hole }
        let sum = Checksum.crc32c(bytes, range)
        // The two values that mean something else; any other pair would do.
        return sum > damaged ? sum : ~sum
    }
}

/// How sums are read: a row of table `store:sums` in some snapshot.
typealias SumsSource = (_ key: [UInt8]) throws(DatabaseError) -> [UInt8]?

/// One object's sums, a row at a time.
struct SumsReader {
    private let id: ObjectID
    private var rowIndex: UInt64?
    private var rowSums = BlockSums()
    private var isRowDamaged = false

    init(_ id: ObjectID) { self.id = id }

    /// The sum of a block of the object; `damaged` where the row that has it cannot be read.
    mutating func sum(ofBlock block: UInt64, _ read: SumsSource) -> UInt32 {
        let (row, index) = block.quotientAndRemainder(dividingBy: UInt64(BlockSums.blocksPerRow))
        if rowIndex != row {
            rowIndex = row
            rowSums = BlockSums()
            do throws(DatabaseError) {
                let bytes = try read(BlockSums.key(id, rowIndex: row))
                let found = bytes.map { BlockSums(row: $0) } ?? BlockSums()
                isRowDamaged = found == nil
                rowSums = found ?? BlockSums()
            } catch {
                isRowDamaged = true
            }
        }
        return isRowDamaged ? BlockSums.damaged : rowSums[Int(index)]
    }

    /// The offset of the first block whose bytes are not what was committed. `bytes` are the
    /// object's from `offset`, a multiple of the block size, up to the end of a block or of the
    /// object.
    mutating func firstDamage(
        _ bytes: [UInt8], offset: UInt64, _ read: SumsSource
    ) -> UInt64? {
        precondition(offset % UInt64(BlockSums.blockByteCount) == 0, "blocks are read whole")
        var block = offset / UInt64(BlockSums.blockByteCount)
        var start = 0
        while start < bytes.count {
            let end = min(start + BlockSums.blockByteCount, bytes.count)
            let wanted = sum(ofBlock: block, read)
            if wanted == BlockSums.damaged || BlockSums.sum(bytes, start..<end) != wanted {
                return block * UInt64(BlockSums.blockByteCount)
            }
            start = end
            block += 1
        }
        return nil
    }
}
