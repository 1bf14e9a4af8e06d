internal import WireFormat

/// A hash index over the places of an array: chains of indices, no element of its own.
///
/// The caller compares the elements along a chain; hashes are kept, so growing needs no element.
/// 12 bytes per place and a bucket of 4 bytes per one to two places.
struct ChainedIndex: Sendable {
    private(set) var buckets: [Int32] = []
    private(set) var next: [Int32] = []
    private(set) var hashes: [UInt32] = []
    private(set) var count = 0

    /// The first place on the chain of `hash`, or -1.
    func first(_ hash: UInt32) -> Int32 {
        buckets.isEmpty ? -1 : skip(buckets[Int(hash) & (buckets.count - 1)], hash)
    }

    /// The place after `place` on its chain, or -1.
    func after(_ place: Int32) -> Int32 {
        skip(next[Int(place)], hashes[Int(place)])
    }

    private func skip(_ start: Int32, _ hash: UInt32) -> Int32 {
        var place = start
        while place >= 0, hashes[Int(place)] != hash { place = next[Int(place)] }
        return place
    }

    mutating func insert(_ place: Int32, hash: UInt32) {
        if count >= buckets.count { grow() }
        while next.count <= Int(place) {
            next.growByAnEighth()
            next.append(-1)
            hashes.growByAnEighth()
            hashes.append(0)
        }
        let bucket = Int(hash) & (buckets.count - 1)
        next[Int(place)] = buckets[bucket]
        hashes[Int(place)] = hash
        buckets[bucket] = place
        count += 1
    }

    mutating func remove(_ place: Int32) {
        let bucket = Int(hashes[Int(place)]) & (buckets.count - 1)
        var at = buckets[bucket]
        if at == place {
            buckets[bucket] = next[Int(place)]
        } else {
            while next[Int(at)] != place {
                at = next[Int(at)]
                precondition(at >= 0, "removed from an index what is not in it")
            }
            next[Int(at)] = next[Int(place)]
        }
        next[Int(place)] = -1
        count -= 1
    }

    private mutating func grow() {
        let old = buckets
        buckets = [Int32](repeating: -1, count: max(16, old.count * 2))
        let mask = buckets.count - 1
        for head in old {
            var place = head
            while place >= 0 {
                let following = next[Int(place)]
                let bucket = Int(hashes[Int(place)]) & mask
                next[Int(place)] = buckets[bucket]
                buckets[bucket] = place
                place = following
            }
        }
    }
}

/// Mixes words into a hash that is equal in every process.
///
/// A multiply and a rotation per word and a strong finish: names differ in few low bits. Peers
/// choose the words, so chains can be made long; they stay bounded by that peer's lock count.
struct WordHash {
    private var state: UInt64 = 0x9E37_79B9_7F4A_7C15

    mutating func combine(_ word: UInt64) {
        state = (state ^ word) &* 0xBF58_476D_1CE4_E5B9
        state = state << 27 | state >> 37
    }

    var value: UInt32 {
        var z = state
        z = (z ^ (z >> 30)) &* 0x94D0_49BB_1331_11EB
        return UInt32(truncatingIfNeeded: z ^ (z >> 31))
    }
}

extension ResourceID {
    /// Where a `ChainedIndex` keeps what has this name.
    var chainHash: UInt32 {
        var hash = WordHash()
        hash.combine(name0)
        hash.combine(name1)
        hash.combine(name2)
        hash.combine(name3)
        return hash.value
    }
}
