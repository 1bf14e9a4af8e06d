import LDLMCore
import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// Bytes that are on their way before anybody asked for them.
struct ReadAheadPiece {
    var offset: UInt64
    var byteCount: Int
    /// Of the object when it was asked for: what was changed since must not be undone.
    var changeCount: UInt64
    /// The lock under which it was asked for.
    var lock: SlotHandle
    /// Reads that wait for it.
    var waiters: [SlotHandle] = []

    func overlaps(_ offset: UInt64, _ byteCount: Int) -> Bool {
        offset < self.offset + UInt64(self.byteCount) && self.offset < offset + UInt64(byteCount)
    }
}

/// How an open file is read: in order, or not.
struct ReadPattern {
    /// Where the next read begins if it is in order.
    var next: UInt64 = 0
    /// Bytes to have ahead of the reader; 0 while it reads out of order.
    var window = 0
    /// Up to here everything was asked for.
    var ahead: UInt64 = 0
}

/// Read-ahead: whoever reads a file in order finds the next bytes there already.
///
/// The window begins at `readAheadMin`, doubles with every read in order up to `readAheadMax`, and
/// is gone with the first read out of order. A new round goes out when half of the window is used
/// up, so that requests are large. Nothing is read ahead beyond what locks cover, past a shut gate,
/// beyond the end of the file as far as it is known, or beyond the cache's bound.
extension ClientCore {
    private static var readAheadMin: Int { 256 << 10 }

    /// A read of an open file was answered.
    mutating func noteRead(
        _ file: FileHandle, offset: UInt64, byteCount: Int, lnet: inout LNetCore, now: Ticks
    ) {
        let place = SlotHandle(rawValue: file.rawValue)
        guard configuration.readAheadMax > 0, byteCount > 0 else { return }
        let limit = configuration.readAheadMax
        let found = openFiles.update(place) { open -> ReadPattern in
            if offset == open.pattern.next {
                open.pattern.window = min(limit, max(Self.readAheadMin, open.pattern.window * 2))
            } else {
                open.pattern.window = 0
                open.pattern.ahead = 0
            }
            open.pattern.next = offset + UInt64(byteCount)
            return open.pattern
        }
        guard let pattern = found, pattern.window > 0, let open = openFiles[place],
            pattern.ahead < pattern.next + UInt64(pattern.window / 2)
        else { return }
        var size: UInt64 = 0
        for (stripe, handle) in open.objects.enumerated() {
            let objectSize = objects[handle]?.size ?? 0
            size = max(size, open.layout.fileSize(stripe: stripe, objectSize: objectSize))
        }
        let from = max(pattern.next, pattern.ahead)
        let end = min(size, pattern.next + UInt64(pattern.window))
        guard from < end else { return }
        var upTo = from
        for piece in open.layout.pieces(offset: from, byteCount: Int(end - from)) {
            guard let object = objects[open.objects[piece.stripe]],
                let lock = lock(on: object, covering: piece.range),
                targets[object.target].upgrade.isGateOpen
            else { break }
            readAhead(open.objects[piece.stripe], piece, under: lock, lnet: &lnet, now: now)
            upTo += UInt64(piece.byteCount)
        }
        openFiles.update(place) { $0.pattern.ahead = upTo }
    }

    private mutating func readAhead(
        _ place: SlotHandle, _ whole: StripePiece, under lock: SlotHandle, lnet: inout LNetCore,
        now: Ticks
    ) {
        var offset = whole.objectOffset
        var rest = whole.byteCount
        while rest > 0 {
            let count = min(rest, ObjectWriteRequest.byteCountMax)
            defer {
                offset += UInt64(count)
                rest -= count
            }
            guard let object = objects[place],
                cachedByteCount + readAheadByteCount + count <= configuration.cacheByteCountMax,
                !object.cache.holds(offset: offset, byteCount: count),
                !object.readAheads.contains(where: { $0.overlaps(offset, count) })
            else { continue }
            objects.update(place) {
                $0.readAheads.append(
                    ReadAheadPiece(
                        offset: offset, byteCount: count, changeCount: $0.changeCount, lock: lock))
            }
            readAheadByteCount += count
            call(
                object.target,
                .objectRead(
                    ObjectReadRequest(
                        object: object.object, offset: offset, byteCount: UInt32(count))),
                for: .readAhead(object: place, offset: offset), lnet: &lnet, now: now)
        }
    }

    /// True where bytes of the read are on their way: it is tried again when they are here.
    mutating func waitsForReadAhead(_ handle: SlotHandle, _ pieces: [StripePiece]) -> Bool {
        guard readAheadByteCount > 0, let operation = operations[handle] else { return false }
        for piece in pieces {
            let place = operation.objects[piece.stripe]
            guard let object = objects[place],
                let index = object.readAheads.firstIndex(where: {
                    $0.overlaps(piece.objectOffset, piece.byteCount)
                        && $0.changeCount == object.changeCount
                })
            else { continue }
            counters.readAheadWaits += 1
            objects.update(place) { $0.readAheads[index].waiters.append(handle) }
            operations.update(handle) { $0.stage = .locking }
            return true
        }
        return false
    }

    mutating func readAheadReply(
        _ place: SlotHandle, offset: UInt64, status: Status, body: ReplyBody
    ) {
        guard let object = objects[place],
            let index = object.readAheads.firstIndex(where: { $0.offset == offset })
        else { return }
        let piece = object.readAheads[index]
        objects.update(place) { _ = $0.readAheads.remove(at: index) }
        readAheadByteCount -= piece.byteCount
        if !status.isError, case .read(let reply) = body,
            object.locks.contains(where: { $0.lock == piece.lock }),
            object.changeCount == piece.changeCount, reply.data.count <= piece.byteCount,
            let info = targets[object.target].locks.info(piece.lock), info.state == .granted
        {
            var bytes = reply.data
            // The object is shorter than the file says it is: a hole at its end.
            let end = min(object.size, offset + UInt64(piece.byteCount))
            if end > offset, UInt64(bytes.count) < end - offset {
                bytes.append(
                    contentsOf: repeatElement(0, count: Int(end - offset) - bytes.count))
            }
            let added = objects.update(place) { object -> Int in
                let before = object.cache.byteCount
                object.cache.insert(bytes, at: offset, dirty: false)
                return object.cache.byteCount - before
            }
            cachedByteCount += added ?? 0
            counters.readAheadBytes += UInt64(bytes.count)
        }
        for waiter in piece.waiters { ready.append(waiter) }
        forgetIfUnused(place)
    }
}
