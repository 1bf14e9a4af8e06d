internal import Glibc

/// A mutex and a condition: how the commit thread and the loop hand work to each other.
///
/// A pthread mutex rather than `Synchronization.Mutex`, which ThreadSanitizer cannot see on Linux.
@safe
final class Monitor: @unchecked Sendable {
    // SAFETY: both live from init to deinit, and pthread calls may come from any thread.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe condition.initialize(to: pthread_cond_t())
        unsafe pthread_mutex_init(mutex, nil)
        unsafe pthread_cond_init(condition, nil)
    }

    deinit {
        unsafe pthread_cond_destroy(condition)
        unsafe pthread_mutex_destroy(mutex)
        unsafe condition.deallocate()
        unsafe mutex.deallocate()
    }

    /// Runs `body` alone.
    func locked<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return try body()
    }

    /// Sleeps until a `wakeAll`; only within `locked`.
    func wait() { unsafe pthread_cond_wait(condition, mutex) }

    func wakeAll() { unsafe pthread_cond_broadcast(condition) }
}
