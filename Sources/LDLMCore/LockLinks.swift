/// The lists that a lock can be in.
enum LockList: Int {
    /// The granted or the waiting ones of its resource; of a free place: the next free one.
    case resource
    /// All of its owner.
    case owner
    /// Granted: those with a running callback timer. Waiting: those attached to the same blocker.
    case timer
    static let attached = LockList.timer
}

/// Neighbours in one of the lists of a lock.
struct Link: BitwiseCopyable {
    var next: Int32 = -1
    var previous: Int32 = -1
}

/// Ends of a list that runs through `LockRecord`s.
struct LinkEnds: BitwiseCopyable {
    var first: Int32 = -1
    var last: Int32 = -1
    var isEmpty: Bool { first < 0 }

    mutating func append(_ index: Int32, in locks: inout [LockRecord], _ list: LockList) {
        insert(index, after: last, in: &locks, list)
    }

    /// Puts a lock behind another; behind nobody (-1) it comes first.
    mutating func insert(
        _ index: Int32, after previous: Int32, in locks: inout [LockRecord], _ list: LockList
    ) {
        let next = previous >= 0 ? locks[Int(previous)].links[list.rawValue].next : first
        locks[Int(index)].links[list.rawValue] = Link(next: next, previous: previous)
        if previous >= 0 {
            locks[Int(previous)].links[list.rawValue].next = index
        } else {
            first = index
        }
        if next >= 0 {
            locks[Int(next)].links[list.rawValue].previous = index
        } else {
            last = index
        }
    }

    mutating func remove(_ index: Int32, in locks: inout [LockRecord], _ list: LockList) {
        let link = locks[Int(index)].links[list.rawValue]
        if link.previous >= 0 {
            locks[Int(link.previous)].links[list.rawValue].next = link.next
        } else {
            first = link.next
        }
        if link.next >= 0 {
            locks[Int(link.next)].links[list.rawValue].previous = link.previous
        } else {
            last = link.previous
        }
        locks[Int(index)].links[list.rawValue] = Link()
    }
}
