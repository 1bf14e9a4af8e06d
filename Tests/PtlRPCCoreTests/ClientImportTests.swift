import LNetCore
import Primitives
import Testing
import WireFormat

@testable import PtlRPCCore

@Suite struct `an import` {
    @Test func `waits with its requests until a target took it, then sends them in order`() {
        var rig = ClientRig()
        _ = rig.client.addImport(targetName: "T0", kind: .mds, nids: [ClientRig.nid(1)])
        rig.call(.getattr(.root), cookie: 1)
        rig.call(unlink("a"), cookie: 2)
        #expect(rig.state == .new && rig.summary.queuedCount == 2)
        rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
        let connect = rig.accept(.fresh, instance: 5)
        guard case .connect(let body, .mds) = connect.body else {
            Issue.record("no connect")
            return
        }
        #expect(connect.header.connectionCount == 1 && connect.header.handle == 0)
        #expect(connect.header.operationFlags == .initial)
        #expect(body.targetName == "T0" && body.clientHandle == 0x1000 && body.lastInstance == 0)
        #expect(rig.story == ["connected fresh", "full"])
        #expect(rig.state == .full && rig.summary.instance == 5)

        let sent = rig.takeAll()
        #expect(Set(sent.map(\.body.opcode)) == [.getattr, .unlink])
        #expect(sent.allSatisfy { $0.header.handle == 0xE1 && $0.header.connectionCount == 1 })
        #expect(sent.allSatisfy { $0.header.flags == [] })
        for request in sent { rig.reply(request, ClientRig.answer(to: request.body)) }
        #expect(Set(rig.ended) == ["1 success", "2 success"])
        #expect(rig.summary.sentCount == 0 && rig.summary.queuedCount == 0)
    }

    @Test func `what gives locks back goes to the portal for that, and is answered from there`() {
        var rig = ClientRig.connected()
        let descriptor = LockDescriptor(
            resource: ResourceID(1), requestedMode: .pr, policy: .bits([.update]))
        rig.call(.cancel(.cancel(cookie: 7)), cookie: 1)
        rig.call(.convert(.convert(cookie: 7, descriptor: descriptor)), cookie: 2)
        rig.call(.getattr(.root), cookie: 3)
        let sent = rig.takeAll()
        #expect(
            sent.sorted { $0.xid < $1.xid }.map(\.portal) == [
                ServicePortal.lockCancelRequest, ServicePortal.lockCancelRequest,
                ServicePortal.mdsRequest,
            ])
        for request in sent where request.body.opcode == .ldlmCancel { rig.reply(request, .empty) }
        #expect(rig.ended == ["1 success"])
    }

    @Test func `XIDs advance by 128 and name the oldest unanswered request`() {
        var rig = ClientRig.connected()
        for cookie in 1...3 { rig.call(.getattr(.root), cookie: UInt64(cookie)) }
        let sent = rig.takeAll()
        #expect(sent[1].xid.rawValue == sent[0].xid.rawValue + 128)
        #expect(sent[0].xid.rawValue >= 1_700_000_000 << 20)
        #expect(sent.allSatisfy { $0.header.lastXID.rawValue == sent[0].xid.rawValue - 1 })
        rig.reply(sent[0], ClientRig.answer(to: sent[0].body))
        rig.call(.getattr(.root), cookie: 4)
        let next = rig.take()
        #expect(next.header.lastXID.rawValue == sent[1].xid.rawValue - 1)
    }

    @Test func `the same XIDs stay findable while the table grows`() {
        var rig = ClientRig.connected { $0.requestsInFlightMax = 1000 }
        for cookie in 0..<300 { rig.call(.getattr(.root), cookie: UInt64(cookie)) }
        let sent = rig.takeAll()
        #expect(sent.count == 300)
        for request in sent.reversed() { rig.reply(request, ClientRig.answer(to: request.body)) }
        #expect(rig.ended == (0..<300).reversed().map { "\($0) success" })
    }

    @Test func `a reply of an older connection, of another node, or to nothing is dropped`() {
        var rig = ClientRig.connected(servers: 2)
        rig.call(.getattr(.root), cookie: 1)
        let request = rig.take()
        let answer = ClientRig.answer(to: request.body)
        rig.reply(request, answer, connectionCount: 0)
        rig.reply(request, answer, from: 2)
        #expect(rig.ended == [] && rig.summary.counters.lateReplies == 2)
        rig.reply(request, answer)
        rig.reply(request, answer)
        #expect(rig.ended == ["1 success"])
    }

    @Test func `bytes that are no reply end the request and not the client`() {
        var rig = ClientRig.connected()
        rig.call(.getattr(.root), cookie: 1)
        let request = rig.take()
        rig.reply(request, .empty)
        #expect(rig.ended == ["1 failed: protocol error"])
        #expect(rig.state == .full && rig.summary.counters.badMessages == 1)
    }

    @Test(arguments: [(ProtocolVersion.v1, 1), (.v2, 8)])
    func `a version allows so many updates at once, each with a slot`(
        version: ProtocolVersion, count: Int
    ) {
        var rig = ClientRig.connected(version: version)
        for cookie in 0..<10 { rig.call(unlink("f\(cookie)"), cookie: UInt64(cookie)) }
        let first = rig.takeAll()
        #expect(first.map { Int($0.header.tag) } == Array(1...count))
        rig.reply(first[count - 1], transno: 1)
        let next = rig.takeAll()
        #expect(next.map { Int($0.header.tag) } == [count])
        rig.call(.getattr(.root), cookie: 99)
        let read = rig.take()
        #expect(read.header.tag == 0)
    }

    @Test func `requests beyond the limit wait, those of the shutdown do not`() {
        var rig = ClientRig.connected { $0.requestsInFlightMax = 2 }
        for cookie in 1...3 { rig.call(.getattr(.root), cookie: UInt64(cookie)) }
        rig.call(.cancel(.cancel(cookie: 4)), cookie: 4)
        let first = rig.takeAll()
        #expect(first.map(\.body.opcode) == [.getattr, .getattr, .ldlmCancel])
        #expect(rig.summary.queuedCount == 1)
    }

    @Test func `a full queue refuses at once`() {
        var rig = ClientRig { $0.queuedMax = 2 }
        _ = rig.client.addImport(targetName: "T0", kind: .mds, nids: [ClientRig.nid(1)])
        for cookie in 1...3 { rig.call(.getattr(.root), cookie: UInt64(cookie)) }
        rig.settle()
        #expect(rig.ended == ["3 failed: try again"])
    }

    @Test func `a cancelled request that was never sent has no effect, a sent one no event`() {
        var rig = ClientRig.connected { $0.requestsInFlightMax = 1 }
        let sent = rig.call(unlink("a"), cookie: 1)
        let queued = rig.call(.getattr(.root), cookie: 2)
        let wasQueued = rig.client.cancel(queued)
        #expect(wasQueued)
        let wasUnsent = rig.client.cancel(sent)
        #expect(!wasUnsent)
        let request = rig.take()
        rig.reply(request, transno: 7)
        #expect(rig.ended == [] && rig.inbox.isEmpty && rig.summary.savedCount == 1)
    }

    @Test func `a refused update reaches the owner as a reply`() {
        var rig = ClientRig.connected()
        rig.call(unlink("a"), cookie: 1)
        rig.reply(rig.take(), status: .inProgress)
        #expect(rig.ended == ["1 in progress"] && rig.summary.savedCount == 0)
        #expect(rig.state == .full)
    }

    @Test func `disconnect tells the target, fails what is under way, and is final`() {
        var rig = ClientRig.connected()
        rig.call(.getattr(.root), cookie: 1)
        _ = rig.take()
        rig.client.disconnect(0, lnet: &rig.nodes[0], now: rig.now)
        rig.call(.getattr(.root), cookie: 2)
        let request = rig.take()
        #expect(request.body == .disconnect(.mds))
        rig.reply(request)
        #expect(rig.ended == ["1 failed: shut down", "2 failed: shut down"])
        #expect(rig.state == .closed && rig.story == ["disconnected closed"])
        rig.run(.seconds(60))
        #expect(rig.inbox.isEmpty && rig.client.nextDeadline == nil)
    }

    @Test func `a silent import pings when it is told to`() {
        var rig = ClientRig.connected { $0.pingInterval = .seconds(25) }
        rig.run(.seconds(26))
        rig.reply(rig.take(), lastCommitted: 3)
        #expect(rig.story == ["committed 3"])
        rig.run(.seconds(20))
        #expect(rig.inbox.isEmpty)
    }

    @Test func `two clients with one seed make the same jitter`() {
        func delays() -> [Ticks?] {
            var rig = ClientRig()
            rig.refusing = [1]
            _ = rig.client.addImport(targetName: "T0", kind: .mds, nids: [ClientRig.nid(1)])
            rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
            return (0..<20).map { _ in
                rig.run(.milliseconds(100))
                return rig.client.nextDeadline
            }
        }
        #expect(delays() == delays())
    }
}

