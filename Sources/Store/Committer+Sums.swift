internal import StorageCore

/// Checksums of objects follow their bytes, in the transaction that names the bytes.
extension Committer {
    private static let blockByteCount = UInt64(BlockSums.blockByteCount)

    /// Sums of a new object.
    func putSums(
        _ id: ObjectID, _ extents: ExtentMap, length: UInt64,
        in transaction: borrowing WriteTransaction
    ) throws {
        var change = Change()
        change.extents = extents
        let nothing = FileRecord(incarnation: 0, length: 0)
        try changeSums(id, change, from: nothing, kept: 0, length: length, in: transaction)
    }

    /// Forgets all sums of an object.
    func dropSums(_ id: ObjectID, in transaction: borrowing WriteTransaction) throws {
        try dropRows(id, from: 0, in: transaction)
    }

    /// Sums after a change to an object: `kept` of its committed bytes stay, then the extents are
    /// laid over them, and `length` is its new length.
    func changeSums(
        _ id: ObjectID, _ change: Change, from old: FileRecord, kept: UInt64, length: UInt64,
        in transaction: borrowing WriteTransaction
    ) throws {
        guard let table = tables.sums else { return }
        var rows = SumsRows(id: id)
        if kept < old.length {
            // From here on the sums are of bytes that are gone.
            let first = (kept + Self.blockByteCount - 1) / Self.blockByteCount
            try rows.cut(from: first, table, transaction)
            try dropRows(
                id, from: first.dividedUp(by: UInt64(BlockSums.blocksPerRow)), in: transaction)
        }
        let file = FileID(object: id, incarnation: old.incarnation)
        for block in affected(change.extents, old: old, kept: kept, length: length) {
            let start = block * Self.blockByteCount
            let count = Int(min(Self.blockByteCount, length - start))
            var bytes = [UInt8](repeating: 0, count: count)
            let isCovered = change.extents.holes(in: start..<(start + UInt64(count))).isEmpty
            if !isCovered, start < kept {
                // What stays must be what was committed, or its new sum would vouch for damage.
                let oldEnd = min(start + Self.blockByteCount, old.length)
                let wanted = try rows.sum(ofBlock: block, table, transaction)
                let found = try fileCall(layout.path(file)) { () throws(FileError) in
                    try files.openOrMake(file).readPadded(start..<oldEnd)
                }
                guard BlockSums.sum(found, 0..<found.count) == wanted else {
                    try rows.set(block, BlockSums.damaged, table, transaction)
                    continue
                }
                let keptCount = Int(min(kept, start + UInt64(count)) - start)
                bytes.replaceSubrange(0..<keptCount, with: found[..<keptCount])
            }
            change.extents.paint(&bytes, offset: start)
            try rows.set(block, BlockSums.sum(bytes, 0..<count), table, transaction)
        }
        try rows.write(table, transaction)
    }

    /// Blocks whose bytes or extent change, ascending.
    private func affected(
        _ extents: ExtentMap, old: FileRecord, kept: UInt64, length: UInt64
    ) -> [UInt64] {
        var blocks: [UInt64] = []
        // The last one kept, where it now ends elsewhere, or goes on with something else.
        let boundary = kept / Self.blockByteCount
        let isCut = kept % Self.blockByteCount != 0 && (kept != old.length || length != kept)
        var isBoundaryDue = isCut && kept > 0
        for extent in extents.extents {
            let first = extent.offset / Self.blockByteCount
            let last = (extent.end - 1) / Self.blockByteCount
            if isBoundaryDue, boundary < first {
                if blocks.last != boundary { blocks.append(boundary) }
                isBoundaryDue = false
            }
            for block in first...last where blocks.last != block {
                blocks.append(block)
                if block == boundary { isBoundaryDue = false }
            }
        }
        if isBoundaryDue, blocks.last != boundary { blocks.append(boundary) }
        return blocks
    }

    private func dropRows(
        _ id: ObjectID, from row: UInt64, in transaction: borrowing WriteTransaction
    ) throws {
        guard let table = tables.sums else { return }
        var keys: [[UInt8]] = []
        try transaction.scan(table, from: BlockSums.key(id, rowIndex: row)) { key, _ in
            guard key.count == 24, key.starts(with: id.key) else { return false }
            keys.append(key)
            return true
        }
        for key in keys { try transaction.delete(table, key) }
    }
}

extension UInt64 {
    /// The quotient, rounded up.
    fileprivate func dividedUp(by divisor: UInt64) -> UInt64 {
        let (quotient, rest) = quotientAndRemainder(dividingBy: divisor)
        return rest == 0 ? quotient : quotient + 1
    }
}

/// Rows of sums on their way: the one in hand is written when another is asked for.
private struct SumsRows {
    let id: ObjectID
    private var rowIndex: UInt64?
    private var sums = BlockSums()
    private var isChanged = false
    private var wasThere = false
    /// The row could not be read: what it said of any block is lost.
    private var isDamaged = false

    init(id: ObjectID) { self.id = id }

    private mutating func load(
        _ index: UInt64, _ table: TableHandle, _ transaction: borrowing WriteTransaction
    ) throws {
        if rowIndex == index { return }
        try write(table, transaction)
        rowIndex = index
        isChanged = false
        isDamaged = false
        do throws(DatabaseError) {
            let row = try transaction.get(table, BlockSums.key(id, rowIndex: index))
            wasThere = row != nil
            let found = row.map { BlockSums(row: $0) } ?? BlockSums()
            isDamaged = found == nil
            sums = found ?? BlockSums()
        } catch {
            wasThere = true
            isDamaged = true
        }
        if isDamaged {
            // Every block of the row is in doubt until it is written anew.
            sums = BlockSums()
            for block in 0..<BlockSums.blocksPerRow { sums[block] = BlockSums.damaged }
        }
    }

    mutating func sum(
        ofBlock block: UInt64, _ table: TableHandle, _ transaction: borrowing WriteTransaction
    ) throws -> UInt32 {
        let (row, index) = block.quotientAndRemainder(dividingBy: UInt64(BlockSums.blocksPerRow))
        try load(row, table, transaction)
        return sums[Int(index)]
    }

    mutating func set(
        _ block: UInt64, _ sum: UInt32, _ table: TableHandle,
        _ transaction: borrowing WriteTransaction
    ) throws {
        let (row, index) = block.quotientAndRemainder(dividingBy: UInt64(BlockSums.blocksPerRow))
        try load(row, table, transaction)
        sums[Int(index)] = sum
        isChanged = true
    }

    /// Makes holes of the blocks from `block` on that stand in the same row.
    mutating func cut(
        from block: UInt64, _ table: TableHandle, _ transaction: borrowing WriteTransaction
    ) throws {
        let (row, index) = block.quotientAndRemainder(dividingBy: UInt64(BlockSums.blocksPerRow))
        guard index > 0 else { return }
        try load(row, table, transaction)
        for place in Int(index)..<BlockSums.blocksPerRow { sums[place] = BlockSums.hole }
        isChanged = true
    }

    mutating func write(
        _ table: TableHandle, _ transaction: borrowing WriteTransaction
    ) throws {
        guard let rowIndex, isChanged else { return }
        isChanged = false
        let key = BlockSums.key(id, rowIndex: rowIndex)
        if !sums.isEmpty {
            try transaction.put(table, key, sums.row)
        } else if wasThere {
            try transaction.delete(table, key)
        }
    }
}
