import LNetCore
import Primitives
import PtlRPCCore
import Testing
import WireFormat

@Suite struct `Adaptive time-outs of a server` {
    private static func slow() -> (ServerHarness, UInt64) {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].timeoutSeconds = 10
        net.holds = true
        let xid = net.send(0, ServerHarness.update)
        return (net, xid)
    }

    @Test func `a slow server says that it is at it before the deadline, and again`() {
        var (net, xid) = Self.slow()
        net.run(.seconds(3))
        #expect(net.clients[0].early.isEmpty)
        net.run(.seconds(3))
        #expect(net.clients[0].early.map(\.xid) == [xid])
        // at_extra beyond what has passed.
        let asked = net.clients[0].early[0].header.timeoutSeconds
        #expect((34...36).contains(asked))
        net.run(.seconds(40))
        #expect(net.clients[0].early.count >= 2)
        net.complete(net.held[0])
        net.settle()
        #expect(net.clients[0].replyCount(to: xid) == 1)
        // Behind the room for an early reply: a container of one buffer, and the header.
        #expect(net.clients[0].replyOffset == 224)
        #expect(net.server.counters.earlyReplies == UInt64(net.clients[0].early.count))
        net.run(.seconds(100))
        #expect(net.clients[0].early.count == Int(net.server.counters.earlyReplies))
    }

    @Test func `who does not take early replies gets none, and the reply at the beginning`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.holds = true
        let xid = net.send(0, ServerHarness.update)
        net.run(.seconds(30))
        #expect(net.clients[0].early.isEmpty)
        net.complete(net.held[0])
        net.settle()
        #expect(net.clients[0].replyCount(to: xid) == 1 && net.clients[0].replyOffset == 0)
    }

    @Test func `errors stand where replies stand`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].timeoutSeconds = 10
        net.send(0, ServerHarness.update, tag: 99)
        #expect(net.clients[0].reply?.header.status == .protocolError)
        #expect(net.clients[0].replyOffset == 224)
    }

    @Test func `the estimate rises with slow service, is told, and is forgotten`() {
        var net = ServerHarness { $0.adaptive?.history = .seconds(200) }
        net.connectAll(1)
        net.send(0, .getattr(.root))
        #expect(net.clients[0].reply?.header.timeoutSeconds == 4)
        net.holds = true
        net.send(0, .getattr(.root))
        net.run(.seconds(20))
        net.complete(net.held[0])
        net.settle()
        #expect(net.clients[0].reply?.header.timeoutSeconds == 20)
        #expect(net.clients[0].reply?.header.serviceSeconds == 20)
        net.holds = false
        net.run(.seconds(100))
        net.send(0, .getattr(.root))
        #expect(net.clients[0].reply?.header.timeoutSeconds == 20)
        net.run(.seconds(120))
        net.send(0, .getattr(.root))
        #expect(net.clients[0].reply?.header.timeoutSeconds == 4)
    }

    @Test func `resends are no measure of service`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.holds = true
        net.send(0, .getattr(.root), flags: .resent)
        net.run(.seconds(50))
        net.complete(net.held[0])
        net.settle()
        #expect(net.clients[0].reply?.header.timeoutSeconds == 4)
    }

    @Test func `without them nothing is told and nothing sent early`() {
        var net = ServerHarness { $0.adaptive = nil }
        net.connectAll(1)
        net.clients[0].timeoutSeconds = 10
        net.holds = true
        let xid = net.send(0, ServerHarness.update)
        net.run(.seconds(30))
        net.complete(net.held[0])
        net.settle()
        #expect(net.clients[0].early.isEmpty)
        #expect(net.clients[0].reply(to: xid)?.header.timeoutSeconds == 0)
    }

    @Test func `nothing is due while nothing is under way`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].timeoutSeconds = 10
        net.send(0, ServerHarness.update)
        net.run(.seconds(2))
        #expect(net.server.nextDeadline == nil)
    }
}

@Suite struct `Connections that never were` {
    @Test func `a request of a later connection is refused, counted and not executed`() {
        var net = ServerHarness()
        net.connectAll(1)
        let xid = net.send(0, ServerHarness.update, connectionCount: 7)
        #expect(net.clients[0].reply(to: xid)?.header.status == .protocolError)
        #expect(net.executed.isEmpty && net.server.counters.violations == 1)
    }

    @Test func `a request of an earlier connection is dropped`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.connect(0)
        let xid = net.send(0, ServerHarness.update, connectionCount: 1)
        #expect(net.clients[0].replyCount(to: xid) == 0)
        #expect(net.executed.isEmpty && net.server.counters.obsolete == 1)
    }
}

