import LDLMCore
import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// Bytes: reads, writes into the cache, write-back, truncation, sizes.
extension ClientCore {
    /// All locks are held and all gates that matter are open.
    mutating func runData(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        switch operation.request {
        case .read(_, let offset, let byteCount):
            read(handle, offset: offset, byteCount: byteCount, lnet: &lnet, now: now)
        case .write(_, let offset, let bytes):
            write(handle, offset: offset, bytes: bytes, lnet: &lnet, now: now)
        case .append(_, let bytes):
            write(handle, offset: fileSize(of: operation), bytes: bytes, lnet: &lnet, now: now)
        case .truncate(_, let size):
            truncate(handle, size: size, lnet: &lnet, now: now)
        case .stat:
            guard var attributes = operation.attributes else { return fail(handle, .ioError) }
            for (stripe, place) in operation.objects.enumerated() {
                let glimpsed = stripe < operation.glimpsed.count ? operation.glimpsed[stripe] : nil
                for modified in [glimpsed?.modified, objects[place]?.modified] {
                    attributes.modified = max(attributes.modified, modified ?? .zero)
                }
            }
            finish(handle, .success(.attributes(attributes, size: fileSize(of: operation))))
        default:
            fail(handle, .invalid)
        }
    }

    /// As locks and glimpses tell: true where they do for all stripes, else at least so much.
    func fileSize(of operation: Operation) -> UInt64 {
        var size: UInt64 = 0
        for (stripe, place) in operation.objects.enumerated() {
            let glimpsed =
                stripe < operation.glimpsed.count ? operation.glimpsed[stripe]?.size ?? 0 : 0
            size = max(
                size,
                operation.layout.fileSize(
                    stripe: stripe, objectSize: max(glimpsed, objects[place]?.size ?? 0)))
        }
        return size
    }

    // MARK: Reading

    /// Bytes that can be had without a server: they are here, under locks that nobody wants back,
    /// and the file is known to reach so far, or to end there.
    func readFromCache(
        _ handle: SlotHandle, offset: UInt64, byteCount: Int, now: Ticks
    ) -> [UInt8]? {
        guard let operation = operations[handle] else { return nil }
        var knowsEnd = true
        for place in operation.objects {
            guard let object = objects[place], isFresh(object.target, now: now) else { return nil }
            if knowsEnd { knowsEnd = knowsSize(object) }
        }
        let size = fileSize(of: operation)
        guard knowsEnd || offset + UInt64(byteCount) <= size else { return nil }
        guard offset < size else { return [] }
        let count = Int(min(UInt64(byteCount), size - offset))
        let pieces = operation.layout.pieces(offset: offset, byteCount: count)
        for piece in pieces {
            guard let object = objects[operation.objects[piece.stripe]],
                lock(on: object, covering: piece.range) != nil
            else { return nil }
        }
        if pieces.count == 1, let object = objects[operation.objects[pieces[0].stripe]] {
            return object.cache.read(offset: pieces[0].objectOffset, byteCount: count)
        }
        var bytes = [UInt8](repeating: 0, count: count)
        for piece in pieces {
            guard let object = objects[operation.objects[piece.stripe]],
                let part = object.cache.read(
                    offset: piece.objectOffset, byteCount: piece.byteCount)
            else { return nil }
            bytes.replaceSubrange(
                piece.rangeOffset..<(piece.rangeOffset + piece.byteCount), with: part)
        }
        return bytes
    }

