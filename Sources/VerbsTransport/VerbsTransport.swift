internal import CFabric
public import EventLoop
public import Primitives

/// Reliable RDMA connections on one event loop's thread: rdma_cm, RC queue pairs, one completion
/// queue and one shared receive queue per device, and a pool of registered memory.
///
/// The owner passes the loop's readiness to `ready`, calls `turn` once per iteration and
/// `willSleep` before the loop sleeps; all call the owner's `VerbsTransportHandler`. Devices are
/// opened when the first connection or listener is on them, and closed when they go away.
@safe
public struct VerbsTransport: ~Copyable {
    public struct Options: Sendable {
        /// Receive buffers of a device, shared by its connections: a message holds one only while
        /// it is being read, and a peer that finds none tries again (RNR).
        public var receiveBuffers = 1024
        /// Send buffers of a device: messages longer than what goes inline hold one until they are
        /// acknowledged.
        public var sendBuffers = 512
        /// The longest message: IBLND_MSG_SIZE.
        public var messageBytes = 4096
        /// Registered memory for bulk, in whole megabytes; a quarter of it is for sources.
        public var bulkBytes = 32 << 20
        /// Work requests of one queue pair that may be under way.
        public var sendEntries: UInt32 = 64
        /// Messages up to this long travel within their work request, where the device grants it.
        public var inlineBytes: UInt32 = 416
        /// Completions that a device's queue holds.
        public var completions = 16384
        /// How often an empty completion queue is polled per iteration of a loop that spins: for
        /// about as long as the loop takes to ask the kernel for everything else.
        public var pollsPerTurn = 32
        /// How long address and route resolution may take (IBLND's 5 s).
        public var resolveTimeoutMs: Int32 = 5_000
        /// IBLND_RETRY_COUNT and IBLND_RNR_RETRY_COUNT.
        public var retryCount: UInt8 = 5
        public var rnrRetryCount: UInt8 = 6
        public var backlog: Int32 = 256
        /// How long a listener whose device went away rests between attempts to come back.
        public var listenRetry = TickInterval.milliseconds(200)

        public init() {}

        /// What one device makes of RLIMIT_MEMLOCK.
        public var registeredBytes: Int {
            (receiveBuffers + sendBuffers) * messageBytes + bulkBytes
        }
    }

    /// What the transport did. Plain numbers: read them on the loop's thread.
    public struct Counters: Hashable, Sendable {
        public var sends: UInt64 = 0
        public var inlineSends: UInt64 = 0
        public var sentBytes: UInt64 = 0
        public var writes: UInt64 = 0
        public var writtenBytes: UInt64 = 0
        public var receives: UInt64 = 0
        public var doorbells: UInt64 = 0
        public var polls: UInt64 = 0
        public var completions: UInt64 = 0
        public var signals: UInt64 = 0
        public var connects: UInt64 = 0
        public var accepts: UInt64 = 0
        public var rejects: UInt64 = 0
        public var connectFailures: UInt64 = 0
        public var disconnects: UInt64 = 0
        /// Connections that a completion with an error ended.
        public var pairErrors: UInt64 = 0
        /// Ports that went down, devices that went away.
        public var deviceEvents: UInt64 = 0
        /// Times a reservation had to wait for memory.
        public var bulkWaits: UInt64 = 0
    }

    /// A reservation that waits for memory.
    struct BulkWaiter {
        var request: UInt64
        var byteCount: Int
    }

    public internal(set) var counters = Counters()
    let loop: EventLoop
    let source: UInt8
    public let options: Options
    let cm: OpaquePointer
    var pairs = SlotTable<VerbsPair>()
    var index = PairIndex()
    var devices: [VerbsDevice?] = []
    /// Signalled work under way.
    var works = SlotTable<SignalledWork>()
    /// Connections whose failure is told at the next turn.
    var failed: [SlotHandle] = []
    /// Connections whose `post` was refused for want of send buffers, in order.
    var starved: [SlotHandle] = []
    var lostListeners: [SlotHandle] = []
    var nextListen = Ticks.zero
    var completions = [fabric_wc](repeating: fabric_wc(), count: 32)
    var reposts: [Int32] = []
    var batch = WorkBatch()
    /// Messages that travel inline wait here for their doorbell, which copies them.
    let inlineScratch: UnsafeMutableRawPointer

