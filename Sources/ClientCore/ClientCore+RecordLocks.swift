import LDLMCore
import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// POSIX record locks: enqueues of their own kind at the metadata server, never cached.
extension ClientCore {
    /// Record locks that went with an eviction or a refused replay.
    public var lostRecordLockCount: Int { records.lostCount }

    mutating func enqueueRecordLock(
        _ handle: SlotHandle, _ file: FileHandle, _ lock: RecordLock, lnet: inout LNetCore,
        now: Ticks
    ) {
        guard let open = openFiles[SlotHandle(rawValue: file.rawValue)] else {
            return fail(handle, .badHandle)
        }
        let record = HeldRecord(
            file: open.file, owner: lock.owner, process: lock.process,
            isExclusive: lock.isExclusive, range: lock.range)
        var flags: LockFlags = []
        switch lock.action {
        case .lock, .unlock: break
        case .tryLock: flags = .blockNoWait
        case .test: flags = .testLock
        }
        let cookie = records.nextCookie()
        records.waits.append(
            RecordWait(operation: handle, clientCookie: cookie, record: record))
        let request = LDLMRequest.enqueue(
            cookie: cookie, flags: flags,
            descriptor: LockDescriptor(
                resource: .recordLocks(of: open.file), requestedMode: lock.mode,
                policy: lock.policy))
        call(
            metadataTarget, .enqueue(EnqueueRequest(request: request)), for: .recordLock(handle),
            lnet: &lnet, now: now)
    }

    mutating func recordLockReply(
        _ handle: SlotHandle, status: Status, body: ReplyBody, lnet: inout LNetCore, now: Ticks
    ) {
        guard let operation = operations[handle],
            case .recordLock(_, let lock) = operation.request,
            let wait = records.waits.first(where: { $0.operation == handle })
        else { return }
        if status == .inProgress {
            _ = records.takeWait(of: handle)
            return retry(handle, after: .milliseconds(10), now: now)
        }
        guard case .enqueue(let enqueue) = body, !status.isError, status != .lockWouldBlock else {
            _ = records.takeWait(of: handle)
            return fail(handle, status == .lockWouldBlock ? .tryAgain : status)
        }
        let reply = enqueue.reply
        if lock.action == .test {
            _ = records.takeWait(of: handle)
            return finish(handle, .success(.conflict(conflict(in: reply.descriptor))))
        }
        if reply.descriptor.grantedMode != nil {
            recordLockGranted(wait)
            return
        }
        // It waits at the server: neither a gate nor a receipt waits with it.
        stopRunning(operation.runningTargets)
        operations.update(handle) {
            $0.runningTargets = 0
            $0.stage = .recordLock
        }
        if let place = records.waits.firstIndex(where: { $0.operation == handle }) {
            records.waits[place].serverCookie = reply.serverCookie
        }
    }

    private func conflict(in descriptor: LockDescriptor) -> RecordLock? {
        guard let mode = descriptor.requestedMode, mode != .nl,
            case .flock(let range, let owner, let process) = descriptor.policy
        else { return nil }
        return RecordLock(
            .test, isExclusive: mode != .pr, range: range, owner: owner, process: process)
    }

    private mutating func recordLockGranted(_ wait: RecordWait) {
        _ = records.takeWait(of: wait.operation)
        guard let operation = operations[wait.operation],
            case .recordLock(_, let lock) = operation.request
        else { return }
        if lock.action == .unlock {
            records.unlock(wait.record.file, owner: wait.record.owner, range: wait.record.range)
        } else {
            records.lock(wait.record)
        }
        finish(wait.operation, .success(.done))
    }

    /// LDLM_CP_CALLBACK of a record lock: it is granted, or would close a circle by now.
    mutating func recordLockCompleted(_ target: Int, _ ast: CompletionAST, now: Ticks) -> Status {
        guard target == metadataTarget,
            let wait = records.waits.first(where: { $0.clientCookie == ast.request.handle0 })
        else {
            // Told twice, or nobody waits any more: the answer to the cancel will tell that, too.
            return .ok
        }
        if ast.request.flags.contains(.flockDeadlock) {
            _ = records.takeWait(of: wait.operation)
            fail(wait.operation, .deadlock)
        } else {
            recordLockGranted(wait)
        }
        return .ok
    }

    /// Nobody waits any more: the server is told, if it knows of the lock at all.
    mutating func abandonRecordLock(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let wait = records.takeWait(of: handle), wait.serverCookie != 0 else { return }
        call(
            metadataTarget, .cancel(.cancel(cookie: wait.serverCookie)),
            for: .recordCancel(wait.record), lnet: &lnet, now: now)
    }

