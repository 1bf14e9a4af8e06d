internal import Glibc

/// Who holds a store, or held it last: what a host that does not see the other's `flock` goes by.
///
/// `holder` in the store's directory, little-endian, 256 bytes that are written at once; while the
/// store is held its holder writes them anew each second.
///
/// | offset | size | field |
/// |-------:|-----:|-------|
/// |      0 |    4 | magic 0x5A1C4F57 |
/// |      4 |    4 | format 1 |
/// |      8 |    8 | `term`: counts holders, never goes back |
/// |     16 |    8 | `beat`: counts the times that it was written in this term |
/// |     24 |    4 | `process` |
/// |     28 |    4 | 1: let go of |
/// |     32 |   64 | `host`: its byte count, then its bytes |
/// |     96 |   64 | `address`, the same way |
/// |    160 |   92 | zero |
/// |    252 |    4 | CRC-32C of what is before it |
public struct StoreHolder: Equatable, Sendable {
    public var term: UInt64
    public var beat: UInt64
    public var process: Int32
    /// At most 63 bytes.
    public var host: String
    /// The NID that it serves on, at most 63 bytes.
    public var address: String
    /// The store was closed, and nobody has taken it since.
    public var isReleased: Bool

    static let magic: UInt32 = 0x5A1C_4F57
    static let encodedSize = 256
    static let textSizeMax = 63

    init(
        term: UInt64, beat: UInt64, process: Int32, host: String, address: String,
        isReleased: Bool
    ) {
        self.term = term
        self.beat = beat
        self.process = process
        self.host = host
        self.address = address
        self.isReleased = isReleased
    }

    /// Nil where the bytes are none of a holder's, or were torn.
    init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.encodedSize else { return nil }
        func word(_ offset: Int) -> UInt32 {
            (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
        }
        func long(_ offset: Int) -> UInt64 {
            UInt64(word(offset)) | UInt64(word(offset + 4)) << 32
        }
        func text(_ offset: Int) -> String? {
            let count = Int(bytes[offset])
            guard count <= Self.textSizeMax else { return nil }
            return String(validating: bytes[offset + 1..<offset + 1 + count], as: UTF8.self)
        }
        guard word(0) == Self.magic, word(4) == 1, word(28) <= 1,
            word(252) == Checksum.crc32c(bytes, 0..<252), let host = text(32),
            let address = text(96)
        else { return nil }
        self.init(
            term: long(8), beat: long(16), process: Int32(bitPattern: word(24)), host: host,
            address: address, isReleased: word(28) == 1)
    }

    var encoded: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.encodedSize)
        func put(_ value: UInt64, _ count: Int, at offset: Int) {
            for place in 0..<count {
                bytes[offset + place] = UInt8(truncatingIfNeeded: value >> UInt64(8 * place))
            }
        }
        func put(_ text: String, at offset: Int) {
            let utf8 = Array(text.utf8)
            precondition(utf8.count <= Self.textSizeMax, "names of holders are short")
            bytes[offset] = UInt8(utf8.count)
            bytes.replaceSubrange(offset + 1..<offset + 1 + utf8.count, with: utf8)
        }
        put(UInt64(Self.magic), 4, at: 0)
        put(1, 4, at: 4)
        put(term, 8, at: 8)
        put(beat, 8, at: 16)
        put(UInt64(UInt32(bitPattern: process)), 4, at: 24)
        put(isReleased ? 1 : 0, 4, at: 28)
        put(host, at: 32)
        put(address, at: 96)
        put(UInt64(Checksum.crc32c(bytes, 0..<252)), 4, at: 252)
        return bytes
    }

    /// What the store in a directory says; nil where nobody ever held it, or the block is torn.
    ///
    /// Throws what the system refused.
    public static func read(directory: String) throws(StoreError) -> StoreHolder? {
        let path = path(directory)
        do throws(FileError) {
            guard try File.kind(of: path) != .absent else { return nil }
            let file = try File(path, O_RDONLY)
            defer { file.close() }
            return StoreHolder(try file.read(offset: 0, count: encodedSize))
        } catch {
            throw error.at(path)
        }
    }

    static func path(_ directory: String) -> String { directory + "/holder" }
}

extension StoreHolder: CustomStringConvertible {
    public var description: String {
        "process \(process) of host \(host)" + (address.isEmpty ? "" : " at \(address)")
    }
}
