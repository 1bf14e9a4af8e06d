import MetadataCore
import LDLMCore
import LNetCore
import ObjectCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// Locks of clients: enqueue, cancel, replay, and the callbacks that the lock server wants.
extension ServerNode {
    mutating func enqueue(_ request: ServerRequest, _ body: EnqueueRequest, now: Ticks) {
        let enqueue = body.request
        let resource = enqueue.descriptor.resource.id
        if resource.isAdmission {
            return receiveReceipt(request, body, now: now)
        }
        guard !isSealed else { return leaveForNext(request) }
        let mode = enqueue.descriptor.requestedMode ?? enqueue.descriptor.grantedMode
        guard let mode else { return answerEnqueue(request, .invalid, nil, now: now) }
        // A lock that the record names may be claimed under it; no other may be granted.
        let isClaim = enqueue.flags.contains(.replay) && enqueue.flags.contains(.blockGranted)
        if !isClaim, awaitsWithdrawal(request, now: now) { return }
        let result: EnqueueResult
        if enqueue.flags.contains(.replay) {
            result = locks.enqueueReplay(
                owner: owner(request.export), resource: resource, mode: mode,
                policy: enqueue.descriptor.policy, clientCookie: enqueue.handle0,
                isGranted: enqueue.flags.contains(.blockGranted), now: now)
        } else {
            enqueue.forEachEarlyCancel { cookie in
                _ = locks.cancel(
                    SlotHandle(rawValue: cookie), owner: owner(request.export), now: now)
            }
            result = locks.enqueue(
                owner: owner(request.export), resource: resource, mode: mode,
                policy: enqueue.descriptor.policy, clientCookie: enqueue.handle0,
                flags: enqueue.flags, now: now)
        }
        switch result.outcome {
        case .granted, .waiting:
            answerEnqueue(request, .ok, result, now: now)
        case .wouldBlock, .tested:
            answerEnqueue(request, .busy, nil, now: now)
        case .sealed:
            leaveForNext(request)
        case .refused(let refusal):
            let status: Status
            switch refusal {
            case .full: status = .inProgress
            case .badPolicy: status = .invalid
            case .badFlags: status = .protocolError
            case .contended: status = .contended
            case .deadlock: status = .deadlock
            case .cookieReused, .notReserved, .conflictingReplay: status = .stale
            }
            answerEnqueue(request, status, nil, now: now)
        }
    }

    private mutating func answerEnqueue(
        _ request: ServerRequest, _ status: Status, _ result: EnqueueResult?, now: Ticks
    ) {
        var body = ReplyBody.empty
        if let result, let info = locks.info(result.lock) {
            let isGranted = result.outcome == .granted
            let descriptor = LockDescriptor(
                resource: info.resource, requestedMode: info.mode,
                grantedMode: isGranted ? result.mode : nil,
                policy: result.policy)
            body = .enqueue(
                EnqueueReply(
                    reply: LDLMReply(
                        flags: result.flags, descriptor: descriptor,
                        serverCookie: result.lock.rawValue),
                    valueBlock: valueBlock(of: info.resource)))
        }
        rpc.reply(
            request.token, status: status, body: body,
            trailer: upgrade.trailer(for: request.export),
            lnet: &lnet, now: now)
    }

    mutating func cancel(_ request: ServerRequest, _ cancel: LDLMRequest, now: Ticks) {
        guard !isSealed else { return leaveForNext(request) }
        var found = 0
        cancel.forEachCancel { cookie in
            let result = locks.cancel(
                SlotHandle(rawValue: cookie), owner: owner(request.export), now: now)
            if case .done = result { found += 1 }
        }
        rpc.reply(
            request.token, status: .ok, trailer: upgrade.trailer(for: request.export),
            lnet: &lnet, now: now)
    }

    /// Size and time of an object, as the lock on it lets its holder know them.
    private func valueBlock(of resource: ResourceID) -> OSTLVB {
        var block = OSTLVB()
        if case .object(let object) = service, let store,
            let attributes = object.attributes(of: resource.objectName, in: store)
        {
            block.size = attributes.size
            block.mtime = attributes.modified.seconds
            block.mtimeNanoseconds = attributes.modified.nanoseconds
        }
        return block
    }

