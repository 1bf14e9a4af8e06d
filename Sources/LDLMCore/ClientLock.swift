internal import Primitives
import WireFormat

/// A lock of the cache: trivial, linked by place.
struct ClientLock: BitwiseCopyable {
    var resource: ResourceID
    var range: Extent
    var group: UInt64
    /// Inode bits held, or asked for.
    var bits: InodeBits
    /// Inode bits that would be welcome.
    var welcome: InodeBits
    var serverCookie: UInt64 = 0
    /// When the last user released it.
    var unusedSince = Ticks.zero
    var userCount: UInt32 = 0
    /// Operations that wait for the grant, in order.
    var firstWaiter: Int32 = -1
    var lastWaiter: Int32 = -1
    /// Neighbours in the list of unused locks, oldest first; -1 at the ends.
    var older: Int32 = -1
    var newer: Int32 = -1
    var type: LockType
    var mode: LockMode
    var state = ClientLockInfo.State.enqueuing
    var isCalledBack = false
    var isUnused = false
    /// Inode bits that a blocking AST wants back, where the rest may be kept.
    var wantedBits: InodeBits = []
    var flags: LockFlags

    init(
        _ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy, flags: LockFlags
    ) {
        self.resource = resource
        self.mode = mode
        self.flags = flags
        type = policy.type
        range = policy.range
        group = policy.group
        bits = policy.inodeBits
        if case .inodeBits(_, let other, _, _) = policy {
            welcome = InodeBits(rawValue: other)
        } else {
            welcome = []
        }
    }

    var policy: LockPolicy {
        switch type {
        case .extent: .extent(range, group: group)
        case .inodeBits:
            .inodeBits(
                bits.rawValue, other: state == .enqueuing ? welcome.rawValue : 0, group: group,
                initiator: 0)
        default: .plain
        }
    }

    /// Whether who holds this lock may do what the other kind would allow.
    func serves(_ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy) -> Bool {
        self.resource == resource && self.mode.covers(mode) && type == policy.type
            && range.contains(policy.range) && bits.isSuperset(of: policy.inodeBits)
            && (mode != .group || group == policy.group)
    }

    /// Whether the answer that is out for this lock may bring one that covers the other, too.
    func mayGrow(to resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy) -> Bool {
        type == .extent && self.resource == resource && policy.type == .extent
            && self.mode.covers(mode) && mode != .group && self.mode != .group
    }

    /// Whether the other lock would have to wait for this one.
    func conflicts(_ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy) -> Bool {
        guard self.resource == resource, type == policy.type else { return false }
        let isRival =
            !self.mode.isCompatible(with: mode)
            || (mode == .group && self.mode == .group && group != policy.group)
        return isRival && range.overlaps(policy.range)
            && (type != .inodeBits || !bits.isDisjoint(with: policy.inodeBits))
    }
}

/// An operation that waits for a grant.
struct LockWaiter: BitwiseCopyable {
    var operation: UInt64
    var next: Int32
    /// It needs another range, and asks again as soon as it is known how far this one has grown.
    var isHoping = false
}
