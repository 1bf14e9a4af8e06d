/// A map in the order of its keys, kept as a list of short sorted runs.
///
/// Lookup costs two binary searches; an insertion moves at most one run and, once in a run's
/// length, the list of runs. With 100,000 entries that is about 1,000 runs of 128: both parts fit
/// into a cache, which is why there is no tree here.
package struct SortedMap<Key: Comparable, Value> {
    package struct Entry {
        package var key: Key
        package var value: Value
    }

    package struct Position: Equatable {
        var run: Int
        var index: Int
    }

    private static var runCountMax: Int { 256 }

    /// No run is empty.
    private var runs: [[Entry]] = []
    /// The first key of each run, side by side for the first search.
    private var firstKeys: [Key] = []
    package private(set) var count = 0

    package init() {}

    package var isEmpty: Bool { count == 0 }

    /// The place of the first entry whose key is not below `key`; may be the end.
    package func lowerBound(_ key: Key) -> Position {
        // The last run that begins at or below the key: the only one that can hold it.
        // Spans: an element of an array is read as a copy, and a key counts references.
        let keys = firstKeys.span
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if key < keys[middle] { high = middle } else { low = middle + 1 }
        }
        if low == 0 { return Position(run: 0, index: 0) }
        let run = low - 1
        let all = runs.span
        let entries = all[run].span
        low = 0
        high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].key < key { low = middle + 1 } else { high = middle }
        }
        return low == entries.count
            ? Position(run: run + 1, index: 0) : Position(run: run, index: low)
    }

    package var startPosition: Position { Position(run: 0, index: 0) }

    package func isEnd(_ position: Position) -> Bool { position.run == runs.count }

    package func next(_ position: Position) -> Position {
        position.index + 1 < runs[position.run].count
            ? Position(run: position.run, index: position.index + 1)
            : Position(run: position.run + 1, index: 0)
    }

    /// The entry at a position that is not the end.
    package subscript(position: Position) -> Entry { runs[position.run][position.index] }

    package func value(_ key: Key) -> Value? {
        let position = lowerBound(key)
        guard !isEnd(position) else { return nil }
        let entry = runs[position.run][position.index]
        return entry.key == key ? entry.value : nil
    }

    /// Changes the value of a key in place, after inserting `fresh` where there is none.
    @discardableResult
    package mutating func update<R>(
        _ key: Key, inserting fresh: @autoclosure () -> Value, _ body: (inout Value) -> R
    ) -> R {
        let position = lowerBound(key)
        if !isEnd(position), runs[position.run][position.index].key == key {
            return body(&runs[position.run][position.index].value)
        }
        var value = fresh()
        let result = body(&value)
        insert(Entry(key: key, value: value), before: position)
        return result
    }

    /// Sets the value of a key.
    package mutating func set(_ key: Key, _ value: Value) {
        update(key, inserting: value) { $0 = value }
    }

    /// Changes the value of a key in place and removes it when `body` returns true. Returns nil
    /// where there is no such key.
    @discardableResult
    package mutating func removeIf(_ key: Key, _ body: (inout Value) -> Bool) -> Bool? {
        let position = lowerBound(key)
        guard !isEnd(position), runs[position.run][position.index].key == key else { return nil }
        guard body(&runs[position.run][position.index].value) else { return false }
        remove(at: position)
        return true
    }

    /// Visits every entry once, in any order of its choosing, and keeps those for which `body`
    /// returns true. Linear in all entries.
    package mutating func retain(_ body: (inout Entry) -> Bool) {
        var kept: [[Entry]] = []
        var keptKeys: [Key] = []
        count = 0
        for run in runs {
            var rest: [Entry] = []
            for entry in run {
                var entry = entry
                if body(&entry) { rest.append(entry) }
            }
            guard let first = rest.first else { continue }
            count += rest.count
            keptKeys.append(first.key)
            kept.append(rest)
        }
        runs = kept
        firstKeys = keptKeys
    }

    package mutating func removeAll() {
        runs.removeAll(keepingCapacity: true)
        firstKeys.removeAll(keepingCapacity: true)
        count = 0
    }

    private mutating func insert(_ entry: Entry, before position: Position) {
        count += 1
        guard !runs.isEmpty else {
            runs.append([entry])
            firstKeys.append(entry.key)
            return
        }
        // Behind the last entry of a run is the same place as before the first of the next one:
        // the earlier run takes it, so that first keys change only at the very front.
        var run = position.run
        var index = position.index
        if index == 0, run > 0 {
            run -= 1
            index = runs[run].count
        }
        if runs[run].count == Self.runCountMax {
            // Keys that only ascend leave full runs behind; others split in the middle.
            let cut =
                run == runs.count - 1 && index == runs[run].count
                ? index : Self.runCountMax / 2
            let tail = Array(runs[run][cut...])
            runs[run].removeSubrange(cut...)
            if tail.isEmpty {
                runs.append([entry])
                firstKeys.append(entry.key)
                return
            }
            runs.insert(tail, at: run + 1)
            firstKeys.insert(tail[0].key, at: run + 1)
            if index > cut {
                run += 1
                index -= cut
            }
        }
        runs[run].insert(entry, at: index)
        if index == 0 { firstKeys[run] = entry.key }
    }

    private mutating func remove(at position: Position) {
        count -= 1
        runs[position.run].remove(at: position.index)
        if runs[position.run].isEmpty {
            runs.remove(at: position.run)
            firstKeys.remove(at: position.run)
        } else if position.index == 0 {
            firstKeys[position.run] = runs[position.run][0].key
        }
    }
}

extension SortedMap: Sendable where Key: Sendable, Value: Sendable {}
extension SortedMap.Entry: Sendable where Key: Sendable, Value: Sendable {}
