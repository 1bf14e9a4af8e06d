import LNDCore
import Primitives
import Testing
import WireFormat

private let client = SockLNDIdentity(
    process: ProcessID(nid: NID(address: 0x0A4E_0002, type: .tcp)),
    incarnation: 0x18ea_8d32_9f31_34d3)
private let server = SockLNDIdentity(
    process: ProcessID(nid: NID(address: 0x0A4E_0003, type: .tcp)),
    incarnation: 0x18ea_8d32_bf17_cd84)

private func encoded(_ body: (inout WireWriter) -> Void) -> [UInt8] {
    var writer = WireWriter()
    body(&writer)
    return writer.bytes
}

private let request = encoded { AcceptorRequest(nid: server.process.nid).encode(into: &$0) }

private func hello(
    _ version: UInt32 = 3, _ from: SockLNDIdentity = client, _ to: NID = server.process.nid,
    _ type: SockLNDConnectionType = .control
) -> [UInt8] {
    encoded {
        SockLNDHello(
            version: version, source: from.process, destination: to,
            incarnation: from.incarnation, type: type
        ).encode(into: &$0)
    }
}

private func header(_ length: UInt32) -> LNetHeader {
    LNetHeader(
        destination: server.process, source: client.process, payloadLength: length,
        body: .put(ack: .none, matchBits: 1, hdrData: 2, portal: 3, offset: 4))
}

private func message(
    _ payload: [UInt8], checksum: UInt32 = 0, request: UInt64 = 0, ack: UInt64 = 0
) -> [UInt8] {
    encoded {
        SockLNDMessageHeader(
            kind: .lnet, checksum: checksum, zeroCopyRequest: request, zeroCopyAck: ack
        ).encode(into: &$0)
        header(UInt32(payload.count)).encode(into: &$0)
    } + payload
}

/// What a connection made of bytes given in pieces of `piece`.
private struct Heard {
    var hellos: [SockLNDHello] = []
    var opened: [UInt64] = []
    var messages: [(LNetHeader, [UInt8])] = []
    var faults: [SockLNDFault] = []
    var isLastSeen = 0
}

private func feed(
    _ connection: inout SockLNDConnection, _ bytes: [UInt8], piece: Int,
    answer: (inout SockLNDConnection, SockLNDHello) -> Void = { connection, hello in
        connection.accept(hello, as: hello.source.nid)
    }
) -> Heard {
    var heard = Heard()
    var start = 0
    while start < bytes.count {
        let part = Array(bytes[start..<min(bytes.count, start + piece)])
        start += part.count
        RawSpan.over(part) { span in
            var offset = 0
            while offset < span.byteCount {
                switch connection.next(span, at: &offset) {
                case .needMore: break
                case .hello(let hello):
                    heard.hellos.append(hello)
                    answer(&connection, hello)
                case .opened(let incarnation): heard.opened.append(incarnation)
                case .message(let header): heard.messages.append((header, []))
                case .payload where heard.messages.isEmpty: break
                case .payload(let range, let isLast):
                    heard.messages[heard.messages.count - 1].1 += span.copy(range)
                    if isLast { heard.isLastSeen += 1 }
                case .fault(let fault):
                    heard.faults.append(fault)
                }
            }
        }
    }
    return heard
}

private func drain(_ connection: inout SockLNDConnection) -> [UInt8] {
    var bytes: [UInt8] = []
    while !connection.output.isEmpty {
        _ = connection.output.offer { span in
            bytes += span.copy(0..<span.byteCount)
            return span.byteCount
        }
    }
    return bytes
}

