import LDLMCore
import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// Names and attributes: from the cache where it may answer, else from the metadata server, which
/// gives locks along with its answers.
extension ClientCore {
    /// How far the cache leads down a path.
    enum Walked {
        /// Every name led somewhere; what the last one leads to.
        case found(AttributesReply)
        /// A name leads nowhere.
        case absent
        /// Known as far as this directory or file; `place` names of the path are behind.
        case partly(FileID, place: Int)
    }

    /// The metadata server gives locks on names and attributes.
    var keepsNames: Bool {
        metadataTarget >= 0 && rpc.features(metadataTarget).contains(.caching)
    }

    /// What is held there is believed: the target was heard of not long ago. Whoever does not hear
    /// from it for longer may have lost his locks without knowing.
    func isFresh(_ target: Int, now: Ticks) -> Bool {
        targets[target].heardAt + configuration.cacheLease >= now
    }

    mutating func walk(_ from: FileID, _ path: [FileName], now: Ticks) -> Walked {
        guard keepsNames, isFresh(metadataTarget, now: now) else { return .partly(from, place: 0) }
        var file = from
        for (place, name) in path.enumerated() {
            switch names.lookup(file, name, targets[metadataTarget].locks) {
            case .unknown:
                return .partly(file, place: place)
            case .absent(let lock):
                targets[metadataTarget].locks.touch(lock)
                return .absent
            case .file(let child, let lock):
                targets[metadataTarget].locks.touch(lock)
                file = child
            }
        }
        guard let (reply, lock) = names.attributes(file, targets[metadataTarget].locks) else {
            return .partly(file, place: path.count)
        }
        targets[metadataTarget].locks.touch(lock)
        return .found(reply)
    }

    /// Ends a lookup or a stat that the cache can answer alone, size included. False where it
    /// cannot; then nothing has happened.
    mutating func answerFromCache(
        _ handle: SlotHandle, at parent: FileID, _ path: [FileName], now: Ticks
    ) -> Bool {
        switch walk(parent, path, now: now) {
        case .partly:
            return false
        case .absent:
            counters.nameHits += 1
            fail(handle, .noEntry)
            return true
        case .found(let reply):
            guard case .stat? = operations[handle]?.request, reply.attributes.type == .regular
            else {
                counters.nameHits += 1
                finish(handle, .success(.attributes(reply.attributes, size: 0)))
                return true
            }
            guard let size = cachedSize(reply, now: now) else { return false }
            counters.nameHits += 1
            var attributes = reply.attributes
            attributes.modified = max(attributes.modified, size.modified)
            finish(handle, .success(.attributes(attributes, size: size.byteCount)))
            return true
        }
    }

    /// Size and time of a file all of whose objects are under locks that nobody wants back.
    private func cachedSize(
        _ reply: AttributesReply, now: Ticks
    ) -> (byteCount: UInt64, modified: Timestamp)? {
        var byteCount: UInt64 = 0
        var modified = Timestamp.zero
        for (place, stripe) in reply.layout.stripes.enumerated() {
            let index = Int(stripe.targetIndex)
            guard index < targetOfIndex.count, targetOfIndex[index] >= 0 else { return nil }
            let target = targetOfIndex[index]
            guard isFresh(target, now: now),
                let known = objectPlaces[ObjectKey(target: target, object: stripe.object)],
                let object = objects[known], lock(on: object, covering: .whole) != nil
            else { return nil }
            byteCount = max(
                byteCount, reply.layout.fileSize(stripe: place, objectSize: object.size))
            modified = max(modified, object.modified)
        }
        return (byteCount, modified)
    }

    // MARK: Requests