    /// Memory of sinks and of what users hold, then of sources.
    let bulk: UnsafeMutableRawPointer
    let bulkBytes: Int
    var sinks: BulkPool
    var sources: BulkPool
    var sinkWaiters = Outbox<BulkWaiter>()
    var sourceWaiters = Outbox<BulkWaiter>()
    var bulkFreed = false

    /// Whether this build has RDMA at all.
    public static var isAvailable: Bool { fabric_verbs_available() == 1 }

    /// Makes a transport without connections. ENOSYS without the trait RDMA; ENODEV and its like
    /// where the kernel has no connection manager.
    ///
    /// - Parameter source: the top byte of the tokens it uses on the loop.
    public init(
        on loop: EventLoop, source: UInt8 = 2, options: Options = Options()
    ) throws(FabricError) {
        precondition(source != EventLoop.reservedSource, "that source is the loop's own")
        precondition(options.bulkBytes >= 4 << 20, "a payload of either direction must fit")
        unsafe cm = try Self.openManager(loop, UInt64(source) << 56)
        self.loop = loop
        self.source = source
        self.options = options
        let megabytes = options.bulkBytes >> 20
        let sourceBytes = max(1, megabytes / 4) << 20
        let sinkBytes = (megabytes << 20) - sourceBytes
        sinks = BulkPool(byteCount: sinkBytes)
        sources = BulkPool(byteCount: sourceBytes)
        bulkBytes = sinkBytes + sourceBytes
        unsafe inlineScratch = .allocate(
            byteCount: WorkBatch.countMax * WorkBatch.inlineMax, alignment: 64)
        unsafe bulk = .allocate(byteCount: bulkBytes, alignment: 4096)
        unsafe bulk.initializeMemory(as: UInt8.self, repeating: 0, count: bulkBytes)
    }

    private static func openManager(
        _ loop: EventLoop, _ token: UInt64
    ) throws(FabricError) -> OpaquePointer {
        var opened: OpaquePointer?
        try FabricError.check(unsafe fabric_cm_create(&opened), "rdma_create_event_channel")
        guard let cm = unsafe opened else {
            preconditionFailure("the connection manager is there where it says so")
        }
        do throws(FabricError) {
            let descriptor = try FabricError.check(unsafe fabric_cm_descriptor(cm), "fcntl")
            try loop.add(descriptor, [.readable], token: token)
        } catch {
            _ = unsafe fabric_cm_destroy(cm)
            throw error
        }
        return unsafe cm
    }

    deinit {
        for handle in pairs.handles {
            guard let pair = pairs[handle], let identifier = unsafe pair.identifier else {
                continue
            }
            _ = unsafe fabric_identifier_disconnect(identifier)
            _ = unsafe fabric_pair_destroy(identifier)
        }
        // Devices are closed by the library with the last identifier on them.
        for device in devices { device?.destroy() }
        for handle in pairs.handles {
            guard let pair = pairs[handle], let identifier = unsafe pair.identifier else {
                continue
            }
            _ = unsafe fabric_identifier_destroy(identifier)
        }
        _ = unsafe fabric_cm_destroy(cm)
        unsafe bulk.deallocate()
        unsafe inlineScratch.deallocate()
    }

    enum Descriptor: UInt64 {
        case connections = 0
        case completions = 1
        case deviceEvents = 2
    }

    func token(_ descriptor: Descriptor, _ device: Int) -> UInt64 {
        UInt64(source) << 56 | descriptor.rawValue << 32 | UInt64(device)
    }

    /// Listeners and connections that exist now.
    public var pairCount: Int { pairs.count }
    /// Names of the devices in use, in the order in which they were opened.
    public var deviceNames: [String] { devices.compactMap { $0?.name } }
    /// Bytes of registered bulk memory that are free.
    public var bulkBytesFree: Int { sinks.freeBytes + sources.freeBytes }
}
