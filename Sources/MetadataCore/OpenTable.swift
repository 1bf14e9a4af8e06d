internal import WireFormat

/// Who has which file open: by handle, counted by file, chained by client.
struct OpenTable: Sendable {
    struct Open: Sendable {
        var handle: UInt64
        var file: FileID
        var client: UInt32
        var flags: OpenFlags
        /// Promised by the clean record to a client that has not come back yet.
        var isReserved: Bool
        /// Neighbours among the opens of one client; -1 at the ends.
        fileprivate var next: Int32 = -1
        fileprivate var previous: Int32 = -1
    }

    private var opens = ChainedTable<UInt64, Open>()
    private var openCounts = ChainedTable<FileID, Int>()
    /// The newest open of each client, by client index; -1 for none.
    private var firstOfClient: [Int32] = []

    var count: Int { opens.count }
    /// Files that are open at least once.
    var fileCount: Int { openCounts.count }

    func open(_ handle: UInt64) -> Open? {
        opens.index(of: handle).map { opens[$0] }
    }

    func openCount(_ file: FileID) -> Int {
        openCounts.index(of: file).map { openCounts[$0] } ?? 0
    }

    /// Adds an open whose handle is not there yet.
    mutating func insert(
        handle: UInt64, file: FileID, client: UInt32, flags: OpenFlags, isReserved: Bool = false
    ) {
        precondition(opens.index(of: handle) == nil, "a handle names one open")
        let missing = Int(client) + 1 - firstOfClient.count
        if missing > 0 { firstOfClient.append(contentsOf: repeatElement(-1, count: missing)) }
        let next = firstOfClient[Int(client)]
        let index = opens.insert(
            handle,
            Open(
                handle: handle, file: file, client: client, flags: flags,
                isReserved: isReserved, next: next))
        if next >= 0 { opens[Int(next)].previous = Int32(index) }
        firstOfClient[Int(client)] = Int32(index)
        if let place = openCounts.index(of: file) {
            openCounts[place] += 1
        } else {
            _ = openCounts.insert(file, 1)
        }
    }

    /// The reserved open is its owner's again.
    mutating func claim(_ handle: UInt64) {
        if let index = opens.index(of: handle) { opens[index].isReserved = false }
    }

    /// Removes an open that is there. Returns how many opens its file has left.
    mutating func remove(_ handle: UInt64) -> Int {
        guard let index = opens.index(of: handle) else {
            preconditionFailure("only an open that is there is closed")
        }
        let open = opens[index]
        if open.previous >= 0 {
            opens[Int(open.previous)].next = open.next
        } else {
            firstOfClient[Int(open.client)] = open.next
        }
        if open.next >= 0 { opens[Int(open.next)].previous = open.previous }
        opens.remove(at: index)
        guard let place = openCounts.index(of: open.file) else {
            preconditionFailure("every open is counted at its file")
        }
        openCounts[place] -= 1
        let left = openCounts[place]
        if left == 0 { openCounts.remove(at: place) }
        return left
    }

    /// The handles of one client, ascending; only reserved ones where asked.
    func handles(of client: UInt32, reservedOnly: Bool = false) -> [UInt64] {
        guard Int(client) < firstOfClient.count else { return [] }
        var handles: [UInt64] = []
        var index = firstOfClient[Int(client)]
        while index >= 0 {
            let open = opens[Int(index)]
            if open.isReserved || !reservedOnly { handles.append(open.handle) }
            index = open.next
        }
        return handles.sorted()
    }

    /// Every open, by handle.
    var all: [Open] {
        (0..<opens.slotCount).compactMap { opens.element(at: $0) }
            .sorted { $0.handle < $1.handle }
    }
}
