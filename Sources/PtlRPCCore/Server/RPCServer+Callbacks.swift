public import LNetCore
public import Primitives
public import WireFormat

/// A request of the server to a client, until it is answered.
struct Callback: Sendable {
    /// Nil for a push, which has no export and whose end nobody hears of.
    var export: UInt32?
    var nid: NID
    var body: RequestBody
    var cookie: UInt64
    var xid: XID
    var sendCount = 0
    /// Timers whose turn has passed.
    var attempts = 0
}

extension RPCServer {
    /// Sends a request to a client's portal 15. `callbackReply` follows: with the answer, or with
    /// a failure after the resends (`timedOut`; `notConnected` where no connection came).
    ///
    /// Without a connection the callback waits, as long as it lives, for the client's return.
    public mutating func callback(
        _ export: UInt32, _ body: RequestBody, cookie: UInt64, lnet: inout LNetCore, now: Ticks
    ) {
        self.now = now
        guard exports.contains(export) else {
            events.append(
                .callbackReply(
                    cookie: cookie, export: export, status: .notConnected, body: .empty))
            return
        }
        guard exports[export].callbacks.count < configuration.callbackCountMax else {
            events.append(
                .callbackReply(cookie: cookie, export: export, status: .busy, body: .empty))
            return
        }
        let slot = insertCallback(
            Callback(
                export: export, nid: exports[export].nid, body: body, cookie: cookie, xid: .zero))
        exports[export].callbacks.append(slot)
        counters.callbacks += 1
        sendCallback(slot, lnet: &lnet)
    }

    /// Sends a request to a node that has no export: `targetUp` to the NIDs of the record. It is
    /// sent a few times until it is answered, and forgotten.
    public mutating func push(
        to nid: NID, _ body: RequestBody, lnet: inout LNetCore, now: Ticks
    ) {
        self.now = now
        let slot = insertCallback(
            Callback(export: nil, nid: nid, body: body, cookie: 0, xid: .zero))
        counters.pushes += 1
        sendCallback(slot, lnet: &lnet)
    }

    /// The XID holds the callback's place, so that the answer finds it; the sequence makes it new.
    private mutating func insertCallback(_ callback: Callback) -> SlotHandle {
        let slot = callbacks.insert(callback)
        callbackSequence &+= 1
        let xid = XID(rawValue: callbackSequence << 24 | UInt64(slot.index & 0xFF_FFFF))
        callbacks.update(slot) { $0.xid = xid }
        callbackTimers.insert(slot, at: now + configuration.callbackTimeout)
        return slot
    }

    private mutating func sendCallback(_ slot: SlotHandle, lnet: inout LNetCore) {
        guard let callback = callbacks[slot] else { return }
        var header = PtlRPCBody()
        header.lastCommitted = lastCommitted
        header.timeoutSeconds = UInt32(
            clamping: configuration.callbackTimeout.nanoseconds / 1_000_000_000)
        if callback.sendCount > 0 {
            header.flags = .resent
            counters.callbacksResent += 1
        }
        var peer: PeerRef?
        var version = configuration.versions.lowerBound
        if let index = callback.export {
            guard let known = exports[index].peer else { return }
            peer = known
            version = exports[index].version
            header.handle = exports[index].clientHandle
            header.connectionCount = exports[index].connectionCount
        }
        callbacks.update(slot) { $0.sendCount += 1 }
        writer.removeAll()
        callback.body.encode(header: header, version: version, into: &writer)
        let now = now
        RawSpan.over(writer.bytes) { bytes in
            if let peer {
                _ = lnet.put(
                    to: peer, portal: ServicePortal.lockCallbackRequest,
                    matchBits: callback.xid.rawValue, payload: bytes, now: now)
            } else {
                _ = lnet.put(
                    to: callback.nid, portal: ServicePortal.lockCallbackRequest,
                    matchBits: callback.xid.rawValue, payload: bytes, now: now)
            }
        }
    }

    /// The client is back: what it may have missed goes out at once.
    mutating func resendCallbacks(of index: UInt32, lnet: inout LNetCore) {
        for slot in exports[index].callbacks { sendCallback(slot, lnet: &lnet) }
    }

    mutating func callbackTimedOut(_ slot: SlotHandle, lnet: inout LNetCore) {
        let attempts = callbacks.update(slot) { callback -> Int in
            callback.attempts += 1
            return callback.attempts
        }
        guard let attempts else { return }
        guard attempts <= configuration.callbackResendCount else {
            let isReachable = callbacks[slot]?.export.map { exports[$0].peer != nil } ?? false
            counters.callbacksFailed += 1
            endCallback(slot, isReachable ? .timedOut : .notConnected, .empty)
            return
        }
        callbackTimers.insert(slot, at: now + configuration.callbackTimeout)
        sendCallback(slot, lnet: &lnet)
    }

    mutating func receiveCallbackReply(_ put: LNetEvent.Put, lnet: inout LNetCore) {
        guard let slot = callbacks.handle(at: Int(put.matchBits & 0xFF_FFFF)),
            let callback = callbacks[slot], callback.xid.rawValue == put.matchBits,
            callback.nid == put.initiator.nid
        else {
            counters.obsolete += 1
            return
        }
        let version =
            callback.export.map { exports[$0].version } ?? configuration.versions.lowerBound
        let opcode = callback.body.opcode
        let answer = lnet.withPayload(put.payload) { bytes -> (Status, ReplyBody)? in
            guard let message = try? LustreMessage(parsing: bytes),
                var reader = try? message.reader(0, in: bytes),
                let header = try? PtlRPCBody(from: &reader), header.type != .request,
                let body = try? ReplyBody(
                    opcode: opcode, status: header.status, message: message, bytes: bytes,
                    version: version)
            else { return nil }
            return (header.status, body)
        }
        guard let (status, body) = answer else {
            counters.malformed += 1
            return
        }
        if let index = callback.export { exports[index].peer = put.peer }
        endCallback(slot, status, body)
    }

    mutating func endCallback(_ slot: SlotHandle, _ status: Status, _ body: ReplyBody) {
        guard let callback = callbacks.remove(slot), let index = callback.export else { return }
        events.append(
            .callbackReply(cookie: callback.cookie, export: index, status: status, body: body))
        guard exports.contains(index),
            let place = exports[index].callbacks.firstIndex(of: slot)
        else { return }
        exports[index].callbacks.remove(at: place)
    }
}
