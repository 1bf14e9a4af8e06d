import LNetCore
import Primitives
import Testing
import WireFormat

@testable import PtlRPCCore

@Suite struct `finding the target` {
    @Test func `attempts go round the places with growing pauses`() {
        var rig = ClientRig(servers: 2)
        _ = rig.client.addImport(
            targetName: "T0", kind: .mds, nids: [ClientRig.nid(1), ClientRig.nid(2)])
        rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
        var servers: [Int] = []
        var pauses: [UInt64] = []
        for _ in 0..<8 {
            let request = rig.take()
            servers.append(request.server)
            let refused = rig.now
            rig.reply(request, status: .noDevice)
            guard let next = rig.client.nextDeadline else { break }
            pauses.append((next - refused).nanoseconds / 1_000_000)
            rig.run(next - rig.now)
        }
        #expect(servers == [1, 2, 1, 2, 1, 2, 1, 2])
        for (pause, base) in zip(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000] as [UInt64]) {
            #expect(pause >= base - 1 && pause <= base + base / 4, "\(pauses)")
        }
    }

    @Test(arguments: [Status.busy, .tryAgain, .already])
    func `a target that is there but not ready is asked again`(status: Status) {
        var rig = ClientRig(servers: 2)
        _ = rig.client.addImport(
            targetName: "T0", kind: .mds, nids: [ClientRig.nid(1), ClientRig.nid(2)])
        rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take(), status: status)
        rig.run(.milliseconds(30))
        rig.accept(.fresh, instance: 1)
        #expect(rig.summary.nid == ClientRig.nid(1) && rig.state == .full)
    }

    @Test(arguments: [Status.access, .protocolError])
    func `a target that will not have the client is left alone for long`(status: Status) {
        var rig = ClientRig()
        _ = rig.client.addImport(targetName: "T0", kind: .mds, nids: [ClientRig.nid(1)])
        rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take(), status: status)
        #expect(rig.story == ["refused \(status)"] && rig.state == .disconnected)
        rig.run(.seconds(29))
        #expect(rig.inbox.isEmpty)
        rig.run(.seconds(2))
        #expect(rig.inbox.count == 1)
    }

    @Test func `a connect without an answer is given up, and its late answer dropped`() {
        var rig = ClientRig(servers: 2)
        _ = rig.client.addImport(
            targetName: "T0", kind: .mds, nids: [ClientRig.nid(1), ClientRig.nid(2)])
        rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
        let silent = rig.take()
        rig.run(.milliseconds(5_100))
        rig.accept(.fresh, instance: 4)
        rig.accept(silent, .fresh, instance: 3)
        #expect(rig.summary.nid == ClientRig.nid(2) && rig.summary.instance == 4)
    }

    @Test func `a lost connection is tried at the same place first, then at the other`() {
        var rig = ClientRig.connected(servers: 2)
        rig.refusing = [1]
        rig.cut(1)
        rig.run(.milliseconds(100))
        let connect = rig.accept(.sameInstance, instance: 1)
        #expect(connect.server == 2)
        #expect(rig.summary.counters.connectAttempts >= 3)
    }
}

@Suite struct `a push` {
    @Test func `cancels the back-off and says where`() {
        var rig = ClientRig.connected(servers: 2)
        rig.refusing = [1, 2]
        rig.cut(1)
        rig.run(.seconds(20))
        rig.refusing = []
        rig.client.targetUp(
            0, nid: ClientRig.nid(2), instance: 2, lnet: &rig.nodes[0], now: rig.now)
        // LNet's own pause before it tries a node again.
        rig.run(.milliseconds(3))
        let connect = rig.accept(.cleanRecord, instance: 2)
        #expect(connect.server == 2 && rig.state == .replay)
    }

    @Test func `of the instance that is known, or an older one, changes nothing`() {
        var rig = ClientRig.connected(servers: 2)
        for instance in [0, 1] as [UInt64] {
            rig.client.targetUp(
                0, nid: ClientRig.nid(2), instance: instance, lnet: &rig.nodes[0],
                now: rig.now)
        }
        rig.settle()
        #expect(rig.state == .full && rig.inbox.isEmpty && rig.story == [])
    }

