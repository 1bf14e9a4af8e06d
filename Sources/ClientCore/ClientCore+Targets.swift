import LNetCore
import Primitives
import PtlRPCCore
import UpgradeCore
import WireFormat

/// Operations that ask several targets at once: room, and commits.
extension ClientCore {
    mutating func startStatfs(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        guard operation.targets != 0 else {
            return finish(handle, .success(.space(SpaceStatus())))
        }
        begin(data: handle)
        operations.update(handle) {
            $0.space = SpaceStatus()
            $0.pendingReplies = operation.targets.nonzeroBitCount
        }
        for index in targets.indices where operation.targets >> UInt64(index) & 1 == 1 {
            call(
                index, .statfs(configuration.targets[index].kind), for: .statfs(handle),
                lnet: &lnet, now: now)
        }
    }

    mutating func statfsReply(
        _ handle: SlotHandle, status: Status, body: ReplyBody, now: Ticks
    ) {
        operations.update(handle) {
            if case .statfs(let reply) = body, !status.isError {
                $0.space.add(reply)
            } else if $0.failure == .ok {
                $0.failure = status.isError ? status : .protocolError
            }
        }
        finishReply(handle, now: now) { .space($0.space) }
    }

    /// Nothing of the file is dirty any more: its targets put what they have on their disks.
    mutating func startSync(_ handle: SlotHandle, lnet: inout LNetCore, now: Ticks) {
        guard let operation = operations[handle] else { return }
        begin(data: handle)
        operations.update(handle) {
            $0.isSyncing = true
            $0.pendingReplies = operation.targets.nonzeroBitCount
        }
        for index in targets.indices where operation.targets >> UInt64(index) & 1 == 1 {
            call(
                index, .sync(configuration.targets[index].kind), for: .sync(handle), lnet: &lnet,
                now: now)
        }
    }

    mutating func syncReply(_ handle: SlotHandle, status: Status, now: Ticks) {
        if status.isError {
            operations.update(handle) {
                if $0.failure == .ok { $0.failure = status }
                if $0.pendingReplies == 1 { $0.isSyncing = false }
            }
        }
        finishReply(handle, now: now) { _ in .done }
    }
}