    /// Asks the server for what the cache does not know of a path.
    mutating func locate(
        _ handle: SlotHandle, at parent: FileID, _ path: [FileName], lnet: inout LNetCore,
        now: Ticks
    ) {
        var from = parent
        var rest = path
        switch walk(parent, path, now: now) {
        case .absent:
            return fail(handle, .noEntry)
        case .found(let reply):
            return located(handle, reply, lnet: &lnet, now: now)
        case .partly(let file, let place):
            from = file
            rest = Array(path[place...])
        }
        guard keepsNames, operations[handle]?.avoidsLocate == false else {
            return send(
                handle, .lookup(LookupRequest(parent: parent, path: path)), lnet: &lnet, now: now)
        }
        let isLocked =
            rest.isEmpty
            && names.lock(on: from, covering: .everything, targets[metadataTarget].locks) != nil
        let cookies =
            isLocked
            ? [0]
            : (0..<max(1, rest.count)).map { _ in
                targets[metadataTarget].locks.expect().rawValue
            }
        let request = LocateRequest(parent: from, path: rest, cookies: cookies)
        operations.update(handle) {
            $0.locate = request
            $0.expected = cookies
        }
        send(handle, .locate(request), lnet: &lnet, now: now)
    }

    /// Sends the request of a metadata operation, and forgets what it is going to change.
    mutating func send(
        _ handle: SlotHandle, _ body: RequestBody, lnet: inout LNetCore, now: Ticks
    ) {
        let number = names.send()
        let update = NameCache.Update(body)
        if let update { names.begin(update) }
        operations.update(handle) {
            $0.number = number
            $0.update = update
        }
        run(handle, on: 1 << UInt64(metadataTarget), stage: .metadata)
        call(metadataTarget, body, for: .metadata(handle), lnet: &lnet, now: now)
    }

    /// A name for the lock that an open may bring; 0 where the server gives none.
    mutating func cookieForOpen(_ handle: SlotHandle) -> UInt64 {
        guard keepsNames, rpc.version(metadataTarget) >= .v3 else { return 0 }
        let cookie = targets[metadataTarget].locks.expect().rawValue
        operations.update(handle) { $0.expected = [cookie] }
        return cookie
    }

    // MARK: Answers

    /// Takes what an answer says into the cache: the locks it brings, then what they guard.
    mutating func keep(_ handle: SlotHandle, status: Status, body: ReplyBody) {
        guard metadataTarget >= 0, let operation = operations[handle] else { return }
        var isNewest = false
        if let update = operation.update {
            var changed: [FileID] = []
            if case .changed(let reply) = body { changed = reply.files }
            isNewest = names.end(update, changed: changed, number: operation.number)
            // Whether it was executed is not known, and so not which files it changed.
            if status.isAmbiguous { names.removeAll() }
        }
        switch body {
        case .located(let reply):
            for grant in reply.grants where operation.expected.contains(grant.clientCookie) {
                bring(grant, number: operation.number)
            }
            keep(reply, operation)
        case .open(let reply):
            if let grant = reply.grant, operation.expected.contains(grant.clientCookie) {
                bring(grant, number: operation.number)
            }
            keepOpen(reply, operation, isNewest: isNewest)
        case .attributes(let reply):
            if case .setattr = operation.request, isNewest {
                names.keepOwn(reply, number: operation.number, targets[metadataTarget].locks)
            }
        case .changed(let reply):
            if isNewest { keepNames(reply, operation) }
        default:
            break
        }
        for cookie in operation.expected where cookie != 0 {
            targets[metadataTarget].locks.giveUpExpected(SlotHandle(rawValue: cookie))
        }
        operations.update(handle) {
            $0.update = nil
            $0.expected = []
        }
    }

    private mutating func bring(_ grant: LockGrant, number: UInt64) {
        let lock = SlotHandle(rawValue: grant.clientCookie)
        let result = targets[metadataTarget].locks.bring(
            lock, ResourceID(grant.file), grant.bits, serverCookie: grant.serverCookie)
        if result == .applied {
            names.granted(lock, on: grant.file, bits: grant.bits, number: number)
        }
    }

