public import LNetCore
public import Primitives
import WireFormat

extension RPCClient {
    /// Time has passed.
    public mutating func tick(lnet: inout LNetCore, now: Ticks) {
        for index in imports.indices {
            if let parked = imports[index].parked, parked.deadline <= now {
                repeatParked(index, &lnet, now)
            }
            if let attempt = imports[index].attempt, attempt.deadline <= now {
                attemptFailed(index, tryNext: true, now)
            }
            switch imports[index].state {
            case .disconnected, .connecting:
                startDueAttempt(index, &lnet, now)
            case .replay, .replayLocks, .replayWait, .recover, .full, .evicted:
                let oldest = imports[index].sent.head
                if oldest != .zero, requests[oldest].deadline <= now {
                    imports[index].counters.timeouts &+= 1
                    lost(index, .requestTimeout, &lnet, now)
                } else if let due = pingDeadline(index), due <= now {
                    imports[index].commitPingAt = .distantFuture
                    sendInternal(index, .ping, .ping, &lnet, now)
                }
            case .new, .closed:
                break
            }
        }
    }

    /// When `tick` is due next; nil while nothing can happen by itself.
    public var nextDeadline: Ticks? {
        var earliest = Ticks.distantFuture
        for index in imports.indices {
            if let parked = imports[index].parked { earliest = min(earliest, parked.deadline) }
            if let attempt = imports[index].attempt {
                earliest = min(earliest, attempt.deadline)
            } else {
                earliest = min(earliest, imports[index].retryAt)
            }
            let oldest = imports[index].sent.head
            if oldest != .zero { earliest = min(earliest, requests[oldest].deadline) }
            if let due = pingDeadline(index) { earliest = min(earliest, due) }
        }
        return earliest == .distantFuture ? nil : earliest
    }

    /// When a ping is due: the connection was silent for long, or commits are waited for.
    private func pingDeadline(_ index: Int) -> Ticks? {
        guard imports[index].state == .full, imports[index].sent.isEmpty else { return nil }
        if imports[index].commitPingAt != .distantFuture { return imports[index].commitPingAt }
        return configuration.pingInterval.map { imports[index].lastSentAt + $0 }
    }
}
