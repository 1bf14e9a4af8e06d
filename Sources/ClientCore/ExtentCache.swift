import WireFormat

/// The bytes of one object that a client holds: runs that do not overlap, in ascending order.
///
/// A run is clean (the server has the same bytes), dirty (it has not), or being written back.
/// Newer bytes replace older ones in place, whatever their state. Insert costs O(runs touched)
/// plus the search, which is O(log runs).
struct ExtentCache {
    enum State {
        case clean
        case dirty
        /// On its way to the server: becomes clean when the answer says so.
        case writing
    }

    struct Run {
        var offset: UInt64
        var bytes: [UInt8]
        var state: State
        var end: UInt64 { offset + UInt64(bytes.count) }
    }

    private(set) var runs: [Run] = []
    private(set) var dirtyByteCount = 0
    private(set) var byteCount = 0

    var isWriting: Bool { runs.contains { $0.state == .writing } }
    var isClean: Bool { dirtyByteCount == 0 && !isWriting }

    /// A run grows by appends up to this; beyond, a new one begins, so that growth stays cheap.
    static let runByteCountMax = 1 << 20

    /// Index of the first run that ends after `offset`.
    private func firstIndex(endingAfter offset: UInt64) -> Int {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].end <= offset { low = middle + 1 } else { high = middle }
        }
        return low
    }

    mutating func insert(_ bytes: [UInt8], at offset: UInt64, dirty: Bool) {
        guard !bytes.isEmpty else { return }
        let end = offset + UInt64(bytes.count)
        var index = firstIndex(endingAfter: offset)
        if index == runs.count || runs[index].offset >= end, dirty, index > 0,
            runs[index - 1].end == offset, runs[index - 1].state == .dirty,
            runs[index - 1].bytes.count + bytes.count <= Self.runByteCountMax
        {
            runs[index - 1].bytes.append(contentsOf: bytes)
            dirtyByteCount += bytes.count
            byteCount += bytes.count
            return
        }
        if dirty {
            cut(from: offset, to: end)
            index = firstIndex(endingAfter: offset)
            runs.insert(Run(offset: offset, bytes: bytes, state: .dirty), at: index)
            dirtyByteCount += bytes.count
            byteCount += bytes.count
        } else {
            // Bytes from the server never replace what this client has: only the gaps are filled.
            var position = offset
            while position < end {
                if index < runs.count, runs[index].offset <= position {
                    position = max(position, min(runs[index].end, end))
                    index += 1
                    continue
                }
                let gapEnd = index < runs.count ? min(end, runs[index].offset) : end
                // What fits as it is is shared, not copied.
                let isWhole = position == offset && gapEnd == end
                let part =
                    isWhole ? bytes : Array(bytes[Int(position - offset)..<Int(gapEnd - offset)])
                runs.insert(Run(offset: position, bytes: part, state: .clean), at: index)
                byteCount += part.count
                index += 1
                position = gapEnd
            }
        }
    }

    /// Forgets the bytes of a range, keeping what lies before and behind it.
    mutating func cut(from offset: UInt64, to end: UInt64) {
        var index = firstIndex(endingAfter: offset)
        while index < runs.count, runs[index].offset < end {
            let run = runs[index]
            var replacement: [Run] = []
            if run.offset < offset {
                replacement.append(
                    Run(
                        offset: run.offset, bytes: Array(run.bytes[..<Int(offset - run.offset)]),
                        state: run.state))
            }
            if run.end > end {
                replacement.append(
                    Run(
                        offset: end, bytes: Array(run.bytes[Int(end - run.offset)...]),
                        state: run.state))
            }
            let kept = replacement.reduce(0) { $0 + $1.bytes.count }
            byteCount -= run.bytes.count - kept
            if run.state == .dirty { dirtyByteCount -= run.bytes.count - kept }
            runs.replaceSubrange(index...index, with: replacement)
            index += replacement.count
        }
    }

    mutating func cut(_ range: Extent) {
        cut(from: range.start, to: range.end == .max ? .max : range.end + 1)
    }

    /// Whether nothing in a range is dirty or being written back.
    func isClean(in range: Extent) -> Bool {
        if dirtyByteCount == 0, !isWriting { return true }
        var index = firstIndex(endingAfter: range.start)
        while index < runs.count, runs[index].offset <= range.end {
            if runs[index].state != .clean { return false }
            index += 1
        }
        return true
    }

    /// Whether all bytes of a range are here.
    func holds(offset: UInt64, byteCount: Int) -> Bool {
        let end = offset + UInt64(byteCount)
        var index = firstIndex(endingAfter: offset)
        var position = offset
        while position < end {
            guard index < runs.count, runs[index].offset <= position else { return false }
            position = runs[index].end
            index += 1
        }
        return true
    }

    /// The bytes of a range when all of it is here; nil otherwise.
    func read(offset: UInt64, byteCount: Int) -> [UInt8]? {
        guard byteCount > 0 else { return [] }
        let end = offset + UInt64(byteCount)
        var index = firstIndex(endingAfter: offset)
        if index < runs.count, runs[index].offset == offset, runs[index].end == end {
            return runs[index].bytes
        }
        guard holds(offset: offset, byteCount: byteCount) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        var position = offset
        while position < end {
            guard index < runs.count, runs[index].offset <= position else { return nil }
            let run = runs[index]
            let upTo = min(run.end, end)
            bytes.append(
                contentsOf: run.bytes[Int(position - run.offset)..<Int(upTo - run.offset)])
            position = upTo
            index += 1
        }
        return bytes
    }

    /// Copies what is here of a range over `target`, which begins at `offset`.
    func overlay(onto target: inout [UInt8], offset: UInt64) {
        let end = offset + UInt64(target.count)
        var index = firstIndex(endingAfter: offset)
        while index < runs.count, runs[index].offset < end {
            let run = runs[index]
            let from = max(run.offset, offset)
            let upTo = min(run.end, end)
            let source = Int(from - run.offset)..<Int(upTo - run.offset)
            let place = Int(from - offset)..<Int(upTo - offset)
            target.replaceSubrange(place, with: run.bytes[source])
            index += 1
        }
    }

    /// Marks the dirty runs as being written and gives them, joined where they touch, in pieces of
    /// at most `pieceMax` bytes.
    mutating func takeDirty(pieceMax: Int) -> [(offset: UInt64, bytes: [UInt8])] {
        var pieces: [(offset: UInt64, bytes: [UInt8])] = []
        for index in runs.indices where runs[index].state == .dirty {
            runs[index].state = .writing
            let run = runs[index]
            if let last = pieces.last, last.offset + UInt64(last.bytes.count) == run.offset,
                last.bytes.count + run.bytes.count <= pieceMax
            {
                pieces[pieces.count - 1].bytes.append(contentsOf: run.bytes)
            } else {
                var start = 0
                while start < run.bytes.count {
                    let length = min(pieceMax, run.bytes.count - start)
                    let part =
                        length == run.bytes.count
                        ? run.bytes : Array(run.bytes[start..<(start + length)])
                    pieces.append((run.offset + UInt64(start), part))
                    start += length
                }
            }
        }
        dirtyByteCount = 0
        return pieces
    }

    /// Everything that was being written has arrived.
    mutating func finishWriting() {
        for index in runs.indices where runs[index].state == .writing {
            runs[index].state = .clean
        }
    }

    /// What was being written and has no answer any more is dirty again.
    mutating func rewindWriting() {
        for index in runs.indices where runs[index].state == .writing {
            runs[index].state = .dirty
            dirtyByteCount += runs[index].bytes.count
        }
    }

    /// Forgets what was being written and did not arrive. Gives the number of bytes.
    mutating func dropWriting() -> Int {
        let before = byteCount
        runs.removeAll { $0.state == .writing }
        byteCount = runs.reduce(0) { $0 + $1.bytes.count }
        return before - byteCount
    }

    mutating func dropClean() {
        runs.removeAll { $0.state == .clean }
        byteCount = runs.reduce(0) { $0 + $1.bytes.count }
    }

    mutating func removeAll() {
        runs = []
        dirtyByteCount = 0
        byteCount = 0
    }
}
