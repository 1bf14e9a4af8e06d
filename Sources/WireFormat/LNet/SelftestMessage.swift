/// A message of lnet_selftest: a request to a service, or its reply. 160 bytes whatever the type, in
/// the sender's byte order; only little-endian senders are understood here.
/// Source: `struct srpc_msg` (lnet/selftest/rpc.h) as seen in captures of Lustre 2.17.
///
/// | offset | size | field      | meaning                                    |
/// |-------:|-----:|------------|--------------------------------------------|
/// |      0 |    4 | magic      | 0xeeb0f00d                                 |
/// |      4 |    4 | version    | 1                                          |
/// |      8 |    4 | type       | request: even; its reply: one more         |
/// |     12 |    8 | reserved   | 0                                          |
/// |     20 |    4 | `features` | of the session                             |
/// |     24 |  136 | `body`     | by type; zero where a type is shorter      |
///
/// Requests begin with the match bits of their reply (8); replies with a status (4).
public struct SelftestMessage: Equatable, Sendable {
    public var features: UInt32
    public var body: Body

    /// Who makes a session: the console, and when.
    @frozen
    public struct Session: Hashable, Sendable, BitwiseCopyable {
        public var nid: NID
        public var stamp: UInt64

        public init(nid: NID, stamp: UInt64) {
            self.nid = nid
            self.stamp = stamp
        }
        /// No session.
        public static let none = Session(nid: .any, stamp: .max)
    }

    /// What a test does.
    @frozen
    public enum Test: Hashable, Sendable, BitwiseCopyable {
        /// Service 12.
        case ping(size: UInt32, flags: UInt32)
        /// Service 11; LST_BRW_READ is 1, LST_BRW_WRITE 2; `check` is LST_BRW_CHECK_*.
        case bulk(isWrite: Bool, check: UInt16, length: UInt32, offset: UInt32)

        public var service: UInt32 {
            switch self {
            case .ping: 12
            case .bulk: 11
            }
        }
    }

    /// `sfw_counters`, `srpc_counters` and `lnet_counters_common`, as a STAT reply carries them.
    public struct Counters: Equatable, Sendable {
        public var runningMs: UInt32 = 0
        public var activeBatches: UInt32 = 0
        public var zombieSessions: UInt32 = 0
        public var brwErrors: UInt32 = 0
        public var pingErrors: UInt32 = 0
        public var errors: UInt32 = 0
        public var rpcsSent: UInt32 = 0
        public var rpcsReceived: UInt32 = 0
        public var rpcsDropped: UInt32 = 0
        public var rpcsExpired: UInt32 = 0
        public var bulkGet: UInt64 = 0
        public var bulkPut: UInt64 = 0
        public var messagesAllocated: UInt32 = 0
        public var messagesMax: UInt32 = 0
        public var lnetErrors: UInt32 = 0
        public var sendCount: UInt32 = 0
        public var receiveCount: UInt32 = 0
        public var routeCount: UInt32 = 0
        public var dropCount: UInt32 = 0
        public var sendLength: UInt64 = 0
        public var receiveLength: UInt64 = 0
        public var routeLength: UInt64 = 0
        public var dropLength: UInt64 = 0

        public init() {}
    }

    public enum Body: Equatable, Sendable {
        case makeSession(reply: UInt64, session: Session, force: Bool, name: String)
        case sessionMade(status: UInt32, session: Session, timeout: UInt32, name: String)
        case removeSession(reply: UInt64, session: Session)
        case sessionRemoved(status: UInt32, session: Session)
        /// `operation` is RUN 1, STOP 2 or QUERY 3.
        case batch(
            reply: UInt64, session: Session, batch: UInt64, operation: UInt32, testIndex: UInt32,
            argument: UInt32)
        case batchDone(status: UInt32, session: Session, active: UInt32, time: UInt32)
        case statistics(reply: UInt64, session: Session, type: UInt32)
        case statisticsTold(status: UInt32, session: Session, Counters)
        case test(
            reply: UInt64, bulk: UInt64, session: Session, batch: UInt64, loop: UInt32,
            concurrency: UInt32, isClient: Bool, stopsOnError: Bool, destinations: UInt32, Test)
        case testAdded(status: UInt32, session: Session)
        case bulk(reply: UInt64, bulk: UInt64, isWrite: Bool, length: UInt32, check: UInt32)
        case bulkDone(status: UInt32)
        case ping(reply: UInt64, sequence: UInt32, seconds: UInt64, fraction: UInt64)
        case pinged(status: UInt32, sequence: UInt32)
    }

    public init(features: UInt32 = 1, _ body: Body) {
        self.features = features
        self.body = body
    }

