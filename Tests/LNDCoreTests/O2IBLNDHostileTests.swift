import LNDCore
import Primitives
import TestSupport
import Testing
import WireFormat

/// A message as the passive end would send it, with what a test changes.
private func forged(
    _ message: O2IBLNDMessage, credits: UInt8 = 0, payload: [UInt8] = [],
    change: (inout O2IBLNDHeader) -> Void = { _ in }
) -> [UInt8] {
    var header = O2IBLNDHeader(
        kind: message.kind, credits: credits,
        byteCount: UInt32(message.encodedSize + payload.count), source: o2ibPassive.nid,
        sourceStamp: 222, destination: o2ibActive.nid, destinationStamp: 111)
    change(&header)
    var writer = WireWriter()
    header.encode(into: &writer)
    message.encode(into: &writer)
    writer.append(payload)
    return writer.bytes
}

private let toActive = o2ibHeader(3, from: o2ibPassive, to: o2ibActive)

@Suite struct `o2iblnd against a hostile peer` {
    private func fault(_ bytes: [UInt8], after: (inout O2IBPair) -> Void = { _ in }) throws
        -> O2IBLNDFault?
    {
        var pair = try O2IBPair()
        after(&pair)
        pair.events[0].removeAll()
        pair.hear(bytes, at: 0)
        guard case .fault(let fault) = pair.events[0].last else { return nil }
        #expect(!pair.ends[0].isOpen)
        // From here on nothing is heard and nothing is said.
        pair.hear(forged(.noop), at: 0)
        #expect(pair.events[0].count == 1)
        return fault
    }

    @Test func `a message of another node, for another, or of another life`() throws {
        let other = NID(address: 9, type: .o2ib)
        #expect(try fault(forged(.noop) { $0.source = other }) == .wrongPeer)
        #expect(try fault(forged(.noop) { $0.destination = other }) == .wrongPeer)
        #expect(try fault(forged(.noop) { $0.sourceStamp = 221 }) == .wrongStamp)
        #expect(try fault(forged(.noop) { $0.destinationStamp = 0 }) == .wrongStamp)
        #expect(try fault(forged(.noop)) == nil)
    }

