import LNetCore
import Primitives
import TestSupport
import Testing
import WireFormat

private func near(_ node: Int) -> NID { NID(address: 0x0A00_0000 + UInt32(node), type: .tcp) }
private func far(_ node: Int) -> NID {
    NID(address: 0x0B00_0000 + UInt32(node), type: .tcp, number: 1)
}

/// A node on each of two networks and routers between: node 0 near, node 1 far, the rest routers.
private func network(
    routers: Int = 1, seed: UInt64 = 5, _ change: (inout LNetConfiguration) -> Void = { _ in }
) -> Network {
    var net = Network(seed: seed)
    let gateways = 2..<(2 + routers)
    net.add {
        $0.nid = near(0)
        $0.discovery = true
        $0.routes = gateways.map { LNetRoute(network: far(0).network, gateway: near($0)) }
        $0.aliveRouterCheckInterval = .seconds(2)
        $0.routerPingTimeout = .seconds(1)
        change(&$0)
    }
    net.add {
        $0.nid = far(1)
        $0.discovery = true
        $0.routes = gateways.map { LNetRoute(network: near(0).network, gateway: far($0)) }
        $0.aliveRouterCheckInterval = .seconds(2)
        $0.routerPingTimeout = .seconds(1)
    }
    for gateway in gateways {
        net.add {
            $0.nid = near(gateway)
            $0.otherNIDs = [far(gateway)]
            $0.discovery = true
            $0.routing = true
            change(&$0)
        }
    }
    return net
}

private func cookies(_ net: Network, _ node: Int) -> Set<UInt64> {
    Set(net.events[node].compactMap { if case .ack(let cookie, _) = $0 { cookie } else { nil } })
}

@Suite struct `Routing` {
    private func open(_ net: inout Network) {
        _ = net.nodes[1].attach(
            portal: 20, matchBits: 0, ignoreBits: .max,
            MemoryDescriptor(memory: .events(lengthMax: 1 << 20), options: [.put], threshold: nil),
            cookie: 7)
    }

    private func put(_ net: inout Network, _ count: Int, length: Int) {
        for cookie in 0..<count {
            net.nodes[0].put(
                to: far(1), portal: 20, matchBits: 1, payload: pattern(length, UInt64(cookie)),
                ackCookie: UInt64(cookie), now: net.now)
        }
    }

    @Test(arguments: [0, 64, 4096, 70_000])
    func `a message crosses a router and its ACK comes back`(length: Int) {
        var net = network()
        open(&net)
        net.maxPiece = 40_000
        put(&net, 20, length: length)
        net.run(.seconds(1))
        #expect(cookies(net, 0).count == 20)
        var arrived = 0
        for (event, payload) in zip(net.events[1], net.payloads[1]) {
            guard case .put(let put) = event else { continue }
            arrived += 1
            #expect(put.initiator.nid == near(0) && payload.count == length)
        }
        #expect(arrived == 20 && net.nodes[2].counters.routed >= 40)
        #expect(net.nodes[2].routerBufferReports.allSatisfy { $0.free == $0.total })
        #expect(net.nodes.allSatisfy { $0.counters.errors == 0 })
    }

    /// Of requests that came together, the end of one let go of whom the others came from.
    @Test(arguments: [
        SelftestMessage.Test.bulk(isWrite: false, check: 3, length: 65_536, offset: 0),
        .bulk(isWrite: true, check: 3, length: 65_536, offset: 0),
    ])
    func `selftest crosses a router, eight requests at a time, and loses none`(
        test: SelftestMessage.Test
    ) {
        var stage = `lnet_selftest`.Stage(in: network(), [near(0), far(1)])
        stage.begin(test, loop: 40, concurrency: 8)
        for _ in 0..<2000 where stage.net.selftests[0]?.completedCount != 320 {
            stage.net.settle(rounds: 50)
        }
        #expect(stage.net.selftests[0]?.completedCount == 320)
        #expect(stage.net.nodes[1].counters.dropCount == 0)
    }

