internal import Dispatch
import EventLoop
public import LNetCore
public import Primitives
internal import Synchronization
public import WireFormat

/// What a ping came to.
public struct PingAnswer: Sendable {
    public var roundTrip: TickInterval
    /// What the peer says of itself.
    public var info: PingInfo
}

/// Why a ping was not answered: an errno and its words.
public struct PingFailure: Error, Hashable, Sendable, CustomStringConvertible {
    public var nid: NID
    public var errno: Int32
    public var description: String { "\(nid): \(FabricError.text(forErrno: errno))" }
}

/// The LNet of a running node, from any thread: what an operator asks and changes.
public struct NetworkAccess: Sendable {
    let desk: NetworkDesk
    let post: @Sendable (@escaping @Sendable (inout LNetCore, Ticks) -> Void) -> Void

    /// ESHUTDOWN.
    static let shutdownErrno: Int32 = 108

    init(
        desk: NetworkDesk,
        post: @escaping @Sendable (@escaping @Sendable (inout LNetCore, Ticks) -> Void) -> Void
    ) {
        self.desk = desk
        self.post = post
    }

    /// Runs `body` on the node's loop and waits for what it returns. Not for the loop's own thread.
    public func with<R: Sendable>(
        _ body: @escaping @Sendable (inout LNetCore, Ticks) -> R
    ) throws(ControlError) -> R {
        let result = Lock<R?>(nil)
        let done = DispatchSemaphore(value: 0)
        post { lnet, now in
            let value = body(&lnet, now)
            result.withLock { $0 = value }
            done.signal()
        }
        guard done.wait(timeout: .now() + 10) == .success,
            let value = result.withLock({ $0 })
        else { throw ControlError("the node has ended, or its loop hangs", errno: 110) }
        return value
    }

    /// Pings a node through LNet. `completion` is called on the loop's thread.
    public func ping(
        _ nid: NID, timeout: TickInterval = .seconds(5),
        completion: @escaping @Sendable (Result<PingAnswer, PingFailure>) -> Void
    ) {
        let desk = desk
        guard let ticket = desk.enter(nid, completion) else {
            completion(.failure(PingFailure(nid: nid, errno: Self.shutdownErrno)))
            return
        }
        post { lnet, now in
            desk.note(ticket, lnet.ping(nid, timeout: timeout, now: now), lnet.nid)
        }
    }

    /// Asks a node who it is, and waits until it is known. Not for the loop's own thread.
    public func discover(
        _ nid: NID, force: Bool = false, timeout: TickInterval
    ) throws(PingFailure) {
        let result = Lock<Result<PingAnswer, PingFailure>?>(nil)
        let done = DispatchSemaphore(value: 0)
        let desk = desk
        let ticket = desk.enter(nid) { answer in
            result.withLock { $0 = answer }
            done.signal()
        }
        guard let ticket else { throw PingFailure(nid: nid, errno: Self.shutdownErrno) }
        post { lnet, now in
            let id = lnet.discover(nid, force: force, timeout: timeout, now: now)
            desk.note(ticket, id, lnet.nid)
        }
        done.wait()
        guard let answer = result.withLock({ $0 }) else {
            throw PingFailure(nid: nid, errno: Self.shutdownErrno)
        }
        _ = try answer.get()
    }

    /// Pings a node and waits for the answer. Not for the loop's own thread.
    public func ping(
        _ nid: NID, timeout: TickInterval
    ) throws(PingFailure) -> PingAnswer {
        let result = Lock<Result<PingAnswer, PingFailure>?>(nil)
        let done = DispatchSemaphore(value: 0)
        ping(nid, timeout: timeout) { answer in
            result.withLock { $0 = answer }
            done.signal()
        }
        done.wait()
        guard let answer = result.withLock({ $0 }) else {
            throw PingFailure(nid: nid, errno: Self.shutdownErrno)
        }
        return try answer.get()
    }
}

/// Who waits for the ends of pings: filled by any thread, emptied by the loop.
final class NetworkDesk: Sendable {
    typealias Completion = @Sendable (Result<PingAnswer, PingFailure>) -> Void

    private struct Waiter {
        var nid: NID
        var completion: Completion
        /// Whose ping, once the loop has begun it.
        var own: NID?
        var id: UInt64 = 0
    }

    private struct State {
        var waiters: [UInt64: Waiter] = [:]
        var nextTicket: UInt64 = 1
        var isClosed = false
    }

    private let state = Lock(State())
    /// Lets a turn without pings pass without the lock. Written under it.
    private let waiting = Atomic<Int>(0)

    var isWaiting: Bool { waiting.load(ordering: .acquiring) > 0 }

    /// Nil once the loop has ended.
    func enter(_ nid: NID, _ completion: @escaping Completion) -> UInt64? {
        state.withLock { state in
            guard !state.isClosed else { return nil }
            let ticket = state.nextTicket
            state.nextTicket += 1
            state.waiters[ticket] = Waiter(nid: nid, completion: completion)
            waiting.store(state.waiters.count, ordering: .releasing)
            return ticket
        }
    }

    /// The loop has begun a ping.
    func note(_ ticket: UInt64, _ id: UInt64, _ own: NID) {
        state.withLock { state in
            state.waiters[ticket]?.id = id
            state.waiters[ticket]?.own = own
        }
    }

    /// Takes the ends of pings from among a node's events, which are its services' otherwise.
    func take(from lnet: inout LNetCore, _ node: Int, _ now: Ticks) {
        lnet.tick(now)
        // A ping of the node itself comes and goes by ticks alone.
        for _ in 0..<4 where lnet.nextDeadline == .zero { lnet.tick(now) }
        var others = Outbox<LNetEvent>()
        while let event = lnet.events.popFirst() {
            if case .discovered(let found) = event, let waiter = leave(found.id, lnet.nid) {
                // Who it is stands with the node's peers.
                waiter.completion(
                    found.errno == 0
                        ? .success(
                            PingAnswer(
                                roundTrip: .zero, info: PingInfo(interfaces: [])))
                        : .failure(PingFailure(nid: found.nid, errno: found.errno)))
                continue
            }
            guard case .pinged(let ping) = event, let waiter = leave(ping.id, lnet.nid) else {
                others.append(event)
                continue
            }
            if let info = lnet.pingInfo(ping) {
                waiter.completion(.success(PingAnswer(roundTrip: ping.roundTrip, info: info)))
            } else {
                let errno = ping.errno == 0 ? LNetErrno.protocolError : ping.errno
                waiter.completion(.failure(PingFailure(nid: ping.nid, errno: errno)))
            }
        }
        lnet.events = others
    }

    private func leave(_ id: UInt64, _ own: NID) -> Waiter? {
        state.withLock { state in
            let found = state.waiters.first { $0.value.id == id && $0.value.own == own }
            guard let found else { return nil }
            state.waiters[found.key] = nil
            waiting.store(state.waiters.count, ordering: .releasing)
            return found.value
        }
    }

    /// The loop has ended: whoever waits is told so.
    func close() {
        let left = state.withLock { state in
            state.isClosed = true
            defer { state.waiters.removeAll() }
            return Array(state.waiters.values)
        }
        for waiter in left {
            waiter.completion(
                .failure(PingFailure(nid: waiter.nid, errno: NetworkAccess.shutdownErrno)))
        }
    }
}
