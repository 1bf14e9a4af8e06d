import LNDCore
import LNetCore
import Primitives
import Testing
import WireFormat

extension Network {
    /// An entry that takes every PUT, on portal 3.
    mutating func listen(_ node: Int) {
        _ = nodes[node].attach(
            portal: 3, matchBits: 0, ignoreBits: .max,
            MemoryDescriptor(memory: .events(), options: [.put]), cookie: 1)
    }

    @discardableResult
    mutating func send(_ from: Int, _ to: Int, _ payload: [UInt8], ack: UInt64? = nil) -> Bool {
        nodes[from].put(
            to: Self.nid(to), portal: 3, matchBits: 0, payload: payload, ackCookie: ack, now: now)
    }

    func acks(_ node: Int) -> [UInt64] {
        events[node].compactMap { if case .ack(let cookie, _) = $0 { cookie } else { nil } }
    }

    func failures(_ node: Int) -> [UInt64] {
        events[node].compactMap {
            if case .sendFailed(let cookie, _) = $0 { cookie } else { nil }
        }
    }
}

@Suite struct `connections` {
    @Test func `small messages need CONTROL alone, a long one brings the bulk pair`() {
        var net = Network(seed: 1)
        net.add()
        net.add()
        net.listen(0)
        net.listen(1)
        net.send(0, 1, pattern(100))
        net.settle()
        #expect(net.nodes[0].connectionCount == 1 && net.nodes[1].connectionCount == 1)
        // The answer is long: whoever connected opens the bulk pair.
        net.send(1, 0, pattern(1000))
        net.settle()
        #expect(net.nodes[0].connectionCount == 3 && net.nodes[1].connectionCount == 3)
        #expect(net.connects == 3)
        #expect(net.payloads[0].contains(pattern(1000)))
        #expect(net.nodes[0].counters.connectionsOpened == 3)
    }

