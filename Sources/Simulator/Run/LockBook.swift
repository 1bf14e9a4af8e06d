import ClientCore
import LDLMCore
import Primitives
import WireFormat

/// Which locks clients believe to hold, change by change: so that a new one is compared with those on
/// its resource, and with no others.
///
/// Loads are named by their index. Nothing here is iterated in an order that hashing decides.
struct LockBook {
    /// A lock that a client thinks it has.
    struct Holding: Equatable {
        var load: Int
        var info: ClientLockInfo

        /// Only what two clients can be in conflict about.
        static func == (a: Holding, b: Holding) -> Bool {
            a.load == b.load && a.info.handle == b.info.handle && a.info.mode == b.info.mode
                && a.info.resource == b.info.resource && a.info.policy == b.info.policy
        }

        /// The server has given it, and the client has not given it back.
        init?(load: Int, _ info: ClientLockInfo?) {
            guard let info, info.state == .granted || info.state == .cancelling else { return nil }
            self.load = load
            self.info = info
        }

        func conflicts(with other: Holding) -> Bool {
            load != other.load && !info.mode.isCompatible(with: other.info.mode)
                && info.policy.range.overlaps(other.info.policy.range)
        }
    }

    private struct Place: Hashable {
        var target: Int
        var resource: ResourceID
    }

    private var holdings: [Place: [Holding]] = [:]
    /// By load and target: where each of its locks stands.
    private var places: [[[SlotHandle: Place]]] = []

    /// Sets what is held of a lock, nil for nothing any more. Returns what it is in conflict with.
    mutating func set(
        _ lock: SlotHandle, of load: Int, target: Int, _ info: ClientLockInfo?
    ) -> Holding? {
        while places.count <= load { places.append([]) }
        while places[load].count <= target { places[load].append([:]) }
        if let place = places[load][target].removeValue(forKey: lock) {
            remove(lock, of: load, at: place)
        }
        guard let holding = Holding(load: load, info) else { return nil }
        let place = Place(target: target, resource: holding.info.resource)
        places[load][target][lock] = place
        let other = holdings[place]?.first { $0.conflicts(with: holding) }
        holdings[place, default: []].append(holding)
        return other
    }

    private mutating func remove(_ lock: SlotHandle, of load: Int, at place: Place) {
        let isLast: Bool? = {
            guard let index = $0?.firstIndex(where: { $0.load == load && $0.info.handle == lock })
            else { return nil }
            $0!.swapAt(index, $0!.count - 1)
            $0!.removeLast()
            return $0!.isEmpty
        }(&holdings[place])
        if isLast == true { holdings[place] = nil }
    }

    /// The client is gone, or what it believes does not count any more.
    mutating func forget(_ load: Int) {
        guard load < places.count else { return }
        let all = places[load]
        places[load] = []
        for locks in all { for (lock, place) in locks { remove(lock, of: load, at: place) } }
    }

    /// Locks of one client in the book, with the target of each.
    func holdings(of load: Int) -> [(target: Int, holding: Holding)] {
        guard load < places.count else { return [] }
        return places[load].enumerated().flatMap { target, locks in
            locks.compactMap { lock, place in
                holdings[place]?.first { $0.load == load && $0.info.handle == lock }
                    .map { (target, $0) }
            }
        }
    }
}
