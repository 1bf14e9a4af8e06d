public import LDLMCore
import LNetCore
import ObjectCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// A size that was asked for while others may be writing.
struct Glimpse {
    var request: ServerRequest
    var result: EnqueueResult
    /// The greatest of what the store and those who answered know.
    var valueBlock: OSTLVB
    var outstanding: Int
    /// A holder did not answer as it must: the size may be another.
    var isIncomplete = false
}

/// What the lock server wants of clients, and what becomes of it.
extension ServerNode {
    /// What the lock server did and refused.
    public var lockCounters: LockServerCounters { locks.counters }
    /// Requests about locks that no honest client sends: others' cookies, forbidden flags.
    public var lockFaults: UInt64 { lockFaultCount }

    mutating func tickLocks(now: Ticks) {
        locks.tick(now: now)
        rpc.lockLimit = UInt32(clamping: locks.pool.limit)
        rpc.serverLockVolume = locks.pool.serverLockVolume
        if !callbacksToRepeat.isEmpty, !locks.isSuspended, !isSealed {
            let again = callbacksToRepeat
            callbacksToRepeat = []
            for (export, pending) in again { send(pending, to: export, now: now) }
        }
    }

    mutating func run(_ action: LockAction, now: Ticks) {
        switch action {
        case .blockingAST(let lock, let owner, let cookie, let wanted):
            if wanted.resource.id.isAdmission {
                sendNotice(to: owner.index, now: now)
            } else {
                sendBlocking(lock, cookie, wanted, to: owner.index, now: now)
            }
        case .completionAST(let lock, let owner, let cookie, let granted, let flags):
            guard !granted.resource.id.isAdmission else { return }
            sendCompletion(lock, cookie, granted, flags, to: owner.index, now: now)
        case .callbackExpired(let lock, let owner):
            expired(lock, of: owner.index, now: now)
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

    private mutating func sendBlocking(
        _ lock: SlotHandle, _ clientCookie: UInt64, _ wanted: LockDescriptor, to export: UInt32,
        now: Ticks
    ) {
        let request = LDLMRequest.callback(
            clientCookie: clientCookie, serverCookie: lock.rawValue, flags: [],
            descriptor: wanted)
        let pending = pendingCallbacks.insert(.blocking(lock: lock, wanted: wanted))
        rpc.callback(
            export, .blockingAST(BlockingAST(request: request)), cookie: pending.rawValue,
            lnet: &lnet, now: now)
    }

    private mutating func sendCompletion(
        _ lock: SlotHandle, _ clientCookie: UInt64, _ granted: LockDescriptor, _ flags: LockFlags,
        to export: UInt32, now: Ticks
    ) {
        let request = LDLMRequest.callback(
            clientCookie: clientCookie, serverCookie: lock.rawValue, flags: flags,
            descriptor: granted)
        let pending = pendingCallbacks.insert(.completion(lock: lock, granted: granted, flags))
        rpc.callback(
            export,
            .completionAST(
                CompletionAST(request: request, valueBlock: valueBlock(of: granted.resource))),
            cookie: pending.rawValue, lnet: &lnet, now: now)
    }

    /// An AST once more, where its lock still is.
    private mutating func send(_ pending: PendingCallback, to export: UInt32, now: Ticks) {
        switch pending {
        case .blocking(let lock, let wanted):
            guard let info = locks.info(lock) else { return }
            sendBlocking(lock, info.clientCookie, wanted, to: export, now: now)
        case .completion(let lock, let granted, let flags):
            guard let info = locks.info(lock) else { return }
            sendCompletion(lock, info.clientCookie, granted, flags, to: export, now: now)
        case .notice, .preflush, .commitNotice, .admissionGrant, .glimpse:
            break
        }
    }

    /// A lock was not given back in time. Who is seen to work gets more time; else the client goes.
    private mutating func expired(_ lock: SlotHandle, of export: UInt32, now: Ticks) {
        if rpc.hasTransferUnderWay(export) {
            locks.prolong(lock, now: now)
            return
        }
        let seconds = Int(configuration.callbackTimeout.inSeconds)
        rpc.evict(
            export, .owner("kept a lock for \(seconds) s after it was called back"), lnet: &lnet,
            now: now)
    }

    mutating func callbackReply(
        _ cookie: UInt64, export: UInt32, status: Status, body: ReplyBody, now: Ticks
    ) {
        guard let pending = pendingCallbacks.remove(SlotHandle(rawValue: cookie)) else { return }
        switch pending {
        case .notice(let epoch):
            guard !status.isError else {
                if noticesDue == nil { noticesDue = now + .milliseconds(200) }
                return
            }
            feed(.noticeDelivered(client: export, epoch), now: now)
            if case .receipt(let receipt) = body {
                feed(.receipt(client: export, receipt), now: now)
            }
        case .preflush(let epoch):
            if !status.isError { feed(.noticeDelivered(client: export, epoch), now: now) }
        case .blocking(let lock, _), .completion(let lock, _, _):
            if status.isError { astFailed(lock, pending, export, status, now: now) }
        case .glimpse(let glimpse):
            glimpseReply(glimpse, export: export, status: status, body: body, now: now)
        case .admissionGrant:
            break
        case .commitNotice(let epoch):
            if !status.isError {
                feed(.commitNoticeDelivered(client: export, epoch), now: now)
            }
        }
    }

    /// An AST of an ordinary lock came to nothing. A client that does not have the lock has
    /// cancelled it; one that answers with another error, or not at all after all resends, cannot
    /// be trusted with its locks and is evicted. Not while an upgrade is announced: then the AST
    /// waits, and nobody pays for being slow.
    private mutating func astFailed(
        _ lock: SlotHandle, _ pending: PendingCallback, _ export: UInt32, _ status: Status,
        now: Ticks
    ) {
        guard locks.info(lock) != nil, rpc.summary(of: export) != nil else { return }
        if status == .invalid {
            _ = locks.cancel(lock, owner: owner(export), now: now)
        } else if status == .busy || locks.isSuspended || isSealed {
            callbacksToRepeat.append((export, pending))
        } else {
            let what: String
            if case .completion = pending { what = "completion" } else { what = "blocking" }
            rpc.evict(
                export, .owner("answered a \(what) AST with: \(status)"), lnet: &lnet, now: now)
        }
    }

    // MARK: Glimpses

    /// An enqueue that rather wants to know the size than the lock: the lock where it is free; else
    /// those are asked under whose locks the object may have grown, and there is no lock.
    mutating func glimpse(
        _ request: ServerRequest, _ enqueue: LDLMRequest, mode: LockMode, now: Ticks
    ) {
        let resource = enqueue.descriptor.resource.id
        let policy = enqueue.descriptor.policy
        let owner = owner(request.export)
        var result = locks.enqueue(
            owner: owner, resource: resource, mode: mode, policy: policy,
            clientCookie: enqueue.handle0,
            flags: enqueue.flags.union(.blockNoWait), now: now)
        guard result.outcome == .wouldBlock else {
            return answerEnqueue(request, result, on: resource, now: now)
        }
        result.mode = mode
        let block = valueBlock(of: enqueue.descriptor.resource)
        if let error = block.error { return refuseLock(request, error, now: now) }
        let holders = locks.glimpse(resource, beyond: block.size)
        if holders.contains(where: { $0.isReserved }) {
            // Who may know more has not come back yet.
            return refuseLock(request, .inProgress, now: now)
        }
        let glimpse = glimpses.insert(
            Glimpse(
                request: request, result: result, valueBlock: block, outstanding: holders.count))
        for holder in holders {
            let pending = pendingCallbacks.insert(.glimpse(glimpse))
            rpc.callback(
                holder.owner.index,
                .glimpseAST(
                    .callback(
                        clientCookie: holder.clientCookie, serverCookie: holder.handle.rawValue,
                        flags: [],
                        descriptor: LockDescriptor(
                            resource: resource, requestedMode: mode, policy: policy))),
                cookie: pending.rawValue, lnet: &lnet, now: now)
        }
        if holders.isEmpty { finishGlimpse(glimpse, now: now) }
    }

    private mutating func glimpseReply(
        _ handle: SlotHandle, export: UInt32, status: Status, body: ReplyBody, now: Ticks
    ) {
        glimpses.update(handle) { glimpse in
            glimpse.outstanding -= 1
            if case .valueBlock(let block) = body {
                glimpse.valueBlock.size = max(glimpse.valueBlock.size, block.size)
                let known = (glimpse.valueBlock.mtime, glimpse.valueBlock.mtimeNanoseconds)
                if (block.mtime, block.mtimeNanoseconds) > known {
                    glimpse.valueBlock.mtime = block.mtime
                    glimpse.valueBlock.mtimeNanoseconds = block.mtimeNanoseconds
                }
            } else if status.isError || status == .noLockData {
                // It has given the lock back meanwhile, with what it had written, or it is silent.
                glimpse.isIncomplete = true
            }
        }
        if status == .timedOut, !locks.isSuspended, !isSealed {
            rpc.evict(export, .owner("did not answer a glimpse AST"), lnet: &lnet, now: now)
        }
        finishGlimpse(handle, now: now)
    }

    /// From the announcement on nobody who prepares waits for the answer of another client.
    mutating func refuseAllGlimpses(now: Ticks) {
        for handle in glimpses.handles {
            guard let glimpse = glimpses.remove(handle) else { continue }
            refuseLock(glimpse.request, .inProgress, now: now)
        }
    }

    private mutating func finishGlimpse(_ handle: SlotHandle, now: Ticks) {
        guard let glimpse = glimpses[handle], glimpse.outstanding == 0 else { return }
        glimpses.remove(handle)
        guard !isSealed else { return leaveForNext(glimpse.request) }
        if glimpse.isIncomplete {
            return refuseLock(glimpse.request, .inProgress, now: now)
        }
        if case .enqueue(let enqueue) = glimpse.request.body {
            replyEnqueue(
                glimpse.request, .lockAborted, glimpse.result,
                on: enqueue.request.descriptor.resource.id, valueBlock: glimpse.valueBlock,
                now: now)
        }
    }
}
