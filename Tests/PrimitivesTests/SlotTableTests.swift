import Primitives
import Testing

@Suite struct SlotTableTests {
    /// Live elements by handle; every handle that was ever given and is dead beside it.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `random inserts, removals and changes agree with a naive model`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var table = SlotTable<Int>()
        var live: [(handle: SlotHandle, value: Int)] = []
        var dead: [SlotHandle] = []
        var countMax = 0
        for step in 0..<2_000 {
            switch random.below(5) {
            case 0, 1:
                let handle = table.insert(step)
                #expect(handle.rawValue != 0 && handle.generation & 1 == 1)
                #expect(!dead.contains(handle) && !live.contains { $0.handle == handle })
                live.append((handle, step))
            case 2 where !live.isEmpty:
                let place = random.below(live.count)
                let gone = live.remove(at: place)
                #expect(table.remove(gone.handle) == gone.value)
                dead.append(gone.handle)
            case 3 where !live.isEmpty:
                let place = random.below(live.count)
                live[place].value += 1
                let change: Void? = table.update(live[place].handle) { $0 += 1 }
                #expect(change != nil)
            default:
                if let stale = dead.last {
                    #expect(table.remove(stale) == nil)
                    let change: Void? = table.update(stale) { $0 = -1 }
                    #expect(change == nil)
                }
            }
            countMax = max(countMax, live.count)
        }
        #expect(table.count == live.count)
        #expect(table.slotCount == countMax, "freed places are used again")
        for entry in live { #expect(table[entry.handle] == entry.value) }
        for handle in dead { #expect(table[handle] == nil && !table.contains(handle)) }
        let inOrder = live.map(\.handle).sorted { $0.index < $1.index }
        #expect(table.handles == inOrder)
        for index in 0..<table.slotCount {
            #expect(table.handle(at: index) == inOrder.first { Int($0.index) == index })
        }
    }

    @Test func `a handle survives its raw value`() {
        let handle = SlotHandle(index: 0x1234_5678, generation: 0x9ABC_DEF1)
        #expect(handle.rawValue == 0x9ABC_DEF1_1234_5678)
        #expect(SlotHandle(rawValue: handle.rawValue) == handle)
    }

    @Test func `a handle that nobody gave finds nothing`() {
        var table = SlotTable<Int>()
        #expect(table[SlotHandle(rawValue: 0)] == nil)
        #expect(table[SlotHandle(rawValue: .max)] == nil)
        let handle = table.insert(1)
        #expect(table[SlotHandle(index: handle.index, generation: 0)] == nil)
        #expect(table[SlotHandle(index: handle.index, generation: 2)] == nil)
        #expect(table[SlotHandle(index: handle.index, generation: 3)] == nil)
        #expect(table[SlotHandle(index: handle.index + 1, generation: 1)] == nil)
        table.remove(handle)
        // Even generations are those of free places: a peer that names one finds nothing either.
        #expect(table[SlotHandle(index: handle.index, generation: 2)] == nil)
        #expect(table.remove(SlotHandle(index: handle.index, generation: 2)) == nil)
        #expect(table.handles.isEmpty)
    }

    @Test func `a removed element is let go at once`() {
        final class Thing {}
        var table = SlotTable<Thing>()
        var thing: Thing? = Thing()
        weak let watch = thing
        let handle = table.insert(thing!)
        thing = nil
        #expect(watch != nil)
        table.remove(handle)
        #expect(watch == nil)
    }
}
