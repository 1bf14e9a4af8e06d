import Primitives
import WireFormat

/// A match entry with its descriptor; trivial, so that matching moves no references.
struct MatchEntry: Sendable, BitwiseCopyable {
    var portal: UInt32
    var process: ProcessID
    var matchBits: UInt64
    var ignoreBits: UInt64
    var options: MemoryDescriptor.Options
    /// Operations left; negative for no end.
    var threshold: Int
    var unlinkWhenExhausted: Bool
    /// Bytes of the buffer, or the longest payload handed over with an event.
    var length: Int
    var localOffset = 0
    /// In the core's buffer table; nil for other memory.
    var buffer: SlotHandle?
    /// Registered memory; nil for other memory.
    var slot: BulkSlot?
    var cookie: UInt64
    /// False once it no longer matches; the slot lives on while a buffer is to be fetched.
    var isLinked = true
    /// Neighbours in its list, raw handles.
    var next: UInt64 = 0
    var previous: UInt64 = 0
}

/// What an operation on a match entry may do.
struct Match: Sendable, BitwiseCopyable {
    var entry: SlotHandle
    var cookie: UInt64
    var buffer: SlotHandle?
    var slot: BulkSlot?
    var offset: Int
    var mlength: Int
    var unlinked: Bool
    var sendsAck: Bool
}

/// Which entry takes an incoming PUT or GET: entries with ignore bits first, in the order of their
/// attachment, then those of exactly these match bits (lib-ptl.c).
struct MatchTable: Sendable {
    static let portalCount: UInt32 = 64

    private struct List: Sendable, BitwiseCopyable {
        var head: UInt64 = 0
        var tail: UInt64 = 0
    }

    enum Operation { case put, get }
    enum Outcome {
        case match(Match)
        case tooLong
        case none
    }

    private var entries = SlotTable<MatchEntry>()
    /// Per portal, made when the first entry with ignore bits is attached anywhere.
    private var wildcards: [List] = []
    /// Chains by portal and match bits; the count is a power of two.
    private var exact: [List] = []
    private var exactCount = 0
    private var lazyPortals: UInt64 = 0

    var count: Int { entries.count }

    func isLazy(_ portal: UInt32) -> Bool { lazyPortals >> UInt64(portal) & 1 == 1 }

    mutating func setLazy(_ portal: UInt32, _ isLazy: Bool) {
        let bit = UInt64(1) << UInt64(portal)
        lazyPortals = isLazy ? lazyPortals | bit : lazyPortals & ~bit
    }

    subscript(_ handle: SlotHandle) -> MatchEntry? { entries[handle] }

    mutating func attach(_ entry: MatchEntry) -> SlotHandle {
        let handle = entries.insert(entry)
        if entry.ignoreBits != 0 {
            if wildcards.isEmpty {
                wildcards = [List](repeating: List(), count: Int(Self.portalCount))
            }
            var list = wildcards[Int(entry.portal)]
            append(handle, to: &list)
            wildcards[Int(entry.portal)] = list
        } else {
            if exactCount >= exact.count { growExact() }
            exactCount += 1
            let chain = chain(entry.portal, entry.matchBits)
            var list = exact[chain]
            append(handle, to: &list)
            exact[chain] = list
        }
        return handle
    }

    /// Takes the entry out of its list; the slot stays.
    mutating func unlink(_ handle: SlotHandle) {
        guard let entry = entries[handle], entry.isLinked else { return }
        entries.update(handle) { $0.isLinked = false }
        if entry.ignoreBits != 0 {
            var list = wildcards[Int(entry.portal)]
            detach(entry, from: &list)
            wildcards[Int(entry.portal)] = list
        } else {
            exactCount -= 1
            let chain = chain(entry.portal, entry.matchBits)
            var list = exact[chain]
            detach(entry, from: &list)
            exact[chain] = list
        }
    }

    mutating func remove(_ handle: SlotHandle) {
        unlink(handle)
        entries.remove(handle)
    }