@Suite struct `saved requests` {
    @Test func `stay until a reply says that they are committed`() {
        var rig = ClientRig.connected()
        for (cookie, transno) in [(1, 10), (2, 12), (3, 11)] {
            rig.update(unlink("f\(cookie)"), cookie: UInt64(cookie), transno: UInt64(transno))
        }
        #expect(rig.summary.savedCount == 3 && rig.summary.highestTransno.rawValue == 12)
        rig.call(.getattr(.root), cookie: 4)
        let request = rig.take()
        rig.reply(request, ClientRig.answer(to: request.body), lastCommitted: 11)
        #expect(rig.summary.savedCount == 1)
        rig.client.purgeCommitted(0, upTo: Transno(rawValue: 12))
        rig.settle()
        #expect(rig.summary.savedCount == 0)
        #expect(rig.story == ["committed 11", "committed 12"])
    }

    @Test func `that failed or are committed with their reply are not kept`() {
        var rig = ClientRig.connected()
        rig.call(unlink("a"), cookie: 1)
        rig.reply(rig.take(), status: .noEntry)
        rig.call(unlink("b"), cookie: 2)
        rig.reply(rig.take(), transno: 4, lastCommitted: 4)
        #expect(rig.summary.savedCount == 0)
        #expect(rig.ended == ["1 no such file or directory", "2 success"])
    }

    @Test func `that fill the replay list hold updates back until a ping learns of a commit`() {
        var rig = ClientRig.connected { $0.savedMax = 1 }
        rig.update(unlink("a"), cookie: 1, transno: 1)
        rig.call(unlink("b"), cookie: 2)
        rig.settle()
        #expect(rig.inbox.isEmpty)
        rig.run(.milliseconds(60))
        let ping = rig.take()
        #expect(ping.body == .ping)
        rig.reply(ping, lastCommitted: 1)
        let next = rig.take()
        #expect(next.body == unlink("b"))
    }
}
