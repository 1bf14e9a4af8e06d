import LNetCore
import Primitives
import Testing
import WireFormat

@testable import PtlRPCCore

private func openReplay(_ handle: UInt64) -> RequestBody {
    .openReplay(OpenReplayRequest(file: .root, handle: handle, flags: .read))
}

private func lockReplay(_ cookie: UInt64) -> RequestBody {
    .enqueue(
        EnqueueRequest(
            request: .enqueue(cookie: cookie, flags: .replay, descriptor: .none)))
}

private let mkdir = RequestBody.mkdir(
    MkdirRequest(
        parent: .root, name: FileName("d")!, mode: 0o755, time: Timestamp(seconds: 9)))
private let open = RequestBody.open(
    OpenRequest(
        parent: .root, name: FileName("o")!, flags: [.write, .create], mode: 0o644,
        stripeCount: 1, time: Timestamp(seconds: 8)))

@Suite struct `after a lost connection` {
    @Test func `the same instance gets what was not answered again, with the same XIDs`() {
        var rig = ClientRig.connected()
        rig.call(unlink("a"), cookie: 1)
        rig.call(.getattr(.root), cookie: 2)
        rig.call(unlink("b"), cookie: 3)
        let first = rig.takeAll()
        rig.cut(1)
        let connect = rig.accept(.sameInstance, instance: 1)
        #expect(connect.header.connectionCount == 2 && connect.header.handle == 0xE1)
        guard case .connect(let body, _) = connect.body else { return }
        #expect(body.lastInstance == 1)
        let second = rig.takeAll()
        #expect(Set(second.map(\.xid)) == Set(first.map(\.xid)))
        #expect(second.allSatisfy { $0.header.flags == .resent })
        for request in second {
            let before = first.first { $0.xid == request.xid }
            #expect(before?.header.tag == request.header.tag && before?.body == request.body)
            #expect(request.header.connectionCount == 2)
        }
        // The answer to the first sending was under way on the old connection.
        rig.reply(first[0], transno: 5)
        #expect(rig.ended == [])
        for request in second { rig.reply(request, ClientRig.answer(to: request.body)) }
        #expect(rig.ended.count == 3 && rig.summary.counters.resent == 3)
        #expect(rig.story == ["disconnected connectionLost", "connected sameInstance", "full"])
    }

    @Test func `a lost reply costs a time-out and a resend`() {
        var rig = ClientRig.connected()
        rig.call(unlink("a"), cookie: 1)
        let lost = rig.take()
        rig.run(.seconds(11))
        rig.accept(.sameInstance, instance: 1)
        let again = rig.take()
        #expect(again.xid == lost.xid && again.header.flags == .resent)
        rig.reply(again, transno: 3)
        #expect(rig.ended == ["1 success"] && rig.summary.counters.timeouts == 1)
    }

    @Test func `not connected is no answer but a reason to connect`() {
        var rig = ClientRig.connected()
        rig.call(.getattr(.root), cookie: 1)
        rig.reply(rig.take(), status: .notConnected)
        rig.accept(.sameInstance, instance: 1)
        let again = rig.take()
        rig.reply(again, ClientRig.answer(to: again.body))
        #expect(rig.ended == ["1 success"])
        #expect(rig.story.first == "disconnected notConnected")
    }

    @Test func `a target that forgot the client evicts it: exactly what was sent fails`() {
        var rig = ClientRig.connected { $0.requestsInFlightMax = 2 }
        rig.update(unlink("saved"), cookie: 1, transno: 4)
        rig.call(unlink("a"), cookie: 2)
        rig.call(.getattr(.root), cookie: 3)
        rig.call(.getattr(.root), cookie: 4)
        rig.call(.close(CloseRequest(file: .root, handle: 1)), cookie: 5)
        let before = rig.takeAll()
        rig.events = []
        rig.cut(1)
        rig.accept(.fresh, instance: 2)
        #expect(
            rig.ended == [
                "2 failed: not connected", "3 failed: not connected", "5 failed: not connected",
            ])
        #expect(
            rig.story == ["disconnected connectionLost", "connected fresh", "evicted", "full"])
        #expect(rig.summary.savedCount == 0 && rig.summary.counters.evictions == 1)
        let next = rig.take()
        rig.reply(before[0])
        rig.reply(next, ClientRig.answer(to: next.body))
        #expect(rig.ended.last == "4 success" && rig.ended.count == 4)
        // All modify slots are free again.
        rig.call(unlink("b"), cookie: 6)
        let later = rig.take()
        #expect(later.header.tag == 1)
    }

    @Test func `a fresh target is no eviction for a client with nothing to lose`() {
        var rig = ClientRig.connected()
        rig.cut(1)
        rig.accept(.fresh, instance: 2)
        #expect(rig.story.contains("evicted") == false && rig.state == .full)
        rig.client.setHoldsState(0, true)
        rig.cut(1)
        rig.accept(.fresh, instance: 3)
        #expect(rig.story.contains("evicted") && rig.state == .full)
    }
}

