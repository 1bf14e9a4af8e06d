import LNetCore
import Primitives
import PtlRPCCore
import WireFormat

/// A client by hand: it sends what a test says and keeps what comes back.
struct ServerTestClient {
    struct Reply: Equatable {
        var xid: UInt64
        var header: PtlRPCBody
        var body: ReplyBody?
        var trailer: ReplyTrailer?
    }

    var lnet: LNetCore
    var uuid: String
    var handle: UInt64
    var versions = ProtocolVersion.supported
    var isObserver = false
    /// Requests carry this time-out, and take early replies.
    var timeoutSeconds: UInt32 = 0
    /// What its connects say of the target's service before.
    var serviceSeconds: UInt32 = 0
    /// Early replies: match bits, header.
    var early: [(xid: UInt64, header: PtlRPCBody)] = []
    /// Where the last reply stood in its room.
    var replyOffset = 0
    var connectionCount: UInt32 = 0
    var exportHandle: UInt64 = 0
    var version = ProtocolVersion.v2
    var lastXID: UInt64 = 0
    var nextXID: UInt64 = 1 << 20
    var opcodes: [UInt64: Opcode] = [:]
    var replies: [Reply] = []
    /// Requests of the server: match bits, header.
    var callbacks: [(xid: UInt64, header: PtlRPCBody)] = []
    var answersCallbacks = true
    /// ME cookies 2: bulk.
    var bulk: [[UInt8]] = []
    var reply: Reply? { replies.last }
    var mode: ConnectReply.Mode? {
        for reply in replies.reversed() {
            if case .connect(let connect)? = reply.body { return connect.mode }
        }
        return nil
    }

    func reply(to xid: UInt64) -> Reply? { replies.last { $0.xid == xid } }
    func replyCount(to xid: UInt64) -> Int { replies.count { $0.xid == xid } }
}

/// One server, its owner with a store of rows, and clients, with their bytes between them.
struct ServerHarness {
    struct Row {
        var transno: UInt64
        var table: String
        var key: [UInt8]
        var value: [UInt8]?
    }
    struct Socket {
        var nodes: (Int, Int)
        var keys: (UInt64, UInt64)
        var isOpen = true
    }

    var server: RPCServer
    var kind: TargetKind
    /// Node 0 is the server's.
    var serverLNet: LNetCore
    var clients: [ServerTestClient] = []
    var sockets: [Socket] = []
    var now = Ticks(nanoseconds: 1_000_000_000)
    var instance: UInt64 = 1

    // The owner.
    var rows: [Row] = []
    var transno: UInt64 = 0
    var committed: UInt64 = 0
    var events: [RPCServerEvent] = []
    var executed: [ServerRequest] = []
    var held: [ServerRequest] = []
    var holds = false
    var holdsConnects = false
    var heldConnects: [RequestToken] = []
    var answer: (ServerRequest) -> (Status, ReplyBody) = { _ in (.ok, .empty) }
    var versionsBefore: (ServerRequest) -> PreVersions = { _ in PreVersions() }

    init(
        kind: TargetKind = .mds, start: RPCServer.StartMode? = .fresh,
        _ change: (inout RPCServerConfiguration) -> Void = { _ in }
    ) {
        self.kind = kind
        var configuration = RPCServerConfiguration(
            targetName: "home-T0000", kind: kind, instance: 1)
        change(&configuration)
        server = RPCServer(configuration)
        serverLNet = LNetCore(
            LNetConfiguration(nid: Self.nid(0), incarnation: 1, acceptPort: 9880, seed: 0))
        server.attach(to: &serverLNet)
        if let start { server.start(start, lnet: &serverLNet, now: now) }
        settle()
    }

    static func nid(_ node: Int) -> NID { NID(address: 0x7F00_0100 + UInt32(node), type: .tcp) }

    @discardableResult
    mutating func add(
        _ uuid: String? = nil, handle: UInt64? = nil,
        versions: ClosedRange<ProtocolVersion> = ProtocolVersion.supported
    ) -> Int {
        let node = clients.count + 1
        var lnet = LNetCore(
            LNetConfiguration(
                nid: Self.nid(node), incarnation: 1, acceptPort: 9880, seed: UInt64(node)))
        let reply = MemoryDescriptor(memory: .events(), options: .put)
        for portal in [kind.replyPortal, ServicePortal.lockCancelReply] {
            _ = lnet.attach(portal: portal, matchBits: 0, ignoreBits: .max, reply, cookie: 0)
        }
        _ = lnet.attach(
            portal: ServicePortal.lockCallbackRequest, matchBits: 0, ignoreBits: .max, reply,
            cookie: 1)
        clients.append(
            ServerTestClient(
                lnet: lnet, uuid: uuid ?? "client-\(node)", handle: handle ?? UInt64(node) * 1000,
                versions: versions))
        return clients.count - 1
    }

