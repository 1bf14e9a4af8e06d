import ArgumentParser
import LNetCore
import Primitives
import WireFormat

/// What the two sides of a network benchmark do.
enum NetBenchKind: String, CaseIterable, Sendable {
    /// LNet: a PUT of 64 B, answered by one.
    case put
    /// LNet: GETs of 1 MiB, 8 of them under way.
    case get
    /// LNet: PUTs of 1 MiB with an ACK, 8 of them under way.
    case bulk
    /// Two sockets and epoll: as many bytes there and back as `put` has on the wire.
    case echo
    /// The same: requests and answers of as many bytes as those of `get`.
    case fetch
    /// One socket writes as fast as it can, the other reads.
    case stream
    /// lnet_selftest's brw read of 4 KiB, 64 of them under way: `sluice net selftest` and a node.
    case brw
    /// Two sockets and epoll: as many bytes there and back as an RPC of `brw` has on the wire.
    case exchange

    var isLNet: Bool { self == .put || self == .get || self == .bulk }
}

/// Sizes of what is on the wire; see `SockLNDConnection` and `LNetHeader`.
enum NetBenchSize {
    static let put = 64
    static let get = 1 << 20
    static let small = 4096

    /// Questions under way.
    static func depth(_ kind: NetBenchKind) -> Int {
        switch kind {
        case .put, .echo: 1
        case .get, .bulk, .fetch, .stream: 8
        case .brw, .exchange: 64
        }
    }

    /// Bytes that an operation is about.
    static func payload(_ kind: NetBenchKind) -> Int {
        switch kind {
        case .put, .echo: put
        case .get, .bulk, .fetch, .stream: get
        case .brw, .exchange: small
        }
    }

    /// socklnd's message header and LNet's, in front of every payload.
    static let headers = 24 + 72
    /// Operations at the start of a run that are not counted: connections, caches, branch tables.
    static let skipped = 64
    static let portal: UInt32 = 40
    static let getBits: UInt64 = 7
    static let bulkBits: UInt64 = 8

    static func configuration(_ nid: NID, acceptPort: UInt16) -> LNetConfiguration {
        LNetConfiguration(
            nid: nid, incarnation: 0, acceptPort: acceptPort, privilegedPorts: false,
            seed: nid.rawValue)
    }
}

/// How a side waits for what comes next.
enum NetBenchWait: String, CaseIterable, ExpressibleByArgument, Sendable {
    /// Asks again and again, without sleeping.
    case polling
    /// Sleeps in the kernel.
    case sleeping

    var spin: TickInterval { self == .polling ? .seconds(3600) : .zero }
}
