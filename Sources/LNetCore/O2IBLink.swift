import LNDCore
import Primitives
import WireFormat

/// A connection over RDMA and what the node keeps beside its conversation.
struct O2IBLink: Sendable {
    var conversation: O2IBLNDConnection
    /// Whom it belongs to.
    let peer: SlotHandle
    let isActive: Bool
    /// In the peer's set of open connections.
    var isRegistered = false
    /// The shell was told to flush and has not taken everything yet.
    var flushOwed = false
    /// What peers name our registered memory by.
    var remoteKey: UInt32 = 0
    /// LNet messages whose credits this connection holds.
    var heldMessages = 0
    var lastReceived: Ticks
    /// When output last moved, or began to wait.
    var lastTaken: Ticks
}

/// A bulk payload over RDMA, at either end.
struct O2IBBulk: Sendable {
    enum Kind: UInt8, Sendable, BitwiseCopyable {
        /// A PUT or REPLY of ours that is offered.
        case source
        /// The answer to a peer's GET.
        case service
        /// A peer's PUT or REPLY.
        case sink
        /// A GET of ours.
        case get
    }

    let kind: Kind
    let link: SlotHandle
    /// What the conversation calls it; 0 while it does not know of it.
    var transfer: UInt64 = 0
    /// The memory: reserved for this transfer, or the user's.
    var slot: BulkSlot?
    var isUsers = false
    /// Where in the user's memory.
    var offset = 0
    var byteCount: Int
    /// The source's bytes, where they are not in the user's registered memory.
    var payload: [UInt8] = []
    var range: Range<Int> = 0..<0
    /// Of a sink: the message. Of a source or a GET: its header.
    var receiving: Receiving?
    var header: LNetHeader?
    /// Of a GET: what awaits the answer.
    var pending: SlotHandle?
    /// All bytes are there; only the shell's look at them is missing.
    var isComplete = false
    /// When it last got on; a transfer that does not is a dead peer. Waiting for our own memory
    /// does not count.
    var since: Ticks
    var waitsForMemory = false
}

extension LNetCore {
    /// Marks the connection keys of RDMA connections, whose places are counted apart.
    static let o2ibBit: UInt64 = 1 << 31

    static func isO2IB(_ key: UInt64) -> Bool { key & o2ibBit != 0 }
    static func o2ibSlot(_ key: UInt64) -> SlotHandle { SlotHandle(rawValue: key & ~o2ibBit) }
    static func o2ibKey(_ link: SlotHandle) -> UInt64 { link.rawValue | o2ibBit }
}
