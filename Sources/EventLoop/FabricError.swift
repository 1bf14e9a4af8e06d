internal import CFabric

/// A system call that failed: its name and its errno.
public struct FabricError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The call that failed, as the manual names it.
    public var call: String
    /// The positive errno.
    public var errno: Int32

    public init(call: String, errno: Int32) {
        self.call = call
        self.errno = errno
    }

    public var description: String { "\(call): \(Self.text(forErrno: errno)) (errno \(errno))" }

    /// What the system says about an errno.
    public static func text(forErrno errno: Int32) -> String {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
            // SAFETY: the shim writes at most `count` bytes and always ends them with a zero.
            unsafe fabric_error_text(errno, buffer.baseAddress!, buffer.count)
            return unsafe String(cString: buffer.baseAddress!)
        }
    }

    /// Passes on a count or descriptor; throws what the shim returned as a negative errno.
    @discardableResult
    package static func check(_ status: Int32, _ call: StaticString) throws(FabricError) -> Int32 {
        guard status >= 0 else { throw FabricError(call: "\(call)", errno: -status) }
        return status
    }
}
