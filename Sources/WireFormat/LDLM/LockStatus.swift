// What an enqueue came to, in pb_status: `ELDLM_*` (lustre_dlm.h) and the errnos that go with locks.
extension Status {
    /// ELDLM_LOCK_CHANGED: the lock is not the one asked for.
    public static let lockChanged = Status(rawValue: 300)
    /// ELDLM_LOCK_ABORTED: the intent was executed, or the glimpse answered, and there is no lock.
    public static let lockAborted = Status(rawValue: 301)
    /// ELDLM_LOCK_REPLACED: another lock was granted in its place.
    public static let lockReplaced = Status(rawValue: 302)
    /// ELDLM_NO_LOCK_DATA: the holder has no value to tell.
    public static let noLockData = Status(rawValue: 303)
    /// ELDLM_LOCK_WOULDBLOCK: it would wait and was asked not to.
    public static let lockWouldBlock = Status(rawValue: 304)
    /// -EDEADLK: whoever asked would wait for itself.
    public static let deadlock = Status(rawValue: -35)
    /// -EUSERS: too many want the resource.
    public static let contended = Status(rawValue: -87)
}
