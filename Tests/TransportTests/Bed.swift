import Glibc
import LNDCore
import LNetCore
import Primitives
import Testing
import WireFormat

/// What a test hears of a node, with payloads copied out.
enum BedEvent: Equatable {
    case put(portal: UInt32, matchBits: UInt64, bytes: [UInt8], offset: Int, rlength: Int)
    case putFailed(UInt64)
    case get(UInt64, Int)
    case ack(UInt64, Int)
    case reply(UInt64, Int, [UInt8])
    case failed(UInt64, Int32)
    case up(NID)
    case down(NID)
    case pinged(Int32)
}

/// Two nodes of one network and what is between them.
protocol Bed: AnyObject {
    var name: String { get }
    var nids: [NID] { get }
    /// Large payloads go by RDMA: refusals are told, memory is registered.
    var isRDMA: Bool { get }
    /// What each node told, in order.
    var events: [[BedEvent]] { get set }
    /// Changes a node; what it wants is carried out by the next run.
    func with<R>(_ node: Int, _ body: (inout LNetCore, Ticks) -> R) -> R
    /// Lets things happen until the condition holds. False if it never does.
    func run(_ isDone: () -> Bool) -> Bool
    /// Lets `count` small steps happen.
    func step(_ count: Int)
    /// Breaks every connection as a fault of the fabric would.
    func breakConnections()
    /// The node is gone in this instant, and there again in a new life.
    func restart(_ node: Int)
    func reserve(_ node: Int, _ byteCount: Int) -> BulkSlot?
    func release(_ node: Int, _ slot: BulkSlot)
    func fill(_ node: Int, _ slot: BulkSlot, _ bytes: [UInt8])
    func read(_ node: Int, _ slot: BulkSlot, _ byteCount: Int) -> [UInt8]
    /// Registered memory that nobody holds, in bytes.
    var freeMemory: Int { get }
    /// Connections and attempts that the transport holds for both nodes.
    var heldConnections: Int { get }
}

extension Bed {
    func put(
        from node: Int, _ matchBits: UInt64, _ bytes: [UInt8], ack: UInt64? = nil,
        portal: UInt32 = 4
    ) {
        let target = nids[1 - node]
        with(node) { lnet, now in
            _ = lnet.put(
                to: target, portal: portal, matchBits: matchBits, payload: bytes, ackCookie: ack,
                now: now)
        }
    }

    /// An entry for PUTs of any match bits that hands payloads over with their events.
    @discardableResult
    func listen(_ node: Int, portal: UInt32 = 4) -> MEHandle {
        with(node) { lnet, _ in
            lnet.attach(
                portal: portal, matchBits: 0, ignoreBits: .max,
                MemoryDescriptor(memory: .events(), options: [.put, .truncate]), cookie: 1)
        }
    }

    func count(_ node: Int, _ isWanted: (BedEvent) -> Bool) -> Int {
        events[node].reduce(0) { $0 + (isWanted($1) ? 1 : 0) }
    }

    func expect(_ isDone: @autoclosure () -> Bool, _ what: String) throws {
        let isDone = run(isDone)
        try #require(isDone, "\(name): \(what); heard \(summary); counted \(faults)")
    }

    /// Why connections ended, by node.
    private var faults: String {
        (0..<2).map { node in
            with(node) { lnet, _ in
                let o2ib = O2IBLNDFault.allCases.filter { lnet.counters[$0] > 0 }
                    .map { "\($0) \(lnet.counters[$0])" }
                let sock = SockLNDFault.allCases.filter { lnet.counters[$0] > 0 }
                    .map { "\($0) \(lnet.counters[$0])" }
                return (o2ib + sock).joined(separator: ", ")
            }
        }.joined(separator: " | ")
    }

    private var summary: String {
        events.map { list in
            list.suffix(6).map { event in
                switch event {
                case .put(_, let bits, let bytes, _, _): "put(\(bits), \(bytes.count))"
                case .reply(let cookie, let count, _): "reply(\(cookie), \(count))"
                default: "\(event)"
                }
            }.joined(separator: " ")
        }.joined(separator: " | ")
    }

    /// The transport holds no connection that its node has let go of.
    func expectNoStrays() throws {
        try expect(
            heldConnections
                == (0..<2).reduce(0) { sum, node in
                    sum
                        + with(node) { lnet, _ in
                            Int(lnet.counters.connectionsOpened - lnet.counters.connectionsLost)
                        }
                }, "\(heldConnections) connections are all known to their nodes")
    }

    /// Nothing is under way, and all memory is where it was.
    func expectQuiet(free: Int) throws {
        for node in 0..<2 {
            try expect(
                with(node) { lnet, _ in lnet.bulkCount } == 0, "node \(node) ends its transfers")
        }
        try expect(freeMemory == free, "all registered memory comes back")
        try expectNoStrays()
    }
}

/// Bytes to cut patterns from: made once, for an emulated machine runs these tests, too.
private let patternSource: [UInt8] = {
    var random = SplitMix64(seed: 1)
    var writer = WireWriter(capacity: patternBytes)
    while writer.count < patternBytes { writer.u64(random.next()) }
    return writer.bytes
}()
private let patternBytes = (1 << 20) + 65_536

/// `count` bytes, at most 1 MiB, other ones for every seed below 65,536.
func pattern(_ count: Int, _ seed: UInt64) -> [UInt8] {
    let start = Int(seed &* 40_503 & 0xffff)
    return Array(patternSource[start..<(start + count)])
}

/// Whether two runs of bytes are equal, faster than a debug build compares arrays.
func same(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    guard a.count == b.count else { return false }
    return unsafe a.withUnsafeBytes { a in
        unsafe b.withUnsafeBytes { b in
            // SAFETY: both views hold `a.count` bytes for the call.
            unsafe a.isEmpty || memcmp(a.baseAddress!, b.baseAddress!, a.count) == 0
        }
    }
}
