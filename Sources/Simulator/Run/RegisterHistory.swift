import Primitives

/// What clients wrote to and read from one register, and whether one order explains it all.
///
/// Every write has a value of its own, so the check is exact and quick (Gibbons, Korach: "Testing
/// Shared Memories", 1997): all operations on one value form a cluster, whose zone reaches from the
/// first end to the last beginning of any of them. Where the first end comes before the last
/// beginning the value must have stood in the whole zone (a forward zone). One order exists exactly
/// if no two forward zones overlap, no backward zone lies within a forward one, and nobody read a
/// value before its write began.
struct RegisterHistory {
    struct Interval {
        var begin: UInt64
        /// `.max` while nobody knows whether it was done.
        var end: UInt64
        var client: Int
    }

    /// 0 is what the register holds at first.
    private var values: [UInt64] = [0]
    private var places: [UInt64: Int] = [0: 0]
    private var writes: [Interval] = [Interval(begin: 0, end: 0, client: -1)]
    private var reads: [[Interval]] = [[]]

    var operationCount: Int { writes.count + reads.reduce(0) { $0 + $1.count } }

    mutating func beginWrite(_ value: UInt64, by client: Int, at now: Ticks) {
        places[value] = values.count
        values.append(value)
        writes.append(Interval(begin: now.nanoseconds, end: .max, client: client))
        reads.append([])
    }

    mutating func endWrite(_ value: UInt64, at now: Ticks) {
        guard let place = places[value] else { return }
        writes[place].end = now.nanoseconds
    }

    /// The write was taken back before it began: nobody may ever read it.
    mutating func cancelWrite(_ value: UInt64) {
        guard let place = places.removeValue(forKey: value) else { return }
        writes[place].end = .max
    }

    /// False where nobody ever wrote the value.
    mutating func read(_ value: UInt64, by client: Int, from begin: Ticks, to end: Ticks) -> Bool {
        guard let place = places[value] else { return false }
        reads[place].append(
            Interval(begin: begin.nanoseconds, end: end.nanoseconds, client: client))
        return true
    }

    /// What a client that is gone wrote and nobody else has read may never have been there. What it
    /// began to write at `uncommittedSince` or later may go with a crash of the server even where
    /// others have read it: only its writer could have told the server again.
    mutating func forget(writesOf client: Int, uncommittedSince: Ticks) {
        for place in values.indices where writes[place].client == client {
            if writes[place].begin >= uncommittedSince.nanoseconds
                || reads[place].allSatisfy({ $0.client == client })
            {
                writes[place].end = .max
                reads[place] = []
            }
        }
    }

    /// Why no order explains the history; nil where one does.
    func violation() -> String? {
        struct Zone {
            var low: UInt64
            var high: UInt64
            var value: UInt64
        }
        var forward: [Zone] = []
        var backward: [Zone] = []
        for place in values.indices {
            let write = writes[place]
            // Nobody knows of it and nobody saw it: it may never have been.
            if write.end == .max, reads[place].isEmpty { continue }
            var firstEnd = write.end
            var lastBegin = write.begin
            for read in reads[place] {
                if read.end < write.begin {
                    return "client \(read.client) read \(values[place]) before it was written"
                }
                firstEnd = min(firstEnd, read.end)
                lastBegin = max(lastBegin, read.begin)
            }
            if firstEnd < lastBegin {
                forward.append(Zone(low: firstEnd, high: lastBegin, value: values[place]))
            } else {
                backward.append(Zone(low: lastBegin, high: firstEnd, value: values[place]))
            }
        }
        forward.sort { ($0.low, $0.value) < ($1.low, $1.value) }
        for (one, other) in zip(forward, forward.dropFirst()) where other.low < one.high {
            return "values \(one.value) and \(other.value) were both current between "
                + "\(Timeline.seconds(Ticks(nanoseconds: other.low))) and "
                + Timeline.seconds(Ticks(nanoseconds: min(one.high, other.high)))
        }
        for zone in backward {
            // The last forward zone that begins before this one.
            var low = 0
            var high = forward.count
            while low < high {
                let middle = (low + high) / 2
                if forward[middle].low < zone.low { low = middle + 1 } else { high = middle }
            }
            guard low > 0, forward[low - 1].high > zone.high else { continue }
            return "value \(zone.value) came and went while \(forward[low - 1].value) was current, "
                + "at \(Timeline.seconds(Ticks(nanoseconds: zone.low)))"
        }
        return nil
    }
}
