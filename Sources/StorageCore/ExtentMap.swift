/// Written ranges of one object: sorted, never overlapping, each with the group that wrote it.
package struct ExtentMap: Sendable {
    package struct Extent: Sendable {
        package var offset: UInt64
        /// The part of `bytes` that still shows: later writes cut pieces off without a copy.
        package var start: Int
        package var count: Int
        package var bytes: [UInt8]
        package var group: UInt64

        package var end: UInt64 { offset + UInt64(count) }
    }

    package private(set) var extents: [Extent] = []

    package init() {}

    package var isEmpty: Bool { extents.isEmpty }
    /// The end of the last extent; 0 where there is none.
    package var end: UInt64 { extents.last?.end ?? 0 }

    /// The index of the first extent that ends behind `offset`.
    private func firstEnding(behind offset: UInt64) -> Int {
        var low = 0
        var high = extents.count
        while low < high {
            let middle = (low + high) / 2
            if extents[middle].end <= offset { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Lays bytes over whatever was there.
    package mutating func write(_ bytes: [UInt8], at offset: UInt64, group: UInt64) {
        let fresh = Extent(
            offset: offset, start: 0, count: bytes.count, bytes: bytes, group: group)
        if offset >= end {
            extents.append(fresh)
            return
        }
        let first = firstEnding(behind: offset)
        var last = first
        while last < extents.count, extents[last].offset < fresh.end { last += 1 }
        var pieces: [Extent] = []
        if first < last, extents[first].offset < offset {
            var left = extents[first]
            left.count = Int(offset - left.offset)
            pieces.append(left)
        }
        pieces.append(fresh)
        if first < last, extents[last - 1].end > fresh.end {
            var right = extents[last - 1]
            let cut = Int(fresh.end - right.offset)
            right.offset += UInt64(cut)
            right.start += cut
            right.count -= cut
            pieces.append(right)
        }
        extents.replaceSubrange(first..<last, with: pieces)
    }

    /// Forgets everything from `size` on.
    package mutating func truncate(to size: UInt64) {
        let first = firstEnding(behind: size)
        guard first < extents.count else { return }
        if extents[first].offset < size {
            extents[first].count = Int(size - extents[first].offset)
            extents.removeSubrange((first + 1)...)
        } else {
            extents.removeSubrange(first...)
        }
    }

    /// Forgets what groups up to and with `group` wrote.
    package mutating func drop(through group: UInt64) { extents.removeAll { $0.group <= group } }

    /// The parts of `range` that no extent covers, ascending.
    package func holes(in range: Range<UInt64>) -> [Range<UInt64>] {
        var holes: [Range<UInt64>] = []
        var from = range.lowerBound
        var index = firstEnding(behind: from)
        while from < range.upperBound {
            guard index < extents.count, extents[index].offset < range.upperBound else {
                holes.append(from..<range.upperBound)
                break
            }
            if extents[index].offset > from { holes.append(from..<extents[index].offset) }
            from = max(from, extents[index].end)
            index += 1
        }
        return holes
    }

    /// Copies what shows of `offset ..< offset + buffer.count` into `buffer`.
    package func paint(_ buffer: inout [UInt8], offset: UInt64) {
        let (sum, overflow) = offset.addingReportingOverflow(UInt64(buffer.count))
        let end = overflow ? .max : sum
        var index = firstEnding(behind: offset)
        while index < extents.count, extents[index].offset < end {
            let extent = extents[index]
            let from = max(offset, extent.offset)
            let until = min(end, extent.end)
            let source = extent.start + Int(from - extent.offset)
            let target = Int(from - offset)
            let count = Int(until - from)
            buffer.replaceSubrange(
                target..<(target + count), with: extent.bytes[source..<(source + count)])
            index += 1
        }
    }
}
