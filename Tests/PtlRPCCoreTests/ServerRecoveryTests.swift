import LNetCore
import Primitives
import PtlRPCCore
import Testing
import WireFormat

@Suite struct `Server recovery` {
    /// Three clients, connected; updates with transnos 1...; the first `committed` are on disk.
    static func crashed(updates: [Int], committed: UInt64) -> (ServerHarness, [[UInt64]]) {
        var net = ServerHarness()
        net.connectAll(3)
        var xids: [[UInt64]] = [[], [], []]
        for client in updates { xids[client].append(net.send(client, ServerHarness.update)) }
        net.committed = committed
        net.restart(clean: false)
        return (net, xids)
    }

    static func finish(_ net: inout ServerHarness, _ clients: [Int]) {
        for client in clients { net.finalPing(client) }
    }

    @Test func `a recovery with nobody to wait for is over at once`() {
        let net = ServerHarness(start: .recovering(lastCommitted: Transno(rawValue: 9)))
        #expect(net.finished == [])
        #expect(net.server.stage == .serving)
        #expect(net.server.lastCommitted == Transno(rawValue: 9))
    }

    @Test func `replays of three clients are executed in the order of their transnos`() {
        // Transno 1 2 3 4 5 6, all lost.
        var (net, xids) = Self.crashed(updates: [0, 1, 2, 1, 0, 2], committed: 0)
        for client in 0..<3 { net.connect(client) }
        #expect(net.clients.map(\.mode) == [.recovering, .recovering, .recovering])
        #expect(net.server.stage == .openReplay)
        // In the worst order of arrival.
        net.replay(2, 3, xid: xids[2][0])
        net.replay(1, 2, xid: xids[1][0])
        #expect(net.executedTransnos == [])
        net.replay(0, 1, xid: xids[0][0])
        #expect(net.executedTransnos == [1, 2, 3])
        net.replay(2, 6, xid: xids[2][1])
        net.replay(0, 5, xid: xids[0][1])
        #expect(net.executedTransnos == [1, 2, 3])
        net.replay(1, 4, xid: xids[1][1])
        #expect(net.executedTransnos == [1, 2, 3, 4, 5, 6])
        #expect(net.clients[2].reply(to: xids[2][1])?.header.transno == Transno(rawValue: 6))

        let lock = net.replayLock(0)
        #expect(net.clients[0].replyCount(to: lock) == 0)
        let pings = [net.finalPing(1), net.finalPing(2)]
        // All have finished their updates: locks go on, pings wait.
        #expect(net.server.stage == .lockReplay)
        #expect(net.clients[0].replyCount(to: lock) == 1)
        #expect(net.clients[1].replyCount(to: pings[0]) == 0)
        let last = net.finalPing(0)
        #expect(net.finished == [])
        #expect(net.clients[0].replyCount(to: last) == 1)
        #expect(net.clients[1].replyCount(to: pings[0]) == 1)
        #expect(net.clients[2].replyCount(to: pings[1]) == 1)
        #expect(net.server.counters.replayed == 6)
        #expect(net.server.counters.evictions == 0)

        // The counter goes on behind the replayed ones.
        let next = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: next)?.header.transno == Transno(rawValue: 7))
    }

    @Test func `a gap is crossed when every client has shown its next replay`() {
        // Client 1 did 2 and 4 and has no replay at all: nobody has them.
        var (net, xids) = Self.crashed(updates: [0, 1, 2, 1, 0], committed: 0)
        for client in 0..<3 { net.connect(client) }
        net.replay(0, 1, xid: xids[0][0])
        net.replay(2, 3, xid: xids[2][0])
        #expect(net.executedTransnos == [])
        net.finalPing(1)
        // 1 runs; then client 0 could still have 2.
        #expect(net.executedTransnos == [1])
        net.replay(0, 5, xid: xids[0][1])
        // 3 crossed the gap of 2; now client 2 could still have 4.
        #expect(net.executedTransnos == [1, 3])
        net.finalPing(2)
        #expect(net.executedTransnos == [1, 3, 5])
        net.finalPing(0)
        #expect(net.finished == [])
    }

    @Test func `opens are told at once, before any update is executed`() {
        var (net, xids) = Self.crashed(updates: [0, 1, 2], committed: 0)
        for client in 0..<3 { net.connect(client) }
        net.replay(0, 1, xid: xids[0][0])
        net.replay(1, 2, xid: xids[1][0])
        let open = net.send(2, ServerHarness.open)
        #expect(net.clients[2].replyCount(to: open) == 1)
        #expect(net.executedTransnos == [])
        net.replay(2, 3, xid: xids[2][0])
        #expect(net.executedTransnos == [1, 2, 3])
    }

    @Test func `new requests and new clients wait until the recovery is over`() {
        var (net, _) = Self.crashed(updates: [0], committed: 1)
        net.connect(0)
        let early = net.send(0, .getattr(FileID(sequence: 0x2_0000_0400, objectNumber: 7)))
        #expect(net.clients[0].reply(to: early)?.header.status == .tryAgain)
        let ping = net.send(0, .ping)
        #expect(net.clients[0].reply(to: ping)?.header.status == .ok)
        let stranger = net.add("stranger")
        net.connect(stranger)
        #expect(net.clients[stranger].reply?.header.status == .busy)
        let observer = net.add("observer")
        net.clients[observer].isObserver = true
        net.connect(observer)
        #expect(net.clients[observer].mode == .fresh)
        let status = net.send(observer, .upgradeStatus)
        #expect(net.clients[observer].replyCount(to: status) == 1)
        for client in 1..<3 { net.connect(client) }
        Self.finish(&net, [0, 1, 2])
        net.connect(stranger)
        #expect(net.clients[stranger].mode == .fresh)
    }

    @Test func `a client that never comes back is evicted at the window`() {
        var (net, xids) = Self.crashed(updates: [0, 1, 2, 0], committed: 0)
        net.run(.seconds(300))
        #expect(net.server.stage == .connecting)  // Nobody came: the window has not begun.
        net.connect(0)
        net.connect(2)
        net.replay(0, 1, xid: xids[0][0])
        net.replay(2, 3, xid: xids[2][0])
        net.run(.seconds(29))
        #expect(net.server.counters.evictions == 0)
        net.run(.seconds(2))
        #expect(
            net.events.contains(
                .evicted(
                    export: 1, clientUUID: "client-2", reason: .recoveryWindow(.connecting))))
        #expect(net.executedTransnos == [1])
        net.replay(0, 4, xid: xids[0][1])
        Self.finish(&net, [0, 2])
        #expect(net.finished == [1])
        #expect(net.executedTransnos == [1, 3, 4])
        net.connect(1)
        #expect(net.clients[1].mode == .fresh)
    }

    /// Where a client dies, and how far the others have come by then.
    @Test(arguments: [RecoveryStage.openReplay, .requestReplay, .lockReplay])
    func `a client that dies in a stage holds it up for one window`(death: RecoveryStage) {
        var (net, xids) = Self.crashed(updates: [0, 1, 2, 1], committed: 0)
        for client in 0..<3 { net.connect(client) }
        net.replay(0, 1, xid: xids[0][0])
        net.replay(2, 3, xid: xids[2][0])
        if death > .openReplay { net.replay(1, 2, xid: xids[1][0]) }
        if death > .requestReplay {
            net.replay(1, 4, xid: xids[1][1])
            net.replayLock(1)
        }
        net.cut(2)
        net.finalPing(0)
        if death != .openReplay { net.finalPing(2) }
        net.now = net.now + .seconds(1)
        net.clients[1].lnet.tick(net.now)
        if death == .openReplay { net.finalPing(2) }
        #expect(net.server.stage == death)
        net.run(.seconds(27))
        #expect(net.server.counters.evictions == 0)
        net.run(.seconds(5))
        #expect(net.finished == [1])
        #expect(
            net.events.contains(
                .evicted(export: 1, clientUUID: "client-2", reason: .recoveryWindow(death))))
        #expect(net.server.nextDeadline == nil)
        let expected: [UInt64] =
            switch death {
            case .openReplay: [1, 3]
            case .requestReplay: [1, 2, 3]
            default: [1, 2, 3, 4]
            }
        #expect(net.executedTransnos == expected)
    }

    @Test func `a replay that comes twice is executed once`() {
        var (net, xids) = Self.crashed(updates: [0, 1, 0], committed: 0)
        net.clients[0].replies = []
        for client in 0..<3 { net.connect(client) }
        net.replay(0, 1, xid: xids[0][0])
        // While it waits for its turn.
        net.replay(0, 1, xid: xids[0][0], resent: true)
        net.replay(1, 2, xid: xids[1][0])
        net.finalPing(2)
        #expect(net.executedTransnos == [1, 2])
        #expect(net.clients[0].replyCount(to: xids[0][0]) == 1)
        // When it was answered and the answer was lost, also over a new connection.
        net.connect(0)
        #expect(net.clients[0].mode == .recovering)
        net.replay(0, 1, xid: xids[0][0], resent: true)
        #expect(net.clients[0].replyCount(to: xids[0][0]) == 2)
        net.replay(0, 3, xid: xids[0][1])
        // Its tag has moved on since.
        net.replay(0, 1, xid: xids[0][0], resent: true)
        #expect(net.clients[0].replyCount(to: xids[0][0]) == 3)
        #expect(net.clients[0].reply(to: xids[0][0])?.header.transno == Transno(rawValue: 1))
        net.finalPing(1)
        #expect(net.executedTransnos == [1, 2, 3])
        net.finalPing(0)
        #expect(net.finished == [])
    }

    @Test func `a replay of what is on disk is answered from its row`() {
        var (net, xids) = Self.crashed(updates: [0, 1], committed: 2)
        net.answer = { _ in (.noSpace, .empty) }
        for client in 0..<3 { net.connect(client) }
        net.replay(0, 1, xid: xids[0][0])
        #expect(net.clients[0].reply(to: xids[0][0])?.header.status == .ok)
        #expect(net.clients[0].reply(to: xids[0][0])?.header.transno == Transno(rawValue: 1))
        #expect(net.executed.isEmpty)
        #expect(net.server.counters.replayedFromRecord == 1)
        Self.finish(&net, [0, 1, 2])
        #expect(net.finished == [])
    }

    @Test func `two clients cannot have one transno`() {
        var (net, xids) = Self.crashed(updates: [0, 1], committed: 0)
        for client in 0..<3 { net.connect(client) }
        net.replay(0, 1, xid: xids[0][0])
        net.replay(1, 1, xid: xids[1][0])
        net.finalPing(2)
        #expect(net.executedTransnos == [1])
        #expect(net.clients[1].reply(to: xids[1][0])?.header.status == .protocolError)
        Self.finish(&net, [0, 1])
        #expect(net.finished == [])
    }

    @Test func `a second crash in a recovery begins it again`() {
        var (net, xids) = Self.crashed(updates: [0, 1, 2], committed: 0)
        for client in 0..<3 { net.connect(client) }
        for client in 0..<3 { net.replay(client, UInt64(client) + 1, xid: xids[client][0]) }
        #expect(net.executedTransnos == [1, 2, 3])
        net.committed = 1
        net.restart(clean: false)
        for client in 0..<3 { net.connect(client) }
        #expect(net.clients.map(\.mode) == [.recovering, .recovering, .recovering])
        for client in (1..<3).reversed() {
            net.replay(client, UInt64(client) + 1, xid: xids[client][0])
        }
        net.replay(0, 1, xid: xids[0][0])
        Self.finish(&net, [0, 1, 2])
        #expect(net.executedTransnos == [2, 3])
        #expect(net.finished == [])
    }

    @Test func `a client that restarted does not hold the others up`() {
        var (net, _) = Self.crashed(updates: [0], committed: 1)
        net.connect(0)
        net.connect(2)
        let reborn = net.add("client-2", handle: 5)
        net.connect(reborn)
        #expect(net.clients[reborn].reply?.header.status == .busy)
        #expect(net.server.stage == .openReplay)
        Self.finish(&net, [0, 2])
        #expect(net.finished == [1])
        net.connect(reborn)
        #expect(net.clients[reborn].mode == .fresh)
    }

    @Test func `a disconnect in a recovery leaves it`() {
        var (net, _) = Self.crashed(updates: [0], committed: 1)
        for client in 0..<3 { net.connect(client) }
        Self.finish(&net, [0, 2])
        let xid = net.send(1, .disconnect(.mds))
        #expect(net.clients[1].replyCount(to: xid) == 1)
        #expect(net.finished == [])
    }

    @Test func `replays of one client are bounded`() {
        var (net, _) = Self.crashed(updates: [0], committed: 0)
        _ = net
        net = ServerHarness { $0.replayCountMax = 2 }
        net.connectAll(2)
        net.restart(clean: false)
        net.connect(0)
        for number in 0..<3 {
            net.replay(0, UInt64(number) + 1, xid: UInt64(number + 1) << 22)
        }
        #expect(net.clients[0].reply(to: 3 << 22)?.header.status == .tryAgain)
    }

    @Test func `when no known client comes back a new one gets in after the window`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.restart(clean: false)
        let stranger = net.add("stranger")
        net.connect(stranger)
        #expect(net.clients[stranger].reply?.header.status == .busy)
        net.run(.seconds(31))
        #expect(net.finished == [0])
        net.connect(stranger)
        #expect(net.clients[stranger].mode == .fresh)
    }

    @Test func `a write is fetched again when it is replayed`() {
        var net = ServerHarness(kind: .oss)
        net.connectAll(1)
        let body = `Server requests`.write(20_000)
        `Server requests`.offer(&net, body, 900)
        let xid = net.send(0, body, matchBits: 900)
        net.restart(clean: false)
        net.connect(0)
        net.send(0, body, tag: 1, flags: .replay, xid: xid, transno: 1, matchBits: 901)
        #expect(net.executed.isEmpty)
        // The transfer was lost with its connection.
        net.connect(0)
        `Server requests`.offer(&net, body, 902)
        net.send(
            0, body, tag: 1, flags: [.replay, .resent], xid: xid, transno: 1, matchBits: 902)
        #expect(net.executed.map(\.body) == [body.fetched])
        Self.finish(&net, [0])
        #expect(net.finished == [])
    }

    @Test(arguments: 0..<UInt64(20))
    func `any order of arrival gives one order of execution`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let updates = (0..<30).map { _ in random.below(3) }
        let committed = UInt64(random.below(31))
        var (net, xids) = Self.crashed(updates: updates, committed: committed)
        var left: [[(transno: UInt64, xid: UInt64)]] = [[], [], []]
        var counts = [0, 0, 0]
        for (place, client) in updates.enumerated() {
            let xid = xids[client][counts[client]]
            counts[client] += 1
            if UInt64(place) >= committed { left[client].append((UInt64(place) + 1, xid)) }
        }
        for client in 0..<3 {
            net.clients[client].replies = []
            net.connect(client)
        }
        // Each client goes on when it has its answer; now and then it loses its connection.
        var next = [0, 0, 0]
        var isSent = [false, false, false]
        var isDone = [false, false, false]
        for _ in 0..<10_000 where net.finished == nil {
            let client = random.below(3)
            if random.oneIn(10) {
                net.connect(client)
                isSent[client] = false
                continue
            }
            guard next[client] < left[client].count else {
                if !isDone[client] { net.finalPing(client) }
                isDone[client] = true
                continue
            }
            let (transno, xid) = left[client][next[client]]
            if net.clients[client].replyCount(to: xid) > 0 {
                next[client] += 1
                isSent[client] = false
            } else if !isSent[client] {
                net.replay(client, transno, xid: xid, resent: true)
                isSent[client] = true
            }
        }
        #expect(net.finished == [], "seed \(seed)")
        let lost = updates.indices.map { UInt64($0) + 1 }.filter { $0 > committed }
        #expect(net.executedTransnos == lost, "seed \(seed)")
        #expect(net.server.counters.violations == 0)
    }

    // MARK: Clean starts

    @Test func `after a clean stop everybody is served at once`() {
        var net = ServerHarness()
        net.connectAll(2)
        let handle = net.clients[0].exportHandle
        let done = net.send(0, ServerHarness.update)
        net.restart(clean: true)
        #expect(net.server.stage == .serving)
        #expect(!net.server.isRecovering)
        // The old instance's handle is nobody's.
        let stale = net.send(0, .ping)
        #expect(net.clients[0].reply(to: stale)?.header.status == .notConnected)
        net.connect(0)
        #expect(net.clients[0].mode == .cleanRecord)
        #expect(net.clients[0].exportHandle != handle)
        // Its answer may have been lost: the same until the final ping.
        net.connect(0)
        #expect(net.clients[0].mode == .cleanRecord)
        net.send(0, ServerHarness.open)
        net.replayLock(0)
        let ping = net.finalPing(0)
        #expect(net.clients[0].replyCount(to: ping) == 1)
        #expect(net.executed.count == 2)
        #expect(net.executed.last?.isLockReplay == true)
        #expect(net.events.contains(.replayDone(export: 0)))
        net.connect(0)
        #expect(net.clients[0].mode == .sameInstance)
        let update = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: update)?.header.transno == Transno(rawValue: 2))
        net.send(0, ServerHarness.update, flags: .resent, xid: done)
        #expect(net.server.counters.obsolete == 1)
        let stranger = net.add("stranger")
        net.connect(stranger)
        #expect(net.clients[stranger].mode == .fresh)
        #expect(net.rows.last { $0.table == "clients" }?.key == [0, 0, 0, 2])
        #expect(net.server.summary(of: 1)?.isAbsent == true)
    }

    @Test func `a client of the clean record may ask for what is on record and no more`() {
        var net = ServerHarness()
        net.connectAll(1)
        let done = net.send(0, ServerHarness.update)
        net.restart(clean: true)
        net.connect(0)
        net.replay(0, 1, xid: done)
        #expect(net.clients[0].reply(to: done)?.header.transno == Transno(rawValue: 1))
        #expect(net.server.counters.replayedFromRecord == 1)
        net.replay(0, 2, xid: done + 128)
        #expect(net.server.counters.evictions == 1)
    }

    @Test func `connects parked in standby are released into the recovery`() {
        var net = ServerHarness()
        net.connectAll(2)
        net.send(0, ServerHarness.update)
        net.restart(clean: false, start: false)
        net.connect(0)
        net.connect(1)
        #expect(net.server.parkedConnectCount == 2)
        net.startServer(clean: false)
        #expect(net.clients.map(\.mode) == [.recovering, .recovering])
        Self.finish(&net, [0, 1])
        #expect(net.finished == [])
    }

    /// A stress run had clients evicted so: their connect was parked with the next build while they
    /// came back to the crashed instance, whose clean stop the record is of.
    @Test func `a connect from before the record's instance is asked to come again`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.restart(clean: true, start: false)
        net.server.setCleanSince(2, of: 0)
        let early = net.connect(0, lastInstance: 1)
        net.startServer(clean: true)
        #expect(net.clients[0].reply(to: early)?.header.status == .already)
        // Some of them may have waited for a connection together.
        let another = net.connect(0, lastInstance: 1)
        #expect(net.clients[0].reply(to: another)?.header.status == .already)
        net.connect(0, lastInstance: 2)
        #expect(net.clients[0].mode == .cleanRecord)
        #expect(net.server.counters.evictions == 0)
    }

    @Test func `a client that never heard from the record's instance is a new one in the end`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.restart(clean: true, start: false)
        net.server.setCleanSince(2, of: 0)
        net.startServer(clean: true)
        let first = net.connect(0, lastInstance: 1)
        #expect(net.clients[0].reply(to: first)?.header.status == .already)
        net.run(.seconds(6))
        net.connect(0, lastInstance: 1)
        #expect(net.clients[0].mode == .fresh)
        #expect(net.server.counters.evictions == 1)
    }

    @Test func `an upgrade renegotiates the version of a known client`() {
        var net = ServerHarness { $0.versions = .v1 ... .v1 }
        net.connectAll(1)
        #expect(net.clients[0].version == .v1)
        net.restart(clean: true, versions: .v1 ... .v2)
        net.connect(0)
        #expect(net.clients[0].version == .v2)
        #expect(net.clients[0].mode == .cleanRecord)
    }
}
