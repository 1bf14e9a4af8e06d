import Primitives

/// Connections of one transport by user word, and by node and key.
struct Wiring<Connection: BitwiseCopyable> {
    /// A connection: whose it is, what its node calls it, and what its transport does.
    struct Link: BitwiseCopyable {
        var node: Int
        var key: UInt64
        var connection: Connection
        /// Output waits until there is room.
        var isBlocked = false
    }

    var links = SlotTable<Link>()
    /// Links whose output waits until there is room.
    private(set) var blockedCount = 0
    /// By node, by the key's index: a key is a slot handle, whose low half is a small number.
    private var places: [[SlotHandle?]]

    init(nodeCount: Int) { places = Array(repeating: [], count: nodeCount) }

    /// Keys of connections over RDMA have a bit of their own, which is the same in all of them.
    private static func place(_ key: UInt64) -> Int { Int(key & 0x7fff_ffff) }

    /// What came of an insertion.
    struct Insertion {
        /// The link; nil where the node has given its place away since, so that nobody wants it.
        var handle: SlotHandle?
        /// The connection that had the place. Its node has let go of it, though its order to close
        /// it is not carried out yet: close it now, for the order will not find it.
        var displaced: (handle: SlotHandle, connection: Connection)?
    }

    /// Notes a connection. A node uses a place again as soon as it has let go of a connection, and
    /// may hear of a new one before its orders are carried out: the younger key wins.
    mutating func insert(_ link: Link) -> Insertion {
        let index = Self.place(link.key)
        while places[link.node].count <= index { places[link.node].append(nil) }
        var displaced: (handle: SlotHandle, connection: Connection)?
        if let old = places[link.node][index], let other = links[old] {
            let age = Self.generation(link.key) &- Self.generation(other.key)
            guard age < 1 << 31 else { return Insertion(handle: nil, displaced: nil) }
            displaced = (old, other.connection)
            remove(old)
        }
        let handle = links.insert(link)
        places[link.node][index] = handle
        return Insertion(handle: handle, displaced: displaced)
    }

    private static func generation(_ key: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: key >> 32)
    }

    func find(_ node: Int, _ key: UInt64) -> SlotHandle? {
        let index = Self.place(key)
        guard index < places[node].count, let handle = places[node][index],
            let link = links[handle], link.key == key
        else { return nil }
        return handle
    }

    mutating func setBlocked(_ handle: SlotHandle, _ isBlocked: Bool) {
        let changed = links.update(handle) { link in
            defer { link.isBlocked = isBlocked }
            return link.isBlocked != isBlocked
        }
        if changed == true { blockedCount += isBlocked ? 1 : -1 }
    }

    mutating func remove(_ handle: SlotHandle) {
        guard let link = links.remove(handle) else { return }
        if link.isBlocked { blockedCount -= 1 }
        let index = Self.place(link.key)
        if places[link.node][index] == handle { places[link.node][index] = nil }
    }
}