    private mutating func read(
        _ handle: SlotHandle, offset: UInt64, byteCount: Int, lnet: inout LNetCore, now: Ticks
    ) {
        guard let operation = operations[handle] else { return }
        guard case .read(let file, _, _) = operation.request else { return }
        if let bytes = readFromCache(handle, offset: offset, byteCount: byteCount, now: now) {
            counters.readHits += 1
            finish(handle, .success(.bytes(bytes)))
            return noteRead(
                file, offset: offset, byteCount: bytes.count, lnet: &lnet, now: now)
        }
        let size = fileSize(of: operation)
        guard offset < size else { return finish(handle, .success(.bytes([]))) }
        let count = Int(min(UInt64(byteCount), size - offset))
        let wholes = operation.layout.pieces(offset: offset, byteCount: count)
        if waitsForReadAhead(handle, wholes) { return }
        counters.readMisses += 1
        begin(data: handle)
        var pieces: [StripePiece] = []
        for whole in wholes {
            var piece = whole
            while piece.byteCount > 0 {
                var part = piece
                part.byteCount = min(piece.byteCount, ObjectWriteRequest.byteCountMax)
                pieces.append(part)
                piece.objectOffset += UInt64(part.byteCount)
                piece.rangeOffset += part.byteCount
                piece.byteCount -= part.byteCount
            }
        }
        operations.update(handle) {
            // A read of one piece is its answer's bytes as they come.
            $0.collected = pieces.count == 1 ? [] : [UInt8](repeating: 0, count: count)
            $0.pieces = pieces
            $0.pendingReplies = pieces.count
        }
        for (index, piece) in pieces.enumerated() {
            guard let object = objects[operation.objects[piece.stripe]] else { continue }
            call(
                object.target,
                .objectRead(
                    ObjectReadRequest(
                        object: object.object, offset: piece.objectOffset,
                        byteCount: UInt32(piece.byteCount))),
                for: .read(handle, piece: index, changeCount: object.changeCount), lnet: &lnet,
                now: now)
        }
        noteRead(file, offset: offset, byteCount: count, lnet: &lnet, now: now)
    }

    mutating func readReply(
        _ handle: SlotHandle, piece index: Int, changeCount: UInt64, status: Status,
        body: ReplyBody, now: Ticks
    ) {
        guard let operation = operations[handle], index < operation.pieces.count else { return }
        let isOnly = operation.pieces.count == 1
        let piece = operation.pieces[index]
        let place = operation.objects[piece.stripe]
        if !status.isError, !holdsLock(operation, piece.stripe) {
            // Others may have changed what they did not have to ask for: once more, under a lock.
            operations.update(handle) { if $0.failure == .ok { $0.failure = .tryAgain } }
        } else if !status.isError, let object = objects[place], object.droppedAt > changeCount {
            // Bytes that were dirty then have been written back and dropped: the server has them now.
            operations.update(handle) { if $0.failure == .ok { $0.failure = .tryAgain } }
        } else if case .read(let reply) = body, !status.isError,
            reply.data.count <= piece.byteCount, objects[place] != nil
        {
            // What the server has, zeros where it has nothing, and over it what only we have.
            var bytes = reply.data
            if bytes.count < piece.byteCount {
                bytes.append(
                    contentsOf: repeatElement(0, count: piece.byteCount - bytes.count))
            }
            // What was changed here since it was asked for is newer.
            objects[place]?.cache.overlay(onto: &bytes, offset: piece.objectOffset)
            if cachedByteCount < configuration.cacheByteCountMax,
                objects[place]?.changeCount == changeCount
            {
                let added = objects.update(place) { object -> Int in
                    let before = object.cache.byteCount
                    object.cache.insert(bytes, at: piece.objectOffset, dirty: false)
                    return object.cache.byteCount - before
                }
                cachedByteCount += added ?? 0
            }
            operations.update(handle) {
                if isOnly {
                    $0.collected = bytes
                } else {
                    $0.collected.replaceSubrange(
                        piece.rangeOffset..<(piece.rangeOffset + piece.byteCount), with: bytes)
                }
            }
        } else {
            operations.update(handle) { $0.failure = status.isError ? status : .protocolError }
        }
        finishReply(handle, now: now) { .bytes($0.collected) }
    }

    private func holdsLock(_ operation: Operation, _ stripe: Int) -> Bool {
        guard let lock = operation.locks[stripe], let object = objects[operation.objects[stripe]]
        else { return false }
        return targets[object.target].locks.info(lock)?.isHeld ?? false
    }

