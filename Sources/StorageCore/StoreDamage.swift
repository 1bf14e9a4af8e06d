/// Something committed that the store does not give back as it was committed.
///
/// A store never answers with bytes that it cannot vouch for. A read that meets damage gives
/// nothing (a row reads as absent, object bytes as zeros) and leaves word of it, which whoever
/// runs the read collects with `CommittedStore.takeDamage()` before it believes the result: the
/// request that read is answered with an I/O error, and what it would have written is dropped.
public enum StoreDamage: Error, Equatable, Sendable {
    /// A row does not match its checksum.
    case row(Table, key: [UInt8])
    /// The table's pages make no sense: a row may be there and not be found.
    case table(Table, detail: String)
    /// The block of the object that holds `offset` does not match its checksum, or is not there.
    case object(ObjectID, offset: UInt64)
    /// The disk refused to read the object; `code` is a negative errno.
    case unreadable(ObjectID, offset: UInt64, code: Int32)
}

extension StoreDamage: CustomStringConvertible {
    /// One line that names the place.
    public var description: String {
        switch self {
        case .row(let table, let key):
            "the row \(Self.hex(key)) of table \(table) does not match its checksum"
        case .table(let table, let detail):
            "table \(table) cannot be searched (\(detail))"
        case .object(let id, let offset):
            "object \(id) does not match its checksum at byte \(offset)"
        case .unreadable(let id, let offset, let code):
            "object \(id) cannot be read at byte \(offset) (errno \(-code))"
        }
    }

    /// A key in hexadecimal, cut where nobody reads on.
    private static func hex(_ key: [UInt8]) -> String {
        let shown = key.prefix(48).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return "0x" + shown.joined() + (key.count > 48 ? "..." : "")
    }
}
