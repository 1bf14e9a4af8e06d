/// Whose a lock is: an export of the target, or the target itself.
///
/// The caller numbers exports densely and gives a place a new generation when it is used again.
@frozen
public struct LockOwner: Hashable, Sendable, BitwiseCopyable {
    public var index: UInt32
    public var generation: UInt32

    /// An export; `index` must be small, since owners stand in an array by it.
    @inlinable
    public init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }

    /// The target: it gets no messages, never loses a lock and has no client cookies.
    public static let local = LockOwner(index: .max, generation: 0)

    @inlinable
    public var isLocal: Bool { index == .max }
}
