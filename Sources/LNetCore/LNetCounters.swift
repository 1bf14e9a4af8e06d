public import LNDCore
public import WireFormat

/// Messages of one interface, or with one peer: `sent_stats`, `received_stats`, `dropped_stats`.
public struct LNetTraffic: Equatable, Sendable {
    public internal(set) var sent = LNetCounters.ByType()
    public internal(set) var received = LNetCounters.ByType()
    public internal(set) var dropped = LNetCounters.ByType()

    public init() {}

    mutating func add(_ other: LNetTraffic) {
        sent.add(other.sent)
        received.add(other.received)
        dropped.add(other.dropped)
    }
}

/// What a node has done and seen: `struct lnet_counters_common` and what `lnetctl stats` adds.
public struct LNetCounters: Sendable {
    /// Messages of one direction by type.
    public struct ByType: Equatable, Sendable {
        public internal(set) var ack: UInt64 = 0
        public internal(set) var put: UInt64 = 0
        public internal(set) var get: UInt64 = 0
        public internal(set) var reply: UInt64 = 0
        public var total: UInt64 { ack &+ put &+ get &+ reply }

        public init() {}

        mutating func add(_ other: ByType) {
            ack &+= other.ack
            put &+= other.put
            get &+= other.get
            reply &+= other.reply
        }

        mutating func count(_ body: LNetHeader.Body) {
            switch body {
            case .ack: ack &+= 1
            case .put: put &+= 1
            case .get: get &+= 1
            case .reply: reply &+= 1
            }
        }
    }

    /// Why a message that was well formed came to nothing.
    public enum Drop: Int, CaseIterable, Sendable {
        /// No match entry, on a portal that is not lazy or whose queue is full.
        case noMatch
        /// Longer than the matching descriptor, which does not truncate.
        case tooLong
        /// An ACK or REPLY that nobody awaits any more.
        case lateResponse
        /// For another network: routing is off.
        case notRouted
        /// The queue of the peer was full, or the peer has no way back.
        case notSent
        /// An operator's fault rule.
        case fault
        /// It came by a gateway that is none of ours.
        case asymmetric
    }

    public internal(set) var sent = ByType()
    public internal(set) var received = ByType()
    /// Payload bytes.
    public internal(set) var sendLength: UInt64 = 0
    public internal(set) var receiveLength: UInt64 = 0
    public internal(set) var dropLength: UInt64 = 0
    public internal(set) var connectionsOpened: UInt64 = 0
    public internal(set) var connectionsLost: UInt64 = 0
    public internal(set) var connectFailures: UInt64 = 0
    public internal(set) var responseTimeouts: UInt64 = 0
    /// Messages that went again on another way, and those of them that failed all the same.
    public internal(set) var resends: UInt64 = 0
    public internal(set) var failedResends: UInt64 = 0
    public internal(set) var recoveryPings: UInt64 = 0
    /// Messages that went through this node, and their payload bytes.
    public internal(set) var routed: UInt64 = 0
    public internal(set) var routeLength: UInt64 = 0
    private var statuses = InlineArray<11, UInt64>(repeating: 0)
    private var drops = InlineArray<7, UInt64>(repeating: 0)
    private var faults = InlineArray<32, UInt64>(repeating: 0)
    private var o2ibFaults = InlineArray<40, UInt64>(repeating: 0)
    private var rejectsSent = InlineArray<10, UInt64>(repeating: 0)
    private var rejectsReceived = InlineArray<10, UInt64>(repeating: 0)

    public init() {}

    public var sendCount: UInt64 { sent.total }
    public var receiveCount: UInt64 { received.total }
    public var dropCount: UInt64 {
        Drop.allCases.reduce(0) { $0 &+ self[$1] }
    }
    /// Connections that a protocol error of the peer ended.
    public var errors: UInt64 {
        SockLNDFault.allCases.reduce(0) {
            switch $1 {
            case .lostRace, .duplicate, .refused: $0
            default: $0 &+ self[$1]
            }
        }
            &+ O2IBLNDFault.allCases.reduce(0) {
                switch $1 {
                case .lostRace, .rejected, .replaced: $0
                default: $0 &+ self[$1]
                }
            }
    }

    public subscript(_ drop: Drop) -> UInt64 { drops[drop.rawValue] }
    /// Messages that failed, by status.
    public subscript(_ status: LNetStatus) -> UInt64 { statuses[Int(status.rawValue)] }
    public subscript(_ fault: SockLNDFault) -> UInt64 { faults[Int(fault.rawValue)] }

    public subscript(_ fault: O2IBLNDFault) -> UInt64 { o2ibFaults[Int(fault.rawValue)] }
    /// Requests to connect over RDMA that we rejected, by the protocol's reason.
    public func rejected(_ reason: O2IBLNDReject.Reason) -> UInt64 {
        rejectsSent[Int(reason.rawValue)]
    }
    /// Requests of ours that peers rejected, by the protocol's reason.
    public func rejectedByPeers(_ reason: O2IBLNDReject.Reason) -> UInt64 {
        rejectsReceived[Int(reason.rawValue)]
    }

    mutating func count(_ fault: O2IBLNDFault) { o2ibFaults[Int(fault.rawValue)] &+= 1 }
    mutating func countRejected(_ reason: O2IBLNDReject.Reason) {
        rejectsSent[Int(reason.rawValue)] &+= 1
    }
    mutating func countRejectedByPeer(_ reason: O2IBLNDReject.Reason) {
        rejectsReceived[Int(reason.rawValue)] &+= 1
    }

    mutating func count(_ status: LNetStatus) { statuses[Int(status.rawValue)] &+= 1 }

    mutating func count(_ drop: Drop, length: UInt32 = 0) {
        drops[drop.rawValue] &+= 1
        dropLength &+= UInt64(length)
    }

    mutating func count(_ fault: SockLNDFault) { faults[Int(fault.rawValue)] &+= 1 }
}
