import ClientCore
import LDLMCore
public import Primitives
import PtlRPCCore
public import UpgradeCore

/// What checkers look at from outside; and the fault sites, which only the simulator arms.
extension ServerNode {
    /// Arms the sites of this node and of its cores.
    public mutating func arm(_ sites: FaultSites) {
        self.sites = sites
        locks.sites = sites
        upgrade.sites = sites
        client?.arm(sites)
    }

    /// How often each site of this server has fired, by its number.
    public var siteHits: [UInt64] {
        let inner = client?.siteHits
        return FaultSite.allCases.indices.map {
            UInt64(sites.hits[$0]) + UInt64(locks.sites.hits[$0]) + UInt64(upgrade.sites.hits[$0])
                + (inner?[$0] ?? 0)
        }
    }

    /// Every client that this instance knows, by name, and where it stands for upgrades.
    public func forEachClient(_ body: (_ uuid: String, UpgradeTarget.Standing) -> Void) {
        rpc.forEachExport { summary in
            if !summary.isObserver { body(summary.uuid, upgrade.standing(of: summary.index)) }
        }
    }
}
