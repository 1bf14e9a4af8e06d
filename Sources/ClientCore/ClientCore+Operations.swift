import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// The way of an operation: gate, then requests or locks, then its end.
extension ClientCore {
    /// Names the operation's targets and lets it through their gates, or queues it.
    mutating func begin(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        guard !isUnmounting else { return fail(handle, .shutdown) }
        var mask: UInt64 = 0
        switch operation.request {
        case .lookup(let at, let path), .stat(let at, let path):
            guard metadataTarget >= 0 else { return fail(handle, .noDevice) }
            guard path.count <= LookupRequest.nameCountMax else {
                return fail(handle, .nameTooLong)
            }
            // What is held goes on through a shut gate, unless the notice says otherwise (R8).
            mask = 1 << UInt64(metadataTarget)
            if !readsWait(mask), answerFromCache(handle, at: at, path, now: now) { return }
        case .setattr, .mkdir, .open, .unlink, .rename, .link, .readdir:
            guard metadataTarget >= 0 else { return fail(handle, .noDevice) }
            mask = 1 << UInt64(metadataTarget)
        case .close(let file):
            guard openFiles[SlotHandle(rawValue: file.rawValue)]?.isClosing == false else {
                return fail(handle, .badHandle)
            }
            mask = 1 << UInt64(metadataTarget)
        case .read(let file, _, _), .write(let file, _, _), .append(let file, _),
            .truncate(let file, _), .flush(let file), .sync(let file):
            guard let open = openFiles[SlotHandle(rawValue: file.rawValue)], !open.isClosing
            else { return fail(handle, .badHandle) }
            guard !open.isStale else { return fail(handle, .stale) }
            if let status = check(operation.request, open) { return fail(handle, status) }
            mask = adopt(open.layout, open.objects, by: handle)
            if case .sync = operation.request { mask |= 1 << UInt64(metadataTarget) }
        case .statfs:
            for (index, target) in configuration.targets.enumerated() where target.kind == .oss {
                mask |= 1 << UInt64(index)
            }
        case .recordLock(let file, let lock):
            guard let open = openFiles[SlotHandle(rawValue: file.rawValue)], !open.isClosing
            else { return fail(handle, .badHandle) }
            guard !open.isStale else { return fail(handle, .stale) }
            guard lock.range.isValid else { return fail(handle, .invalid) }
            mask = 1 << UInt64(metadataTarget)
        case .raw(let target, _):
            guard targets.indices.contains(target) else { return fail(handle, .noDevice) }
            mask = 1 << UInt64(target)
        }
        operations.update(handle) { $0.targets = mask }
        if case .flush = operation.request {
            // Writing back is what a shut gate wants: it passes.
            operations.update(handle) { $0.stage = .data }
            return startFlush(handle, lnet: &lnet, now: now)
        }
        if case .read(let file, let offset, let byteCount) = operation.request, !readsWait(mask),
            let bytes = readFromCache(handle, offset: offset, byteCount: byteCount, now: now)
        {
            counters.readHits += 1
            finish(handle, .success(.bytes(bytes)))
            return noteRead(
                file, offset: offset, byteCount: bytes.count, lnet: &lnet, now: now)
        }
        passGate(handle, lnet: &lnet, now: now)
    }

    /// A gate is shut by a notice that wants reads to wait too.
    private func readsWait(_ mask: UInt64) -> Bool {
        for index in targets.indices where mask >> UInt64(index) & 1 == 1 {
            if targets[index].upgrade.notice?.readPolicy == .wait,
                !targets[index].upgrade.isGateOpen
            {
                return true
            }
        }
        return false
    }

