public import WireFormat

/// What a connection has to send: one open run of bytes for small messages, and sealed segments
/// before it where a large payload is passed on without a copy.
///
/// Once everything was taken it holds no memory: the open run is given back by `reclaim`.
public struct SockLNDOutput: Sendable {
    private struct Segment {
        var bytes: [UInt8]
        var lower: Int
        var upper: Int
        /// Messages that are complete once this segment was taken.
        var messages: Int
    }

    /// A payload at least this long is passed on as a segment of its own.
    public static let segmentMin = 16 * 1024
    /// The open run is sealed beyond this length, so that a slow reader costs no copying.
    static let openMax = 128 * 1024

    /// Messages have NIDs of 20 bytes: protocol 4.
    var hasLargeHeaders = false
    /// Bytes in front of a payload.
    var frameSize: Int {
        SockLNDMessageHeader.encodedSize
            + (hasLargeHeaders ? LNetHeader.largeEncodedSize : LNetHeader.encodedSize)
    }

    private var sealed: [Segment] = []
    private var sealedHead = 0
    private var open: [UInt8] = []
    private var openMessages = 0
    /// Bytes of the first run that were taken.
    private var taken = 0
    /// Bytes that wait.
    public private(set) var byteCount = 0
    /// Messages appended whose last byte was not taken yet.
    public private(set) var messageCount = 0

    public init() {}

    public var isEmpty: Bool { byteCount == 0 }
    /// True when the next append would have to allocate: lend a spare buffer first.
    public var wantsBuffer: Bool { open.capacity == 0 }

    /// Exchanges the empty open run for a buffer from a pool.
    public mutating func lend(_ buffer: inout [UInt8]) {
        precondition(open.isEmpty, "only an empty run is exchanged")
        swap(&open, &buffer)
    }

    /// The open run's memory once everything was taken; empty and without memory otherwise.
    public mutating func reclaim() -> [UInt8] {
        guard isEmpty else { return [] }
        var buffer: [UInt8] = []
        swap(&open, &buffer)
        sealed = []
        return buffer
    }

    /// Bytes that are no LNet message: acceptor request, hello, NOOP.
    public mutating func append(_ bytes: [UInt8]) {
        open.append(contentsOf: bytes)
        byteCount += bytes.count
    }

    /// A message: 24 bytes of framing and the LNet header (72 bytes, or 96 with large NIDs), then the
    /// payload, copied.
    public mutating func append(header: LNetHeader, payload: RawSpan) {
        appendFrame(header)
        unsafe payload.withUnsafeBytes { raw in
            // SAFETY: `raw` views `payload` for the call.
            unsafe open.append(contentsOf: raw)
        }
        byteCount += payload.byteCount
        messageCount += 1
        openMessages += 1
        if open.count > Self.openMax { seal() }
    }

    /// A message whose payload is part of an array, which is shared instead of copied if long.
    public mutating func append(header: LNetHeader, payload: [UInt8], range: Range<Int>) {
        appendFrame(header)
        byteCount += range.count
        messageCount += 1
        if range.count < Self.segmentMin {
            open.append(contentsOf: payload[range])
            openMessages += 1
        } else {
            seal()
            sealed.append(
                Segment(
                    bytes: payload, lower: range.lowerBound, upper: range.upperBound, messages: 1))
        }
    }

    private mutating func appendFrame(_ header: LNetHeader) {
        byteCount += frameSize
        if hasLargeHeaders {
            let body = header.largeWords
            var words = InlineArray<15, UInt64>(repeating: 0)
            words[0] = UInt64(SockLNDMessageHeader.Kind.lnet.rawValue)
            for index in 0..<12 { words[index + 3] = body[index].littleEndian }
            let span = words.span
            // SAFETY: words have no padding, and the bytes are copied while the local lives.
            unsafe span.bytes.withUnsafeBytes { raw in
                unsafe open.append(contentsOf: raw)
            }
            return
        }
        let body = header.words
        var words = InlineArray<12, UInt64>(repeating: 0)
        words[0] = UInt64(SockLNDMessageHeader.Kind.lnet.rawValue)
        for index in 0..<9 { words[index + 3] = body[index].littleEndian }
        let span = words.span
        // SAFETY: words have no padding, and the bytes are copied while the local lives.
        unsafe span.bytes.withUnsafeBytes { raw in
            unsafe open.append(contentsOf: raw)
        }
    }