    @Test func `a wrong magic, version, kind or length`() throws {
        for (place, fault) in [(0, .badMagic), (4, .badVersion), (6, .badKind), (8, .badLength)]
            as [(Int, O2IBLNDFault)]
        {
            var bytes = forged(.noop)
            bytes[place] ^= 0x41
            #expect(try self.fault(bytes) == fault, "byte \(place)")
        }
        #expect(
            try fault(forged(.connectRequest(O2IBLNDParameters(queueDepth: 8)))) == .badKind)
        #expect(try fault([]) == .badLength)
        #expect(try fault(Array(forged(.noop).dropLast())) == .badLength)
    }

    @Test func `credits given back that were never spent`() throws {
        #expect(try fault(forged(.noop, credits: 1)) == .creditsOverreturned)
        let spent = try fault(forged(.noop, credits: 1)) { pair in
            pair.send(0, [1])
            _ = pair.turn(0)
        }
        #expect(spent == nil)
        let over = try fault(forged(.noop, credits: 2)) { pair in
            pair.send(0, [1])
            _ = pair.turn(0)
        }
        #expect(over == .creditsOverreturned)
    }

    @Test func `a message without a credit`() throws {
        let message = forged(.immediate(toActive), payload: [1, 2, 3])
        let fault = try fault(message) { pair in
            for _ in 0..<8 { pair.hear(message, at: 0) }
        }
        #expect(fault == .creditsOverspent)
    }

    @Test(arguments: [0, 1, 0x1_0000_0001, .max] as [UInt64])
    func `a cookie that names nothing`(cookie: UInt64) throws {
        let descriptor = O2IBLNDDescriptor(
            key: 1, fragments: [.init(byteCount: 1, address: 0x1000)])
        for message in [
            .putNak(cookie: cookie, status: 0), .putDone(cookie: cookie, status: 1),
            .getDone(cookie: cookie, status: 1),
            .putAck(sourceCookie: cookie, sinkCookie: 1, descriptor),
        ] as [O2IBLNDMessage] {
            #expect(try fault(forged(message)) == .unknownCookie)
        }
    }

    @Test func `a cookie of something else`() throws {
        // A PUT is offered; the answer to a GET comes.
        var pair = try O2IBPair()
        pair.ends[0].offerPut(o2ibHeader(9000), user: 1)
        _ = pair.turn(0)
        let cookie = RawSpan.over(pair.messages[0][0]) { $0.littleEndian(at: 120, as: UInt64.self) }
        pair.hear(forged(.getDone(cookie: cookie, status: 1)), at: 0)
        #expect(pair.events[0].last == .fault(.unknownCookie))
    }

    @Test func `a sink that wants more than there is, or an answer longer than asked for`() throws {
        var pair = try O2IBPair()
        pair.ends[0].offerPut(o2ibHeader(9000), user: 1)
        _ = pair.turn(0)
        let cookie = RawSpan.over(pair.messages[0][0]) { $0.littleEndian(at: 120, as: UInt64.self) }
        let descriptor = O2IBLNDDescriptor(
            key: 1, fragments: [.init(byteCount: 9001, address: 0x1000)])
        pair.hear(
            forged(.putAck(sourceCookie: cookie, sinkCookie: 1, descriptor)), at: 0)
        #expect(pair.events[0].last == .fault(.badDescriptor))

        pair = try O2IBPair()
        pair.ends[0].askGet(o2ibGet(8192), address: 1, key: 1, byteCount: 8192, user: 1)
        _ = pair.turn(0)
        let asked = RawSpan.over(pair.messages[0][0]) { $0.littleEndian(at: 120, as: UInt64.self) }
        pair.hear(forged(.getDone(cookie: asked, status: 8193)), at: 0)
        #expect(pair.events[0].last == .fault(.badLength))
    }

    @Test func `an answer to a GET that is larger than its sink is an error, not an overrun`()
        throws
    {
        var pair = try O2IBPair()
        pair.ends[0].askGet(o2ibGet(8192), address: 1, key: 1, byteCount: 8192, user: 1)
        _ = pair.turn(0)
        guard case .getAsked(let transfer, 8192) = pair.events[1].last else {
            Issue.record("\(pair.events)")
            return
        }
        let isServed = pair.ends[1].serve(transfer, from: 0, byteCount: 8193, user: 1)
        #expect(!isServed)
        _ = pair.turn(1)
        #expect(pair.writes.isEmpty)
        #expect(pair.events[0].last == .getDone(1, O2IBLNDConnection.protocolStatus))
    }

    @Test func `a header whose payload is not what came, or an offer without one`() throws {
        #expect(try fault(forged(.immediate(toActive), payload: [1, 2])) == .badHeader)
        #expect(
            try fault(
                forged(
                    .putRequest(o2ibHeader(0, from: o2ibPassive, to: o2ibActive), cookie: 1)))
                == .badHeader)
    }

    @Test func `a checksum is verified, bytes signed or not`() throws {
        let bytes = forged(.immediate(toActive), payload: [0xff, 2, 3])
        var unsigned: UInt32 = 0
        var signed: UInt32 = 0
        for byte in bytes {
            unsigned = (unsigned << 1 | unsigned >> 31) &+ UInt32(byte)
            signed =
                (signed << 1 | signed >> 31)
                &+ UInt32(bitPattern: Int32(Int8(bitPattern: byte)))
        }
        #expect(unsigned != signed)
        for (sum, isGood) in [(unsigned, true), (signed, true), (unsigned ^ 1, false)] {
            var marked = bytes
            for index in 0..<4 {
                marked[12 + index] = UInt8(truncatingIfNeeded: sum >> (8 * index))
            }
            #expect(try fault(marked) == (isGood ? nil : .badChecksum))
        }
    }

    // MARK: Private data

    private func verdict(
        depth: UInt16 = 8, change: (inout [UInt8]) -> Void
    ) -> O2IBLNDVerdict {
        var bytes = O2IBLNDConnection(
            activeTo: o2ibPassive.nid, peerIncarnation: 0, identity: o2ibActive,
            parameters: O2IBLNDParameters(queueDepth: depth)
        ).request()
        change(&bytes)
        return RawSpan.over(bytes) {
            O2IBLNDVerdict.read($0, to: o2ibPassive, limits: O2IBLNDParameters(queueDepth: 8))
        }
    }

    @Test(arguments: 0..<56) func `private data of every wrong size is rejected`(size: Int) {
        #expect(verdict { $0.removeLast(56 - size) } == .reject(.fatal, .badPrivateData))
    }

    @Test func `private data that is wrong is rejected for the protocol's reason`() {
        #expect(verdict { $0[0] = 0 } == .reject(.fatal, .badMagic))
        #expect(verdict { $0[4] = 0x11 } == .reject(.incompatible, .badVersion))
        #expect(verdict { $0[6] = 0xc1 } == .reject(.fatal, .badKind))
        #expect(verdict { $0[32] ^= 1 } == .reject(.fatal, .wrongNID))
        #expect(verdict { $0[40] = 7 } == .reject(.stale, .staleRequest))
        #expect(verdict { $0[20] = 1 } == .reject(.fatal, .stranger))
        #expect(verdict(depth: 9) { _ in } == .reject(.queueDepth, .badQueueDepth))
        #expect(verdict { $0[48] = 0 } == .reject(.queueDepth, .badQueueDepth))
        #expect(verdict { $0[50] = 2 } == .reject(.fragments, .badFragments))
        #expect(verdict { $0[54] = 1 } == .reject(.fatal, .badMessageSize))
        // What is not zero behind is not looked at: the connection manager pads.
        guard case .accept = verdict(change: { $0 += [1, 2, 3] }) else {
            Issue.record("padding was refused")
            return
        }
    }

    @Test func `an answer that agrees to more than was asked for is no answer`() {
        let asked = O2IBLNDParameters(queueDepth: 4, maxFragments: 16)
        func answer(_ change: (inout [UInt8]) -> Void) -> O2IBLNDFault? {
            var active = O2IBLNDConnection(
                activeTo: o2ibPassive.nid, peerIncarnation: 0, identity: o2ibActive,
                parameters: asked)
            let passive = O2IBLNDConnection(
                accepting: O2IBLNDRequest(
                    source: o2ibActive.nid, incarnation: 111, parameters: asked),
                identity: o2ibPassive)
            var bytes = passive.acknowledgement()
            change(&bytes)
            return RawSpan.over(bytes) { active.acknowledged($0) }
        }
        #expect(answer { _ in } == nil)
        #expect(answer { $0[48] = 3 } == nil, "less is fine")
        #expect(answer { $0[48] = 5 } == .badConnectAck)
        #expect(answer { $0[48] = 0 } == .badConnectAck)
        #expect(answer { $0[50] = 17 } == .badConnectAck)
        #expect(answer { $0[16] ^= 1 } == .badConnectAck)
        #expect(answer { $0[40] ^= 1 } == .badConnectAck)
        #expect(answer { $0[6] = 0xc0 } == .badConnectAck)
        #expect(answer { $0.removeLast() } == .badConnectAck)
    }

    @Test func `one of two who connect at once gives way, but not for ever`() {
        let request = O2IBLNDRequest(
            source: o2ibActive.nid, incarnation: 111, parameters: .init(queueDepth: 8))
        let view = O2IBLNDPeerView(isConnecting: true, incarnation: nil)
        #expect(
            O2IBLNDVerdict.on(request, to: o2ibPassive, view: view, races: 0)
                == .reject(.connectionRace, .lostRace))
        #expect(
            O2IBLNDVerdict.on(request, to: o2ibPassive, view: view, races: 20)
                == .accept(request))
        var other = request
        other.source = NID(address: o2ibPassive.nid.address + 1, type: .o2ib)
        #expect(
            O2IBLNDVerdict.on(other, to: o2ibPassive, view: view, races: 0) == .accept(other))
        let restarted = O2IBLNDPeerView(isConnecting: false, incarnation: 110)
        #expect(
            O2IBLNDVerdict.on(request, to: o2ibPassive, view: restarted, races: 0)
                == .reject(.stale, .peerRestarted))
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `random messages never trap`(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for _ in 0..<300 {
            var pair = try O2IBPair()
            pair.ends[0].offerPut(o2ibHeader(9000), user: 1)
            pair.ends[0].askGet(o2ibGet(8192), address: 1, key: 1, byteCount: 8192, user: 2)
            _ = pair.turn(0)
            let descriptor = O2IBLNDDescriptor(
                key: 1, fragments: [.init(byteCount: 9000, address: 0x1000)])
            let cookie = 0x1_0000_0000 | UInt64(random.below(3))
            for _ in 0..<6 {
                let messages: [O2IBLNDMessage] = [
                    .noop, .immediate(toActive), .putNak(cookie: cookie, status: -5),
                    .putAck(sourceCookie: cookie, sinkCookie: 2, descriptor),
                    .putDone(cookie: cookie, status: 9000), .getDone(cookie: cookie, status: 99),
                    .putRequest(o2ibHeader(5000, from: o2ibPassive, to: o2ibActive), cookie: 3),
                ]
                let message = messages[random.below(messages.count)]
                var bytes = forged(
                    message, payload: message.kind == .immediate ? [1, 2, 3] : [])
                if random.oneIn(2) {
                    bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
                }
                pair.hear(bytes, at: 0)
                for event in pair.events[0] {
                    if case .putAcknowledged(let user, let transfer, let count) = event {
                        _ = pair.ends[0].serve(transfer, from: 0, byteCount: count, user: user)
                    }
                }
                _ = pair.turn(0)
            }
        }
    }
}