    private func check(_ request: FileOperation, _ open: OpenFile) -> Status? {
        switch request {
        case .read(_, let offset, let byteCount):
            guard open.flags.contains(.read) else { return .badHandle }
            guard byteCount >= 0, byteCount <= 64 << 20, offset <= UInt64(Int64.max) >> 1 else {
                return .invalid
            }
        case .write(_, let offset, let bytes):
            guard open.flags.contains(.write) else { return .badHandle }
            guard bytes.count <= 64 << 20, offset <= UInt64(Int64.max) >> 1 else {
                return .tooBig
            }
        case .append(_, let bytes):
            guard open.flags.contains(.write) else { return .badHandle }
            guard bytes.count <= 64 << 20 else { return .tooBig }
        case .truncate(_, let size):
            guard open.flags.contains(.write) else { return .badHandle }
            guard size <= UInt64(Int64.max) >> 1 else { return .tooBig }
        default: break
        }
        return nil
    }

    /// Makes the operation refer to a file's objects; gives the mask of their targets.
    mutating func adopt(
        _ layout: FileLayout, _ places: [SlotHandle], by handle: SlotHandle
    ) -> UInt64 {
        var mask: UInt64 = 0
        for place in places {
            objects.update(place) { $0.userCount += 1 }
            if let object = objects[place] { mask |= 1 << UInt64(object.target) }
        }
        operations.update(handle) {
            $0.layout = layout
            $0.objects = places
            $0.locks = Array(repeating: nil, count: places.count)
        }
        return mask
    }

    /// Starts the operation where every gate that it names is open; else it waits, holding nothing.
    mutating func passGate(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        guard isOpen(operation.targets, for: operation.request) else {
            operations.update(handle) {
                $0.stage = .atGate
            }
            gateQueue.append(handle)
            for index in targets.indices where operation.targets >> UInt64(index) & 1 == 1 {
                if targets[index].expectsWait {
                    targets[index].expectsWait = false
                    targets[index].expectsAcknowledgement = true
                    stamp(index, .firstWaited, now: now)
                }
            }
            return
        }
        start(handle, lnet: &lnet, now: now)
    }

    func isOpen(_ mask: UInt64, for request: FileOperation) -> Bool {
        if case .close = request {
            // The shutdown needs closes; after the receipt they wait, so that it stays true.
            return mayStillSend(metadataTarget)
        }
        if case .raw(_, let body) = request, body.passesGate { return true }
        for index in targets.indices where mask >> UInt64(index) & 1 == 1 {
            guard targets[index].upgrade.isGateOpen else { return false }
        }
        return true
    }

    /// Everybody who waited goes to the gates again, in the order of arrival.
    mutating func openGate(lnet: inout LNetCore, now: Ticks) {
        let waiting = gateQueue
        gateQueue.removeAll(keepingCapacity: true)
        for handle in waiting { passGate(handle, lnet: &lnet, now: now) }
    }

    mutating func run(_ handle: SlotHandle, on mask: UInt64, stage: Operation.Stage) {
        operations.update(handle) {
            $0.stage = stage
            $0.runningTargets |= mask
        }
        for index in targets.indices where mask >> UInt64(index) & 1 == 1 {
            targets[index].running += 1
        }
    }

    mutating func stopRunning(_ mask: UInt64) {
        guard mask != 0 else { return }
        for index in targets.indices where mask >> UInt64(index) & 1 == 1 {
            targets[index].running -= 1
        }
    }

    /// The operation counts as running on these targets from here on.
    mutating func begin(data handle: SlotHandle) {
        guard let operation = operations[handle] else { return }
        run(handle, on: operation.targets & ~operation.runningTargets, stage: .data)
    }

