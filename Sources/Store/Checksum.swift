internal import CLMDB

/// CRC-32C as the processor computes it (RFC 3720, appendix B.4).
enum Checksum {
    /// Of `bytes[range]`, continued from `before`.
    static func crc32c(_ bytes: [UInt8], _ range: Range<Int>, after before: UInt32 = 0) -> UInt32 {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
        return unsafe bytes.withUnsafeBytes { buffer in
            // SAFETY: the precondition bounds the range within the array.
            unsafe clmdb_crc32c(
                before, buffer.baseAddress.map { unsafe $0 + range.lowerBound }, range.count)
        }
    }

    static func crc32c(_ bytes: [UInt8], after before: UInt32 = 0) -> UInt32 {
        crc32c(bytes, 0..<bytes.count, after: before)
    }

    static func isZero(_ bytes: [UInt8], _ range: Range<Int>) -> Bool {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
        if range.isEmpty { return true }
        return unsafe bytes.withUnsafeBytes { buffer in
            // SAFETY: the precondition bounds the range within the array, which is not empty.
            unsafe clmdb_is_zero(
                buffer.baseAddress.unsafelyUnwrapped + range.lowerBound, range.count) == 1
        }
    }
}