@Suite struct `socklnd conversation` {
    @Test(arguments: [1, 2, 3, 7, 24, 56, 95, 96, 97, 1000, 100_000])
    func `a conversation means the same at every split`(piece: Int) {
        var active = SockLNDConnection(
            activeTo: server.process.nid, type: .bulkIn, identity: client)
        var passive = SockLNDConnection(passive: server)
        #expect(active.output.isEmpty)
        active.established()
        let asked = drain(&active)
        #expect(asked.count == 72)
        #expect(asked == request + hello(3, client, server.process.nid, .bulkIn))
        let atPassive = feed(&passive, asked, piece: piece)
        #expect(atPassive.hellos.count == 1 && passive.isOpen && passive.type == .bulkOut)
        let answered = drain(&passive)
        #expect(answered == hello(3, server, client.process.nid, .bulkOut))
        let atActive = feed(&active, answered, piece: piece)
        #expect(atActive.opened == [server.incarnation] && active.isOpen)

        let payloads: [[UInt8]] = [[], [1], [UInt8](repeating: 7, count: 5000), [], [2, 3]]
        var stream: [UInt8] = []
        for payload in payloads {
            stream += message(payload)
            stream += encoded {
                SockLNDMessageHeader(kind: .noop, zeroCopyAck: 1).encode(into: &$0)
            }
        }
        let heard = feed(&passive, stream, piece: piece)
        #expect(heard.faults.isEmpty)
        #expect(heard.messages.map(\.1) == payloads)
        #expect(heard.messages.map(\.0) == payloads.map { header(UInt32($0.count)) })
        #expect(heard.isLastSeen == 3)
        #expect(!passive.isMidMessage && passive.output.isEmpty)
    }

    @Test func `an idle connection holds no memory`() {
        var connection = SockLNDConnection(passive: server)
        _ = feed(&connection, request + hello(), piece: 1000)
        #expect(!connection.output.wantsBuffer)
        _ = drain(&connection)
        #expect(connection.output.reclaim().capacity > 0)
        #expect(connection.output.wantsBuffer)
    }

    @Test func `acceptor refuses what it must, with the answer that LNet gives`() {
        let answer = encoded { AcceptorRequest(nid: NID(rawValue: 0)).encode(into: &$0) }
        func refusal(_ bytes: [UInt8]) -> ([SockLNDFault], [UInt8]) {
            var connection = SockLNDConnection(passive: server)
            let heard = feed(&connection, bytes, piece: 1)
            #expect(connection.isClosing)
            return (heard.faults, drain(&connection))
        }
        #expect(refusal([1, 2, 3, 4]) == ([.badMagic], []))
        #expect(refusal([0x63, 0x69, 0x72, 0x45]) == ([.badMagic], answer))
        #expect(refusal([0x00, 0x71, 0xce, 0xac, 2, 0, 0, 0]) == ([.badVersion], answer))
        var other = request
        other[8] ^= 1
        #expect(refusal(other + hello()) == ([.wrongNID], []))
    }

    @Test func `hello of protocol 1, 4 and unknown ones is answered with what we speak`() {
        let none = encoded {
            SockLNDHello(
                source: server.process, destination: NID(rawValue: 0),
                incarnation: server.incarnation, type: .none
            ).encode(into: &$0)
        }
        for start: [UInt8] in [
            [0xed, 0x0d, 0xbc, 0xee], [0x63, 0x69, 0x72, 0x45, 4, 0, 0, 0],
            [0x63, 0x69, 0x72, 0x45, 9, 0, 0, 0],
        ] {
            var connection = SockLNDConnection(passive: server)
            let heard = feed(&connection, request + start + [0, 0, 0], piece: 5)
            #expect(heard.faults == [.badVersion])
            #expect(drain(&connection) == none)
        }
        // Protocol 2 has our layout and is answered in kind.
        var connection = SockLNDConnection(passive: server)
        #expect(feed(&connection, request + hello(2), piece: 9).faults.isEmpty)
        #expect(drain(&connection) == hello(2, server, client.process.nid))
        connection.keepalive()
        #expect(connection.output.isEmpty)
    }

    @Test func `addresses behind a hello are passed over`() {
        var bytes = hello()
        bytes[52] = 3
        for piece in [1, 5, 100] {
            var connection = SockLNDConnection(passive: server)
            let heard = feed(
                &connection, request + bytes + [UInt8](repeating: 9, count: 12) + message([5]),
                piece: piece)
            #expect(heard.faults.isEmpty && heard.messages.map(\.1) == [[5]])
        }
    }

