import LNDCore
import LNetCore
import Primitives
import Testing
import WireFormat

private let now = Ticks(nanoseconds: 1000)
private let remote = Network.nid(1)

private func encoded(_ body: (inout WireWriter) -> Void) -> [UInt8] {
    var writer = WireWriter()
    body(&writer)
    return writer.bytes
}

private func greeting(
    to nid: NID = Network.nid(0), from: NID = remote, type: SockLNDConnectionType = .control
) -> [UInt8] {
    encoded {
        AcceptorRequest(nid: nid).encode(into: &$0)
        SockLNDHello(
            source: ProcessID(nid: from), destination: nid, incarnation: 5, type: type
        ).encode(into: &$0)
    }
}

private func frame(
    _ body: LNetHeader.Body, from: NID = remote, to: NID = Network.nid(0), payload: [UInt8] = []
) -> [UInt8] {
    encoded {
        SockLNDMessageHeader(kind: .lnet).encode(into: &$0)
        LNetHeader(
            destination: ProcessID(nid: to), source: ProcessID(nid: from),
            payloadLength: UInt32(payload.count), body: body
        ).encode(into: &$0)
        $0.append(payload)
    }
}

private let put = LNetHeader.Body.put(
    ack: WireHandle(interfaceCookie: 1, objectCookie: 2), matchBits: 1, hdrData: 0, portal: 3,
    offset: 0)

/// A node with two peers connected: 1, whom the test plays, and 2, who must not notice.
private struct Bench {
    var core: LNetCore
    var key: UInt64 = 0
    var bystander: UInt64 = 0

    init(greet: Bool = true) {
        core = LNetCore(
            LNetConfiguration(nid: Network.nid(0), incarnation: 1, acceptPort: 9880, seed: 1))
        _ = core.attach(
            portal: 3, matchBits: 1,
            MemoryDescriptor(memory: .events(lengthMax: 5000), options: [.put, .truncate]),
            cookie: 1)
        _ = core.attach(
            portal: 4, matchBits: 1,
            MemoryDescriptor(
                memory: .buffer([UInt8](repeating: 1, count: 100)),
                options: [.put, .get, .manageRemote, .truncate]), cookie: 2)
        core.setLazy(portal: 5, true)
        bystander = core.accepted(
            remoteAddress: Network.nid(2).address, remotePort: 3000, now: now)
        feed(greeting(from: Network.nid(2)), to: bystander)
        key = core.accepted(remoteAddress: remote.address, remotePort: 3001, now: now)
        if greet { feed(greeting()) }
        settle()
    }

    mutating func feed(_ bytes: [UInt8], to key: UInt64? = nil, piece: Int = .max) {
        var start = 0
        while start < bytes.count {
            let end = start + min(piece, bytes.count - start)
            RawSpan.over(Array(bytes[start..<end])) {
                core.received(key ?? self.key, $0, now: now)
            }
            start = end
            settle()
        }
    }

    var closed: Set<UInt64> = []
    var events: [LNetEvent] = []

    mutating func settle() {
        while let event = core.events.popFirst() { events.append(event) }
        while let action = core.actions.popFirst() {
            switch action {
            case .o2ib: preconditionFailure("this node is on TCP")
            case .close(let key): closed.insert(key)
            case .flush(let key): core.withOutput(key) { $0.byteCount }
            case .connect, .pause, .resume, .listen, .unlisten: break
            }
        }
    }
}

@Suite struct `hostile peers` {
    @Test func `each wrong byte closes exactly that connection and is counted by its reason`() {
        func expect(
            _ fault: SockLNDFault, greet: Bool = true, _ bytes: [UInt8],
            _ line: SourceLocation = #_sourceLocation
        ) {
            for piece in [1, 50, 10_000] {
                var bench = Bench(greet: greet)
                bench.feed(bytes, piece: piece)
                #expect(bench.closed == [bench.key], sourceLocation: line)
                #expect(bench.core.counters[fault] == 1, sourceLocation: line)
                #expect(bench.core.counters.errors == 1, sourceLocation: line)
                #expect(bench.core.connectionCount == 1, sourceLocation: line)
                bench.feed(frame(put, from: Network.nid(2), payload: [1]), to: bench.bystander)
                #expect(bench.core.connectionCount == 1, sourceLocation: line)
                #expect(bench.core.counters.received.put == 1, sourceLocation: line)
            }
        }
        var wrong = greeting()
        wrong[0] = 1
        expect(.badMagic, greet: false, wrong)
        wrong = greeting()
        wrong[4] = 7
        expect(.badVersion, greet: false, wrong)
        wrong = greeting()
        wrong[20] = 4
        expect(.badVersion, greet: false, wrong)
        wrong = greeting()
        wrong[16] = 7
        expect(.badMagic, greet: false, wrong)
        wrong = greeting()
        wrong[16 + 48] = 9
        expect(.badHello, greet: false, wrong)
        expect(.badHello, greet: false, greeting(type: .any))
        expect(.wrongNID, greet: false, greeting(to: Network.nid(9)))
        expect(.stranger, greet: false, greeting(from: Network.nid(5)))
        expect(.stranger, greet: false, greeting(from: Network.nid(0)))
        expect(
            .stranger, greet: false,
            greeting(from: NID(address: remote.address, type: .tcp, number: 1)))
        expect(.badMessageKind, [1] + [UInt8](repeating: 0, count: 95))
        expect(.wrongSource, frame(put, from: Network.nid(2)))
        expect(.wrongDestination, frame(put, to: Network.nid(7)))
        var header = frame(put)
        header[24 + 24] = 9
        expect(.badHeader, header)
        header = frame(put)
        header[24 + 31] = 0x80
        expect(.badHeader, header)
        header = frame(.get(returnTo: .none, matchBits: 0, portal: 0, offset: 0, sinkLength: 0))
        header[24 + 28] = 1
        expect(.badHeader, header)
        expect(
            .unknownZeroCopyAck,
            encoded { SockLNDMessageHeader(kind: .noop, zeroCopyAck: 9).encode(into: &$0) })
    }

