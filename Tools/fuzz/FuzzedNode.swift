import LNDCore
import LNetCore
import Primitives
import WireFormat

/// A whole LNet node, whose peer says what the fuzzer made up. The shell is this struct: it takes
/// all output at once and keeps nothing.
struct FuzzedNode {
    private static let own = NID(address: 0x7F00_0101, type: .tcp)
    private static let peer = NID(address: 0x7F00_0102, type: .tcp)
    private static let ownLarge = NID(
        ip: IPAddress(high: 0x2001_0db8 << 32, low: 1), type: .tcp)
    private static let peerLarge = NID(
        ip: IPAddress(high: 0x2001_0db8 << 32, low: 2), type: .tcp)
    private static let ownRDMA = NID(address: 0x7F00_0101, type: .o2ib)
    private static let peerRDMA = NID(address: 0x7F00_0102, type: .o2ib)

    private var core: LNetCore
    /// Only where it is asked for: its buffers cost more than everything else.
    private var selftest: SelftestNode?
    private var now = Ticks(nanoseconds: 1_000_000)
    /// What registered memory is made of, and connections that the node asked for.
    private var nextSlot: UInt64 = 1
    private var asked: [UInt64] = []
    private var inputCount: Int
    /// What the node holds before anybody speaks.
    private var heldFirst = 0

    private init(_ inputCount: Int, flags: UInt8) {
        self.inputCount = inputCount
        var configuration = LNetConfiguration(
            nid: Self.own, incarnation: 1, acceptPort: 9880, seed: 1)
        configuration.otherNIDs = [
            Self.ownRDMA, NID(address: 0x7F00_0103, type: .tcp, number: 1), Self.ownLarge,
        ]
        configuration.discovery = flags & 4 != 0
        configuration.routing = flags & 8 != 0
        core = LNetCore(configuration)
        if flags & 32 != 0 { selftest = SelftestNode(&core) }
        _ = core.attach(
            portal: 3, matchBits: 1, ignoreBits: flags & 16 != 0 ? .max : 0,
            MemoryDescriptor(memory: .events(lengthMax: 5000), options: [.put, .truncate]),
            cookie: 1)
        _ = core.attach(
            portal: 4, matchBits: 1,
            MemoryDescriptor(
                memory: .buffer([UInt8](repeating: 1, count: 5000)),
                options: [.put, .get, .manageRemote, .truncate]), cookie: 2)
        core.setLazy(portal: 5, true)
        settle()
        heldFirst = core.measureHeldBytes()
    }

    /// The first byte: what the node is and who connects; the second: the size of the pieces.
    ///
    /// - Parameter isLarge: over IPv6, by protocol 4.
    static func overTCP(_ input: [UInt8], isLarge: Bool = false) {
        let (own, peer) = isLarge ? (ownLarge, peerLarge) : (Self.own, Self.peer)
        guard input.count >= 2 else { return }
        let flags = input[0]
        let piece = max(1, Int(input[1]) * 8)
        var node = FuzzedNode(input.count, flags: flags)
        let key: UInt64
        if flags & 1 != 0 {
            // The node connects, since it pings.
            _ = node.core.ping(peer, timeout: .seconds(1), now: node.now)
            node.settle()
            guard let first = node.asked.first else { return }
            key = first
            node.core.established(key, now: node.now)
        } else {
            key = node.core.accepted(
                remoteAddress: peer.ip, remotePort: 3000, on: own, now: node.now)
        }
        if flags & 2 != 0 {
            var writer = WireWriter()
            if flags & 1 == 0 { AcceptorRequest(nid: own).encode(into: &writer) }
            SockLNDHello(
                version: isLarge ? SockLNDHello.largeVersion : SockLNDHello.currentVersion,
                source: ProcessID(nid: peer), destination: own, incarnation: 5, type: .control
            ).encode(into: &writer)
            RawSpan.over(writer.bytes) { node.core.received(key, $0, now: node.now) }
        }
        node.settle()
        var start = 2
        while start < input.count {
            let end = min(input.count, start + piece)
            RawSpan.over(Array(input[start..<end])) {
                node.core.received(key, $0, now: node.now)
            }
            start = end
            node.settle()
        }
        node.finish()
    }

