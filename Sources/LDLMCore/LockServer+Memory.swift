extension LockServer {
    /// Bytes that the tables take for what is in them now, and with their spare places.
    ///
    /// The tables grow by an eighth, the hash buckets by doubling.
    public var memoryByteCount: (inUse: Int, reserved: Int) {
        let inUse =
            locks.count * MemoryLayout<LockRecord>.stride
            + resources.count * MemoryLayout<ResourceRecord>.stride
            + owners.count * MemoryLayout<OwnerRecord>.stride
            + roots.count * MemoryLayout<TreeRoots>.stride + trees.byteCount.inUse
            + byName.byteCount.inUse + byCookie.byteCount.inUse
        let reserved =
            locks.capacity * MemoryLayout<LockRecord>.stride
            + resources.capacity * MemoryLayout<ResourceRecord>.stride
            + owners.capacity * MemoryLayout<OwnerRecord>.stride
            + roots.capacity * MemoryLayout<TreeRoots>.stride + trees.byteCount.reserved
            + byName.byteCount.reserved + byCookie.byteCount.reserved
        return (inUse, reserved)
    }
}

extension IntervalTrees {
    var byteCount: (inUse: Int, reserved: Int) {
        let stride = MemoryLayout<Node>.stride
        return (nodes.count * stride, nodes.capacity * stride)
    }
}

extension ChainedIndex {
    var byteCount: (inUse: Int, reserved: Int) {
        (
            4 * (buckets.count + next.count + hashes.count),
            4 * (buckets.capacity + next.capacity + hashes.capacity)
        )
    }
}

extension Array {
    /// Makes room for one more, an eighth more at a time: a table of a million records may not
    /// take the memory of two million. Appending stays constant time on average.
    mutating func growByAnEighth() {
        if count == capacity { reserveCapacity(count + count / 8 + 16) }
    }
}