    @Test func `a refusal is a NONE and silence`() {
        var connection = SockLNDConnection(passive: server)
        let heard = feed(&connection, request + hello() + message([1]), piece: 1000) {
            $0.refuse($1)
        }
        #expect(heard.messages.isEmpty && connection.isClosing)
        #expect(drain(&connection) == hello(3, server, client.process.nid, .none))
    }

    @Test func `an answer from the wrong peer, of the wrong type or NONE ends the attempt`() {
        func fault(_ answer: [UInt8]) -> [SockLNDFault] {
            var active = SockLNDConnection(
                activeTo: server.process.nid, type: .bulkIn, identity: client)
            active.established()
            _ = drain(&active)
            return feed(&active, answer, piece: 1000).faults
        }
        let me = client.process.nid
        #expect(fault(hello(3, server, me, .bulkOut)) == [])
        #expect(fault(hello(3, server, me, .none)) == [.refused])
        #expect(fault(hello(3, server, me, .bulkIn)) == [.wrongPeer])
        #expect(fault(hello(2, server, me, .bulkOut)) == [.wrongPeer])
        #expect(fault(hello(3, client, me, .bulkOut)) == [.wrongPeer])
        #expect(fault([1, 2, 3, 4]) == [.badMagic])
        #expect(fault(hello(4, server, me, .bulkOut)) == [.badVersion])
    }

    private func open() -> SockLNDConnection {
        var connection = SockLNDConnection(passive: server)
        _ = feed(&connection, request + hello(), piece: 1000)
        _ = drain(&connection)
        return connection
    }