@Suite struct `Silence` {
    @Test func `who says nothing while others do is evicted`() {
        var net = ServerHarness { $0.silenceMax = .seconds(60) }
        net.connectAll(2)
        for _ in 0..<5 {
            net.run(.seconds(20))
            net.send(0, .ping)
        }
        #expect(net.server.counters.evictions == 1)
        #expect(net.server.summary(of: 1) == nil && net.server.summary(of: 0) != nil)
    }

    @Test func `nobody is evicted while nobody is heard, or an upgrade counts on them`() {
        var net = ServerHarness { $0.silenceMax = .seconds(60) }
        net.connectAll(2)
        net.run(.seconds(500))
        #expect(net.server.counters.evictions == 0)
        net.server.toleratesSilence = true
        net.send(0, .ping)
        net.run(.seconds(30))
        #expect(net.server.counters.evictions == 0)
    }
}

@Suite struct `Batches at the server` {
    private static let open = ServerHarness.open

    @Test func `each request is executed in its place, and all are answered together`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.answer = { $0.body == .getattr(.root) ? (.noEntry, .empty) : (.ok, .empty) }
        let xid = net.send(0, .batch([ServerHarness.lock, .getattr(.root), ServerHarness.lock]))
        #expect(net.executed.map(\.body.opcode) == [.ldlmCancel, .getattr, .ldlmCancel])
        guard case .batch(let answers)? = net.clients[0].reply(to: xid)?.body else {
            Issue.record("\(String(describing: net.clients[0].reply))")
            return
        }
        #expect(answers.map(\.status) == [.ok, .noEntry, .ok])
        #expect(answers.map(\.opcode) == [.ldlmCancel, .getattr, .ldlmCancel])
        #expect(net.server.counters.batches == 1)
        #expect(net.server.summary(of: 0)?.requestCount == 0)
    }

    @Test func `a copy of one that is under way is not executed again`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.holds = true
        let xid = net.send(0, .batch([ServerHarness.lock, ServerHarness.lock]))
        net.send(
            0, .batch([ServerHarness.lock, ServerHarness.lock]), flags: .resent, xid: xid)
        #expect(net.executed.count == 2 && net.server.counters.duplicates == 1)
        // In any order.
        net.complete(net.held[1])
        net.settle()
        #expect(net.clients[0].replyCount(to: xid) == 0)
        net.complete(net.held[0])
        net.settle()
        #expect(net.clients[0].replyCount(to: xid) == 1)
    }

    @Test func `opens and locks are replayed in batches, and locks wait for their turn`() {
        var (net, xids) = `Server recovery`.crashed(updates: [0, 1], committed: 0)
        for client in 0..<3 { net.connect(client) }
        let opens = net.send(0, .batch([Self.open, Self.open]))
        #expect(net.clients[0].replyCount(to: opens) == 1)
        net.replay(0, 1, xid: xids[0][0])
        let locks = net.send(
            0, .batch([ServerHarness.lock, ServerHarness.lock]), flags: .requestReplayDone)
        #expect(net.clients[0].replyCount(to: locks) == 0)
        net.replay(1, 2, xid: xids[1][0])
        net.finalPing(1)
        net.finalPing(2)
        #expect(net.clients[0].replyCount(to: locks) == 1)
        net.finalPing(0)
        #expect(net.finished == [])
    }
}

@Suite struct `The end of a recovery` {
    @Test func `by order evicts who is not done, and keeps what was done`() {
        var (net, xids) = `Server recovery`.crashed(updates: [0, 1, 2], committed: 0)
        net.connect(0)
        net.connect(1)
        net.replay(0, 1, xid: xids[0][0])
        net.finalPing(1)
        net.server.abortRecovery(lnet: &net.serverLNet, now: net.now)
        net.settle()
        #expect(net.server.stage == .serving && net.finished == [0, 2])
        #expect(net.server.summary(of: 1) != nil)
        #expect(net.server.nextDeadline == nil)
    }

    @Test func `by order before anybody came leaves a server without clients`() {
        var (net, _) = `Server recovery`.crashed(updates: [0, 1, 2], committed: 0)
        net.server.abortRecovery(lnet: &net.serverLNet, now: net.now)
        net.settle()
        #expect(net.server.stage == .serving && net.server.exportCount == 0)
        net.connect(0)
        #expect(net.clients[0].mode == .fresh)
    }

