import WireFormat

/// The room on a target's disk: what is free, what is set aside for clients, what they used.
///
/// A value: the shell says from time to time how much is free (`sample`), requests say what they
/// take. What was written since a sample, and in the time before it, is counted as not free: it may
/// have been on its way to the disk while the sample was taken. So the ledger errs to the safe side
/// by at most what two sample intervals can write.
///
/// Invariant: the sum of all grants never exceeds what was free when each was given.
struct SpaceLedger: Sendable {
    /// More than this is not set aside for one client.
    static let grantMax: UInt64 = 8 << 20
    /// One in so many of the bytes that are free may be set aside for one client.
    static let shareOfFree: UInt64 = 16

    /// Bytes of the disk; nil before the first sample: then room is not limited.
    private(set) var total: UInt64?
    private(set) var free: UInt64 = 0
    private var writtenNow: UInt64 = 0
    private var writtenBefore: UInt64 = 0
    /// By export.
    private var grants: [UInt64] = []
    private(set) var grantedTotal: UInt64 = 0

    /// Free and not set aside.
    var available: UInt64 {
        guard total != nil else { return .max }
        let taken = grantedTotal + writtenNow + writtenBefore
        return free > taken ? free - taken : 0
    }

    func granted(to export: UInt32) -> UInt64 {
        Int(export) < grants.count ? grants[Int(export)] : 0
    }

    /// The disk was looked at.
    mutating func sample(total: UInt64, free: UInt64) {
        self.total = total
        self.free = min(free, total)
        writtenBefore = writtenNow
        writtenNow = 0
    }

    private mutating func set(_ export: UInt32, _ bytes: UInt64) {
        while grants.count <= Int(export) { grants.append(0) }
        grantedTotal = grantedTotal - grants[Int(export)] + bytes
        grants[Int(export)] = bytes
    }

    private var target: UInt64 {
        total == nil ? Self.grantMax : min(Self.grantMax, available / Self.shareOfFree)
    }

    /// A client connects and says what it has: gives what it has from now on. To the same instance
    /// the ledger knows better; to a new one the client's word counts, as far as there is room.
    mutating func connect(_ export: UInt32, claim: UInt64, isSameInstance: Bool) -> UInt64 {
        if isSameInstance, granted(to: export) > 0 { return granted(to: export) }
        set(export, 0)
        // A claim of a client that lies is bounded by what is free.
        set(export, min(max(claim, target), available, UInt64(UInt32.max)))
        return granted(to: export)
    }

    /// The client is gone.
    mutating func remove(_ export: UInt32) {
        if Int(export) < grants.count { set(export, 0) }
    }

    /// Whether a write fits: into what was set aside for the client and what nobody has.
    func fits(_ byteCount: Int, of export: UInt32) -> Bool {
        let own = granted(to: export)
        return UInt64(byteCount) <= own || UInt64(byteCount) - own <= available
    }

    /// A write was executed: gives what is set aside for the client anew.
    mutating func written(_ byteCount: Int, by export: UInt32, wantsMore: Bool) -> UInt64 {
        let bytes = UInt64(byteCount)
        let own = granted(to: export)
        set(export, own - min(own, bytes))
        writtenNow += bytes
        guard wantsMore, granted(to: export) < target else { return 0 }
        let more = min(target - granted(to: export), available)
        set(export, granted(to: export) + more)
        return more
    }

    /// The target's answer to `statfs`, in blocks of 4 KiB.
    var status: StatfsReply {
        let block: UInt64 = 4096
        let used = writtenNow + writtenBefore
        return StatfsReply(
            blockCount: (total ?? 0) / block, blocksFree: (free > used ? free - used : 0) / block,
            blocksAvailable: total == nil ? 0 : available / block, fileCount: 0, filesFree: 0,
            blockSize: UInt32(block), blocksGranted: UInt32(clamping: grantedTotal / block))
    }
}
