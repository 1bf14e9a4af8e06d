internal import CFabric
public import EventLoop
internal import Glibc
public import Primitives

/// Many non-blocking TCP connections and listeners on one event loop's thread.
///
/// The owner passes the loop's readiness to `ready` and calls `turn` once per iteration; both call
/// the owner's `TCPTransportHandler`. Incoming bytes are received into one scratch buffer and lent
/// to the handler; outgoing bytes stay with the owner until the kernel takes them. An idle
/// connection costs 48 bytes here.
///
/// ```swift
/// struct Reactor: ~Copyable, EventHandler {
///     var transport: TCPTransport
///     var node: Node  // a TCPTransportHandler
///
///     mutating func ready(_ token: UInt64, _ readiness: Readiness, on loop: EventLoop) {
///         transport.ready(token, readiness, handler: &node)
///     }
///     mutating func turn(on loop: EventLoop) -> Ticks {
///         transport.turn(handler: &node)
///         return min(transport.nextDeadline, node.nextDeadline)
///     }
/// }
/// ```
@safe
public struct TCPTransport: ~Copyable {
    public struct Options: Sendable {
        /// The size of the scratch buffer: the most that one connection receives per iteration, so
        /// that a fast peer cannot keep the loop from the others.
        public var receiveBytesMax = 256 * 1024
        /// How many connections one listener takes in per iteration.
        public var acceptsMax = 64
        /// How many connections the kernel completes ahead of us, bounded by its somaxconn.
        public var backlog: Int32 = 4096
        /// How long a listener rests when the machine is out of descriptors or memory.
        public var acceptBackoff = TickInterval.milliseconds(100)
        /// SO_SNDBUF of connections; nil leaves it to the kernel, which adapts it.
        public var sendBufferBytes: Int32?
        /// SO_RCVBUF of connections; nil leaves it to the kernel, which adapts it.
        public var receiveBufferBytes: Int32?

        public init() {}
    }

    /// What the transport did. Plain numbers: read them on the loop's thread.
    public struct Counters: Hashable, Sendable {
        public var receives: UInt64 = 0
        public var receivedBytes: UInt64 = 0
        public var sends: UInt64 = 0
        public var sentBytes: UInt64 = 0
        /// Sends that the kernel did not take whole.
        public var blockedSends: UInt64 = 0
        public var accepts: UInt64 = 0
        public var connects: UInt64 = 0
        public var connectFailures: UInt64 = 0
        /// Connections ended by the peer or by an error.
        public var peerCloses: UInt64 = 0
        /// Times a listener had to rest.
        public var acceptBackoffs: UInt64 = 0
        /// Events for descriptors that were closed before in the same batch.
        public var staleEvents: UInt64 = 0
    }

    @usableFromInline
    struct Rest {
        @usableFromInline var listener: SlotHandle
        @usableFromInline var until: Ticks
    }

    public internal(set) var counters = Counters()
    @usableFromInline
    let loop: EventLoop
    public let source: UInt8
    let options: Options
    @usableFromInline var sockets = SlotTable<Socket>()
    /// What listeners are bound to, but for those that are at every address.
    var bound: [SlotHandle: IPAddress] = [:]
    /// The connection that brought the last bytes.
    @usableFromInline var hot = SlotHandle(rawValue: 0)
    /// Connections that were lost while no event could say so.
    @usableFromInline var lost: [SlotHandle] = []
    var lostSpare: [SlotHandle] = []
    @usableFromInline var resting: [Rest] = []
    @usableFromInline let scratch: UnsafeMutableRawPointer

    /// Makes a transport without sockets.
    ///
    /// - Parameter source: the top byte of the tokens it uses on the loop; its owner passes events
    ///   with that top byte to `ready`.
    public init(on loop: EventLoop, source: UInt8 = 1, options: Options = Options()) {
        precondition(source != EventLoop.reservedSource, "that source is the loop's own")
        precondition(options.receiveBytesMax > 0 && options.acceptsMax > 0)
        self.loop = loop
        self.source = source
        self.options = options
        unsafe scratch = .allocate(byteCount: options.receiveBytesMax, alignment: 4096)
    }

    deinit {
        for handle in sockets.handles {
            if let socket = sockets[handle], socket.descriptor >= 0 {
                _ = fabric_descriptor_close(socket.descriptor)
            }
        }
        unsafe scratch.deallocate()
    }

    /// Listeners and connections that exist now.
    public var socketCount: Int { sockets.count }
}
