/// The room that one object target has set aside for what a client dirties (Lustre's grants).
///
/// ```
///   |<------------------- granted ------------------->|
///   |<--- outstanding: dirty, or on the way --->|  available
/// ```
///
/// What is written leaves both: the target counts it as used from then on. With the answer it may
/// set more aside. A byte may be dirtied only where it is available, so that a full disk is found
/// out by the write that does not fit any more, and not by one that was told to be done.
struct GrantAccount: Equatable, Sendable {
    /// Agreed at connect; where it was not, bytes are dirtied without asking.
    private(set) var isOn = false
    private(set) var granted: UInt64 = 0
    /// Bytes that are dirty or being written.
    private(set) var outstanding: UInt64 = 0

    var available: UInt64 { granted > outstanding ? granted - outstanding : 0 }

    func has(_ byteCount: Int) -> Bool { !isOn || available >= UInt64(byteCount) }

    /// A connection stands: the target says what it has set aside in all.
    mutating func connected(isOn: Bool, granted: UInt64) {
        self.isOn = isOn
        self.granted = isOn ? granted : 0
    }

    /// Bytes became dirty; with a negative count they ceased to be without having been written.
    mutating func dirtied(_ byteCount: Int) {
        if byteCount >= 0 {
            outstanding += UInt64(byteCount)
        } else {
            outstanding -= min(outstanding, UInt64(-byteCount))
        }
    }

    /// Bytes were written, and `more` were set aside with the answer.
    mutating func written(_ byteCount: Int, more: UInt64) {
        outstanding -= min(outstanding, UInt64(byteCount))
        granted -= min(granted, UInt64(byteCount))
        let (sum, overflow) = granted.addingReportingOverflow(more)
        granted = overflow ? .max : sum
    }

    /// Bytes were written that had not been dirty: past the cache.
    mutating func writtenThrough(_ byteCount: Int, more: UInt64) {
        dirtied(byteCount)
        written(byteCount, more: more)
    }

    /// The target has forgotten this client: what is dirty is lost, nothing is set aside.
    mutating func forgotten() {
        granted = 0
        outstanding = 0
    }
}
