import Primitives
import ClientCore
import LDLMCore
import MetadataCore
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
    /// The import of an object target, of a metadata server.
    public func importSummary(_ place: Int) -> ImportSummary? { client?.summary(place) }
    /// Creates that wait for objects, and how many objects are ready at each object target.
    public var waitingDescription: String {
        var text = "\(waitingForObjects.count) creates wait for objects"
        if case .metadata(let metadata) = service {
            for (place, target) in configuration.objectTargets.enumerated() {
                text +=
                    ", \(target.name): \(metadata.objectsReady(targetIndex: target.index)) ready"
                if place < precreates.count, precreates[place] != nil { text += ", more asked for" }
            }
        }
        return text
    }
    public var lockCount: Int { locks.count }
    /// Opens of a metadata server, reserved ones included.
    public var openCount: Int {
        if case .metadata(let metadata) = service { metadata.openCount } else { 0 }
    }
}