@Suite struct `a recovering target` {
    @Test func `is told opens, then updates by transno, then locks, then a last ping`() {
        var rig = ClientRig.connected { $0.replaysInFlightMax = 2 }
        rig.update(unlink("a"), cookie: 1, transno: 10)
        rig.update(unlink("b"), cookie: 2, transno: 13)
        rig.update(unlink("c"), cookie: 3, transno: 12)
        rig.call(unlink("unanswered"), cookie: 4)
        let unanswered = rig.take()
        rig.events = []
        rig.cut(1)
        let connect = rig.accept(.recovering, instance: 2, lastCommitted: 10)
        #expect(connect.header.operationFlags.contains(.transno))
        #expect(rig.state == .replay && rig.inbox.isEmpty)
        rig.call(.getattr(.root), cookie: 5)
        rig.client.replayOpens(
            0, [(openReplay(1), 101), (openReplay(2), 102), (openReplay(3), 103)],
            lnet: &rig.nodes[0], now: rig.now)
        let opens = rig.takeAll()
        #expect(opens.map(\.body) == [openReplay(1), openReplay(2)])
        rig.reply(opens[0])
        rig.reply(opens[1])
        rig.reply(rig.take())
        let replays = rig.takeAll()
        #expect(replays.map(\.header.transno.rawValue) == [12, 13])
        #expect(replays.map(\.header.flags) == [.replay, .replay])
        for replay in replays {
            rig.reply(replay, transno: replay.header.transno.rawValue, lastCommitted: 10)
        }
        #expect(rig.state == .replayLocks && rig.inbox.isEmpty)
        rig.client.replayLocks(
            0, [(lockReplay(7), 201), (lockReplay(8), 202)], lnet: &rig.nodes[0], now: rig.now)
        let locks = rig.takeAll()
        #expect(locks.map(\.body) == [lockReplay(7), lockReplay(8)])
        #expect(locks.allSatisfy { $0.header.flags == .requestReplayDone })
        for lock in locks { rig.reply(lock, status: .noEntry) }
        let ping = rig.take()
        #expect(ping.body == .ping && rig.state == .replayWait)
        #expect(ping.header.flags == [.requestReplayDone, .lockReplayDone])
        rig.reply(ping)
        let after = rig.takeAll()
        #expect(Set(after.map(\.body.opcode)) == [.unlink, .getattr])
        let resent = after.first { $0.xid == unanswered.xid }
        #expect(resent?.header.flags == .resent)
        #expect(
            rig.story == [
                "disconnected connectionLost", "connected recovering", "committed 10", "opens?",
                "locks?", "full",
            ])
        let replayCookies = rig.events.compactMap {
            if case .replayReply(_, let cookie, _, _, _, _) = $0 { cookie } else { nil }
        }
        #expect(replayCookies == [101, 102, 103, 201, 202])
        #expect(rig.summary.counters.replayed == 7 && rig.summary.savedCount == 2)
        #expect(
            rig.summary.history.entries.map(\.state).suffix(5) == [
                .replay, .replayLocks, .replayWait, .recover, .full,
            ])
    }

    @Test func `gets replays with the names that the first execution gave, in its own version`() {
        var rig = ClientRig.connected(version: .v1)
        rig.update(open, cookie: 1, transno: 3)
        rig.update(mkdir, cookie: 2, transno: 4)
        rig.cut(1)
        rig.accept(.recovering, instance: 2, version: .v2)
        // The open is on the replay list: it comes from there, not from the owner.
        rig.client.replayOpens(
            0, [(openReplay(0xABC), 9)], lnet: &rig.nodes[0], now: rig.now)
        let first = rig.take()
        guard case .open(let opened) = first.body, case .open(let sent) = open,
            case .open(let reply) = ClientRig.answer(to: open)
        else {
            Issue.record("\(first.body)")
            return
        }
        var expected = sent
        expected.file = reply.attributes.file
        expected.handle = reply.handle
        expected.layout = reply.layout
        #expect(opened == expected && first.header.transno.rawValue == 3)
        rig.reply(first, ClientRig.answer(to: first.body), transno: 3)
        let second = rig.take()
        guard case .mkdir(let made) = second.body else {
            Issue.record("\(second.body)")
            return
        }
        #expect(made.file == reply.attributes.file && made.name.text == "d")
    }

    @Test func `that dies too hears everything from the start from its successor`() {
        var rig = ClientRig.connected()
        rig.update(unlink("a"), cookie: 1, transno: 10)
        rig.update(unlink("b"), cookie: 2, transno: 11)
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        rig.client.replayOpens(0, [], lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take(), transno: 10)
        _ = rig.take()
        rig.cut(1)
        rig.accept(.recovering, instance: 3)
        rig.client.replayOpens(0, [(openReplay(4), 1)], lnet: &rig.nodes[0], now: rig.now)
        #expect(rig.state == .replay)
        rig.reply(rig.take())
        for transno in [10, 11] as [UInt64] {
            let request = rig.take()
            #expect(request.header.transno.rawValue == transno)
            #expect(request.header.flags == .replay)
            rig.reply(request, transno: transno)
        }
        #expect(rig.state == .replayLocks)
    }

    @Test func `whose connection broke is told on from where it was`() {
        var rig = ClientRig.connected()
        rig.update(unlink("a"), cookie: 1, transno: 10)
        rig.update(unlink("b"), cookie: 2, transno: 11)
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        rig.client.replayOpens(0, [], lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take(), transno: 10)
        let broken = rig.take()
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        let again = rig.take()
        #expect(again.xid == broken.xid && again.header.flags == [.replay, .resent])
        rig.reply(again, transno: 11)
        rig.client.replayLocks(
            0, [(lockReplay(1), 1), (lockReplay(2), 2)], lnet: &rig.nodes[0], now: rig.now)
        _ = rig.takeAll()
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        let locks = rig.takeAll()
        #expect(locks.map(\.body) == [lockReplay(1), lockReplay(2)])
        #expect(locks.allSatisfy { $0.header.flags == [.resent, .requestReplayDone] })
        for lock in locks { rig.reply(lock, status: .noEntry) }
        _ = rig.take()
        rig.cut(1)
        // The target had the last ping: only its answer was lost.
        rig.accept(.sameInstance, instance: 2)
        #expect(rig.state == .full && rig.inbox.isEmpty)
    }

    @Test func `that refuses a replay is reported, and the rest goes on`() {
        var rig = ClientRig.connected()
        rig.update(unlink("a"), cookie: 1, transno: 10)
        rig.update(unlink("b"), cookie: 2, transno: 11)
        rig.cut(1)
        rig.accept(.recovering, instance: 2)
        rig.client.replayOpens(0, [], lnet: &rig.nodes[0], now: rig.now)
        let first = rig.take()
        rig.reply(first, status: .overflow, transno: 10)
        let next = rig.take()
        #expect(next.header.transno.rawValue == 11)
        #expect(
            rig.events.contains(
                .replayFailed(
                    import: 0, opcode: .unlink, status: .overflow, xid: first.xid,
                    transno: Transno(rawValue: 10))))
    }
}

