import LNetCore
import Primitives
import WireFormat

@testable import PtlRPCCore

/// A client over its LNet, and servers that note every request and answer only as a test says.
struct ClientRig {
    struct Received {
        var server: Int
        var header: PtlRPCBody
        var body: RequestBody
        var xid: XID
        var portal: UInt32
        /// Where the answer goes.
        var source = ClientRig.nid(0)
    }

    private struct Socket {
        var nodes: [Int]
        var keys: [UInt64?]
        var inFlight: [[UInt8]] = [[], []]
    }

    var client: RPCClient
    /// Node 0 is the client's.
    var nodes: [LNetCore] = []
    var now = Ticks(nanoseconds: 1_000_000_000)
    /// Requests that have arrived and were not taken by the test.
    var inbox: [Received] = []
    /// Answers of the client to callbacks.
    var answers: [(header: PtlRPCBody, body: ReplyBody)] = []
    var events: [RPCClientEvent] = []
    /// What LNet told the servers.
    var serverEvents: [LNetEvent] = []
    /// Nodes that nobody can connect to.
    var refusing: Set<Int> = []
    /// Networks on which nobody can connect.
    var refusingNetworks: Set<UInt16> = []
    /// In which version a server reads requests and writes replies.
    var versions: [ProtocolVersion] = []
    /// A real server in the place of node 1's script.
    var server: RPCServer?
    private var sockets: [Socket] = []
    private var pendingFlushes: [Set<UInt64>] = []

    static func nid(_ node: Int) -> NID { nid(node, network: 0) }
    static func nid(_ node: Int, network: UInt16) -> NID {
        NID(
            address: 0x7F00_0101 + UInt32(node) + UInt32(network) << 8, type: .tcp,
            number: network)
    }

    init(
        servers: Int = 1, attaches: Bool = true, networks: UInt16 = 1,
        _ change: (inout RPCClientConfiguration) -> Void = { _ in }
    ) {
        var configuration = RPCClientConfiguration(
            clientUUID: "client-1", clientHandle: 0x1000, wallSeconds: 1_700_000_000, seed: 7)
        change(&configuration)
        client = RPCClient(configuration)
        for node in 0...servers {
            var configuration = LNetConfiguration(
                nid: Self.nid(node), incarnation: 1000 + UInt64(node), acceptPort: 9880,
                seed: UInt64(node))
            configuration.otherNIDs = (1..<networks).map { Self.nid(node, network: $0) }
            configuration.reconnectMin = .milliseconds(1)
            configuration.reconnectMax = .milliseconds(1)
            nodes.append(LNetCore(configuration))
            versions.append(.v2)
            pendingFlushes.append([])
            if node > 0, attaches { attach(node) }
        }
    }

    private mutating func attach(_ node: Int) {
        for portal: UInt32 in [12, 28, 17, 16] {
            _ = nodes[node].attach(
                portal: portal, matchBits: 0, ignoreBits: .max,
                MemoryDescriptor(memory: .events(), options: [.put, .manageRemote]),
                cookie: UInt64(portal))
        }
    }

    // MARK: Bytes

    private mutating func collect(_ node: Int) {
        while let event = nodes[node].events.popFirst() {
            if node == 0 {
                _ = client.handle(event, lnet: &nodes[0], now: now)
                collectClient()
            } else if node == 1, server != nil {
                _ = server!.handle(event, lnet: &nodes[1], now: now)
            } else if case .put(let put) = event {
                received(put, node)
            } else {
                serverEvents.append(event)
            }
        }
    }

    mutating func collectClient() {
        while let event = client.events.popFirst() { events.append(event) }
    }

