import EventLoop
import Foundation

/// Ends the program when it takes far longer than it should, and says what it was doing.
///
/// Every wait of the demo has a limit of its own; this is for what should not wait at all. It runs
/// on a thread of its own, so that nothing that hangs can hold it up too.
final class Watchdog: Sendable {
    private struct State {
        var phase = "starting"
        var isOver = false
    }

    private let state = Lock(State())

    /// - Parameter expired: told the phase, on the watchdog's thread; it is expected to exit.
    init(seconds: Double, expired: @escaping @Sendable (_ phase: String) -> Void) {
        let state = state
        Thread.detachNewThread {
            let end = ContinuousClock.now + .seconds(seconds)
            while ContinuousClock.now < end {
                Thread.sleep(forTimeInterval: 0.1)
                if state.withLock(\.isOver) { return }
            }
            expired(state.withLock(\.phase))
        }
    }

    func enter(_ phase: String) { state.withLock { $0.phase = phase } }

    func stop() { state.withLock { $0.isOver = true } }
}