    private mutating func keep(_ reply: LocateReply, _ operation: Operation) {
        guard let request = operation.locate, reply.files.count <= request.path.count else {
            return
        }
        var directory = request.parent
        for (place, file) in reply.files.enumerated() {
            names.keep(
                directory, request.path[place], file, number: operation.number,
                targets[metadataTarget].locks)
            directory = file
        }
        if let found = reply.found {
            guard reply.files.count == request.path.count else { return }
            names.keep(found, number: operation.number, targets[metadataTarget].locks)
        } else if reply.files.count < request.path.count {
            names.keep(
                directory, request.path[reply.files.count], nil, number: operation.number,
                targets[metadataTarget].locks)
        }
    }

    private mutating func keepOpen(
        _ reply: OpenReply, _ operation: Operation, isNewest: Bool
    ) {
        guard case .open(let parent, let name, let flags, _, _) = operation.request else { return }
        let attributes = AttributesReply(attributes: reply.attributes, layout: reply.layout)
        let locks = targets[metadataTarget].locks
        if flags.contains(.create) {
            guard isNewest else { return }
            names.keepOwn(
                parent, name, reply.attributes.file, number: operation.number, locks)
        } else {
            names.keep(parent, name, reply.attributes.file, number: operation.number, locks)
        }
        names.keep(attributes, number: operation.number, locks)
    }

    /// What an unlink or a rename of this client's own leaves behind: names that are free now.
    private mutating func keepNames(_ reply: ChangedReply, _ operation: Operation) {
        let locks = targets[metadataTarget].locks
        switch operation.request {
        case .unlink(let parent, let name, _):
            names.keepOwn(parent, name, nil, number: operation.number, locks)
        case .rename(let parent, let name, let target, let newName):
            guard let moved = reply.files.first else { return }
            names.keepOwn(parent, name, nil, number: operation.number, locks)
            names.keepOwn(target, newName, moved, number: operation.number, locks)
        default:
            break
        }
    }

    /// Where a lookup or stat led: its end, or for a file the way to the sizes of its objects.
    mutating func located(
        _ handle: SlotHandle, _ reply: AttributesReply, lnet: inout LNetCore, now: Ticks
    ) {
        guard let operation = operations[handle] else { return }
        guard case .stat = operation.request, reply.attributes.type == .regular else {
            return finish(handle, .success(.attributes(reply.attributes, size: 0)))
        }
        stopRunning(operation.runningTargets)
        let places = reply.layout.stripes.compactMap { place(of: $0) }
        guard places.count == reply.layout.stripes.count else { return fail(handle, .ioError) }
        let mask = adopt(reply.layout, places, by: handle)
        operations.update(handle) {
            $0.runningTargets = 0
            $0.attributes = reply.attributes
            $0.targets = mask
        }
        passGate(handle, lnet: &lnet, now: now)
    }
}

extension NameCache.Update {
    /// What a request of this client's own is going to change; nil where it changes nothing that
    /// anybody keeps.
    init?(_ body: RequestBody) {
        switch body {
        case .setattr(let request):
            self.init(files: [request.file])
        case .mkdir(let request):
            self.init(files: [request.parent], names: [(request.parent, request.name)])
        case .open(let request) where request.flags.contains(.create):
            self.init(files: [request.parent], names: [(request.parent, request.name)])
        case .unlink(let request):
            self.init(files: [request.parent], names: [(request.parent, request.name)])
        case .rename(let request):
            self.init(
                files: [request.sourceParent, request.targetParent],
                names: [
                    (request.sourceParent, request.sourceName),
                    (request.targetParent, request.targetName),
                ])
        case .link(let request):
            self.init(
                files: [request.parent, request.file], names: [(request.parent, request.name)])
        default:
            return nil
        }
    }
}

extension Status {
    /// An update that ended so may have been executed all the same.
    fileprivate var isAmbiguous: Bool {
        switch self {
        case .ioError, .protocolError, .timedOut, .shutdown, .stale, .notConnected,
            .hostUnreachable,
            .cancelled:
            true
        default:
            false
        }
    }
}
