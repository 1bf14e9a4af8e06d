public import WireFormat

/// One TCP connection's conversation as socklnd holds it: protocol 3 with small NIDs, 4 with large
/// ones; 2 is understood.
///
/// ```
/// active:  connecting --established--> helloReply --hello--> header <--> payload
/// passive: acceptor --request--> helloRequest --hello--> judged --accept--> header <--> payload
///                                                          \--refuse--> closing
/// ```
///
/// Bytes go in by `next`, at any split; what the peer shall read collects in `output`. Nothing a
/// peer sends traps. No memory is held beside the struct while nothing is under way.
public struct SockLNDConnection: Sendable {
    enum Phase: UInt8, Sendable, BitwiseCopyable {
        /// Active: the socket is not connected yet.
        case connecting
        /// Passive: the acceptor request is awaited.
        case acceptor
        /// Passive: the peer's hello is awaited.
        case helloRequest
        /// Passive: the hello is with the node, which answers `accept` or `refuse`.
        case judged
        /// Active: the answer to our hello is awaited.
        case helloReply
        /// Open: between two messages.
        case header
        /// Open: within a payload.
        case payload
        /// Refused or broken: input is ignored, output may still be on its way.
        case closing
    }

    /// What the next bytes meant.
    public enum Step: Sendable {
        /// All bytes are consumed.
        case needMore
        /// Passive: the peer says hello. Answer with `accept` or `refuse` before going on.
        case hello(SockLNDHello)
        /// Active: the peer accepted; its incarnation.
        case opened(incarnation: UInt64)
        /// An LNet message begins; `payloadLength` bytes follow as `.payload` steps.
        case message(LNetHeader)
        /// Bytes of the payload at this place of the input; `isLast` with the final ones.
        case payload(Range<Int>, isLast: Bool)
        /// The conversation is over. If `output` is not empty it is sent before the socket closes.
        case fault(SockLNDFault)
    }

    public let identity: SockLNDIdentity
    /// From our viewpoint; passive: known from the hello on.
    public private(set) var type: SockLNDConnectionType
    /// The NID we connect to; passive: who the peer counts as, from `accept` on.
    public private(set) var peer: NID
    public var output = SockLNDOutput()

    private var phase: Phase
    private var version: UInt32 {
        didSet { output.hasLargeHeaders = version == SockLNDHello.largeVersion }
    }
    private var partialCount: UInt8 = 0
    private var partial = InlineArray<120, UInt8>(repeating: 0)
    /// Bytes of the payload, or of the addresses behind a hello, that are still to come.
    private var remaining = 0
    /// The hello whose addresses are being skipped.
    private var hello: SockLNDHello?
    /// The zero-copy request of the message being received; 0 for none.
    private var zeroCopyRequest: UInt64 = 0
    private var expectedChecksum: UInt32 = 0
    private var checksum = SockLNDChecksum()

    /// The side that connects.
    public init(activeTo peer: NID, type: SockLNDConnectionType, identity: SockLNDIdentity) {
        precondition(type != .none && type != .any, "only typed connections are opened")
        self.identity = identity
        self.type = type
        self.peer = peer
        version = Self.version(of: identity)
        output.hasLargeHeaders = identity.process.nid.isLarge
        phase = .connecting
    }

    /// The side that was connected to.
    public init(passive identity: SockLNDIdentity) {
        self.identity = identity
        type = .none
        peer = .any
        version = Self.version(of: identity)
        phase = .acceptor
    }

    /// What we begin with: protocol 3 over IPv4, 4 over IPv6.
    private static func version(of identity: SockLNDIdentity) -> UInt32 {
        identity.process.nid.isLarge ? SockLNDHello.largeVersion : SockLNDHello.currentVersion
    }

    /// Messages can be sent and received.
    public var isOpen: Bool { phase == .header || phase == .payload }
    /// Part of a message or of the handshake is there, the rest is awaited.
    public var isMidMessage: Bool { phase == .payload || (phase == .header && partialCount > 0) }
    public var isClosing: Bool { phase == .closing }

