internal import CFabric
internal import Glibc
public import Primitives
internal import Synchronization

/// One thread that polls descriptors, runs what is ready to completion, and polls again.
///
/// Everything but `wake()` and `stop()` belongs to the owning thread: the one that calls `run`, or,
/// before that, the one that sets the loop up. Readiness is level-triggered: see the article for
/// why.
@safe
public final class EventLoop: @unchecked Sendable {
    // The thread inside `run` owns every stored property except `alertness`, `stopRequested` and
    // `wakeSignals`, which are atomic, and `wakeup`, which never changes.

    /// What the owning thread did, in calls and events. Plain numbers: read them on that thread.
    public struct Counters: Hashable, Sendable {
        /// Calls of epoll_wait, whether or not they could sleep.
        public var polls: UInt64 = 0
        /// Those of them that were allowed to sleep.
        public var sleeps: UInt64 = 0
        /// Readiness events delivered to the handler.
        public var events: UInt64 = 0
        /// Calls of epoll_ctl.
        public var registrations: UInt64 = 0
        /// Sleeps that another thread ended through the eventfd.
        public var wakeups: UInt64 = 0

        /// System calls made by the loop itself.
        public var systemCalls: UInt64 { polls + registrations }
    }

    /// Tokens with this value in their top byte are the loop's own.
    public static let reservedSource: UInt8 = 0xff

    private static let wakeupToken = UInt64(reservedSource) << 56
    private static let batchMax = 256

    /// The instant at which the current iteration began to handle its events.
    public private(set) var now: Ticks
    public private(set) var counters = Counters()
    /// How long the loop keeps polling after the last useful event before it sleeps.
    public var spin: TickInterval
    /// When something was last done that was worth polling for.
    private var lastUseful: Ticks

    private let cpu: Int?
    private let poller: Int32
    private let wakeup: Int32
    private let events: UnsafeMutablePointer<fabric_event>
    private let alertness = Atomic<UInt8>(Alertness.awake)
    private let stopRequested = Atomic<Bool>(false)

    /// Whether a wake-up needs the eventfd. `asleep` is entered only by the loop, from `awake`,
    /// just before a poll that may sleep; whoever turns it into `notified` owes the eventfd a
    /// signal.
    private enum Alertness {
        static let awake: UInt8 = 0
        static let asleep: UInt8 = 1
        static let notified: UInt8 = 2
    }

    /// Makes a loop that nobody runs yet.
    ///
    /// - Parameters:
    ///   - spin: how long to poll after the last useful event. Zero where loops outnumber
    ///     processors.
    ///   - cpu: the processor that `run` pins its thread to.
    public init(spin: TickInterval = .zero, cpu: Int? = nil) throws(FabricError) {
        self.spin = spin
        self.cpu = cpu
        now = Host.monotonicNow
        lastUseful = now
        poller = try FabricError.check(fabric_poller_create(), "epoll_create1")
        let wakeup = fabric_wakeup_create()
        guard wakeup >= 0 else {
            _ = fabric_descriptor_close(poller)
            throw FabricError(call: "eventfd", errno: -wakeup)
        }
        self.wakeup = wakeup
        // Edge-triggered, and thus never read: every signal is a new edge, and the counter behind
        // it would take centuries to fill.
        let added = fabric_poller_add(
            poller, wakeup, Readiness([.readable, .edge]).rawValue, Self.wakeupToken)
        guard added >= 0 else {
            _ = fabric_descriptor_close(wakeup)
            _ = fabric_descriptor_close(poller)
            throw FabricError(call: "epoll_ctl(ADD)", errno: -added)
        }
        unsafe events = .allocate(capacity: Self.batchMax)
        // SAFETY: the batch is trivial memory, initialized whole and freed in `deinit`.
        unsafe events.initialize(
            repeating: fabric_event(token: 0, readiness: 0, reserved: 0), count: Self.batchMax)
    }

    deinit {
        unsafe events.deallocate()
        _ = fabric_descriptor_close(wakeup)
        _ = fabric_descriptor_close(poller)
    }

    // MARK: From any thread

    /// Makes the loop call `turn` soon. From any thread; a system call only when the loop may be
    /// asleep and nobody woke it yet.
    public func wake() {
        // Releasing: what the caller did before is seen by the turn that this brings about.
        let before = alertness.exchange(Alertness.notified, ordering: .acquiringAndReleasing)
        if before == Alertness.asleep {
            let status = fabric_wakeup_signal(wakeup)
            precondition(status == 0, "an eventfd that is never full can be signalled")
        }
    }

    /// Makes `run` return after the current iteration; the next `run` where none is under way. From
    /// any thread.
    public func stop() {
        stopRequested.store(true, ordering: .releasing)
        wake()
    }

    // MARK: Descriptors

    /// Starts to watch a descriptor. The top byte of `token` must not be `reservedSource`.
    public func add(
        _ descriptor: Int32, _ interest: Readiness, token: UInt64
    ) throws(FabricError) {
        precondition(token >> 56 != UInt64(Self.reservedSource), "that token is the loop's own")
        counters.registrations += 1
        try FabricError.check(
            fabric_poller_add(poller, descriptor, interest.rawValue, token), "epoll_ctl(ADD)")
    }

    /// Watches a descriptor for something else.
    public func modify(
        _ descriptor: Int32, _ interest: Readiness, token: UInt64
    ) throws(FabricError) {
        counters.registrations += 1
        try FabricError.check(
            fabric_poller_modify(poller, descriptor, interest.rawValue, token), "epoll_ctl(MOD)")
    }

