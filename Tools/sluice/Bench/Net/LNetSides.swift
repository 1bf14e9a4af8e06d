import EventLoop
import LNetCore
import NodeRuntime
import Primitives
import WireFormat

/// The side that measures, over LNet: sends PUTs that are answered, or GETs.
final class LNetAsker: LNetUser, @unchecked Sendable {
    // Belongs to the thread that runs the station, and is read by others after that has ended.
    private let kind: NetBenchKind
    private let server: NID
    private let duration: TickInterval
    private var peer: PeerRef?
    private var payload = [UInt8](repeating: 0x5a, count: NetBenchSize.put)
    private var handles: [GetHandle?] = []
    private var sentAt: [Ticks] = []
    private var asked = 0
    private var answered = 0
    private var usageBefore = Usage()
    private var endsAt = Ticks.distantFuture

    private(set) var recorder: Recorder
    private(set) var began = Ticks.zero
    private(set) var ended = Ticks.zero
    /// Of operations that were counted.
    private(set) var usage = Usage()
    private(set) var failure: String?
    private(set) var isDone = false

    init(_ kind: NetBenchKind, to server: NID, for duration: TickInterval, keepsRaw: Bool) {
        self.kind = kind
        self.server = server
        self.duration = duration
        recorder = Recorder(keepsRaw: keepsRaw)
    }

    var counted: Int { max(0, answered - NetBenchSize.skipped) }

    func began(_ lnet: inout LNetCore, now: Ticks) {
        let peer = lnet.peer(for: server)
        self.peer = peer
        if kind == .put {
            _ = lnet.attach(
                portal: NetBenchSize.portal, matchBits: 0, ignoreBits: .max,
                MemoryDescriptor(memory: .events(), options: [.put]), cookie: 1)
            sentAt = [now]
            put(&lnet, now)
        } else if kind == .bulk {
            payload = [UInt8](repeating: 0x5a, count: NetBenchSize.get)
            sentAt = Array(repeating: now, count: NetBenchSize.depth(.bulk))
            for place in 0..<NetBenchSize.depth(.bulk) { putBulk(place, &lnet, now) }
        } else {
            let sink = [UInt8](repeating: 0, count: NetBenchSize.get)
            let depth = NetBenchSize.depth(.get)
            sentAt = Array(repeating: now, count: depth)
            handles = Array(repeating: nil, count: depth)
            for place in 0..<depth { get(place, sink, &lnet, now) }
        }
    }

    private func put(_ lnet: inout LNetCore, _ now: Ticks) {
        guard let peer else { return }
        sentAt[0] = now
        lnet.put(
            to: peer, portal: NetBenchSize.portal, matchBits: 0, payload: payload, now: now)
    }

    private func putBulk(_ place: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        guard let peer else { return }
        sentAt[place] = now
        lnet.put(
            to: peer, portal: NetBenchSize.portal, matchBits: NetBenchSize.bulkBits,
            payload: payload, ackCookie: UInt64(place), now: now)
    }

    private func get(_ place: Int, _ sink: consuming [UInt8], _ lnet: inout LNetCore, _ now: Ticks)
    {
        guard let peer else { return }
        sentAt[place] = now
        handles[place] = lnet.get(
            from: peer, portal: NetBenchSize.portal, matchBits: NetBenchSize.getBits,
            length: NetBenchSize.get, into: .buffer(sink), cookie: UInt64(place), now: now)
    }

    func heard(_ event: LNetEvent, _ lnet: inout LNetCore, now: Ticks) {
        guard !isDone else { return }
        switch event {
        case .put:
            let now = Host.monotonicNow
            // One way: half of there and back.
            note(TickInterval(nanoseconds: (now - sentAt[0]).nanoseconds / 2), now)
            if !isDone { put(&lnet, Host.monotonicNow) }
        case .reply(let reply):
            let place = Int(reply.cookie)
            let now = Host.monotonicNow
            note(now - sentAt[place], now)
            guard !isDone, let handle = handles[place], let sink = lnet.takeBuffer(handle) else {
                return
            }
            get(place, sink, &lnet, Host.monotonicNow)
        case .sendFailed(_, let errno), .peerDown(_, let errno), .putFailed(_, _, let errno, _):
            failure = FabricError.text(forErrno: errno)
            isDone = true
        case .ack(let cookie, let length):
            guard length == NetBenchSize.get else {
                failure = "took \(length) bytes of \(NetBenchSize.get)"
                isDone = true
                return
            }
            let now = Host.monotonicNow
            note(now - sentAt[Int(cookie)], now)
            if !isDone { putBulk(Int(cookie), &lnet, Host.monotonicNow) }
        case .get, .peerUp, .pinged, .discovered:
            break
        }
    }

    private func note(_ interval: TickInterval, _ now: Ticks) {
        answered += 1
        if answered == NetBenchSize.skipped {
            usageBefore = .ofThread()
            began = now
            endsAt = now + duration
        } else if answered > NetBenchSize.skipped {
            recorder.record(interval)
            if now >= endsAt {
                ended = now
                usage = .ofThread() - usageBefore
                isDone = true
            }
        }
    }
}

/// The side that answers, over LNet.
final class LNetAnswerer: LNetUser, @unchecked Sendable {
    // Belongs to the thread that runs the station, and is read by others after that has ended.
    private let payload = [UInt8](repeating: 0xa5, count: NetBenchSize.put)
    private var answered = 0
    private var usageBefore = Usage()
    private(set) var usage = Usage()
    private(set) var isDone = false

    func began(_ lnet: inout LNetCore, now: Ticks) {
        _ = lnet.attach(
            portal: NetBenchSize.portal, matchBits: 0,
            MemoryDescriptor(memory: .events(), options: [.put]), cookie: 1)
        let source = [UInt8](repeating: 0xa5, count: NetBenchSize.get)
        _ = lnet.attach(
            portal: NetBenchSize.portal, matchBits: NetBenchSize.getBits,
            MemoryDescriptor(memory: .buffer(source), options: [.get, .manageRemote]), cookie: 2)
        let sink = [UInt8](repeating: 0, count: NetBenchSize.get)
        _ = lnet.attach(
            portal: NetBenchSize.portal, matchBits: NetBenchSize.bulkBits,
            MemoryDescriptor(memory: .buffer(sink), options: [.put, .manageRemote]), cookie: 3)
    }

    func heard(_ event: LNetEvent, _ lnet: inout LNetCore, now: Ticks) {
        switch event {
        case .put(let put):
            note()
            // A bulk PUT has its ACK.
            guard put.matchBits == 0 else { return }
            lnet.put(
                to: put.peer, portal: NetBenchSize.portal, matchBits: 0, payload: payload,
                now: now)
        case .get:
            note()
        case .peerDown:
            usage = .ofThread() - usageBefore
            isDone = true
        case .putFailed, .ack, .reply, .sendFailed, .peerUp, .pinged, .discovered:
            break
        }
    }

    private func note() {
        answered += 1
        if answered == NetBenchSize.skipped { usageBefore = .ofThread() }
    }
}
