import LDLMCore
import MetadataCore
public import Primitives
public import PtlRPCCore
import StorageCore
import UpgradeCore
public import WireFormat

/// What `sluice target show` and an exporter of metrics read, and what evictions and replays cost.
extension ServerNode {
    /// The target's account of itself, with a page of its clients from `show.firstClient` on.
    public func account(_ show: TargetShowRequest, now: Ticks) -> TargetShowReply {
        var clients: [TargetShowReply.Client] = []
        var next: UInt32 = 0
        var index = show.firstClient
        while index < rpc.exportIndexLimit {
            if let summary = rpc.summary(of: index) {
                guard clients.count < TargetShowReply.clientCountMax else {
                    next = index
                    break
                }
                clients.append(client(summary, now: now))
            }
            index += 1
        }
        var lockState = TargetShowReply.Locks()
        lockState.count = UInt64(locks.count)
        lockState.waiting = UInt64(locks.waitingCount)
        lockState.reserved = UInt64(locks.reservedCount)
        lockState.bytes = UInt64(locks.memoryByteCount.inUse)
        return TargetShowReply(
            targetName: configuration.targetName, kind: configuration.kind, phase: phase,
            stage: rpc.stage.shown, epoch: upgrade.epoch, instance: instance,
            versions: configuration.versions, features: configuration.features,
            lastTransno: Transno(rawValue: nextTransno - 1),
            lastCommitted: Transno(rawValue: store?.lastCommittedTransno ?? 0),
            servedNs: store == nil ? 0 : (now - activeSince).nanoseconds,
            recovery: rpc.recoveryProgress(now: now), locks: lockState,
            opens: UInt64(openCount), counters: countersForShow, clients: clients, next: next)
    }

    private func client(_ summary: ExportSummary, now: Ticks) -> TargetShowReply.Client {
        var flags: TargetShowReply.Flags = []
        if summary.isConnected { flags.insert(.connected) }
        if summary.isObserver { flags.insert(.observer) }
        if summary.isFenced { flags.insert(.fenced) }
        let status = upgrade.status(of: summary.index)
        if status?.isCountedOut == true { flags.insert(.countedOut) }
        return TargetShowReply.Client(
            uuid: summary.uuid, nid: summary.nid, version: summary.version,
            standing: summary.standing, flags: flags, admission: status?.admission ?? .none,
            lastXID: summary.lastXID, requests: UInt32(clamping: summary.requestCount),
            locks: UInt32(clamping: locks.count(of: owner(summary.index))),
            opens: UInt32(clamping: openHandleCount(of: summary.index)),
            replayed: summary.replay.executed, replaysFailed: summary.replay.failed,
            grant: space.granted(to: summary.index),
            silentNs: summary.lastHeard == .zero ? 0 : (now - summary.lastHeard).nanoseconds)
    }

    private func openHandleCount(of export: UInt32) -> Int {
        guard case .metadata(let metadata) = service else { return 0 }
        return metadata.openHandles(of: export).count
    }

    private var countersForShow: [UInt64] {
        TargetCounter.allCases.map { value(of: $0) }
    }

    /// What has been counted since this instance began.
    public func value(of counter: TargetCounter) -> UInt64 {
        let rpc = rpc.counters
        let locks = locks.counters
        return switch counter {
        case .requests: rpc.requests
        case .replies: rpc.replies
        case .connects: rpc.connects
        case .connectsRefused: rpc.connectsRefused
        case .malformed: rpc.malformed
        case .notConnected: rpc.notConnected
        case .foreignHandles: rpc.foreignHandles
        case .obsolete: rpc.obsolete
        case .duplicates: rpc.duplicates
        case .refused: rpc.refused
        case .violations: rpc.violations
        case .unexpectedReplays: rpc.unexpectedReplays
        case .replayed: rpc.replayed
        case .replayedFromRecord: rpc.replayedFromRecord
        case .replaysFailed: rpc.replaysFailed
        case .versionMismatches: versionMismatchCount
        case .resent: rpc.resent
        case .evictions: evictionCount
        case .earlyReplies: rpc.earlyReplies
        case .batches: rpc.batches
        case .bulkFetched: rpc.bulkFetched
        case .bulkSent: rpc.bulkSent
        case .bulkAborted: rpc.bulkAborted
        case .callbacks: rpc.callbacks
        case .callbacksResent: rpc.callbacksResent
        case .callbacksFailed: rpc.callbacksFailed
        case .lockEnqueues: locks.enqueues
        case .lockGrants: locks.granted
        case .lockCancels: locks.cancels
        case .lockConverts: locks.converts
        case .lockRefusals: locks.refused
        case .unknownLockCookies: locks.unknownCancels
        case .foreignLockCookies: locks.foreignCancels
        case .lockFaults: lockFaultCount
        case .blockingASTs: locks.blockingASTs
        case .completionASTs: locks.completionASTs
        case .glimpseASTs: locks.glimpseASTs
        case .lockTimeouts: locks.expired
        case .locksReplayed: locks.replayed
        case .commits: commitCount
        case .commitFailures: commitFailureCount
        case .damages: damageCount
        case .diskRefusals: diskRefusalCount
        }
    }

    /// How often each kind of request was answered, and how long that took.
    public var requestStatistics: RequestStatistics { rpc.statistics }

    // MARK: Explained in one line

    /// What goes with the export of an evicted client, before it is gone.
    mutating func loss(of export: UInt32) -> EvictionLoss {
        var loss = EvictionLoss()
        if let losing, losing.index == export {
            loss.nid = losing.nid
            loss.requests = losing.requestCount
            loss.replayed = losing.replay.executed
        }
        losing = nil
        loss.locks = locks.count(of: owner(export))
        loss.opens = openHandleCount(of: export)
        return loss
    }

    mutating func noteFailedReplay(_ request: ServerRequest, _ reason: String) {
        log(
            .replayFailed(
                client: rpc.summary(of: request.export)?.uuid ?? "client \(request.export)",
                opcode: request.body.opcode.name, xid: request.xid.rawValue,
                transno: request.replayTransno.rawValue, reason: reason))
    }
}