    private mutating func received(_ put: LNetEvent.Put, _ node: Int) {
        let bytes = nodes[node].withPayload(put.payload) { $0.copy(0..<$0.byteCount) }
        let version = versions[node]
        RawSpan.over(bytes) { span in
            guard let message = try? LustreMessage(parsing: span),
                var reader = try? message.reader(0, in: span),
                let header = try? PtlRPCBody(from: &reader)
            else { preconditionFailure("the client sends what can be read") }
            if put.portal == 16 {
                let body = try? ReplyBody(
                    opcode: header.opcode, status: header.status, message: message, bytes: span,
                    version: version)
                answers.append((header, body ?? .empty))
                return
            }
            guard
                let body = try? RequestBody(
                    opcode: header.opcode, message: message, bytes: span, version: version)
            else { preconditionFailure("the client sends what can be read") }
            inbox.append(
                Received(
                    server: node, header: header, body: body,
                    xid: XID(rawValue: put.matchBits), portal: put.portal,
                    source: put.initiator.nid))
        }
    }

    private mutating func act(_ node: Int) -> Bool {
        var didAct = false
        while let action = nodes[node].actions.popFirst() {
            didAct = true
            switch action {
            case .o2ib: preconditionFailure("these nodes are on TCP")
            case .pause, .resume, .listen, .unlisten: break
            case .connect(let key, let from, let to, _, _):
                let (from, to) = (from.v4, to.v4)
                let network = UInt16(to >> 8 & 0xff) - 1
                let target = nodes.indices.first {
                    Self.nid($0, network: network).address == to
                }
                guard let target, !refusing.contains(target), !refusing.contains(node),
                    !refusingNetworks.contains(network)
                else {
                    nodes[node].closed(key, errno: 111, now: now)
                    collect(node)
                    continue
                }
                let accepted = nodes[target].accepted(
                    remoteAddress: from, remotePort: 40_000 + UInt16(sockets.count),
                    on: Self.nid(target, network: network), now: now)
                sockets.append(Socket(nodes: [node, target], keys: [key, accepted]))
                nodes[node].established(key, now: now)
            case .close(let key):
                for index in sockets.indices {
                    for end in 0..<2
                    where sockets[index].nodes[end] == node && sockets[index].keys[end] == key {
                        sockets[index].keys[end] = nil
                        if let other = sockets[index].keys[1 - end] {
                            sockets[index].keys[1 - end] = nil
                            nodes[sockets[index].nodes[1 - end]].closed(
                                other, errno: 0, now: now)
                        }
                    }
                }
            case .flush(let key):
                pendingFlushes[node].insert(key)
            }
        }
        return didAct
    }

    mutating func settle() {
        collectClient()
        var moved = true
        while moved {
            moved = false
            now = now + .microseconds(1)
            for node in nodes.indices {
                collect(node)
                if act(node) { moved = true }
                for key in pendingFlushes[node].sorted() {
                    pendingFlushes[node].remove(key)
                    var taken: [UInt8] = []
                    nodes[node].withOutput(key) { bytes in
                        taken += bytes.copy(0..<bytes.byteCount)
                        return bytes.byteCount
                    }
                    moved = moved || !taken.isEmpty
                    for index in sockets.indices {
                        for end in 0..<2
                        where sockets[index].nodes[end] == node
                            && sockets[index].keys[end] == key
                        {
                            sockets[index].inFlight[1 - end] += taken
                        }
                    }
                }
            }
            for index in sockets.indices {
                for end in 0..<2 where !sockets[index].inFlight[end].isEmpty {
                    let bytes = sockets[index].inFlight[end]
                    sockets[index].inFlight[end] = []
                    guard let key = sockets[index].keys[end] else { continue }
                    let node = sockets[index].nodes[end]
                    moved = true
                    RawSpan.over(bytes) { nodes[node].received(key, $0, now: now) }
                    collect(node)
                }
            }
        }
        collectClient()
    }

    /// Lets time pass and meets every deadline.
    mutating func run(_ interval: TickInterval) {
        let end = now + interval
        settle()
        while true {
            let next = min(
                client.nextDeadline ?? .distantFuture,
                nodes.compactMap(\.nextDeadline).min() ?? .distantFuture,
                server?.nextDeadline ?? .distantFuture)
            guard next <= end else { break }
            if next > now { now = next }
            for node in nodes.indices {
                nodes[node].tick(now)
                collect(node)
            }
            server?.tick(lnet: &nodes[1], now: now)
            client.tick(lnet: &nodes[0], now: now)
            settle()
        }
        if end > now { now = end }
    }