    @Test func `the far end answers by the reference of the event, and is pinged`() {
        var net = network()
        open(&net)
        _ = net.nodes[0].attach(
            portal: 21, matchBits: 5,
            MemoryDescriptor(memory: .events(lengthMax: 100), options: [.put], threshold: 1),
            cookie: 1)
        put(&net, 1, length: 10)
        net.run(.seconds(1))
        for case .put(let put) in net.events[1] {
            net.nodes[1].put(
                to: put.peer, portal: 21, matchBits: 5, payload: pattern(3), now: net.now)
        }
        let id = net.nodes[0].ping(far(1), timeout: .seconds(1), now: net.now)
        net.run(.seconds(1))
        #expect(
            net.events[0].contains {
                if case .put(let put) = $0 { put.portal == 21 } else { false }
            })
        #expect(
            net.events[0].contains {
                if case .pinged(let ping) = $0 { ping.id == id && ping.errno == 0 } else { false }
            })
    }

    @Test(arguments: [1 as UInt64, 2, 3])
    func `a router without buffers reads on only when there are some, and drops nothing`(
        seed: UInt64
    ) {
        var net = network(seed: seed) {
            $0.largeBuffers = 1
            $0.smallBuffers = 2
            $0.peerBufferCredits = 2
            $0.peerCredits = 32
        }
        open(&net)
        net.maxPiece = 30_000
        put(&net, 12, length: 50_000)
        for cookie in 100..<140 {
            net.nodes[0].put(
                to: far(1), portal: 20, matchBits: 1, payload: pattern(100),
                ackCookie: UInt64(cookie), now: net.now)
        }
        net.run(.seconds(5))
        #expect(cookies(net, 0).count == 52)
        #expect(net.nodes[2].routerBufferReports.allSatisfy { $0.free == $0.total })
        #expect(net.nodes[2].routerBufferReports[2].freeMin == 0)
        #expect(net.paused.allSatisfy { $0.isEmpty })
        #expect(net.nodes[2].counters.dropCount == 0)
    }

    @Test func `routes to one network share messages, by priority and hops before turns`() {
        var net = network(routers: 2)
        open(&net)
        put(&net, 1, length: 8)
        net.run(.seconds(1))
        put(&net, 40, length: 8)
        net.run(.seconds(1))
        let shares = [2, 3].map { net.nodes[$0].counters.routed }
        #expect(shares.allSatisfy { $0 >= 20 }, "\(shares)")
        #expect(
            net.nodes[0].deleteRoute(network: far(0).network, gateway: near(3), now: net.now) == 0)
        #expect(
            net.nodes[0].addRoute(
                LNetRoute(network: far(0).network, gateway: near(3), priority: 1), now: net.now)
                == 0)
        let before = net.nodes[3].interfaceReports[0].traffic.received.put
        put(&net, 20, length: 8)
        net.run(.milliseconds(500))
        #expect(net.nodes[3].interfaceReports[0].traffic.received.put == before)
    }

    @Test func `a gateway that dies takes its route along, and comes back with it`() {
        var net = network(routers: 2)
        open(&net)
        put(&net, 4, length: 8)
        net.run(.seconds(3))
        #expect(net.nodes[0].routeReports.map(\.isAlive) == [true, true])
        net.kill(near(3).address)
        net.refusing = [3]
        net.run(.seconds(5))
        #expect(net.nodes[0].routeReports.map(\.isAlive) == [true, false])
        net.events[0] = []
        put(&net, 20, length: 8)
        net.run(.seconds(1))
        #expect(cookies(net, 0).count == 20)
        net.dead = []
        net.refusing = []
        net.run(.seconds(10))
        #expect(net.nodes[0].routeReports.map(\.isAlive) == [true, true])
    }

    @Test func `a gateway whose far side is down is not used`() {
        var net = network(routers: 2)
        open(&net)
        put(&net, 4, length: 8)
        net.run(.seconds(3))
        _ = net.nodes[3].setHealth(far(3), 0, now: net.now)
        net.run(.milliseconds(300))
        #expect(net.nodes[0].routeReports.map(\.isAlive) == [true, false])
        net.nodes[0].configure({ $0.avoidAsymmetricRouterFailure = false }, now: net.now)
        #expect(net.nodes[0].routeReports.map(\.isAlive) == [true, true])
    }

    @Test func `a router that stops routing moves traffic away without an error`() {
        var net = network(routers: 2)
        open(&net)
        put(&net, 4, length: 8)
        net.run(.seconds(3))
        net.nodes[3].setRouting(false, now: net.now)
        net.run(.milliseconds(300))
        #expect(net.nodes[0].routeReports.map(\.isAlive) == [true, false])
        net.events[0] = []
        put(&net, 30, length: 8)
        net.run(.seconds(1))
        #expect(cookies(net, 0).count == 30)
    }

    @Test func `routes that make no sense are refused`() {
        var net = network()
        func add(_ route: LNetRoute) -> Int32 { net.nodes[0].addRoute(route, now: net.now) }
        #expect(add(LNetRoute(network: far(0).network, gateway: near(2))) == LNetErrno.exists)
        #expect(add(LNetRoute(network: near(0).network, gateway: near(9))) == LNetErrno.exists)
        #expect(
            add(LNetRoute(network: 0x20009, gateway: far(9))) == LNetErrno.hostUnreachable)
        #expect(add(LNetRoute(network: 0x20009, gateway: near(0))) == LNetErrno.invalid)
        #expect(
            net.nodes[0].deleteRoute(network: 0x20009, gateway: near(2), now: net.now)
                == LNetErrno.noEntry)
    }

    @Test func `without a route a message fails at once, and a stranger speaks for nobody`() {
        var net = Network(seed: 1)
        net.add { $0.nid = near(0) }
        net.nodes[0].put(
            to: far(1), portal: 20, matchBits: 1, payload: pattern(1), ackCookie: 3, now: net.now)
        net.run(.milliseconds(1))
        #expect(
            net.events[0].contains(
                .sendFailed(cookie: 3, errno: LNetErrno.hostUnreachable)))
    }
}
