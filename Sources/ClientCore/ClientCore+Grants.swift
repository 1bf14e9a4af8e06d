import LDLMCore
import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// Writes for which no room is set aside: they go to their servers at once, and their answers tell
/// the application what became of them.
extension ClientCore {
    /// Whether everything that the pieces may dirty has room set aside.
    func hasRoom(_ pieces: [StripePiece], of operation: Operation) -> Bool {
        var needed: [(target: Int, byteCount: Int)] = []
        for piece in pieces {
            guard let object = objects[operation.objects[piece.stripe]] else { continue }
            if let place = needed.firstIndex(where: { $0.target == object.target }) {
                needed[place].byteCount += piece.byteCount
            } else {
                needed.append((object.target, piece.byteCount))
            }
        }
        return needed.allSatisfy { targets[$0.target].grant.has($0.byteCount) }
    }

    /// Writes past the cache, where nothing of these objects is dirty or on its way; else that goes
    /// first, and the write is tried again: its room may have come back by then.
    mutating func writeThrough(
        _ handle: SlotHandle, _ pieces: [StripePiece], _ bytes: [UInt8], lnet: inout LNetCore,
        now: Ticks
    ) {
        guard let operation = operations[handle] else { return }
        for piece in pieces {
            let place = operation.objects[piece.stripe]
            guard let object = objects[place], !object.cache.isClean || object.writesInFlight > 0
            else { continue }
            releaseLocks(of: operation)
            operations.update(handle) {
                $0.stage = .throttled
                for index in $0.locks.indices { $0.locks[index] = nil }
            }
            objects.update(place) { $0.waiters.append(handle) }
            writeBack(place, lnet: &lnet, now: now)
            return
        }
        counters.writesThrough += 1
        begin(data: handle)
        var parts: [StripePiece] = []
        for whole in pieces {
            var piece = whole
            while piece.byteCount > 0 {
                var part = piece
                part.byteCount = min(piece.byteCount, ObjectWriteRequest.byteCountMax)
                parts.append(part)
                piece.objectOffset += UInt64(part.byteCount)
                piece.rangeOffset += part.byteCount
                piece.byteCount -= part.byteCount
            }
        }
        operations.update(handle) {
            $0.pieces = parts
            $0.pendingReplies = parts.count
        }
        let wall = wallClock
        for (index, part) in parts.enumerated() {
            let place = operation.objects[part.stripe]
            guard let object = objects[place] else { continue }
            // No round of write-back begins meanwhile, so that two writes of one byte never race.
            objects.update(place) {
                $0.writesInFlight += 1
                $0.changeCount += 1
            }
            let data =
                part.byteCount == bytes.count
                ? bytes : Array(bytes[part.rangeOffset..<(part.rangeOffset + part.byteCount)])
            call(
                object.target,
                .objectWrite(
                    ObjectWriteRequest(
                        object: object.object, offset: part.objectOffset, time: wall, data: data)),
                for: .writeThrough(handle, piece: index), lnet: &lnet, now: now)
        }
    }

    mutating func writeThroughReply(
        _ handle: SlotHandle, piece index: Int, status: Status, body: ReplyBody,
        lnet: inout LNetCore, now: Ticks
    ) {
        guard let operation = operations[handle], index < operation.pieces.count else { return }
        let piece = operation.pieces[index]
        let place = operation.objects[piece.stripe]
        let end = piece.objectOffset + UInt64(piece.byteCount)
        let wall = wallClock
        let before = objects[place]?.cache.byteCount ?? 0
        objects.update(place) {
            $0.writesInFlight -= 1
            guard !status.isError else { return }
            // What was cached of the range is older.
            $0.cache.cut(from: piece.objectOffset, to: end)
            $0.size = max($0.size, end)
            $0.modified = max($0.modified, wall)
        }
        cachedByteCount += (objects[place]?.cache.byteCount ?? 0) - before
        if !status.isError, let object = objects[place] {
            var more: UInt64 = 0
            if case .written(let reply) = body { more = reply.grant }
            targets[object.target].grant.writtenThrough(piece.byteCount, more: more)
            targets[object.target].flushedBytes += UInt64(piece.byteCount)
        }
        if objects[place]?.writesInFlight == 0 {
            settleWrites(place, lnet: &lnet, now: now)
        }
        if status.isError {
            operations.update(handle) { if $0.failure == .ok { $0.failure = status } }
        }
        finishReply(handle, now: now) { operation in
            if case .append = operation.request { return .offset(operation.appendOffset) }
            return .done
        }
    }
}