    mutating func finishReply(
        _ handle: SlotHandle, now: Ticks, _ result: (Operation) -> FileResult
    ) {
        operations.update(handle) { $0.pendingReplies -= 1 }
        guard let operation = operations[handle], operation.pendingReplies == 0 else { return }
        switch operation.failure {
        case .ok: finish(handle, .success(result(operation)))
        case .tryAgain, .inProgress, .busy:
            operations.update(handle) { $0.failure = .ok }
            retry(handle, after: .milliseconds(10), now: now)
        default: fail(handle, operation.failure)
        }
    }

    // MARK: Writing

    private mutating func write(
        _ handle: SlotHandle, offset: UInt64, bytes: [UInt8], lnet: inout LNetCore, now: Ticks
    ) {
        guard let operation = operations[handle] else { return }
        if dirtyByteCount >= 2 * configuration.dirtyByteCountMax {
            // No room: wait without holding anything until bytes have gone.
            releaseLocks(of: operation)
            operations.update(handle) {
                $0.stage = .throttled
                for index in $0.locks.indices { $0.locks[index] = nil }
            }
            throttled.append(handle)
            return
        }
        let wholes = operation.layout.pieces(offset: offset, byteCount: bytes.count)
        guard hasRoom(wholes, of: operation) else {
            operations.update(handle) { $0.appendOffset = offset }
            return writeThrough(handle, wholes, bytes, lnet: &lnet, now: now)
        }
        for piece in wholes {
            let place = operation.objects[piece.stripe]
            var done = 0
            while done < piece.byteCount {
                let count = min(piece.byteCount - done, ExtentCache.runByteCountMax)
                let from = piece.rangeOffset + done
                let part =
                    count == bytes.count ? bytes : Array(bytes[from..<(from + count)])
                dirty(place, part, at: piece.objectOffset + UInt64(done), now: now)
                done += count
            }
        }
        let result: FileResult
        if case .append = operation.request { result = .offset(offset) } else { result = .done }
        let touched = operation.objects
        finish(handle, .success(result))
        if dirtyByteCount >= configuration.dirtyByteCountMax {
            for place in touched { writeBack(place, lnet: &lnet, now: now) }
            if dirtyByteCount >= configuration.dirtyByteCountMax {
                writeBackOld(lnet: &lnet, now: now, everything: true)
            }
        }
    }

    private mutating func dirty(
        _ place: SlotHandle, _ bytes: [UInt8], at offset: UInt64, now: Ticks
    ) {
        let wall = wallClock
        // In place: a copy that outlives the change would cost a copy of the object's runs.
        guard let target = objects[place]?.target else { return }
        let change = objects.update(place) { object -> (dirty: Int, cached: Int, isQueued: Bool) in
            object.changeCount += 1
            let dirtyBefore = object.cache.dirtyByteCount
            let cachedBefore = object.cache.byteCount
            object.cache.insert(bytes, at: offset, dirty: true)
            object.size = max(object.size, offset + UInt64(bytes.count))
            object.modified = max(object.modified, wall)
            if dirtyBefore == 0 { object.dirtySince = now }
            defer { object.isQueuedDirty = true }
            return (
                object.cache.dirtyByteCount - dirtyBefore, object.cache.byteCount - cachedBefore,
                object.isQueuedDirty
            )
        }
        guard let change else { return }
        dirtyByteCount += change.dirty
        cachedByteCount += change.cached
        targets[target].grant.dirtied(change.dirty)
        if !change.isQueued {
            dirtyQueue.append(place)
            if oldestDirty == nil { oldestDirty = now }
        }
    }

    // MARK: Writing back

