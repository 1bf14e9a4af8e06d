import LNetCore
import Primitives
import Testing
import WireFormat

@testable import PtlRPCCore

private func unlinked(_ name: String) -> RequestBody {
    .unlink(
        UnlinkRequest(parent: .root, name: FileName(name)!, isDirectory: false, time: .zero))
}

private func opened(_ handle: UInt64) -> RequestBody {
    .openReplay(OpenReplayRequest(file: .root, handle: handle, flags: .read))
}

private func locked(_ number: UInt64) -> RequestBody {
    .enqueue(
        EnqueueRequest(
            request: .enqueue(
                cookie: number, flags: [.replay, .blockGranted],
                descriptor: LockDescriptor(
                    resource: ResourceID(ObjectName(targetIndex: 0, number: number)),
                    requestedMode: .pr, grantedMode: .pr, policy: .plain))))
}

@Suite struct `adaptive time-outs of a client` {
    @Test func `an early reply puts one deadline off and answers nothing`() {
        var rig = ClientRig.connected()
        rig.call(.getattr(.root), cookie: 1)
        let request = rig.take()
        #expect(request.header.timeoutSeconds == 10)
        rig.run(.seconds(8))
        rig.replyEarly(request, timeout: 40)
        #expect(rig.ended.isEmpty && rig.summary.counters.earlyReplies == 1)
        rig.run(.seconds(31))
        #expect(rig.state == .full, "39 s after the sending")
        rig.reply(request, ClientRig.answer(to: request.body))
        #expect(rig.ended == ["1 success"])
        #expect(rig.summary.counters.timeouts == 0)
    }

    @Test func `an early reply whose checksum is wrong is refused`() {
        var rig = ClientRig.connected()
        rig.call(.getattr(.root), cookie: 1)
        rig.replyEarly(rig.take(), timeout: 40, checksumError: 1)
        #expect(rig.summary.counters.earlyReplies == 0)
        #expect(rig.summary.counters.badMessages == 1)
    }

    @Test func `a silent target is noticed in spite of a request that was put off`() {
        var rig = ClientRig.connected { $0.pingInterval = nil }
        rig.call(.getattr(.root), cookie: 1)
        rig.replyEarly(rig.take(), timeout: 100)
        rig.call(.getattr(.root), cookie: 2)
        _ = rig.take()
        rig.run(.seconds(11))
        #expect(rig.state != .full && rig.summary.counters.timeouts == 1)
    }

    @Test func `time-outs follow what the target says of itself, and forget it`() {
        var rig = ClientRig.connected {
            $0.pingInterval = nil
            $0.adaptive?.history = .seconds(40)
        }
        rig.call(.getattr(.root), cookie: 1)
        rig.reply(rig.take(), ClientRig.answer(to: .getattr(.root)), serviceEstimate: 24)
        rig.call(.getattr(.root), cookie: 2)
        // 10 + 5/4 (24 - 4)
        let slow = rig.take()
        #expect(slow.header.timeoutSeconds == 35)
        #expect(rig.summary.serviceEstimate == .seconds(24))
        rig.reply(slow, ClientRig.answer(to: .getattr(.root)))
        rig.run(.seconds(60))
        rig.call(.getattr(.root), cookie: 3)
        #expect(rig.take().header.timeoutSeconds == 10)
    }

    /// Seed 9639 of the simulator: a client was evicted for a lock whose grant was lost, while it
    /// waited for it as long as a recovery before had taken.
    @Test func `an answer that is known to be given is missed in the shortest time-out`() {
        var rig = ClientRig.connected { $0.pingInterval = nil }
        rig.call(.getattr(.root), cookie: 1)
        rig.reply(rig.take(), ClientRig.answer(to: .getattr(.root)), serviceEstimate: 100)
        rig.call(.getattr(.root), cookie: 2)
        rig.call(.getattr(.root), cookie: 3)
        rig.run(.seconds(60))
        #expect(rig.state == .full)
        rig.client.expectSoon(0, now: rig.now) { $0 == 3 }
        rig.run(.seconds(9))
        #expect(rig.state == .full)
        rig.run(.seconds(2))
        #expect(rig.state != .full && rig.summary.counters.timeouts == 1)
    }

    @Test func `slow networks are waited for`() {
        var rig = ClientRig.connected { $0.pingInterval = nil }
        rig.call(.getattr(.root), cookie: 1)
        let request = rig.take()
        rig.run(.seconds(6))
        rig.reply(request, ClientRig.answer(to: .getattr(.root)), serviceSeconds: 1)
        #expect(rig.summary.networkLatency >= .seconds(5))
        rig.call(.getattr(.root), cookie: 2)
        _ = rig.take()
        rig.run(.seconds(14))
        #expect(rig.state == .full)
        rig.run(.seconds(2))
        #expect(rig.state != .full)
    }

