/// A key of a table in `memcmp` order, with its first 16 bytes as two words.
///
/// Ids are 16 bytes long: most comparisons end within the two words, without touching the array.
@usableFromInline
struct TableKey: Comparable, Sendable {
    let high: UInt64
    let low: UInt64
    let bytes: [UInt8]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        high = Self.word(bytes, from: 0)
        low = Self.word(bytes, from: 8)
    }

    /// Big-endian, and zeros where the key is shorter.
    private static func word(_ bytes: [UInt8], from start: Int) -> UInt64 {
        var word: UInt64 = 0
        for index in start..<(start + 8) {
            word = word << 8 | (index < bytes.count ? UInt64(bytes[index]) : 0)
        }
        return word
    }

    @usableFromInline
    static func < (a: TableKey, b: TableKey) -> Bool {
        if a.high != b.high { return a.high < b.high }
        if a.low != b.low { return a.low < b.low }
        let shared = min(a.bytes.count, b.bytes.count)
        var index = 16
        while index < shared {
            if a.bytes[index] != b.bytes[index] { return a.bytes[index] < b.bytes[index] }
            index += 1
        }
        // Equal as far as both go (the words stand for missing bytes as zeros, which sorts a
        // shorter key no later): the shorter one is first.
        return a.bytes.count < b.bytes.count
    }

    @usableFromInline
    static func == (a: TableKey, b: TableKey) -> Bool {
        a.high == b.high && a.low == b.low && a.bytes.count == b.bytes.count
            && (a.bytes.count <= 16 || a.bytes == b.bytes)
    }
}
