import Primitives
public import WireFormat

/// One RC queue pair's conversation as o2iblnd holds it (version 0x12).
///
/// ```
/// active:  asking --CONNACK--> open          source             sink
/// passive: (accepted) -------> open            PUT_REQ  ------->  received
///                               |              acknowledged <---  PUT_ACK   granted
///                            closing           WRITE, PUT_DONE >  done
///
///          initiator            target
///            GET_REQ ------->   requested
///            done    <-------   WRITE, GET_DONE
/// ```
///
/// Messages go in by `receive`, one completion each; what is to be posted comes out by `offer`.
/// Nothing a peer sends traps. Bulk never passes through here: it goes by RDMA WRITE between
/// registered memory of both ends, of which this value knows only the addresses.
public struct O2IBLNDConnection: Sendable {
    enum Phase: UInt8, Sendable, BitwiseCopyable {
        /// Active: CONNACK is awaited.
        case asking
        case open
        /// Broken or closed: input is ignored, nothing more goes out.
        case closing
    }

    /// What a message meant.
    public enum Step: Sendable {
        /// Nothing to tell: a NOOP.
        case nothing
        /// An LNet message; its payload is at this place of the input.
        case message(LNetHeader, payload: Range<Int>)
        /// The peer offers a bulk payload. Answer with `grant` or `refuse`.
        case putOffered(LNetHeader, transfer: UInt64)
        /// The sink refused what `offerPut` offered, or took nothing of it (status 0).
        case putRefused(user: UInt64, status: Int32)
        /// The sink takes `byteCount` bytes. Answer with `serve` or `abandon`.
        case putAcknowledged(user: UInt64, transfer: UInt64, byteCount: Int)
        /// The payload of `grant` is there (its length), or is not (a negative errno).
        case putDone(user: UInt64, status: Int32)
        /// The peer asks for up to `byteCount` bytes. Answer with `serve` or `abandon`.
        case getAsked(LNetHeader, transfer: UInt64, byteCount: Int)
        /// The answer to `askGet`: its length, or a negative errno.
        case getDone(user: UInt64, status: Int32)
        /// The conversation is over.
        case fault(O2IBLNDFault)
    }

    /// What a completion meant.
    public enum Completion: Sendable, Equatable {
        case nothing
        /// The memory given to `serve` is no longer read.
        case served(user: UInt64)
    }

    public let identity: O2IBLNDIdentity
    public let peer: NID
    public private(set) var peerIncarnation: UInt64
    /// Agreed; what was asked for until then.
    public private(set) var parameters: O2IBLNDParameters
    var phase: Phase

    /// Messages that we may send and the peer has a buffer for.
    public private(set) var sendCredits: Int
    /// Answers that we may yet provoke: PUT_REQ and GET_REQ take one each.
    public private(set) var reservedCredits: Int
    /// Buffers posted again since we last said so.
    public private(set) var returnableCredits = 0
    /// Messages that the peer may send before we give something back.
    private var peerCredits: Int
    private var noopsPosted = 0
    private var wantsNoop = false

    /// Messages that cost a credit, those that cost none, and those that need a reserved one, too.
    var paid = O2IBLNDFrames()
    var free = O2IBLNDFrames()
    var reserved = O2IBLNDFrames()
    var transfers = SlotTable<O2IBLNDTransfer>()

    /// NOOPs under way at once, at most (IBLND_OOB_MSGS).
    static let noopsMax = 2
    static let noopWork = UInt64.max
    /// EPROTO, ENODATA: as a DONE or NAK carries them.
    public static let protocolStatus: Int32 = -71
    public static let noDataStatus: Int32 = -61

