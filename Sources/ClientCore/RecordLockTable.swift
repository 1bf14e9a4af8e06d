import LDLMCore
import Primitives
import WireFormat

/// A range that a process of this client has locked.
struct HeldRecord: Hashable {
    var file: FileID
    var owner: UInt64
    var process: UInt32
    var isExclusive: Bool
    var range: Extent
}

/// An enqueue of a record lock that was not granted yet.
struct RecordWait {
    var operation: SlotHandle
    /// What the server calls the client's lock by.
    var clientCookie: UInt64
    /// 0 until the server has said to wait.
    var serverCookie: UInt64 = 0
    var record: HeldRecord
}

/// What this client has locked with record locks, as the server has it too: needed to tell the next
/// instance, and to give up what a closed file had. In the order of locking; small by nature.
struct RecordLockTable {
    private(set) var held: [HeldRecord] = []
    var waits: [RecordWait] = []
    private var counter: UInt64 = 0
    /// Record locks that went with an eviction or a refused replay.
    var lostCount = 0

    /// Cookies that no lock of the cache can have: those are places with generations below 2^31.
    mutating func nextCookie() -> UInt64 {
        counter += 1
        return 1 << 63 | counter
    }

    /// A range is locked: it replaces what its owner had there, and joins what it touches.
    mutating func lock(_ record: HeldRecord) {
        unlock(record.file, owner: record.owner, range: record.range)
        var joined = record
        held.removeAll { other in
            guard other.file == record.file, other.owner == record.owner,
                other.isExclusive == record.isExclusive, Self.touches(other.range, record.range)
            else { return false }
            joined.range.start = min(joined.range.start, other.range.start)
            joined.range.end = max(joined.range.end, other.range.end)
            return true
        }
        held.append(joined)
    }

    private static func touches(_ a: Extent, _ b: Extent) -> Bool {
        (a.end != .max && a.end + 1 == b.start) || (b.end != .max && b.end + 1 == a.start)
    }

    /// Nothing of a range is locked by its owner any more.
    mutating func unlock(_ file: FileID, owner: UInt64, range: Extent) {
        var rest: [HeldRecord] = []
        for record in held {
            guard record.file == file, record.owner == owner, record.range.overlaps(range) else {
                rest.append(record)
                continue
            }
            if record.range.start < range.start {
                var left = record
                left.range.end = range.start - 1
                rest.append(left)
            }
            if record.range.end > range.end {
                var right = record
                right.range.start = range.end + 1
                rest.append(right)
            }
        }
        held = rest
    }

    /// What the server does not have any more.
    mutating func lose(_ record: HeldRecord) {
        unlock(record.file, owner: record.owner, range: record.range)
        lostCount += 1
    }

    /// What the owner of a record has locked of its range, cut to it, by start.
    func held(in record: HeldRecord) -> [HeldRecord] {
        held.filter {
            $0.file == record.file && $0.owner == record.owner && $0.range.overlaps(record.range)
        }.map {
            var part = $0
            part.range.start = max($0.range.start, record.range.start)
            part.range.end = min($0.range.end, record.range.end)
            return part
        }.sorted { $0.range.start < $1.range.start }
    }

    /// What the owner of a record neither has nor waits for of its range.
    func unclaimed(in record: HeldRecord) -> [Extent] {
        let awaited = waits.map(\.record).filter {
            $0.file == record.file && $0.owner == record.owner && $0.range.overlaps(record.range)
        }
        let claimed = (held(in: record) + awaited).map(\.range).sorted { $0.start < $1.start }
        var rest: [Extent] = []
        var from = record.range.start
        for range in claimed {
            if range.start > from { rest.append(Extent(start: from, end: range.start - 1)) }
            if range.end >= record.range.end { return rest }
            from = max(from, range.end + 1)
        }
        rest.append(Extent(start: from, end: record.range.end))
        return rest
    }

    mutating func removeAll() {
        lostCount += held.count
        held = []
        waits = []
    }

    /// Takes the wait of an operation out.
    mutating func takeWait(of operation: SlotHandle) -> RecordWait? {
        waits.firstIndex { $0.operation == operation }.map { waits.remove(at: $0) }
    }
}
