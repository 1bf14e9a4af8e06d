/// A growing run of bytes in the order in which a peer reads them. Little-endian.
///
/// `removeAll` keeps the memory, so that a writer used again and again allocates no more.
public struct WireWriter: Sendable {
    public private(set) var bytes: [UInt8] = []

    public init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    public var count: Int { bytes.count }

    public mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    public mutating func write<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
        let littleEndian = value.littleEndian
        unsafe withUnsafeBytes(of: littleEndian) { raw in
            // SAFETY: `raw` views the local above for the call.
            unsafe bytes.append(contentsOf: raw)
        }
    }

    public mutating func u8(_ value: UInt8) { bytes.append(value) }
    public mutating func u16(_ value: UInt16) { write(value) }
    public mutating func u32(_ value: UInt32) { write(value) }
    public mutating func u64(_ value: UInt64) { write(value) }

    /// Words in their order, by one append: each by itself costs as much as the whole run.
    mutating func words<let count: Int>(_ words: InlineArray<count, UInt64>) {
        var words = words
        for index in words.indices { words[index] = words[index].littleEndian }
        let span = words.span
        // SAFETY: words have no padding, and the bytes are copied while the local lives.
        unsafe span.bytes.withUnsafeBytes { raw in
            unsafe bytes.append(contentsOf: raw)
        }
    }

    /// Two halves of a word, the first one first on the wire.
    static func pair(_ first: UInt32, _ second: UInt32) -> UInt64 {
        UInt64(second) << 32 | UInt64(first)
    }

    public mutating func zeros(_ count: Int) {
        bytes.append(contentsOf: repeatElement(0, count: count))
    }

    public mutating func append(_ other: [UInt8]) { bytes.append(contentsOf: other) }

    public mutating func append(_ other: RawSpan) {
        unsafe other.withUnsafeBytes { raw in
            // SAFETY: `raw` views `other` for the call.
            unsafe bytes.append(contentsOf: raw)
        }
    }

    /// Zeros up to the next multiple of `alignment` counted from `start`.
    public mutating func pad(to alignment: Int, from start: Int = 0) {
        let rest = (bytes.count - start) % alignment
        if rest != 0 { zeros(alignment - rest) }
    }

    /// Writes over an integer that stands already at `offset`. Traps outside what was written.
    public mutating func patch<T: FixedWidthInteger & BitwiseCopyable>(
        _ value: T, at offset: Int
    ) {
        precondition(offset >= 0 && offset + MemoryLayout<T>.size <= bytes.count)
        let littleEndian = value.littleEndian
        unsafe bytes.withUnsafeMutableBytes { raw in
            // SAFETY: the precondition bounds the store.
            unsafe raw.storeBytes(of: littleEndian, toByteOffset: offset, as: T.self)
        }
    }
}
