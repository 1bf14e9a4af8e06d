/// A process on a node: `struct lnet_process_id` (lnet-types.h).
@frozen
public struct ProcessID: Hashable, Sendable, BitwiseCopyable {
    public var nid: NID
    public var pid: UInt32

    @inlinable
    public init(nid: NID, pid: UInt32 = ProcessID.lustrePID) {
        self.nid = nid
        self.pid = pid
    }

    /// LNET_PID_LUSTRE: every kernel node uses it.
    public static let lustrePID: UInt32 = 12345
    /// LNET_PID_ANY.
    public static let anyPID: UInt32 = .max
    /// LNET_PID_USERFLAG: set in the pid of a peer that did not prove itself by a reserved port.
    public static let userFlag: UInt32 = 0x8000_0000
    /// Matches every process of every node.
    public static let any = ProcessID(nid: .any, pid: anyPID)

    /// True for a peer that is never connected back to.
    public var isUserspace: Bool { pid & Self.userFlag != 0 && pid != Self.anyPID }

    /// True when `other` is this process, where ANY in nid or pid stands for all.
    @inlinable
    public func covers(_ other: ProcessID) -> Bool {
        (nid == .any || nid == other.nid) && (pid == Self.anyPID || pid == other.pid)
    }
}

extension ProcessID: CustomStringConvertible {
    /// `12345-127.0.1.7@tcp`, `U1234-...` for a userspace pid.
    public var description: String {
        if pid == Self.anyPID { return "LNET_PID_ANY-\(nid)" }
        return isUserspace ? "U\(pid & ~Self.userFlag)-\(nid)" : "\(pid)-\(nid)"
    }
}
