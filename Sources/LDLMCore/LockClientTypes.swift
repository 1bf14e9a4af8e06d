public import Primitives
public import WireFormat

/// Whether a lock is at hand.
@frozen
public enum LockAcquisition: Hashable, Sendable, BitwiseCopyable {
    /// Held: use it and release it.
    case granted(SlotHandle)
    /// Asked for: `.wake` follows, and the operation holds the lock from then on; or `.failed`.
    case pending(SlotHandle)
    /// What the answer for this other lock brings decides: `.retry` follows.
    case later(SlotHandle)
}

/// What the owner of a lock cache has to do, in this order.
public enum LockClientAction: Hashable, Sendable, BitwiseCopyable {
    /// Send an enqueue; `info` tells what it says, the handle's `rawValue` is the client cookie.
    case enqueue(SlotHandle)
    /// Write back and drop what is cached under the lock, then call `flushed`.
    case flushAndCancel(SlotHandle)
    /// Drop what is cached under these inode bits of the lock, then call `bitsDropped`.
    case dropBits(SlotHandle, InodeBits)
    /// Send a convert: the lock keeps these inode bits. `convertReply` tells how it went.
    case convert(SlotHandle, serverCookie: UInt64, keeping: InodeBits)
    /// Send a cancel. The lock itself is gone from the cache.
    case cancel(serverCookie: UInt64)
    /// The lock is granted; this operation holds a reference to it.
    case wake(operation: UInt64, lock: SlotHandle)
    /// The operation holds nothing of what it waited for, and asks again.
    case retry(operation: UInt64)
    /// The lock will not be granted; a negative error number as Lustre has it.
    case failed(operation: UInt64, error: Int32)
    /// The lock is gone without a cancel: drop what is cached under it, dirty or not.
    case lost(SlotHandle)
}

/// What a message about a lock came to.
public enum LockEventResult: Hashable, Sendable, BitwiseCopyable {
    case applied
    /// No such lock, any more: nothing was done. A blocking AST is answered with -EINVAL.
    case unknown
    /// The server granted less than was asked for, or what makes no sense: nothing was done.
    case refused
}

/// A lock as the cache knows it.
@frozen
public struct ClientLockInfo: Hashable, Sendable, BitwiseCopyable {
    /// The life of a lock in the cache.
    public enum State: UInt8, Hashable, Sendable, BitwiseCopyable {
        /// Asked for, no answer yet.
        case enqueuing
        /// The server said to wait.
        case waiting
        /// In use, or cached for later use.
        case granted
        /// On its way out: what is cached under it is being written back.
        case cancelling
        /// Some of its inode bits are on their way out; the others stay.
        case converting
    }

    public var handle: SlotHandle
    public var state: State
    public var resource: ResourceID
    /// Granted mode and policy, or those asked for.
    public var mode: LockMode
    public var policy: LockPolicy
    /// What the enqueue carries.
    public var flags: LockFlags
    /// 0 while the server's answer is not known.
    public var serverCookie: UInt64
    /// Operations that hold it now.
    public var userCount: Int
    /// The server wants it back.
    public var isCalledBack: Bool

    /// The server has granted it, and has not got it back.
    public var isHeld: Bool { state == .granted || state == .cancelling || state == .converting }

    public var descriptor: LockDescriptor {
        LockDescriptor(
            resource: resource, requestedMode: mode, grantedMode: isHeld ? mode : nil,
            policy: policy)
    }
}

/// A lock that the next instance of the target must hear about.
@frozen
public struct LockReplay: Hashable, Sendable, BitwiseCopyable {
    public var lock: SlotHandle
    public var descriptor: LockDescriptor
    public var isGranted: Bool

    public init(lock: SlotHandle, descriptor: LockDescriptor, isGranted: Bool) {
        self.lock = lock
        self.descriptor = descriptor
        self.isGranted = isGranted
    }

    /// The flags of the enqueue that replays it.
    public var flags: LockFlags { isGranted ? [.replay, .blockGranted] : [.replay, .blockWait] }
}
