public import Primitives

/// How many locks the clients of a target may keep: Lustre's lock pool.
///
/// Once in `period` the pool looks at how many locks are granted (G), plans how many there should be
/// (P, between G and the limit L), and moves the server lock volume: SLV · (L − (G − P)) / L. A
/// client keeps an unused lock while age × number of its unused locks stays below the SLV: where
/// the target has more locks than planned, the volume shrinks and old locks go first.
/// (lustre/ldlm/ldlm_pool.c, from ldlm.md section 9.)
@frozen
public struct LockPool: Hashable, Sendable, BitwiseCopyable {
    /// How often it is recomputed.
    public static let period = TickInterval.seconds(1)
    /// The volume beside a limit: a lock of every one may grow ten hours old.
    public static let secondsMax: UInt64 = 36_000
    /// Lustre plans with 50 locks for each MiB of memory.
    public static let locksPerMiB = 50

    /// Locks that the target can keep for all clients: L.
    public let limit: UInt64
    /// How many there should be at the end of the period: P.
    public private(set) var plan: UInt64
    /// Lock seconds that one client may keep unused; 0 never stands here (unknown, on the wire).
    public private(set) var serverLockVolume: UInt64
    private var recomputedAt: Ticks?

    public init(limit: Int) {
        precondition(limit > 0, "a pool without room for a lock")
        self.limit = UInt64(limit)
        plan = UInt64(limit)
        serverLockVolume = UInt64(limit) * Self.secondsMax
    }

    /// Looks at `granted` locks, where a period or more has passed since the last look.
    public mutating func recompute(granted: Int, now: Ticks) {
        guard let last = recomputedAt else {
            recomputedAt = now
            return
        }
        let elapsed = now - last
        guard elapsed >= Self.period else { return }
        recomputedAt = now
        let granted = UInt64(granted)
        // The volume by the plan of the period that has ended: more locks than planned shrink it.
        let surplus = Int64(granted) - Int64(plan)
        let factor = UInt64(max(Int64(limit) - surplus, 1))
        let (high, low) = serverLockVolume.multipliedFullWidth(by: factor)
        let next = high >= limit ? UInt64.max : limit.dividingFullWidth((high, low)).quotient
        serverLockVolume = min(max(next, 1), limit * Self.secondsMax)
        // And the next plan: the longer the period, the more of the free room is planned for.
        let seconds = elapsed.nanoseconds / 1_000_000_000
        let percent = min(1 + seconds, 30)
        let room = Int64(limit) - Int64(granted)
        let planned = Int64(granted) + room / 100 * Int64(percent)
        plan = min(UInt64(max(planned, 1)), limit + limit / 4)
    }
}
