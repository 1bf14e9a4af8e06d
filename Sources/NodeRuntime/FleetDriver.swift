public import ClientCore
public import Primitives

/// What a driver wants done; carried out on the loop before the turn is over.
public struct FleetCommands {
    enum Command {
        case submit(node: Int, FileOperation, cookie: UInt64)
        case cancel(node: Int)
        case mount(node: Int)
        case unmount(node: Int)
    }

    var commands: [Command] = []
    /// When `timerFired` is called next; `.distantFuture` for never.
    public var nextTimer = Ticks.distantFuture

    /// Begins an operation; `completed` follows with the cookie, which must be below 2^63.
    public mutating func submit(node: Int, _ operation: FileOperation, cookie: UInt64) {
        precondition(cookie < FleetCommands.driverBit, "cookies have 63 bits")
        commands.append(.submit(node: node, operation, cookie: cookie))
    }

    /// Takes back what was last submitted for a node, if it still waits at a gate: it is `completed` as
    /// `.cancelled`, and nothing of it was sent. Else nothing happens.
    public mutating func cancel(node: Int) { commands.append(.cancel(node: node)) }

    /// Connects a node to its targets.
    public mutating func mount(node: Int) { commands.append(.mount(node: node)) }

    /// Writes a node's data back and disconnects it; `.unmounted` follows as an event.
    public mutating func unmount(node: Int) { commands.append(.unmount(node: node)) }

    /// Tells the driver's operations from those of other threads.
    static let driverBit: UInt64 = 1 << 63
}

/// A load generator that lives on the loop of its fleet: no operation crosses a thread.
///
/// Every call is made on the loop's thread. The driver asks for things through `commands`, and is
/// never called from inside such a request.
public protocol FleetDriver: AnyObject, Sendable {
    /// The loop has begun to run. Nodes are not mounted yet.
    func started(nodeCount: Int, now: Ticks, _ commands: inout FleetCommands)

    /// An operation that the driver submitted has come to its end.
    func completed(
        node: Int, cookie: UInt64, _ result: Result<FileResult, OperationError>, now: Ticks,
        _ commands: inout FleetCommands)

    /// Anything else that a node tells. Does nothing by default.
    func event(node: Int, _ event: ClientEvent, now: Ticks, _ commands: inout FleetCommands)

    /// `commands.nextTimer` was reached; it is `.distantFuture` again. Does nothing by default.
    func timerFired(now: Ticks, _ commands: inout FleetCommands)
}

extension FleetDriver {
    public func event(
        node: Int, _ event: ClientEvent, now: Ticks, _ commands: inout FleetCommands
    ) {}
    public func timerFired(now: Ticks, _ commands: inout FleetCommands) {}
}
