import Primitives
import WireFormat

/// Exports by index, and by UUID at connect. An index is the client's for as long as it is known.
struct ExportTable: Sendable {
    private struct Place: Sendable {
        var use: UInt16 = 0
        var export: Export?
    }

    private var places: [Place] = []
    private var free: [UInt32] = []
    /// Never iterated.
    private var indices: [String: UInt32] = [:]
    /// NIDs by index, dense: found by scan when a peer is lost. 0 where there is no export.
    private(set) var nids: [UInt64] = []
    private(set) var count = 0
    private let instance: UInt64
    private let countMax: Int

    init(instance: UInt64, countMax: Int) {
        self.instance = instance
        self.countMax = countMax
    }

    /// One more than the highest index ever used.
    var placeCount: Int { places.count }

    func contains(_ index: UInt32) -> Bool {
        Int(index) < places.count && places[Int(index)].export != nil
    }

    /// What pb_handle names the export by: instance, use of the place, and index. A handle of an
    /// earlier instance, or of the place's earlier export, is recognised.
    func handle(_ index: UInt32) -> UInt64 {
        let generation =
            UInt32(truncatingIfNeeded: instance) << 16 | UInt32(places[Int(index)].use)
        return SlotHandle(index: index, generation: generation).rawValue
    }

    func index(handle: UInt64) -> UInt32? {
        let index = SlotHandle(rawValue: handle).index
        return contains(index) && self.handle(index) == handle ? index : nil
    }

    func index(uuid: String) -> UInt32? { indices[uuid] }

    /// Traps where there is no export.
    subscript(index: UInt32) -> Export {
        _read { yield places[Int(index)].export! }
        _modify { yield &places[Int(index)].export! }
    }

    /// Puts a known client at its index. False where the index or the UUID is taken.
    mutating func load(_ export: Export, at index: UInt32) -> Bool {
        guard Int(index) < countMax, !contains(index), indices[export.uuid] == nil else {
            return false
        }
        while places.count <= Int(index) {
            if places.count < Int(index) { free.append(UInt32(places.count)) }
            places.append(Place())
            nids.append(0)
        }
        free.removeAll { $0 == index }
        put(export, at: index)
        return true
    }

    /// Nil when there is no room. An export of the same UUID loses its name to this one.
    mutating func insert(_ export: Export) -> UInt32? {
        if let index = free.popLast() {
            put(export, at: index)
            return index
        }
        guard places.count < countMax else { return nil }
        places.append(Place())
        nids.append(0)
        put(export, at: UInt32(places.count - 1))
        return UInt32(places.count - 1)
    }

    private mutating func put(_ export: Export, at index: UInt32) {
        indices[export.uuid] = index
        nids[Int(index)] = export.nid.rawValue
        places[Int(index)].use &+= 1
        places[Int(index)].export = export
        count += 1
    }

    mutating func setNID(_ nid: NID, of index: UInt32) {
        self[index].nid = nid
        nids[Int(index)] = nid.rawValue
    }

    @discardableResult
    mutating func remove(_ index: UInt32) -> Export? {
        guard let export = places[Int(index)].export else { return nil }
        places[Int(index)].export = nil
        nids[Int(index)] = 0
        if indices[export.uuid] == index { indices[export.uuid] = nil }
        free.append(index)
        count -= 1
        return export
    }
}