    private mutating func start(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        let body: RequestBody
        switch operation.request {
        case .lookup(let at, let path):
            return locate(handle, at: at, path, lnet: &lnet, now: now)
        case .stat(let at, let path):
            if !operation.objects.isEmpty || operation.attributes != nil {
                return takeLocks(handle, lnet: &lnet, now: now)
            }
            return locate(handle, at: at, path, lnet: &lnet, now: now)
        case .setattr(let file, let mode, let modified, let accessed):
            body = .setattr(
                SetattrRequest(
                    file: file, mode: mode, modified: modified, accessed: accessed,
                    time: wallClock))
        case .mkdir(let at, let name, let mode):
            body = .mkdir(MkdirRequest(parent: at, name: name, mode: mode, time: wallClock))
        case .open(let at, let name, let flags, let mode, let stripeCount):
            body = .open(
                OpenRequest(
                    parent: at, name: name, flags: flags, mode: mode, stripeCount: stripeCount,
                    time: wallClock, lockCookie: cookieForOpen(handle)))
        case .close(let file):
            let place = SlotHandle(rawValue: file.rawValue)
            guard let open = openFiles[place] else { return fail(handle, .badHandle) }
            guard !open.isStale else {
                forgetOpen(place)
                return finish(handle, .success(.done))
            }
            // It stays in the table until the answer: a server that crashes meanwhile must be told
            // of the open before it is told of the close again.
            openFiles.update(place) { $0.isClosing = true }
            // What was locked through this file is given up with it.
            unlockAll(open.file, owner: file.rawValue, lnet: &lnet, now: now)
            body = .close(CloseRequest(file: open.file, handle: open.serverHandle))
        case .unlink(let at, let name, let isDirectory):
            body = .unlink(
                UnlinkRequest(parent: at, name: name, isDirectory: isDirectory, time: wallClock))
        case .rename(let at, let name, let to, let newName):
            body = .rename(
                RenameRequest(
                    sourceParent: at, sourceName: name, targetParent: to, targetName: newName,
                    time: wallClock))
        case .link(let file, let at, let name):
            body = .link(LinkRequest(file: file, parent: at, name: name, time: wallClock))
        case .readdir(let directory, let after, let limit, let wantsAttributes):
            body = .readdir(
                ReaddirRequest(
                    directory: directory, after: after, entryCountMax: limit,
                    wantsAttributes: wantsAttributes))
        case .read, .write, .append, .truncate:
            return takeLocks(handle, lnet: &lnet, now: now)
        case .flush, .sync:
            return startFlush(handle, lnet: &lnet, now: now)
        case .recordLock(let file, let lock):
            run(handle, on: operation.targets, stage: .metadata)
            return enqueueRecordLock(handle, file, lock, lnet: &lnet, now: now)
        case .statfs:
            return startStatfs(handle, lnet: &lnet, now: now)
        case .raw(let target, let raw):
            run(handle, on: operation.targets, stage: .metadata)
            return call(target, raw, for: .raw(handle), lnet: &lnet, now: now)
        }
        send(handle, body, lnet: &lnet, now: now)
    }

    /// Goes on with an operation whose waiting is over.
    mutating func advance(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        switch operation.stage {
        case .atGate:
            if !gateQueue.contains(handle) { passGate(handle, lnet: &lnet, now: now) }
        case .locking: takeLocks(handle, lnet: &lnet, now: now)
        case .throttled: passGate(handle, lnet: &lnet, now: now)
        case .data:
            switch operation.request {
            case .flush: startFlush(handle, lnet: &lnet, now: now)
            case .sync where !operation.isSyncing: startFlush(handle, lnet: &lnet, now: now)
            default: break
            }
        case .metadata, .recordLock: break
        }
    }

    /// The operation did not come through: it holds nothing any more and goes to the gate again,
    /// with a request of a new XID, after a time that doubles up to 128 times `delay`.
    mutating func retry(_ handle: SlotHandle, after delay: TickInterval, now: Ticks) {
        guard let operation = operations[handle] else { return }
        releaseLocks(of: operation)
        stopRunning(operation.runningTargets)
        operations.update(handle) {
            $0.runningTargets = 0
            $0.stage = .atGate
            $0.pendingReplies = 0
            $0.awaited = nil
            $0.glimpsed = []
            for index in $0.locks.indices { $0.locks[index] = nil }
            $0.retryCount = min($0.retryCount + 1, 8)
        }
        retries.insert(handle, at: now + delay * (1 << UInt64(min(operation.retryCount, 7))))
    }

