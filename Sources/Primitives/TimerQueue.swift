/// A binary heap of deadlines. Equal deadlines come out in the order in which they went in.
///
/// There is no removal: a timer that is no longer wanted is recognised by its key when it fires
/// (keys are handles with a generation, or carry a sequence number). Insert and take cost O(log n).
public struct TimerQueue<Key: Sendable>: Sendable {
    @usableFromInline
    struct Entry: Sendable {
        @usableFromInline var deadline: Ticks
        @usableFromInline var sequence: UInt64
        @usableFromInline var key: Key

        @usableFromInline
        init(deadline: Ticks, sequence: UInt64, key: Key) {
            self.deadline = deadline
            self.sequence = sequence
            self.key = key
        }
    }

    @usableFromInline var heap: [Entry] = []
    @usableFromInline var sequence: UInt64 = 0

    @inlinable
    public init() {}

    @inlinable
    public var isEmpty: Bool { heap.isEmpty }
    @inlinable
    public var count: Int { heap.count }
    /// Bytes of the heap, with the room that is kept for more.
    public var heldBytes: Int { heap.capacity * MemoryLayout<Entry>.stride }
    @inlinable
    public var nextDeadline: Ticks? { heap.isEmpty ? nil : heap[0].deadline }

    @inlinable
    public mutating func insert(_ key: Key, at deadline: Ticks) {
        sequence += 1
        heap.append(Entry(deadline: deadline, sequence: sequence, key: key))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard precedes(child, parent) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    /// The key whose deadline is at or before `now` and earliest, taken out; nil when none is due.
    @inlinable
    public mutating func popDue(now: Ticks) -> Key? {
        guard !heap.isEmpty, heap[0].deadline <= now else { return nil }
        heap.swapAt(0, heap.count - 1)
        let first = heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            let left = 2 * parent + 1
            if left < heap.count, precedes(left, least) { least = left }
            if left + 1 < heap.count, precedes(left + 1, least) { least = left + 1 }
            if least == parent { break }
            heap.swapAt(parent, least)
            parent = least
        }
        return first.key
    }

    @inlinable
    func precedes(_ a: Int, _ b: Int) -> Bool {
        heap[a].deadline != heap[b].deadline
            ? heap[a].deadline < heap[b].deadline : heap[a].sequence < heap[b].sequence
    }
}