    /// Sends what is dirty of an object, unless a round is under way: the next one follows it, so
    /// that two writes of the same bytes never race.
    mutating func writeBack(_ place: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let object = objects[place], object.writesInFlight == 0,
            object.cache.dirtyByteCount > 0, mayStillSend(object.target)
        else { return }
        var pieces: [(offset: UInt64, bytes: [UInt8])] = []
        objects.update(place) {
            pieces = $0.cache.takeDirty(pieceMax: ObjectWriteRequest.byteCountMax)
            $0.writesInFlight = pieces.count
            $0.roundByteCount = 0
        }
        dirtyByteCount -= object.cache.dirtyByteCount
        writingObjectCount += 1
        for piece in pieces {
            call(
                object.target,
                .objectWrite(
                    ObjectWriteRequest(
                        object: object.object, offset: piece.offset, time: object.modified,
                        data: piece.bytes)),
                for: .write(object: place, byteCount: piece.bytes.count), lnet: &lnet, now: now)
        }
    }

    mutating func writeReply(
        _ place: SlotHandle, byteCount: Int, status: Status, body: ReplyBody,
        lnet: inout LNetCore, now: Ticks
    ) {
        guard let object = objects[place] else { return }
        let isLast = object.writesInFlight == 1
        var failure = object.writeError
        if status.isError, failure == .ok || failure == .tryAgain { failure = status }
        if !status.isError {
            targets[object.target].flushedBytes += UInt64(byteCount)
            var more: UInt64 = 0
            if case .written(let reply) = body { more = reply.grant }
            targets[object.target].grant.written(byteCount, more: more)
            objects.update(place) { $0.roundByteCount += byteCount }
        } else if !status.isLater {
            targets[object.target].grant.dirtied(-byteCount)
        }
        objects.update(place) {
            $0.writesInFlight -= 1
            $0.writeError = failure
        }
        guard isLast else { return }
        writingObjectCount -= 1
        switch failure {
        case .ok:
            objects.update(place) { $0.cache.finishWriting() }
        case .tryAgain, .inProgress, .busy:
            // Not executed: the bytes are dirty again and go when the target takes them.
            // Those that have arrived go once more with the others.
            targets[object.target].grant.dirtied(objects[place]?.roundByteCount ?? 0)
            objects.update(place) {
                $0.cache.rewindWriting()
                $0.writeError = .ok
                $0.isQueuedDirty = true
            }
            dirtyByteCount +=
                (objects[place]?.cache.dirtyByteCount ?? 0) - object.cache.dirtyByteCount
            dirtyQueue.append(place)
            if oldestDirty == nil { oldestDirty = now }
            return
        case .noEntry:
            // The file was removed: its bytes have nowhere to go, and nobody misses them.
            objects.update(place) {
                $0.cache.finishWriting()
                $0.writeError = .ok
            }
        default:
            // What the server does not have must not be read here either.
            let dropped = objects.update(place) { $0.cache.dropWriting() } ?? 0
            cachedByteCount -= dropped
            events.append(
                .writeLost(
                    target: object.target, object.object, failure, byteCount: byteCount))
        }
        settleWrites(place, lnet: &lnet, now: now)
    }

    /// A round of writes has ended: who waited for that goes on, and the next round begins where
    /// somebody waits for it.
    mutating func settleWrites(_ place: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        completeCancels(place)
        if let object = objects[place], object.cache.dirtyByteCount > 0,
            !object.waiters.isEmpty || !object.cancels.isEmpty
                || targets[object.target].flushPolicy != nil
        {
            writeBack(place, lnet: &lnet, now: now)
        }
        if objects[place]?.cache.isClean == true {
            let waiters = objects[place]?.waiters ?? []
            objects.update(place) { $0.waiters = [] }
            for waiter in waiters { ready.append(waiter) }
            if cachedByteCount > configuration.cacheByteCountMax || sites.fires(.dropCleanBytes) {
                let before = objects[place]?.cache.byteCount ?? 0
                objects.update(place) {
                    $0.cache.dropClean()
                    $0.changeCount += 1
                    $0.droppedAt = $0.changeCount
                }
                cachedByteCount -= before - (objects[place]?.cache.byteCount ?? 0)
            }
            forgetIfUnused(place)
        }
        if dirtyByteCount < configuration.dirtyByteCountMax, !throttled.isEmpty {
            for handle in throttled { ready.append(handle) }
            throttled.removeAll(keepingCapacity: true)
        }
    }