    /// Every socket of a server dies.
    mutating func cut(_ server: Int) {
        for index in sockets.indices where sockets[index].nodes.contains(server) {
            for end in 0..<2 {
                sockets[index].inFlight[end] = []
                guard let key = sockets[index].keys[end] else { continue }
                sockets[index].keys[end] = nil
                nodes[sockets[index].nodes[end]].closed(key, errno: 104, now: now)
            }
        }
        for node in nodes.indices { collect(node) }
    }

    // MARK: The servers

    /// The oldest request that was not taken. Traps if there is none.
    mutating func take() -> Received {
        settle()
        precondition(!inbox.isEmpty, "a request has arrived")
        return inbox.removeFirst()
    }

    mutating func takeAll() -> [Received] {
        settle()
        defer { inbox = [] }
        return inbox
    }

    mutating func reply(
        _ request: Received, status: Status = .ok, _ body: ReplyBody = .empty, transno: UInt64 = 0,
        lastCommitted: UInt64 = 0, connectionCount: UInt32? = nil, trailer: ReplyTrailer? = nil,
        preVersions: PreVersions = PreVersions(), serviceEstimate: UInt32 = 0,
        serviceSeconds: UInt32 = 0, from server: Int? = nil
    ) {
        var header = PtlRPCBody()
        header.type = .reply
        header.opcode = request.header.opcode
        header.status = status
        header.handle = 0xE0 + UInt64(request.server)
        header.transno = Transno(rawValue: transno)
        header.lastCommitted = Transno(rawValue: lastCommitted)
        header.preVersions = preVersions
        header.timeoutSeconds = serviceEstimate
        header.serviceSeconds = serviceSeconds
        header.connectionCount = connectionCount ?? request.header.connectionCount
        let server = server ?? request.server
        var writer = WireWriter()
        body.encode(header: header, version: versions[server], trailer: trailer, into: &writer)
        let portal: UInt32 =
            switch request.portal {
            case 12: 10
            case 17: 18
            default: 4
            }
        nodes[server].put(
            to: request.source, portal: portal, matchBits: request.xid.rawValue,
            payload: writer.bytes, now: now)
        settle()
    }

    /// Says "still at it": the deadline is so many seconds after the request was sent.
    mutating func replyEarly(
        _ request: Received, timeout seconds: UInt32, checksumError: UInt32 = 0
    ) {
        var header = PtlRPCBody()
        header.type = .reply
        header.opcode = request.header.opcode
        header.timeoutSeconds = seconds
        header.connectionCount = request.header.connectionCount
        var writer = WireWriter()
        var message = LustreMessageEncoder(
            bufferCount: 1, checksum: header.checksum ^ checksumError,
            flags: LustreMessage.adaptiveTimeouts, into: &writer)
        message.buffer(into: &writer) { header.encode(into: &$0) }
        nodes[request.server].put(
            to: Self.nid(0), portal: request.portal == 12 ? 10 : 4,
            matchBits: request.xid.rawValue, offset: 0, payload: writer.bytes, now: now)
        settle()
    }

    /// Takes a connect and answers it.
    @discardableResult
    mutating func accept(
        _ mode: ConnectReply.Mode, instance: UInt64, lastCommitted: UInt64 = 0,
        version: ProtocolVersion = .v2
    ) -> Received {
        let request = take()
        accept(
            request, mode, instance: instance, lastCommitted: lastCommitted, version: version)
        return request
    }

