import LNDCore
import Primitives
import TestSupport
import Testing
import WireFormat

let o2ibActive = O2IBLNDIdentity(nid: NID(address: 0x0A4D_0001, type: .o2ib), incarnation: 111)
let o2ibPassive = O2IBLNDIdentity(nid: NID(address: 0x0A4D_0002, type: .o2ib), incarnation: 222)

func o2ibHeader(
    _ length: Int, from: O2IBLNDIdentity = o2ibActive, to: O2IBLNDIdentity = o2ibPassive
) -> LNetHeader {
    LNetHeader(
        destination: ProcessID(nid: to.nid), source: ProcessID(nid: from.nid),
        payloadLength: UInt32(length),
        body: .put(ack: .none, matchBits: 1, hdrData: 2, portal: 3, offset: 4))
}

func o2ibGet(_ length: Int) -> LNetHeader {
    LNetHeader(
        destination: ProcessID(nid: o2ibPassive.nid), source: ProcessID(nid: o2ibActive.nid),
        payloadLength: 0,
        body: .get(
            returnTo: .none, matchBits: 1, portal: 2, offset: 0, sinkLength: UInt32(length)))
}

/// Two ends of one queue pair without a device: writes and messages arrive at once, in order.
struct O2IBPair {
    enum Event: Equatable {
        case message(UInt32, [UInt8])
        case putOffered(UInt64)
        case putRefused(UInt64, Int32)
        case putAcknowledged(UInt64, UInt64, Int)
        case putDone(UInt64, Int32)
        case getAsked(UInt64, Int)
        case getDone(UInt64, Int32)
        case served(UInt64)
        case fault(O2IBLNDFault)
    }

    var ends: [O2IBLNDConnection]
    var events: [[Event]] = [[], []]
    /// Every write: from end, local address, byte count, remote address, key.
    var writes: [(Int, UInt64, UInt32, UInt64, UInt32)] = []
    var messages: [[[UInt8]]] = [[], []]
    /// How many pieces of work an end may post per turn.
    var room = Int.max

    init(depth: UInt16 = 8, frags: UInt16 = 257) throws {
        let parameters = O2IBLNDParameters(queueDepth: depth, maxFragments: frags)
        var active = O2IBLNDConnection(
            activeTo: o2ibPassive.nid, peerIncarnation: 0, identity: o2ibActive,
            parameters: parameters)
        let verdict = RawSpan.over(active.request()) {
            O2IBLNDVerdict.read($0, to: o2ibPassive, limits: O2IBLNDParameters(queueDepth: 255))
        }
        guard case .accept(let request) = verdict else {
            Issue.record("\(verdict)")
            throw WireError.unexpected(message: "\(verdict)")
        }
        let passive = O2IBLNDConnection(accepting: request, identity: o2ibPassive)
        let fault = RawSpan.over(passive.acknowledgement() + [UInt8](repeating: 0, count: 140)) {
            active.acknowledged($0)
        }
        #expect(fault == nil)
        ends = [active, passive]
    }

    /// One end posts what it may, the other hears it. Returns whether anything moved.
    mutating func turn(_ end: Int) -> Bool {
        var frames: [[UInt8]] = []
        var done: [UInt64] = []
        var left = room
        var writes = writes
        _ = ends[end].offer { work, bytes in
            guard left > 0 else { return false }
            left -= 1
            switch work {
            case .write(let from, let byteCount, let to, let key):
                writes.append((end, from, byteCount, to, key))
            case .message(let work, let tells):
                frames.append(bytes.copy(0..<bytes.byteCount))
                if tells { done.append(work) }
            }
            return true
        }
        self.writes = writes
        messages[end] += frames
        for work in done {
            if case .served(let user) = ends[end].completed(work) {
                events[end].append(.served(user))
            }
        }
        for frame in frames { hear(frame, at: 1 - end) }
        return !frames.isEmpty || left != room
    }

    mutating func hear(_ frame: [UInt8], at end: Int) {
        let step = RawSpan.over(frame) { ends[end].receive($0) }
        switch step {
        case .nothing: break
        case .message(let header, let range):
            events[end].append(.message(header.payloadLength, Array(frame[range])))
        case .putOffered(_, let transfer): events[end].append(.putOffered(transfer))
        case .putRefused(let user, let status): events[end].append(.putRefused(user, status))
        case .putAcknowledged(let user, let transfer, let count):
            events[end].append(.putAcknowledged(user, transfer, count))
        case .putDone(let user, let status): events[end].append(.putDone(user, status))
        case .getAsked(_, let transfer, let count): events[end].append(.getAsked(transfer, count))
        case .getDone(let user, let status): events[end].append(.getDone(user, status))
        case .fault(let fault): events[end].append(.fault(fault))
        }
    }

