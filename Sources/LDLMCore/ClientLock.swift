internal import Primitives
import WireFormat

/// A lock of the cache: trivial, linked by place.
struct ClientLock: BitwiseCopyable {
    var resource: ResourceID
    var range: Extent
    var group: UInt64
    var serverCookie: UInt64 = 0
    var userCount: UInt32 = 0
    /// Operations that wait for the grant, in order.
    var firstWaiter: Int32 = -1
    var lastWaiter: Int32 = -1
    /// Neighbours in the list of unused locks, oldest first; -1 at the ends.
    var older: Int32 = -1
    var newer: Int32 = -1
    var mode: LockMode
    var state = ClientLockInfo.State.enqueuing
    var isExtent: Bool
    var isCalledBack = false
    var isUnused = false
    var flags: LockFlags

    var policy: LockPolicy { isExtent ? .extent(range, group: group) : .plain }

    /// Whether who holds this lock may do what the other kind would allow.
    func serves(_ resource: ResourceID, _ mode: LockMode, _ policy: LockPolicy) -> Bool {
        self.resource == resource && self.mode.covers(mode) && range.contains(policy.range)
            && (mode != .group || group == policy.group)
    }
}

/// An operation that waits for a grant.
struct LockWaiter: BitwiseCopyable {
    var operation: UInt64
    var next: Int32
}
