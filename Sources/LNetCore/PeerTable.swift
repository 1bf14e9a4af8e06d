import Primitives
import WireFormat

/// All peers at stable places, and chains by NID for when only that is known.
struct PeerTable: Sendable {
    private var peers = SlotTable<Peer>()
    /// Raw handle of the first peer of each bucket; the count is a power of two.
    private var buckets: [UInt64] = []

    var count: Int { peers.count }
    var handles: [SlotHandle] { peers.handles }
    /// Bytes of the entries and the chains, with the room that is kept for more.
    var heldBytes: Int { peers.heldBytes + buckets.capacity * MemoryLayout<UInt64>.stride }

    subscript(_ handle: SlotHandle) -> Peer? { peers[handle] }

    func contains(_ handle: SlotHandle) -> Bool { peers.contains(handle) }

    @discardableResult
    mutating func update<R>(_ handle: SlotHandle, _ body: (inout Peer) -> R) -> R? {
        peers.update(handle, body)
    }

    private func bucket(_ nid: NID) -> Int {
        var mixer = SplitMix64(seed: nid.hashSeed)
        return Int(truncatingIfNeeded: mixer.next()) & (buckets.count - 1)
    }

    mutating func find(_ process: ProcessID, on interface: Int) -> SlotHandle? {
        guard !buckets.isEmpty else { return nil }
        var raw = buckets[bucket(process.nid)]
        while raw != 0 {
            let handle = SlotHandle(rawValue: raw)
            let found = peers.update(handle) { ($0.process, $0.interface, $0.next) }
            guard let found else { return nil }
            if found.0 == process, found.1 == interface { return handle }
            raw = found.2
        }
        return nil
    }

    mutating func insert(_ peer: Peer) -> SlotHandle {
        if peers.count >= buckets.count { grow() }
        let handle = peers.insert(peer)
        link(handle)
        return handle
    }

    private mutating func link(_ handle: SlotHandle) {
        guard let nid = peers.update(handle, { $0.process.nid }) else { return }
        let bucket = bucket(nid)
        let first = buckets[bucket]
        peers.update(handle) { $0.next = first }
        buckets[bucket] = handle.rawValue
    }

    private mutating func grow() {
        buckets = [UInt64](repeating: 0, count: max(4, buckets.count * 2))
        for handle in peers.handles { link(handle) }
    }

    mutating func remove(_ handle: SlotHandle) {
        guard let removed = peers.update(handle, { ($0.process.nid, $0.next) }) else { return }
        let bucket = bucket(removed.0)
        if buckets[bucket] == handle.rawValue {
            buckets[bucket] = removed.1
        } else {
            var raw = buckets[bucket]
            while raw != 0 {
                let handleBefore = SlotHandle(rawValue: raw)
                guard let next = peers.update(handleBefore, { $0.next }) else { break }
                if next == handle.rawValue {
                    peers.update(handleBefore) { $0.next = removed.1 }
                    break
                }
                raw = next
            }
        }
        peers.remove(handle)
    }
}
