internal import Glibc

/// A value that only one thread touches at a time, behind a pthread mutex.
///
/// For the control plane and the doors of a loop; nothing a loop owns is locked. A pthread mutex,
/// since ThreadSanitizer does not see the standard library's `Mutex` on Linux.
@safe
public final class Lock<State>: @unchecked Sendable {
    // The mutex guards `state`; whichever thread holds it owns the state for that long.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private var state: State

    public init(_ state: sending State) {
        self.state = state
        unsafe mutex = .allocate(capacity: 1)
        // SAFETY: freshly allocated, never moved, destroyed once in `deinit`.
        unsafe mutex.initialize(to: pthread_mutex_t())
        let status = unsafe pthread_mutex_init(mutex, nil)
        precondition(status == 0, "a default mutex can always be made")
    }

    deinit {
        // SAFETY: nobody refers to the lock any more, so nobody holds it.
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    /// Runs `body` with the state; other threads wait meanwhile. Must not be entered twice by a
    /// thread.
    public func withLock<R, E: Error>(
        _ body: (inout State) throws(E) -> sending R
    ) throws(E) -> sending R {
        // SAFETY: the mutex lives as long as `self`.
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return try body(&state)
    }
}