    // MARK: What we say

    /// Active: the socket is connected. Acceptor request and hello go out back to back.
    public mutating func established() {
        guard phase == .connecting else { return }
        var writer = WireWriter(
            capacity: AcceptorRequest.largeEncodedSize + SockLNDHello.largeEncodedSize)
        AcceptorRequest(nid: peer).encode(into: &writer)
        SockLNDHello(
            version: version, source: identity.process, destination: peer,
            incarnation: identity.incarnation,
            type: type
        ).encode(into: &writer)
        output.append(writer.bytes)
        phase = .helloReply
    }

    /// Passive: takes the peer in as `process`.
    public mutating func accept(_ hello: SockLNDHello, as process: NID) {
        precondition(phase == .judged, "only a hello just received is accepted")
        peer = process
        type = hello.type.inverted
        answer(hello.source.nid, type)
        phase = .header
    }

    /// Passive: answers NONE. Nothing more is read; close when the output is sent.
    public mutating func refuse(_ hello: SockLNDHello) {
        precondition(phase == .judged, "only a hello just received is refused")
        answer(hello.source.nid, .none)
        phase = .closing
    }

    private mutating func answer(_ destination: NID, _ type: SockLNDConnectionType) {
        var writer = WireWriter(capacity: SockLNDHello.largeEncodedSize)
        SockLNDHello(
            version: version, source: identity.process, destination: destination,
            incarnation: identity.incarnation, type: type
        ).encode(into: &writer)
        output.append(writer.bytes)
    }

    /// Queues a NOOP that says "alive". Only protocol 3 has it.
    public mutating func keepalive() {
        guard isOpen, version >= 3 else { return }
        noop(acknowledging: SockLNDMessageHeader.keepaliveCookie)
    }

    private mutating func noop(acknowledging cookie: UInt64) {
        var writer = WireWriter(capacity: SockLNDMessageHeader.encodedSize)
        SockLNDMessageHeader(kind: .noop, zeroCopyAck: cookie).encode(into: &writer)
        output.append(writer.bytes)
    }

    // MARK: What we hear

    /// Consumes bytes from `offset` on up to the next thing worth telling.
    public mutating func next(_ bytes: RawSpan, at offset: inout Int) -> Step {
        switch phase {
        case .header: nextHeader(bytes, at: &offset)
        case .payload: nextPayload(bytes, at: &offset)
        case .acceptor: nextAcceptor(bytes, at: &offset)
        case .helloRequest, .helloReply: nextHello(bytes, at: &offset)
        case .connecting, .judged, .closing: drop(bytes, at: &offset)
        }
    }

    private func drop(_ bytes: RawSpan, at offset: inout Int) -> Step {
        offset = bytes.byteCount
        return .needMore
    }

    private mutating func fault(_ fault: SockLNDFault) -> Step {
        phase = .closing
        return .fault(fault)
    }

    private mutating func nextPayload(_ bytes: RawSpan, at offset: inout Int) -> Step {
        let count = min(remaining, bytes.byteCount - offset)
        guard count > 0 else { return .needMore }
        let range = offset..<(offset + count)
        offset += count
        remaining -= count
        if expectedChecksum != 0 { checksum.combine(bytes, range) }
        if remaining > 0 { return .payload(range, isLast: false) }
        phase = .header
        if expectedChecksum != 0, checksum.value != expectedChecksum { return fault(.badChecksum) }
        acknowledgeZeroCopy()
        return .payload(range, isLast: true)
    }

    /// The place of the payload of the message that has just begun, if all of it stands in the input
    /// from `offset` on: as `next` would tell it with one last `.payload`. Nil otherwise, and then
    /// nothing is consumed.
    public mutating func wholePayload(_ bytes: RawSpan, at offset: inout Int) -> Range<Int>? {
        guard phase == .payload, expectedChecksum == 0, bytes.byteCount - offset >= remaining
        else { return nil }
        let range = offset..<(offset + remaining)
        offset = range.upperBound
        remaining = 0
        phase = .header
        acknowledgeZeroCopy()
        return range
    }

