/// A binary heap of deadlines. Equal deadlines come out in the order in which they went in.
///
/// There is no removal: a timer that is no longer wanted is recognised by its key when it fires
/// (keys are handles with a generation, or carry a sequence number). Insert and take cost O(log n).
public struct TimerQueue<Key: Sendable>: Sendable {
    private struct Entry {
        var deadline: Ticks
        var sequence: UInt64
        var key: Key
    }

    private var heap: [Entry] = []
    private var sequence: UInt64 = 0

    public init() {}

    public var isEmpty: Bool { heap.isEmpty }
    public var count: Int { heap.count }
    public var nextDeadline: Ticks? { heap.first?.deadline }

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
    public mutating func popDue(now: Ticks) -> Key? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2]
                where child < heap.count && precedes(child, least) {
                    least = child
                }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        return first.key
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        heap[a].deadline != heap[b].deadline
            ? heap[a].deadline < heap[b].deadline : heap[a].sequence < heap[b].sequence
    }
}
