public import ClientCore
public import NodeRuntime
internal import Synchronization

/// One client node of a fleet, for asynchronous code.
public struct Node: Sendable {
    public let fleet: ClientFleet
    public let index: Int

    public init(fleet: ClientFleet, index: Int) {
        precondition((0..<fleet.nodeCount).contains(index), "a node of this fleet")
        self.fleet = fleet
        self.index = index
    }

    /// Performs one operation.
    ///
    /// When the task is cancelled while the operation waits at a gate, it is taken back and fails
    /// with `.cancelled`; one that has passed the gate goes on to its end.
    public func perform(
        _ operation: FileOperation
    ) async -> Result<FileResult, OperationError> {
        let cancellation = Cancellation()
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let token = fleet.submit(node: index, operation) {
                    continuation.resume(returning: $0)
                }
                if cancellation.began(token) { fleet.cancel(token) }
            }
        } onCancel: {
            if let token = cancellation.cancel() { fleet.cancel(token) }
        }
    }
}

/// Where an operation's task and whoever cancels it meet.
private final class Cancellation: Sendable {
    private struct State {
        var token: OperationToken?
        var isCancelled = false
    }

    private let state = Mutex(State())

    /// Notes how to cancel; returns whether that is due at once.
    func began(_ token: OperationToken) -> Bool {
        state.withLock { state in
            state.token = token
            return state.isCancelled
        }
    }

    /// Notes the cancellation; returns what is to be cancelled, if it has begun.
    func cancel() -> OperationToken? {
        state.withLock { state in
            state.isCancelled = true
            return state.token
        }
    }
}