    @Test func `of a newer one ends the old connection`() {
        var rig = ClientRig.connected(servers: 2)
        rig.call(.getattr(.root), cookie: 1)
        _ = rig.take()
        rig.client.targetUp(
            0, nid: ClientRig.nid(2), instance: 2, lnet: &rig.nodes[0], now: rig.now)
        let connect = rig.accept(.fresh, instance: 2)
        #expect(connect.server == 2)
        #expect(rig.story == ["disconnected switched", "connected fresh", "full"])
        let again = rig.take()
        #expect(again.server == 2 && again.header.flags == .resent)
    }
}

@Suite struct `a connect beforehand` {
    private func prepared() -> (ClientRig, ClientRig.Received) {
        var rig = ClientRig.connected(servers: 2)
        rig.client.preconnect(0, to: ClientRig.nid(2), lnet: &rig.nodes[0], now: rig.now)
        let parked = rig.take()
        precondition(parked.server == 2)
        return (rig, parked)
    }

    @Test func `leaves the present connection in use`() {
        var (rig, parked) = prepared()
        rig.call(.getattr(.root), cookie: 1)
        let request = rig.take()
        #expect(request.server == 1 && request.header.connectionCount == 1)
        #expect(parked.header.connectionCount == 2)
        rig.reply(request, ClientRig.answer(to: request.body))
        #expect(rig.ended == ["1 success"])
    }

    @Test func `switches when it is answered before the old connection dies`() {
        var (rig, parked) = prepared()
        rig.call(.getattr(.root), cookie: 1)
        _ = rig.take()
        rig.accept(parked, .cleanRecord, instance: 2)
        #expect(rig.story == ["disconnected switched", "connected cleanRecord", "opens?"])
        rig.cut(1)
        rig.client.replayOpens(0, [], lnet: &rig.nodes[0], now: rig.now)
        rig.client.replayLocks(0, [], lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take())
        let again = rig.take()
        #expect(again.server == 2 && again.header.flags == .resent)
        #expect(rig.state == .full && rig.summary.nid == ClientRig.nid(2))
    }

    @Test func `is simply the attempt when the old connection dies first`() {
        var (rig, parked) = prepared()
        rig.refusing = [1]
        rig.cut(1)
        rig.settle()
        #expect(rig.state == .connecting && rig.inbox.isEmpty)
        rig.run(.milliseconds(500))
        #expect(rig.inbox.isEmpty)
        rig.accept(parked, .cleanRecord, instance: 2)
        #expect(rig.state == .replay)
    }

    @Test func `is repeated while it is not answered, and only the newest answer counts`() {
        var (rig, parked) = prepared()
        rig.run(.milliseconds(5_100))
        let again = rig.take()
        #expect(again.server == 2 && again.header.connectionCount == 3)
        rig.accept(parked, .cleanRecord, instance: 2)
        #expect(rig.state == .full)
        rig.accept(again, .cleanRecord, instance: 2)
        #expect(rig.state == .replay)
    }

    @Test func `does not keep the import from its old place when the hand-over is called off`() {
        var (rig, _) = prepared()
        rig.cut(1)
        rig.run(.seconds(6))
        let requests = rig.takeAll()
        let old = requests.first { $0.server == 1 }
        #expect(old != nil && requests.contains { $0.server == 2 })
        if let old { rig.accept(old, .sameInstance, instance: 1) }
        #expect(rig.state == .full && rig.summary.nid == ClientRig.nid(1))
    }
}

@Suite struct `bulk` {
    private let object = ObjectName(targetIndex: 0, number: 1)

    @Test func `bytes to write are fetched by the target, again after a resend`() {
        var rig = ClientRig.connected(kind: .oss)
        let data = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let body = RequestBody.objectWrite(
            ObjectWriteRequest(object: object, offset: 0, time: .zero, data: data))
        rig.call(body, cookie: 1)
        for round in 1...2 {
            let request = rig.take()
            let handle = rig.nodes[1].get(
                from: ClientRig.nid(0), portal: ServicePortal.ostBulk,
                matchBits: request.header.matchBits, length: data.count,
                into: .buffer([UInt8](repeating: 0, count: data.count)), cookie: 1,
                now: rig.now)
            rig.settle()
            let fetched = handle.flatMap { rig.nodes[1].takeBuffer($0) }
            #expect(fetched == data)
            if round == 1 {
                rig.cut(1)
                rig.accept(.sameInstance, instance: 1)
            } else {
                rig.reply(request, transno: 5)
            }
        }
        #expect(rig.ended == ["1 success"] && rig.summary.savedCount == 1)
        // Only the four wildcard entries are left.
        #expect(rig.nodes[0].attachedCount == 4)
    }