    /// The side that connects. `peerIncarnation` is what is known of the peer, or 0.
    public init(
        activeTo peer: NID, peerIncarnation: UInt64, identity: O2IBLNDIdentity,
        parameters: O2IBLNDParameters
    ) {
        precondition(parameters.queueDepth > 0, "without credits nothing could be sent")
        self.identity = identity
        self.peer = peer
        self.peerIncarnation = peerIncarnation
        self.parameters = parameters
        phase = .asking
        sendCredits = 0
        reservedCredits = 0
        peerCredits = 0
    }

    /// The side that accepted `request`.
    public init(accepting request: O2IBLNDRequest, identity: O2IBLNDIdentity) {
        precondition(request.parameters.queueDepth > 0, "checked when the request was read")
        self.identity = identity
        peer = request.source
        peerIncarnation = request.incarnation
        parameters = request.parameters
        phase = .open
        sendCredits = Int(request.parameters.queueDepth)
        reservedCredits = sendCredits
        peerCredits = sendCredits
    }

    public var isOpen: Bool { phase == .open }
    /// Something waits for credits, room or its turn.
    public var hasOutput: Bool { !paid.isEmpty || !free.isEmpty || !reserved.isEmpty }
    /// Something could be posted now, as far as credits go.
    public var wantsToPost: Bool {
        guard phase == .open else { return false }
        if !free.isEmpty || (sendCredits > 0 && !paid.isEmpty) { return true }
        if sendCredits > 0, reservedCredits > 0, !reserved.isEmpty { return true }
        return (wantsNoop || returnableCredits >= highWater) && noopsPosted < Self.noopsMax
    }
    /// Bulk payloads under way.
    public var transferCount: Int { transfers.count }
    /// Bytes of memory behind its queues.
    public var heldBytes: Int { paid.memory + free.memory + reserved.memory }
    private var queueDepth: Int { Int(parameters.queueDepth) }
    /// Give back what is not given back otherwise from here on: half the queue (the default of
    /// `peercredits_hiw`).
    private var highWater: Int { max(1, queueDepth / 2) }

    // MARK: Connecting

    /// The private data of our request: a CONNREQ.
    public func request() -> [UInt8] {
        handshake(.connectRequest(parameters), stamp: peerIncarnation)
    }

    /// The private data of our acceptance: a CONNACK.
    public func acknowledgement() -> [UInt8] {
        handshake(.connectAck(parameters), stamp: peerIncarnation)
    }

    private func handshake(_ message: O2IBLNDMessage, stamp: UInt64) -> [UInt8] {
        var writer = WireWriter(capacity: 56)
        header(message.kind, byteCount: 56, stamp: stamp).encode(into: &writer)
        message.encode(into: &writer)
        return writer.bytes
    }

    private func header(
        _ kind: O2IBLNDHeader.Kind, byteCount: Int, stamp: UInt64
    ) -> O2IBLNDHeader {
        O2IBLNDHeader(
            kind: kind, byteCount: UInt32(byteCount), source: identity.nid,
            sourceStamp: identity.incarnation, destination: peer, destinationStamp: stamp)
    }

    /// Active: the peer accepted, with this private data. Nil when all is well.
    public mutating func acknowledged(_ privateData: RawSpan) -> O2IBLNDFault? {
        guard phase == .asking else { return nil }
        phase = .closing
        guard let header = try? O2IBLNDHeader(parsing: privateData),
            let message = try? O2IBLNDMessage(parsing: privateData, header: header),
            case .connectAck(let agreed) = message
        else { return .badConnectAck }
        guard header.source == peer, header.destination == identity.nid,
            header.destinationStamp == identity.incarnation,
            peerIncarnation == 0 || header.sourceStamp == peerIncarnation,
            agreed.queueDepth > 0, agreed.queueDepth <= parameters.queueDepth,
            agreed.maxFragments > 0, agreed.maxFragments <= parameters.maxFragments,
            agreed.maxMessageBytes <= parameters.maxMessageBytes, agreed.maxMessageBytes >= 256
        else { return .badConnectAck }
        peerIncarnation = header.sourceStamp
        parameters = agreed
        sendCredits = queueDepth
        reservedCredits = queueDepth
        peerCredits = queueDepth
        phase = .open
        return nil
    }

