internal import Primitives

/// Queue pairs by the number in their completions: open addressing, without hashing seeds.
struct PairIndex {
    private struct Entry: BitwiseCopyable {
        var number: UInt32 = 0
        var isUsed = false
        var handle: UInt64 = 0
    }

    /// Two devices may number their pairs alike; a number has 24 bits.
    static func key(_ number: UInt32, _ device: Int) -> UInt32 {
        number & 0xff_ffff | UInt32(truncatingIfNeeded: device) << 24
    }

    private var entries = [Entry](repeating: Entry(), count: 64)
    private var count = 0

    private func home(_ number: UInt32) -> Int {
        // Devices count their pairs upwards, from a place of their own in the high bits.
        Int(truncatingIfNeeded: number ^ number >> 12) & (entries.count - 1)
    }

    func find(_ number: UInt32) -> SlotHandle? {
        var place = home(number)
        while entries[place].isUsed {
            if entries[place].number == number {
                return SlotHandle(rawValue: entries[place].handle)
            }
            place = (place + 1) & (entries.count - 1)
        }
        return nil
    }

    mutating func insert(_ number: UInt32, _ handle: SlotHandle) {
        if (count + 1) * 2 > entries.count {
            let old = entries
            entries = [Entry](repeating: Entry(), count: old.count * 2)
            count = 0
            for entry in old where entry.isUsed {
                insert(entry.number, SlotHandle(rawValue: entry.handle))
            }
        }
        remove(number)
        var place = home(number)
        while entries[place].isUsed { place = (place + 1) & (entries.count - 1) }
        entries[place] = Entry(number: number, isUsed: true, handle: handle.rawValue)
        count += 1
    }

    mutating func remove(_ number: UInt32) {
        var place = home(number)
        while entries[place].isUsed, entries[place].number != number {
            place = (place + 1) & (entries.count - 1)
        }
        guard entries[place].isUsed else { return }
        // Those behind that would no longer be found move up.
        var hole = place
        entries[hole].isUsed = false
        count -= 1
        var next = (hole + 1) & (entries.count - 1)
        while entries[next].isUsed {
            let distance = (next - home(entries[next].number)) & (entries.count - 1)
            if distance >= (next - hole) & (entries.count - 1) {
                entries[hole] = entries[next]
                entries[next].isUsed = false
                hole = next
            }
            next = (next + 1) & (entries.count - 1)
        }
    }
}
