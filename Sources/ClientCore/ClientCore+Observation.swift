public import LDLMCore
public import Primitives
import PtlRPCCore
public import UpgradeCore

/// What checkers look at from outside; and the fault sites, which only the simulator arms.
extension ClientCore {
    /// Arms the sites of this core and of its RPC client.
    public mutating func arm(_ sites: FaultSites) {
        self.sites = sites
        rpc.sites = sites
    }

    /// How often each site of this client has fired, by its number.
    public var siteHits: [UInt64] {
        FaultSite.allCases.indices.map { UInt64(sites.hits[$0]) + UInt64(rpc.sites.hits[$0]) }
    }

    /// Every lock of one target's cache, in the order of their places.
    public func forEachLock(of target: Int, _ body: (ClientLockInfo) -> Void) {
        for handle in targets[target].locks.handles {
            if let info = targets[target].locks.info(handle) { body(info) }
        }
    }

    /// From now on `nextLockChange` tells of every lock that begins or ceases to be held, or of which
    /// another part is held.
    public mutating func observeLocks() {
        for index in targets.indices { targets[index].locks.changes = Outbox() }
    }

    /// The next lock of which that is true, target by target; nil when all were told. Perhaps more
    /// than once, and perhaps gone: then its `info` is nil.
    public mutating func nextLockChange() -> (target: Int, lock: SlotHandle, ClientLockInfo?)? {
        for index in targets.indices {
            if let lock = targets[index].locks.changes?.popFirst() {
                return (index, lock, targets[index].locks.info(lock))
            }
        }
        return nil
    }
    /// Bytes that are kept, dirty ones among them.
    public var cachedBytes: Int { cachedByteCount }
    /// Files that applications have open.
    public var openFileCount: Int { openFiles.count }
    /// Names and files whose attributes are kept under locks.
    public var cachedNameCount: Int { names.nameCount }
    public var cachedFileCount: Int { names.fileCount }
    /// Locks of one target that nothing uses now: kept for what comes next.
    public func unusedLockCount(_ target: Int) -> Int { targets[target].locks.unusedCount }
    /// Room at one object target for bytes that are not dirty yet.
    public func grantAvailable(_ target: Int) -> UInt64 { targets[target].grant.available }
    /// An unmount has begun.
    public var isLeaving: Bool { isUnmounting }

    /// Where the client stands with one target's upgrades.
    public func upgradeState(of target: Int) -> UpgradeClient.State {
        targets[target].upgrade.state
    }
}