    @Test func `by order outside a recovery does nothing`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.server.abortRecovery(lnet: &net.serverLNet, now: net.now)
        #expect(net.server.exportCount == 1 && net.finished == nil)
    }

    /// A client that is heard again and again holds the soft window open, not the hard one.
    @Test func `comes with the hard limit, whatever the clients say`() {
        var (net, xids) = `Server recovery`.crashed(updates: [0, 1, 2], committed: 0)
        for client in 0..<3 { net.connect(client) }
        net.finalPing(0)
        net.replay(1, 2, xid: xids[1][0])
        for _ in 0..<4 {
            net.run(.seconds(20))
            net.send(2, ServerHarness.open)
        }
        #expect(net.server.isRecovering)
        net.run(.seconds(20))
        // Who was waited for goes; who waited for his turn gets it, and a window for what he still has.
        #expect(net.server.summary(of: 2) == nil && net.server.summary(of: 1) != nil)
        net.run(.seconds(31))
        #expect(net.server.stage == .serving)
        #expect(Set(net.finished ?? []) == [1, 2])
        #expect(net.server.summary(of: 0) != nil)
    }

    @Test func `waits longer for the clients of a slow target`() {
        var (net, _) = `Server recovery`.crashed(updates: [0, 1, 2], committed: 0)
        net.clients[0].serviceSeconds = 24
        net.connect(0)
        net.finalPing(0)
        // 30 s + 5/4 · 24 s.
        net.run(.seconds(45))
        #expect(net.server.stage == .connecting)
        net.run(.seconds(20))
        #expect(net.server.stage == .serving)
    }

    @Test func `evicts the client whose replay failed, and nobody else`() {
        var (net, xids) = `Server recovery`.crashed(updates: [0, 1, 0], committed: 0)
        net.answer = { $0.replayTransno.rawValue == 1 ? (.overflow, .empty) : (.ok, .empty) }
        for client in 0..<3 { net.connect(client) }
        let failed = net.replay(0, 1, xid: xids[0][0])
        // What does not depend on the lost one is done all the same.
        net.replay(1, 2, xid: xids[1][0])
        net.finalPing(1)
        net.finalPing(2)
        net.replay(0, 3, xid: xids[0][1])
        #expect(net.executedTransnos == [1, 2, 3])
        #expect(net.clients[0].reply(to: failed)?.header.status == .overflow)
        let ping = net.finalPing(0)
        #expect(net.clients[0].reply(to: ping)?.header.status == .notConnected)
        #expect(net.finished == [0] && net.server.counters.replaysFailed == 1)
        #expect(
            net.events.contains { event in
                if case .evicted(0, _, .replayFailed(1)) = event { true } else { false }
            })
        #expect(net.server.summary(of: 1) != nil && net.server.summary(of: 2) != nil)
    }
}

@Suite struct `Replays under way together` {
    /// One client's replays 1 2 3 4, of which 2 is lost on the way: nobody else could have it, and
    /// yet it is no gap.
    @Test func `one that was lost on the way holds those behind it up`() {
        var (net, xids) = `Server recovery`.crashed(updates: [0, 0, 0, 0, 1], committed: 0)
        for client in 0..<3 { net.connect(client) }
        net.finalPing(2)
        net.replay(1, 5, xid: xids[1][0])
        func replay(_ number: Int) {
            net.send(
                0, ServerHarness.update, tag: 1, flags: .replay, xid: xids[0][number - 1],
                transno: UInt64(number), predecessor: UInt64(number - 1))
        }
        replay(1)
        replay(3)
        replay(4)
        #expect(net.executedTransnos == [1])
        replay(2)
        // Nothing is missing before 5 then, whatever client 0 may still have.
        #expect(net.executedTransnos == [1, 2, 3, 4, 5])
        net.finalPing(0)
        net.finalPing(1)
        #expect(net.finished == [])
    }
}

@Suite struct `Pre-versions` {
    @Test func `are told with the reply, with the copy of a reply, and handed over with a replay`()
    {
        var net = ServerHarness()
        net.connectAll(1)
        let versions = PreVersions([ObjectVersion(3), .absent])
        net.versionsBefore = { _ in versions }
        let xid = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: xid)?.header.preVersions == versions)
        net.send(0, ServerHarness.update, flags: .resent, xid: xid)
        #expect(net.clients[0].replyCount(to: xid) == 2)
        #expect(net.clients[0].reply(to: xid)?.header.preVersions == versions)
        // Also by the next instance, from the row.
        net.committed = net.transno
        let second = net.send(0, ServerHarness.update)
        net.restart(clean: false)
        net.connect(0)
        net.send(
            0, ServerHarness.update, tag: 1, flags: .replay, xid: second, transno: 2,
            preVersions: versions)
        #expect(net.executed.last?.preVersions == versions)
        #expect(net.executed.last?.replayTransno.rawValue == 2)
    }
}
