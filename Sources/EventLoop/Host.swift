internal import CFabric
internal import Glibc
public import Primitives

/// What the machine under a process has to say: clocks, processors, limits.
public enum Host {
    /// CLOCK_MONOTONIC. On a loop's thread `EventLoop.now` is cheaper and fresh enough.
    public static var monotonicNow: Ticks { Ticks(nanoseconds: fabric_clock_monotonic_ns()) }

    /// CLOCK_REALTIME, in nanoseconds since 1970.
    public static var realtimeNanoseconds: UInt64 { fabric_clock_realtime_ns() }

    /// How many processors the calling thread may run on; at least 1.
    public static var cpuCount: Int { max(1, Int(fabric_thread_cpu_count())) }

    /// Lets the calling thread rest; for a process that has nothing else to do yet.
    public static func sleep(_ interval: TickInterval) {
        var rest = timespec(
            tv_sec: Int(interval.nanoseconds / 1_000_000_000),
            tv_nsec: Int(interval.nanoseconds % 1_000_000_000))
        // SAFETY: the struct outlives the call; a signal shortens the rest.
        unsafe _ = nanosleep(&rest, nil)
    }

    /// Raises the limit on open descriptors as far as it goes without privilege and returns it.
    @discardableResult
    public static func raiseDescriptorLimit() throws(FabricError) -> UInt64 {
        var limit: UInt64 = 0
        // SAFETY: the out-parameter outlives the call.
        try FabricError.check(
            unsafe fabric_process_raise_descriptor_limit(&limit), "setrlimit(RLIMIT_NOFILE)")
        return limit
    }
}