    /// Ends the conversation: nothing goes out any more.
    public mutating func close() { phase = .closing }

    // MARK: What we send

    /// The longest payload that goes as one message.
    public var immediateMax: Int {
        min(Int(parameters.maxMessageBytes), O2IBLNDHeader.messageMax)
            - O2IBLNDHeader.immediateOffset
    }

    /// Queues an LNet message with a payload of at most `immediateMax` bytes, copied.
    public mutating func sendImmediate(_ lnet: LNetHeader, _ payload: RawSpan) {
        precondition(payload.byteCount <= immediateMax, "a longer payload goes by RDMA")
        let size = O2IBLNDHeader.immediateOffset + payload.byteCount
        let words = header(.immediate, byteCount: size, stamp: peerIncarnation).words
        let body = lnet.words
        paid.append(O2IBLNDFrames.Entry(byteCount: 0, isMessage: true)) { bytes in
            var frame = InlineArray<15, UInt64>(repeating: 0)
            for index in 0..<6 { frame[index] = words[index].littleEndian }
            for index in 0..<9 { frame[index + 6] = body[index].littleEndian }
            let span = frame.span
            // SAFETY: words have no padding, and the bytes are copied while the local lives.
            unsafe span.bytes.withUnsafeBytes { raw in
                unsafe bytes.append(contentsOf: raw)
            }
            unsafe payload.withUnsafeBytes { raw in
                // SAFETY: `raw` views `payload` for the call.
                unsafe bytes.append(contentsOf: raw)
            }
        }
    }

    /// Offers the peer a payload of `lnet.payloadLength` bytes. `putAcknowledged` or `putRefused`
    /// follows with `user`.
    public mutating func offerPut(_ lnet: LNetHeader, user: UInt64) {
        let transfer = transfers.insert(
            O2IBLNDTransfer(
                phase: .offered, user: user, byteCount: Int(lnet.payloadLength), isPut: true))
        queueReserved(.putRequest(lnet, cookie: transfer.rawValue))
    }

    /// Asks the peer for up to `byteCount` bytes, to be written to our memory at `address`.
    /// `getDone` follows with `user`.
    public mutating func askGet(
        _ lnet: LNetHeader, address: UInt64, key: UInt32, byteCount: Int, user: UInt64
    ) {
        let transfer = transfers.insert(
            O2IBLNDTransfer(phase: .asked, user: user, byteCount: byteCount, isPut: false))
        queueReserved(
            .getRequest(
                lnet, cookie: transfer.rawValue,
                O2IBLNDDescriptor(
                    key: key,
                    fragments: [.init(byteCount: UInt32(byteCount), address: address)])))
    }

    /// Sink: the peer may write `byteCount` bytes to our memory at `address`; `putDone` follows
    /// with `user`. False where the transfer is gone.
    @discardableResult
    public mutating func grant(
        _ transfer: UInt64, address: UInt64, key: UInt32, byteCount: Int, user: UInt64
    ) -> Bool {
        precondition(byteCount > 0, "what wants nothing is refused with status 0")
        let handle = SlotHandle(rawValue: transfer)
        let cookie = transfers.update(handle) { transfer -> UInt64? in
            guard transfer.phase == .received else { return nil }
            transfer.phase = .granted
            transfer.user = user
            transfer.byteCount = byteCount
            return transfer.peerCookie
        }
        guard let cookie = cookie ?? nil else { return false }
        queueFree(
            .putAck(
                sourceCookie: cookie, sinkCookie: transfer,
                O2IBLNDDescriptor(
                    key: key,
                    fragments: [.init(byteCount: UInt32(byteCount), address: address)])))
        return true
    }

