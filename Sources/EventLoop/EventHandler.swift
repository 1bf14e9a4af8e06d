public import Primitives

/// What an event loop calls: the owner of everything that lives on the loop's thread.
public protocol EventHandler: ~Copyable {
    /// A descriptor is ready. `token` is the one it was added with, which may be of a descriptor
    /// that was closed earlier in the same batch: owners put a generation into their tokens.
    mutating func ready(_ token: UInt64, _ readiness: Readiness, on loop: EventLoop)

    /// Called once per iteration, after its readiness: fire timers, drain mailboxes, flush output.
    ///
    /// Returns when the next call is needed at the latest; `.zero` for at once, `.distantFuture`
    /// for not before something is ready or somebody wakes the loop.
    mutating func turn(on loop: EventLoop) -> Ticks

    /// The loop is about to sleep. False keeps it awake for another iteration: something came in
    /// that no descriptor tells, as a completion queue that was just armed may find.
    mutating func willSleep(on loop: EventLoop) -> Bool

    /// Whether `turn` finds things that no descriptor and no wake-up tells, so that a loop that
    /// polls must call it each time around. Where it does not, a loop that polls in vain asks the
    /// kernel again at once, until something is ready or `turn` is due. Constant.
    var looksEveryTurn: Bool { get }

    /// The loop polls, and nothing was ready: true where something was taken in all the same, such as
    /// bytes on the connection that brought the last ones. Constant; called between two polls of the
    /// kernel, since asking one socket costs less than asking all and then that one.
    mutating func takeHot(on loop: EventLoop) -> Bool
}

extension EventHandler where Self: ~Copyable {
    public mutating func willSleep(on loop: EventLoop) -> Bool { true }
    public var looksEveryTurn: Bool { true }
    public mutating func takeHot(on loop: EventLoop) -> Bool { false }
}
