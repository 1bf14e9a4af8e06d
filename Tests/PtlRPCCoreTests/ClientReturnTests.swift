import LNetCore
import Primitives
import Testing
import WireFormat

@testable import PtlRPCCore

/// A target on two networks, the better one first: what an import does when that one goes and comes.
@Suite struct ClientReturnTests {
    private let better = ClientRig.nid(1, network: 1)
    private let other = ClientRig.nid(1)
    private static let announced = ReplyTrailer(
        epoch: UpgradeEpoch(instance: 5, counter: 1), admission: .revoking)

    /// A client of one node that is on both networks, connected over the better one; a partner, node
    /// 2, is on both as well.
    private func connected(
        _ nids: [NID], refusing: Set<Int> = []
    ) -> ClientRig {
        var rig = ClientRig(servers: 2, networks: 2) { $0.returnInterval = .seconds(2) }
        rig.refusing = refusing
        _ = rig.client.addImport(targetName: "t", kind: .mds, nids: nids)
        rig.client.connect(0, lnet: &rig.nodes[0], now: rig.now)
        rig.run(.milliseconds(200))
        rig.accept(.fresh, instance: 5)
        return rig
    }

    /// The better network fails under a request, and the client goes on over the other one.
    private func onTheOther(_ nids: [NID], refusing: Set<Int> = []) -> ClientRig {
        var rig = connected(nids, refusing: refusing)
        #expect(rig.client.summary(0).nid == better)
        rig.call(.getattr(.root), cookie: 1)
        #expect(rig.take().source == ClientRig.nid(0, network: 1))
        rig.refusingNetworks = [1]
        rig.cut(1)
        rig.run(.seconds(1))
        rig.accept(.sameInstance, instance: 5)
        #expect(rig.client.summary(0).nid == other)
        let again = rig.take()
        #expect(again.source == ClientRig.nid(0))
        rig.reply(again, ClientRig.answer(to: again.body))
        return rig
    }

    @Test func `it goes on over the other network, and comes back without an eviction`() {
        var rig = onTheOther([better, other])
        rig.run(.seconds(7))
        #expect(rig.client.state(0) == .full, "asking in vain costs nothing")
        #expect(rig.client.summary(0).nid == other)

        rig.refusingNetworks = []
        rig.call(.getattr(.root), cookie: 2)
        let unanswered = rig.take()
        rig.run(.seconds(3))
        let connect = rig.take()
        #expect(connect.source == ClientRig.nid(0, network: 1))
        rig.accept(connect, .sameInstance, instance: 5)
        #expect(rig.client.summary(0).nid == better)
        // What was under way is sent again by the better network, as the same request.
        let again = rig.take()
        #expect(again.xid == unanswered.xid)
        #expect(again.source == ClientRig.nid(0, network: 1))
        rig.reply(again, ClientRig.answer(to: again.body))
        #expect(rig.client.summary(0).counters.returns == 1)
        #expect(rig.client.summary(0).counters.evictions == 0)

        let attempts = rig.client.summary(0).counters.connectAttempts
        rig.run(.seconds(20))
        #expect(
            rig.client.summary(0).counters.connectAttempts == attempts, "it is where it wants to be"
        )
    }

    @Test func `a partner that answers is not the node that serves`() {
        var rig = onTheOther([ClientRig.nid(2, network: 1), better, other], refusing: [2])
        rig.refusing = []
        rig.refusingNetworks = []
        // Node 2 is asked first, and answers; node 1 is asked next.
        rig.run(.seconds(3))
        #expect(rig.client.summary(0).nid == other)
        #expect(rig.client.state(0) == .full)
        rig.run(.seconds(3))
        let connect = rig.take()
        #expect(connect.server == 1)
        rig.accept(connect, .sameInstance, instance: 5)
        #expect(rig.client.summary(0).nid == better)
    }

    @Test func `where all endpoints are on one network nothing is asked`() {
        var rig = connected([ClientRig.nid(2), other])
        // Connected to whichever answered first; no ping goes out beside those that are due anyway.
        rig.run(.seconds(20))
        #expect(rig.client.summary(0).counters.returns == 0)
        #expect(rig.nodes[0].counters.sent.get == 0)
    }

    @Test func `nothing moves while an upgrade is announced`() {
        var rig = onTheOther([better, other])
        rig.call(.getattr(.root), cookie: 3)
        let request = rig.take()
        rig.reply(request, ClientRig.answer(to: request.body), trailer: Self.announced)
        rig.refusingNetworks = []
        rig.run(.seconds(10))
        #expect(rig.client.summary(0).nid == other)
        #expect(rig.client.summary(0).counters.returns == 0)
    }
}
