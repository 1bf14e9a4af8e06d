/// What a target tells of the order in hand, of its store, and of what each client has said.
///
/// Stands behind a status reply. Little-endian; 64 bytes, then 40 for each client listed.
///
/// | offset | size | field                | unit or meaning                          |
/// |-------:|-----:|----------------------|------------------------------------------|
/// |      0 |    4 | scheme, cache policy, deadline policy, read policy | one byte each |
/// |      4 |    1 | flags                | 1 order in hand, 2 holds, 4 pre-flush    |
/// |      5 |    1 | `lastAbort`          | reason of the last abort + 1; 0 none     |
/// |      6 |    2 | `finalized`          | protocol version; 0 none                 |
/// |      8 |    4 | `storeFormat`        |                                          |
/// |     12 |    4 | `clientCount`        | clients in all, the unlisted among them  |
/// |     16 |    4 | `deadlineLeftMs`     | ms                                       |
/// |     20 |    4 | `expiryLeftMs`       | ms                                       |
/// |     24 |    4 | `pauseBudgetMs`      | ms; 0 none                               |
/// |     28 |    4 | `parkedConnects`     | of a standby                             |
/// |     32 |    8 | `next`               | NID                                      |
/// |     40 |    8 | `uncommittedBytes`   | bytes                                    |
/// |     48 |    8 | `commitLagNs`        | age of the oldest uncommitted update, ns |
/// |     56 |    8 | `lastCommitNs`       | how long the last commit took, ns        |
public struct UpgradeDetails: Equatable, Sendable {
    /// One client's account, in the order of the reply's `clients`.
    public struct Client: Equatable, Sendable {
        public static let encodedSize = 40

        /// 0 gone, 1 synchronous, 2 holds its admission lock, 3 prepared, 4 born prepared, 5 left
        /// behind.
        public var standing: UInt8
        /// It has answered the notice.
        public var hasNotice: Bool
        /// It has flushed in the pre-flush.
        public var isFlushed: Bool
        /// It has given a receipt; the fields from `openCount` on are the receipt's.
        public var hasReceipt: Bool
        /// Requests of it that the target has taken and not answered.
        public var requestCount: UInt16
        /// Milliseconds since it was heard of last.
        public var silentMs: UInt32
        public var openCount: UInt32
        public var flushedBytes: UInt64
        public var lastXID: XID
        public var lastTransno: Transno

        public init(
            standing: UInt8, hasNotice: Bool, isFlushed: Bool, requestCount: UInt16,
            silentMs: UInt32, receipt: UpgradeReceipt?
        ) {
            self.standing = standing
            self.hasNotice = hasNotice
            self.isFlushed = isFlushed
            self.requestCount = requestCount
            self.silentMs = silentMs
            hasReceipt = receipt != nil
            openCount = receipt?.openCount ?? 0
            flushedBytes = receipt?.flushedBytes ?? 0
            lastXID = receipt?.lastXID ?? .zero
            lastTransno = receipt?.lastTransno ?? .zero
        }

        func encode(into writer: inout WireWriter) {
            writer.u8(standing)
            writer.u8((hasNotice ? 1 : 0) | (isFlushed ? 2 : 0) | (hasReceipt ? 4 : 0))
            writer.u16(requestCount)
            writer.u32(silentMs)
            writer.u32(openCount)
            writer.u32(0)
            writer.u64(flushedBytes)
            writer.u64(lastXID.rawValue)
            writer.u64(lastTransno.rawValue)
        }

        init(from reader: inout WireReader) throws(WireError) {
            standing = try reader.u8()
            let flags = try reader.u8()
            guard flags <= 7 else { throw .reservedBitsSet(UInt64(flags)) }
            hasNotice = flags & 1 != 0
            isFlushed = flags & 2 != 0
            hasReceipt = flags & 4 != 0
            requestCount = try reader.u16()
            silentMs = try reader.u32()
            openCount = try reader.u32()
            try reader.reserved(4)
            flushedBytes = try reader.u64()
            lastXID = XID(rawValue: try reader.u64())
            lastTransno = Transno(rawValue: try reader.u64())
        }
    }