    @Test func `without them every request has the same time-out and no flag`() {
        var rig = ClientRig.connected {
            $0.adaptive = nil
            $0.pingInterval = nil
        }
        rig.call(.getattr(.root), cookie: 1)
        rig.reply(rig.take(), ClientRig.answer(to: .getattr(.root)), serviceEstimate: 100)
        rig.call(.getattr(.root), cookie: 2)
        #expect(rig.take().header.timeoutSeconds == 10)
        rig.run(.seconds(11))
        #expect(rig.state != .full)
    }

    @Test func `an idle client pings, and sooner while it waits for commits`() {
        var rig = ClientRig.connected()
        rig.run(.seconds(26))
        let ping = rig.take()
        #expect(ping.body == .ping)
        rig.reply(ping)
        rig.update(unlinked("a"), cookie: 1, transno: 5)
        rig.run(.seconds(8))
        rig.reply(rig.take(), lastCommitted: 5)
        #expect(rig.summary.savedCount == 0)
        rig.run(.seconds(20))
        #expect(rig.inbox.isEmpty)
    }

    @Test func `a target that is silently gone is noticed by a ping`() {
        var rig = ClientRig.connected(servers: 2)
        rig.run(.seconds(26))
        _ = rig.take()
        rig.run(.seconds(11))
        #expect(rig.state == .connecting)
        // Silent too: after its time-out the partner is asked.
        rig.run(.seconds(6))
        #expect(rig.takeAll().map(\.server).contains(2))
    }
}

@Suite struct `an idle import` {
    private static func idle() -> ClientRig {
        var rig = ClientRig.connected { $0.idleTimeout = .seconds(20) }
        rig.call(.getattr(.root), cookie: 1)
        rig.reply(rig.take(), ClientRig.answer(to: .getattr(.root)))
        rig.events = []
        return rig
    }

    @Test func `leaves, and comes back with the next call`() {
        var rig = Self.idle()
        rig.run(.seconds(21))
        let leave = rig.take()
        #expect(leave.body == .disconnect(.mds))
        // What is called meanwhile waits.
        rig.call(.getattr(.root), cookie: 2)
        #expect(rig.takeAll().isEmpty)
        rig.reply(leave)
        #expect(rig.story == ["disconnected idle"])
        rig.accept(.fresh, instance: 1)
        rig.reply(rig.take(), ClientRig.answer(to: .getattr(.root)))
        #expect(rig.ended == ["2 success"])
        #expect(rig.story.contains("evicted") == false)
        rig.run(.seconds(21))
        rig.reply(rig.take())
        #expect(rig.state == .idle && rig.client.nextDeadline == nil)
        #expect(rig.summary.counters.idleDisconnects == 2)
        rig.call(.getattr(.root), cookie: 3)
        #expect(rig.state == .connecting)
    }

    @Test func `stays while something is held, saved or under way`() {
        var rig = Self.idle()
        rig.client.setHoldsState(0, true)
        rig.run(.seconds(24))
        #expect(rig.inbox.isEmpty && rig.state == .full)
        rig.client.setHoldsState(0, false)
        rig.update(unlinked("a"), cookie: 2, transno: 5)
        rig.run(.seconds(6))
        #expect(rig.inbox.isEmpty && rig.state == .full)
    }

    @Test func `that is closed meanwhile ends for good`() {
        var rig = Self.idle()
        rig.run(.seconds(21))
        _ = rig.take()
        rig.client.disconnect(0, lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take())
        #expect(rig.state == .closed)
    }
}

@Suite struct `a replay in a window` {
    @Test func `keeps at most so many updates under way, and goes on with each answer`() {
        var rig = ClientRig.connected { $0.updateReplaysInFlightMax = 4 }
        for transno in 1...10 as ClosedRange<UInt64> {
            rig.update(unlinked("n\(transno)"), cookie: transno, transno: transno)
        }
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        rig.client.replayOpens(0, [], lnet: &rig.nodes[0], now: rig.now)
        var waiting = rig.takeAll()
        #expect(waiting.map(\.header.transno.rawValue) == [1, 2, 3, 4])
        var last: UInt64 = 0
        while !waiting.isEmpty {
            let next = waiting.removeFirst()
            last = next.header.transno.rawValue
            // Commits go on meanwhile; what is under way stays.
            rig.reply(next, transno: last, lastCommitted: last)
            waiting += rig.takeAll()
            #expect(waiting.count <= 4)
        }
        #expect(last == 10 && rig.state == .replayLocks && rig.summary.savedCount == 0)
    }

