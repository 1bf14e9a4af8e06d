import LNetCore
import Primitives
import TestSupport
import Testing
import WireFormat

/// An address of a node on one of its rails.
private func rail(_ node: Int, _ rail: Int) -> NID {
    NID(address: 0x0A00_0000 + UInt32(node) << 8 + UInt32(rail), type: .tcp)
}

private func network(_ rails: [Int], seed: UInt64 = 3) -> Network {
    var net = Network(seed: seed)
    for (node, count) in rails.enumerated() {
        net.add {
            $0.nid = rail(node, 0)
            $0.otherNIDs = (1..<max(1, count)).map { rail(node, $0) }
            $0.discovery = true
        }
    }
    return net
}

private func acks(_ net: Network, _ node: Int) -> [UInt64] {
    net.events[node].compactMap { if case .ack(let cookie, _) = $0 { cookie } else { nil } }
}

private func failures(_ net: Network, _ node: Int) -> Int {
    net.events[node].filter { if case .sendFailed = $0 { true } else { false } }.count
}

@Suite struct `Multi-Rail` {
    /// A portal on which everything is taken.
    private func open(_ net: inout Network, _ node: Int, length: Int = 1 << 20) {
        _ = net.nodes[node].attach(
            portal: 20, matchBits: 0, ignoreBits: .max,
            MemoryDescriptor(memory: .events(lengthMax: length), options: [.put], threshold: nil),
            cookie: 7)
    }

    private func put(_ net: inout Network, _ count: Int, to nid: NID, length: Int = 64) {
        for cookie in 0..<count {
            net.nodes[0].put(
                to: nid, portal: 20, matchBits: 1, payload: pattern(length, UInt64(cookie)),
                ackCookie: UInt64(cookie), now: net.now)
        }
    }

    @Test func `discovery tells both sides all NIDs of the other, and the first names it`() {
        var net = network([2, 3])
        let id = net.nodes[0].discover(rail(1, 1), timeout: .seconds(5), now: net.now)
        net.run(.seconds(1))
        let ends = net.events[0].compactMap {
            if case .discovered(let end) = $0 { end } else { nil }
        }
        #expect(ends.map(\.id) == [id] && ends.map(\.errno) == [0])
        #expect(ends.map(\.nid) == [rail(1, 0)])
        let known = net.nodes[0].peerInfo(rail(1, 2))
        #expect(known?.primary == rail(1, 0) && known?.nids == (0..<3).map { rail(1, $0) })
        #expect(known?.state.isSuperset(of: [.multiRail, .discovered, .nidsUpToDate]) == true)
        // The push told the other side, which was never asked to discover.
        let back = net.nodes[1].peerInfo(rail(0, 1))
        #expect(back?.primary == rail(0, 0) && back?.nids == [rail(0, 0), rail(0, 1)])
        #expect(net.nodes[0].pendingCount == 0 && net.nodes[1].pendingCount == 0)
    }