    /// Sink: the peer's offer comes to nothing, for a negative errno, or for want of any room (0).
    public mutating func refuse(_ transfer: UInt64, status: Int32) {
        let handle = SlotHandle(rawValue: transfer)
        guard transfers[handle]?.phase == .received, let removed = transfers.remove(handle) else {
            return
        }
        giveBack()
        queueFree(.putNak(cookie: removed.peerCookie, status: status))
    }

    /// Source of a PUT that was acknowledged, or target of a GET: writes `byteCount` bytes from our
    /// memory at `address` to where the peer wants them, then says that it is done. `served`
    /// follows with `user`. False where the transfer is gone, or the peer's memory is too small:
    /// then it is told so.
    public mutating func serve(
        _ transfer: UInt64, from address: UInt64, byteCount: Int, user: UInt64
    ) -> Bool {
        let handle = SlotHandle(rawValue: transfer)
        guard let current = transfers[handle],
            current.phase == .acknowledged || current.phase == .requested
        else { return false }
        guard byteCount <= current.descriptor.totalBytes else {
            abandon(transfer, status: Self.protocolStatus)
            return false
        }
        transfers.update(handle) {
            $0.phase = .writing
            $0.user = user
            $0.local = address
            $0.remaining = byteCount
        }
        queueDone(current, handle, status: Int32(byteCount), tells: true)
        return true
    }

    /// Source of a PUT that was acknowledged, or target of a GET: it comes to nothing.
    public mutating func abandon(_ transfer: UInt64, status: Int32) {
        let handle = SlotHandle(rawValue: transfer)
        guard let current = transfers[handle],
            current.phase == .acknowledged || current.phase == .requested
        else { return }
        transfers.remove(handle)
        queueDone(current, handle, status: status, tells: false)
    }

    private mutating func queueDone(
        _ transfer: O2IBLNDTransfer, _ handle: SlotHandle, status: Int32, tells: Bool
    ) {
        let message: O2IBLNDMessage =
            transfer.isPut
            ? .putDone(cookie: transfer.peerCookie, status: status)
            : .getDone(cookie: transfer.peerCookie, status: status)
        queueFree(
            message, work: tells ? handle.rawValue : 0, tells: tells,
            transfer: tells ? handle.rawValue : 0)
    }

    /// A NOOP that says "alive". At most two are under way.
    public mutating func keepalive() { wantsNoop = true }

    private mutating func queueFree(
        _ message: O2IBLNDMessage, work: UInt64 = 0, tells: Bool = false, transfer: UInt64 = 0
    ) {
        let entry = O2IBLNDFrames.Entry(
            byteCount: 0, work: work, tells: tells, transfer: transfer)
        let bytes = encoded(message)
        free.append(entry) { $0.append(contentsOf: bytes) }
    }

    private mutating func queueReserved(_ message: O2IBLNDMessage) {
        let bytes = encoded(message)
        reserved.append(O2IBLNDFrames.Entry(byteCount: 0)) { $0.append(contentsOf: bytes) }
    }

    private func encoded(_ message: O2IBLNDMessage) -> [UInt8] {
        let size = message.encodedSize
        var writer = WireWriter(capacity: size)
        header(message.kind, byteCount: size, stamp: peerIncarnation).encode(into: &writer)
        message.encode(into: &writer)
        return writer.bytes
    }

    // MARK: What is posted

