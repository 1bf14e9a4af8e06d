import LNetCore
import Primitives
import Testing
import WireFormat

@testable import PtlRPCCore

/// Both halves over two LNet cores. The target's store is a list of transnos.
private struct Pair {
    var rig = ClientRig(attaches: false)
    var lastTransno: UInt64 = 0
    var lastCommitted: UInt64 = 0
    /// Updates in the order of their execution, those lost with an instance taken out.
    var executed: [(transno: UInt64, body: RequestBody)] = []
    var record: ClientRecord?
    var holdsReplies = false
    var replayedOpens = 0

    init() {
        startServer(.fresh, instance: 1)
        _ = rig.client.addImport(targetName: "T0", kind: .mds, nids: [ClientRig.nid(1)])
        rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
        settle()
    }

    mutating func startServer(_ mode: RPCServer.StartMode, instance: UInt64) {
        var server = RPCServer(
            RPCServerConfiguration(targetName: "T0", kind: .mds, instance: instance))
        server.attach(to: &rig.nodes[1])
        if let record { try? server.load(clientKey: record.key, value: record.value) }
        server.start(mode, lnet: &rig.nodes[1], now: rig.now)
        rig.server = server
    }

    /// The server dies with all that is not committed, and comes back.
    mutating func restart(_ mode: (Transno) -> RPCServer.StartMode, instance: UInt64) {
        rig.server!.stop(lnet: &rig.nodes[1])
        executed.removeAll { $0.transno > lastCommitted }
        startServer(mode(Transno(rawValue: lastCommitted)), instance: instance)
        rig.cut(1)
        settle()
    }

    mutating func settle() {
        var moved = true
        while moved {
            rig.run(.milliseconds(5))
            moved = false
            while let event = rig.server!.events.popFirst() {
                moved = true
                act(event)
            }
        }
    }

    private mutating func act(_ event: RPCServerEvent) {
        switch event {
        case .connect(let export, let token, _, _, let isNew):
            if isNew { record = rig.server!.clientRecord(of: export) }
            guard let reply = rig.server!.connectReply(for: token) else { return }
            rig.server!.answerConnect(token, reply, lnet: &rig.nodes[1], now: rig.now)
        case .execute(let request):
            var transno = Transno.zero
            if request.body.isUpdate {
                if !request.isReplay { lastTransno += 1 }
                transno =
                    request.isReplay ? request.replayTransno : Transno(rawValue: lastTransno)
                executed.append((transno.rawValue, request.body))
            }
            if case .openReplay = request.body { replayedOpens += 1 }
            if holdsReplies { return }
            rig.server!.reply(
                request.token, status: .ok, body: ClientRig.answer(to: request.body),
                transno: transno, lnet: &rig.nodes[1], now: rig.now)
        default:
            break
        }
    }

    mutating func call(_ body: RequestBody, cookie: UInt64) {
        rig.call(body, cookie: cookie)
        settle()
    }

    mutating func commit(_ transno: UInt64) {
        lastCommitted = transno
        rig.server!.lastCommitted = Transno(rawValue: transno)
    }
}

@Suite struct `client and server together` {
    @Test func `updates are executed once and saved until committed`() {
        var pair = Pair()
        #expect(pair.rig.story == ["connected fresh", "full"])
        for cookie in 1...3 { pair.call(unlink("f\(cookie)"), cookie: UInt64(cookie)) }
        #expect(pair.rig.ended.count == 3 && pair.executed.count == 3)
        #expect(pair.rig.summary.savedCount == 3)
        pair.commit(2)
        pair.call(.getattr(.root), cookie: 4)
        #expect(pair.rig.summary.savedCount == 1)
    }

    @Test func `a cut connection resumes, and an update under way is executed once`() {
        var pair = Pair()
        pair.call(unlink("a"), cookie: 1)
        pair.rig.cut(1)
        pair.call(unlink("b"), cookie: 2)
        #expect(pair.rig.ended == ["1 success", "2 success"])
        #expect(pair.executed.map(\.transno) == [1, 2])
        #expect(pair.rig.story.contains("connected sameInstance"))
    }

    @Test func `after a crash what was lost is executed again with its transnos`() {
        var pair = Pair()
        for cookie in 1...3 { pair.call(unlink("f\(cookie)"), cookie: UInt64(cookie)) }
        pair.commit(1)
        pair.call(.getattr(.root), cookie: 4)
        pair.holdsReplies = true
        pair.call(unlink("unanswered"), cookie: 5)
        pair.holdsReplies = false
        pair.rig.events = []
        pair.restart({ .recovering(lastCommitted: $0) }, instance: 2)
        #expect(pair.rig.state == .replay)
        pair.rig.client.replayOpens(0, [], lnet: &pair.rig.nodes[0], now: pair.rig.now)
        pair.settle()
        pair.rig.client.replayLocks(0, [], lnet: &pair.rig.nodes[0], now: pair.rig.now)
        pair.settle()
        #expect(pair.rig.state == .full, "\(pair.rig.story)")
        #expect(pair.rig.ended == ["5 success"])
        #expect(pair.executed.map(\.body) == ["f1", "f2", "f3", "unanswered"].map(unlink))
        #expect(pair.executed.map(\.transno).prefix(3) == [1, 2, 3])
    }

    @Test func `after a clean stop opens and locks are told and resends done`() {
        var pair = Pair()
        pair.call(unlink("a"), cookie: 1)
        pair.commit(1)
        pair.restart({ .clean(lastCommitted: $0) }, instance: 2)
        #expect(pair.rig.summary.savedCount == 0 && pair.rig.state == .replay)
        pair.rig.client.replayOpens(
            0,
            [(.openReplay(OpenReplayRequest(file: .root, handle: 1, flags: .read)), 9)],
            lnet: &pair.rig.nodes[0], now: pair.rig.now)
        pair.settle()
        pair.rig.client.replayLocks(0, [], lnet: &pair.rig.nodes[0], now: pair.rig.now)
        pair.settle()
        #expect(pair.rig.state == .full && pair.replayedOpens == 1, "\(pair.rig.story)")
        pair.call(unlink("b"), cookie: 2)
        #expect(pair.rig.ended.last == "2 success" && pair.executed.count == 2)
    }
}
