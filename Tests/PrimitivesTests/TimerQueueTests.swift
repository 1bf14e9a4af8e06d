import Primitives
import Testing

@Suite struct TimerQueueTests {
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `random timers fire as from a sorted list, equal ones in their order`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var queue = TimerQueue<Int>()
        /// Sorted by deadline; among equals by the order in which they came.
        var model: [(deadline: UInt64, key: Int)] = []
        var now: UInt64 = 0
        for key in 0..<2_000 {
            if random.oneIn(2) {
                let deadline = now + UInt64(random.below(12))
                queue.insert(key, at: Ticks(nanoseconds: deadline))
                let place = model.firstIndex { $0.deadline > deadline } ?? model.count
                model.insert((deadline, key), at: place)
            } else {
                now += UInt64(random.below(4))
                while let first = model.first, first.deadline <= now {
                    #expect(queue.popDue(now: Ticks(nanoseconds: now)) == first.key)
                    model.removeFirst()
                    if random.oneIn(5) { break }
                }
            }
            #expect(queue.count == model.count && queue.isEmpty == model.isEmpty)
            #expect(queue.nextDeadline?.nanoseconds == model.first?.deadline)
        }
        for entry in model { #expect(queue.popDue(now: .distantFuture) == entry.key) }
        #expect(queue.popDue(now: .distantFuture) == nil)
    }

    @Test func `a timer is due at its deadline, not before`() {
        var queue = TimerQueue<String>()
        queue.insert("a", at: Ticks(nanoseconds: 10))
        #expect(queue.popDue(now: Ticks(nanoseconds: 9)) == nil)
        #expect(queue.count == 1)
        #expect(queue.popDue(now: Ticks(nanoseconds: 10)) == "a")
        #expect(queue.nextDeadline == nil)
    }

    @Test func `a thousand equal deadlines come out first in, first out`() {
        var queue = TimerQueue<Int>()
        for key in 0..<1_000 { queue.insert(key, at: Ticks(nanoseconds: 5)) }
        for key in 0..<1_000 { #expect(queue.popDue(now: Ticks(nanoseconds: 5)) == key) }
    }
}
