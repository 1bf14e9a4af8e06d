internal import EventLoop
internal import Glibc
internal import Primitives
package import TCPTransport

/// What a node's connections carry, in a file that Wireshark opens (pcap with nanoseconds).
///
/// The bytes are those that the node gave to its sockets or queue pairs, and got from them; frames
/// of Ethernet, IPv4 and TCP, or RoCEv2, are made up around them (``PacketFrame``). Belongs to the
/// loop's thread. Nothing is dropped: a burst is held until the turn of the loop ends, and then
/// written at once. When the file takes no more, it is cut after the last whole frame and the
/// capture ends; the node goes on.
package final class PacketCapture {
    /// One end of a TCP connection, or of a queue pair.
    private struct Flow {
        var local: Endpoint
        var peer: Endpoint
        /// The next sequence number of each direction: bytes of TCP, packets of RDMA.
        var sent: UInt32 = 0
        var received: UInt32 = 0
        /// This node asked for it.
        var isOurs = false

        /// What each side says before its first message: an acceptor request and a hello, or a hello.
        func greetingSize(isOurs: Bool) -> Int { isOurs == self.isOurs ? 72 : 56 }
    }

    private let path: String
    private let ended: @Sendable (String) -> Void
    private var descriptor: Int32
    private var connections: [UInt64: Flow] = [:]
    private var pairs: [UInt64: Flow] = [:]
    private var frames = PacketFrame()
    private var fileBytes = 0
    /// Held bytes beyond which a turn's frames are written before its end.
    private static let heldMax = 1 << 20

    /// Makes the file, or empties the one that is there.
    ///
    /// - Parameter ended: called with one sentence when the capture ends before the node does.
    package init(
        path: String, ended: @escaping @Sendable (String) -> Void
    ) throws(RuntimeError) {
        self.path = path
        self.ended = ended
        // Payloads are users' data: for nobody else's eyes.
        descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0o600)
        guard descriptor >= 0 else {
            throw .capture(path, reason: FabricError.text(forErrno: errno))
        }
        var status = stat()
        // SAFETY: the struct outlives the call.
        let isFile =
            unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        guard isFile, ftruncate(descriptor, 0) == 0 else {
            close(descriptor)
            descriptor = -1
            throw .capture(path, reason: "it is no regular file")
        }
        frames.beginFile()
        flush()
    }

    deinit {
        if descriptor >= 0 {
            flush()
            close(descriptor)
        }
    }

    // MARK: TCP

    /// A connection stands; `isOurs` where this node asked for it.
    package func opened(_ word: UInt64, local: Endpoint, peer: Endpoint, isOurs: Bool) {
        guard descriptor >= 0 else { return }
        var flow = Flow(local: local, peer: peer, isOurs: isOurs)
        segment(&flow, isOurs: isOurs, .synchronize)
        segment(&flow, isOurs: !isOurs, [.synchronize, .acknowledge])
        segment(&flow, isOurs: isOurs, .acknowledge)
        connections[word] = flow
    }

    package func sent(_ word: UInt64, _ bytes: RawSpan) { stream(word, bytes, isOurs: true) }
    package func received(_ word: UInt64, _ bytes: RawSpan) { stream(word, bytes, isOurs: false) }

    private func stream(_ word: UInt64, _ bytes: RawSpan, isOurs: Bool) {
        guard var flow = connections[word], bytes.byteCount > 0, descriptor >= 0 else { return }
        var start = 0
        while start < bytes.byteCount {
            // Messages begin in a segment of their own: dissectors know nothing of what stands before.
            let place = Int(isOurs ? flow.sent : flow.received) - 1
            let left = flow.greetingSize(isOurs: isOurs) - place
            let count = left > 0 ? left : PacketFrame.segmentMax
            let end = min(bytes.byteCount, start + count)
            segment(&flow, isOurs: isOurs, [.acknowledge, .push], bytes.extracting(start..<end))
            start = end
        }
        connections[word] = flow
        if frames.bytes.count > Self.heldMax { flush() }
    }

    /// A connection is over: by whom, and whether with a reset.
    package func closed(_ word: UInt64, byUs: Bool, isReset: Bool) {
        guard var flow = connections.removeValue(forKey: word) else { return }
        segment(&flow, isOurs: byUs, isReset ? [.reset, .acknowledge] : [.finish, .acknowledge])
    }

    private func segment(
        _ flow: inout Flow, isOurs: Bool, _ flags: PacketFrame.Flags, _ payload: RawSpan? = nil
    ) {
        frames.segment(
            from: isOurs ? flow.local : flow.peer, to: isOurs ? flow.peer : flow.local,
            sequence: isOurs ? flow.sent : flow.received,
            acknowledged: isOurs ? flow.received : flow.sent, flags, payload,
            at: Host.realtimeNanoseconds)
        var count = UInt32(payload?.byteCount ?? 0)
        if !flags.isDisjoint(with: [.synchronize, .finish]) { count += 1 }
        if isOurs { flow.sent &+= count } else { flow.received &+= count }
    }

    // MARK: RDMA

    /// A queue pair is being connected. Its number in the frames is made up.
    package func openedPair(_ word: UInt64, local: UInt32, peer: UInt32) {
        guard descriptor >= 0 else { return }
        pairs[word] = Flow(
            local: Endpoint(address: IPAddress(v4: local), port: 0),
            peer: Endpoint(address: IPAddress(v4: peer), port: 0))
    }

    /// A message was posted, or came.
    package func message(_ word: UInt64, _ bytes: RawSpan, isOurs: Bool) {
        guard var flow = pairs[word], descriptor >= 0 else { return }
        frames.message(
            from: isOurs ? flow.local.address.v4 : flow.peer.address.v4,
            to: isOurs ? flow.peer.address.v4 : flow.local.address.v4,
            pair: Self.pairNumber(word, isOurs: isOurs),
            sequence: isOurs ? flow.sent : flow.received, bytes, at: Host.realtimeNanoseconds)
        if isOurs { flow.sent &+= 1 } else { flow.received &+= 1 }
        pairs[word] = flow
        if frames.bytes.count > Self.heldMax { flush() }
    }

    /// A write to the peer's memory was posted. Only this end sees it; its data is left out.
    package func wrote(_ word: UInt64, byteCount: Int, to address: UInt64, key: UInt32) {
        guard var flow = pairs[word], descriptor >= 0 else { return }
        let packets = frames.write(
            from: flow.local.address.v4, to: flow.peer.address.v4,
            pair: Self.pairNumber(word, isOurs: true), sequence: flow.sent, byteCount: byteCount,
            address: address, key: key, at: Host.realtimeNanoseconds)
        flow.sent &+= UInt32(packets)
        pairs[word] = flow
    }

    package func closedPair(_ word: UInt64) { pairs[word] = nil }

    /// Two numbers of 24 bits, beyond those with a meaning of their own (0 and 1).
    private static func pairNumber(_ word: UInt64, isOurs: Bool) -> UInt32 {
        (UInt32(truncatingIfNeeded: word) << 1 | (isOurs ? 1 : 0)) &+ 16 & 0xff_ffff
    }

    // MARK: The file

    /// The node has closed its sockets. Connections end in the order in which they began.
    package func end() {
        for word in connections.keys.sorted() { closed(word, byUs: true, isReset: false) }
        pairs = [:]
        flush()
    }

    /// Writes what is held.
    package func flush() {
        guard descriptor >= 0, !frames.bytes.isEmpty else { return }
        let failure = unsafe frames.bytes.withUnsafeBytes { raw -> Int32 in
            var done = 0
            while done < raw.count {
                // SAFETY: `done` stays within the buffer, which outlives the call.
                let count = unsafe write(descriptor, raw.baseAddress! + done, raw.count - done)
                if count > 0 {
                    done += count
                } else if count == 0 || errno != EINTR {
                    return count == 0 ? ENOSPC : errno
                }
            }
            return 0
        }
        if failure == 0 {
            fileBytes += frames.bytes.count
            frames.bytes.removeAll(keepingCapacity: frames.bytes.count <= 2 * Self.heldMax)
            return
        }
        // What a reader finds are whole frames.
        _ = ftruncate(descriptor, fileBytes)
        close(descriptor)
        descriptor = -1
        frames.bytes = []
        connections = [:]
        pairs = [:]
        ended("\(path): the capture has ended: \(FabricError.text(forErrno: failure))")
    }
}
