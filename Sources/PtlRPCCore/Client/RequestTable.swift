import LNetCore
import WireFormat

/// All requests of a client, each found from its XID without a search.
///
/// The XID is the table index: slot = (xid / 128) modulo the slot count, a power of two. New XIDs
/// skip those whose slot is busy. Two XIDs in different slots stay in different slots when the
/// table doubles, so links between requests are XIDs and growth only moves requests.
struct RequestTable: Sendable {
    private var slots: [Request] = []
    private var mask: UInt64 = 0
    private var lastXID: XID
    private(set) var count = 0

    /// - Parameter start: below every XID to be given out; a multiple of `XID.step`.
    init(start: XID) { lastXID = start }

    private func slot(_ xid: XID) -> Int { Int(truncatingIfNeeded: (xid.rawValue >> 7) & mask) }

    func contains(_ xid: XID) -> Bool {
        xid != .zero && !slots.isEmpty && slots[slot(xid)].xid == xid
    }

    /// Appends the message of a live request as `version` spells it.
    func encode(
        _ xid: XID, header: PtlRPCBody, version: ProtocolVersion, flags: UInt32,
        into writer: inout WireWriter
    ) {
        let index = slot(xid)
        precondition(slots[index].xid == xid, "the request is live")
        slots[index].body.encode(
            header: header, version: version, flags: flags, into: &writer)
    }

    /// The bulk descriptor that a live request needs; nil for none. Bytes to write are shared.
    func bulkDescriptor(_ xid: XID) -> MemoryDescriptor? {
        let index = slot(xid)
        precondition(slots[index].xid == xid, "the request is live")
        if let source = slots[index].body.bulkSource {
            return MemoryDescriptor(memory: .buffer(source), options: [.get, .manageRemote])
        }
        let byteCount = slots[index].body.bulkSinkByteCount
        guard byteCount > 0 else { return nil }
        return MemoryDescriptor(
            memory: .buffer([UInt8](repeating: 0, count: byteCount)),
            options: [.put, .manageRemote])
    }

    /// Whether the request's bytes travel by bulk: they are fetched one request at a time.
    func hasBulkSource(_ xid: XID) -> Bool {
        let index = slot(xid)
        precondition(slots[index].xid == xid, "the request is live")
        return slots[index].body.bulkSource != nil
    }

    /// The server's handle of a saved open; nil for any other request.
    func openHandle(_ xid: XID) -> UInt64? {
        let index = slot(xid)
        precondition(slots[index].xid == xid, "the request is live")
        if case .open(let open) = slots[index].body { return open.handle }
        return nil
    }

    /// A live request, read or changed in place. Traps for any other XID.
    subscript(_ xid: XID) -> Request {
        _read {
            let index = slot(xid)
            precondition(slots[index].xid == xid, "the request is live")
            yield slots[index]
        }
        _modify {
            let index = slot(xid)
            precondition(slots[index].xid == xid, "the request is live")
            yield &slots[index]
        }
    }

    /// A request with a new XID, greater than all before.
    mutating func insert(
        _ kind: Request.Kind, _ body: RequestBody, cookie: UInt64, import importIndex: Int
    ) -> XID {
        // A quarter stays free, so that a long run of busy slots is skipped seldom.
        if count * 4 >= slots.count * 3 { grow() }
        repeat {
            lastXID = XID(rawValue: lastXID.rawValue &+ XID.step)
        } while slots[slot(lastXID)].xid != .zero
        let index = slot(lastXID)
        slots[index].xid = lastXID
        slots[index].importIndex = Int32(importIndex)
        slots[index].kind = kind
        slots[index].cookie = cookie
        slots[index].opcode = body.opcode
        slots[index].isUpdate = kind == .call && body.isUpdate
        slots[index].isUrgent = body.isUrgent
        slots[index].dependsOnHeldState = body.dependsOnHeldState
        slots[index].body = body
        count += 1
        return lastXID
    }

    /// Frees the slot. The request is in no list.
    mutating func remove(_ xid: XID) {
        let index = slot(xid)
        precondition(slots[index].xid == xid, "the request is live")
        slots[index] = Request()
        count -= 1
    }

    private mutating func grow() {
        var grown = [Request](repeating: Request(), count: max(8, slots.count * 2))
        mask = UInt64(grown.count - 1)
        for request in slots where request.xid != .zero { grown[slot(request.xid)] = request }
        slots = grown
    }

    // MARK: Lists

    mutating func append(_ xid: XID, to list: inout RequestList, as place: Request.Place) {
        precondition(self[xid].place == .none, "a request is in one list")
        self[xid].place = place
        self[xid].previous = list.tail
        self[xid].next = .zero
        if list.tail == .zero { list.head = xid } else { self[list.tail].next = xid }
        list.tail = xid
        list.count += 1
    }

    mutating func remove(_ xid: XID, from list: inout RequestList) {
        let (previous, next) = (self[xid].previous, self[xid].next)
        if previous == .zero { list.head = next } else { self[previous].next = next }
        if next == .zero { list.tail = previous } else { self[next].previous = previous }
        self[xid].place = .none
        self[xid].previous = .zero
        self[xid].next = .zero
        list.count -= 1
    }

    /// Appends the newest request to the unanswered ones.
    mutating func appendUnanswered(_ xid: XID, to list: inout RequestList) {
        self[xid].older = list.tail
        if list.tail == .zero { list.head = xid } else { self[list.tail].newer = xid }
        list.tail = xid
        list.count += 1
    }

    mutating func removeUnanswered(_ xid: XID, from list: inout RequestList) {
        let (older, newer) = (self[xid].older, self[xid].newer)
        if older == .zero { list.head = newer } else { self[older].newer = newer }
        if newer == .zero { list.tail = older } else { self[newer].older = older }
        self[xid].older = .zero
        self[xid].newer = .zero
        list.count -= 1
    }
}
