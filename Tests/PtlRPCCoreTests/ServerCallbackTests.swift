import LNetCore
import Primitives
import PtlRPCCore
import Testing
import WireFormat

@Suite struct `Server callbacks` {
    static let ast = RequestBody.blockingAST(
        BlockingAST(
            request: .callback(clientCookie: 1, serverCookie: 2, flags: [], descriptor: .none)))

    static func call(_ net: inout ServerHarness, cookie: UInt64 = 7) {
        net.server.callback(0, ast, cookie: cookie, lnet: &net.serverLNet, now: net.now)
        net.settle()
    }

    static func ends(_ net: ServerHarness) -> [(UInt64, Status)] {
        net.events.compactMap {
            if case .callbackReply(let cookie, _, let status, _) = $0 { return (cookie, status) }
            return nil
        }
    }

    @Test func `a callback names the client's handle and brings its answer back`() {
        var net = ServerHarness()
        net.connectAll(1)
        Self.call(&net)
        #expect(net.clients[0].callbacks.map(\.header.handle) == [1000])
        #expect(net.clients[0].callbacks.map(\.header.connectionCount) == [1])
        #expect(Self.ends(net).map(\.0) == [7])
        #expect(Self.ends(net).map(\.1) == [.ok])
    }

    @Test func `an unanswered callback is sent again with its XID, then fails`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].answersCallbacks = false
        Self.call(&net)
        net.run(.seconds(14))
        #expect(net.clients[0].callbacks.count == 3)
        #expect(Set(net.clients[0].callbacks.map(\.xid)).count == 1)
        #expect(
            net.clients[0].callbacks.map { $0.header.flags.contains(.resent) }
                == [false, true, true])
        #expect(Self.ends(net).isEmpty)
        net.run(.seconds(7))
        #expect(Self.ends(net).map(\.1) == [.timedOut])
        #expect(net.server.counters.callbacksFailed == 1)
        net.run(.seconds(60))
        #expect(net.clients[0].callbacks.count == 4)
    }

    @Test func `a late answer to a resent callback counts once`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].answersCallbacks = false
        Self.call(&net)
        net.run(.seconds(6))
        for callback in net.clients[0].callbacks {
            net.answerCallback(0, callback.xid, callback.header)
        }
        net.settle()
        #expect(Self.ends(net).map(\.1) == [.ok])
    }

    @Test func `a callback waits for the return of its client`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.send(0, .ping)
        net.cut(1)
        Self.call(&net)
        #expect(net.clients[0].callbacks.isEmpty)
        net.now = net.now + .seconds(2)
        net.clients[0].lnet.tick(net.now)
        net.connect(0)
        #expect(net.clients[0].callbacks.count == 1)
        #expect(net.clients[0].callbacks[0].header.connectionCount == 2)
        #expect(Self.ends(net).map(\.1) == [.ok])
    }

    @Test func `a callback to a client that stays away fails at its time`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.cut(1)
        Self.call(&net)
        net.run(.seconds(21))
        #expect(Self.ends(net).map(\.1) == [.notConnected])
    }

    @Test func `callbacks of an evicted client end with it`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].answersCallbacks = false
        Self.call(&net)
        net.server.evict(0, .owner("test"), lnet: &net.serverLNet, now: net.now)
        net.settle()
        #expect(Self.ends(net).map(\.1) == [.notConnected])
        Self.call(&net, cookie: 8)
        #expect(Self.ends(net).map(\.0) == [7, 8])
        net.run(.seconds(60))
        #expect(Self.ends(net).count == 2)
    }

    @Test func `callbacks to one client are bounded`() {
        var net = ServerHarness { $0.callbackCountMax = 2 }
        net.connectAll(1)
        net.clients[0].answersCallbacks = false
        for cookie in 0..<3 { Self.call(&net, cookie: UInt64(cookie)) }
        #expect(Self.ends(net).map(\.0) == [2])
        #expect(Self.ends(net).map(\.1) == [.busy])
    }

    @Test func `a push needs no export and is sent until it is answered`() {
        var net = ServerHarness()
        net.add()
        net.clients[0].answersCallbacks = false
        let up = RequestBody.targetUp(
            TargetUp(targetName: "home-T0000", instance: 2, nid: ServerHarness.nid(0)))
        net.server.push(to: ServerHarness.nid(1), up, lnet: &net.serverLNet, now: net.now)
        net.run(.seconds(6))
        #expect(net.clients[0].callbacks.count == 2)
        net.clients[0].answersCallbacks = true
        net.run(.seconds(60))
        #expect(net.clients[0].callbacks.count == 3)
        #expect(Self.ends(net).isEmpty)
        #expect(net.server.nextDeadline == nil)
    }
}
