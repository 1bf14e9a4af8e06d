import LNDCore
import Primitives
import WireFormat

/// A node we talk to, or that talks to us: its connections, credits and what waits for them.
struct Peer: Sendable {
    let process: ProcessID
    /// Index of our interface on its network; -1 where there is none.
    var interface = -1
    /// The user holds a `PeerRef`: the entry stays when its connections go.
    var isPinned = false
    /// This node itself: messages go through the loopback queue.
    var isSelf = false
    /// Open connections and our attempts by type, as raw slot handles; 0 for none.
    var open = ByType()
    var attempts = ByType()
    /// We opened CONTROL, so the bulk connections are ours to open as well.
    var isOurs = false
    var wantsBulk = false
    /// On all open connections.
    var incarnation: UInt64?
    var credits: Int
    /// Messages that wait for a credit or a connection.
    var waiting = Outbox<WaitingMessage>()
    /// Stands in the queue for interface credits.
    var awaitsInterface = false
    /// The pause after the last failed attempt; zero after a success.
    var backoff = TickInterval.zero
    var retryAt = Ticks.zero
    var retryArmed = false
    /// Attempts answered with NONE in a row.
    var refusals = 0
    /// What the peer told when it rejected us, over RDMA: its incarnation, and what it can agree to.
    var rejectedIncarnation: UInt64 = 0
    var agreeable: O2IBLNDParameters?
    /// Its requests that we rejected in a row because we were connecting, too.
    var races = 0
    var traffic = LNetTraffic()
    /// The fewest credits it ever had.
    var creditsMin: Int
    /// The node that it is an interface of, where one is known.
    var node: SlotHandle?
    /// Each message has to choose among ways.
    var selects = false
    /// Stands in the list of idle remotes.
    var isIdleRemote = false
    /// Messages of it that this router may hold yet; below zero is not.
    var routerCredits: Int
    var routerCreditsMin: Int
    /// The next peer in its bucket of the table.
    var next: UInt64 = 0

    struct ByType: Sendable, BitwiseCopyable {
        var control: UInt64 = 0
        var bulkIn: UInt64 = 0
        var bulkOut: UInt64 = 0

        var isEmpty: Bool { control | bulkIn | bulkOut == 0 }

        subscript(_ type: SockLNDConnectionType) -> UInt64 {
            get {
                switch type {
                case .control: control
                case .bulkIn: bulkIn
                case .bulkOut: bulkOut
                case .none, .any: 0
                }
            }
            set {
                switch type {
                case .control: control = newValue
                case .bulkIn: bulkIn = newValue
                case .bulkOut: bulkOut = newValue
                case .none, .any: break
                }
            }
        }
    }

    init(process: ProcessID, credits: Int, routerCredits: Int) {
        self.process = process
        self.routerCredits = routerCredits
        routerCreditsMin = routerCredits
        self.credits = credits
        creditsMin = credits
    }

    /// min_bulk: frames this long prefer BULK_OUT.
    static let minBulk = 1024
    /// Bytes in front of a payload; 24 more with large NIDs.
    static let frameOverhead = 96

    /// The connection for a message; 0 for none. BULK_IN never carries messages from us.
    func connection(payloadLength: Int) -> UInt64 {
        let overhead = Self.frameOverhead + (process.nid.isLarge ? 24 : 0)
        if payloadLength + overhead >= Self.minBulk {
            return open.bulkOut != 0 ? open.bulkOut : open.control
        }
        return open.control != 0 ? open.control : open.bulkOut
    }

    var isIdle: Bool { open.isEmpty && attempts.isEmpty && waiting.isEmpty }
}

/// A message that has not reached a connection yet.
struct WaitingMessage: Sendable {
    var header: LNetHeader
    var payload: [UInt8]
    var range: Range<Int>
    /// Registered memory that holds the payload instead, at `range`.
    var slot: BulkSlot?
    /// How often it went again, and whether it did.
    var retries: UInt8 = 0
    var isResent = false
    /// A router's buffer that it holds, and whose share that is.
    var pool: RouterPools.Size?
    var sender: SlotHandle?

    init(header: LNetHeader, payload: [UInt8], range: Range<Int>, slot: BulkSlot? = nil) {
        self.header = header
        self.payload = payload
        self.range = range
        self.slot = slot
    }
}
