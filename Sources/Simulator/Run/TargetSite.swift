import Primitives
import StorageCore
import WireFormat

/// One target of a simulation: its store, the node that holds it, and what it is on its way to.
struct TargetSite {
    let place: Int
    let store = MemoryStore()
    /// The node that holds the store, or held it last.
    var node = -1
    var isPartner = false
    var versions: ClosedRange<ProtocolVersion> = .v1 ... .v1
    /// Nobody holds the store.
    var isDown = true
    /// The last instance came to its end with a clean record.
    var hasStoppedClean = false
    /// A store that was never used has nothing to refuse.
    var wasUsed = false
    /// A process of the next build waits for the store.
    var standby: (node: Int, versions: ClosedRange<ProtocolVersion>)?
    /// Gates nobody: invariant B says nothing of it.
    var isSynchronous = false
    /// By then the upgrade in hand has to be over, or past its seal.
    var upgradeLimit = Ticks.distantFuture
    /// Grows with each start: scheduled restarts that came too late know it.
    var starts = 0

    init(place: Int) { self.place = place }

    var name: String { place == 0 ? "mdt0" : "ost\(place - 1)" }

    func nid(partner: Bool) -> NID {
        NID(address: 0x0A00_0001 + UInt32(place) + (partner ? 100 : 0), type: .tcp)
    }
}
