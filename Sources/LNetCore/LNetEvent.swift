public import Primitives
public import WireFormat

/// A peer by its place in the core: sending to it looks nothing up.
///
/// One from `peer(for:)` stays valid until `release`; one from an event until the peer's
/// connections are gone.
@frozen
public struct PeerRef: Hashable, Sendable, BitwiseCopyable {
    @usableFromInline let slot: SlotHandle
    @inlinable
    init(_ slot: SlotHandle) { self.slot = slot }
    public var rawValue: UInt64 { slot.rawValue }
}

/// An attached match entry with its memory descriptor.
@frozen
public struct MEHandle: Hashable, Sendable, BitwiseCopyable {
    let slot: SlotHandle
    init(_ slot: SlotHandle) { self.slot = slot }
    public var rawValue: UInt64 { slot.rawValue }
}

/// A GET under way, with its sink.
@frozen
public struct GetHandle: Hashable, Sendable, BitwiseCopyable {
    let slot: SlotHandle
    init(_ slot: SlotHandle) { self.slot = slot }
    public var rawValue: UInt64 { slot.rawValue }
}

/// What happened. Payload ranges are places in the core's arena: read them with `withPayload`
/// before the next call that passes bytes or time in.
public enum LNetEvent: Equatable, Sendable {
    /// A PUT matched; its payload is in the arena, or in the entry's buffer at `offset`.
    case put(Put)
    /// The connection broke within the payload of a PUT that had matched.
    case putFailed(cookie: UInt64, entry: MEHandle, errno: Int32, unlinked: Bool)
    /// A peer's GET was served from an entry's buffer.
    case get(Get)
    /// The target accepted our PUT.
    case ack(cookie: UInt64, mlength: Int)
    /// Our GET was answered.
    case reply(Reply)
    /// A PUT whose ACK, or a GET whose REPLY, will not come.
    case sendFailed(cookie: UInt64, errno: Int32)
    /// The first connection to a peer stands.
    case peerUp(NID)
    /// All connections to a peer are lost, or connecting failed; what waited for it has failed.
    case peerDown(NID, errno: Int32)
    /// A ping came to an end.
    case pinged(Ping)
    /// A discovery came to an end.
    case discovered(Discovery)

    public struct Put: Equatable, Sendable {
        public var cookie: UInt64
        public var entry: MEHandle
        public var initiator: ProcessID
        /// Where an answer goes without a lookup.
        public var peer: PeerRef
        public var portal: UInt32
        public var matchBits: UInt64
        public var hdrData: UInt64
        /// Where the bytes stand in a buffer; what the header said where there is none.
        public var offset: Int
        /// Bytes sent and bytes taken; they differ where TRUNCATE clipped.
        public var rlength: Int
        public var mlength: Int
        /// Bytes in the arena; empty where the entry has a buffer.
        public var payload: Range<Int>
        /// This was the entry's last operation.
        public var unlinked: Bool
    }

    public struct Get: Equatable, Sendable {
        public var cookie: UInt64
        public var entry: MEHandle
        public var initiator: ProcessID
        public var peer: PeerRef
        public var portal: UInt32
        public var matchBits: UInt64
        public var offset: Int
        public var mlength: Int
        public var unlinked: Bool
    }

    public struct Reply: Equatable, Sendable {
        public var cookie: UInt64
        public var handle: GetHandle
        public var length: Int
        /// Bytes in the arena; empty where the sink is a buffer (`takeBuffer`).
        public var payload: Range<Int>
    }

    public struct Discovery: Equatable, Sendable {
        public var id: UInt64
        /// Whoever it was about by its primary NID.
        public var nid: NID
        /// 0, or why the peer is not known.
        public var errno: Int32
    }

    public struct Ping: Equatable, Sendable {
        public var id: UInt64
        public var nid: NID
        /// 0, or why there was no answer.
        public var errno: Int32
        public var roundTrip: TickInterval
        /// The ping info (`PingInfo(parsing:)`), checked; empty on failure.
        public var payload: Range<Int>
    }
}