    /// The answer of a metadata server.
    mutating func metadataReply(
        _ handle: SlotHandle, status: Status, body: ReplyBody, transno: Transno,
        lnet: inout LNetCore, now: Ticks
    ) {
        keep(handle, status: status, body: body)
        guard let operation = operations[handle] else { return }
        if status == .tryAgain || status == .inProgress || status == .busy {
            return retry(handle, after: .milliseconds(10), now: now)
        }
        if status == .notSupported, operation.locate != nil, !operation.avoidsLocate {
            // The next instance gives no locks on names: asked as before there were any.
            operations.update(handle) { $0.avoidsLocate = true }
            return retry(handle, after: .milliseconds(1), now: now)
        }
        if case .close(let file) = operation.request {
            let place = SlotHandle(rawValue: file.rawValue)
            let isStale = openFiles[place]?.isStale ?? false
            forgetOpen(place)
            // Where the open went with the instance that knew it, all is as a close wants it.
            return status.isError && status != .badHandle && !isStale
                ? fail(handle, status) : finish(handle, .success(.done))
        }
        guard !status.isError else { return fail(handle, status) }
        switch (operation.request, body) {
        case (.open(_, _, let flags, _, _), .open(let reply)):
            let places = reply.layout.stripes.map { place(of: $0) }
            guard !places.contains(where: { $0 == nil }) else { return fail(handle, .ioError) }
            let file = openFiles.insert(
                OpenFile(
                    file: reply.attributes.file, serverHandle: reply.handle, flags: flags,
                    layout: reply.layout, transno: transno, objects: places.compactMap { $0 }))
            for place in places.compactMap({ $0 }) {
                objects.update(place) { $0.userCount += 1 }
            }
            finish(
                handle,
                .success(
                    .opened(
                        FileHandle(rawValue: file.rawValue), reply.attributes,
                        wasCreated: reply.wasCreated)))
        case (.lookup, .attributes(let reply)), (.stat, .attributes(let reply)):
            located(handle, reply, lnet: &lnet, now: now)
        case (.lookup, .located(let reply)), (.stat, .located(let reply)):
            guard let found = reply.found else { return fail(handle, .noEntry) }
            located(handle, found, lnet: &lnet, now: now)
        case (.setattr, .attributes(let reply)), (.mkdir, .attributes(let reply)):
            finish(handle, .success(.attributes(reply.attributes, size: 0)))
        case (.readdir, .readdir(let reply)):
            finish(handle, .success(.entries(reply.entries, isEnd: reply.isEnd)))
        case (.unlink, _), (.rename, _), (.link, _), (.setattr, _), (.mkdir, _):
            finish(handle, .success(.done))
        case (.raw, _):
            finish(handle, .success(.reply(body)))
        default:
            fail(handle, .protocolError)
        }
    }

    mutating func forgetOpen(_ place: SlotHandle) {
        guard let open = openFiles.remove(place) else { return }
        for object in open.objects { releaseObject(object) }
    }

    /// Where the object of a stripe is kept; made on first sight. Nil for an unknown target.
    mutating func place(of stripe: FileLayout.Stripe) -> SlotHandle? {
        let index = Int(stripe.targetIndex)
        guard index < targetOfIndex.count, targetOfIndex[index] >= 0 else { return nil }
        let key = ObjectKey(target: targetOfIndex[index], object: stripe.object)
        if let known = objectPlaces[key] { return known }
        let handle = objects.insert(CachedObject(target: key.target, object: key.object))
        objectPlaces[key] = handle
        return handle
    }

    /// One reference less; an object that nothing refers to and nothing is kept of is forgotten.
    mutating func releaseObject(_ handle: SlotHandle) {
        objects.update(handle) { $0.userCount -= 1 }
        forgetIfUnused(handle)
    }

    mutating func forgetIfUnused(_ handle: SlotHandle) {
        guard let object = objects[handle], object.userCount == 0, object.locks.isEmpty,
            object.cache.isClean, object.writesInFlight == 0, object.cancels.isEmpty,
            object.readAheads.isEmpty,
            object.waiters.isEmpty
        else { return }
        cachedByteCount -= object.cache.byteCount
        objectPlaces[ObjectKey(target: object.target, object: object.object)] = nil
        objects.remove(handle)
    }
}
