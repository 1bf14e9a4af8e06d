internal import CLMDB
internal import Glibc
internal import StorageCore

/// One snapshot's view of objects: which file, how long, and what its bytes must be.
struct ObjectView {
    let reader: ReadTransaction
    let tables: StoreTables

    /// nil where the object has no bytes. A record that makes no sense is `CLMDB_CORRUPTED`.
    func record(_ id: ObjectID) throws(DatabaseError) -> FileRecord? {
        guard let row = try reader.get(tables.files, id.key) else { return nil }
        guard let record = FileRecord(row) else { throw DatabaseError(code: CLMDB_CORRUPTED) }
        return record
    }

    /// The range of whole blocks around some bytes, as far as the object goes.
    static func blocks(around offset: UInt64, count: Int, length: UInt64) -> Range<UInt64> {
        let size = UInt64(BlockSums.blockByteCount)
        let lower = offset / size * size
        let (rounded, overflow) = (offset + UInt64(count)).addingReportingOverflow(size - 1)
        let upper = overflow ? length : min(rounded / size * size, length)
        return lower..<upper
    }

    /// Committed work on a file that is perhaps not done yet.
    func pending(_ file: FileID) throws(DatabaseError) -> [Cleanup] {
        let prefix = Cleanup.prefix(file)
        var found: [Cleanup] = []
        var isDamaged = false
        try reader.scan(tables.cleanup, from: prefix) { key, row in
            guard key.starts(with: prefix) else { return false }
            guard case .sound(let value) = row, let cleanup = Cleanup(key: key, value: value)
            else {
                isDamaged = true
                return false
            }
            found.append(cleanup)
            return true
        }
        if isDamaged { throw DatabaseError(code: CLMDB_BAD_SEAL) }
        return found
    }

    /// The offset of the first of these bytes' blocks that is not what was committed.
    func firstDamage(_ id: ObjectID, _ bytes: [UInt8], offset: UInt64) -> UInt64? {
        guard let sums = tables.sums else { return nil }
        var checker = SumsReader(id)
        return checker.firstDamage(bytes, offset: offset) { key throws(DatabaseError) in
            try reader.get(sums, key)
        }
    }
}

extension File {
    /// Bytes of a range, with zeros where the file has ended.
    func readPadded(_ range: Range<UInt64>) throws(FileError) -> [UInt8] {
        let count = Int(range.upperBound - range.lowerBound)
        var bytes = try read(offset: range.lowerBound, count: count)
        if bytes.count < count {
            bytes.append(contentsOf: repeatElement(0, count: count - bytes.count))
        }
        return bytes
    }
}
