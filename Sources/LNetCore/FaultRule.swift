public import Primitives
public import WireFormat

/// A fault that an operator asked for: messages that match are dropped or delayed
/// (`struct lnet_fault_attr`).
public struct LNetFaultRule: Sendable {
    public enum Effect: Hashable, Sendable {
        /// Dropped on receipt; with health errors, failed on sending with one of them instead.
        case drop
        /// Held for so long, on sending and on receipt.
        case delay(TickInterval)
    }

    /// How many of the messages that match are hit.
    public enum Frequency: Hashable, Sendable {
        /// One of so many; the first is one.
        case rate(UInt32)
        /// One in each such time.
        case interval(TickInterval)
        case all
    }

    public var effect: Effect
    /// `NID.any` for all; an address of 255.255.255.255 for all of a network.
    public var source: NID
    public var destination: NID
    /// One bit for each portal; 0 for all. Only PUT and GET have a portal.
    public var portals: UInt64
    public var messages: Messages
    public var frequency: Frequency
    /// Bits by `LNetStatus`; 0 for none.
    public var healthErrors: UInt32

    @frozen
    public struct Messages: OptionSet, Hashable, Sendable, BitwiseCopyable {
        public var rawValue: UInt8
        @inlinable
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let put = Messages(rawValue: 1)
        public static let ack = Messages(rawValue: 2)
        public static let get = Messages(rawValue: 4)
        public static let reply = Messages(rawValue: 8)
        public static let all: Messages = [.put, .ack, .get, .reply]
    }

    public init(
        _ effect: Effect, source: NID = .any, destination: NID = .any, portals: UInt64 = 0,
        messages: Messages = .all, frequency: Frequency = .all, healthErrors: UInt32 = 0
    ) {
        self.effect = effect
        self.source = source
        self.destination = destination
        self.portals = portals
        self.messages = messages
        self.frequency = frequency
        self.healthErrors = healthErrors
    }

    /// `fs_*`: messages that matched, by type; and those dropped or delayed.
    public struct Statistics: Hashable, Sendable {
        public var count: UInt64 = 0
        public var put: UInt64 = 0
        public var ack: UInt64 = 0
        public var get: UInt64 = 0
        public var reply: UInt64 = 0
        public var hit: UInt64 = 0
    }

    public internal(set) var statistics = Statistics()
    /// Hits of an interval rule so far: when the next is due.
    private var dueAt = Ticks.zero

    static func matches(_ pattern: NID, _ nid: NID) -> Bool {
        pattern == .any || pattern == nid
            || (pattern.address == .max && pattern.net == nid.net)
    }

    /// Counts a message; true when it is hit.
    mutating func hits(_ header: LNetHeader, now: Ticks) -> Bool {
        guard Self.matches(source, header.source.nid),
            Self.matches(destination, header.destination.nid)
        else { return false }
        var portal: UInt32?
        let kind: Messages
        switch header.body {
        case .put(_, _, _, let index, _): (kind, portal) = (.put, index)
        case .get(_, _, let index, _, _): (kind, portal) = (.get, index)
        case .ack: kind = .ack
        case .reply: kind = .reply
        }
        guard messages.contains(kind) else { return false }
        if portals != 0 {
            guard let portal, portal < 64, portals >> UInt64(portal) & 1 == 1 else { return false }
        }
        statistics.count += 1
        switch kind {
        case .put: statistics.put += 1
        case .ack: statistics.ack += 1
        case .get: statistics.get += 1
        default: statistics.reply += 1
        }
        let isHit: Bool
        switch frequency {
        case .all: isHit = true
        case .rate(let rate): isHit = (statistics.count - 1) % UInt64(max(1, rate)) == 0
        case .interval(let interval):
            isHit = now >= dueAt
            if isHit { dueAt = now + interval }
        }
        if isHit { statistics.hit += 1 }
        return isHit
    }

    mutating func reset() {
        statistics = Statistics()
        dueAt = .zero
    }

    /// One of the health errors, in turn; nil where there is none.
    var status: LNetStatus? {
        let chosen = LNetStatus.allCases.filter { healthErrors >> UInt32($0.rawValue) & 1 == 1 }
        guard !chosen.isEmpty else { return nil }
        return chosen[Int(statistics.hit) % chosen.count]
    }
}
