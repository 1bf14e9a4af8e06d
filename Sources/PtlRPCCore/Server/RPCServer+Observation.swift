public import Primitives
public import WireFormat

/// What an operator may see of a recovery.
extension RPCServer {
    /// Counts over clients, observers left out: costs a step for each.
    public func recoveryProgress(now: Ticks) -> TargetShowReply.Recovery {
        var progress = TargetShowReply.Recovery()
        for index in 0..<UInt32(exports.placeCount) where exports.contains(index) {
            guard !exports[index].isObserver else { continue }
            progress.clients += 1
            switch exports[index].recovery {
            case .none: break
            case .absent: progress.absent += 1
            case .opens, .requests, .locks: progress.busy += 1
            case .done: progress.done += 1
            }
        }
        guard isRecovering else { return progress }
        progress.queued = UInt32(clamping: recovery.queuedCount)
        progress.nextTransno = Transno(rawValue: recovery.nextTransno)
        func left(_ deadline: Ticks?) -> UInt64 {
            deadline.map { $0 > now ? ($0 - now).nanoseconds : 1 } ?? 0
        }
        progress.windowNs = left(recovery.deadline)
        progress.limitNs = left(recovery.limit)
        return progress
    }

    /// Exports have indices below this.
    public var exportIndexLimit: UInt32 { UInt32(exports.placeCount) }
}