    mutating func accept(
        _ request: Received, _ mode: ConnectReply.Mode, instance: UInt64,
        lastCommitted: UInt64 = 0, version: ProtocolVersion = .v2
    ) {
        guard case .connect = request.body else {
            preconditionFailure("\(request.body) is no connect")
        }
        versions[request.server] = version
        reply(
            request,
            .connect(
                ConnectReply(
                    version: version, features: .upgrade, mode: mode, admission: .granted,
                    instance: instance, epoch: .none, admissionLock: 9,
                    lastCommitted: Transno(rawValue: lastCommitted), notice: nil)),
            lastCommitted: lastCommitted)
    }

    /// Sends a request to the client.
    mutating func callback(
        _ body: RequestBody, from server: Int, xid: UInt64, handle: UInt64,
        connectionCount: UInt32
    ) {
        var header = PtlRPCBody()
        header.handle = handle
        header.connectionCount = connectionCount
        var writer = WireWriter()
        body.encode(header: header, version: versions[server], into: &writer)
        nodes[server].put(
            to: Self.nid(0), portal: 15, matchBits: xid, payload: writer.bytes, now: now)
        settle()
    }

    // MARK: The client

    /// An import to server 1 (and those that follow it), connected.
    static func connected(
        servers: Int = 1, kind: TargetKind = .mds, version: ProtocolVersion = .v2,
        _ change: (inout RPCClientConfiguration) -> Void = { _ in }
    ) -> ClientRig {
        var rig = ClientRig(servers: servers, change)
        _ = rig.client.addImport(
            targetName: "T0", kind: kind, nids: (1...servers).map(Self.nid))
        rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
        rig.accept(.fresh, instance: 1, version: version)
        rig.events = []
        return rig
    }

    @discardableResult
    mutating func call(_ body: RequestBody, cookie: UInt64) -> RequestHandle {
        client.call(0, body, cookie: cookie, lnet: &nodes[0], now: now)
    }

    /// Calls an update and lets server 1 execute it.
    mutating func update(_ body: RequestBody, cookie: UInt64, transno: UInt64) {
        call(body, cookie: cookie)
        let request = take()
        reply(request, ClientRig.answer(to: request.body), transno: transno)
    }

    /// What a server would answer to an update.
    static func answer(to body: RequestBody) -> ReplyBody {
        let attributes = FileAttributes(
            file: FileID(sequence: FileID.sequenceBase + 1, objectNumber: 77),
            type: .regular, mode: 0o644, linkCount: 1, modified: .zero, changed: .zero,
            entryCount: 0)
        let layout = FileLayout(
            stripeSize: 65536,
            stripes: [.init(targetIndex: 0, object: ObjectName(targetIndex: 0, number: 5))])
        switch body {
        case .open:
            return .open(
                OpenReply(
                    handle: 0xABC, wasCreated: true, attributes: attributes, layout: layout))
        case .mkdir, .setattr, .getattr, .lookup:
            return .attributes(AttributesReply(attributes: attributes, layout: .none))
        default:
            return .empty
        }
    }

    var state: ImportState { client.state(0) }
    var summary: ImportSummary { client.summary(0) }

    /// Cookies and status of calls that came to an end, in order.
    var ended: [String] {
        events.compactMap {
            switch $0 {
            case .reply(let cookie, _, let status, _, _, _): "\(cookie) \(status)"
            case .failed(let cookie, _, let status, _): "\(cookie) failed: \(status)"
            default: nil
            }
        }
    }

    /// What happened to the import, in order.
    var story: [String] {
        events.compactMap {
            switch $0 {
            case .connected(_, let reply): "connected \(reply.mode)"
            case .needOpenReplays: "opens?"
            case .needLockReplays: "locks?"
            case .full: "full"
            case .disconnected(_, let reason): "disconnected \(reason)"
            case .evicted: "evicted"
            case .refused(_, let status): "refused \(status)"
            case .committed(_, let transno): "committed \(transno.rawValue)"
            default: nil
            }
        }
    }
}

func unlink(_ name: String) -> RequestBody {
    .unlink(
        UnlinkRequest(
            parent: .root, name: FileName(name)!, isDirectory: false,
            time: Timestamp(seconds: 1_700_000_000, nanoseconds: 0)))
}