    @Test(arguments: Array(UInt64(1)...20))
    func `both connect at once and one connection of each type stays`(seed: UInt64) {
        var net = Network(seed: seed)
        net.add()
        net.add()
        net.listen(0)
        net.listen(1)
        net.maxPiece = 40
        for size in [10, 2000] {
            net.send(0, 1, pattern(size), ack: UInt64(size))
            net.send(1, 0, pattern(size), ack: UInt64(size))
        }
        net.run(.seconds(1))
        for node in 0..<2 {
            #expect(net.acks(node).sorted() == [10, 2000], "seed \(seed)")
            #expect(net.failures(node).isEmpty, "seed \(seed)")
            #expect(net.nodes[node].connectionCount == 3, "seed \(seed)")
            #expect(net.nodes[node].counters.errors == 0, "seed \(seed)")
            #expect(
                net.events[node].filter { $0 == .peerUp(Network.nid(1 - node)) }.count == 1)
        }
    }

    @Test
    func `a lost connection takes its siblings and what waited, and the next send reconnects`() {
        var net = Network(seed: 3)
        net.add { $0.peerCredits = 1 }
        net.add()
        net.listen(1)
        net.send(0, 1, pattern(3000), ack: 1)
        net.settle()
        #expect(net.nodes[0].connectionCount == 3)
        let sink = net.nodes[0].get(
            from: Network.nid(1), portal: 9, matchBits: 9, length: 10,
            into: .buffer([UInt8](repeating: 5, count: 10)), cookie: 9, now: net.now)
        net.settle()
        for ack in 2...4 { net.send(0, 1, pattern(200_000), ack: UInt64(ack)) }
        net.maxPiece = 1000
        net.settle(rounds: 4)
        net.cut(0)
        #expect(net.failures(0).sorted() == [2, 3, 4, 9])
        #expect(net.events[0].contains(.peerDown(Network.nid(1), errno: 104)))
        #expect(
            net.events[1].contains {
                if case .putFailed(cookie: 1, _, _, unlinked: false) = $0 { true } else { false }
            })
        #expect(net.nodes[0].connectionCount == 0 && net.nodes[1].connectionCount == 0)
        #expect(net.nodes[0].pendingCount == 1)
        let buffer = sink.flatMap { net.nodes[0].takeBuffer($0) }
        #expect(buffer == [UInt8](repeating: 5, count: 10))
        #expect(net.nodes[0].pendingCount == 0)
        net.maxPiece = 100_000
        net.send(0, 1, pattern(200_000), ack: 5)
        net.run(.seconds(1))
        #expect(net.acks(0) == [1, 5])
        #expect(net.payloads[1].last == pattern(200_000))
        // All credits came back.
        for ack in 6..<40 { net.send(0, 1, [1], ack: UInt64(ack)) }
        net.settle()
        #expect(net.acks(0).count == 36)
    }

    @Test func `a refused connect fails what waited, then pauses longer and longer`() {
        var net = Network(seed: 4)
        net.add()
        net.add()
        net.listen(1)
        net.refusing = [1]
        net.send(0, 1, [1], ack: 1)
        net.settle()
        #expect(net.failures(0) == [1])
        #expect(
            net.events[0].last == .peerDown(Network.nid(1), errno: LNetErrno.connectionRefused))
        #expect(net.connects == 1)
        // Within the pause a message waits; at its end the next attempt is made.
        net.send(0, 1, [2], ack: 2)
        net.settle()
        #expect(net.connects == 1 && net.failures(0) == [1])
        net.run(.milliseconds(51))
        #expect(net.connects == 2 && net.failures(0) == [1, 2])
        net.send(0, 1, [3], ack: 3)
        net.run(.milliseconds(90))
        #expect(net.connects == 2)
        net.refusing = []
        net.run(.milliseconds(20))
        #expect(net.connects == 3 && net.acks(0) == [3])
        #expect(net.nodes[0].counters.connectFailures == 2)
    }

    /// Seed 3501 of the simulator: a server that had come back was refused for as long as TCP tried to
    /// reach it where it had been off.
    @Test func `an attempt that has no answer wins no race after a second`() {
        var net = Network(seed: 5)
        net.add { $0.reconnectMin = .milliseconds(80) }
        net.add()
        net.listen(0)
        net.listen(1)
        net.off = [Network.nid(0).address]
        net.send(1, 0, [1], ack: 1)
        net.settle()
        net.off = []
        net.send(0, 1, [2], ack: 2)
        net.run(.milliseconds(500))
        // The greater NID's attempt is fresh, and may still come about.
        #expect(net.acks(0).isEmpty && net.nodes[1].counters[SockLNDFault.lostRace] > 0)
        net.run(.seconds(2))
        #expect(net.acks(0) == [2] && net.acks(1) == [1])
        #expect(net.nodes[0].connectionCount == 1 && net.nodes[1].connectionCount == 1)
    }

    @Test func `a restarted peer is recognised by its incarnation`() {
        var net = Network(seed: 5)
        net.add()
        net.add()
        net.listen(1)
        net.send(0, 1, pattern(2000), ack: 1)
        net.settle()
        // The old lifetime's sockets linger at node 1: its end of them is never told.
        var configuration = net.nodes[0].configuration
        configuration.incarnation += 7
        for index in net.sockets.indices { net.sockets[index].keys[0] = nil }
        net.nodes[0] = LNetCore(configuration)
        net.flushesPending[0] = []
        net.send(0, 1, pattern(2000), ack: 2)
        net.run(.seconds(1))
        #expect(net.acks(0) == [1, 2])
        #expect(net.nodes[1].counters[.staleIncarnation] == 1)
        #expect(net.events[1].contains(.peerDown(Network.nid(0), errno: LNetErrno.stale)))
        #expect(net.nodes[1].connectionCount == 3)
    }

    @Test func `a peer that restarts properly is reached again`() {
        var net = Network(seed: 6)
        net.add()
        net.add()
        net.listen(1)
        net.send(0, 1, [1], ack: 1)
        net.settle()
        net.restart(1)
        net.settle()
        #expect(net.events[0].last == .peerDown(Network.nid(1), errno: LNetErrno.connectionReset))
        net.listen(1)
        net.send(0, 1, [2], ack: 2)
        net.run(.seconds(1))
        #expect(net.acks(0) == [1, 2])
    }

    @Test func `the queue to a peer is bounded`() {
        var net = Network(seed: 7)
        net.add { $0.waitingMax = 3 }
        net.add()
        net.listen(1)
        let queued = (0..<5).map { net.send(0, 1, [UInt8($0)], ack: UInt64($0)) }
        #expect(queued == [true, true, true, false, false])
        net.settle()
        #expect(net.acks(0) == [0, 1, 2] && net.failures(0) == [3, 4])
        #expect(net.nodes[0].counters[.notSent] == 2)
    }

    @Test func `an answer that never comes fails after the transaction time-out`() {
        var net = Network(seed: 8)
        net.add { $0.responseTimeout = .seconds(10) }
        net.add()
        net.nodes[0].get(
            from: Network.nid(1), portal: 9, matchBits: 1, length: 5, cookie: 1, now: net.now)
        net.send(0, 1, [1], ack: 2)
        net.run(.seconds(9))
        #expect(net.failures(0).isEmpty)
        net.run(.seconds(5))
        #expect(net.failures(0) == [1, 2])
        #expect(net.nodes[0].counters.responseTimeouts == 2 && net.nodes[0].pendingCount == 0)
    }

    @Test func `a peer reference survives the loss of its connections`() {
        var net = Network(seed: 9)
        net.add()
        net.add()
        net.listen(1)
        let peer = net.nodes[0].peer(for: Network.nid(1))
        #expect(net.nodes[0].peer(for: Network.nid(1)) == peer)
        for round in 0..<3 {
            let sent = net.nodes[0].put(
                to: peer, portal: 3, matchBits: 0, payload: [1], ackCookie: UInt64(round),
                now: net.now)
            #expect(sent)
            net.run(.seconds(1))
            net.cut(0)
        }
        #expect(net.acks(0) == [0, 1, 2])
        net.nodes[0].release(peer)
        #expect(net.nodes[0].peerCount == 0 && net.nodes[1].peerCount == 0)
        let sent = net.nodes[0].put(
            to: peer, portal: 3, matchBits: 0, payload: [1], ackCookie: 7, now: net.now)
        #expect(!sent)
    }

    @Test func `silence is broken by a keepalive and a stuck peer is given up`() {
        var net = Network(seed: 10)
        net.add()
        net.add()
        net.listen(1)
        net.send(0, 1, [1])
        net.settle()
        let before = net.recorded[0][0].count
        net.run(.seconds(100))
        let noops = net.recorded[0][0].count - before
        #expect(noops > 0 && noops % 24 == 0)
        #expect(net.nodes[0].connectionCount == 1 && net.nodes[0].counters.errors == 0)
        // Output that nobody takes any more.
        net.send(0, 1, [2], ack: 1)
        var dropped = false
        while let action = net.nodes[0].actions.popFirst() {
            if case .flush = action { dropped = true }
        }
        #expect(dropped)
        net.run(.seconds(70))
        #expect(net.failures(0) == [1])
        #expect(net.nodes[0].counters[SockLNDFault.timeout] == 1)
    }

    @Test func `a stranger that says nothing is shown the door`() {
        var net = Network(seed: 11)
        net.add()
        let key = net.nodes[0].accepted(remoteAddress: 1, remotePort: 2000, now: net.now)
        #expect(net.nodes[0].nextDeadline == net.now + .seconds(5))
        net.nodes[0].tick(net.now + .seconds(5))
        #expect(net.nodes[0].actions.popFirst() == .close(connectionKey: key))
        #expect(net.nodes[0].connectionCount == 0)
        // A key that is gone is ignored everywhere.
        net.nodes[0].closed(key, errno: 5, now: net.now)
        net.nodes[0].established(key, now: net.now)
        RawSpan.over([1, 2]) { net.nodes[0].received(key, $0, now: net.now) }
        let isEmpty = net.nodes[0].withOutput(key) { $0.byteCount }
        #expect(isEmpty && net.nodes[0].actions.isEmpty && net.nodes[0].events.isEmpty)
    }
}