    /// Adds `count` clients and connects them.
    mutating func connectAll(_ count: Int) {
        for _ in 0..<count { connect(add()) }
    }

    // MARK: What clients do

    @discardableResult
    mutating func connect(
        _ client: Int, to target: String = "home-T0000", lastInstance: UInt64? = nil
    ) -> UInt64 {
        clients[client].connectionCount += 1
        var request = ConnectRequest(
            targetName: target, clientUUID: clients[client].uuid,
            clientHandle: clients[client].handle, versions: clients[client].versions,
            features: .supported)
        request.isObserver = clients[client].isObserver
        if clients[client].exportHandle != 0 {
            request.lastInstance = server.configuration.instance
        }
        if let lastInstance { request.lastInstance = lastInstance }
        return send(client, .connect(request, kind))
    }

    @discardableResult
    mutating func send(
        _ client: Int, _ body: RequestBody, tag: UInt16? = nil, flags: MessageFlags = [],
        xid: UInt64? = nil, transno: UInt64 = 0, matchBits: UInt64 = 0,
        connectionCount: UInt32? = nil, preVersions: PreVersions = PreVersions(),
        predecessor: UInt64 = 0,
        settles: Bool = true,
        change: (inout [UInt8]) -> Void = { _ in }
    ) -> UInt64 {
        let number = xid ?? clients[client].nextXID
        if xid == nil { clients[client].nextXID += XID.step }
        var header = PtlRPCBody()
        header.handle = clients[client].exportHandle
        header.lastXID = XID(rawValue: clients[client].lastXID)
        header.tag = tag ?? (body.isUpdate ? 1 : 0)
        header.flags = flags
        header.transno = Transno(rawValue: transno)
        header.matchBits = matchBits
        header.preVersions = preVersions
        header.lastCommitted = Transno(rawValue: predecessor)
        header.timeoutSeconds = clients[client].timeoutSeconds
        header.serviceSeconds = clients[client].serviceSeconds
        header.connectionCount = connectionCount ?? clients[client].connectionCount
        clients[client].opcodes[number] = body.opcode
        var writer = WireWriter()
        body.encode(
            header: header, version: clients[client].version,
            flags: clients[client].timeoutSeconds > 0 ? LustreMessage.adaptiveTimeouts : 0,
            into: &writer)
        var bytes = writer.bytes
        change(&bytes)
        var portal = kind.requestPortal
        if case .cancel = body { portal = ServicePortal.lockCancelRequest }
        clients[client].lnet.put(
            to: Self.nid(0), portal: portal, matchBits: number, payload: bytes, now: now)
        if settles { settle() }
        return number
    }

    @discardableResult
    mutating func replay(
        _ client: Int, _ transno: UInt64, xid: UInt64, tag: UInt16 = 1,
        body: RequestBody = ServerHarness.update, resent: Bool = false
    ) -> UInt64 {
        send(
            client, body, tag: tag, flags: resent ? [.replay, .resent] : .replay, xid: xid,
            transno: transno)
    }

    @discardableResult
    mutating func replayLock(_ client: Int) -> UInt64 {
        send(client, Self.lock, flags: .requestReplayDone)
    }

    @discardableResult
    mutating func finalPing(_ client: Int) -> UInt64 {
        send(client, .ping, flags: [.requestReplayDone, .lockReplayDone])
    }

    static let update = RequestBody.close(
        CloseRequest(file: FileID(sequence: 0x2_0000_0400, objectNumber: 7), handle: 9))
    static let open = RequestBody.openReplay(
        OpenReplayRequest(
            file: FileID(sequence: 0x2_0000_0400, objectNumber: 7), handle: 9, flags: .read))
    static let lock = RequestBody.cancel(.cancel(cookie: 4))

    // MARK: Time and the wire

    /// Cuts all sockets of a node (0 for the server's).
    mutating func cut(_ node: Int) {
        for index in sockets.indices
        where sockets[index].isOpen
            && (sockets[index].nodes.0 == node || sockets[index].nodes.1 == node)
        {
            sockets[index].isOpen = false
            let socket = sockets[index]
            withNode(socket.nodes.0) { $0.closed(socket.keys.0, errno: 104, now: $1) }
            withNode(socket.nodes.1) { $0.closed(socket.keys.1, errno: 104, now: $1) }
        }
        settle()
    }

    mutating func withNode<R>(_ node: Int, _ body: (inout LNetCore, Ticks) -> R) -> R {
        node == 0 ? body(&serverLNet, now) : body(&clients[node - 1].lnet, now)
    }