    public static let encodedSize = 160
    public static let magic: UInt32 = 0xeeb0_f00d
    public static let pingMagic: UInt32 = 0xbabe_face
    /// LST_NAME_SIZE, with the zero at its end.
    public static let nameSize = 32
    /// SRPC_REQUEST_PORTAL, SRPC_FRAMEWORK_REQUEST_PORTAL, SRPC_RDMA_PORTAL.
    public static let (testPortal, frameworkPortal, replyPortal): (UInt32, UInt32, UInt32) =
        (50, 51, 52)

    /// Reads a whole message.
    public init(parsing bytes: RawSpan) throws(WireError) {
        guard bytes.byteCount >= Self.encodedSize else {
            throw .truncated(need: Self.encodedSize, have: bytes.byteCount)
        }
        let magic: UInt32 = bytes.littleEndian(at: 0)
        guard magic == Self.magic else { throw .badMagic(magic) }
        let version: UInt32 = bytes.littleEndian(at: 4)
        guard version == 1 else { throw .badVersion(version) }
        features = bytes.littleEndian(at: 20)
        let type: UInt32 = bytes.littleEndian(at: 8)
        func u32(_ offset: Int) -> UInt32 { bytes.littleEndian(at: offset) }
        func u64(_ offset: Int) -> UInt64 { bytes.littleEndian(at: offset) }
        func session(_ offset: Int) -> Session {
            Session(nid: NID(rawValue: u64(offset)), stamp: u64(offset + 8))
        }
        func name(_ offset: Int) -> String {
            let raw = bytes.copy(offset..<(offset + Self.nameSize))
            return String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        switch type {
        case 0:
            body = .makeSession(
                reply: u64(24), session: session(32), force: u32(48) != 0, name: name(52))
        case 1:
            body = .sessionMade(
                status: u32(24), session: session(28), timeout: u32(44), name: name(48))
        case 2: body = .removeSession(reply: u64(24), session: session(32))
        case 3: body = .sessionRemoved(status: u32(24), session: session(28))
        case 4:
            body = .batch(
                reply: u64(24), session: session(32), batch: u64(48), operation: u32(56),
                testIndex: u32(60), argument: u32(64))
        case 5:
            body = .batchDone(
                status: u32(24), session: session(28), active: u32(44), time: u32(48))
        case 6: body = .statistics(reply: u64(24), session: session(32), type: u32(48))
        case 7:
            body = .statisticsTold(
                status: u32(24), session: session(28), Counters(parsing: bytes, at: 44))
        case 8:
            let service = u32(64)
            let test: Test
            switch service {
            case 12: test = .ping(size: u32(82), flags: u32(86))
            case 11:
                let word = u32(82)
                let operation = UInt16(truncatingIfNeeded: word)
                guard operation == 1 || operation == 2 else {
                    throw .badValue(field: "blk_opc", value: UInt64(operation))
                }
                test = .bulk(
                    isWrite: operation == 2, check: UInt16(truncatingIfNeeded: word >> 16),
                    length: u32(86), offset: u32(90))
            default: throw .badValue(field: "tsr_service", value: UInt64(service))
            }
            let flags = u32(76)
            body = .test(
                reply: u64(24), bulk: u64(32), session: session(40), batch: u64(56),
                loop: u32(68), concurrency: u32(72), isClient: flags & 0xff != 0,
                stopsOnError: flags & 0xff00 != 0, destinations: u32(78), test)
        case 9: body = .testAdded(status: u32(24), session: session(28))
        case 12:
            let operation = u32(40)
            guard operation == 1 || operation == 2 else {
                throw .badValue(field: "brw_rw", value: UInt64(operation))
            }
            body = .bulk(
                reply: u64(24), bulk: u64(32), isWrite: operation == 2, length: u32(44),
                check: u32(48))
        case 13: body = .bulkDone(status: u32(24))
        case 14:
            let magic = u32(32)
            guard magic == Self.pingMagic else { throw .badMagic(magic) }
            body = .ping(
                reply: u64(24), sequence: u32(36), seconds: u64(40), fraction: u64(48))
        case 15:
            let magic = u32(28)
            guard magic == Self.pingMagic else { throw .badMagic(magic) }
            body = .pinged(status: u32(24), sequence: u32(32))
        default: throw .badValue(field: "msg_type", value: UInt64(type))
        }
    }

    private var type: UInt32 {
        switch body {
        case .makeSession: 0
        case .sessionMade: 1
        case .removeSession: 2
        case .sessionRemoved: 3
        case .batch: 4
        case .batchDone: 5
        case .statistics: 6
        case .statisticsTold: 7
        case .test: 8
        case .testAdded: 9
        case .bulk: 12
        case .bulkDone: 13
        case .ping: 14
        case .pinged: 15
        }
    }

    public func encode(into writer: inout WireWriter) {
        let start = writer.count
        writer.u32(Self.magic)
        writer.u32(1)
        writer.u32(type)
        writer.u64(0)
        writer.u32(features)
        switch body {
        case .makeSession(let reply, let session, let force, let name):
            writer.u64(reply)
            session.encode(into: &writer)
            writer.u32(force ? 1 : 0)
            Self.write(name, into: &writer)
        case .sessionMade(let status, let session, let timeout, let name):
            writer.u32(status)
            session.encode(into: &writer)
            writer.u32(timeout)
            Self.write(name, into: &writer)
        case .removeSession(let reply, let session):
            writer.u64(reply)
            session.encode(into: &writer)
        case .sessionRemoved(let status, let session), .testAdded(let status, let session):
            writer.u32(status)
            session.encode(into: &writer)
        case .batch(let reply, let session, let batch, let operation, let index, let argument):
            writer.u64(reply)
            session.encode(into: &writer)
            writer.u64(batch)
            writer.u32(operation)
            writer.u32(index)
            writer.u32(argument)
        case .batchDone(let status, let session, let active, let time):
            writer.u32(status)
            session.encode(into: &writer)
            writer.u32(active)
            writer.u32(time)
        case .statistics(let reply, let session, let type):
            writer.u64(reply)
            session.encode(into: &writer)
            writer.u32(type)
        case .statisticsTold(let status, let session, let counters):
            writer.u32(status)
            session.encode(into: &writer)
            counters.encode(into: &writer)
        case .test(
            let reply, let bulk, let session, let batch, let loop, let concurrency, let isClient,
            let stopsOnError, let destinations, let test):
            writer.u64(reply)
            writer.u64(bulk)
            session.encode(into: &writer)
            writer.u64(batch)
            writer.u32(test.service)
            writer.u32(loop)
            writer.u32(concurrency)
            writer.u8(isClient ? 1 : 0)
            writer.u8(stopsOnError ? 1 : 0)
            writer.u32(destinations)
            switch test {
            case .ping(let size, let flags):
                writer.u32(size)
                writer.u32(flags)
            case .bulk(let isWrite, let check, let length, let offset):
                writer.u32(UInt32(check) << 16 | (isWrite ? 2 : 1))
                writer.u32(length)
                writer.u32(offset)
            }
        case .bulk(let reply, let bulk, let isWrite, let length, let check):
            writer.u64(reply)
            writer.u64(bulk)
            writer.u32(isWrite ? 2 : 1)
            writer.u32(length)
            writer.u32(check)
        case .bulkDone(let status):
            writer.u32(status)
        case .ping(let reply, let sequence, let seconds, let fraction):
            writer.u64(reply)
            writer.u32(Self.pingMagic)
            writer.u32(sequence)
            writer.u64(seconds)
            writer.u64(fraction)
        case .pinged(let status, let sequence):
            writer.u32(status)
            writer.u32(Self.pingMagic)
            writer.u32(sequence)
        }
        writer.zeros(Self.encodedSize - (writer.count - start))
    }

    private static func write(_ name: String, into writer: inout WireWriter) {
        let bytes = Array(name.utf8.prefix(nameSize - 1))
        writer.append(bytes)
        writer.zeros(nameSize - bytes.count)
    }
}

extension SelftestMessage.Session {
    func encode(into writer: inout WireWriter) {
        writer.u64(nid.rawValue)
        writer.u64(stamp)
    }
}

extension SelftestMessage.Counters {
    init(parsing bytes: RawSpan, at start: Int) {
        func u32(_ offset: Int) -> UInt32 { bytes.littleEndian(at: start + offset) }
        func u64(_ offset: Int) -> UInt64 { bytes.littleEndian(at: start + offset) }
        runningMs = u32(0)
        activeBatches = u32(4)
        zombieSessions = u32(8)
        brwErrors = u32(12)
        pingErrors = u32(16)
        errors = u32(20)
        rpcsSent = u32(24)
        rpcsReceived = u32(28)
        rpcsDropped = u32(32)
        rpcsExpired = u32(36)
        bulkGet = u64(40)
        bulkPut = u64(48)
        messagesAllocated = u32(56)
        messagesMax = u32(60)
        lnetErrors = u32(64)
        sendCount = u32(68)
        receiveCount = u32(72)
        routeCount = u32(76)
        dropCount = u32(80)
        sendLength = u64(84)
        receiveLength = u64(92)
        routeLength = u64(100)
        dropLength = u64(108)
    }

    func encode(into writer: inout WireWriter) {
        for word in [
            runningMs, activeBatches, zombieSessions, brwErrors, pingErrors, errors, rpcsSent,
            rpcsReceived, rpcsDropped, rpcsExpired,
        ] { writer.u32(word) }
        writer.u64(bulkGet)
        writer.u64(bulkPut)
        for word in [
            messagesAllocated, messagesMax, lnetErrors, sendCount, receiveCount, routeCount,
            dropCount,
        ] { writer.u32(word) }
        for word in [sendLength, receiveLength, routeLength, dropLength] { writer.u64(word) }
    }
}