    mutating func run(_ action: LockAction, now: Ticks) {
        switch action {
        case .blockingAST(let lock, let owner, let clientCookie, let wanted):
            if wanted.resource.id.isAdmission {
                sendNotice(to: owner.index, now: now)
            } else {
                let request = LDLMRequest.callback(
                    clientCookie: clientCookie, serverCookie: lock.rawValue, flags: [],
                    descriptor: wanted)
                let pending = pendingCallbacks.insert(.blocking(lock: lock))
                rpc.callback(
                    owner.index, .blockingAST(BlockingAST(request: request)),
                    cookie: pending.rawValue, lnet: &lnet, now: now)
            }
        case .completionAST(let lock, let owner, let clientCookie, let granted, let flags):
            guard !granted.resource.id.isAdmission else { return }
            let request = LDLMRequest.callback(
                clientCookie: clientCookie, serverCookie: lock.rawValue, flags: flags,
                descriptor: granted)
            let pending = pendingCallbacks.insert(.completion(lock: lock))
            rpc.callback(
                owner.index,
                .completionAST(
                    CompletionAST(
                        request: request, valueBlock: valueBlock(of: granted.resource.id))),
                cookie: pending.rawValue, lnet: &lnet, now: now)
        case .callbackExpired(_, let owner):
            let seconds = Int(configuration.callbackTimeout.inSeconds)
            rpc.evict(
                owner.index, .owner("kept a lock for \(seconds) s after it was called back"),
                lnet: &lnet, now: now)
        case .reservationExpired(let owner, let lock):
            let uuid = rpc.summary(of: owner.index)?.uuid ?? "client \(owner.index)"
            log(.upgrade("\(uuid) has not come back: its lock on \(lock.resource.id) is gone"))
        case .granted(let lock):
            if lock == exclusiveLock {
                feed(.exclusiveGranted, now: now)
            } else {
                resumeParked(lock, now: now)
            }
        }
    }

    /// The client has replayed what it had: what it did not claim goes to others.
    mutating func finishClientReplay(_ export: UInt32, now: Ticks) {
        guard let place = reservedExports.firstIndex(of: export), let store else { return }
        reservedExports.remove(at: place)
        locks.releaseUnclaimed(owner(export), now: now)
        if case .metadata(var metadata) = service {
            var transaction = metadata.dropReservations(of: export, in: store)
            service = .metadata(metadata)
            apply(&transaction, now: now)
        }
    }

    /// Locks of clients that have not come back in the time that a callback would get are given to
    /// others. Their opens stay, and so do their records.
    mutating func releaseLateReservations(now: Ticks) {
        guard let deadline = reservationDeadline, deadline <= now else { return }
        reservationDeadline = nil
        for export in reservedExports { locks.releaseUnclaimed(owner(export), now: now) }
    }

    mutating func callbackReply(
        _ cookie: UInt64, export: UInt32, status: Status, body: ReplyBody, now: Ticks
    ) {
        guard let pending = pendingCallbacks.remove(SlotHandle(rawValue: cookie)) else { return }
        switch pending {
        case .notice(let epoch):
            guard !status.isError else { return }
            feed(.noticeDelivered(client: export, epoch), now: now)
            if case .receipt(let receipt) = body {
                feed(.receipt(client: export, receipt), now: now)
            }
        case .preflush(let epoch):
            if !status.isError { feed(.noticeDelivered(client: export, epoch), now: now) }
        case .blocking(let lock), .completion(let lock):
            // The client does not have the lock (any more): then nobody has.
            if status == .invalid { _ = locks.cancel(lock, owner: owner(export), now: now) }
        case .admissionGrant:
            break
        case .commitNotice(let epoch):
            if !status.isError {
                feed(.commitNoticeDelivered(client: export, epoch), now: now)
            }
        }
    }
}
