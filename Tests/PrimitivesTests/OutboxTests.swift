import Primitives
import Testing

@Suite struct OutboxTests {
    @Test(arguments: 0..<12 as Range<UInt64>)
    func `random appends and takes agree with an array`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var outbox = Outbox<Int>()
        var model: [Int] = []
        var next = 0
        for _ in 0..<300 {
            // Bursts long enough to pass the sizes at which the queue moves its elements down.
            if random.oneIn(2) {
                for _ in 0..<random.below(random.oneIn(6) ? 6_000 : 50) {
                    outbox.append(next)
                    model.append(next)
                    next += 1
                }
            } else {
                let count = min(model.count, random.below(random.oneIn(4) ? 6_000 : 80))
                for index in 0..<count {
                    guard outbox.popFirst() == model[index] else {
                        Issue.record("element \(index) is another")
                        return
                    }
                }
                model.removeFirst(count)
            }
            #expect(outbox.count == model.count)
            #expect(outbox.isEmpty == model.isEmpty)
            if random.oneIn(60) {
                outbox.removeAll()
                model.removeAll()
            }
        }
        for element in model { #expect(outbox.popFirst() == element) }
        #expect(outbox.popFirst() == nil)
    }

    @Test func `an element that was taken is let go at once`() {
        final class Thing {}
        var outbox = Outbox<Thing>()
        weak var watch: Thing?
        do {
            let thing = Thing()
            watch = thing
            outbox.append(thing)
            outbox.append(Thing())
        }
        #expect(watch != nil)
        _ = outbox.popFirst()
        #expect(watch == nil)
        #expect(outbox.count == 1)
    }

    @Test func `an optional element is told from the end of the queue`() {
        var outbox = Outbox<Int?>()
        outbox.append(nil)
        outbox.append(1)
        #expect(outbox.popFirst() == .some(nil))
        #expect(outbox.popFirst() == .some(1))
        #expect(outbox.popFirst() == .none)
    }
}
