import LDLMCore
import LNetCore
import MetadataCore
import ObjectCore
import Primitives
import PtlRPCCore
import StorageCore
import UpgradeCore
import WireFormat

/// Requests of clients about locks: enqueue, cancel, convert, replay.
extension ServerNode {
    mutating func enqueue(_ request: ServerRequest, _ body: EnqueueRequest, now: Ticks) {
        let enqueue = body.request
        let resource = enqueue.descriptor.resource.id
        if resource.isAdmission {
            return receiveReceipt(request, body, now: now)
        }
        guard !locks.isSealed else { return leaveForNext(request) }
        let mode = enqueue.descriptor.requestedMode ?? enqueue.descriptor.grantedMode
        guard let mode else { return refuseLock(request, .protocolError, now: now) }
        // A lock that the record names may be claimed under it; no other may be granted.
        if !isClaim(request), awaitsWithdrawal(request, now: now) { return }
        let policy = enqueue.descriptor.policy
        let owner = owner(request.export)
        let result: EnqueueResult
        if enqueue.flags.contains(.replay) {
            result = locks.enqueueReplay(
                owner: owner, resource: resource, mode: mode, policy: policy,
                clientCookie: enqueue.handle0, isGranted: enqueue.flags.contains(.blockGranted),
                flags: enqueue.flags, now: now)
        } else {
            cancelEarly(enqueue, of: owner, now: now)
            if policy.type == .extent, enqueue.flags.contains(.hasIntent),
                !enqueue.flags.contains(.testLock)
            {
                return glimpse(request, enqueue, mode: mode, now: now)
            }
            result = locks.enqueue(
                owner: owner, resource: resource, mode: mode, policy: policy,
                clientCookie: enqueue.handle0, flags: enqueue.flags, now: now)
        }
        answerEnqueue(request, result, on: resource, now: now)
    }

    /// The replay of a lock that the client holds.
    private func isClaim(_ request: ServerRequest) -> Bool {
        guard case .enqueue(let body) = request.body else { return false }
        return body.request.flags.isSuperset(of: [.replay, .blockGranted])
    }

    /// Early lock cancel: what goes back in the same message goes first.
    private mutating func cancelEarly(_ enqueue: LDLMRequest, of owner: LockOwner, now: Ticks) {
        enqueue.forEachEarlyCancel { cookie in
            if locks.cancel(SlotHandle(rawValue: cookie), owner: owner, now: now) == .notOwner {
                lockFaultCount += 1
            }
        }
    }

