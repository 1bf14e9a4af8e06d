/// One component of a path: 1 to 255 bytes of UTF-8 without `/` and NUL, neither `.` nor `..`.
///
/// Names of up to 15 bytes live inside the value; longer ones share storage.
public struct FileName: Hashable, Sendable {
    public let text: String
    public static let byteCountMax = 255

    /// Nil where `text` is no legal name.
    public init?(_ text: String) {
        guard (1...Self.byteCountMax).contains(text.utf8.count), text != ".", text != "..",
            !text.utf8.contains(where: { $0 == 0x2F || $0 == 0 })
        else { return nil }
        self.text = text
    }

    public var bytes: String.UTF8View { text.utf8 }

    /// Names are bytes: two spellings of one letter in Unicode are two names, as in the store.
    public static func == (a: FileName, b: FileName) -> Bool {
        a.text.utf8.elementsEqual(b.text.utf8)
    }

    public func hash(into hasher: inout Hasher) {
        for byte in text.utf8 { hasher.combine(byte) }
        hasher.combine(0xFF as UInt8)
    }

    /// A 2-byte length, then the bytes.
    public func encode(into writer: inout WireWriter) {
        writer.u16(UInt16(text.utf8.count))
        for byte in text.utf8 { writer.u8(byte) }
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let text = try readText(from: &reader, limit: Self.byteCountMax, field: "name")
        guard let name = FileName(text) else {
            throw .badValue(field: "name", value: UInt64(text.utf8.count))
        }
        self = name
    }
}

extension FileName: CustomStringConvertible {
    public var description: String { text }
}

/// Reads a word that says yes or no; every other value is reserved.
func readFlag(from reader: inout WireReader) throws(WireError) -> Bool {
    let word = try reader.u32()
    guard word <= 1 else { throw .reservedBitsSet(UInt64(word)) }
    return word == 1
}

/// Reads a 2-byte length and as many bytes of UTF-8.
func readText(
    from reader: inout WireReader, limit: Int, field: String
) throws(WireError) -> String {
    let length = Int(try reader.u16())
    guard length <= limit else {
        throw .badLength(field: field, value: UInt64(length), limit: UInt64(limit))
    }
    let view = try reader.view(length)
    let text = unsafe view.withUnsafeBytes { raw in
        // SAFETY: `raw` views the peer's bytes for the call only.
        unsafe String(validating: raw, as: UTF8.self)
    }
    guard let text else { throw .badValue(field: field, value: UInt64(length)) }
    return text
}

func writeText(_ text: String, into writer: inout WireWriter) {
    writer.u16(UInt16(text.utf8.count))
    for byte in text.utf8 { writer.u8(byte) }
}

/// Reads a NUL-padded text of fixed size (`struct obd_uuid`); the last byte is NUL always.
func readFixedText(from reader: inout WireReader, size: Int) throws(WireError) -> String {
    let bytes = try reader.bytes(size)
    guard bytes.last == 0 else {
        throw .badLength(field: "uuid", value: UInt64(size), limit: UInt64(size - 1))
    }
    let text = String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
    guard let text else { throw .badValue(field: "uuid", value: UInt64(size)) }
    return text
}

/// Writes as many whole characters as fit, then NULs.
func writeFixedText(_ text: String, size: Int, into writer: inout WireWriter) {
    var left = size
    for scalar in text.unicodeScalars {
        let bytes = scalar.utf8
        guard bytes.count < left else { break }
        for byte in bytes { writer.u8(byte) }
        left -= bytes.count
    }
    writer.zeros(left)
}