    /// The peer keeps the payload's pages until we say that we have it all.
    private mutating func acknowledgeZeroCopy() {
        guard zeroCopyRequest != 0 else { return }
        noop(acknowledging: zeroCopyRequest)
        zeroCopyRequest = 0
    }

    private mutating func nextHeader(_ bytes: RawSpan, at offset: inout Int) -> Step {
        let size = output.frameSize
        while true {
            if partialCount == 0, bytes.byteCount - offset >= size {
                // The common case: the whole header stands in the input.
                let frame = bytes.extracting(offset..<(offset + size))
                guard let framing = try? SockLNDMessageHeader(parsing: frame) else {
                    return fault(.badMessageKind)
                }
                if framing.kind == .lnet {
                    offset += size
                    return begin(framing, frame)
                }
                offset += 24
                guard isLegal(framing) else { return fault(.unknownZeroCopyAck) }
                continue
            }
            guard gather(24, bytes, &offset) else { return .needMore }
            let whole = partial
            let span = whole.span
            // SAFETY: UInt8 has no padding; the span borrows the local copy.
            let frame = unsafe span.bytes
            guard let framing = try? SockLNDMessageHeader(parsing: frame) else {
                return fault(.badMessageKind)
            }
            if framing.kind == .noop {
                partialCount = 0
                guard isLegal(framing) else { return fault(.unknownZeroCopyAck) }
                continue
            }
            guard gather(size, bytes, &offset) else { return .needMore }
            partialCount = 0
            let complete = partial
            let completeSpan = complete.span
            // SAFETY: as above.
            return begin(framing, unsafe completeSpan.bytes.extracting(0..<size))
        }
    }

    private mutating func begin(_ framing: SockLNDMessageHeader, _ frame: RawSpan) -> Step {
        guard framing.zeroCopyAck == 0 else { return fault(.unknownZeroCopyAck) }
        guard let header = try? Self.header(frame.extracting(24..<frame.byteCount)) else {
            return fault(.badHeader)
        }
        zeroCopyRequest = framing.zeroCopyRequest
        expectedChecksum = framing.checksum
        if expectedChecksum != 0 {
            checksum = SockLNDChecksum()
            checksum.combine(frame, 0..<4)
            for _ in 0..<4 { checksum.combine(0) }
            checksum.combine(frame, 8..<frame.byteCount)
        }
        remaining = Int(header.payloadLength)
        if remaining > 0 {
            phase = .payload
        } else {
            if expectedChecksum != 0, checksum.value != expectedChecksum {
                return fault(.badChecksum)
            }
            acknowledgeZeroCopy()
        }
        return .message(header)
    }

    private static func header(_ bytes: RawSpan) throws(WireError) -> LNetHeader {
        bytes.byteCount == LNetHeader.encodedSize
            ? try LNetHeader(parsing: bytes) : try LNetHeader(parsingLarge: bytes)
    }

    /// A NOOP may say "alive". We never ask for acknowledgements, so there are none to get.
    private func isLegal(_ noop: SockLNDMessageHeader) -> Bool {
        noop.zeroCopyRequest == 0
            && (noop.zeroCopyAck == SockLNDMessageHeader.keepaliveCookie || noop.zeroCopyAck == 0)
    }

    private mutating func nextAcceptor(_ bytes: RawSpan, at offset: inout Int) -> Step {
        var need = 4
        while true {
            guard gather(need, bytes, &offset) else { return .needMore }
            let whole = partial
            let span = whole.span
            do throws(WireError) {
                // SAFETY: UInt8 has no padding; the span borrows the local copy.
                let request = try unsafe AcceptorRequest(
                    parsing: span.bytes.extracting(0..<Int(partialCount)))
                partialCount = 0
                guard request.nid == identity.process.nid else { return fault(.wrongNID) }
                phase = .helloRequest
                return nextHello(bytes, at: &offset)
            } catch {
                switch error {
                case .truncated(let more, _):
                    let isLarge = more == AcceptorRequest.largeEncodedSize
                    if more > 8, isLarge != identity.process.nid.isLarge {
                        refuseAcceptor()
                        return fault(.badVersion)
                    }
                    need = more
                case .badMagic(let magic):
                    if magic == AcceptorRequest.protocolMagic { refuseAcceptor() }
                    return fault(.badMagic)
                case .badVersion:
                    refuseAcceptor()
                    return fault(.badVersion)
                case .badLength, .badValue, .reservedBitsSet, .unexpected:
                    return fault(.badMagic)
                }
            }
        }
    }