    @Test func `a message for another network is dropped, its payload passed over`() {
        var bench = Bench()
        let far = NID(address: 5, type: .o2ib)
        bench.feed(frame(put, to: far, payload: [1, 2, 3]) + frame(put, payload: [4]), piece: 7)
        #expect(bench.closed.isEmpty)
        #expect(bench.core.counters[.notRouted] == 1 && bench.core.counters.received.put == 1)
    }

    @Test func `forged handles, offsets and lengths do no harm`() {
        var bench = Bench()
        let handles = [
            WireHandle.none, WireHandle(interfaceCookie: 0, objectCookie: 0),
            WireHandle(interfaceCookie: 3, objectCookie: 1 << 32),
        ]
        for handle in handles {
            bench.feed(frame(.ack(destination: handle, matchBits: 0, mlength: .max)))
            bench.feed(frame(.reply(destination: handle), payload: pattern(9000)), piece: 1000)
            for offset: UInt32 in [0, 99, 100, 101, .max] {
                for length: UInt32 in [0, 1, 100, 101, .max] {
                    for portal: UInt32 in [0, 4, 5, 63, 64, .max] {
                        bench.feed(
                            frame(
                                .get(
                                    returnTo: handle, matchBits: 1, portal: portal,
                                    offset: offset, sinkLength: length)))
                        bench.feed(
                            frame(
                                .put(
                                    ack: handle, matchBits: 1, hdrData: 0, portal: portal,
                                    offset: offset),
                                payload: pattern(Int(min(length, 300)))), piece: 150)
                    }
                }
            }
        }
        #expect(bench.closed.isEmpty)
        #expect(bench.core.counters[.lateResponse] == 6)
        #expect(bench.core.pendingCount == 0)
    }

