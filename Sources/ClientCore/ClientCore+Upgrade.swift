import LDLMCore
import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// The hands of the upgrade machine: what its actions do to operations, cache and import.
extension ClientCore {
    mutating func upgrade(
        _ target: Int, _ input: UpgradeClient.Input, lnet: inout LNetCore, now: Ticks
    ) {
        do {
            try targets[target].upgrade.step(input, now: now, into: &upgradeActions)
        } catch {
            preconditionFailure("\(error)")
        }
        while let action = upgradeActions.popFirst() {
            run(action, target: target, lnet: &lnet, now: now)
        }
    }

    mutating func noticed(
        _ target: Int, _ notice: UpgradeNotice, token: CallbackToken, lnet: inout LNetCore,
        now: Ticks
    ) {
        let ast = pendingASTs.insert(token).rawValue
        if notice.epoch > targets[target].epoch { targets[target].epoch = notice.epoch }
        let isIdle =
            isDrained(target)
            && (notice.cachePolicy == .keep || isFlushed(target, notice.cachePolicy))
        upgrade(target, .notice(notice, ast: ast, isIdle: isIdle), lnet: &lnet, now: now)
    }

    mutating func stamp(_ target: Int, _ stamp: UpgradeStamp, now: Ticks) {
        events.append(.stamp(target: target, stamp, targets[target].epoch, at: now))
    }

    private mutating func run(
        _ action: UpgradeClient.Action, target: Int, lnet: inout LNetCore, now: Ticks
    ) {
        switch action {
        case .shutGate:
            targets[target].epoch = max(targets[target].epoch, targets[target].upgrade.newestEpoch)
            targets[target].expectsWait = true
            targets[target].expectsAcknowledgement = false
            targets[target].expectsGateOpening = true
            targets[target].flushedBytes = 0
            releaseWaiting(for: target)
            stamp(target, .gateShut, now: now)
        case .openGate:
            targets[target].drainEpoch = nil
            targets[target].flushEpoch = nil
            targets[target].flushPolicy = nil
            // It was given up, or is over: nothing comes up where a connect may be waiting.
            rpc.forgetPreconnect(target)
            if targets[target].expectsGateOpening {
                targets[target].expectsGateOpening = false
                targets[target].expectsWait = false
                stamp(target, .gateOpened, now: now)
            }
            openGate(lnet: &lnet, now: now)
        case .drain(let epoch):
            targets[target].drainEpoch = epoch
        case .flush(let epoch, let policy):
            targets[target].flushEpoch = epoch
            targets[target].flushPolicy = policy
            startUpgradeFlush(target, lnet: &lnet, now: now)
        case .giveReceipt(let epoch, let ast):
            giveReceipt(target, epoch, ast: ast, lnet: &lnet, now: now)
        case .answerAST(let ast):
            guard let token = pendingASTs.remove(SlotHandle(rawValue: ast)) else { return }
            rpc.answer(token, status: .ok, body: .empty, lnet: &lnet, now: now)
        case .sendProgress(let epoch):
            call(target, .upgradeProgress(epoch), for: .none, lnet: &lnet, now: now)
        case .purgeSaved(let transno):
            rpc.purgeCommitted(target, upTo: transno)
        case .preconnect(let nid):
            guard configuration.targets[target].nids.contains(nid) else { return }
            rpc.preconnect(target, to: nid, lnet: &lnet, now: now)
        case .reconnect(let nid):
            rpc.targetUp(
                target, nid: nid, instance: targets[target].upgrade.targetInstance + 1,
                lnet: &lnet, now: now)
        }
    }

    private mutating func giveReceipt(
        _ target: Int, _ epoch: UpgradeEpoch, ast: UInt64?, lnet: inout LNetCore, now: Ticks
    ) {
        let summary = rpc.summary(target)
        let receipt = UpgradeReceipt(
            epoch: epoch, lastXID: summary.highestXID, lastTransno: summary.highestTransno,
            openCount: target == metadataTarget ? UInt32(openFiles.count) : 0,
            flushedBytes: targets[target].flushedBytes)
        targets[target].drainEpoch = nil
        targets[target].flushEpoch = nil
        targets[target].flushPolicy = nil
        stamp(target, .receiptGiven, now: now)
        if let ast, let token = pendingASTs.remove(SlotHandle(rawValue: ast)) {
            rpc.answer(token, status: .ok, body: .receipt(receipt), lnet: &lnet, now: now)
            return
        }
        targets[target].admissionGeneration += 1
        let index = UInt64(configuration.targets[target].index)
        let request = LDLMRequest.enqueue(
            cookie: targets[target].admissionGeneration, flags: [],
            descriptor: LockDescriptor(
                resource: .admission(index),
                requestedMode: .cr, grantedMode: nil, policy: .plain),
            cancelling: [targets[target].admissionCookie])
        call(
            target, .enqueue(EnqueueRequest(request: request, receipt: receipt)),
            for: .receipt(target: target, epoch), lnet: &lnet, now: now)
    }

    /// No operation that passed this target's gate runs, no request is in flight, and every lock
    /// that was called back has gone.
    func isDrained(_ target: Int) -> Bool {
        guard targets[target].running == 0, targets[target].locks.calledBackCount == 0 else {
            return false
        }
        let summary = rpc.summary(target)
        return summary.sentCount == 0 && summary.queuedCount == 0
    }

    /// What the shutdown needs may go out: the receipt is not given yet.
    func mayStillSend(_ target: Int) -> Bool {
        switch targets[target].upgrade.state {
        case .open, .closing: true
        case .prepared: configuration.mutation.is(.writeBackPassesReceipt)
        case .disconnected, .connecting, .replaying, .committed: false
        }
    }

    /// Nothing is dirty or being written back; with `clean`, no unused lock is left either.
    private func isFlushed(_ target: Int, _ policy: CachePolicy) -> Bool {
        if dirtyByteCount > 0 || writingObjectCount > 0 {
            for place in 0..<objects.slotCount {
                guard let handle = objects.handle(at: place), let object = objects[handle],
                    object.target == target
                else { continue }
                if !object.cache.isClean || object.writesInFlight > 0 { return false }
            }
        }
        return policy != .clean || targets[target].locks.unusedCount == 0
    }

    private mutating func startUpgradeFlush(
        _ target: Int, lnet: inout LNetCore, now: Ticks
    ) {
        for place in 0..<objects.slotCount {
            guard let handle = objects.handle(at: place), objects[handle]?.target == target
            else { continue }
            writeBack(handle, lnet: &lnet, now: now)
        }
        if targets[target].flushPolicy == .clean {
            targets[target].locks.cancelUnused(keeping: 0)
        }
    }

    /// Tells the upgrade machines what has come true. True where that led to something new.
    mutating func settleUpgrades(lnet: inout LNetCore, now: Ticks) -> Bool {
        var hasSettled = false
        for target in targets.indices {
            if let epoch = targets[target].flushEpoch,
                let policy = targets[target].flushPolicy
            {
                if isFlushed(target, policy) {
                    if targets[target].drainEpoch == nil || targets[target].running == 0 {
                        targets[target].flushEpoch = nil
                        hasSettled = true
                        upgrade(
                            target, .flushed(epoch, bytes: targets[target].flushedBytes),
                            lnet: &lnet, now: now)
                    }
                } else {
                    startUpgradeFlush(target, lnet: &lnet, now: now)
                }
            }
            if let epoch = targets[target].drainEpoch, isDrained(target) {
                targets[target].drainEpoch = nil
                hasSettled = true
                upgrade(target, .operationsDrained(epoch), lnet: &lnet, now: now)
            }
        }
        return hasSettled
    }
}