@Suite struct `a clean record` {
    @Test func `empties the replay list, and opens and locks are told in the new version`() {
        var rig = ClientRig.connected(version: .v1)
        rig.update(unlink("a"), cookie: 1, transno: 10)
        rig.call(unlink("b"), cookie: 2)
        let unanswered = rig.take()
        rig.cut(1)
        rig.accept(.cleanRecord, instance: 2, lastCommitted: 10, version: .v2)
        #expect(rig.summary.savedCount == 0 && rig.summary.version == .v2)
        rig.client.replayOpens(0, [(openReplay(1), 1)], lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take())
        rig.client.replayLocks(0, [], lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take())
        let again = rig.take()
        #expect(again.xid == unanswered.xid && again.body == unanswered.body)
        #expect(again.header.flags == .resent && rig.state == .full)
    }

    @Test func `that lacks a saved update is reported loudly`() {
        var rig = ClientRig.connected()
        rig.update(unlink("a"), cookie: 1, transno: 10)
        rig.update(unlink("b"), cookie: 2, transno: 11)
        rig.cut(1)
        rig.accept(.cleanRecord, instance: 2, lastCommitted: 10)
        let lost = rig.events.compactMap {
            if case .replayFailed(_, _, let status, _, let transno) = $0 {
                "\(transno.rawValue) \(status)"
            } else {
                nil
            }
        }
        #expect(lost == ["11 not connected"] && rig.summary.savedCount == 0)
        #expect(rig.state == .replay)
    }

    @Test func `of an older version takes several unanswered updates one after another`() {
        var rig = ClientRig.connected(version: .v2)
        for cookie in 1...3 { rig.call(unlink("f\(cookie)"), cookie: UInt64(cookie)) }
        let sent = rig.takeAll()
        rig.cut(1)
        rig.accept(.cleanRecord, instance: 2, version: .v1)
        rig.client.replayOpens(0, [], lnet: &rig.nodes[0], now: rig.now)
        rig.client.replayLocks(0, [], lnet: &rig.nodes[0], now: rig.now)
        rig.reply(rig.take())
        for before in sent {
            let again = rig.takeAll()
            #expect(again.map(\.xid) == [before.xid])
            #expect(again.map(\.header.tag) == [before.header.tag])
            rig.reply(again[0], transno: 20 + UInt64(before.header.tag))
        }
        #expect(rig.ended == ["1 success", "2 success", "3 success"])
    }
}