    mutating func settle() {
        for _ in 0..<10_000 {
            let moved = turn(0)
            if !turn(1), !moved { return }
        }
        Issue.record("never settles")
    }

    mutating func serve(
        _ end: Int, _ transfer: UInt64, from: UInt64, byteCount: Int, user: UInt64
    ) {
        let isServed = ends[end].serve(transfer, from: from, byteCount: byteCount, user: user)
        #expect(isServed)
    }

    mutating func send(_ end: Int, _ payload: [UInt8]) {
        RawSpan.over(payload) {
            ends[end].sendImmediate(
                end == 0
                    ? o2ibHeader(payload.count)
                    : o2ibHeader(payload.count, from: o2ibPassive, to: o2ibActive), $0)
        }
    }
}

@Suite struct `o2iblnd conversation` {
    @Test func `messages arrive whole and in order, however many`() throws {
        var pair = try O2IBPair()
        for index in 0..<1000 {
            pair.send(0, [UInt8](repeating: UInt8(index & 255), count: index * 3 % 3977))
            pair.send(1, [UInt8(index & 255)])
        }
        pair.settle()
        #expect(pair.events[1].count == 1000)
        for (index, event) in pair.events[1].enumerated() {
            let count = index * 3 % 3977
            #expect(
                event
                    == .message(
                        UInt32(count), [UInt8](repeating: UInt8(index & 255), count: count)))
        }
        #expect(pair.events[0].count == 1000)
        #expect(pair.ends.allSatisfy { $0.isOpen && !$0.hasOutput })
    }

    @Test(arguments: [1, 2, 3, 8, 255] as [UInt16])
    func `credits are never exceeded, never lost, and a one-sided flow goes on by NOOPs`(
        depth: UInt16
    ) throws {
        var pair = try O2IBPair(depth: depth)
        for _ in 0..<600 { pair.send(0, [1, 2, 3]) }
        // Without an answer only the queue depth goes out.
        _ = pair.turn(0)
        #expect(pair.messages[0].count == Int(depth))
        #expect(pair.ends[0].sendCredits == 0)
        pair.settle()
        #expect(pair.events[1].count == 600)
        let noops = pair.messages[1].filter { $0[6] == O2IBLNDHeader.Kind.noop.rawValue }
        #expect(!noops.isEmpty)
        let given = pair.messages[1].reduce(0) { $0 + Int($1[7]) }
        #expect(
            given + pair.ends[1].returnableCredits == 600, "every buffer is posted again, once")
        #expect(pair.ends[0].sendCredits + pair.ends[1].returnableCredits == Int(depth))
    }

    @Test func `a bulk PUT: offered, acknowledged, written, done`() throws {
        var pair = try O2IBPair()
        pair.ends[0].offerPut(o2ibHeader(70_000), user: 77)
        pair.settle()
        guard case .putOffered(let offered) = pair.events[1].last else {
            Issue.record("\(pair.events)")
            return
        }
        // The sink takes less than there is.
        pair.ends[1].grant(offered, address: 0x10_000, key: 9, byteCount: 60_000, user: 88)
        pair.settle()
        guard case .putAcknowledged(77, let transfer, 60_000) = pair.events[0].last else {
            Issue.record("\(pair.events)")
            return
        }
        pair.serve(0, transfer, from: 0x5000, byteCount: 60_000, user: 77)
        pair.settle()
        #expect(pair.writes.count == 1)
        #expect(pair.writes[0] == (0, 0x5000, 60_000, 0x10_000, 9))
        #expect(pair.events[0].last == .served(77))
        #expect(pair.events[1].last == .putDone(88, 60_000))
        #expect(pair.ends.allSatisfy { $0.transferCount == 0 && $0.reservedCredits == 8 })
        #expect(pair.ends[0].sendCredits + pair.ends[1].returnableCredits == 8)
    }

    @Test func `an offer that nothing wants is refused, and costs no memory`() throws {
        var pair = try O2IBPair()
        pair.ends[0].offerPut(o2ibHeader(9000), user: 5)
        pair.settle()
        guard case .putOffered(let offered) = pair.events[1].last else {
            Issue.record("\(pair.events)")
            return
        }
        pair.ends[1].refuse(offered, status: 0)
        pair.settle()
        #expect(pair.events[0].last == .putRefused(5, 0))
        #expect(pair.ends.allSatisfy { $0.transferCount == 0 && $0.reservedCredits == 8 })
        #expect(pair.ends[0].sendCredits + pair.ends[1].returnableCredits == 8)
    }

    @Test func `a bulk GET is written to where it asked, and answered without a header`() throws {
        var pair = try O2IBPair()
        pair.ends[0].askGet(
            o2ibGet(1 << 20), address: 0x90_000, key: 3, byteCount: 1 << 20, user: 1)
        pair.ends[0].askGet(o2ibGet(8192), address: 0x1000, key: 3, byteCount: 8192, user: 2)
        pair.settle()
        #expect(pair.events[1].count == 2)
        guard case .getAsked(let first, 1_048_576) = pair.events[1][0],
            case .getAsked(let second, 8192) = pair.events[1][1]
        else {
            Issue.record("\(pair.events)")
            return
        }
        pair.serve(1, first, from: 0xA000, byteCount: 500, user: 11)
        pair.ends[1].abandon(second, status: O2IBLNDConnection.noDataStatus)
        pair.settle()
        #expect(pair.events[0] == [.getDone(1, 500), .getDone(2, -61)])
        #expect(pair.writes.map(\.2) == [500])
        #expect(pair.ends[0].reservedCredits == 8)
    }

    @Test func `answers that will come are reserved for: offers wait, messages overtake`() throws {
        var pair = try O2IBPair(depth: 2)
        for user in 0..<5 { pair.ends[0].offerPut(o2ibHeader(5000), user: UInt64(user)) }
        pair.settle()
        #expect(pair.events[1].count == 2)
        #expect(pair.ends[0].reservedCredits == 0)
        while let offered = pair.events[1].lazy.compactMap({ event -> UInt64? in
            if case .putOffered(let transfer) = event { transfer } else { nil }
        }).first {
            pair.events[1].removeAll { $0 == .putOffered(offered) }
            pair.ends[1].refuse(offered, status: 0)
            pair.settle()
        }
        #expect(pair.events[0].count == 5)
        #expect(pair.ends[0].reservedCredits == 2)
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `a queue pair with little room gets everything, a piece at a time`(seed: UInt64) throws {
        var pair = try O2IBPair()
        var random = SplitMix64(seed: seed)
        pair.room = 1
        for index in 0..<200 {
            if random.oneIn(3) {
                pair.ends[0].offerPut(o2ibHeader(5000), user: UInt64(index))
            } else {
                pair.send(0, [UInt8(index)])
            }
        }
        var served = 0
        for _ in 0..<5000 {
            _ = pair.turn(0)
            _ = pair.turn(1)
            for event in pair.events[1] {
                if case .putOffered(let transfer) = event {
                    pair.ends[1].grant(
                        transfer, address: 0x1000, key: 1, byteCount: 5000, user: 1)
                }
            }
            for event in pair.events[0] {
                if case .putAcknowledged(let user, let transfer, let count) = event {
                    pair.serve(0, transfer, from: 0, byteCount: count, user: user)
                }
                if case .served = event { served += 1 }
            }
            pair.events[0].removeAll()
            pair.events[1].removeAll()
        }
        #expect(served == pair.writes.count, "seed \(seed)")
        #expect(pair.ends.allSatisfy { $0.transferCount == 0 && !$0.hasOutput }, "seed \(seed)")
    }

    @Test func `a write is cut along the fragments of its sink`() throws {
        var pair = try O2IBPair()
        pair.ends[0].offerPut(o2ibHeader(10_000), user: 1)
        _ = pair.turn(0)
        guard case .putOffered = pair.events[1].last else {
            Issue.record("\(pair.events)")
            return
        }
        let cookie = RawSpan.over(pair.messages[0][0]) { $0.littleEndian(at: 120, as: UInt64.self) }
        var writer = WireWriter()
        let ack = O2IBLNDMessage.putAck(
            sourceCookie: cookie, sinkCookie: 4,
            O2IBLNDDescriptor(
                key: 6,
                fragments: [
                    .init(byteCount: 4096, address: 0x1000),
                    .init(byteCount: 1, address: 0x9000),
                    .init(byteCount: 3000, address: 0x20_000),
                ]))
        O2IBLNDHeader(
            kind: .putAck, byteCount: UInt32(ack.encodedSize), source: o2ibPassive.nid,
            sourceStamp: 222, destination: o2ibActive.nid, destinationStamp: 111
        ).encode(into: &writer)
        ack.encode(into: &writer)
        pair.hear(writer.bytes, at: 0)
        guard case .putAcknowledged(1, let transfer, 7097) = pair.events[0].last else {
            Issue.record("\(pair.events)")
            return
        }
        pair.serve(0, transfer, from: 0x8000, byteCount: 7097, user: 1)
        _ = pair.turn(0)
        #expect(pair.writes.map(\.1) == [0x8000, 0x9000, 0x9001])
        #expect(pair.writes.map(\.2) == [4096, 1, 3000])
        #expect(pair.writes.map(\.3) == [0x1000, 0x9000, 0x20_000])
    }
}
