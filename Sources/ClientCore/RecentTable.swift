/// Values by key, at most so many: the one that was not used for longest goes when another comes.
///
/// Every operation is constant time. The order of use is a list through the entries, so that
/// nothing depends on the order of hashes.
struct RecentTable<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private struct Entry: Sendable {
        var key: Key
        var value: Value
        /// Neighbours in the order of use; -1 at the ends, and of free places the next free one.
        var older: Int32
        var newer: Int32
    }

    let countMax: Int
    private var entries: [Entry] = []
    private var places: [Key: Int32] = [:]
    private var oldest: Int32 = -1
    private var newest: Int32 = -1
    private var firstFree: Int32 = -1

    /// - Precondition: room for one at least.
    init(countMax: Int) {
        precondition(countMax > 0, "a table holds something")
        self.countMax = countMax
    }

    var count: Int { places.count }

    /// The value, which counts as used now.
    mutating func use(_ key: Key) -> Value? {
        guard let place = places[key] else { return nil }
        renew(place)
        return entries[Int(place)].value
    }

    /// The value, whose age stays as it is.
    func peek(_ key: Key) -> Value? {
        places[key].map { entries[Int($0)].value }
    }

    /// Changes a value in place; nil, and `body` not called, where there is none.
    @discardableResult
    mutating func update<R>(_ key: Key, _ body: (inout Value) -> R) -> R? {
        guard let place = places[key] else { return nil }
        return body(&entries[Int(place)].value)
    }

    /// Sets a value, which counts as used now. Gives what had to go for it.
    @discardableResult
    mutating func set(_ key: Key, _ value: Value) -> (key: Key, value: Value)? {
        if let place = places[key] {
            entries[Int(place)].value = value
            renew(place)
            return nil
        }
        var gone: (key: Key, value: Value)?
        if places.count == countMax {
            let last = entries[Int(oldest)]
            gone = (last.key, last.value)
            remove(last.key)
        }
        let place: Int32
        let entry = Entry(key: key, value: value, older: -1, newer: -1)
        if firstFree >= 0 {
            place = firstFree
            firstFree = entries[Int(place)].newer
            entries[Int(place)] = entry
        } else {
            place = Int32(entries.count)
            entries.append(entry)
        }
        places[key] = place
        link(place)
        return gone
    }

    @discardableResult
    mutating func remove(_ key: Key) -> Value? {
        guard let place = places.removeValue(forKey: key) else { return nil }
        unlink(place)
        entries[Int(place)].newer = firstFree
        firstFree = place
        return entries[Int(place)].value
    }

    mutating func removeAll() {
        entries.removeAll(keepingCapacity: true)
        places.removeAll(keepingCapacity: true)
        oldest = -1
        newest = -1
        firstFree = -1
    }

    private mutating func renew(_ place: Int32) {
        guard place != newest else { return }
        unlink(place)
        link(place)
    }

    private mutating func link(_ place: Int32) {
        entries[Int(place)].older = newest
        entries[Int(place)].newer = -1
        if newest >= 0 { entries[Int(newest)].newer = place } else { oldest = place }
        newest = place
    }

    private mutating func unlink(_ place: Int32) {
        let entry = entries[Int(place)]
        if entry.older >= 0 {
            entries[Int(entry.older)].newer = entry.newer
        } else {
            oldest = entry.newer
        }
        if entry.newer >= 0 {
            entries[Int(entry.newer)].older = entry.older
        } else {
            newest = entry.older
        }
    }
}
