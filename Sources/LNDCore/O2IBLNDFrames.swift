/// Encoded messages that wait for their turn, in order. Without memory while nothing waits, but
/// for a small buffer that saves an allocation per message.
struct O2IBLNDFrames: Sendable {
    struct Entry: Sendable, BitwiseCopyable {
        var byteCount: Int
        /// What the shell calls it when it tells of its completion.
        var work: UInt64 = 0
        var tells = false
        /// The transfer whose writes go out before it; 0 for none.
        var transfer: UInt64 = 0
        /// An LNet message that is gone once it is posted.
        var isMessage = false
    }

    private(set) var bytes: [UInt8] = []
    private var entries: [Entry] = []
    private var head = 0
    private var offset = 0

    var isEmpty: Bool { head == entries.count }
    var count: Int { entries.count - head }
    var first: Entry? { head < entries.count ? entries[head] : nil }
    var memory: Int { bytes.capacity }

    /// Places of the first message's bytes.
    var firstRange: Range<Int> {
        guard let first else { return 0..<0 }
        return offset..<(offset + first.byteCount)
    }

    mutating func append(_ entry: Entry, _ write: (inout [UInt8]) -> Void) {
        let start = bytes.count
        write(&bytes)
        var entry = entry
        entry.byteCount = bytes.count - start
        entries.append(entry)
    }

    /// Writes over a byte of the first message.
    mutating func patchFirst(_ value: UInt8, at place: Int) { bytes[offset + place] = value }

    mutating func removeFirst() {
        guard let first else { return }
        offset += first.byteCount
        head += 1
        guard head == entries.count else { return }
        entries.removeAll(keepingCapacity: entries.capacity <= 16)
        bytes.removeAll(keepingCapacity: bytes.capacity <= 512)
        head = 0
        offset = 0
    }

    /// Moves the first message to the end of another queue.
    mutating func moveFirst(to other: inout O2IBLNDFrames) {
        guard let first else { return }
        let range = firstRange
        let source = bytes
        other.append(first) { $0.append(contentsOf: source[range]) }
        removeFirst()
    }
}