    /// Writes back what has been dirty for long enough, or everything.
    mutating func writeBackOld(lnet: inout LNetCore, now: Ticks, everything: Bool = false) {
        var rest = dirtyQueue.count
        var oldest: Ticks?
        while rest > 0, let place = dirtyQueue.popFirst() {
            rest -= 1
            guard let object = objects[place], object.cache.dirtyByteCount > 0 else {
                objects.update(place) { $0.isQueuedDirty = false }
                continue
            }
            if everything || object.dirtySince + configuration.writebackDelay <= now {
                writeBack(place, lnet: &lnet, now: now)
            }
            if objects[place]?.cache.dirtyByteCount ?? 0 > 0 {
                // Not yet due, or a round is under way, or the target takes nothing now.
                dirtyQueue.append(place)
                let due = max(object.dirtySince, Ticks(nanoseconds: now.nanoseconds))
                oldest = min(
                    oldest ?? .distantFuture,
                    object.dirtySince + configuration.writebackDelay <= now
                        ? due : object.dirtySince)
            } else {
                objects.update(place) { $0.isQueuedDirty = false }
            }
        }
        oldestDirty = oldest
    }

    mutating func startFlush(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        var isWaiting = false
        var error = Status.ok
        for place in operation.objects {
            guard let object = objects[place] else { continue }
            if object.writeError != .ok {
                error = object.writeError
                objects.update(place) { $0.writeError = .ok }
            }
            guard !object.cache.isClean else { continue }
            isWaiting = true
            objects.update(place) { if !$0.waiters.contains(handle) { $0.waiters.append(handle) } }
            writeBack(place, lnet: &lnet, now: now)
        }
        if error != .ok { return fail(handle, error) }
        guard !isWaiting else {
            if case .sync = operation.request { begin(data: handle) }
            return
        }
        guard case .sync = operation.request else { return finish(handle, .success(.done)) }
        startSync(handle, lnet: &lnet, now: now)
    }

    // MARK: Truncating

    private mutating func truncate(
        _ handle: SlotHandle, size: UInt64, lnet: inout LNetCore, now: Ticks
    ) {
        guard let operation = operations[handle] else { return }
        // A write-back under way might arrive behind the punch: it goes first.
        for place in operation.objects {
            if let object = objects[place], object.writesInFlight > 0 {
                releaseLocks(of: operation)
                operations.update(handle) {
                    $0.stage = .throttled
                    for index in $0.locks.indices { $0.locks[index] = nil }
                }
                objects.update(place) { $0.waiters.append(handle) }
                return
            }
        }
        begin(data: handle)
        operations.update(handle) { $0.pendingReplies = $0.objects.count }
        for (stripe, place) in operation.objects.enumerated() {
            guard let object = objects[place] else { continue }
            let objectSize = operation.layout.objectSize(stripe: stripe, fileSize: size)
            let wall = wallClock
            objects.update(place) {
                $0.changeCount += 1
                $0.cache.cut(from: objectSize, to: UInt64.max)
                $0.size = objectSize
                $0.modified = max($0.modified, wall)
            }
            let after = objects[place]?.cache
            let less = (after?.dirtyByteCount ?? 0) - object.cache.dirtyByteCount
            dirtyByteCount += less
            targets[object.target].grant.dirtied(less)
            cachedByteCount += (after?.byteCount ?? 0) - object.cache.byteCount
            call(
                object.target,
                .objectPunch(
                    ObjectPunchRequest(object: object.object, size: objectSize, time: wallClock)),
                for: .punch(handle), lnet: &lnet, now: now)
        }
        if operation.objects.isEmpty { finish(handle, .success(.done)) }
    }

    mutating func punchReply(_ handle: SlotHandle, status: Status, now: Ticks) {
        if status.isError {
            operations.update(handle) {
                if $0.failure == .ok { $0.failure = status }
            }
        }
        finishReply(handle, now: now) { _ in .done }
    }
}

extension Status {
    /// Not executed; the same request may be sent again.
    var isLater: Bool { self == .tryAgain || self == .inProgress || self == .busy }
}