    public var scheme = UpgradeScheme.drain
    public var cachePolicy = CachePolicy.flush
    public var deadlinePolicy = DeadlinePolicy.leaveBehind
    public var readPolicy = ReadPolicy.cached
    /// An order is in hand; without one the fields about it say nothing.
    public var isOrdered = false
    public var holds = false
    /// The gates are open still, the clients flush.
    public var isPreflushing = false
    /// Why the last upgrade was given up: the reason's number; nil where none was.
    public var lastAbort: UInt8?
    /// No build that does not speak this version may have the store; nil before `finalize`.
    public var finalized: ProtocolVersion?
    public var storeFormat: UInt32 = 0
    public var clientCount: UInt32 = 0
    public var deadlineLeftMs: UInt32 = 0
    public var expiryLeftMs: UInt32 = 0
    public var pauseBudgetMs: UInt32 = 0
    public var parkedConnects: UInt32 = 0
    public var next = NID(rawValue: 0)
    public var uncommittedBytes: UInt64 = 0
    public var commitLagNs: UInt64 = 0
    public var lastCommitNs: UInt64 = 0
    public var clients: [Client] = []

    public init() {}

    func encode(clientCount listed: Int, into writer: inout WireWriter) {
        writer.u8(scheme.rawValue)
        writer.u8(cachePolicy.rawValue)
        writer.u8(deadlinePolicy.rawValue)
        writer.u8(readPolicy.rawValue)
        writer.u8((isOrdered ? 1 : 0) | (holds ? 2 : 0) | (isPreflushing ? 4 : 0))
        writer.u8(lastAbort.map { $0 &+ 1 } ?? 0)
        writer.u16(finalized?.rawValue ?? 0)
        writer.u32(storeFormat)
        writer.u32(clientCount)
        writer.u32(deadlineLeftMs)
        writer.u32(expiryLeftMs)
        writer.u32(pauseBudgetMs)
        writer.u32(parkedConnects)
        writer.u64(next.rawValue)
        writer.u64(uncommittedBytes)
        writer.u64(commitLagNs)
        writer.u64(lastCommitNs)
        precondition(clients.count >= listed, "details for every client that is listed")
        for client in clients.prefix(listed) { client.encode(into: &writer) }
    }

    init(from reader: inout WireReader, clientCount listed: Int) throws(WireError) {
        let rawScheme = try reader.u8()
        let rawCache = try reader.u8()
        let rawDeadline = try reader.u8()
        let rawReads = try reader.u8()
        guard let scheme = UpgradeScheme(rawValue: rawScheme),
            let cache = CachePolicy(rawValue: rawCache),
            let deadline = DeadlinePolicy(rawValue: rawDeadline),
            let reads = ReadPolicy(rawValue: rawReads)
        else { throw .badValue(field: "upgrade details", value: UInt64(rawScheme)) }
        self.scheme = scheme
        cachePolicy = cache
        deadlinePolicy = deadline
        readPolicy = reads
        let flags = try reader.u8()
        guard flags <= 7 else { throw .reservedBitsSet(UInt64(flags)) }
        isOrdered = flags & 1 != 0
        holds = flags & 2 != 0
        isPreflushing = flags & 4 != 0
        let abort = try reader.u8()
        lastAbort = abort == 0 ? nil : abort - 1
        let rawFinalized = try reader.u16()
        finalized = rawFinalized == 0 ? nil : ProtocolVersion(rawValue: rawFinalized)
        storeFormat = try reader.u32()
        clientCount = try reader.u32()
        deadlineLeftMs = try reader.u32()
        expiryLeftMs = try reader.u32()
        pauseBudgetMs = try reader.u32()
        parkedConnects = try reader.u32()
        next = NID(rawValue: try reader.u64())
        uncommittedBytes = try reader.u64()
        commitLagNs = try reader.u64()
        lastCommitNs = try reader.u64()
        clients.reserveCapacity(listed)
        for _ in 0..<listed { clients.append(try Client(from: &reader)) }
    }
}
