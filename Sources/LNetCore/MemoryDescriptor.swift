public import Primitives

/// The memory behind a match entry, and what may be done with it. C name: `struct lnet_md`.
public struct MemoryDescriptor: Sendable {
    /// Where bytes come from and go to.
    public enum Memory: Sendable {
        /// Each PUT's payload is handed over with its event; at most `lengthMax` bytes of each.
        case events(lengthMax: Int = 1 << 20)
        /// One buffer, owned by the core until `takeBuffer`: sink of PUTs and source of GETs.
        case buffer([UInt8])
        /// Registered memory of the user's: bulk goes straight between it and the wire. Filled once
        /// the shell has carried out the actions that came before the event. A source of GETs over
        /// RDMA only.
        case registered(BulkSlot)
    }

    /// LNET_MD_*.
    @frozen
    public struct Options: OptionSet, Hashable, Sendable, BitwiseCopyable {
        public var rawValue: UInt32
        @inlinable
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// LNET_MD_OP_PUT: a PUT may match.
        public static let put = Options(rawValue: 0x1)
        /// LNET_MD_OP_GET: a GET may match.
        public static let get = Options(rawValue: 0x2)
        /// LNET_MD_MANAGE_REMOTE: the initiator says at which offset; otherwise the local offset
        /// advances with each operation.
        public static let manageRemote = Options(rawValue: 0x4)
        /// LNET_MD_TRUNCATE: a longer operation is clipped; otherwise it is dropped.
        public static let truncate = Options(rawValue: 0x10)
        /// LNET_MD_ACK_DISABLE: no ACK is sent even if asked for.
        public static let ackDisable = Options(rawValue: 0x20)
    }

    public var memory: Memory
    public var options: Options
    /// Operations until the descriptor is exhausted; nil for no end.
    public var threshold: Int?

    public init(memory: Memory, options: Options, threshold: Int? = nil) {
        self.memory = memory
        self.options = options
        self.threshold = threshold
    }
}
