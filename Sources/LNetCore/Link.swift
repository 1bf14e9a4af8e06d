import LNDCore
import Primitives
import WireFormat

/// A connection and what the node keeps beside its conversation.
struct Link: Sendable {
    var conversation: SockLNDConnection
    /// Whom it belongs to; nil for a stranger that has not said hello.
    var peer: SlotHandle?
    let remoteAddress: IPAddress
    let remotePort: UInt16
    let isActive: Bool
    /// In the peer's set of open connections.
    var isRegistered = false
    /// The shell was told to flush and has not taken everything yet.
    var flushOwed = false
    /// The message being received.
    var receiving: Receiving?
    /// Its payload so far, where it came in pieces and has no buffer to go to.
    var assembly: [UInt8] = []
    var lastReceived: Ticks
    /// When output last moved, or began to wait.
    var lastTaken: Ticks
    var lastKeepalive: Ticks
    /// A message that waits for a buffer of this router; nothing is read meanwhile.
    var stalled: LNetHeader?
    /// What the shell had read already.
    var backlog: [UInt8] = []
    /// Messages appended to the output, and those of them that were taken.
    var appended: UInt64 = 0
    var taken: UInt64 = 0
    /// Buffers of this router that are free once so many messages were taken.
    var tokens = Outbox<RouterToken>()
}

/// A router's buffer in use by a message in a connection's output.
struct RouterToken: Sendable, BitwiseCopyable {
    var message: UInt64
    var size: RouterPools.Size
    var sender: SlotHandle?
}

/// A message whose payload arrives.
struct Receiving: Sendable, BitwiseCopyable {
    enum Target: Sendable, BitwiseCopyable {
        /// Dropped: the bytes are only counted off the stream.
        case discard
        /// No match on a lazy portal: kept until an entry is attached.
        case lazy
        case put(Match)
        /// A REPLY for a pending GET; `buffer` nil: to the arena.
        case reply(pending: SlotHandle, buffer: SlotHandle?)
        /// A push of ping info.
        case push
        /// For another network, by this peer; with a router's buffer, or beyond them.
        case forward(path: SlotHandle, pool: RouterPools.Size?)
    }

    var header: LNetHeader
    var source: ProcessID
    /// Whose message it is.
    var peer: SlotHandle
    var target: Target
    /// Bytes of the payload that are kept.
    var accepted: Int
    /// Bytes of the payload seen so far.
    var seen = 0
    /// Registered memory that it goes to, and where in it; nil for other memory.
    var slot: BulkSlot?
    var slotOffset = 0
    /// Who handed it to us: the peer itself, or a gateway. Answers go back there.
    var via: SlotHandle
    /// A fault rule has held it already, or drops it.
    var isHeld = false
    var isDropped = false

    init(
        header: LNetHeader, source: ProcessID, peer: SlotHandle, target: Target, accepted: Int,
        via: SlotHandle
    ) {
        self.header = header
        self.source = source
        self.peer = peer
        self.target = target
        self.accepted = accepted
        self.via = via
    }
}

/// A PUT that awaits its ACK, a GET or ping that awaits its REPLY.
struct Pending: Sendable, BitwiseCopyable {
    enum Kind: Sendable, BitwiseCopyable {
        case ack
        case get
        case ping(id: UInt64)
        case discovery(node: SlotHandle, nid: NID)
        case push(node: SlotHandle, sequence: UInt32)
        /// Of our interface, or of the peer's where that is nil.
        case recovery(interface: Int?)
        /// Over; the sink waits for `takeBuffer`.
        case done
    }

    var kind: Kind
    var cookie: UInt64
    var peer: SlotHandle
    var nid: NID
    /// The longest REPLY that fits.
    var length: Int
    var buffer: SlotHandle?
    /// A sink in registered memory.
    var slot: BulkSlot?
    var sentAt: Ticks
    /// How often the message went again on another way.
    var retries: UInt8 = 0
    /// A REPLY is arriving.
    var isArriving = false
}

/// A PUT that found no match entry on a lazy portal.
struct LazyMessage: Sendable {
    var receiving: Receiving
    var payload: [UInt8]
}