    /// A wait was given up and may have been granted before the server heard of that: then it took
    /// the place of what its owner had there. What that was is said again, and the rest unlocked.
    mutating func restoreRecords(
        around record: HeldRecord, lnet: inout LNetCore, now: Ticks
    ) {
        for range in records.unclaimed(in: record) {
            sendRecord(record, range, mode: .nl, for: .none, lnet: &lnet, now: now)
        }
        for held in records.held(in: record) where held.isExclusive != record.isExclusive {
            sendRecord(
                held, held.range, mode: held.isExclusive ? .pw : .pr, for: .recordRestored(held),
                lnet: &lnet, now: now)
        }
    }

    private mutating func sendRecord(
        _ record: HeldRecord, _ range: Extent, mode: LockMode, for purpose: PendingCall,
        lnet: inout LNetCore, now: Ticks
    ) {
        let request = LDLMRequest.enqueue(
            cookie: records.nextCookie(), flags: .blockNoWait,
            descriptor: LockDescriptor(
                resource: .recordLocks(of: record.file), requestedMode: mode,
                policy: .flock(range, owner: record.owner, pid: record.process)))
        call(
            metadataTarget, .enqueue(EnqueueRequest(request: request)), for: purpose, lnet: &lnet,
            now: now)
    }

    /// Gives up what was locked in a file by `owner`.
    mutating func unlockAll(
        _ file: FileID, owner: UInt64, lnet: inout LNetCore, now: Ticks
    ) {
        guard records.held.contains(where: { $0.file == file && $0.owner == owner }) else { return }
        records.unlock(file, owner: owner, range: .whole)
        let all = HeldRecord(
            file: file, owner: owner, process: 0, isExclusive: false, range: .whole)
        sendRecord(all, .whole, mode: .nl, for: .none, lnet: &lnet, now: now)
    }

    // MARK: Recovery

    /// What the next instance must be told: locks that are held, then those waited for.
    mutating func recordReplays() -> [(RequestBody, UInt64)] {
        var replays: [(RequestBody, UInt64)] = []
        for record in records.held {
            let request = LDLMRequest.replay(
                cookie: records.nextCookie(),
                descriptor: descriptor(of: record, isGranted: true))
            let cookie = pendingCalls.insert(.recordReplay(record))
            replays.append((.enqueue(EnqueueRequest(request: request)), cookie.rawValue))
        }
        for wait in records.waits where wait.serverCookie != 0 {
            let request = LDLMRequest.replay(
                cookie: wait.clientCookie, descriptor: descriptor(of: wait.record, isGranted: false)
            )
            let cookie = pendingCalls.insert(.recordLock(wait.operation))
            replays.append((.enqueue(EnqueueRequest(request: request)), cookie.rawValue))
        }
        return replays
    }

    private func descriptor(of record: HeldRecord, isGranted: Bool) -> LockDescriptor {
        let mode = record.isExclusive ? LockMode.pw : .pr
        return LockDescriptor(
            resource: .recordLocks(of: record.file), requestedMode: mode,
            grantedMode: isGranted ? mode : nil,
            policy: .flock(record.range, owner: record.owner, pid: record.process))
    }

    /// A record lock that the next instance did not take, or that another has by now, is lost.
    mutating func recordReplayed(_ record: HeldRecord, status: Status) {
        guard status.isError || status == .lockWouldBlock else { return }
        records.lose(record)
    }

    /// The target has forgotten this client: its record locks are gone, and who waits fails.
    mutating func loseRecordLocks() {
        let waits = records.waits
        records.removeAll()
        for wait in waits { fail(wait.operation, .stale) }
    }

    // MARK: Glimpses and aging

    /// LDLM_GL_CALLBACK: what this client knows of an object that it may have made longer.
    mutating func glimpsed(_ target: Int, _ request: LDLMRequest) -> (Status, OSTLVB?) {
        let lock = SlotHandle(rawValue: request.handle0)
        guard let place = place(under: lock, target: target), let object = objects[place] else {
            return (.noLockData, nil)
        }
        var block = OSTLVB()
        block.size = object.size
        block.mtime = object.modified.seconds
        block.mtimeNanoseconds = object.modified.nanoseconds
        guard targets[target].locks.glimpsed(clientCookie: request.handle0) == .applied else {
            return (.noLockData, nil)
        }
        return (.ok, block)
    }

    /// Unused locks grow old, as long as nothing at the target is being prepared.
    mutating func ageLocks(_ target: Int, now: Ticks) {
        guard targets[target].upgrade.isGateOpen else { return }
        targets[target].locks.serverLockVolume = rpc.serverLockVolume(target)
        targets[target].locks.advance(to: now)
    }

    /// Nothing under a lock is still to be written.
    func isClean(under lock: SlotHandle, target: Int) -> Bool {
        guard let place = place(under: lock, target: target), let object = objects[place] else {
            return true
        }
        guard let held = object.locks.first(where: { $0.lock == lock }) else { return true }
        return object.cache.isClean(in: held.range) && object.writesInFlight == 0
    }
}