    @Test func `privileged mode names strangers by their socket and never connects to them`() {
        var core = LNetCore(LNetConfiguration(nid: Network.nid(0), incarnation: 1, seed: 1))
        _ = core.attach(
            portal: 3, matchBits: 1, MemoryDescriptor(memory: .events(), options: [.put]),
            cookie: 1)
        let key = core.accepted(remoteAddress: 0x0A00_0001, remotePort: 5000, now: now)
        RawSpan.over(greeting() + frame(put, payload: [1])) { core.received(key, $0, now: now) }
        var peer: PeerRef?
        while let event = core.events.popFirst() {
            if case .put(let put) = event {
                #expect(
                    put.initiator
                        == ProcessID(
                            nid: NID(address: 0x0A00_0001, type: .tcp), pid: 0x8000_0000 | 5000))
                peer = put.peer
            }
        }
        guard let peer else {
            Issue.record("no PUT")
            return
        }
        let sent = core.put(to: peer, portal: 1, matchBits: 0, payload: [1], now: now)
        #expect(sent)
        core.closed(key, errno: 0, now: now)
        let sentLater = core.put(to: peer, portal: 1, matchBits: 0, payload: [1], now: now)
        #expect(!sentLater)
        while let action = core.actions.popFirst() {
            if case .connect = action { Issue.record("connected to a userspace peer") }
        }
        #expect(core.peerCount == 0)
    }

    /// A conversation with everything in it.
    private static let conversation: [UInt8] = {
        var bytes = greeting()
        bytes += frame(put, payload: pattern(40))
        bytes += encoded { SockLNDMessageHeader(kind: .noop, zeroCopyAck: 1).encode(into: &$0) }
        bytes += frame(
            .get(returnTo: .none, matchBits: 1, portal: 4, offset: 0, sinkLength: 50))
        bytes += frame(
            .get(
                returnTo: .none, matchBits: PingInfo.matchBits, portal: 0, offset: 0,
                sinkLength: 3960))
        bytes += frame(
            .put(ack: .none, matchBits: 1, hdrData: 0, portal: 5, offset: 0),
            payload: pattern(30))
        bytes += frame(.ack(destination: .none, matchBits: 0, mlength: 0))
        bytes += frame(.reply(destination: .none), payload: pattern(20))
        return bytes
    }()

    @Test func `no change of any single byte traps or touches a bystander`() {
        var random = SplitMix64(seed: 1)
        for position in Self.conversation.indices {
            for flip: UInt8 in [0x01, 0x80, 0xff, UInt8(truncatingIfNeeded: random.next())] {
                var bytes = Self.conversation
                bytes[position] ^= flip
                var bench = Bench(greet: false)
                bench.feed(bytes, piece: 1 + random.below(200))
                #expect(!bench.closed.contains(bench.bystander))
            }
        }
    }

    @Test(arguments: Array(UInt64(1)...8))
    func `noise never traps and holds little memory`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for _ in 0..<200 {
            var bench = Bench(greet: random.oneIn(2))
            var bytes = Self.conversation + Self.conversation
            if random.oneIn(2) { bytes.removeFirst(72) }
            for _ in 0..<(1 + random.below(30)) {
                bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
            }
            bench.feed(bytes, piece: 1 + random.below(500))
            #expect(!bench.closed.contains(bench.bystander), "seed \(seed)")
            let held = bench.core.measureHeldBytes()
            #expect(held < 100_000, "seed \(seed)")
        }
    }

    @Test func `a length that is announced but not sent costs no memory`() {
        var bench = Bench()
        var bytes = frame(put)
        bytes[24 + 30] = 0x10
        bench.feed(bytes + [1, 2, 3])
        let held = bench.core.measureHeldBytes()
        #expect(bench.closed.isEmpty && held < 10_000)
    }

    /// Bytes that say of themselves that they are ping info with so many entries.
    private static func pingInfo(claims: UInt32, entries: Int) -> [UInt8] {
        encoded {
            $0.u32(PingInfo.magic)
            $0.u32(0x1e)
            $0.u32(12345)
            $0.u32(claims)
            for entry in 0..<entries {
                let nid = entry == 0 ? NID.loopback : Network.nid(entry)
                $0.u64(nid.rawValue)
                $0.u32(0x15aa_c0de)
                $0.u32(0)
            }
        }
    }

    @Test(
        arguments: [
            (0, 0), (0, 3), (1, 0), (2, 1), (10_000, 10_000), (10_000, 2), (4097, 4097), (.max, 4),
        ] as [(UInt32, Int)])
    func `ping info with no entry or ten thousand is refused, pushed as well as pulled`(
        claims: UInt32, entries: Int
    ) {
        var core = LNetCore(
            LNetConfiguration(nid: Network.nid(0), incarnation: 1, acceptPort: 9880, seed: 1))
        let key = core.accepted(remoteAddress: remote.address, remotePort: 3001, now: now)
        func hear(_ bytes: [UInt8]) {
            RawSpan.over(bytes) { core.received(key, $0, now: now) }
        }
        /// What the node says next, as far as the peer has to read it.
        func said() -> [LNetHeader] {
            var bytes: [UInt8] = []
            while let action = core.actions.popFirst() {
                guard case .flush(let key) = action else { continue }
                core.withOutput(key) {
                    bytes += $0.copy(0..<$0.byteCount)
                    return $0.byteCount
                }
            }
            var headers: [LNetHeader] = []
            while bytes.count >= 96 {
                let frame = Array(bytes[..<96])
                guard
                    let header = try? RawSpan.over(
                        frame,
                        { span throws(WireError) in
                            try LNetHeader(parsing: span.extracting(24..<96))
                        })
                else { break }
                headers.append(header)
                bytes.removeFirst(96 + Int(header.payloadLength))
            }
            return headers
        }
        hear(greeting())
        while core.actions.popFirst() != nil {}
        core.withOutput(key) { $0.byteCount }
        let payload = Self.pingInfo(claims: claims, entries: entries)
        _ = core.ping(remote, timeout: .seconds(1), now: now)
        let asked = said()
        guard case .get(let handle, PingInfo.matchBits, 0, _, _) = asked.first?.body else {
            Issue.record("no ping went out: \(asked)")
            return
        }
        hear(frame(.reply(destination: handle), payload: payload))
        var isRefused = false
        while let event = core.events.popFirst() {
            if case .pinged(let ping) = event { isRefused = core.pingInfo(ping) == nil }
        }
        #expect(isRefused)
        hear(
            frame(
                .put(
                    ack: WireHandle(interfaceCookie: 1, objectCookie: 2),
                    matchBits: PingInfo.matchBits, hdrData: 0, portal: 0, offset: 0),
                payload: payload))
        // LNet acknowledges what its memory took; nothing of it is believed.
        #expect(core.peerCount == 1 && core.connectionCount == 1)
        let held = core.measureHeldBytes()
        #expect(held < 400_000, "\(held)")
    }
}