    @Test(arguments: [ProtocolVersion.v1, .v2])
    func `bytes read come back with the reply`(version: ProtocolVersion) {
        var rig = ClientRig.connected(kind: .oss, version: version)
        let data = (0..<60_000).map { UInt8(truncatingIfNeeded: $0 &* 5) }
        rig.call(
            .objectRead(ObjectReadRequest(object: object, offset: 0, byteCount: 65_536)),
            cookie: 1)
        let request = rig.take()
        rig.nodes[1].put(
            to: ClientRig.nid(0), portal: ServicePortal.ostBulk,
            matchBits: request.header.matchBits, payload: data, ackCookie: 1, now: rig.now)
        rig.settle()
        #expect(rig.serverEvents.contains(.ack(cookie: 1, mlength: data.count)))
        rig.reply(request, .read(ObjectReadReply(data: data)))
        guard case .reply(_, _, .ok, .read(let read), _, _) = rig.events.last else {
            Issue.record("\(rig.events)")
            return
        }
        #expect(read.data == data && rig.nodes[0].attachedCount == 4)
    }

    @Test func `a reply without its bytes is asked for again, thrice at most`() {
        var rig = ClientRig.connected(kind: .oss)
        rig.call(
            .objectRead(ObjectReadRequest(object: object, offset: 0, byteCount: 65_536)),
            cookie: 1)
        let data = [UInt8](repeating: 1, count: 20_000)
        for _ in 0..<3 { rig.reply(rig.take(), .read(ObjectReadReply(data: data))) }
        #expect(rig.ended == ["1 failed: input/output error"] && rig.inbox.isEmpty)
        #expect(rig.nodes[0].attachedCount == 4)
    }
}

@Suite struct `a callback` {
    private let up = RequestBody.targetUp(
        TargetUp(targetName: "T1", instance: 3, nid: ClientRig.nid(2)))
    private let ast = RequestBody.blockingAST(
        BlockingAST(
            request: .callback(
                clientCookie: 1, serverCookie: 2, flags: [], descriptor: .none)))

    @Test func `names its import and is answered where it came from`() {
        var rig = ClientRig.connected()
        _ = rig.client.addImport(targetName: "T1", kind: .oss, nids: [ClientRig.nid(1)])
        rig.callback(ast, from: 1, xid: 500, handle: 0x1000, connectionCount: 1)
        rig.callback(up, from: 1, xid: 501, handle: 0, connectionCount: 0)
        var tokens: [CallbackToken] = []
        for event in rig.events {
            guard case .callback(let index, let token, let body) = event else { continue }
            #expect(index == tokens.count && body == (tokens.isEmpty ? ast : up))
            tokens.append(token)
        }
        #expect(tokens.count == 2)
        let receipt = UpgradeReceipt(
            epoch: UpgradeEpoch(instance: 1, counter: 1), lastXID: .zero, lastTransno: .zero,
            openCount: 0, flushedBytes: 0)
        rig.client.answer(
            tokens[0], status: .ok, body: .receipt(receipt), lnet: &rig.nodes[0], now: rig.now)
        rig.settle()
        #expect(rig.answers.count == 1)
        #expect(rig.answers.first?.body == .receipt(receipt))
        #expect(rig.answers.first?.header.connectionCount == 1)
    }

    @Test func `of an older connection is dropped`() {
        var rig = ClientRig.connected()
        rig.cut(1)
        rig.accept(.sameInstance, instance: 1)
        rig.events = []
        rig.callback(ast, from: 1, xid: 500, handle: 0x1000, connectionCount: 1)
        #expect(rig.events == [] && rig.summary.counters.lateCallbacks == 1)
    }

    @Test func `trailer that says something new is told once`() {
        var rig = ClientRig.connected()
        let trailer = ReplyTrailer(
            epoch: UpgradeEpoch(instance: 1, counter: 4), admission: .revoking)
        for cookie in 1...3 {
            rig.call(.getattr(.root), cookie: UInt64(cookie))
            let request = rig.take()
            rig.reply(request, ClientRig.answer(to: request.body), trailer: trailer)
        }
        #expect(rig.events.filter { $0 == .trailer(import: 0, trailer: trailer) }.count == 1)
    }
}
