import LNetCore
import Primitives
import WireFormat

/// How long service takes, and who has been silent for too long.
extension RPCServer {
    /// Where the real reply stands to a request that takes early ones: behind a container and a
    /// header (`lustre_msg_early_size`).
    static var earlyReplySize: UInt32 {
        UInt32(LustreMessage.headerSize(bufferCount: 1) + PtlRPCBody.encodedSize)
    }

    /// Requests under way are looked at this often; only what takes longer can need an early reply.
    static var earlyCheckInterval: TickInterval { .seconds(1) }

    /// A new sample of how long service takes, and what the reply says of it. What was sent again,
    /// waited for others in a recovery, or was refused is no measure.
    mutating func noteService(
        _ request: PendingRequest, _ type: MessageType, _ header: inout PtlRPCBody
    ) {
        guard let adaptive = configuration.adaptive else { return }
        let elapsed = now - request.arrivedAt
        header.serviceSeconds = elapsed.secondsRoundedUp
        let isOrdinary =
            type == .reply && exports[request.export].recovery == .none
            && request.flags.isDisjoint(with: [.resent, .replay, .requestReplayDone])
        if isOrdinary { serviceEstimate.add(elapsed, at: now, history: adaptive.history) }
        let estimate = min(
            max(
                serviceEstimate.current(at: now, history: adaptive.history), adaptive.estimateMin),
            adaptive.estimateMax)
        header.timeoutSeconds = estimate.secondsRoundedUp
    }

    /// Tells clients whose requests near their deadline that they are being worked on.
    mutating func sendEarlyReplies(lnet: inout LNetCore) {
        earlyCheckAt = nil
        guard let adaptive = configuration.adaptive else { return }
        var isAnyLeft = false
        for slot in requests.handles {
            guard let request = requests[slot], request.takesEarly, request.batch == nil,
                request.deadline != .distantFuture
            else { continue }
            // Bytes that do not come would be waited for without end: the client asks again.
            switch request.state {
            case .connecting, .fetching, .putting: continue
            case .queued, .executing, .batched: break
            }
            // Past it the client has given up; it will send again.
            guard request.deadline > now else { continue }
            isAnyLeft = true
            guard request.deadline <= now + adaptive.earlyMargin + Self.earlyCheckInterval else {
                continue
            }
            putOff(slot, request, adaptive, lnet: &lnet)
        }
        if isAnyLeft { earlyCheckAt = now + Self.earlyCheckInterval }
    }

    private mutating func putOff(
        _ slot: SlotHandle, _ request: PendingRequest, _ adaptive: AdaptiveTimeouts,
        lnet: inout LNetCore
    ) {
        guard let peer = exports[request.export].peer else { return }
        let elapsed = now - request.arrivedAt
        let isRecovery = !request.flags.isDisjoint(
            with: [.replay, .requestReplayDone, .lockReplayDone])
        let extra =
            isRecovery
            ? min(
                .seconds(30),
                TickInterval(nanoseconds: configuration.recoveryWindow.nanoseconds / 4))
            : adaptive.earlyExtra
        let time = elapsed + max(extra, adaptive.earlyMargin + Self.earlyCheckInterval * 2)
        // At at_max nothing more can be asked for: the client's time-out decides.
        guard isRecovery || time <= adaptive.estimateMax,
            request.arrivedAt + time > request.deadline
        else { return }
        if !isRecovery { serviceEstimate.add(time, at: now, history: adaptive.history) }
        requests.update(slot) { $0.deadline = $0.arrivedAt + time }
        var header = PtlRPCBody()
        header.handle = exports.handle(request.export)
        header.type = .reply
        header.opcode = request.opcode
        header.tag = request.tag
        header.lastCommitted = lastCommitted
        header.connectionCount = exports[request.export].connectionCount
        header.matchBits = request.matchBits
        header.timeoutSeconds = time.secondsRoundedUp
        writer.removeAll()
        var message = LustreMessageEncoder(
            bufferCount: 1, checksum: header.checksum, flags: LustreMessage.adaptiveTimeouts,
            into: &writer)
        message.buffer(into: &writer) { header.encode(into: &$0) }
        counters.earlyReplies += 1
        transmit(to: peer, request.replyPortal, request.xid, offset: 0, lnet: &lnet)
    }

    /// Evicts who has said nothing for long, if others have: where nobody is heard it is the
    /// network, or this server, that was away.
    mutating func evictSilent(lnet: inout LNetCore) {
        guard let silence = configuration.silenceMax else { return }
        silenceCheckAt = now + TickInterval(nanoseconds: max(1, silence.nanoseconds / 4))
        guard stage == .serving, !toleratesSilence else { return }
        var silent: [UInt32] = []
        var isAnyHeard = false
        for index in 0..<UInt32(exports.placeCount) where exports.contains(index) {
            guard !exports[index].isObserver, !exports[index].isAbsent else { continue }
            if exports[index].lastHeard + silence <= now {
                silent.append(index)
            } else {
                isAnyHeard = true
            }
        }
        guard isAnyHeard else { return }
        for index in silent {
            evict(
                index,
                .silent(seconds: (now - exports[index].lastHeard).nanoseconds / 1_000_000_000))
        }
    }
}
