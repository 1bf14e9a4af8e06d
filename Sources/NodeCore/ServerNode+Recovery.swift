import ClientCore
import MetadataCore
public import Primitives
import PtlRPCCore
import StorageCore
import WireFormat

/// What recovery asks of the services: versions, an early end, and tidying up in parts.
extension ServerNode {
    /// What an update finds; nothing at an object server, whose data has no versions.
    func versions(before request: ServerRequest) -> PreVersions {
        guard let store, case .metadata(let metadata) = service else { return PreVersions() }
        return metadata.versions(before: request.body, in: store)
    }

    /// False for a replay that finds other versions than its first execution did, or says so
    /// falsely: it is refused, and nothing is changed.
    func isReplayable(_ request: ServerRequest, _ found: PreVersions) -> Bool {
        !request.isReplay
            || MetadataService.isReplayable(told: request.preVersions, found: found)
    }

    /// An administrator ends the recovery.
    mutating func abortRecovery(_ request: ServerRequest, now: Ticks) {
        guard isRecovering else {
            rpc.reply(request.token, status: .already, lnet: &lnet, now: now)
            return
        }
        log(.recoveryAborted)
        rpc.reply(request.token, status: .ok, lnet: &lnet, now: now)
        rpc.abortRecovery(lnet: &lnet, now: now)
    }

    /// The same without a client's request.
    public mutating func abortRecovery(now: Ticks) {
        guard isRecovering else { return }
        log(.recoveryAborted)
        rpc.abortRecovery(lnet: &lnet, now: now)
        pump(now: now)
        takeGroup(now: now)
    }

    // MARK: In parts

    /// Opens or files without a name that one transaction ends.
    private static let partCount = 256

    var hasToTidyUp: Bool { !isSealed && !isStopped && (!closing.isEmpty || orphanKey != nil) }

    /// A part of what is left of clients that are gone, and of files that nobody needs: no
    /// transaction grows with how much a client had.
    mutating func tidyUp(now: Ticks) {
        guard hasToTidyUp, let store, case .metadata(var metadata) = service else { return }
        var transaction: Transaction
        if closing.isEmpty {
            let part = metadata.removeOrphans(
                from: orphanKey ?? [], countMax: Self.partCount, in: store)
            transaction = part.transaction
            orphanKey = part.next
        } else {
            let part = closing.suffix(Self.partCount)
            closing.removeLast(part.count)
            transaction = metadata.end(part, in: store)
        }
        service = .metadata(metadata)
        apply(&transaction, now: now)
    }

    /// Before the clean record says what is open.
    mutating func tidyUpAll(now: Ticks) {
        guard case .metadata(var metadata) = service else { return }
        while !closing.isEmpty, let store {
            let part = closing.suffix(Self.partCount)
            closing.removeLast(part.count)
            var transaction = metadata.end(part, in: store)
            apply(&transaction, now: now)
        }
        service = .metadata(metadata)
    }

    /// The point of no return: object servers need not wait for this instance any more, also where
    /// they are being stopped in the same moment.
    mutating func leaveObjectServers(now: Ticks) {
        withClient { $0.leave(lnet: &$1, now: now) }
    }
}
