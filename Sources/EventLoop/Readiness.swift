internal import CFabric

/// What a descriptor is watched for, and what it was found ready for. Values are epoll's.
@frozen
public struct Readiness: OptionSet, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt32

    @inlinable
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// There is something to read, or to accept (EPOLLIN).
    public static let readable = Readiness(rawValue: 0x001)
    /// There is room to write, or connecting has ended (EPOLLOUT).
    public static let writable = Readiness(rawValue: 0x004)
    /// An error is pending (EPOLLERR); reported without being asked for.
    public static let error = Readiness(rawValue: 0x008)
    /// Both directions are closed (EPOLLHUP); reported without being asked for.
    public static let hangup = Readiness(rawValue: 0x010)
    /// Report changes rather than states (EPOLLET); only meaningful as an interest.
    public static let edge = Readiness(rawValue: 0x8000_0000)
}
