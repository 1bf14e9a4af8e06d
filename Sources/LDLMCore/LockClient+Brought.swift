public import Primitives
public import WireFormat

// Locks that come with the answer to something else: a place is taken when the request goes out,
// and its handle is the cookie by which the answer, or a callback, names the lock.
extension LockClient {
    /// A place for a lock in mode PR that an answer may bring. Until then it is nobody's.
    public mutating func expect() -> SlotHandle {
        locks.insert(ClientLock(ResourceID(0), .pr, .bits([]), flags: .hasIntent))
    }

    /// The answer brought the lock: it is unused, and cached from here on. `unknown` where it was
    /// called back before; then it is gone at the server, too.
    @discardableResult
    public mutating func bring(
        _ lock: SlotHandle, _ resource: ResourceID, _ bits: InodeBits, serverCookie: UInt64
    ) -> LockEventResult {
        guard let record = locks[lock], record.isExpected else { return .unknown }
        guard !bits.isEmpty, bits.isSubset(of: .known), !resource.isAdmission else {
            locks.remove(lock)
            return .refused
        }
        locks.update(lock) {
            $0.resource = resource
            $0.bits = bits
            $0.flags = []
            $0.serverCookie = serverCookie
            $0.state = .granted
        }
        changes?.append(lock)
        byName.insert(Int32(lock.index), hash: resource.chainHash)
        becomeUnused(lock)
        return .applied
    }

    /// The answer did not bring the lock, or none will come. True where it was still expected.
    ///
    /// A blocking AST for such a lock is answered as one for a lock that is gone: the server drops
    /// it, and the answer that brings it finds no place any more.
    @discardableResult
    public mutating func giveUpExpected(_ lock: SlotHandle) -> Bool {
        guard let record = locks[lock], record.isExpected else { return false }
        locks.remove(lock)
        return true
    }

    /// Whether these inode bits of a lock are held, and nobody wants them back.
    public func covers(_ lock: SlotHandle, _ bits: InodeBits) -> Bool {
        guard let record = locks[lock], record.bits.isSuperset(of: bits) else { return false }
        switch record.state {
        case .granted, .converting:
            guard record.isCalledBack else { return true }
            return !record.wantedBits.isEmpty && record.wantedBits.isDisjoint(with: bits)
        case .enqueuing, .waiting, .cancelling:
            return false
        }
    }

    /// An unused lock was of use: the longest unused is another.
    public mutating func touch(_ lock: SlotHandle) {
        guard let record = locks[lock], record.isUnused else { return }
        removeFromUnused(lock)
        becomeUnused(lock)
    }
}

extension ClientLock {
    /// Only its place is taken: see `LockClient.expect`.
    var isExpected: Bool {
        state == .enqueuing && flags.contains(.hasIntent) && type == .inodeBits && bits.isEmpty
    }
}
