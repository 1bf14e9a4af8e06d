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

    /// Where the client stands with one target's upgrades.
    public func upgradeState(of target: Int) -> UpgradeClient.State {
        targets[target].upgrade.state
    }
}
