internal import WireFormat

/// A key whose hash is the same in every process.
protocol ChainedKey: Equatable {
    var chainHash: UInt64 { get }
}

extension UInt64: ChainedKey {
    /// SplitMix64's finalizer: handles differ in their low bits only.
    var chainHash: UInt64 {
        var z = self
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

extension FileID: ChainedKey {
    var chainHash: UInt64 {
        (sequence &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(version) << 32 ^ UInt64(objectNumber))
            .chainHash
    }
}

/// Elements found by key in constant time: hash chains over one array, freed places used again.
///
/// Indices are stable while an element is there, so that elements may point at one another.
struct ChainedTable<Key: ChainedKey, Element> {
    fileprivate struct Slot {
        var key: Key
        var element: Element
        /// In a bucket's chain, or in the list of free places; -1 at the end.
        var next: Int32
        var isFree: Bool
    }

    private var slots: [Slot] = []
    private var buckets: [Int32] = Array(repeating: -1, count: 16)
    private var firstFree: Int32 = -1
    private(set) var count = 0

    /// One more than the highest index in use.
    var slotCount: Int { slots.count }

    private func bucket(_ key: Key) -> Int {
        Int(truncatingIfNeeded: key.chainHash) & (buckets.count - 1)
    }

    func index(of key: Key) -> Int? {
        var index = buckets[bucket(key)]
        while index >= 0 {
            if slots[Int(index)].key == key { return Int(index) }
            index = slots[Int(index)].next
        }
        return nil
    }

    /// Nil where the place is free.
    func element(at index: Int) -> Element? {
        slots[index].isFree ? nil : slots[index].element
    }

    /// The element at an index that is in use.
    subscript(index: Int) -> Element {
        get {
            assert(!slots[index].isFree, "the place is in use")
            return slots[index].element
        }
        _modify {
            precondition(!slots[index].isFree, "the place is in use")
            yield &slots[index].element
        }
    }

    /// Adds an element whose key is not there yet.
    mutating func insert(_ key: Key, _ element: Element) -> Int {
        if count == buckets.count { grow() }
        let chain = bucket(key)
        let slot = Slot(key: key, element: element, next: buckets[chain], isFree: false)
        let index: Int
        if firstFree >= 0 {
            index = Int(firstFree)
            firstFree = slots[index].next
            slots[index] = slot
        } else {
            index = slots.count
            slots.append(slot)
        }
        buckets[chain] = Int32(index)
        count += 1
        return index
    }

    mutating func remove(at index: Int) {
        precondition(!slots[index].isFree, "the place is in use")
        let chain = bucket(slots[index].key)
        if buckets[chain] == Int32(index) {
            buckets[chain] = slots[index].next
        } else {
            var previous = Int(buckets[chain])
            while slots[previous].next != Int32(index) { previous = Int(slots[previous].next) }
            slots[previous].next = slots[index].next
        }
        slots[index].isFree = true
        slots[index].next = firstFree
        firstFree = Int32(index)
        count -= 1
    }

    private mutating func grow() {
        buckets = Array(repeating: -1, count: buckets.count * 2)
        for index in slots.indices where !slots[index].isFree {
            let chain = bucket(slots[index].key)
            slots[index].next = buckets[chain]
            buckets[chain] = Int32(index)
        }
    }
}

extension ChainedTable: Sendable where Key: Sendable, Element: Sendable {}
extension ChainedTable.Slot: Sendable where Key: Sendable, Element: Sendable {}