    @Test func `the first message waits for discovery, then messages take all rails`() {
        var net = network([2, 2])
        open(&net, 1)
        put(&net, 40, to: rail(1, 0))
        net.run(.seconds(1))
        #expect(acks(net, 0).sorted() == Array(0..<40))
        let own = net.nodes[0].interfaceReports.map(\.traffic.sent.put)
        #expect(own.count == 2 && own.allSatisfy { $0 >= 10 }, "\(own)")
        let theirs = net.nodes[1].interfaceReports.map(\.traffic.received.put)
        #expect(theirs.allSatisfy { $0 >= 10 }, "\(theirs)")
        // Whichever NID a message comes from, its initiator is the primary one.
        for case .put(let put) in net.events[1] { #expect(put.initiator.nid == rail(0, 0)) }
    }

    @Test(arguments: [1 as UInt64, 2, 3, 4])
    func `a rail that breaks under load costs nothing, and is used again when it is back`(
        seed: UInt64
    ) {
        var net = network([2, 2], seed: seed)
        open(&net, 1)
        put(&net, 4, to: rail(1, 0))
        net.run(.seconds(1))
        net.events[0] = []
        put(&net, 60, to: rail(1, 0), length: 3000)
        net.kill(rail(1, 1).address)
        net.run(.seconds(3))
        let answered = Set(acks(net, 0))
        // What had left with its ACK lost fails; whatever had not left went the other way.
        #expect(answered.count + failures(net, 0) == 60, "\(answered.count)")
        #expect(net.nodes[0].counters.resends > 0 && net.nodes[0].counters.failedResends == 0)
        #expect(net.nodes[0].knownPeers.flatMap(\.healths).contains { $0 < 1000 })
        #expect(!net.events[0].contains { if case .peerDown = $0 { true } else { false } })
        let before = net.nodes[1].interfaceReports[1].traffic.received.put
        net.dead = []
        net.run(.seconds(100))
        #expect(net.nodes[0].knownPeers.flatMap(\.healths) == [1000, 1000])
        #expect(net.nodes[0].counters.recoveryPings > 0)
        net.events[0] = []
        put(&net, 40, to: rail(1, 0))
        net.run(.seconds(1))
        #expect(acks(net, 0).count == 40)
        #expect(net.nodes[1].interfaceReports[1].traffic.received.put > before)
    }

    @Test func `a failure of a single rail is not sent again and lowers no peer's health`() {
        var net = network([1, 1])
        open(&net, 1)
        put(&net, 1, to: rail(1, 0))
        net.run(.seconds(1))
        net.kill(rail(1, 0).address)
        put(&net, 3, to: rail(1, 0))
        net.run(.seconds(3))
        #expect(failures(net, 0) == 3 && net.nodes[0].counters.resends == 0)
        #expect(net.nodes[0].peerReports.allSatisfy { $0.health == 1000 })
    }

    @Test(arguments: LNetStatus.allCases)
    func `a failed status is sent again, and lowers health, as its class says`(
        status: LNetStatus
    ) {
        var net = network([2, 2])
        open(&net, 1)
        put(&net, 4, to: rail(1, 0))
        net.run(.seconds(1))
        net.events[0] = []
        _ = net.nodes[0].addFault(
            LNetFaultRule(
                .drop, messages: .put, frequency: .rate(1000),
                healthErrors: 1 << UInt32(status.rawValue)))
        net.nodes[0].put(
            to: rail(1, 0), portal: 20, matchBits: 1, payload: pattern(8), ackCookie: 99,
            now: net.now)
        let local = net.nodes[0].interfaceReports.map(\.health).min()
        let remote = net.nodes[0].peerReports.map(\.health).min()
        net.run(.milliseconds(900))
        let isResent = acks(net, 0) == [99]
        #expect(isResent == status.isResendable)
        #expect(failures(net, 0) == (status.isResendable ? 0 : 1))
        #expect(net.nodes[0].counters[status] == 1)
        let isLocal = status.rawValue <= 6 || status == .networkTimeout
        #expect(local == (isLocal ? 900 : 1000))
        #expect(remote == (status.rawValue >= 7 ? 900 : 1000))
    }

    @Test func `an interface that comes or goes is told to peers, who use what there is`() {
        var net = network([1, 1])
        open(&net, 1)
        put(&net, 1, to: rail(1, 0))
        net.run(.seconds(1))
        #expect(net.nodes[1].addInterface(rail(1, 5), now: net.now) == 0)
        net.run(.seconds(1))
        #expect(net.nodes[0].peerInfo(rail(1, 0))?.nids == [rail(1, 0), rail(1, 5)])
        #expect(net.nodes[1].deleteInterface(rail(1, 5), now: net.now) == 0)
        #expect(net.nodes[1].deleteInterface(rail(1, 0), now: net.now) == LNetErrno.busy)
        net.run(.seconds(1))
        #expect(net.nodes[0].peerInfo(rail(1, 0))?.nids == [rail(1, 0)])
        net.events[0] = []
        put(&net, 5, to: rail(1, 0))
        net.run(.seconds(1))
        #expect(acks(net, 0).count == 5)
    }

    @Test func `health zero is down to peers, and well is up again`() {
        var net = network([2, 2])
        open(&net, 1)
        put(&net, 4, to: rail(1, 0))
        net.run(.seconds(1))
        #expect(net.nodes[1].setHealth(rail(1, 1), 0, now: net.now) == 0)
        net.run(.milliseconds(500))
        #expect(net.nodes[1].interfaceReports.map(\.isUp) == [true, false])
        let told = net.nodes[0].peerReports.first { $0.process.nid == rail(1, 1) }
        #expect(told?.isUp == false)
        #expect(net.nodes[1].setHealth(rail(1, 1), 1000, now: net.now) == 0)
        net.run(.seconds(1))
        let again = net.nodes[0].peerReports.first { $0.process.nid == rail(1, 1) }
        #expect(again?.isUp == true)
    }

    @Test func `peers are added and deleted by an operator, and nonsense is refused`() {
        var net = network([1, 1])
        func add(_ primary: NID, _ nids: [NID], multiRail: Bool = true) -> Int32 {
            net.nodes[0].addPeer(
                primary: primary, nids: nids, isMultiRail: multiRail, now: net.now)
        }
        #expect(add(rail(8, 0), [rail(8, 1), rail(8, 2)]) == 0)
        #expect(net.nodes[0].peerInfo(rail(8, 2))?.primary == rail(8, 0))
        #expect(add(rail(8, 1), []) == LNetErrno.exists)
        #expect(add(rail(9, 0), [rail(8, 1)]) == LNetErrno.exists)
        #expect(add(rail(0, 0), []) == LNetErrno.invalid)
        #expect(add(.any, []) == LNetErrno.invalid)
        #expect(add(rail(7, 0), [rail(7, 1)], multiRail: false) == LNetErrno.invalid)
        #expect(net.nodes[0].deletePeer(primary: rail(8, 1), now: net.now) == LNetErrno.invalid)
        #expect(
            net.nodes[0].deletePeer(primary: rail(8, 0), nids: [rail(8, 2)], now: net.now) == 0)
        #expect(net.nodes[0].peerInfo(rail(8, 0))?.nids == [rail(8, 0), rail(8, 1)])
        #expect(net.nodes[0].deletePeer(primary: rail(8, 0), now: net.now) == 0)
        #expect(net.nodes[0].peerInfo(rail(8, 1)) == nil)
        #expect(
            net.nodes[0].deletePeer(primary: rail(8, 0), now: net.now) == LNetErrno.noEntry)
    }

    @Test func `a peer that is deleted while it is discovered leaves nothing behind`() {
        var net = network([2, 2])
        for round in 0..<20 {
            _ = net.nodes[0].discover(rail(1, 0), force: true, timeout: .seconds(5), now: net.now)
            net.settle(rounds: round)
            _ = net.nodes[0].deletePeer(primary: rail(1, 0), now: net.now)
            net.run(.milliseconds(200))
        }
        net.run(.seconds(10))
        let ends = net.events[0].filter { if case .discovered = $0 { true } else { false } }
        #expect(ends.count == 20)
        #expect(net.nodes[0].pendingCount == 0)
    }

    @Test func `connections that are broken on purpose are made again by the next message`() {
        var net = Network(seed: 9)
        for _ in 0..<3 { net.add() }
        for node in 0..<3 { net.listen(node) }
        net.send(0, 1, pattern(1000), ack: 1)
        net.send(0, 2, pattern(10), ack: 2)
        net.settle()
        #expect(net.nodes[0].connectionCount == 4)
        let none = net.nodes[0].breakConnections(to: Network.nid(9), now: net.now)
        #expect(none == 0 && net.nodes[0].connectionCount == 4)
        let some = net.nodes[0].breakConnections(to: Network.nid(1), now: net.now)
        #expect(some == 3 && net.nodes[0].connectionCount == 1)
        let rest = net.nodes[0].breakConnections(now: net.now)
        #expect(rest == 1 && net.nodes[0].connectionCount == 0)
        #expect(net.nodes[0].counters.connectionsLost == 4)
        net.run(.seconds(1))
        net.send(0, 1, pattern(1000), ack: 3)
        net.send(0, 2, pattern(10), ack: 4)
        net.run(.seconds(1))
        #expect(net.acks(0).sorted() == [1, 2, 3, 4])
        #expect(net.failures(0).isEmpty)
    }

    @Test func `a fault rule drops what matches and delays what matches`() {
        var net = network([1, 1])
        open(&net, 1)
        put(&net, 1, to: rail(1, 0))
        net.run(.seconds(1))
        net.events = net.events.map { _ in [] }
        // Of a rate of 2 the first is dropped.
        _ = net.nodes[1].addFault(
            LNetFaultRule(.drop, portals: 1 << 20, messages: .put, frequency: .rate(2)))
        for cookie in 0..<4 {
            net.nodes[0].put(
                to: rail(1, 0), portal: 20, matchBits: 1, payload: pattern(8),
                ackCookie: UInt64(cookie), now: net.now)
            net.run(.milliseconds(10))
        }
        #expect(acks(net, 0) == [1, 3])
        let rule = net.nodes[1].faultRules[0].statistics
        #expect(rule.count == 4 && rule.put == 4 && rule.hit == 2)
        #expect(net.nodes[1].counters[.fault] == 2)
        net.nodes[1].deleteFaults { _ in true }
        _ = net.nodes[1].addFault(LNetFaultRule(.delay(.seconds(2)), messages: .put))
        net.events[0] = []
        net.nodes[0].put(
            to: rail(1, 0), portal: 20, matchBits: 1, payload: pattern(8), ackCookie: 9,
            now: net.now)
        net.run(.milliseconds(1900))
        #expect(acks(net, 0) == [])
        net.run(.milliseconds(200))
        #expect(acks(net, 0) == [9])
    }
}
