import LNetCore
import Primitives
import TestSupport
import Testing
import WireFormat

private func hex(_ text: String) -> [UInt8] {
    let digits = text.utf8.compactMap { character -> UInt8? in
        switch character {
        case 48...57: character - 48
        case 97...102: character - 87
        default: nil
        }
    }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// The beginnings of messages between two Lustre 2.17.0 nodes; zeros follow up to 160 bytes.
private let captured: [(text: String, message: SelftestMessage)] = {
    let session = SelftestMessage.Session(
        nid: NID(address: 0x0A4E_0002, type: .tcp), stamp: 0x19c97)
    var counters = SelftestMessage.Counters()
    counters.runningMs = 0x385c
    counters.rpcsReceived = 8
    counters.messagesMax = 2
    counters.sendCount = 0xf
    counters.receiveCount = 0x10
    counters.sendLength = 0x580
    counters.receiveLength = 0x560
    return [
        (
            """
            0df0b0ee010000000000000000000000000000000100000002000000000048ab02004e0a00000200
            979c01000000000001000000636170
            """,
            SelftestMessage(
                .makeSession(
                    reply: 0xab48_0000_0000_0002, session: session, force: true, name: "cap"))
        ),
        (
            """
            0df0b0ee01000000010000000000000000000000010000000000000002004e0a00000200979c0100
            0000000064000000
            """,
            SelftestMessage(.sessionMade(status: 0, session: session, timeout: 100, name: ""))
        ),
        (
            """
            0df0b0ee010000000800000000000000000000000100000003000000000048ab0000000000000000
            02004e0a00000200979c01000000000002000000000000000c000000010000000100000000010000
            """,
            SelftestMessage(
                .test(
                    reply: 0xab48_0000_0000_0003, bulk: 0, session: session, batch: 2, loop: 1,
                    concurrency: 1, isClient: false, stopsOnError: true, destinations: 0,
                    .ping(size: 0, flags: 0)))
        ),
        (
            """
            0df0b0ee010000000e00000000000000000000000100000007000000000048abcefabeba00000000
            acab036b00000000ecbd232500000000
            """,
            SelftestMessage(
                .ping(
                    reply: 0xab48_0000_0000_0007, sequence: 0, seconds: 0x6b03_abac,
                    fraction: 0x2523_bdec))
        ),
        (
            "0df0b0ee010000000f00000000000000000000000100000000000000cefabeba02000000",
            SelftestMessage(.pinged(status: 0, sequence: 2))
        ),
        (
            """
            0df0b0ee010000000600000000000000000000000100000022000000000048ab02004e0a00000200
            979c010000000000
            """,
            SelftestMessage(
                .statistics(reply: 0xab48_0000_0000_0022, session: session, type: 0))
        ),
        (
            """
            0df0b0ee01000000070000000000000000000000010000000000000002004e0a00000200979c0100
            000000005c3800000000000000000000000000000000000000000000000000000800000000000000
            00000000000000000000000000000000000000000000000002000000000000000f00000010000000
            00000000000000008005000000000000600500000000000000000000
            """,
            SelftestMessage(.statisticsTold(status: 0, session: session, counters))
        ),
    ]
}()

@Suite struct `lnet_selftest` {
    @Test func `messages have a real node's bytes, and are read as they were meant`() throws {
        for (text, message) in captured {
            var bytes = hex(text)
            bytes += Array(repeating: 0, count: SelftestMessage.encodedSize - bytes.count)
            var writer = WireWriter()
            message.encode(into: &writer)
            #expect(writer.bytes == bytes, "\(message)")
            let read = try RawSpan.over(bytes) { span throws(WireError) in
                try SelftestMessage(parsing: span)
            }
            #expect(read == message)
        }
    }

    @Test func `no shorter message is read, and none with a flipped bit traps`() {
        for (text, _) in captured {
            var bytes = hex(text)
            bytes += Array(repeating: 0, count: SelftestMessage.encodedSize - bytes.count)
            for length in 0..<SelftestMessage.encodedSize {
                let read = RawSpan.over(Array(bytes.prefix(length))) {
                    try? SelftestMessage(parsing: $0)
                }
                #expect(read == nil)
            }
            for bit in 0..<(SelftestMessage.encodedSize * 8) {
                var flipped = bytes
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                RawSpan.over(flipped) { _ = try? SelftestMessage(parsing: $0) }
            }
        }
    }

    /// Two nodes with selftest; the first is the console, too.
    struct Stage {
        var net = Network(seed: 11)
        let session = SelftestMessage.Session(nid: Network.nid(0), stamp: 77)
        private var nids = [Network.nid(0), Network.nid(1)]
        private var nextID: UInt64 = 1

        init() {
            for _ in 0..<2 { net.add() }
            begin()
        }

        /// In a network whose nodes 0 and 1 are named so.
        init(in net: Network, _ nids: [NID]) {
            self.net = net
            self.nids = nids
            begin()
        }

        private mutating func begin() {
            net.maxPiece = 20_000
            for index in 0..<2 { net.selftests[index] = SelftestNode(&net.nodes[index]) }
        }

        /// Asks a node and waits for its answer.
        mutating func ask(
            _ node: Int, destinations: [NID] = [],
            _ body: (UInt64, UInt64) -> SelftestMessage.Body
        ) -> SelftestMessage.Body? {
            nextID += 1
            net.selftests[0]?.ask(
                nids[node], id: nextID, destinations: destinations, &net.nodes[0],
                now: net.now, body)
            for _ in 0..<50 {
                net.settle(rounds: 20)
                while let outcome = net.selftests[0]?.outcomes.popFirst() {
                    if outcome.id == nextID { return outcome.answer }
                }
            }
            return nil
        }

        /// A batch of one test from node 0 to node 1, begun.
        mutating func begin(_ test: SelftestMessage.Test, loop: UInt32, concurrency: UInt32) {
            let session = session
            for node in 0..<2 {
                let made = ask(node) { reply, _ in
                    .makeSession(reply: reply, session: session, force: true, name: "s")
                }
                #expect(
                    made == .sessionMade(status: 0, session: session, timeout: 100, name: "s"))
                let added = ask(node, destinations: node == 0 ? [nids[1]] : []) {
                    .test(
                        reply: $0, bulk: $1, session: session, batch: 1, loop: loop,
                        concurrency: concurrency, isClient: node == 0, stopsOnError: false,
                        destinations: node == 0 ? 1 : 0, test)
                }
                #expect(added == .testAdded(status: 0, session: session))
            }
            let started = ask(0) { reply, _ in
                .batch(
                    reply: reply, session: session, batch: 1, operation: 1, testIndex: 0,
                    argument: 0)
            }
            guard case .batchDone(0, session, _, _)? = started else {
                Issue.record("not started: \(String(describing: started))")
                return
            }
        }
    }

    @Test(arguments: [
        SelftestMessage.Test.ping(size: 0, flags: 0),
        .bulk(isWrite: false, check: 3, length: 4096, offset: 0),
        .bulk(isWrite: true, check: 2, length: 4096, offset: 0),
        .bulk(isWrite: false, check: 2, length: 70_000, offset: 0),
        .bulk(isWrite: true, check: 3, length: 70_000, offset: 0),
    ])
    func `a test of a batch runs its loop to the end, and all of it is right`(
        test: SelftestMessage.Test
    ) {
        var stage = Stage()
        stage.begin(test, loop: 25, concurrency: 4)
        for _ in 0..<400 where stage.net.selftests[0]?.completedCount != 100 {
            stage.net.settle(rounds: 50)
        }
        #expect(stage.net.selftests[0]?.completedCount == 100)
        #expect(stage.net.selftests[0]?.roundTrips.count == 100)
        let told = stage.ask(1) { [session = stage.session] reply, _ in
            .statistics(reply: reply, session: session, type: 0)
        }
        guard case .statisticsTold(0, _, let counters)? = told else {
            Issue.record("no statistics")
            return
        }
        #expect(counters.brwErrors == 0 && counters.pingErrors == 0 && counters.errors == 0)
        #expect(counters.rpcsReceived >= 100 && counters.receiveCount >= 100)
    }

    @Test func `bulk that is not right is counted and told`() {
        var stage = Stage()
        stage.begin(
            .bulk(isWrite: true, check: 3, length: 4096, offset: 0), loop: 1, concurrency: 1)
        stage.net.settle()
        // A stranger's bulk under a number that is not known.
        let length = 64
        stage.net.nodes[1].put(
            to: Network.nid(0), portal: 52, matchBits: 1 << 63 | 12345, payload: pattern(length),
            now: stage.net.now)
        stage.net.settle()
        let dropped = stage.net.selftests[0]?.counters.rpcsDropped
        #expect(dropped == 1)
    }

    @Test func `sessions are made once, and only with force taken over`() {
        var stage = Stage()
        let (mine, other) = (
            stage.session, SelftestMessage.Session(nid: Network.nid(1), stamp: 5)
        )
        func make(
            _ stage: inout Stage, _ session: SelftestMessage.Session, force: Bool
        ) -> UInt32? {
            let made = stage.ask(1) { reply, _ in
                .makeSession(reply: reply, session: session, force: force, name: "n")
            }
            guard case .sessionMade(let status, _, _, _)? = made else { return nil }
            return status
        }
        #expect(make(&stage, mine, force: false) == 0)
        #expect(make(&stage, other, force: false) == 16)
        #expect(make(&stage, other, force: true) == 0)
        let removed = stage.ask(1) { reply, _ in .removeSession(reply: reply, session: mine) }
        #expect(removed == .sessionRemoved(status: 2, session: other))
        let test = stage.ask(1) { reply, _ in
            .test(
                reply: reply, bulk: 0, session: mine, batch: 1, loop: 1, concurrency: 1,
                isClient: false, stopsOnError: false, destinations: 0, .ping(size: 0, flags: 0))
        }
        #expect(test == .testAdded(status: 2, session: other))
    }
}
