internal import WireFormat

/// Keys of the tables: all numbers big-endian, so that keys sort as what they name.
enum Keys {
    static let nextFile = Array("metadata.nextFile".utf8)
    static let poolPrefix = Array("metadata.pool.".utf8)

    static func append(_ value: some FixedWidthInteger & UnsignedInteger, to key: inout [UInt8]) {
        for shift in stride(from: value.bitWidth - 8, through: 0, by: -8) {
            key.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    /// Table `inodes`, table `orphans`, and the prefix of a directory in table `dirents`.
    static func file(_ file: FileID, reserving extra: Int = 0) -> [UInt8] {
        var key: [UInt8] = []
        key.reserveCapacity(16 + extra)
        append(file.sequence, to: &key)
        append(file.objectNumber, to: &key)
        append(file.version, to: &key)
        return key
    }

    /// Table `dirents`.
    static func entry(_ parent: FileID, _ name: FileName) -> [UInt8] {
        var key = file(parent, reserving: name.bytes.count)
        key.append(contentsOf: name.bytes)
        return key
    }

    /// The name at the end of a key of table `dirents`.
    static func name(in key: [UInt8]) -> FileName? {
        guard key.count > 16 else { return nil }
        return String(validating: key[16...], as: UTF8.self).flatMap { FileName($0) }
    }

    /// Reads what `file` wrote.
    static func file(in key: [UInt8]) -> FileID? {
        guard key.count == 16 else { return nil }
        let sequence = key[0..<8].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let number = key[8..<12].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        let version = key[12..<16].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        return FileID(sequence: sequence, objectNumber: number, version: version)
    }

    /// Table `meta`: the pool of one object target.
    static func pool(_ targetIndex: UInt32) -> [UInt8] {
        var key = poolPrefix
        append(targetIndex, to: &key)
        return key
    }

    /// The target of a key that `pool` wrote.
    static func poolTarget(in key: [UInt8]) -> UInt32? {
        guard key.count == poolPrefix.count + 4, key.starts(with: poolPrefix) else { return nil }
        return key[poolPrefix.count...].reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// The prefix of one target's rows in table `destroyLog`.
    static func destroyPrefix(_ targetIndex: UInt32) -> [UInt8] {
        var key: [UInt8] = []
        key.reserveCapacity(20)
        append(targetIndex, to: &key)
        return key
    }

    /// Table `destroyLog`.
    static func destroy(_ targetIndex: UInt32, _ object: ObjectName) -> [UInt8] {
        var key = destroyPrefix(targetIndex)
        append(object.sequence, to: &key)
        append(object.number, to: &key)
        return key
    }

    /// The object of a key that `destroy` wrote.
    static func destroyedObject(in key: [UInt8]) -> ObjectName? {
        guard key.count == 20 else { return nil }
        let sequence = key[4..<12].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let number = key[12..<20].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return ObjectName(sequence: sequence, number: number)
    }
}
