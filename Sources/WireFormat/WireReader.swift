/// A cursor over a peer's bytes: every read is checked, none traps.
///
/// Little-endian, as x86 Lustre nodes write. The reader borrows the bytes: it lives no longer than they do.
public struct WireReader: ~Escapable {
    @usableFromInline let bytes: RawSpan
    public private(set) var offset: Int

    @_lifetime(copy bytes)
    public init(_ bytes: RawSpan) {
        self.bytes = bytes
        offset = 0
    }

    public var remaining: Int { bytes.byteCount - offset }
    public var byteCount: Int { bytes.byteCount }

    public mutating func read<T: FixedWidthInteger & BitwiseCopyable>(
        _: T.Type = T.self
    ) throws(WireError) -> T {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw .truncated(need: offset + size, have: byteCount) }
        // SAFETY: the guard bounds the load inside `bytes`, which the caller keeps alive.
        let value = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self)
        offset += size
        return T(littleEndian: value)
    }

    public mutating func u8() throws(WireError) -> UInt8 { try read() }
    public mutating func u16() throws(WireError) -> UInt16 { try read() }
    public mutating func u32() throws(WireError) -> UInt32 { try read() }
    public mutating func u64() throws(WireError) -> UInt64 { try read() }

    public mutating func skip(_ count: Int) throws(WireError) {
        guard count >= 0, remaining >= count else {
            throw .truncated(need: offset + max(0, count), have: byteCount)
        }
        offset += count
    }

    /// Reads `count` bytes that a layout of ours reserves: anything but zero is refused.
    public mutating func reserved(_ count: Int) throws(WireError) {
        for _ in 0..<count {
            let byte = try u8()
            guard byte == 0 else { throw .reservedBitsSet(UInt64(byte)) }
        }
    }

    /// The next `count` bytes, copied out.
    public mutating func bytes(_ count: Int) throws(WireError) -> [UInt8] {
        guard count >= 0, remaining >= count else {
            throw .truncated(need: offset + max(0, count), have: byteCount)
        }
        let from = offset
        let copied = bytes.copy(from..<(from + count))
        offset += count
        return copied
    }

    /// The next `count` bytes as a view of their own.
    @_lifetime(copy self)
    public mutating func view(_ count: Int) throws(WireError) -> RawSpan {
        guard count >= 0, remaining >= count else {
            throw .truncated(need: offset + max(0, count), have: byteCount)
        }
        let part = bytes.extracting(offset..<(offset + count))
        offset += count
        return part
    }
}

extension RawSpan {
    /// A little-endian integer at a byte offset. The bound is checked: misuse traps, so callers
    /// that read a peer's bytes check the size first or use `WireReader`.
    public func littleEndian<T: FixedWidthInteger & BitwiseCopyable>(
        at offset: Int, as _: T.Type = T.self
    ) -> T {
        precondition(offset >= 0 && offset + MemoryLayout<T>.size <= byteCount)
        // SAFETY: the precondition bounds the load.
        return unsafe T(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: T.self))
    }

    /// A copy of a range of the bytes. Traps outside the bounds.
    public func copy(_ range: Range<Int>) -> [UInt8] {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount)
        if range.isEmpty { return [] }
        return unsafe withUnsafeBytes { raw in
            // SAFETY: the precondition bounds the range.
            unsafe [UInt8](raw[range])
        }
    }

    /// Calls `body` with a view over the bytes of an array.
    public static func over<R, E: Error>(
        _ array: [UInt8], _ body: (RawSpan) throws(E) -> R
    ) throws(E) -> R {
        let span = array.span
        // SAFETY: UInt8 has no padding; the span borrows `array` for the call.
        return try unsafe body(span.bytes)
    }
}