    @Test func `a zero-copy request is acknowledged after the whole payload`() {
        var connection = open()
        let bytes = message([1, 2, 3], request: 77)
        _ = feed(&connection, Array(bytes.dropLast()), piece: 10)
        #expect(connection.output.isEmpty)
        _ = feed(&connection, Array(bytes.suffix(1)), piece: 10)
        #expect(
            drain(&connection)
                == encoded {
                    SockLNDMessageHeader(kind: .noop, zeroCopyAck: 77).encode(into: &$0)
                })
    }

    @Test func `acknowledgements of what we never asked end the connection`() {
        for (kind, request, ack) in [
            (SockLNDMessageHeader.Kind.noop, UInt64(0), UInt64(2)), (.noop, 1, 3), (.lnet, 0, 5),
        ] {
            for piece in [5, 1000] {
                var connection = open()
                let bytes = encoded {
                    SockLNDMessageHeader(kind: kind, zeroCopyRequest: request, zeroCopyAck: ack)
                        .encode(into: &$0)
                    header(0).encode(into: &$0)
                }
                #expect(
                    feed(&connection, bytes, piece: piece).faults == [.unknownZeroCopyAck])
            }
        }
    }

    @Test func `wrong kinds and headers end the connection`() {
        for piece in [5, 1000] {
            var connection = open()
            var bytes = message([1])
            bytes[0] = 0xc2
            #expect(feed(&connection, bytes, piece: piece).faults == [.badMessageKind])
            connection = open()
            bytes = message([1])
            bytes[24 + 24] = 4
            #expect(feed(&connection, bytes, piece: piece).faults == [.badHeader])
            connection = open()
            bytes = message([1])
            bytes[24 + 31] = 1
            #expect(feed(&connection, bytes, piece: piece).faults == [.badHeader])
        }
    }

    @Test func `a checksum is verified when there is one`() {
        var check = SockLNDChecksum()
        for byte in Array("123456789".utf8) { check.combine(byte) }
        // The check value of CRC-32 is 0xCBF43926 after the final inversion, which is not done here.
        #expect(check.value == ~0xCBF4_3926)

        var sum = SockLNDChecksum()
        for byte in message([9, 8, 7]) { sum.combine(byte) }
        for piece in [7, 1000] {
            var connection = open()
            let good = message([9, 8, 7], checksum: sum.value)
            #expect(feed(&connection, good, piece: piece).messages.map(\.1) == [[9, 8, 7]])
            connection = open()
            let bad = message([9, 8, 6], checksum: sum.value)
            #expect(feed(&connection, bad, piece: piece).faults == [.badChecksum])
        }
    }

    @Test func `the greater NID wins a race and a new incarnation clears the old`() throws {
        let low = client.process.nid
        let high = server.process.nid
        let bytes = hello()
        let asked = try RawSpan.over(bytes) { try SockLNDHello(parsing: $0) }
        func verdict(
            _ peer: NID, _ own: NID, connecting: Bool = false, have: Int = 0,
            incarnation: UInt64? = nil
        ) -> SockLNDVerdict {
            .on(
                asked, from: peer, to: own,
                view: SockLNDPeerView(
                    isConnecting: connecting, connectionsOfType: have, incarnation: incarnation),
                connectionsPerType: 1)
        }
        #expect(verdict(low, high) == .accept)
        #expect(verdict(low, high, connecting: true) == .refuse(.lostRace))
        #expect(verdict(high, low, connecting: true) == .accept)
        #expect(verdict(high, low, have: 1) == .refuse(.duplicate))
        #expect(verdict(low, high, have: 1, incarnation: 5) == .refuseAndCloseOthers)
        #expect(verdict(low, high, incarnation: client.incarnation) == .accept)
    }

    @Test func `who a hello comes from is vouched for by port or address`() throws {
        let bytes = hello()
        let asked = try RawSpan.over(bytes) { try SockLNDHello(parsing: $0) }
        func identity(_ address: UInt32, _ port: UInt16, privileged: Bool) -> ProcessID? {
            asked.identity(
                remoteAddress: IPAddress(v4: address), remotePort: port,
                network: server.process.nid.network,
                privilegedPorts: privileged)
        }
        let mine = client.process.nid.address
        #expect(identity(1, 1023, privileged: true) == client.process)
        #expect(
            identity(mine, 1024, privileged: true)
                == ProcessID(nid: client.process.nid, pid: 0x8000_0400))
        #expect(identity(mine, 5000, privileged: false) == client.process)
        #expect(identity(mine + 1, 5000, privileged: false) == nil)
        #expect(
            asked.identity(
                remoteAddress: IPAddress(v4: mine), remotePort: 1, network: 0x20001,
                privilegedPorts: true) == nil)
    }
}

@Suite struct `socklnd output` {
    @Test(arguments: [UInt64(1), 2, 3, 4])
    func `what goes in comes out once and in order, however little is taken`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var output = SockLNDOutput()
        var expected: [UInt8] = []
        var taken: [UInt8] = []
        var sent = 0
        var completed = 0
        for index in 0..<400 {
            let payload = [UInt8](
                repeating: UInt8(truncatingIfNeeded: index),
                count: random.oneIn(8) ? 16_000 + random.below(1000) : random.below(300))
            expected += message(payload)
            sent += 1
            if random.oneIn(2) {
                let padded = [1, 2] + payload + [3]
                output.append(
                    header: header(UInt32(payload.count)), payload: padded,
                    range: 2..<(payload.count + 2))
            } else {
                RawSpan.over(payload) {
                    output.append(header: header(UInt32(payload.count)), payload: $0)
                }
            }
            var budget = random.below(3000)
            while !output.isEmpty {
                let (messages, all) = output.offer { span in
                    let count = min(budget, span.byteCount)
                    taken += span.copy(0..<count)
                    budget -= count
                    return count
                }
                completed += messages
                #expect(output.messageCount == sent - completed)
                if !all { break }
            }
        }
        while !output.isEmpty {
            completed +=
                output.offer {
                    taken += $0.copy(0..<$0.byteCount)
                    return $0.byteCount
                }.messages
        }
        #expect(taken == expected, "seed \(seed)")
        #expect(completed == sent && output.messageCount == 0)
    }
}
