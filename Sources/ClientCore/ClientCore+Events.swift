import LDLMCore
import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// What imports report: answers, callbacks, recovery.
extension ClientCore {
    mutating func handle(_ event: RPCClientEvent, lnet: inout LNetCore, now: Ticks) {
        switch event {
        case .reply(_, let target, _, _, _, _), .connected(let target, _),
            .callback(let target?, _, _):
            targets[target].heardAt = now
        default:
            break
        }
        switch event {
        case .reply(let cookie, let target, let status, let body, let xid, let transno):
            if transno != .zero, !status.isError { acknowledged(target, xid, now: now) }
            reply(
                to: cookie, target: target, status: status, body: body, transno: transno,
                isReplay: false, lnet: &lnet, now: now)
        case .failed(let cookie, let target, let status, _):
            reply(
                to: cookie, target: target, status: status, body: .empty, transno: .zero,
                isReplay: false, lnet: &lnet, now: now)
        case .replayFailed(let target, let opcode, let status, let xid, let transno):
            events.append(
                .updateLost(
                    target: target, opcode, xid: xid, transno: transno, status))
        case .replayReply(let target, let cookie, let status, let body, _, _):
            reply(
                to: cookie, target: target, status: status, body: body, transno: .zero,
                isReplay: true, lnet: &lnet, now: now)
        case .callback(let target, let token, let body):
            callback(target, token, body, lnet: &lnet, now: now)
        case .connected(let target, let reply):
            targets[target].admissionCookie = reply.admissionLock
            targets[target].lastCommittedAtConnect = reply.lastCommitted
            targets[target].isClean = reply.mode == .cleanRecord
            targets[target].grant.connected(
                isOn: reply.features.contains(.grants)
                    && configuration.targets[target].kind == .oss,
                granted: UInt64(reply.connectData.grant))
            if reply.epoch > targets[target].epoch { targets[target].epoch = reply.epoch }
            if targets[target].expectsGateOpening {
                stamp(target, .reconnected, now: now)
            }
            events.append(
                .connected(target: target, reply.version, instance: reply.instance))
            if targets[target].isIdle {
                targets[target].isIdle = false
                upgrade(target, .disconnected, lnet: &lnet, now: now)
            }
            upgrade(target, .connected(reply), lnet: &lnet, now: now)
        case .needOpenReplays(let target):
            forgetReplays(target)
            rpc.replayOpens(target, openReplays(target), lnet: &lnet, now: now)
        case .needLockReplays(let target):
            rpc.replayLocks(target, lockReplays(target), lnet: &lnet, now: now)
        case .full(let target):
            forgetReplays(target)
            upgrade(target, .recovered, lnet: &lnet, now: now)
        case .disconnected(let target, .idle):
            targets[target].isIdle = true
            targets[target].grant.forgotten()
            rpc.setGrantClaim(target, 0)
            events.append(.disconnected(target: target))
            // What was announced while it left is no longer its own: who waits at the gate connects.
            upgrade(target, .left, lnet: &lnet, now: now)
        case .disconnected(let target, _):
            if targets[target].expectsGateOpening { stamp(target, .disconnected, now: now) }
            rpc.setGrantClaim(
                target, UInt32(clamping: targets[target].grant.granted))
            events.append(.disconnected(target: target))
            upgrade(target, .disconnected, lnet: &lnet, now: now)
        case .evicted(let target):
            evicted(target)
        case .trailer(let target, let trailer):
            upgrade(target, .trailer(trailer), lnet: &lnet, now: now)
        case .committed:
            break
        case .refused(let target, let status):
            events.append(.refused(target: target, status))
        }
    }

    private mutating func acknowledged(_ target: Int, _ xid: XID, now: Ticks) {
        if configuration.reportsUpdates { events.append(.acknowledged(target: target, xid: xid)) }
        if targets[target].expectsAcknowledgement, targets[target].upgrade.isGateOpen {
            targets[target].expectsAcknowledgement = false
            stamp(target, .firstUpdateAcknowledged, now: now)
        }
    }