    /// Finds the entry for an operation and takes it: offset advances, threshold counts down.
    mutating func match(
        _ operation: Operation, portal: UInt32, matchBits: UInt64, from source: ProcessID,
        offset: UInt32, length: Int
    ) -> Outcome {
        guard portal < Self.portalCount else { return .none }
        if !wildcards.isEmpty {
            let outcome = search(
                wildcards[Int(portal)], operation, portal, matchBits, source, offset, length)
            if let outcome { return outcome }
        }
        guard !exact.isEmpty else { return .none }
        return search(
            exact[chain(portal, matchBits)], operation, portal, matchBits, source, offset, length)
            ?? .none
    }

    private mutating func search(
        _ list: List, _ operation: Operation, _ portal: UInt32, _ matchBits: UInt64,
        _ source: ProcessID, _ offset: UInt32, _ length: Int
    ) -> Outcome? {
        var raw = list.head
        while raw != 0 {
            let handle = SlotHandle(rawValue: raw)
            guard let entry = entries[handle] else { return nil }
            raw = entry.next
            let wanted: MemoryDescriptor.Options = operation == .put ? .put : .get
            guard entry.threshold != 0, entry.options.contains(wanted), entry.portal == portal,
                (entry.matchBits ^ matchBits) & ~entry.ignoreBits == 0,
                entry.process.covers(source)
            else { continue }
            return take(handle, entry, offset, length)
        }
        return nil
    }

    private mutating func take(
        _ handle: SlotHandle, _ entry: MatchEntry, _ offset: UInt32, _ length: Int
    ) -> Outcome {
        let start: Int
        let available: Int
        if entry.buffer == nil, entry.slot == nil {
            start = Int(offset)
            available = entry.length
        } else {
            // A peer may name an offset behind the end: nothing is available there.
            let wanted =
                entry.options.contains(.manageRemote) ? Int(offset) : entry.localOffset
            start = min(wanted, entry.length)
            available = entry.length - start
        }
        guard length <= available || entry.options.contains(.truncate) else { return .tooLong }
        let mlength = min(length, available)
        let threshold = entry.threshold > 0 ? entry.threshold - 1 : entry.threshold
        entries.update(handle) {
            $0.threshold = threshold
            if entry.buffer != nil || entry.slot != nil { $0.localOffset = start + mlength }
        }
        let unlinked = threshold == 0 && entry.unlinkWhenExhausted
        if unlinked { unlink(handle) }
        return .match(
            Match(
                entry: handle, cookie: entry.cookie, buffer: entry.buffer, slot: entry.slot,
                offset: start,
                mlength: mlength, unlinked: unlinked,
                sendsAck: !entry.options.contains(.ackDisable)))
    }

    private func chain(_ portal: UInt32, _ matchBits: UInt64) -> Int {
        var mixer = SplitMix64(seed: matchBits &+ UInt64(portal) << 56)
        return Int(truncatingIfNeeded: mixer.next()) & (exact.count - 1)
    }

    private mutating func append(_ handle: SlotHandle, to list: inout List) {
        let raw = handle.rawValue
        let tail = list.tail
        entries.update(handle) {
            $0.previous = tail
            $0.next = 0
        }
        if tail == 0 {
            list.head = raw
        } else {
            entries.update(SlotHandle(rawValue: tail)) { $0.next = raw }
        }
        list.tail = raw
    }

    private mutating func detach(_ entry: MatchEntry, from list: inout List) {
        if entry.previous == 0 {
            list.head = entry.next
        } else {
            entries.update(SlotHandle(rawValue: entry.previous)) { $0.next = entry.next }
        }
        if entry.next == 0 {
            list.tail = entry.previous
        } else {
            entries.update(SlotHandle(rawValue: entry.next)) { $0.previous = entry.previous }
        }
    }

    private mutating func growExact() {
        let old = exact
        exact = [List](repeating: List(), count: max(8, old.count * 2))
        for list in old {
            var raw = list.head
            while raw != 0 {
                let handle = SlotHandle(rawValue: raw)
                guard let entry = entries[handle] else { break }
                raw = entry.next
                let chain = chain(entry.portal, entry.matchBits)
                var list = exact[chain]
                append(handle, to: &list)
                exact[chain] = list
            }
        }
    }
}