    /// The first byte: what the node is and how the peer asks; then messages, each behind its
    /// length in two bytes.
    static func overRDMA(_ input: [UInt8]) {
        guard input.count >= 2 else { return }
        let flags = input[0]
        var rest = input[1...]
        func message() -> [UInt8] {
            guard rest.count >= 2, let low = rest.popFirst(), let high = rest.popFirst() else {
                rest = []
                return []
            }
            let bytes = Array(rest.prefix(Int(low) | Int(high) << 8))
            rest = rest.dropFirst(bytes.count)
            return bytes
        }
        var node = FuzzedNode(input.count, flags: flags)
        var privateData = flags & 2 != 0 ? [] : message()
        if flags & 2 != 0 {
            var writer = WireWriter()
            O2IBLNDHeader(
                kind: .connectRequest, byteCount: 56, source: Self.peerRDMA, sourceStamp: 5,
                destination: Self.ownRDMA, destinationStamp: 0
            ).encode(into: &writer)
            O2IBLNDMessage.connectRequest(O2IBLNDParameters(queueDepth: 8)).encode(into: &writer)
            privateData = writer.bytes
        }
        let answer = RawSpan.over(privateData) {
            node.core.o2ibRequested(
                $0, remoteAddress: Self.peerRDMA.address, remotePort: 900, on: Self.ownRDMA,
                now: node.now)
        }
        guard case .accept(let key, _) = answer else { return }
        RawSpan.over([]) {
            node.core.o2ibEstablished(key, privateData: $0, remoteKey: 9, now: node.now)
        }
        node.settle()
        if flags & 1 != 0 {
            // A bulk message of the node's own: the peer may answer PUT_ACK.
            _ = node.core.put(
                to: node.core.peer(for: Self.peerRDMA), portal: 1, matchBits: 1,
                payload: [UInt8](repeating: 7, count: 9000), ackCookie: 4, now: node.now)
            node.settle()
        }
        while !rest.isEmpty {
            var bytes = message()
            if flags & 2 != 0, bytes.count >= O2IBLNDHeader.encodedSize,
                var header = try? RawSpan.over(bytes, { try O2IBLNDHeader(parsing: $0) })
            {
                // Names and stamps are the connection's, so that what follows is looked at.
                header.source = Self.peerRDMA
                header.sourceStamp = 5
                header.destination = Self.ownRDMA
                header.destinationStamp = node.core.configuration.incarnation
                var writer = WireWriter()
                header.encode(into: &writer)
                bytes.replaceSubrange(0..<O2IBLNDHeader.encodedSize, with: writer.bytes)
            }
            guard bytes.count <= O2IBLNDHeader.messageMax else { continue }
            RawSpan.over(bytes) { node.core.o2ibReceived(key, $0, now: node.now) }
            node.settle()
        }
        node.finish()
    }

    /// Lets time-outs come, and looks at what is held.
    private mutating func finish() {
        for _ in 0..<8 {
            guard let deadline = core.nextDeadline else { break }
            now = max(now, deadline) + .milliseconds(1)
            core.tick(now)
            selftest?.tick(&core, now: now)
            settle()
        }
        let held = core.measureHeldBytes()
        precondition(
            held <= heldFirst + 100_000 + 4 * inputCount, "\(held) bytes for \(inputCount)")
    }

    private mutating func settle() {
        for _ in 0..<200 {
            while let event = core.events.popFirst() {
                if case .pinged(let ping) = event { _ = core.pingInfo(ping) }
                selftest?.take(event, &core, now: now)
            }
            guard let action = core.actions.popFirst() else { return }
            switch action {
            case .flush(let key): core.withOutput(key) { $0.byteCount }
            case .connect(let key, _, _, _, _): asked.append(key)
            case .close, .pause, .resume, .listen, .unlisten: break
            case .o2ib(let action): carryOut(action)
            }
        }
    }

    private mutating func carryOut(_ action: O2IBAction) {
        switch action {
        case .flush(let key):
            var completed: [UInt64] = []
            _ = core.withO2IBWork(key) { work, _ in
                if case .message(work: let number, tells: true) = work { completed.append(number) }
                return true
            }
            for work in completed { core.o2ibCompleted(key, work: work, now: now) }
        case .reserve(let request, let byteCount, let isSource):
            precondition(byteCount <= LNetHeader.payloadMax, "more than a message can have")
            let slot = BulkSlot(
                id: nextSlot, address: 0x10_0000 * nextSlot, byteCount: UInt32(byteCount),
                isSource: isSource)
            nextSlot += 1
            core.bulkGranted(request, slot, now: now) { _ in }
        case .collect(let request, let slot, let byteCount):
            precondition(byteCount <= Int(slot.byteCount), "more than was reserved")
            RawSpan.over([UInt8](repeating: 3, count: byteCount)) {
                core.bulkCollected(request, $0, now: now)
            }
        case .store(let slot, let offset, let bytes):
            precondition(offset + bytes.count <= Int(slot.byteCount), "beyond the slot")
        case .connect, .close, .release:
            break
        }
    }
}