    /// Offers what may be posted now, one piece of work after another, until `post` says that it
    /// has no room or nothing is left that credits allow. Returns how many immediate messages went
    /// out, and whether `post` took everything it was offered.
    public mutating func offer(
        _ post: (O2IBLNDWork, RawSpan) -> Bool
    ) -> (messages: Int, tookAll: Bool) {
        guard phase == .open else { return (0, true) }
        var messages = 0
        while reservedCredits > 0, !reserved.isEmpty {
            reservedCredits -= 1
            reserved.moveFirst(to: &paid)
        }
        while let entry = free.first {
            guard offerWrites(entry.transfer, post), Self.post(&free, credits, post) else {
                return (messages, false)
            }
            postedMessage()
        }
        while sendCredits > 0, let entry = paid.first {
            guard Self.post(&paid, credits, post) else { return (messages, false) }
            sendCredits -= 1
            if entry.isMessage { messages += 1 }
            postedMessage()
        }
        // What is left in the queue has no credit to go with: nothing else carries these.
        if wantsNoop || returnableCredits >= highWater, noopsPosted < Self.noopsMax {
            let entry = O2IBLNDFrames.Entry(byteCount: 0, work: Self.noopWork, tells: true)
            let bytes = encoded(.noop)
            free.append(entry) { $0.append(contentsOf: bytes) }
            wantsNoop = false
            noopsPosted += 1
            guard Self.post(&free, credits, post) else { return (messages, false) }
            postedMessage()
        }
        return (messages, true)
    }

    /// What the next message gives back.
    private var credits: UInt8 { UInt8(clamping: returnableCredits) }

    private mutating func postedMessage() {
        let given = Int(credits)
        returnableCredits -= given
        peerCredits += given
    }

    private static func post(
        _ frames: inout O2IBLNDFrames, _ credits: UInt8, _ post: (O2IBLNDWork, RawSpan) -> Bool
    ) -> Bool {
        guard let entry = frames.first else { return true }
        frames.patchFirst(credits, at: O2IBLNDHeader.creditsOffset)
        let range = frames.firstRange
        let isPosted = RawSpan.over(frames.bytes) {
            post(.message(work: entry.work, tells: entry.tells), $0.extracting(range))
        }
        if isPosted { frames.removeFirst() }
        return isPosted
    }

    /// The writes that go before a DONE.
    private mutating func offerWrites(
        _ transfer: UInt64, _ post: (O2IBLNDWork, RawSpan) -> Bool
    ) -> Bool {
        let handle = SlotHandle(rawValue: transfer)
        guard transfer != 0, var current = transfers[handle] else { return true }
        var tookAll = true
        while current.remaining > 0 {
            let fragment = current.descriptor.fragments[current.fragment]
            let count = min(
                current.remaining, Int(fragment.byteCount) - current.fragmentOffset)
            let work = O2IBLNDWork.write(
                from: current.local, byteCount: UInt32(count),
                to: fragment.address + UInt64(current.fragmentOffset),
                key: current.descriptor.key)
            guard RawSpan.over([], { post(work, $0) }) else {
                tookAll = false
                break
            }
            current.local += UInt64(count)
            current.remaining -= count
            current.fragmentOffset += count
            if current.fragmentOffset == Int(fragment.byteCount) {
                current.fragment += 1
                current.fragmentOffset = 0
            }
        }
        transfers.update(handle) { $0 = current }
        return tookAll
    }

    /// Work posted with `tells` is done.
    public mutating func completed(_ work: UInt64) -> Completion {
        if work == Self.noopWork {
            noopsPosted = max(0, noopsPosted - 1)
            return .nothing
        }
        let handle = SlotHandle(rawValue: work)
        guard transfers[handle]?.phase == .writing, let removed = transfers.remove(handle) else {
            return .nothing
        }
        return .served(user: removed.user)
    }

    // MARK: Credits

    /// A buffer that cost the peer a credit is posted again.
    mutating func giveBack() { returnableCredits += 1 }
    mutating func returnReserved() { reservedCredits = min(queueDepth, reservedCredits + 1) }

    /// Takes the credits that a message gives back. False: more than were spent.
    mutating func takeCredits(_ count: UInt8) -> Bool {
        guard sendCredits + Int(count) <= queueDepth else { return false }
        sendCredits += Int(count)
        return true
    }

    /// Charges a message that costs the peer a credit. False: it has none.
    mutating func spendPeerCredit() -> Bool {
        guard peerCredits > 0 else { return false }
        peerCredits -= 1
        return true
    }
}
