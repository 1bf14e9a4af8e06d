import Primitives
import LDLMCore
public import PtlRPCCore
import StorageCore
import UpgradeCore
public import WireFormat

/// A target's account of itself.
extension ServerNode {
    public func statusReply() -> UpgradeStatusReply {
        var clients: [UpgradeStatusReply.Client] = []
        rpc.forEachExport { summary in
            guard !summary.isObserver else { return }
            let status = upgrade.status(of: summary.index)
            let receiptAt = status?.receiptAt
            clients.append(
                UpgradeStatusReply.Client(
                    uuid: summary.uuid, nid: summary.nid, admission: status?.admission ?? .none,
                    isCountedOut: status?.isCountedOut ?? false,
                    isConnected: summary.isConnected, version: summary.version,
                    receiptNs: receiptAt.map { ($0 - upgradeAcceptedAt).nanoseconds } ?? 0))
        }
        return UpgradeStatusReply(
            targetName: configuration.targetName, phase: phase, epoch: upgrade.epoch,
            instance: instance, versions: configuration.versions,
            lastTransno: Transno(rawValue: nextTransno - 1),
            lastCommitted: Transno(rawValue: store?.lastCommittedTransno ?? 0),
            replayed: rpc.counters.replayed, resent: rpc.counters.resent,
            evictions: evictionCount,
            preparedNs: preparedAt.map { ($0 - upgradeAcceptedAt).nanoseconds } ?? 0,
            committedNs: committedAt.map { ($0 - upgradeAcceptedAt).nanoseconds } ?? 0,
            clients: clients)
    }

    /// What an exporter of metrics reads.
    public var rpcCounters: RPCServerCounters { rpc.counters }
    public var lockCount: Int { locks.count }
}
