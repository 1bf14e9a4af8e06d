import LNDCore
import Primitives
import WireFormat

/// A connection and what the node keeps beside its conversation.
struct Link: Sendable {
    var conversation: SockLNDConnection
    /// Whom it belongs to; nil for a stranger that has not said hello.
    var peer: SlotHandle?
    let remoteAddress: UInt32
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
        /// A push of ping info: accepted, acknowledged, not kept.
        case push
    }

    var header: LNetHeader
    var source: ProcessID
    var peer: SlotHandle
    var target: Target
    /// Bytes of the payload that are kept.
    var accepted: Int
    /// Bytes of the payload seen so far.
    var seen = 0
    /// Registered memory that it goes to, and where in it; nil for other memory.
    var slot: BulkSlot?
    var slotOffset = 0
}

/// A PUT that awaits its ACK, a GET or ping that awaits its REPLY.
struct Pending: Sendable, BitwiseCopyable {
    enum Kind: Sendable, BitwiseCopyable {
        case ack
        case get
        case ping(id: UInt64)
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
    /// A REPLY is arriving.
    var isArriving = false
}

/// A PUT that found no match entry on a lazy portal.
struct LazyMessage: Sendable {
    var receiving: Receiving
    var payload: [UInt8]
}