    private mutating func seal() {
        guard !open.isEmpty else { return }
        sealed.append(
            Segment(bytes: open, lower: 0, upper: open.count, messages: openMessages))
        open = []
        openMessages = 0
    }

    /// Offers the first run of waiting bytes; `body` says how many it took. Returns how many
    /// messages are complete by that, and whether the whole run was taken.
    public mutating func offer(
        _ body: (RawSpan) -> Int
    ) -> (messages: Int, tookAll: Bool) {
        guard byteCount > 0 else { return (0, true) }
        if sealedHead < sealed.count {
            let lower = sealed[sealedHead].lower + taken
            let upper = sealed[sealedHead].upper
            let count = Self.offer(sealed[sealedHead].bytes, lower..<upper, body)
            byteCount -= count
            guard count == upper - lower else {
                taken += count
                return (0, false)
            }
            taken = 0
            let messages = sealed[sealedHead].messages
            messageCount -= messages
            sealed[sealedHead].bytes = []
            sealedHead += 1
            if sealedHead == sealed.count {
                sealed.removeAll(keepingCapacity: true)
                sealedHead = 0
            }
            return (messages, true)
        }
        let offered = open.count - taken
        let count = Self.offer(open, taken..<open.count, body)
        byteCount -= count
        guard count == offered else {
            taken += count
            return (0, false)
        }
        taken = 0
        let messages = openMessages
        openMessages = 0
        messageCount -= messages
        open.removeAll(keepingCapacity: true)
        return (messages, true)
    }

    /// The messages whose last byte was not taken, in order: for another connection to carry.
    ///
    /// Runs begin with a frame, or are the payload of the frame before; a run that was taken in part
    /// still has all its bytes. What is no message (hello, NOOP) is passed over.
    public func unsent() -> [(header: LNetHeader, payload: [UInt8])] {
        var messages: [(header: LNetHeader, payload: [UInt8])] = []
        var isFirst = true
        for index in sealedHead..<sealed.count {
            let run = sealed[index]
            collect(run.bytes, run.lower..<run.upper, taken: isFirst ? taken : 0, &messages)
            isFirst = false
        }
        collect(open, 0..<open.count, taken: isFirst ? taken : 0, &messages)
        return messages.filter { $0.payload.count == Int($0.header.payloadLength) }
    }

    private func collect(
        _ bytes: [UInt8], _ range: Range<Int>, taken: Int,
        _ messages: inout [(header: LNetHeader, payload: [UInt8])]
    ) {
        if let last = messages.last, last.payload.count < Int(last.header.payloadLength) {
            messages[messages.count - 1].payload += bytes[range]
            return
        }
        var offset = range.lowerBound
        let end = range.upperBound
        let span = bytes.span
        // SAFETY: UInt8 has no padding; the span borrows the array.
        let raw = unsafe span.bytes
        while end - offset >= 24 {
            let word: UInt32 = raw.littleEndian(at: offset)
            if word == SockLNDHello.magic {
                let version: UInt32 = raw.littleEndian(at: offset + 4)
                offset +=
                    version == SockLNDHello.largeVersion
                    ? SockLNDHello.largeEncodedSize : SockLNDHello.encodedSize
                continue
            }
            guard
                let framing = try? SockLNDMessageHeader(
                    parsing: raw.extracting(offset..<(offset + 24)))
            else { return }
            offset += 24
            guard framing.kind == .lnet else { continue }
            let size = frameSize - SockLNDMessageHeader.encodedSize
            guard end - offset >= size,
                let header = try? hasLargeHeaders
                    ? LNetHeader(parsingLarge: raw.extracting(offset..<(offset + size)))
                    : LNetHeader(parsing: raw.extracting(offset..<(offset + size)))
            else { return }
            offset += size
            let length = min(Int(header.payloadLength), end - offset)
            let payload = Array(bytes[offset..<(offset + length)])
            offset += length
            // One that was taken to its end is the peer's.
            let isWhole = length == Int(header.payloadLength)
            guard !isWhole || offset - range.lowerBound > taken else { continue }
            messages.append((header, payload))
        }
    }

    private static func offer(
        _ bytes: [UInt8], _ range: Range<Int>, _ body: (RawSpan) -> Int
    ) -> Int {
        let span = bytes.span
        // SAFETY: UInt8 has no padding; the span borrows the array for the call.
        let count = unsafe body(span.bytes.extracting(range))
        precondition(count >= 0 && count <= range.count, "took more than was offered")
        return count
    }
}
