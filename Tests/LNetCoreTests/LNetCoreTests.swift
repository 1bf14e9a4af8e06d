import LNetCore
import Primitives
import Testing
import WireFormat

@Suite struct `PUT and GET` {
    static let sizes = [0, 1, 927, 928, 929, 1023, 1024, 1025, 4096, 16383, 16384, 65536, 1 << 20]

    @Test(arguments: sizes)
    func `a PUT of every size arrives whole and is acknowledged`(size: Int) {
        for buffered in [false, true] {
            for asArray in [false, true] {
                var net = Network(seed: UInt64(size))
                net.add()
                net.add()
                net.maxPiece = max(100, size / 7)
                let me = net.nodes[1].attach(
                    portal: 12, matchBits: 77,
                    MemoryDescriptor(
                        memory: buffered
                            ? .buffer([UInt8](repeating: 0, count: size)) : .events(),
                        options: [.put], threshold: 1), cookie: 5)
                let bytes = pattern(size)
                if asArray {
                    net.nodes[0].put(
                        to: Network.nid(1), portal: 12, matchBits: 77, hdrData: 99,
                        payload: bytes, ackCookie: 3, now: net.now)
                } else {
                    RawSpan.over(bytes) {
                        _ = net.nodes[0].put(
                            to: Network.nid(1), portal: 12, matchBits: 77, hdrData: 99,
                            payload: $0, ackCookie: 3, now: net.now)
                    }
                }
                net.settle()
                #expect(
                    net.events[0] == [.peerUp(Network.nid(1)), .ack(cookie: 3, mlength: size)])
                guard case .put(let put) = net.events[1].last else {
                    Issue.record("no PUT event but \(net.events[1])")
                    continue
                }
                #expect(put.cookie == 5 && put.hdrData == 99 && put.unlinked)
                #expect(put.mlength == size && put.rlength == size)
                #expect(put.initiator == ProcessID(nid: Network.nid(0)))
                if buffered {
                    do {
                        let taken = net.nodes[1].takeBuffer(me)
                        #expect(taken == bytes)
                    }
                } else {
                    #expect(net.payloads[1].last == bytes)
                }
                #expect(net.nodes[1].attachedCount == 0)
                #expect(net.nodes[0].pendingCount == 0)
            }
        }
    }

    @Test(arguments: sizes)
    func `a GET of every size fetches the bytes`(size: Int) {
        for buffered in [false, true] {
            var net = Network(seed: UInt64(size))
            net.add()
            net.add()
            net.maxPiece = max(100, size / 7)
            let bytes = pattern(size + 10)
            let me = net.nodes[1].attach(
                portal: 12, matchBits: 77,
                MemoryDescriptor(
                    memory: .buffer(bytes), options: [.get, .manageRemote], threshold: 1),
                cookie: 5)
            let handle = net.nodes[0].get(
                from: Network.nid(1), portal: 12, matchBits: 77, offset: 10, length: size,
                into: buffered ? .buffer([UInt8](repeating: 0, count: size)) : .events,
                cookie: 8, now: net.now)
            net.settle()
            guard case .reply(let reply) = net.events[0].last, let handle else {
                Issue.record("no REPLY event but \(net.events[0])")
                continue
            }
            #expect(reply.cookie == 8 && reply.length == size && reply.handle == handle)
            let got =
                buffered ? net.nodes[0].takeBuffer(handle) : net.payloads[0].last
            #expect(got == Array(bytes[10...]))
            guard case .get(let get) = net.events[1].last else {
                Issue.record("no GET event")
                continue
            }
            #expect(get.mlength == size && get.offset == 10 && get.unlinked)
            do {
                let taken = net.nodes[1].takeBuffer(me)
                #expect(taken == bytes)
            }
            #expect(net.nodes[0].pendingCount == 0)
        }
    }

    @Test func `more than 1 MiB is refused at the sender`() {
        var net = Network(seed: 1)
        net.add()
        let long = [UInt8](repeating: 0, count: (1 << 20) + 1)
        let wasQueued = net.nodes[0].put(
            to: Network.nid(1), portal: 1, matchBits: 0, payload: long, ackCookie: 4,
            now: net.now)
        #expect(!wasQueued)
        let handle = net.nodes[0].get(
            from: Network.nid(1), portal: 1, matchBits: 0, length: long.count, cookie: 5,
            now: net.now)
        #expect(handle == nil)
        net.settle()
        #expect(
            net.events[0] == [
                .sendFailed(cookie: 4, errno: LNetErrno.messageTooLong),
                .sendFailed(cookie: 5, errno: LNetErrno.messageTooLong),
            ])
        #expect(net.nodes[0].pendingCount == 0)
    }

    @Test func `TRUNCATE clips and without it the message is dropped`() {
        var net = Network(seed: 2)
        net.add()
        net.add()
        for (bits, options) in [
            (UInt64(1), MemoryDescriptor.Options([.put, .truncate])), (2, [.put]),
        ] {
            _ = net.nodes[1].attach(
                portal: 3, matchBits: bits,
                MemoryDescriptor(memory: .events(lengthMax: 100), options: options), cookie: bits)
            net.nodes[0].put(
                to: Network.nid(1), portal: 3, matchBits: bits, payload: pattern(150),
                ackCookie: bits, now: net.now)
        }
        net.settle()
        #expect(net.events[0].contains(.ack(cookie: 1, mlength: 100)))
        #expect(!net.events[0].contains(.ack(cookie: 2, mlength: 150)))
        #expect(net.payloads[1].last == Array(pattern(150)[..<100]))
        #expect(net.nodes[1].counters[.tooLong] == 1)
    }

    @Test func `a PUT without a match is dropped and counted and the stream goes on`() {
        var net = Network(seed: 3)
        net.add()
        net.add()
        _ = net.nodes[1].attach(
            portal: 3, matchBits: 1, MemoryDescriptor(memory: .events(), options: [.put]),
            cookie: 1)
        for bits in [UInt64(9), 1] {
            net.nodes[0].put(
                to: Network.nid(1), portal: 3, matchBits: bits, payload: pattern(3000),
                now: net.now)
        }
        net.nodes[0].put(
            to: Network.nid(1), portal: 64, matchBits: 0, payload: [1], now: net.now)
        net.settle()
        #expect(net.payloads[1].filter { $0 == pattern(3000) }.count == 1)
        #expect(net.nodes[1].counters[.noMatch] == 2)
        #expect(net.nodes[1].counters.dropLength == 3001)
    }

    @Test func `a lazy portal keeps what came too early`() {
        var net = Network(seed: 4)
        net.add()
        net.add { $0.lazyMessagesMax = 2 }
        net.nodes[1].setLazy(portal: 9, true)
        for index in 0..<3 {
            net.nodes[0].put(
                to: Network.nid(1), portal: 9, matchBits: 1, payload: [UInt8(index)],
                ackCookie: UInt64(index), now: net.now)
        }
        net.settle()
        #expect(net.payloads[1].filter { $0.count == 1 }.isEmpty)
        #expect(net.nodes[1].counters[.noMatch] == 1)
        _ = net.nodes[1].attach(
            portal: 9, matchBits: 1, MemoryDescriptor(memory: .events(), options: [.put]),
            cookie: 1)
        net.settle()
        #expect(net.payloads[1].filter { $0.count == 1 } == [[0], [1]])
        #expect(net.events[0].contains(.ack(cookie: 1, mlength: 1)))
    }

    @Test func `entries with ignore bits are searched first and in order`() {
        var net = Network(seed: 5)
        net.add()
        net.add()
        func attach(_ cookie: UInt64, bits: UInt64, ignore: UInt64, from: ProcessID = .any) {
            _ = net.nodes[1].attach(
                portal: 3, process: from, matchBits: bits, ignoreBits: ignore,
                MemoryDescriptor(memory: .events(), options: [.put], threshold: 1),
                cookie: cookie)
        }
        attach(1, bits: 7, ignore: 0)
        attach(2, bits: 0, ignore: .max, from: ProcessID(nid: Network.nid(5)))
        attach(3, bits: 0, ignore: 0xF)
        attach(4, bits: 0, ignore: 0xFF)
        attach(5, bits: 7, ignore: 0)
        for _ in 0..<6 {
            net.nodes[0].put(
                to: Network.nid(1), portal: 3, matchBits: 7, payload: [], now: net.now)
        }
        net.settle()
        let order = net.events[1].compactMap { event -> UInt64? in
            if case .put(let put) = event { put.cookie } else { nil }
        }
        #expect(order == [3, 4, 1, 5])
        #expect(net.nodes[1].attachedCount == 1)
    }

    @Test func `a buffer without MANAGE_REMOTE fills up from its local offset`() {
        var net = Network(seed: 6)
        net.add()
        net.add()
        let me = net.nodes[1].attach(
            portal: 3, matchBits: 0,
            MemoryDescriptor(
                memory: .buffer([UInt8](repeating: 0, count: 8)), options: [.put, .truncate]),
            cookie: 0)
        for _ in 0..<3 {
            net.nodes[0].put(
                to: Network.nid(1), portal: 3, matchBits: 0, offset: 4, payload: [1, 2, 3],
                now: net.now)
        }
        net.settle()
        do {
            let taken = net.nodes[1].takeBuffer(me)
            #expect(taken == [1, 2, 3, 1, 2, 3, 1, 2])
        }
        do {
            let taken = net.nodes[1].takeBuffer(me)
            #expect(taken == nil)
        }
        do {
            let taken = net.nodes[1].unlink(me)
            #expect(!taken)
        }
    }

    @Test func `a node sends to itself`() {
        var net = Network(seed: 7)
        net.add()
        _ = net.nodes[0].attach(
            portal: 3, matchBits: 1, MemoryDescriptor(memory: .events(), options: [.put]),
            cookie: 1)
        _ = net.nodes[0].attach(
            portal: 4, matchBits: 1,
            MemoryDescriptor(memory: .buffer(pattern(2000)), options: [.get, .manageRemote]),
            cookie: 2)
        net.nodes[0].put(
            to: Network.nid(0), portal: 3, matchBits: 1, payload: [4, 5], ackCookie: 6,
            now: net.now)
        net.nodes[0].get(
            from: Network.nid(0), portal: 4, matchBits: 1, length: 2000, cookie: 7, now: net.now)
        net.settle()
        #expect(net.payloads[0].contains([4, 5]))
        #expect(net.payloads[0].contains(pattern(2000)))
        #expect(net.events[0].contains(.ack(cookie: 6, mlength: 2)))
        #expect(net.sockets.isEmpty)
        #expect(net.nodes[0].nextDeadline != .zero)
    }

    @Test(arguments: [1, 2, 8, 1000], [UInt64(1), 2, 3])
    func `thousands of messages both ways arrive once, whatever the credits`(
        credits: Int, seed: UInt64
    ) {
        var net = Network(seed: seed)
        for _ in 0..<3 {
            net.add {
                $0.peerCredits = credits
                $0.credits = credits + 1
            }
        }
        net.maxPiece = 20_000
        for node in 0..<3 {
            _ = net.nodes[node].attach(
                portal: 3, matchBits: 0, ignoreBits: .max,
                MemoryDescriptor(memory: .events(), options: [.put]), cookie: 1)
        }
        var sent = [Int](repeating: 0, count: 3)
        for round in 0..<1000 {
            for node in 0..<3 {
                let target = (node + 1 + net.random.below(2)) % 3
                let size = net.random.oneIn(10) ? 2000 : 64
                net.nodes[node].put(
                    to: Network.nid(target), portal: 3, matchBits: UInt64(round),
                    payload: pattern(size, UInt64(round)), ackCookie: UInt64(round), now: net.now)
                sent[node] += 1
            }
            if round % 50 == 0 { net.settle(rounds: 3) }
        }
        net.settle()
        for node in 0..<3 {
            let acks = net.events[node].compactMap { event -> UInt64? in
                if case .ack(let cookie, _) = event { cookie } else { nil }
            }
            #expect(acks.sorted() == (0..<1000).map { UInt64($0) }, "seed \(seed)")
            for (event, payload) in zip(net.events[node], net.payloads[node]) {
                if case .put(let put) = event {
                    #expect(payload == pattern(put.mlength, put.matchBits), "seed \(seed)")
                }
            }
            #expect(net.nodes[node].counters.dropCount == 0)
            #expect(net.nodes[node].counters.errors == 0)
            #expect(net.nodes[node].connectionCount == 6)
        }
    }
}