    /// `lnet_accept` answers what it does not understand with its own magic and version, nid 0.
    private mutating func refuseAcceptor() {
        var writer = WireWriter(capacity: AcceptorRequest.encodedSize)
        AcceptorRequest(nid: NID(rawValue: 0)).encode(into: &writer)
        output.append(writer.bytes)
    }

    private mutating func nextHello(_ bytes: RawSpan, at offset: inout Int) -> Step {
        if let hello { return skipAddresses(hello, bytes, at: &offset) }
        var need = max(4, Int(partialCount))
        while true {
            guard gather(need, bytes, &offset) else { return .needMore }
            let whole = partial
            let span = whole.span
            do throws(WireError) {
                // SAFETY: UInt8 has no padding; the span borrows the local copy.
                let hello = try unsafe SockLNDHello(
                    parsing: span.bytes.extracting(0..<Int(partialCount)))
                partialCount = 0
                remaining = 4 * Int(hello.addressCount)
                self.hello = hello
                return skipAddresses(hello, bytes, at: &offset)
            } catch {
                switch error {
                case .truncated(let more, _):
                    let isLarge = more == SockLNDHello.largeEncodedSize
                    if more > 8, isLarge != identity.process.nid.isLarge {
                        return refuseVersion()
                    }
                    need = more
                case .badMagic:
                    return fault(.badMagic)
                case .badVersion:
                    return refuseVersion()
                case .badLength, .badValue, .reservedBitsSet, .unexpected:
                    return fault(.badHello)
                }
            }
        }
    }

    /// The passive side says which version it would like (`ksocknal_recv_hello`): 3 for a small NID of
    /// ours, 4 for a large one.
    private mutating func refuseVersion() -> Step {
        if phase == .helloRequest { answer(NID(rawValue: 0), .none) }
        return fault(.badVersion)
    }

    private mutating func skipAddresses(
        _ hello: SockLNDHello, _ bytes: RawSpan, at offset: inout Int
    ) -> Step {
        let count = min(remaining, bytes.byteCount - offset)
        offset += count
        remaining -= count
        guard remaining == 0 else { return .needMore }
        self.hello = nil
        if phase == .helloRequest {
            guard hello.source.nid != .any, hello.type != .none, hello.type != .any else {
                return fault(.badHello)
            }
            version = hello.version
            phase = .judged
            return .hello(hello)
        }
        guard hello.type != .none else { return fault(.refused) }
        guard hello.version == version, hello.source.nid == peer,
            hello.source.pid == ProcessID.lustrePID, hello.type.inverted == type
        else { return fault(.wrongPeer) }
        phase = .header
        return .opened(incarnation: hello.sourceIncarnation)
    }

    /// Collects input until `need` bytes of the message stand in `partial`.
    private mutating func gather(_ need: Int, _ bytes: RawSpan, _ offset: inout Int) -> Bool {
        let count = min(need - Int(partialCount), bytes.byteCount - offset)
        guard count > 0 else { return Int(partialCount) >= need }
        for index in 0..<count {
            // SAFETY: `count` is bounded by what stands in `bytes` from `offset` on.
            partial[Int(partialCount) + index] = unsafe bytes.unsafeLoad(
                fromByteOffset: offset + index, as: UInt8.self)
        }
        offset += count
        partialCount += UInt8(count)
        return Int(partialCount) >= need
    }
}
