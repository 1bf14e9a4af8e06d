public import Primitives
import ClientCore
import LDLMCore
import MetadataCore
public import PtlRPCCore
import StorageCore
import UpgradeCore
public import WireFormat

/// A target's account of itself.
extension ServerNode {
    ///
    /// Clients that are not prepared stand first: where there are more than one reply holds, those
    /// are named in any case.
    public func statusReply(now: Ticks = .zero) -> UpgradeStatusReply {
        var entries: [(client: UpgradeStatusReply.Client, detail: UpgradeDetails.Client)] = []
        rpc.forEachExport { summary in
            guard !summary.isObserver else { return }
            let status = upgrade.status(of: summary.index)
            let receiptAt = status?.receiptAt
            let client = UpgradeStatusReply.Client(
                uuid: summary.uuid, nid: summary.nid, admission: status?.admission ?? .none,
                isCountedOut: status?.isCountedOut ?? false,
                isConnected: summary.isConnected, version: summary.version,
                receiptNs: receiptAt.map { ($0 - upgradeAcceptedAt).nanoseconds } ?? 0)
            let silence = now > summary.lastHeard ? now - summary.lastHeard : .zero
            let detail = UpgradeDetails.Client(
                standing: status?.standing.rawValue ?? 0,
                hasNotice: status?.isNoticeDelivered ?? false,
                isFlushed: status?.isFlushed ?? false,
                requestCount: UInt16(clamping: summary.requestCount),
                silentMs: UInt32(clamping: silence.nanoseconds / 1_000_000),
                receipt: status?.receipt)
            entries.append((client, detail))
        }
        let entriesMissing = entries.filter { !$0.client.isCountedOut }
        entries = entriesMissing + entries.filter(\.client.isCountedOut)
        return UpgradeStatusReply(
            targetName: configuration.targetName, phase: phase, epoch: upgrade.epoch,
            instance: instance, versions: configuration.versions,
            lastTransno: Transno(rawValue: nextTransno - 1),
            lastCommitted: store.map { Transno(rawValue: $0.lastCommittedTransno) }
                ?? lastCommittedAtRelease,
            replayed: rpc.counters.replayed, resent: rpc.counters.resent,
            evictions: evictionCount,
            preparedNs: preparedAt.map { ($0 - upgradeAcceptedAt).nanoseconds } ?? 0,
            committedNs: committedAt.map { ($0 - upgradeAcceptedAt).nanoseconds } ?? 0,
            clients: entries.map(\.client),
            details: details(entries.map(\.detail), now: now))
    }

    private func details(_ clients: [UpgradeDetails.Client], now: Ticks) -> UpgradeDetails {
        var details = UpgradeDetails()
        if let order = upgrade.order, let left = upgrade.timeLeft(now: now) {
            details.isOrdered = true
            details.scheme = order.scheme
            details.cachePolicy = order.cachePolicy
            details.deadlinePolicy = order.deadlinePolicy
            details.readPolicy = order.readPolicy
            details.holds = order.holds
            details.isPreflushing = upgrade.isPreflushing
            details.pauseBudgetMs = order.pauseBudgetMs
            details.next = order.next
            details.deadlineLeftMs = left.deadlineMs
            details.expiryLeftMs = left.expiryMs
        }
        details.lastAbort = upgrade.lastAbort?.rawValue
        details.finalized = finalized
        details.storeFormat = Self.storeFormat
        details.clientCount = UInt32(clients.count)
        details.parkedConnects = UInt32(rpc.parkedConnectCount)
        details.uncommittedBytes = UInt64(store?.uncommittedBytes ?? 0)
        if let oldest = oldestUncommitted, now > oldest {
            details.commitLagNs = (now - oldest).nanoseconds
        }
        details.lastCommitNs = lastCommitTime.nanoseconds
        details.clients = clients
        return details
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
