public import Primitives
public import WireFormat

/// What an enqueue came to.
@frozen
public struct EnqueueResult: Hashable, Sendable, BitwiseCopyable {
    /// What became of the lock.
    public enum Outcome: Hashable, Sendable, BitwiseCopyable {
        /// It is granted, with `mode` and `policy`.
        case granted
        /// It waits; a completion AST will follow.
        case waiting
        /// It would have waited and was asked not to: ELDLM_LOCK_WOULDBLOCK.
        case wouldBlock
        /// Only a question: `mode` is NL where it would be granted, else `mode` and `policy` are
        /// those of a lock in its way. There is no lock.
        case tested
        /// The namespace is sealed: nothing happens here any more.
        case sealed
        /// It is refused.
        case refused(EnqueueRefusal)
    }

    public var outcome: Outcome
    /// The server's cookie is its `rawValue`; 0 where there is no lock.
    public var lock: SlotHandle
    /// Granted mode, or the one asked for while waiting.
    public var mode: LockMode
    /// Granted policy; its extent may have grown.
    public var policy: LockPolicy
    /// blockGranted or blockWait, lockChanged, astSent.
    public var flags: LockFlags
    /// The lock stood before: this enqueue came a second time, and whoever asks may have heard of it.
    public var wasKnown = false

    static func without(
        _ outcome: Outcome, mode: LockMode, policy: LockPolicy
    ) -> EnqueueResult {
        EnqueueResult(
            outcome: outcome, lock: SlotHandle(rawValue: 0), mode: mode, policy: policy, flags: [])
    }
}

/// Why an enqueue is refused.
public enum EnqueueRefusal: Hashable, Sendable, BitwiseCopyable {
    /// The namespace holds as many locks as it may: -EINPROGRESS, try again later.
    case full
    /// A range that ends before it starts, unknown inode bits or none, a mode that the type does
    /// not have, or a resource of another type: -EINVAL.
    case badPolicy
    /// Flags that a client may not send: -EPROTO.
    case badFlags
    /// Many wait there, and the request said not to join them (DENY_ON_CONTENTION): -EUSERS.
    case contended
    /// A record lock whose owner would wait for itself: -EDEADLK.
    case deadlock
    /// The cookie names another lock of this client already: -EPROTO.
    case cookieReused
    /// A replay of a granted lock for which no reservation stands: the client has lost it.
    case notReserved
    /// A replay of a granted lock that excludes one granted already: the client lies or is lost.
    case conflictingReplay
}

/// What a cancel or a downgrade came to.
public enum CancelResult: Hashable, Sendable, BitwiseCopyable {
    /// Done; the resource it was on.
    case done(ResourceID)
    /// No such lock: cancelled already, or never given. Harmless.
    case unknown
    /// The lock belongs to somebody else: the peer's fault, nothing was done.
    case notOwner
    /// Not a downgrade of a granted lock: the peer's fault, nothing was done.
    case badMode
    /// The namespace is sealed: nothing was done.
    case sealed
}

/// What the caller of a lock server has to do, in this order.
public enum LockAction: Hashable, Sendable, BitwiseCopyable {
    /// Tell the owner that its lock is in the way of a lock like `wanted`: LDLM_BL_CALLBACK.
    case blockingAST(
        lock: SlotHandle, owner: LockOwner, clientCookie: UInt64, wanted: LockDescriptor)
    /// Tell the owner that its waiting lock is granted: LDLM_CP_CALLBACK. `flags` has astSent
    /// where the lock is in the way already; no blocking AST follows then. With flockDeadlock it
    /// is refused and gone instead.
    case completionAST(
        lock: SlotHandle, owner: LockOwner, clientCookie: UInt64, granted: LockDescriptor,
        flags: LockFlags)
    /// A waiting lock of `.local` is granted.
    case granted(SlotHandle)
    /// The owner did not give the lock back in time. The caller evicts it, or prolongs the lock.
    case callbackExpired(lock: SlotHandle, owner: LockOwner)
    /// A reserved lock was wanted and its absent owner did not come in time: the lock is gone,
    /// the owner's connection is not. The caller remembers what to tell it.
    case reservationExpired(owner: LockOwner, lock: LockDescriptor)
}

/// A granted lock as the clean record keeps it over a restart.
@frozen
public struct ReservedLock: Hashable, Sendable, BitwiseCopyable {
    public var resource: ResourceID
    public var mode: LockMode
    public var policy: LockPolicy
    /// What the caller knows the owner by in every instance.
    public var ownerKey: UInt64

    public init(resource: ResourceID, mode: LockMode, policy: LockPolicy, ownerKey: UInt64) {
        self.resource = resource
        self.mode = mode
        self.policy = policy
        self.ownerKey = ownerKey
    }
}

/// What a lock looks like from outside.
@frozen
public struct LockInfo: Hashable, Sendable, BitwiseCopyable {
    public var handle: SlotHandle
    public var owner: LockOwner
    public var clientCookie: UInt64
    public var resource: ResourceID
    /// Granted mode, or the one asked for while waiting.
    public var mode: LockMode
    public var policy: LockPolicy
    public var isGranted: Bool
    /// A blocking AST is out.
    public var isCalledBack: Bool
    /// Held for an absent owner.
    public var isReserved: Bool
}

/// The bounds and times of a lock server.
@frozen
public struct LockServerConfiguration: Hashable, Sendable, BitwiseCopyable {
    /// The number of this run of the target: each start of a target has another. It stands in
    /// every cookie, so that a cancel sent again to the next instance cannot meet a new lock.
    public var instance: UInt64
    /// How long an owner has to give a lock back, from the blocking AST on. Lustre: 100 s.
    public var callbackTimeout: TickInterval
    /// Locks of all owners together, granted and waiting: the high watermark; at most 2^24, as
    /// cookies have 24 bits for the place of a lock.
    public var lockCountMax: Int
    /// Locks of one client, granted and waiting.
    public var ownerLockCountMax = 1 << 20
    /// The low watermark: with more granted locks than this, old ones are called back.
    public var reclaimLockCount: Int
    /// How long a lock must be held to be called back for that.
    public var reclaimAge = TickInterval.seconds(300)
    /// With so many waiters a resource is contended.
    public var contendedWaiterCount: UInt32 = 32
    /// The deliberate bug, where a test asks for one.
    public var mutation = Mutation.none
    /// For how long it is.
    public var contentionSeconds: UInt64 = 2
    /// Locks for which the pool plans.
    public var poolLimit: Int

    public init(
        instance: UInt64, callbackTimeout: TickInterval = .seconds(100),
        lockCountMax: Int = 1 << 24
    ) {
        precondition(lockCountMax <= 1 << 24, "a cookie has 24 bits for the place of a lock")
        self.instance = instance
        self.callbackTimeout = callbackTimeout
        self.lockCountMax = lockCountMax
        reclaimLockCount = lockCountMax / 8 * 7
        // As of a server with 8 GiB.
        poolLimit = min(lockCountMax, 8192 * LockPool.locksPerMiB)
    }
}
