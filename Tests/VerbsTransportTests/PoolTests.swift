import Primitives
import Testing

@testable import VerbsTransport

@Suite struct `Registered memory` {
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `reservations never overlap, and all memory comes back`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var pool = BulkPool(byteCount: 4 << 20)
        var held: [(SlotHandle, Range<Int>)] = []
        var isFull = 0
        for _ in 0..<3000 {
            if random.oneIn(2) || held.isEmpty {
                let size = 1 + random.below(random.oneIn(4) ? 1 << 20 : 20_000)
                guard let (handle, offset) = pool.reserve(size) else {
                    isFull += 1
                    #expect(pool.freeBytes < 4 << 20)
                    if !held.isEmpty { pool.release(held.removeFirst().0) }
                    continue
                }
                let range = offset..<(offset + size)
                #expect(range.upperBound <= 4 << 20 && offset % 4096 == 0)
                #expect(held.allSatisfy { !$0.1.overlaps(range) }, "seed \(seed)")
                #expect(pool.run(of: handle)?.lowerBound == offset)
                held.append((handle, range))
            } else {
                let (handle, _) = held.remove(at: random.below(held.count))
                let wasHeld = pool.release(handle)
                let isStale = !pool.release(handle)
                #expect(wasHeld && isStale, "a stale reservation is none")
                #expect(pool.run(of: handle) == nil)
            }
        }
        #expect(isFull > 0, "seed \(seed)")
        for (handle, _) in held { pool.release(handle) }
        #expect(pool.freeBytes == 4 << 20)
        // All of it has grown together again.
        let whole = (0..<4).compactMap { _ in pool.reserve(1 << 20)?.offset }
        let more = pool.reserve(1)
        #expect(whole.count == 4 && more == nil)
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `queue pairs are found by number, against a dictionary`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var index = PairIndex()
        var model: [UInt32: UInt64] = [:]
        for step in 1...20_000 {
            // Numbers that collide: few, and far apart by powers of two.
            let number = UInt32(random.below(300)) << UInt32(random.below(3) * 6)
            if random.oneIn(3) {
                index.remove(number)
                model[number] = nil
            } else {
                index.insert(number, SlotHandle(rawValue: UInt64(step)))
                model[number] = UInt64(step)
            }
            let asked = UInt32(random.below(300)) << UInt32(random.below(3) * 6)
            #expect(index.find(asked)?.rawValue == model[asked], "seed \(seed) step \(step)")
        }
    }
}
