public import Primitives

import LNetCore
import PtlRPCCore
import StorageCore
import UpgradeCore
public import WireFormat

/// Updates on their way to disk, and what waits for them to arrive there.
extension ServerNode {
    /// Makes a transaction visible and due for the next group. An empty one does nothing.
    mutating func apply(_ transaction: inout Transaction, now: Ticks) {
        guard !transaction.isEmpty, store != nil else { return }
        if !hasCleanStart || !configuration.mutation.is(.keepsCleanRecord) {
            writeRun(into: &transaction)
        }
        store!.apply(transaction)
        if oldestUncommitted == nil { oldestUncommitted = now }
    }

    /// A crash before the first change of this instance would make the next one believe the record
    /// that this one started from. What would contradict it waits until the record is withdrawn
    /// on disk. True where `request` is put off.
    mutating func awaitsWithdrawal(_ request: ServerRequest, now: Ticks) -> Bool {
        guard hasCleanStart, !isRunCommitted,
            !configuration.mutation.is(.repliesBeforeWithdrawal)
        else { return false }
        var transaction = Transaction()
        writeRun(into: &transaction)
        apply(&transaction, now: now)
        afterOpenGroup.append(.request(request))
        wantsCommit = true
        return true
    }

    /// Hands the open group to the disk when it is time: at once where somebody waits, after the
    /// interval otherwise. One group is on its way at a time; the next grows meanwhile.
    mutating func takeGroup(now: Ticks) {
        guard let current = store, afterGroup.isEmpty else { return }
        guard current.hasOpenGroup else {
            // Nothing is left to write: what waited for it to be on disk has waited enough.
            let waiting = afterOpenGroup
            afterOpenGroup = []
            if !waiting.isEmpty {
                finish(waiting, now: now)
                pump(now: now)
            }
            return
        }
        let isDue =
            sites.fires(.commitAtOnce) || wantsCommit || isHurried
            || current.openGroupBytes >= configuration.uncommittedBytesMax
            || (oldestUncommitted.map { $0 + configuration.commitInterval <= now } ?? true)
        guard isDue else { return }
        var last = Transaction(transno: current.lastAppliedTransno)
        let row = transnoRow(nextTransno - 1)
        last.put(.meta, key: row.key, value: row.value)
        store!.apply(last)
        guard let group = store!.takeGroup() else { return }
        if hasWrittenRun, runGroup == nil { runGroup = group.id }
        afterGroup.append((group.id, afterOpenGroup))
        afterOpenGroup = []
        wantsCommit = false
        oldestUncommitted = nil
        groupTakenAt = now
        actions.append(.commit(group))
    }

    /// The group, and all before it, are on disk.
    public mutating func committed(_ group: UInt64, now: Ticks) {
        guard store != nil else { return }
        store!.committed(group)
        if !afterGroup.isEmpty { commitCount += 1 }
        if diskRefusal != nil {
            diskRefusal = nil
            log(.commitsAgain)
        }
        if let taken = groupTakenAt {
            lastCommitTime = now - taken
            commitTimes.add(lastCommitTime)
            groupTakenAt = nil
        }
        if let runGroup, runGroup <= group { isRunCommitted = true }
        rpc.lastCommitted = Transno(rawValue: store!.lastCommittedTransno)
        while let first = afterGroup.first, first.group <= group {
            afterGroup.removeFirst()
            finish(first.1, now: now)
        }
        nextHousekeeping = min(nextHousekeeping, now)
        pump(now: now)
        takeGroup(now: now)
    }

    /// The disk refuses: what was acknowledged stays in memory and with the clients, and new
    /// updates are refused with `status` until a commit succeeds.
    public mutating func commitFailed(
        _ reason: String, status: Status = .ioError, now: Ticks
    ) {
        diskRefusal = status
        commitFailureCount += 1
        log(.commitFailed(reason))
        let holdsRecord = (afterGroup.map(\.1) + [afterOpenGroup]).joined().contains {
            if case .record = $0 { true } else { false }
        }
        if holdsRecord { log(.fault("the clean record is not on disk yet")) }
    }

    private mutating func finish(_ waiting: [AfterCommit], now: Ticks) {
        for item in waiting {
            switch item {
            case .reply(let token, let status, let body, let transno, let preVersions):
                rpc.reply(
                    token, status: status, body: body, transno: transno,
                    preVersions: preVersions, lnet: &lnet, now: now)
            case .connect(let token, let export, var reply):
                // What was true when it came may not be now: a notice that went out meanwhile has
                // found no connection, and nobody would tell this client again.
                setAdmission(of: export, in: &reply, now: now)
                rpc.answerConnect(token, reply, lnet: &lnet, now: now)
            case .request(let request):
                if rpc.isCurrent(request.token) { execute(request, now: now) }
            case .backlog:
                feed(.backlogCommitted, now: now)
            case .record(let transno):
                feed(.recordCommitted(lastCommitted: transno), now: now)
            case .withdrawal:
                feed(.recordWithdrawn, now: now)
            case .order(let token, let answer):
                rpc.reply(
                    token, status: .ok, body: .upgradeAnswer(answer), lnet: &lnet, now: now)
            }
        }
    }
}