    @Test func `whose connection broke is sent again in its order`() {
        var rig = ClientRig.connected()
        for transno in 1...5 as ClosedRange<UInt64> {
            rig.update(unlinked("n\(transno)"), cookie: transno, transno: transno)
        }
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        rig.client.replayOpens(0, [], lnet: &rig.nodes[0], now: rig.now)
        let first = rig.takeAll()
        rig.reply(first[0], transno: 1)
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        let again = rig.takeAll()
        #expect(again.map(\.header.transno.rawValue) == [2, 3, 4, 5])
        #expect(again.allSatisfy { $0.header.flags == [.replay, .resent] })
        #expect(again.map(\.xid) == first.dropFirst().map(\.xid))
    }

    @Test func `carries what the first execution found`() {
        var rig = ClientRig.connected()
        rig.call(unlinked("a"), cookie: 1)
        let versions = PreVersions([ObjectVersion(7), ObjectVersion(9)])
        rig.reply(rig.take(), transno: 10, preVersions: versions)
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        rig.client.replayOpens(0, [], lnet: &rig.nodes[0], now: rig.now)
        #expect(rig.take().header.preVersions == versions)
    }
}

@Suite struct `opens and locks in batches` {
    @Test func `travel together in version 3, in their order, and each has its answer`() {
        var rig = ClientRig.connected(version: .v3) {
            $0.batchCountMax = 3
            $0.replaysInFlightMax = 2
        }
        rig.call(.getattr(.root), cookie: 9)
        rig.reply(rig.take(), ClientRig.answer(to: .getattr(.root)))
        rig.cut(1)
        rig.accept(.recovering, instance: 2, version: .v3)
        rig.client.replayOpens(
            0, (1...7).map { (opened($0), 100 + $0) }, lnet: &rig.nodes[0], now: rig.now)
        let opens = rig.takeAll()
        #expect(opens.map(\.body.opcode) == [.batch, .batch])
        #expect(opens.first?.body == .batch((1...3).map { opened($0) }))
        for open in opens { rig.answerBatch(open) { _ in .ok } }
        // The last one travels alone.
        let last = rig.take()
        #expect(last.body == opened(7))
        rig.reply(last)
        rig.client.replayLocks(
            0, (1...4).map { (locked($0), 200 + $0) }, lnet: &rig.nodes[0], now: rig.now)
        let locks = rig.takeAll()
        #expect(locks.map(\.body.opcode) == [.batch, .ldlmEnqueue])
        #expect(locks.allSatisfy { $0.header.flags == .requestReplayDone })
        rig.answerBatch(locks[0]) { $0 == 1 ? .stale : .noEntry }
        rig.reply(locks[1], status: .noEntry)
        #expect(rig.state == .replayWait)
        let answers = rig.events.compactMap { event -> String? in
            guard case .replayReply(_, let cookie, let status, _, _, _) = event else { return nil }
            return "\(cookie) \(status.rawValue)"
        }
        #expect(
            answers == (101...107).map { "\($0) 0" }
                + ["201 -2", "202 -116", "203 -2", "204 -2"])
    }

    @Test func `of an earlier version go one by one`() {
        var rig = ClientRig.connected(version: .v2)
        rig.call(.getattr(.root), cookie: 9)
        rig.reply(rig.take(), ClientRig.answer(to: .getattr(.root)))
        rig.cut(1)
        rig.accept(.recovering, instance: 2, version: .v2)
        rig.client.replayOpens(
            0, (1...3).map { (opened($0), $0) }, lnet: &rig.nodes[0], now: rig.now)
        #expect(rig.takeAll().map(\.body) == (1...3).map { opened($0) })
    }

    @Test func `that were refused as a whole fail each`() {
        var rig = ClientRig.connected(version: .v3)
        rig.call(.getattr(.root), cookie: 9)
        rig.reply(rig.take(), ClientRig.answer(to: .getattr(.root)))
        rig.cut(1)
        rig.accept(.recovering, instance: 2, version: .v3)
        rig.client.replayOpens(
            0, (1...3).map { (opened($0), $0) }, lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take(), status: .tryAgain)
        let failed = rig.events.count {
            if case .replayReply(_, _, .tryAgain, _, _, _) = $0 { true } else { false }
        }
        #expect(failed == 3 && rig.state == .replayLocks)
    }
}

extension ClientRig {
    fileprivate mutating func answerBatch(_ request: Received, _ status: (Int) -> Status) {
        guard case .batch(let bodies) = request.body else {
            Issue.record("\(request.body) is no batch")
            return
        }
        let answers = bodies.enumerated().map {
            BatchAnswer(opcode: $1.opcode, status: status($0), body: .empty)
        }
        reply(request, .batch(answers))
    }
}