    mutating func answerEnqueue(
        _ request: ServerRequest, _ result: EnqueueResult, on resource: ResourceID, now: Ticks
    ) {
        switch result.outcome {
        case .granted, .waiting, .tested:
            replyEnqueue(request, .ok, result, on: resource, now: now)
        case .wouldBlock:
            replyEnqueue(request, .lockWouldBlock, result, on: resource, now: now)
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
            case .cookieReused: status = .stale
            case .notReserved:
                status = .stale
                noteFailedReplay(request, "no lock of this client was on record for \(resource)")
            case .conflictingReplay:
                status = .stale
                noteFailedReplay(request, "another client has a lock on \(resource)")
            }
            refuseLock(request, status, now: now)
        }
    }

    mutating func replyEnqueue(
        _ request: ServerRequest, _ status: Status, _ result: EnqueueResult,
        on resource: ResourceID, valueBlock known: OSTLVB? = nil, now: Ticks
    ) {
        let descriptor = LockDescriptor(
            resource: resource, requestedMode: result.mode,
            grantedMode: result.outcome == .granted ? result.mode : nil, policy: result.policy)
        let reply = LDLMReply(
            flags: result.flags, descriptor: descriptor, serverCookie: result.lock.rawValue)
        // Only who is given the lock needs to know the size, and who had it before knows it.
        var block = known ?? OSTLVB()
        if known == nil, result.outcome == .granted, !isClaim(request) {
            block = valueBlock(of: descriptor.resource)
            if let error = block.error {
                // Without its value a lock on an object is of no use, and must not seem to be. One
                // that was told of before stays: its holder trusts it, or answers the next blocking
                // AST that it has no such lock. One such AST may have come before this answer.
                if !result.wasKnown {
                    _ = locks.cancel(result.lock, owner: owner(request.export), now: now)
                }
                refuseLock(request, error, now: now)
                return locks.callBackAgain(result.lock)
            }
        }
        rpc.reply(
            request.token, status: status,
            body: .enqueue(EnqueueReply(reply: reply, valueBlock: block)),
            trailer: upgrade.trailer(for: request.export), lnet: &lnet, now: now)
    }

    mutating func refuseLock(_ request: ServerRequest, _ status: Status, now: Ticks) {
        if status == .protocolError { lockFaultCount += 1 }
        rpc.reply(
            request.token, status: status, trailer: upgrade.trailer(for: request.export),
            lnet: &lnet, now: now)
    }

    /// Cookies that name nothing are ignored; where none named anything, the answer says so, which
    /// is no error to anybody. Another client's lock stays where it is.
    mutating func cancel(_ request: ServerRequest, _ cancel: LDLMRequest, now: Ticks) {
        guard !locks.isSealed else { return leaveForNext(request) }
        var found = 0
        cancel.forEachCancel { cookie in
            let result = locks.cancel(
                SlotHandle(rawValue: cookie), owner: owner(request.export), now: now)
            switch result {
            case .done: found += 1
            case .notOwner: lockFaultCount += 1
            case .unknown, .badMode, .sealed: break
            }
        }
        refuseLock(request, found > 0 ? .ok : .stale, now: now)
    }

    /// LDLM_CONVERT: fewer inode bits, or a weaker mode.
    mutating func convert(_ request: ServerRequest, _ convert: LDLMRequest, now: Ticks) {
        guard !locks.isSealed else { return leaveForNext(request) }
        let lock = SlotHandle(rawValue: convert.handle0)
        let owner = owner(request.export)
        let result: CancelResult
        if convert.descriptor.resource.type == .inodeBits {
            result = locks.convert(
                lock, owner: owner, keeping: convert.descriptor.policy.inodeBits, now: now)
        } else if let mode = convert.descriptor.requestedMode {
            result = locks.downgrade(lock, owner: owner, to: mode, now: now)
        } else {
            result = .badMode
        }
        switch result {
        case .done(let resource):
            let info = locks.info(lock)
            let descriptor = LockDescriptor(
                resource: resource, requestedMode: info?.mode ?? .nl, grantedMode: info?.mode,
                policy: info?.policy ?? convert.descriptor.policy)
            rpc.reply(
                request.token, status: .ok,
                body: .converted(
                    LDLMReply(flags: [], descriptor: descriptor, serverCookie: lock.rawValue)),
                trailer: upgrade.trailer(for: request.export), lnet: &lnet, now: now)
        case .unknown:
            refuseLock(request, .stale, now: now)
        case .notOwner, .badMode:
            refuseLock(request, .protocolError, now: now)
        case .sealed:
            leaveForNext(request)
        }
    }

    /// I/O under a lock that is called back gives its holder the full time again.
    mutating func prolongLocks(under request: ServerRequest, now: Ticks) {
        let object: ObjectName
        let range: Extent
        switch request.body {
        case .objectRead(let read):
            object = read.object
            range = Extent(offset: read.offset, byteCount: UInt64(read.byteCount))
        case .objectWrite(let write):
            object = write.object
            range = Extent(offset: write.offset, byteCount: UInt64(write.data.count))
        case .objectPunch(let punch):
            object = punch.object
            range = Extent(start: punch.size, end: .max)
        default:
            return
        }
        locks.prolong(owner(request.export), on: ResourceID(object), range: range, now: now)
    }

    /// Size and time of an object, as the lock on it lets its holder know them; an error where the
    /// store is damaged there.
    mutating func valueBlock(of resource: ResourceDescriptor) -> OSTLVB {
        var block = OSTLVB()
        guard resource.type == .extent, case .object(let object) = service, let store else {
            return block
        }
        let attributes = object.attributes(of: resource.id.objectName, in: store)
        if noteDamage("the size behind a lock") { return OSTLVB(error: .ioError) }
        if let attributes {
            block.size = attributes.size
            block.mtime = attributes.modified.seconds
            block.mtimeNanoseconds = attributes.modified.nanoseconds
        }
        return block
    }

    // MARK: Replays

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
}
