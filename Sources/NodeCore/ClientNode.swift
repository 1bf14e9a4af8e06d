public import ClientCore
public import LDLMCore
public import LNetCore
public import Primitives
public import WireFormat

/// One client node: its LNet and its file system client, composed, without I/O.
///
/// The shell moves bytes and time in (`lnet` for connections, `step`), carries `lnet.actions` out
/// and takes `events`.
public struct ClientNode {
    public var lnet: LNetCore
    public private(set) var core: ClientCore

    public init(lnet: LNetConfiguration, client: ClientConfiguration) {
        self.lnet = LNetCore(lnet)
        core = ClientCore(client)
    }

    /// Arms the fault sites: only the simulator does.
    public mutating func arm(_ sites: FaultSites) { core.arm(sites) }

    /// See `ClientCore.observeLocks`.
    public mutating func observeLocks() { core.observeLocks() }

    /// See `ClientCore.nextLockChange`.
    public mutating func nextLockChange() -> (target: Int, lock: SlotHandle, ClientLockInfo?)? {
        core.nextLockChange()
    }

    /// Connects to every target; operations may be submitted at once.
    public mutating func mount(now: Ticks) { core.mount(lnet: &lnet, now: now) }

    /// Writes back, gives up locks, disconnects; `.unmounted` follows.
    public mutating func unmount(now: Ticks) { core.unmount(lnet: &lnet, now: now) }

    /// See `ClientCore.submit`.
    @discardableResult
    public mutating func submit(
        _ operation: FileOperation, cookie: UInt64, wall: Timestamp, now: Ticks
    ) -> SlotHandle {
        core.submit(operation, cookie: cookie, wall: wall, lnet: &lnet, now: now)
    }

    /// See `ClientCore.cancel`.
    @discardableResult
    public mutating func cancel(_ operation: SlotHandle, now: Ticks) -> Bool {
        core.cancel(operation, lnet: &lnet, now: now)
    }

    /// Does everything that is due: after connection events, and at `nextDeadline`.
    public mutating func step(now: Ticks, wall: Timestamp) {
        lnet.tick(now)
        takeLNetEvents(now: now)
        core.tick(lnet: &lnet, wall: wall, now: now)
        takeLNetEvents(now: now)
    }

    /// The next thing to tell, in order; nil when all was told.
    public mutating func nextEvent() -> ClientEvent? { core.events.popFirst() }

    /// When `step` is due next. In place: see `ClientCore.dueNext`.
    public mutating func dueNext() -> Ticks? {
        switch (lnet.nextDeadline, core.dueNext()) {
        case (let a?, let b?): min(a, b)
        case (let a, let b): a ?? b
        }
    }

    private mutating func takeLNetEvents(now: Ticks) {
        while let event = lnet.events.popFirst() {
            _ = core.handle(event, lnet: &lnet, now: now)
            core.pump(lnet: &lnet, now: now)
        }
    }
}