    mutating func run(_ interval: TickInterval) {
        let end = now + interval
        settle()
        while let next = server.nextDeadline, next <= end {
            if next > now { now = next }
            server.tick(lnet: &serverLNet, now: now)
            settle()
        }
        now = end
    }

    mutating func settle() {
        for _ in 0..<100_000 {
            var moved = false
            for node in 0...clients.count where moveBytes(node) { moved = true }
            while let event = serverLNet.events.popFirst() {
                _ = server.handle(event, lnet: &serverLNet, now: now)
                moved = true
            }
            while let event = server.events.popFirst() {
                own(event)
                moved = true
            }
            for client in clients.indices {
                while let event = clients[client].lnet.events.popFirst() {
                    receive(client, event)
                    moved = true
                }
            }
            if !moved { return }
        }
        preconditionFailure("the harness does not come to rest")
    }

    private mutating func moveBytes(_ node: Int) -> Bool {
        var moved = false
        while let action = withNode(node, { lnet, _ in lnet.actions.popFirst() }) {
            moved = true
            switch action {
            case .o2ib: preconditionFailure("these nodes are on TCP")
            case .pause, .resume, .listen, .unlisten: break
            case .connect(let key, let from, let to, _, _):
                let (from, to) = (from.v4, to.v4)
                let other = Int(to &- 0x7F00_0100)
                guard (0...clients.count).contains(other) else {
                    withNode(node) { $0.closed(key, errno: 111, now: $1) }
                    continue
                }
                let accepted = withNode(other) {
                    $0.accepted(remoteAddress: from, remotePort: 40_000, now: $1)
                }
                sockets.append(Socket(nodes: (node, other), keys: (key, accepted)))
                withNode(node) { $0.established(key, now: $1) }
            case .close(let key):
                guard let (index, other, otherKey) = find(node, key) else { continue }
                sockets[index].isOpen = false
                withNode(other) { $0.closed(otherKey, errno: 0, now: $1) }
            case .flush(let key):
                var bytes: [UInt8] = []
                withNode(node) { lnet, _ in
                    _ = lnet.withOutput(key) { span in
                        bytes += span.copy(0..<span.byteCount)
                        return span.byteCount
                    }
                }
                guard let (_, other, otherKey) = find(node, key) else { continue }
                withNode(other) { lnet, now in
                    RawSpan.over(bytes) { lnet.received(otherKey, $0, now: now) }
                }
                // Payloads are void with the next round: handle them now.
                if other == 0 {
                    while let event = serverLNet.events.popFirst() {
                        _ = server.handle(event, lnet: &serverLNet, now: now)
                    }
                } else {
                    while let event = clients[other - 1].lnet.events.popFirst() {
                        receive(other - 1, event)
                    }
                }
            }
        }
        return moved
    }

    private func find(_ node: Int, _ key: UInt64) -> (Int, Int, UInt64)? {
        for (index, socket) in sockets.enumerated() where socket.isOpen {
            if socket.nodes.0 == node, socket.keys.0 == key {
                return (index, socket.nodes.1, socket.keys.1)
            }
            if socket.nodes.1 == node, socket.keys.1 == key {
                return (index, socket.nodes.0, socket.keys.0)
            }
        }
        return nil
    }

    private mutating func receive(_ client: Int, _ event: LNetEvent) {
        guard case .put(let put) = event else { return }
        let bytes = clients[client].lnet.withPayload(put.payload) { $0.copy(0..<$0.byteCount) }
        if put.cookie == 2 {
            clients[client].bulk.append(bytes)
            return
        }
        let opcode = clients[client].opcodes[put.matchBits] ?? .ping
        let version = clients[client].version
        var isEarly = false
        let parsed = RawSpan.over(bytes) { span -> (PtlRPCBody, ReplyBody?, ReplyTrailer?)? in
            guard let message = try? LustreMessage(parsing: span),
                var reader = try? message.reader(0, in: span),
                let header = try? PtlRPCBody(from: &reader)
            else { return nil }
            isEarly = message.flags & LustreMessage.adaptiveTimeouts != 0
            precondition(
                !isEarly || message.checksum == header.checksum, "a checksum that is right")
            let body = try? ReplyBody(
                opcode: opcode, status: header.status, message: message, bytes: span,
                version: version)
            let trailer = ReplyTrailer(body: body ?? .empty, message: message, bytes: span)
            return (header, body, trailer)
        }
        guard let (header, body, trailer) = parsed else { preconditionFailure("unreadable reply") }
        if isEarly {
            clients[client].early.append((put.matchBits, header))
            return
        }
        if put.cookie == 0 { clients[client].replyOffset = put.offset }
        if put.cookie == 1 {
            clients[client].callbacks.append((put.matchBits, header))
            if clients[client].answersCallbacks { answerCallback(client, put.matchBits, header) }
            return
        }
        clients[client].replies.append(
            .init(xid: put.matchBits, header: header, body: body, trailer: trailer))
        if case .connect(let reply)? = body {
            clients[client].exportHandle = header.handle
            clients[client].version = reply.version
        }
    }

