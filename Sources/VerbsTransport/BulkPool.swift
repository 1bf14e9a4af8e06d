internal import Primitives

/// Which parts of a registered region are in use: a buddy allocator of blocks of 4 KiB to 1 MiB.
///
/// Everything is constant time or logarithmic in the block's size. Reservations are named by place
/// and generation.
struct BulkPool {
    static let blockBytes = 4096
    /// Block sizes are 4096 << order.
    static let orderMax = 8

    private struct Block: BitwiseCopyable {
        /// The order of the free run that begins here; -1 otherwise.
        var freeOrder: Int8 = -1
        var next: Int32 = -1
        var previous: Int32 = -1
    }

    private struct Reservation: BitwiseCopyable {
        var block: Int32
        var order: Int8
    }

    private var blocks: [Block]
    private var heads = InlineArray<9, Int32>(repeating: -1)
    private var reservations = SlotTable<Reservation>()
    private(set) var freeBytes: Int
    let byteCount: Int

    /// A pool of `byteCount` bytes, rounded down to whole megabytes.
    init(byteCount: Int) {
        let runs = byteCount >> 20
        self.byteCount = runs << 20
        freeBytes = self.byteCount
        blocks = Array(repeating: Block(), count: runs << Self.orderMax)
        for run in (0..<runs).reversed() { push(Int32(run << Self.orderMax), Self.orderMax) }
    }

    var reservationCount: Int { reservations.count }

    /// Reserves `byteCount` bytes, 1 to 1 MiB. Returns the reservation and its offset; nil where no
    /// run of that size is free.
    mutating func reserve(_ byteCount: Int) -> (handle: SlotHandle, offset: Int)? {
        precondition((1...1 << 20).contains(byteCount), "a slot is 1 byte to 1 MiB")
        var order = 0
        while Self.blockBytes << order < byteCount { order += 1 }
        var found = order
        while found <= Self.orderMax, heads[found] < 0 { found += 1 }
        guard found <= Self.orderMax else { return nil }
        let block = heads[found]
        remove(block, found)
        while found > order {
            found -= 1
            push(block + Int32(1 << found), found)
        }
        freeBytes -= Self.blockBytes << order
        let handle = reservations.insert(Reservation(block: block, order: Int8(order)))
        return (handle, Int(block) * Self.blockBytes)
    }

    /// Gives a reservation back. False where it is none any more.
    @discardableResult
    mutating func release(_ handle: SlotHandle) -> Bool {
        guard let reservation = reservations.remove(handle) else { return false }
        var block = reservation.block
        var order = Int(reservation.order)
        freeBytes += Self.blockBytes << order
        while order < Self.orderMax {
            let buddy = block ^ Int32(1 << order)
            guard blocks[Int(buddy)].freeOrder == Int8(order) else { break }
            remove(buddy, order)
            block = min(block, buddy)
            order += 1
        }
        push(block, order)
        return true
    }

    /// Where a reservation begins and how long its run is; nil for a stale one.
    func run(of handle: SlotHandle) -> Range<Int>? {
        guard let reservation = reservations[handle] else { return nil }
        let start = Int(reservation.block) * Self.blockBytes
        return start..<(start + Self.blockBytes << Int(reservation.order))
    }

    private mutating func push(_ block: Int32, _ order: Int) {
        let head = heads[order]
        blocks[Int(block)] = Block(freeOrder: Int8(order), next: head, previous: -1)
        if head >= 0 { blocks[Int(head)].previous = block }
        heads[order] = block
    }

    private mutating func remove(_ block: Int32, _ order: Int) {
        let entry = blocks[Int(block)]
        if entry.previous >= 0 {
            blocks[Int(entry.previous)].next = entry.next
        } else {
            heads[order] = entry.next
        }
        if entry.next >= 0 { blocks[Int(entry.next)].previous = entry.previous }
        blocks[Int(block)] = Block()
    }
}
