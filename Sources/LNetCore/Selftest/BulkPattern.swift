import WireFormat

/// What bulk of a selftest is filled with: one word, over and over (BRW_MAGIC).
enum BulkPattern {
    static let word: UInt64 = 0xeeb0_eeb1_eeb2_eeb3
    private static let page = 4096

    static func bytes(_ count: Int) -> [UInt8] {
        var writer = WireWriter(capacity: count + 8)
        while writer.count < count { writer.u64(word) }
        return Array(writer.bytes.prefix(count))
    }

    /// Whether bytes are as they should be: 1 looks at nothing, 2 at the first and last word of
    /// each page, 3 at all words.
    static func holds(_ bytes: RawSpan, check: UInt32) -> Bool {
        guard check > 1 else { return true }
        var start = 0
        while start < bytes.byteCount {
            let end = min(start + page, bytes.byteCount)
            if check == 2 {
                if end - start >= 8 {
                    let first: UInt64 = bytes.littleEndian(at: start)
                    let last: UInt64 = bytes.littleEndian(at: start + (end - start - 8) / 8 * 8)
                    guard first == word, last == word else { return false }
                }
            } else {
                for offset in stride(from: start, through: end - 8, by: 8) {
                    let found: UInt64 = bytes.littleEndian(at: offset)
                    guard found == word else { return false }
                }
            }
            start = end
        }
        return true
    }
}