    private mutating func reply(
        to cookie: UInt64, target: Int, status: Status, body: ReplyBody, transno: Transno,
        isReplay: Bool, lnet: inout LNetCore, now: Ticks
    ) {
        guard let purpose = pendingCalls.remove(SlotHandle(rawValue: cookie)) else { return }
        switch purpose {
        case .metadata(let handle):
            metadataReply(
                handle, status: status, body: body, transno: transno, lnet: &lnet, now: now)
        case .raw(let handle):
            if status.isError {
                fail(handle, status)
            } else {
                finish(handle, .success(.reply(body)))
            }
        case .read(let handle, let piece, let changeCount):
            readReply(
                handle, piece: piece, changeCount: changeCount, status: status, body: body,
                now: now)
        case .readAhead(let place, let offset):
            readAheadReply(place, offset: offset, status: status, body: body)
        case .writeThrough(let handle, let piece):
            writeThroughReply(
                handle, piece: piece, status: status, body: body, lnet: &lnet, now: now)
        case .statfs(let handle):
            statfsReply(handle, status: status, body: body, now: now)
        case .sync(let handle):
            syncReply(handle, status: status, now: now)
        case .punch(let handle):
            punchReply(handle, status: status, now: now)
        case .write(let place, let byteCount):
            writeReply(
                place, byteCount: byteCount, status: status, body: body, lnet: &lnet, now: now)
        case .enqueue(let target, let lock):
            enqueueReply(
                target: target, lock: lock, status: status, body: body, isReplay: false,
                lnet: &lnet, now: now)
        case .lockReplay(let target, let lock):
            enqueueReply(
                target: target, lock: lock, status: status, body: body, isReplay: true,
                lnet: &lnet, now: now)
        case .openReplay(let handle):
            if status.isError { openFiles.update(handle) { $0.isStale = true } }
        case .convert(let target, let lock):
            targets[target].locks.convertReply(lock, isDone: !status.isError)
        case .recordLock(let handle):
            recordLockReply(handle, status: status, body: body, lnet: &lnet, now: now)
        case .recordReplay(let record):
            recordReplayed(record, status: status)
        case .recordRestored(let record):
            // Told to come again it keeps the stronger lock that it has by now.
            if !status.isLater { recordReplayed(record, status: status) }
        case .recordCancel(let record):
            if status != .ok { restoreRecords(around: record, lnet: &lnet, now: now) }
        case .receipt(let target, let epoch):
            guard !status.isError, case .enqueue(let reply) = body else { return }
            targets[target].admissionCookie = reply.reply.serverCookie
            upgrade(target, .receiptDelivered(epoch), lnet: &lnet, now: now)
        case .none:
            break
        }
    }

    /// A server asks something of this client.
    private mutating func callback(
        _ target: Int?, _ token: CallbackToken, _ body: RequestBody, lnet: inout LNetCore,
        now: Ticks
    ) {
        switch (target, body) {
        case (let target?, .blockingAST(let ast)):
            if ast.request.descriptor.resource.id.isAdmission {
                guard let notice = ast.notice else { break }
                targets[target].admissionCookie = ast.request.handle1
                noticed(target, notice, token: token, lnet: &lnet, now: now)
                return
            }
            if targets[target].locks.giveUpExpected(SlotHandle(rawValue: ast.request.handle0)) {
                // It overtook the answer that brings the lock: that will find no place for it.
                rpc.answer(token, status: .invalid, body: .empty, lnet: &lnet, now: now)
                return
            }
            let lock = SlotHandle(rawValue: ast.request.handle0)
            if targets[target].locks.info(lock)?.state == .enqueuing {
                // It overtook the answer to the enqueue, or that is lost. The lock cannot be given
                // back before it is there.
                let calls = pendingCalls
                rpc.expectSoon(target, now: now) { cookie in
                    if case .enqueue(target, lock)? = calls[SlotHandle(rawValue: cookie)] {
                        true
                    } else {
                        false
                    }
                }
            }
            let result = targets[target].locks.blockingAST(
                clientCookie: ast.request.handle0, wanted: ast.request.descriptor)
            rpc.answer(
                token, status: result == .unknown ? .invalid : .ok, body: .empty, lnet: &lnet,
                now: now)
            return
        case (let target?, .glimpseAST(let ast)):
            let (status, block) = glimpsed(target, ast)
            rpc.answer(
                token, status: status, body: block.map { .valueBlock($0) } ?? .empty, lnet: &lnet,
                now: now)
            return
        case (let target?, .completionAST(let ast))
        where ast.request.descriptor.resource.type == .flock:
            let status = recordLockCompleted(target, ast, now: now)
            rpc.answer(token, status: status, body: .empty, lnet: &lnet, now: now)
            return
        case (let target?, .completionAST(let ast)):
            var status = Status.ok
            if ast.request.descriptor.resource.id.isAdmission {
                if let notice = ast.commitNotice {
                    stamp(target, .committed, now: now)
                    upgrade(target, .commitNotice(notice), lnet: &lnet, now: now)
                } else {
                    targets[target].admissionCookie = ast.request.handle1
                    upgrade(
                        target, .granted(ast.grantEpoch ?? targets[target].epoch), lnet: &lnet,
                        now: now)
                }
            } else {
                let lock = SlotHandle(rawValue: ast.request.handle0)
                let descriptor = ast.request.descriptor
                let wasHeld = targets[target].locks.info(lock)?.isHeld ?? true
                if let error = ast.valueBlock.error, !wasHeld {
                    // Nobody can use the lock: the answer gives it back.
                    targets[target].locks.enqueueFailed(lock, error: error.rawValue)
                    rpc.answer(token, status: .invalid, body: .empty, lnet: &lnet, now: now)
                    return
                }
                let result = targets[target].locks.completionAST(
                    clientCookie: ast.request.handle0, serverCookie: ast.request.handle1,
                    mode: descriptor.grantedMode ?? descriptor.requestedMode ?? .nl,
                    policy: descriptor.policy, flags: ast.request.flags)
                switch result {
                case .refused:
                    targets[target].locks.enqueueFailed(
                        lock, error: Status.protocolError.rawValue)
                case .unknown:
                    // An enqueue that was sent again made it anew after it was given back.
                    status = .invalid
                case .applied:
                    if !wasHeld {
                        granted(target: target, lock: lock, valueBlock: ast.valueBlock)
                    }
                }
            }
            rpc.answer(token, status: status, body: .empty, lnet: &lnet, now: now)
            return
        case (_, .targetUp(let up)):
            rpc.answer(token, status: .ok, body: .empty, lnet: &lnet, now: now)
            for (index, known) in configuration.targets.enumerated()
            where known.name == up.targetName && known.nids.contains(up.nid) {
                rpc.targetUp(
                    index, nid: up.nid, instance: up.instance, lnet: &lnet, now: now)
            }
            return
        default:
            break
        }
        rpc.answer(token, status: .notSupported, body: .empty, lnet: &lnet, now: now)
    }