    mutating func answerCallback(_ client: Int, _ xid: UInt64, _ request: PtlRPCBody) {
        var header = PtlRPCBody()
        header.type = .reply
        header.opcode = request.opcode
        var writer = WireWriter()
        ReplyBody.empty.encode(header: header, version: clients[client].version, into: &writer)
        clients[client].lnet.put(
            to: Self.nid(0), portal: ServicePortal.lockCallbackReply, matchBits: xid,
            payload: writer.bytes, now: now)
    }

    // MARK: The owner

    private mutating func own(_ event: RPCServerEvent) {
        events.append(event)
        switch event {
        case .connect(let export, let token, _, _, let isNew):
            if holdsConnects {
                heldConnects.append(token)
                return
            }
            if isNew, let record = server.clientRecord(of: export) {
                put("clients", record.key, record.value, 0)
            }
            answerConnect(token)
        case .execute(let request):
            executed.append(request)
            if holds { held.append(request) } else { complete(request) }
        case .disconnected(let export, let token):
            removeRows(export)
            server.reply(token, status: .ok, lnet: &serverLNet, now: now)
        case .replayed, .losing: break
        case .evicted(let export, _, _):
            removeRows(export)
        case .connectRefused, .peerLost, .replayDone, .callbackReply, .recoveryStage,
            .recoveryFinished:
            break
        }
    }

    mutating func answerConnect(_ token: RequestToken) {
        guard let reply = server.connectReply(for: token) else { return }
        server.answerConnect(token, reply, lnet: &serverLNet, now: now)
    }

    mutating func complete(_ request: ServerRequest) {
        let (status, body) = answer(request)
        var number: UInt64 = 0
        let preVersions = versionsBefore(request)
        if request.body.isUpdate, !status.isError {
            number = request.isReplay ? request.replayTransno.rawValue : transno + 1
            transno = max(transno, number)
            if let record = server.replyRecord(
                request.token, status: status, body: body, transno: Transno(rawValue: number),
                preVersions: preVersions)
            {
                put("replyData", record.key, record.value, number)
            }
        }
        server.reply(
            request.token, status: status, body: body, transno: Transno(rawValue: number),
            preVersions: preVersions, lnet: &serverLNet, now: now)
    }

    mutating func put(_ table: String, _ key: [UInt8], _ value: [UInt8]?, _ transno: UInt64) {
        rows.append(Row(transno: transno, table: table, key: key, value: value))
    }

    private mutating func removeRows(_ export: UInt32) {
        put("clients", ClientRecord.key(index: export), nil, 0)
        for key in RPCServer.replyKeys(of: export) { put("replyData", key, nil, 0) }
    }

    /// The next instance over what is on disk of the rows: all of them after a clean stop.
    mutating func restart(
        clean: Bool, start: Bool = true, versions: ClosedRange<ProtocolVersion>? = nil
    ) {
        instance += 1
        if clean { committed = transno }
        var old = server.configuration
        old.instance = instance
        if let versions { old.versions = versions }
        server = RPCServer(old)
        serverLNet = LNetCore(
            LNetConfiguration(
                nid: Self.nid(0), incarnation: instance, acceptPort: 9880, seed: instance))
        transno = committed
        rows.removeAll { $0.transno > committed }
        events = []
        executed = []
        held = []
        for table in ["clients", "replyData"] {
            var image: [[UInt8]: [UInt8]] = [:]
            for row in rows where row.table == table { image[row.key] = row.value }
            for key in image.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
                do {
                    if table == "clients" {
                        try server.load(clientKey: key, value: image[key]!)
                    } else {
                        try server.load(replyKey: key, value: image[key]!)
                    }
                } catch {
                    preconditionFailure("a row of our own must load: \(error)")
                }
            }
        }
        // Now, so that nobody reconnects to the instance before.
        cut(0)
        server.attach(to: &serverLNet)
        if start { startServer(clean: clean) }
        now = now + .seconds(100)
        for client in clients.indices { clients[client].lnet.tick(now) }
        settle()
    }

    mutating func startServer(clean: Bool) {
        let mark = Transno(rawValue: committed)
        server.start(
            clean ? .clean(lastCommitted: mark) : .recovering(lastCommitted: mark),
            lnet: &serverLNet, now: now)
        settle()
    }

    var executedTransnos: [UInt64] { executed.filter(\.isReplay).map(\.replayTransno.rawValue) }

    var finished: [UInt32]? {
        for case .recoveryFinished(let evicted) in events { return evicted }
        return nil
    }
}