    /// Stops to watch a descriptor. Closing one that was never duplicated does so by itself.
    public func remove(_ descriptor: Int32) throws(FabricError) {
        counters.registrations += 1
        try FabricError.check(fabric_poller_remove(poller, descriptor), "epoll_ctl(DEL)")
    }

    // MARK: Running

    /// Something useful was done that no descriptor told, such as taking completions: the loop goes
    /// on polling for as long as `spin` says.
    public func noteUseful() { lastUseful = now }

    /// Runs `handler` on the calling thread until `stop()`. May be called again afterwards.
    ///
    /// Inlinable, so that the module of the handler has a loop made for it: what a message passes
    /// through is then known to the compiler from the first byte to the last.
    @inlinable
    public func run<Handler: EventHandler & ~Copyable>(
        _ handler: inout Handler
    ) throws(FabricError) {
        try begin()
        let looksEveryTurn = handler.looksEveryTurn
        var deadline = handler.turn(on: self)
        while goesOn {
            let count: Int
            if mustPoll(until: deadline) {
                count = try poll(until: deadline, once: looksEveryTurn, &handler)
            } else if handler.willSleep(on: self) {
                count = try sleep(until: deadline)
            } else {
                count = try poll()
            }
            for index in 0..<count {
                if let event = event(index) {
                    handler.ready(event.token, event.readiness, on: self)
                }
            }
            deadline = handler.turn(on: self)
        }
        end()
    }

    @usableFromInline
    func begin() throws(FabricError) {
        if let cpu {
            try FabricError.check(
                fabric_thread_pin(Int32(clamping: cpu)), "pthread_setaffinity_np")
        }
        now = Host.monotonicNow
        lastUseful = now
    }

    @usableFromInline
    var goesOn: Bool { !stopRequested.load(ordering: .acquiring) }

    @usableFromInline
    func end() { stopRequested.store(false, ordering: .releasing) }

    /// Whether the next poll may not sleep.
    @usableFromInline
    func mustPoll(until deadline: Ticks) -> Bool {
        deadline <= now || (spin > .zero && now - lastUseful < spin)
    }

    /// Asks what is ready: once, or again until something is, somebody wakes the loop, the deadline
    /// is reached, or it has been polled in vain for as long as `spin` says.
    @inlinable
    func poll<Handler: EventHandler & ~Copyable>(
        until deadline: Ticks, once: Bool, _ handler: inout Handler
    ) throws(FabricError) -> Int {
        while true {
            let count = try poll()
            if count > 0 || once || !pollsInVain(until: deadline) { return count }
            for _ in 0..<Self.hotTries {
                if handler.takeHot(on: self) {
                    noteUseful()
                    return 0
                }
                if !pollsOn(until: deadline) { return 0 }
            }
        }
    }

    /// How often the handler may take what is hot before all descriptors are asked again.
    @usableFromInline
    static var hotTries: Int { 4 }

    /// Whether the last poll told nothing, and the next may not sleep either.
    @usableFromInline
    func pollsInVain(until deadline: Ticks) -> Bool {
        now != lastUseful && now < deadline && mustPoll(until: deadline)
    }

    /// As above, after a moment in which the kernel was not asked.
    @usableFromInline
    func pollsOn(until deadline: Ticks) -> Bool {
        now = Host.monotonicNow
        if attend() { lastUseful = now }
        return pollsInVain(until: deadline)
    }

    /// Asks once what is ready, without sleeping.
    @usableFromInline
    func poll() throws(FabricError) -> Int { try poll(0) }

    /// Sleeps until something is ready, somebody wakes the loop, or the deadline.
    @usableFromInline
    func sleep(until deadline: Ticks) throws(FabricError) -> Int {
        var patience: Int64 = -1
        if deadline != .distantFuture {
            // Handling may have taken long: ask again what the time is before promising to sleep.
            let left = deadline - Host.monotonicNow
            if left == .zero { return try poll(0) }
            patience = Int64(clamping: left.nanoseconds)
        }
        let (slept, _) = alertness.compareExchange(
            expected: Alertness.awake, desired: Alertness.asleep,
            ordering: .acquiringAndReleasing)
        return try poll(slept ? patience : 0)
    }

    /// One of the events that the last poll brought; nil for the loop's own.
    @usableFromInline
    func event(_ index: Int) -> (token: UInt64, readiness: Readiness)? {
        // SAFETY: the kernel filled as many events as `poll` said, at most the batch's capacity.
        let event = unsafe events[index]
        guard event.token != Self.wakeupToken else {
            counters.wakeups += 1
            return nil
        }
        counters.events += 1
        return (event.token, Readiness(rawValue: event.readiness))
    }

    /// One epoll_wait, and what the time is after it.
    ///
    /// - Parameter timeout: how many nanoseconds it may sleep: negative for ever, zero not at all.
    private func poll(_ timeout: Int64) throws(FabricError) -> Int {
        counters.polls += 1
        if timeout != 0 { counters.sleeps += 1 }
        // SAFETY: the batch has the capacity that is passed.
        let count = unsafe fabric_poller_wait(poller, timeout, events, Int32(Self.batchMax))
        let notified = attend()
        now = Host.monotonicNow
        // A signal handler ran on this thread: the next turn may have to know.
        guard count >= 0 || count == -EINTR else {
            throw FabricError(call: "epoll_wait", errno: -count)
        }
        if count != 0 || notified { lastUseful = now }
        return max(0, Int(count))
    }

    /// Becomes awake; true when somebody called `wake()` since the last time.
    private func attend() -> Bool {
        // A plain load first: while the loop spins nothing writes, and the cache line stays shared.
        guard alertness.load(ordering: .relaxed) != Alertness.awake else { return false }
        let before = alertness.exchange(Alertness.awake, ordering: .acquiringAndReleasing)
        return before == Alertness.notified
    }
}