    // MARK: Recovery

    /// The opens that are told from state: all after a clean stop, the committed ones after a crash
    /// (the others are replayed in their place among the transactions).
    private mutating func openReplays(_ target: Int) -> [(RequestBody, UInt64)] {
        guard target == metadataTarget else { return [] }
        var replays: [(RequestBody, UInt64)] = []
        for handle in openFiles.handles {
            guard let file = openFiles[handle], !file.isStale,
                targets[target].isClean || file.transno <= targets[target].lastCommittedAtConnect
            else { continue }
            let cookie = pendingCalls.insert(.openReplay(handle: handle)).rawValue
            replays.append(
                (
                    .openReplay(
                        OpenReplayRequest(
                            file: file.file, handle: file.serverHandle, flags: file.flags)),
                    cookie
                ))
        }
        return replays
    }

    /// The recovery is over, or given up for another: what it was asking has no answer to come.
    private mutating func forgetReplays(_ target: Int) {
        for handle in pendingCalls.handles {
            switch pendingCalls[handle] {
            case .openReplay? where target == metadataTarget,
                .recordReplay? where target == metadataTarget:
                pendingCalls.remove(handle)
            case .lockReplay(let named, _)? where named == target:
                pendingCalls.remove(handle)
            default:
                break
            }
        }
    }

    private mutating func lockReplays(_ target: Int) -> [(RequestBody, UInt64)] {
        if !targets[target].isClean {
            // A target that has crashed has forgotten them, and nobody uses them: they need not be
            // told. After a clean stop they are reserved, and what is cached under them stays.
            let unused = targets[target].locks.unusedLocks.filter {
                isClean(under: $0, target: target)
            }
            targets[target].locks.dropBeforeReplay(unused)
        }
        var replays = targets[target].locks.replayList().map { replay -> (RequestBody, UInt64) in
            let request = LDLMRequest.replay(
                cookie: replay.lock.rawValue, descriptor: replay.descriptor)
            let cookie = pendingCalls.insert(.lockReplay(target: target, lock: replay.lock))
            return (.enqueue(EnqueueRequest(request: request)), cookie.rawValue)
        }
        if target == metadataTarget { replays += recordReplays() }
        return replays
    }

    private mutating func evicted(_ target: Int) {
        targets[target].grant.forgotten()
        targets[target].locks.invalidateAll(error: Status.stale.rawValue)
        if target == metadataTarget {
            for handle in openFiles.handles { openFiles.update(handle) { $0.isStale = true } }
            loseRecordLocks()
        }
        events.append(.evicted(target: target))
    }
}
